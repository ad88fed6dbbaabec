//! Whether the Internet can reach an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The provider's own translator stands in between: RFC 6598's shared addresses, and RFC
    /// 7335's of DS-Lite and 464XLAT.
    CarrierNat,
    /// Some private network: another translator stands in between.
    Private,
    /// Everywhere, as far as the address tells.
    Public,
}

impl Reach {
    /// Returns the name used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CarrierNat => "carrier-nat",
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

/// Tells from where an address can be reached.
#[must_use]
pub fn reach(addr: IpAddr) -> Reach {
    match addr {
        IpAddr::V4(addr) => reach_v4(addr),
        IpAddr::V6(addr) => reach_v6(addr),
    }
}

fn reach_v4(addr: Ipv4Addr) -> Reach {
    let [a, b, c, _] = addr.octets();
    if (a == 100 && b & 0xc0 == 64) || (a, b, c) == (192, 0, 0) {
        return Reach::CarrierNat;
    }
    let local = addr.is_private() || addr.is_loopback() || addr.is_link_local();
    if local || addr.is_unspecified() {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(addr: Ipv6Addr) -> Reach {
    let unique_local = addr
        .octets()
        .first()
        .is_some_and(|first| first & 0xfe == 0xfc);
    let local = addr.is_loopback() || addr.is_unspecified() || addr.is_unicast_link_local();
    if unique_local || local {
        Reach::Private
    } else {
        Reach::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_tell_what_stands_in_front_of_them() {
        for (addr, expected) in [
            ("10.1.2.3", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("172.32.0.1", Reach::Public),
            ("192.168.0.2", Reach::Private),
            ("169.254.1.1", Reach::Private),
            ("100.63.255.255", Reach::Public),
            ("100.64.0.0", Reach::CarrierNat),
            ("100.127.255.255", Reach::CarrierNat),
            ("100.128.0.0", Reach::Public),
            ("192.0.0.4", Reach::CarrierNat),
            ("192.0.1.0", Reach::Public),
            ("203.0.113.9", Reach::Public),
            ("0.0.0.0", Reach::Private),
            ("fd12::1", Reach::Private),
            ("fc00::1", Reach::Private),
            ("fe80::1", Reach::Private),
            ("2001:db8::1", Reach::Public),
        ] {
            assert_eq!(reach(addr.parse().unwrap()), expected, "{addr}");
        }
    }
}
