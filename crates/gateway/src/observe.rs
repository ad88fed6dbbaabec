//! What is true outside the snapshot: live sessions and counters, read through one trait that
//! every room's shell implements.

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::time::Duration;

use mapping::Protocol;

/// A room whose live state can be read.
pub trait Observe: Send + Sync + std::fmt::Debug {
    /// Returns the room's name, such as `translator`.
    fn room(&self) -> &'static str;

    /// Returns the room's counters.
    fn counters(&self) -> ObserveFuture<'_, Vec<Count>>;

    /// Returns a page of the live sessions that fit a filter; rooms without sessions have none.
    fn sessions(
        &self,
        filter: SessionFilter,
        cursor: SessionCursor,
    ) -> ObserveFuture<'_, SessionPage> {
        let _ = (filter, cursor);
        Box::pin(std::future::ready(SessionPage::default()))
    }
}

/// What an [`Observe`] returns.
pub type ObserveFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One counter: `portico_<room>_<name>{reason="<reason>"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// What is counted, unit last, such as `drops_total`.
    pub name: &'static str,
    /// Which of its kinds; empty if there is one.
    pub reason: &'static str,
    /// How many.
    pub value: u64,
}

/// Which sessions are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Only those of this server.
    pub server: Option<Ipv4Addr>,
    /// Only those of this remote.
    pub remote: Option<Ipv6Addr>,
}

/// Where a page begins: the number after the last session of the page before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCursor(pub u64);

/// Some sessions, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// Where the next page begins, `None` after the last one.
    pub next: Option<SessionCursor>,
}

/// A NAT64 session (RFC 6146 §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its transport; `None` for an ICMP query session.
    pub protocol: Option<Protocol>,
    /// The remote's address and port (or identifier).
    pub remote: (Ipv6Addr, u16),
    /// The address and port under which the remote knows the server.
    pub external: (Ipv6Addr, u16),
    /// The address and port under which the server knows the remote.
    pub pool: (Ipv4Addr, u16),
    /// The server's own address and port (or identifier).
    pub server: (Ipv4Addr, u16),
    /// Where it stands.
    pub state: SessionState,
    /// How long it has been alive.
    pub age: Duration,
    /// When it ends if nothing more is heard.
    pub expires_in: Duration,
    /// Packets from the remote to the server.
    pub packets_in: u64,
    /// Packets from the server to the remote.
    pub packets_out: u64,
    /// IPv6 bytes from the remote to the server.
    pub bytes_in: u64,
    /// IPv6 bytes from the server to the remote.
    pub bytes_out: u64,
}

/// The state of a session; TCP's are those of RFC 6146 §3.5.2, others are always established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Both sides have spoken.
    Established,
    /// The remote opened it and the server has not answered.
    V6Init,
    /// The server closed its side.
    V4Fin,
    /// The remote closed its side.
    V6Fin,
    /// Both sides closed.
    V4FinV6Fin,
    /// A reset or a long silence; ends soon.
    Trans,
}

impl SessionState {
    /// Returns the name used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::V6Init => "v6-init",
            Self::V4Fin => "v4-fin",
            Self::V6Fin => "v6-fin",
            Self::V4FinV6Fin => "v4-fin-v6-fin",
            Self::Trans => "trans",
        }
    }
}
