use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[test]
fn binding_is_small() {
    assert_eq!(size_of::<Option<Entry>>(), 20);
}

#[test]
fn n6_5_binding_is_shared_until_its_last_session_ends() {
    let mut bib = bib(26);
    let first = bib.acquire(remote(1, 5000)).unwrap();

    assert_eq!(bib.acquire(remote(1, 5000)), Some(first));
    bib.release(first);
    assert!(bib.get(first).is_some());
    bib.release(first);
    assert!(bib.get(first).is_none());
}

#[test]
fn n6_6_two_remotes_with_one_port_number_differ_by_address_or_by_port() {
    for (len, ports) in [(26, [5000, 5000]), (32, [5000, 5001])] {
        let mut bib = bib(len);
        let bound = [1, 2].map(|host| {
            let id = bib.acquire(remote(host, 5000)).unwrap();
            bib.get(id).unwrap()
        });
        assert_eq!(bound[0].port, 5000);
        assert_eq!(bound[0].addr == bound[1].addr, len == 32);
        assert_eq!(bound[1].port == 5000, ports[1] == 5000);
    }
}

#[test]
fn remote_can_be_bound_to_what_nobody_has() {
    let mut bib = bib(26);
    let [here, there] = [200, 201].map(|last| Ipv4Addr::new(192, 168, 64, last));
    let first = bib.bind(remote(1, 80), here, 8080).unwrap();

    assert_eq!(bib.bind(remote(1, 80), here, 8080), Some(first));
    assert_eq!(bib.bind(remote(1, 80), here, 8081), None);
    assert_eq!(bib.bind(remote(2, 80), here, 8080), None);
    let other = bib.bind(remote(1, 81), there, 81).unwrap();
    let own = bib.acquire(remote(1, 82)).unwrap();
    assert_eq!(bib.get(own).unwrap().addr, here, "one address for all");
    for id in [first, first, other, own] {
        bib.release(id);
    }
    assert!(bib.bind(remote(2, 80), here, 8080).is_some());
    assert!(bib.bind(remote(3, 80), there, 81).is_some());
}

#[test]
fn req_8_port_rests_for_whoever_had_it_and_for_nobody_else() {
    for len in [26, 32] {
        let mut bib = resting(len, 10);
        let first = bib.acquire(datagrams(1, 5000)).unwrap();
        let had = bib.get(first).unwrap();
        bib.retire(first, Tick(1000));

        bib.pool.wake(Tick(1120));
        let other = bib.acquire(datagrams(2, 5000)).unwrap();
        let other = bib.get(other).unwrap();
        assert_ne!((had.addr, had.port), (other.addr, other.port), "/{len}");
        assert_eq!(had.addr == other.addr, len == 32);

        let again = bib.acquire(datagrams(1, 5000)).unwrap();
        let again = bib.get(again).unwrap();
        assert_eq!((had.addr, had.port), (again.addr, again.port), "/{len}");
    }
}

#[test]
fn req_8_remote_whose_ports_rest_keeps_its_address_for_others() {
    let mut bib = resting(26, 10);
    let first = bib.acquire(datagrams(1, 5000)).unwrap();
    let addr = bib.get(first).unwrap().addr;
    bib.retire(first, Tick(1000));

    let next = bib.acquire(datagrams(1, 6000)).unwrap();

    assert_eq!(bib.get(next).unwrap().addr, addr);
}

#[test]
fn req_8_rest_ends_after_its_time_or_where_nothing_else_is_left() {
    let mut bib = resting(32, 10);
    let first = bib.acquire(datagrams(1, 5000)).unwrap();
    bib.retire(first, Tick(1000));
    bib.pool.wake(Tick(1121));
    let second = bib.acquire(datagrams(2, 5000)).unwrap();
    assert_eq!(bib.get(second).unwrap().port, 5000);
    bib.release(second);

    let range = PoolRange::new([192, 168, 64, 200].into(), 32).unwrap();
    let mut bib = Bib::new(&[range], 70_000, Key::new([3; 16]));
    bib.pool.let_rest(10, Duration::from_secs(120));
    let all: Vec<_> = (0..65_535)
        .map(|port| {
            bib.acquire(datagrams(port / 4000, port % 4000 + 1))
                .unwrap()
        })
        .collect();
    assert_eq!(bib.acquire(datagrams(99, 9)), None);
    let port = bib.get(all[77]).unwrap().port;
    bib.retire(all[77], Tick(1000));

    let late = bib.acquire(datagrams(99, 9)).unwrap();

    assert_eq!(bib.get(late).unwrap().port, port);
}

#[test]
fn req_8_exhausted_address_finds_its_ports_behind_any_number_that_rest_elsewhere() {
    // more than are woken at once or not, before the end of their rest and after it
    for (others, now) in [(2000, 1000), (2000, 5000), (10, 1000), (10, 5000)] {
        let mut bib = three_addresses();
        for port in 1..=others {
            let id = bib.bind(datagrams(1, port), THERE, port).unwrap();
            bib.retire(id, Tick(1000));
        }
        let all: Vec<_> = (1..=65_535)
            .map(|port| bib.bind(datagrams(2, port), HERE, port).unwrap())
            .collect();
        for port in [70_u16, 80] {
            bib.retire(all[usize::from(port) - 1], Tick(1000));
        }

        bib.pool.wake(Tick(now));
        let late = |port| Remote {
            nsp: NspId(1),
            ..datagrams(2, port)
        };
        let bound = [5000, 5001].map(|port| {
            let id = bib.acquire(late(port)).unwrap();
            bib.get(id).unwrap()
        });

        let mut ports = bound.map(|bound| bound.port);
        ports.sort_unstable();
        assert_eq!(ports, [70, 80], "{others} at {now}");
        assert!(bound.iter().all(|bound| bound.addr == HERE));
        assert_eq!(bib.acquire(late(5002)), None, "now all are used");
    }
}

#[test]
fn req_8_remote_goes_elsewhere_where_others_have_all_ports_of_its_address() {
    let mut bib = three_addresses();
    let gone = bib.bind(datagrams(1, 1), HERE, 1).unwrap();
    bib.retire(gone, Tick(1000));
    for port in 1..=65_535 {
        bib.bind(remote(2, port), HERE, port).unwrap();
    }

    let back = bib.acquire(remote(1, 5000)).unwrap();

    assert_eq!(bib.get(back).unwrap().addr, THERE);
}

#[test]
fn req_8_ports_that_rest_are_bounded_and_those_of_tcp_do_not() {
    let mut bib = resting(32, 3);
    for port in 1..=5 {
        let id = bib.acquire(datagrams(1, port)).unwrap();
        bib.retire(id, Tick(1000));
    }
    let taken: Vec<_> = (1..=5)
        .map(|port| {
            let id = bib.acquire(datagrams(2, port)).unwrap();
            bib.get(id).unwrap().port == port
        })
        .collect();
    assert_eq!(taken, [true, true, false, false, false]);

    let id = bib.acquire(remote(1, 7)).unwrap();
    bib.retire(id, Tick(1000));
    let id = bib.acquire(remote(2, 7)).unwrap();
    assert_eq!(bib.get(id).unwrap().port, 7, "RFC 6888 REQ-8 a");
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Acquire(u16, u16),
    Bind(u16, u16, u8, u16),
    Release(prop::sample::Index),
    Retire(prop::sample::Index, u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..12_u16, 1..6_u16).prop_map(|(host, port)| Op::Acquire(host, port)),
        1 => (0..12_u16, 1..6_u16, 192..204_u8, 1..6_u16)
            .prop_map(|(host, port, last, to)| Op::Bind(host, port, last, to)),
        2 => any::<prop::sample::Index>().prop_map(Op::Release),
        3 => (any::<prop::sample::Index>(), 0..60_u32).prop_map(|(at, passed)| Op::Retire(at, passed)),
    ]
}

/// A binding, its pool address and port, and how many sessions use it.
type Bound = (BibId, (Ipv4Addr, u16), u32);

proptest! {
    #[test]
    fn bindings_agree_with_a_model(
        len in prop::sample::select(vec![26_u8, 29, 30, 31, 32]),
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let (mut bib, mut now) = (resting(len, 7), Tick(1000));
        let mut model = BTreeMap::<(u16, u16), Bound>::new();
        for op in ops {
            bib.pool.wake(now);
            match op {
                Op::Acquire(host, port) => {
                    let Some(id) = bib.acquire(datagrams(host, port)) else {
                        prop_assert_eq!(model.len(), 24, "nothing else runs out");
                        continue;
                    };
                    let bound = bib.get(id).unwrap();
                    model
                        .entry((host, port))
                        .and_modify(|(_, _, sessions)| *sessions += 1)
                        .or_insert((id, (bound.addr, bound.port), 1));
                }
                Op::Bind(host, port, last, to) => {
                    let to = (Ipv4Addr::new(192, 168, 64, last), to);
                    let Some(id) = bib.bind(datagrams(host, port), to.0, to.1) else {
                        continue;
                    };
                    let sessions = model.get(&(host, port)).map_or(0, |(.., count)| *count);
                    model.insert((host, port), (id, to, sessions + 1));
                }
                Op::Release(at) | Op::Retire(at, _) => {
                    if model.is_empty() {
                        continue;
                    }
                    let (remote, (id, bound, sessions)) = {
                        let entry = model.iter().nth(at.index(model.len())).unwrap();
                        (*entry.0, *entry.1)
                    };
                    if let Op::Retire(_, passed) = op {
                        bib.retire(id, now);
                        now.0 += passed;
                    } else {
                        bib.release(id);
                    }
                    if sessions == 1 {
                        model.remove(&remote);
                    } else {
                        model.insert(remote, (id, bound, sessions - 1));
                    }
                }
            }
            let bound: BTreeSet<_> = model.values().map(|(_, bound, _)| *bound).collect();
            prop_assert_eq!(bound.len(), model.len(), "two remotes share a pool port");
            for ((host, port), (id, bound, _)) in &model {
                let found = bib.get(*id).unwrap();
                prop_assert_eq!(found.remote, datagrams(*host, *port));
                prop_assert_eq!((found.addr, found.port), *bound);
            }
        }
        for (id, _, sessions) in model.into_values() {
            for _ in 0..sessions {
                bib.release(id);
            }
        }
        now.0 += 1000;
        bib.pool.wake(now);
        prop_assert_eq!((bib.len(), bib.remotes(), bib.pool.in_use()), (0, 0, 0));
    }
}

fn bib(len: u8) -> Bib {
    let network = match len {
        26 | 29 | 30 => 192,
        _ => 200,
    };
    let range = PoolRange::new([192, 168, 64, network].into(), len).unwrap();
    Bib::new(&[range], 24, Key::new([3; 16]))
}

/// Lets so many ports rest for two minutes.
fn resting(len: u8, at_most: u32) -> Bib {
    let mut bib = bib(len);
    bib.pool.let_rest(at_most, Duration::from_secs(120));
    bib
}

/// Lets many ports rest for two minutes; the third address is the translator's own.
fn three_addresses() -> Bib {
    let ranges = [HERE, THERE, Ipv4Addr::new(192, 168, 64, 202)];
    let ranges = ranges.map(|addr| PoolRange::new(addr, 32).unwrap());
    let mut bib = Bib::new(&ranges, 200_000, Key::new([3; 16]));
    bib.pool.let_rest(4096, Duration::from_secs(120));
    bib
}

fn datagrams(host: u16, port: u16) -> Remote {
    Remote {
        transport: Transport::Udp,
        ..remote(host, port)
    }
}

fn remote(host: u16, port: u16) -> Remote {
    let addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host);
    Remote {
        transport: Transport::Tcp,
        addr,
        port,
        nsp: NspId(0),
    }
}

const HERE: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 200);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 201);
