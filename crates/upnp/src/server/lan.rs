//! Who is on the LAN, and at which of our addresses they meet us.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use mapping::Site;

use super::ssdp::{GROUP, LINK_GROUP, SITE_GROUP};

/// Our addresses on the LAN, and where we listen for HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lan {
    site: Site,
    port: u16,
    port_v6: Option<u16>,
    v6: Vec<OnLink>,
}

/// One of our IPv6 addresses with its on-link prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OnLink {
    /// The address.
    pub addr: Ipv6Addr,
    /// The length of the prefix.
    pub prefix_len: u8,
}

/// A group on which we are announced, with the endpoint that its listeners are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Face {
    pub(super) group: IpAddr,
    pub(super) endpoint: SocketAddr,
}

impl Lan {
    /// Makes a LAN without IPv6; `port` is where descriptions and actions are.
    #[must_use]
    pub const fn new(site: Site, port: u16) -> Self {
        Self {
            site,
            port,
            port_v6: None,
            v6: Vec::new(),
        }
    }

    /// The same LAN, served on IPv6 too: at `port`, on these addresses of ours.
    #[must_use]
    pub fn with_v6(mut self, port: u16, mut addresses: Vec<OnLink>) -> Self {
        addresses.retain(|on_link| !on_link.addr.is_multicast());
        addresses.sort_unstable();
        addresses.dedup();
        self.port_v6 = Some(port);
        self.v6 = addresses;
        self
    }

    /// Tells whether a source may speak to us at all: a host of the LAN, not the LAN itself
    /// (U-1).
    #[must_use]
    pub fn is_neighbour(&self, source: IpAddr) -> bool {
        match source {
            IpAddr::V4(source) => {
                let site = &self.site;
                let ours = [site.network(), site.broadcast(), site.gateway()];
                site.contains(source) && !ours.contains(&source)
            }
            IpAddr::V6(source) => {
                !source.is_multicast()
                    && !self.v6.iter().any(|on_link| on_link.addr == source)
                    && self.address_for(source).is_some()
            }
        }
    }

    /// Tells whether an address is one of ours.
    #[must_use]
    pub fn is_own(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => addr == self.site.gateway(),
            IpAddr::V6(addr) => self.v6.iter().any(|on_link| on_link.addr == addr),
        }
    }

    /// Returns the endpoint that a neighbour can use: of its family and, for IPv6, of its
    /// scope and prefix.
    #[must_use]
    pub fn endpoint_for(&self, source: IpAddr) -> Option<SocketAddr> {
        match source {
            IpAddr::V4(_) => Some(SocketAddrV4::new(self.site.gateway(), self.port).into()),
            IpAddr::V6(source) => self.endpoint_v6(self.address_for(source)?),
        }
    }

    /// UDA 1.1 annex A: a link-local group hears of a link-local address, the site's group of
    /// one that is good in the whole site. A ULA outlives the provider's prefix, so it is told
    /// first.
    pub(super) fn faces(&self) -> Vec<Face> {
        let v4 = SocketAddrV4::new(self.site.gateway(), self.port).into();
        let mut faces = vec![Face {
            group: IpAddr::V4(GROUP),
            endpoint: v4,
        }];
        let first = |wanted: fn(Ipv6Addr) -> bool| {
            let mut addresses = self.v6.iter().map(|on_link| on_link.addr);
            addresses.find(|addr| wanted(*addr))
        };
        let link = first(|addr| addr.is_unicast_link_local());
        let site = first(|addr| addr.is_unique_local())
            .or_else(|| first(|addr| !addr.is_unicast_link_local()));
        for (group, addr) in [(LINK_GROUP, link), (SITE_GROUP, site)] {
            if let Some(endpoint) = addr.and_then(|addr| self.endpoint_v6(addr)) {
                faces.push(Face {
                    group: IpAddr::V6(group),
                    endpoint,
                });
            }
        }
        faces
    }

    fn endpoint_v6(&self, addr: Ipv6Addr) -> Option<SocketAddr> {
        // without a zone: each host has its own name for the link
        let port = self.port_v6?;
        Some(SocketAddrV6::new(addr, port, 0, 0).into())
    }

    fn address_for(&self, source: Ipv6Addr) -> Option<Ipv6Addr> {
        let own = |on_link: &&OnLink| {
            let bits = u32::from(on_link.prefix_len.min(128));
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            let differs = (u128::from(on_link.addr) ^ u128::from(source)) & mask;
            let both_local = on_link.addr.is_unicast_link_local() && source.is_unicast_link_local();
            both_local || (bits > 0 && differs == 0)
        };
        self.v6.iter().find(own).map(|on_link| on_link.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u_1_neighbours_are_hosts_of_the_subnet_and_of_the_link() {
        let lan = lan();
        for neighbour in ["192.168.64.20", "fe80::20", "fd00:64::20", "2001:db8:1::20"] {
            assert!(lan.is_neighbour(neighbour.parse().unwrap()), "{neighbour}");
        }
        for other in [
            "192.168.64.0",
            "192.168.64.1",
            "192.168.64.255",
            "192.168.65.20",
            "203.0.113.9",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "fd00:64::1",
            "fd00:65::20",
            "2001:db8:2::20",
            "::ffff:192.168.64.20",
        ] {
            assert!(!lan.is_neighbour(other.parse().unwrap()), "{other}");
        }
        let v4_only = Lan::new(site(), 5000);
        assert!(!v4_only.is_neighbour("fe80::20".parse().unwrap()));
    }

    #[test]
    fn endpoint_is_of_the_neighbours_scope_and_prefix() {
        let lan = lan();
        let endpoint = |source: &str| {
            let endpoint = lan.endpoint_for(source.parse().unwrap());
            endpoint.map(|endpoint| endpoint.to_string())
        };

        assert_eq!(endpoint("192.168.64.20").unwrap(), "192.168.64.1:5000");
        assert_eq!(endpoint("fe80::20").unwrap(), "[fe80::1]:5006");
        assert_eq!(endpoint("fd00:64::20").unwrap(), "[fd00:64::1]:5006");
        assert_eq!(endpoint("2001:db8:1::20").unwrap(), "[2001:db8:1::1]:5006");
        assert_eq!(endpoint("2001:db8:2::20"), None);
    }

    #[test]
    fn each_group_hears_of_an_address_of_its_scope() {
        let faces: Vec<_> = lan()
            .faces()
            .into_iter()
            .map(|face| format!("{} {}", face.group, face.endpoint))
            .collect();

        assert_eq!(
            faces,
            [
                "239.255.255.250 192.168.64.1:5000",
                "ff02::c [fe80::1]:5006",
                "ff05::c [fd00:64::1]:5006",
            ]
        );
        assert_eq!(Lan::new(site(), 5000).faces().len(), 1);
    }

    fn lan() -> Lan {
        let addresses = ["2001:db8:1::1", "fe80::1", "fd00:64::1"];
        let addresses = addresses.map(|addr| OnLink {
            addr: addr.parse().unwrap(),
            prefix_len: 64,
        });
        Lan::new(site(), 5000).with_v6(5006, addresses.to_vec())
    }

    fn site() -> Site {
        Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap()
    }
}
