//! The state of the gateways in front of us, as people are shown it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mapping::Protocol;

/// The gateways in front of us, and a page of the ports that are open there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamPage {
    /// Which protocols are spoken with them, as the configuration says.
    pub mode: &'static str,
    /// One of each family at the most.
    pub gateways: Vec<UpstreamGateway>,
    /// The ports, in order.
    pub ports: Vec<UpstreamPort>,
    /// Where the next page begins, `None` after the last one.
    pub next: Option<UpstreamCursor>,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpstreamCursor(pub u64);

/// A gateway in front of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamGateway {
    /// `nat-pmp`, `pcp` or `upnp`; `None` while it has not answered.
    pub kind: Option<&'static str>,
    /// Where it is.
    pub address: IpAddr,
    /// Who we are there.
    pub own: IpAddr,
    /// By which address the Internet knows us, as far as it told.
    pub external: Option<IpAddr>,
    /// What the outermost address that is known says: `public`, `private` or `carrier-nat`.
    pub reach: &'static str,
    /// Whether the provider's own translator stands between this home and the Internet.
    pub carrier_nat: bool,
    /// How many ports are open there.
    pub open: usize,
    /// How many it refuses.
    pub refused: usize,
    /// How many it has not answered for.
    pub waiting: usize,
}

/// A port at a gateway in front of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamPort {
    /// Whose port it is.
    pub server: Ipv4Addr,
    /// Where it leads to: the server's address in our prefix, or our own IPv4 address.
    pub address: IpAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port there.
    pub port: u16,
    /// `asking`, `closing`, `open`, `refused` or `waiting`.
    pub state: &'static str,
    /// Why it is refused.
    pub why: Option<&'static str>,
    /// The external address, if the gateway told it.
    pub external_address: Option<IpAddr>,
    /// The external port, while it is open.
    pub external_port: Option<u16>,
    /// When an open port closes unless it is renewed, or when a refused one is asked for again.
    pub ends_in: Option<Duration>,
}
