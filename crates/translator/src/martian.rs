//! Addresses that no packet which a router forwards may have (RFC 1812 §5.3.7, RFC 6890).
//!
//! Private and documentation addresses are not among them: homes and tests are made of those.

use std::net::{Ipv4Addr, Ipv6Addr};

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
            assert!(!is_host_v4(addr.parse().unwrap()), "{addr}");
        }
        for addr in [
            "1.1.1.1",
            "10.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "223.255.255.254",
        ] {
            assert!(is_host_v4(addr.parse().unwrap()), "{addr}");
        }
        for addr in [
            "::",
            "::1",
            "::1.2.3.4",
            "::ffff:1.2.3.4",
            "ff02::1",
            "fe80::1",
        ] {
            assert!(!is_host_v6(addr.parse().unwrap()), "{addr}");
        }
        for addr in ["2001:db8::1", "fd00::1", "64:ff9b::1.2.3.4"] {
            assert!(is_host_v6(addr.parse().unwrap()), "{addr}");
        }
    }
}
