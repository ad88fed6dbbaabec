use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

impl Pool {
    /// Returns how many addresses are held for somebody, or for ports that rest.
    pub(crate) fn in_use(&self) -> usize {
        self.addrs.len()
    }
}

#[test]
fn each_remote_has_an_address_of_its_own_while_they_last() {
    let mut pool = pool(&[([192, 168, 64, 192], 26)]);
    let mut join = |host: u32| pool.join(spread(host), Transport::Tcp, 4000).unwrap();

    let own: BTreeSet<_> = (0..61).map(&mut join).collect();
    assert_eq!(own.len(), 61);
    assert!(
        own.iter()
            .all(|addr| (193..254).contains(&addr.octets()[3]))
    );

    let shared: BTreeSet<_> = (61..122).map(&mut join).collect();
    assert_eq!(shared, own, "who comes late shares with few");
}

#[test]
fn remote_comes_back_to_its_address_when_it_is_free() {
    let mut pool = pool(&[([192, 168, 64, 192], 26)]);
    let first = pool.join(spread(1), Transport::Udp, 1).unwrap();
    pool.leave(first);

    assert_eq!(pool.join(spread(1), Transport::Udp, 2), Some(first));
}

#[test]
fn router_is_shared_where_the_others_have_no_port_left() {
    let mut pool = pool(&[([192, 0, 2, 8], 31)]);
    let first = [192, 0, 2, 8].into();
    assert_eq!(pool.join(spread(1), Transport::Tcp, 4000), Some(first));
    assert_eq!(pool.join(spread(2), Transport::Tcp, 4000), Some(first));
    for port in 1..=u16::MAX {
        assert!(pool.claim(Transport::Tcp, first, port));
    }

    let router = pool.router();
    assert_eq!(pool.join(spread(3), Transport::Tcp, 4000), Some(router));
    assert_eq!(pool.take(Transport::Tcp, router, 4000, 0), Some(4000));
    assert_eq!(pool.join(spread(4), Transport::Udp, 4000), Some(first));
}

#[test]
fn router_is_nobodys_unless_it_is_the_only_address() {
    let router = |ranges: &[([u8; 4], u8)]| {
        let mut pool = pool(ranges);
        let router = pool.router();
        let given: BTreeSet<_> = (0..200)
            .filter_map(|host| pool.join(spread(host), Transport::Tcp, 80))
            .collect();
        (router.octets()[3], given.contains(&router), given.len())
    };
    assert_eq!(router(&[([192, 0, 2, 8], 32)]), (8, true, 1));
    assert_eq!(router(&[([192, 0, 2, 8], 31)]), (9, false, 1));
    assert_eq!(router(&[([192, 0, 2, 8], 30)]), (10, false, 1));
    assert_eq!(
        router(&[([192, 0, 2, 8], 29), ([192, 0, 2, 77], 32)]),
        (77, false, 6)
    );
}

#[test]
fn address_in_two_ranges_is_one_address() {
    let nested = [
        ([10, 0, 0, 4], 30),
        ([10, 0, 0, 0], 24),
        ([10, 0, 0, 0], 24),
    ];
    assert_eq!(pool(&nested).len, 254);
}

#[test]
fn pool_of_a_whole_network_takes_little() {
    let mut pool = pool(&[([10, 0, 0, 0], 8)]);
    let given: BTreeSet<_> = (0..1000)
        .map(|host| pool.join(spread(host), Transport::Tcp, 80).unwrap())
        .collect();
    assert_eq!((given.len(), pool.addrs.len()), (1000, 1000));
}

#[test]
fn claimed_port_is_taken_once_and_only_in_the_pool() {
    let mut pool = pool(&[([192, 0, 2, 8], 30)]);
    let addr = [192, 0, 2, 9].into();
    assert!(pool.claim(Transport::Tcp, addr, 80));
    assert!(!pool.claim(Transport::Tcp, addr, 80));
    assert!(pool.claim(Transport::Udp, addr, 80));
    assert!(!pool.claim(Transport::Tcp, [192, 0, 2, 8].into(), 81));
    assert!(!pool.claim(Transport::Tcp, [10, 0, 0, 1].into(), 81));
    assert_eq!(pool.addrs.get(&addr).map(|pool| pool.holders), Some(2));
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Join(u32, u16),
    Leave(prop::sample::Index),
    Release(prop::sample::Index),
    Take(prop::sample::Index, u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..30_u32, 1..9_u16).prop_map(|(host, port)| Op::Join(host, port)),
        any::<prop::sample::Index>().prop_map(Op::Leave),
        any::<prop::sample::Index>().prop_map(Op::Release),
        (any::<prop::sample::Index>(), 1..9_u16).prop_map(|(at, port)| Op::Take(at, port)),
    ]
}

proptest! {
    #[test]
    fn pool_agrees_with_a_model(ops in prop::collection::vec(op(), 0..200)) {
        let mut pool = pool(&[([192, 0, 2, 0], 29), ([192, 0, 2, 32], 30)]);
        let mut holders: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
        let mut bound = BTreeSet::new();
        for op in ops {
            match op {
                Op::Join(host, port) => {
                    let addr = pool.join(spread(host), Transport::Tcp, port).unwrap();
                    let others = holders.get(&addr).copied().unwrap_or(0);
                    prop_assert!(others == 0 || holders.len() == 7, "shared too early");
                    holders.insert(addr, others + 1);
                }
                Op::Leave(at) => {
                    let Some((addr, left)) = nth(&holders, at) else { continue };
                    pool.leave(addr);
                    if left == 1 {
                        holders.remove(&addr);
                        bound.retain(|(held, _)| *held != addr);
                    } else {
                        holders.insert(addr, left - 1);
                    }
                }
                Op::Release(at) => {
                    let all: BTreeMap<_, ()> = bound.iter().map(|bound| (*bound, ())).collect();
                    let Some(((addr, port), ())) = nth(&all, at) else { continue };
                    pool.release(Transport::Tcp, addr, port);
                    bound.remove(&(addr, port));
                }
                Op::Take(at, wanted) => {
                    let Some((addr, _)) = nth(&holders, at) else { continue };
                    let port = pool.take(Transport::Tcp, addr, wanted, wanted).unwrap();
                    prop_assert_eq!(port == wanted, !bound.contains(&(addr, wanted)));
                    prop_assert!(bound.insert((addr, port)), "two have {}:{}", addr, port);
                }
            }
            let free = u32::try_from(7 - holders.len()).unwrap();
            prop_assert_eq!((pool.free, pool.addrs.len()), (free, holders.len()));
        }
    }
}

fn nth<K: Copy + Ord, V: Copy>(map: &BTreeMap<K, V>, at: prop::sample::Index) -> Option<(K, V)> {
    let at = (!map.is_empty()).then(|| at.index(map.len()))?;
    map.iter().nth(at).map(|(key, value)| (*key, *value))
}

fn pool(ranges: &[([u8; 4], u8)]) -> Pool {
    let range = |(network, len): &([u8; 4], u8)| PoolRange::new((*network).into(), *len).unwrap();
    Pool::new(&ranges.iter().map(range).collect::<Vec<_>>())
}

fn spread(host: u32) -> u32 {
    host.wrapping_mul(0x9e37_79b1)
}
