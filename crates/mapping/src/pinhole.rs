//! Open ports of hosts that have IPv6 addresses of their own.

use std::net::Ipv6Addr;

use crate::{
    Expiry, Filters, InternalPort, Mac, MappingNonce, Protocol, RemoteFilter, Requester, Revision,
    Wall,
};

/// Names a [`Pinhole`]; what IGD calls its `UniqueID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinholeId(pub u16);

/// Remotes reach `addr`:`port` without any translation (RFC 6092 §3.4,
/// WANIPv6FirewallControl:1 `AddPinhole`, RFC 6887 MAP of an IPv6 client).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinhole {
    /// Its number; unique among the pinholes that are open.
    pub id: PinholeId,
    /// Whose port it is.
    pub host: Mac,
    /// The address of the host.
    pub addr: Ipv6Addr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where the host listens.
    pub port: InternalPort,
    /// The single remote of UPnP, which is a part of its identity.
    pub remote: Option<RemoteFilter>,
    /// Whom it admits.
    pub filters: Filters,
    /// Who opened it.
    pub requester: Requester,
    /// What a PCP client must show to change it.
    pub nonce: Option<MappingNonce>,
    /// What the client says it is for; untrusted text of at most 1016 bytes.
    pub description: String,
    /// When it closes by itself.
    pub expires: Expiry,
    /// When it was opened.
    pub opened_at: Wall,
    /// The revision since which packets pass this way; not stored.
    pub changed_in: Revision,
}

impl Pinhole {
    /// Returns what tells it from others.
    #[must_use]
    pub const fn tuple(&self) -> PinholeTuple {
        PinholeTuple {
            addr: self.addr,
            protocol: self.protocol,
            port: self.port,
            remote: self.remote,
        }
    }
}

/// What tells a pinhole from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinholeTuple {
    /// The address of the host.
    pub addr: Ipv6Addr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where the host listens.
    pub port: InternalPort,
    /// The single remote of UPnP; `None` for a mapping of PCP and for every remote.
    pub remote: Option<RemoteFilter>,
}
