//! Who sends a datagram to UDP 5351, and whether it is answered.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use mapping::{Client, Mac, Site, Snapshot};

/// Who sent a datagram, and which of our addresses it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// Where it came from, and where the answer goes.
    pub source: SocketAddr,
    /// Our address that was asked, and that the answer leaves from.
    pub local: IpAddr,
    /// The source MAC of its frame, where the shell can tell.
    pub mac: Option<Mac>,
    /// Whether an IPv6 source lies in a subnet of the LAN, as the shell knows them.
    pub on_link: bool,
}

/// That a host can be reached at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub addr: Ipv6Addr,
    /// The host.
    pub mac: Mac,
}

/// Whose share of the machine's time a datagram takes: who forges a neighbour's address takes
/// nothing from it where the shell knows MACs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Payer {
    Addr(IpAddr),
    Mac(Mac),
}

impl Caller {
    /// Returns the client that asks for itself.
    #[must_use]
    pub const fn client(&self) -> Client {
        Client {
            addr: self.source.ip(),
            mac: self.mac,
        }
    }

    /// Returns what must be true before a datagram counts as a known host's. Of an IPv4 address
    /// the lease tells whose it is; of an IPv6 address the link does.
    #[must_use]
    pub fn claim(&self, snapshot: &Snapshot) -> Option<Claim> {
        let (IpAddr::V6(addr), Some(mac)) = (self.source.ip(), self.mac) else {
            return None;
        };
        snapshot.host(mac).map(|_| Claim { addr, mac })
    }

    pub(crate) fn payer(&self) -> Payer {
        self.mac.map_or(Payer::Addr(self.source.ip()), Payer::Mac)
    }
}

/// Tells whether an answer would reach one host of the LAN: a datagram from elsewhere, or from an
/// address that means many, is never answered (RFC 6886 §3.3, RFC 6887 §8.2).
pub(crate) fn may_answer(site: &Site, caller: &Caller) -> bool {
    let is_host = match caller.source.ip() {
        IpAddr::V4(addr) => {
            site.contains(addr) && addr != site.network() && addr != site.broadcast()
        }
        IpAddr::V6(addr) => addr.is_unicast_link_local() || caller.on_link,
    };
    caller.source.port() != 0 && is_host
}
