//! Addresses that no packet which a router forwards may have (RFC 1812 §5.3.7, RFC 6890).
//!
//! Private and documentation addresses are not among them: homes and tests are made of those.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Returns what kind of addresses an IPv4 network has, if no host behind another link can have one.
#[must_use]
pub fn reserved_v4(network: Ipv4Addr, len: u8) -> Option<&'static str> {
    let holds = |(reserved, its_len, _): &&(Ipv4Addr, u8, _)| {
        *its_len <= len && (network.to_bits() ^ reserved.to_bits()) >> (32 - its_len) == 0
    };
    RESERVED_V4.iter().find(holds).map(|(_, _, what)| *what)
}

/// As [`reserved_v4`].
pub(crate) fn reserved_v6(network: Ipv6Addr, len: u8) -> Option<&'static str> {
    let holds = |(reserved, its_len, _): &&(Ipv6Addr, u8, _)| {
        *its_len <= len && (network.to_bits() ^ reserved.to_bits()) >> (128 - its_len) == 0
    };
    RESERVED_V6.iter().find(holds).map(|(_, _, what)| *what)
}

/// Tells whether an address may stand for a host behind another link.
pub(crate) const fn is_host_v4(addr: Ipv4Addr) -> bool {
    // "this network", loopback; multicast, reserved and limited broadcast are 224 and above;
    // RFC 3927 §2.7: link-local packets are not forwarded
    !(matches!(addr.octets(), [0 | 127 | 224..=255, ..]) || addr.is_link_local())
}

/// Tells whether an address may stand for a host behind another link.
pub(crate) fn is_host_v6(addr: Ipv6Addr) -> bool {
    // `to_ipv4`: unspecified, loopback, IPv4-compatible and IPv4-mapped (RFC 4291 §2.5)
    !(addr.to_ipv4().is_some() || addr.is_multicast() || addr.is_unicast_link_local())
}

/// RFC 6890 §2.2.2.
pub(crate) const RESERVED_V4: [(Ipv4Addr, u8, &str); 5] = [
    (Ipv4Addr::UNSPECIFIED, 8, "unspecified"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// RFC 4291 §2.4.
const RESERVED_V6: [(Ipv6Addr, u8, &str); 6] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::UNSPECIFIED, 96, "IPv4-compatible"),
    (
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
        96,
        "IPv4-mapped",
    ),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn martians_are_no_hosts_and_homes_are() {
        for addr in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            let addr = addr.parse().unwrap();
            assert!(!is_host_v4(addr), "{addr}");
            assert!(reserved_v4(addr, 32).is_some(), "{addr}");
        }
        for addr in [
            "1.1.1.1",
            "10.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "223.255.255.254",
        ] {
            let addr = addr.parse().unwrap();
            assert!(is_host_v4(addr), "{addr}");
            assert_eq!(reserved_v4(addr, 32), None, "{addr}");
        }
        for addr in [
            "::",
            "::1",
            "::1.2.3.4",
            "::ffff:1.2.3.4",
            "ff02::1",
            "fe80::1",
        ] {
            let addr = addr.parse().unwrap();
            assert!(!is_host_v6(addr), "{addr}");
            assert!(reserved_v6(addr, 128).is_some(), "{addr}");
        }
        for addr in ["2001:db8::1", "fd00::1", "64:ff9b::1.2.3.4"] {
            let addr = addr.parse().unwrap();
            assert!(is_host_v6(addr), "{addr}");
            assert_eq!(reserved_v6(addr, 128), None, "{addr}");
        }
    }

    #[test]
    fn network_is_reserved_that_lies_in_one_and_not_that_holds_one() {
        let v4 = |addr: &str, len| reserved_v4(addr.parse().unwrap(), len);
        assert_eq!(v4("127.0.0.0", 8), Some("loopback"));
        assert_eq!(v4("255.255.255.255", 32), Some("reserved"));
        assert_eq!(v4("0.0.0.0", 0), None);
        assert_eq!(v4("126.0.0.0", 7), None);
        let v6 = |addr: &str, len| reserved_v6(addr.parse().unwrap(), len);
        assert_eq!(v6("::1", 128), Some("loopback"));
        assert_eq!(v6("::", 120), Some("IPv4-compatible"));
        assert_eq!(v6("ff02::", 64), Some("multicast"));
        assert_eq!(v6("::", 0), None);
    }
}
