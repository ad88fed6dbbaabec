//! Who has which address: documentation prefixes (RFC 3849, RFC 5737) and one private network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The parent zone.
pub const PARENT_ZONE: &str = "example";

/// The zone of the home.
pub const ZONE: &str = "home.example";

/// The primary server of the parent zone.
pub const PARENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x53, 0, 0, 0, 0, 1);

/// The provider's resolver.
pub const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x53, 0, 0, 0, 0, 2);

/// The remote host.
pub const REMOTE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 2);

/// The provider on the remote host's link.
pub const REMOTE_ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);

/// The gateway on the LAN.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);

/// The LAN.
pub const SUBNET: &str = "192.168.64.0/24";

/// The interfaces of the gateway, and the only one of everybody else.
pub const LAN: &str = "lan0";
/// Towards the provider.
pub const WAN: &str = "wan0";
/// Of a host.
pub const ETH: &str = "eth0";

/// Where the provider's resolver answers.
#[must_use]
pub const fn resolver() -> SocketAddr {
    SocketAddr::new(IpAddr::V6(RESOLVER), 53)
}

/// What the provider gives a customer: a link and a prefix. Each renumbering gives the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delegation(pub u16);

impl Delegation {
    /// The delegated prefix: `2001:db8:64::/56` at first.
    #[must_use]
    pub fn prefix(self) -> String {
        format!("{}/56", Ipv6Addr::from(self.base()))
    }

    /// The gateway's address on the link: `2001:db8:0:12::7f` at first.
    #[must_use]
    pub fn wan(self) -> Ipv6Addr {
        self.on_link(0x7f)
    }

    /// The provider's address on the link.
    #[must_use]
    pub fn router(self) -> Ipv6Addr {
        self.on_link(1)
    }

    /// The NSP, which is subnet 1 of the delegation.
    #[must_use]
    pub fn nsp(self) -> String {
        format!("{}/96", self.embed(Ipv4Addr::UNSPECIFIED))
    }

    /// Where a server appears on the Internet.
    #[must_use]
    pub fn embed(self, server: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from(self.base() | 1 << 64 | u128::from(u32::from(server)))
    }

    /// What comes next.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1) % 0x40)
    }

    fn base(self) -> u128 {
        u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0x64 + self.0, 0, 0, 0, 0, 0))
    }

    fn on_link(self, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0x12 + self.0, 0, 0, 0, host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_two_delegations_are_those_of_the_handbook() {
        let (first, second) = (Delegation(0), Delegation(0).next());

        assert_eq!(first.prefix(), "2001:db8:64::/56");
        assert_eq!(first.wan().to_string(), "2001:db8:0:12::7f");
        assert_eq!(first.nsp(), "2001:db8:64:1::/96");
        let camera = first.embed(Ipv4Addr::new(192, 168, 64, 10));
        assert_eq!(camera.to_string(), "2001:db8:64:1::c0a8:400a");
        assert_eq!(second.prefix(), "2001:db8:65::/56");
        assert_eq!(second.router().to_string(), "2001:db8:0:13::1");
    }
}
