//! Addresses as PCP carries them: 128 bits for either family (RFC 6887 §5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns an address as PCP carries it: an IPv4 one as `::ffff:a.b.c.d`.
pub fn wide(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

/// Returns the address that PCP carried; `None` for the unspecified one of either family.
pub fn narrow(addr: Ipv6Addr) -> Option<IpAddr> {
    let addr = addr.to_canonical();
    (!addr.is_unspecified()).then_some(addr)
}

/// The unspecified address of a family, as PCP carries it: it suggests nothing (RFC 6887 §11.1),
/// and stands for every remote (§13.3).
pub fn unspecified(family: IpAddr) -> Ipv6Addr {
    match family {
        IpAddr::V4(_) => wide(Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_1_ipv4_addresses_are_mapped_and_no_address_is_none() {
        let addr: IpAddr = "192.0.2.7".parse().unwrap();

        assert_eq!(wide(addr).to_string(), "::ffff:192.0.2.7");
        assert_eq!(narrow(wide(addr)), Some(addr));
        assert_eq!(narrow("::".parse().unwrap()), None);
        assert_eq!(narrow("::ffff:0.0.0.0".parse().unwrap()), None);
    }
}
