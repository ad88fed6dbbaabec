//! Sessions as people and logs see them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::counters::Traffic;
use crate::tcp_state::TcpState;
use crate::transport::Transport;

/// A session, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its kind.
    pub transport: Transport,
    /// The remote and its port or identifier.
    pub remote: (Ipv6Addr, u16),
    /// The address and port that the remote uses.
    pub external: (Ipv6Addr, u16),
    /// How the remote appears to the server.
    pub pool: (Ipv4Addr, u16),
    /// Where the server answers.
    pub server: (Ipv4Addr, u16),
    /// Present for TCP.
    pub tcp: Option<TcpState>,
    /// Whether the remote has answered to the server, so that it is where it says.
    pub proven: bool,
    /// How long it has been there.
    pub age: Duration,
    /// How long until it ends if nothing comes.
    pub expires_in: Duration,
    /// From the remote.
    pub six_to_four: Traffic,
    /// From the server.
    pub four_to_six: Traffic,
}
