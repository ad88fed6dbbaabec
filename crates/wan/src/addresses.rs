//! Which of the WAN interface's addresses are the gateway's own in public.

use std::net::{IpAddr, Ipv6Addr};

use mapping::{Generation, Nsp, is_global_unicast};
use net::netlink::Address;

/// Chooses the global addresses by which the gateway is reached, best first.
///
/// A tentative address is not ours yet. Deprecated and temporary ones count only while there is
/// no better: they are about to go, and what we publish outlives them. What lies in an NSP is a
/// server's.
///
/// ```
/// assert!(wan::addresses::choose(&[], &[]).is_empty());
/// ```
#[must_use]
pub fn choose(addresses: &[Address], generations: &[Generation]) -> Vec<Ipv6Addr> {
    let nsps: Vec<Nsp> = generations
        .iter()
        .map(|generation| generation.nsp)
        .collect();
    let mut usable: Vec<(Rank, Ipv6Addr)> = addresses
        .iter()
        .filter(|address| !address.tentative)
        .filter_map(|address| match address.addr {
            IpAddr::V6(addr) => Some((Rank::of(address), addr)),
            IpAddr::V4(_) => None,
        })
        .filter(|(_, addr)| is_global_unicast(*addr))
        .filter(|(_, addr)| nsps.iter().all(|nsp| nsp.extract(*addr).is_none()))
        .collect();
    usable.sort_unstable();
    usable.dedup();
    let best = usable.first().map(|(rank, _)| *rank);
    usable.retain(|(rank, _)| Some(*rank) == best);
    usable.into_iter().map(|(_, addr)| addr).collect()
}

/// How good an address is to be known by; the best comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Lasting,
    Temporary,
    Deprecated,
}

impl Rank {
    const fn of(address: &Address) -> Self {
        if address.deprecated {
            Self::Deprecated
        } else if address.temporary {
            Self::Temporary
        } else {
            Self::Lasting
        }
    }
}

#[cfg(test)]
mod tests {
    use mapping::{GenerationId, Prefix6};
    use net::netlink::Lifetimes;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_global_unicast_addresses_count() {
        let all = [
            "fe80::1",
            "fd00::1",
            "2001:db8:ff::1",
            "::1",
            "ff02::1",
            "192.0.2.1",
        ];
        let addresses = all.map(lasting);

        assert_eq!(choose(&addresses, &[]), texts(&["2001:db8:ff::1"]));
    }

    #[test]
    fn a_tentative_address_is_not_ours() {
        let tentative = Address {
            tentative: true,
            ..lasting("2001:db8::1")
        };

        assert!(choose(&[tentative], &[]).is_empty());
    }

    #[test]
    fn deprecated_and_temporary_addresses_serve_while_there_is_no_better() {
        let old = Address {
            deprecated: true,
            ..lasting("2001:db8:1::1")
        };
        let random = Address {
            temporary: true,
            ..lasting("2001:db8:2::abcd")
        };
        let new = lasting("2001:db8:3::1");

        assert_eq!(choose(&[old], &[]), texts(&["2001:db8:1::1"]));
        assert_eq!(choose(&[old, random], &[]), texts(&["2001:db8:2::abcd"]));
        assert_eq!(choose(&[old, random, new], &[]), texts(&["2001:db8:3::1"]));
    }

    #[test]
    fn equal_addresses_come_in_a_fixed_order() {
        let (a, b) = (lasting("2001:db8::a"), lasting("2001:db8::b"));

        assert_eq!(
            choose(&[b, a, b], &[]),
            texts(&["2001:db8::a", "2001:db8::b"])
        );
    }

    #[test]
    fn what_lies_in_an_nsp_is_a_servers() {
        let delegated: Prefix6 = "2001:db8:64::/56".parse().unwrap();
        let generation = Generation {
            id: GenerationId(1),
            delegated,
            nsp: delegated.nsp().unwrap(),
            preferred: true,
            valid_until: None,
        };
        let server = lasting("2001:db8:64:1::c0a8:4014");
        let own = lasting("2001:db8:64::1");

        assert_eq!(
            choose(&[server, own], &[generation]),
            texts(&["2001:db8:64::1"])
        );
    }

    proptest! {
        #[test]
        fn order_and_repetition_of_the_input_do_not_matter(
            addrs in prop::collection::vec((any::<u128>(), any::<[bool; 3]>()), 0..12)
        ) {
            let mut addresses: Vec<Address> = addrs
                .iter()
                .map(|(bits, [tentative, deprecated, temporary])| Address {
                    tentative: *tentative,
                    deprecated: *deprecated,
                    temporary: *temporary,
                    ..address(Ipv6Addr::from(*bits >> 3 | 1 << 125).into())
                })
                .collect();
            let chosen = choose(&addresses, &[]);
            addresses.reverse();
            addresses.extend(addresses.clone());
            prop_assert_eq!(choose(&addresses, &[]), chosen);
        }
    }

    fn lasting(text: &str) -> Address {
        address(text.parse().unwrap())
    }

    fn address(addr: IpAddr) -> Address {
        Address {
            ifindex: 2,
            addr,
            prefix_len: 64,
            lifetimes: Lifetimes::default(),
            tentative: false,
            deprecated: false,
            temporary: false,
        }
    }

    fn texts(texts: &[&str]) -> Vec<Ipv6Addr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }
}
