//! The gateways in front of us.

use std::net::{IpAddr, Ipv4Addr};

use gateway::{UpstreamGateway, UpstreamPort};
use serde::{Deserialize, Serialize};

/// `GET /api/v1/upstream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamView {
    /// `off`, `auto`, `pcp`, `nat-pmp` or `upnp`, as the configuration says.
    pub mode: String,
    /// One of each family at the most; one that has not answered has no kind.
    pub gateways: Vec<UpstreamGatewayView>,
}

/// A gateway in front of us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamGatewayView {
    /// `pcp`, `nat-pmp` or `upnp`; absent while it has not answered.
    pub kind: Option<String>,
    /// Where it is.
    pub address: IpAddr,
    /// Who we are there.
    pub own_address: IpAddr,
    /// By which address the Internet knows us, as far as it told.
    pub external_address: Option<IpAddr>,
    /// What the outermost address that is known says: `public`, `private` or `carrier-nat`.
    pub reach: String,
    /// Whether the provider's own translator stands between this home and the Internet.
    pub carrier_nat: bool,
    /// How many ports are open there.
    pub open: usize,
    /// How many it refuses.
    pub refused: usize,
    /// How many it has not answered for.
    pub waiting: usize,
}

/// An element of `GET /api/v1/upstream/ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamPortView {
    /// The private address of the server whose port it is.
    pub server: Ipv4Addr,
    /// Where it leads to: the server's address in our prefix, or our own IPv4 address.
    pub address: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The port there.
    pub port: u16,
    /// `asking`, `closing`, `open`, `refused` or `waiting`.
    pub state: String,
    /// Why it is refused.
    pub why: Option<String>,
    /// The external address, if the gateway told it.
    pub external_address: Option<IpAddr>,
    /// The external port, while it is open.
    pub external_port: Option<u16>,
    /// When an open port closes unless it is renewed, or a refused one is asked for again.
    pub ends_in_s: Option<u64>,
}

impl UpstreamGatewayView {
    /// Shows a gateway.
    #[must_use]
    pub fn new(gateway: &UpstreamGateway) -> Self {
        Self {
            kind: gateway.kind.map(str::to_owned),
            address: gateway.address,
            own_address: gateway.own,
            external_address: gateway.external,
            reach: gateway.reach.to_owned(),
            carrier_nat: gateway.carrier_nat,
            open: gateway.open,
            refused: gateway.refused,
            waiting: gateway.waiting,
        }
    }
}

impl UpstreamPortView {
    /// Shows a port.
    #[must_use]
    pub fn new(port: &UpstreamPort) -> Self {
        Self {
            server: port.server,
            address: port.address,
            protocol: port.protocol.as_str().to_owned(),
            port: port.port,
            state: port.state.to_owned(),
            why: port.why.map(str::to_owned),
            external_address: port.external_address,
            external_port: port.external_port,
            ends_in_s: port.ends_in.map(|left| left.as_secs()),
        }
    }
}
