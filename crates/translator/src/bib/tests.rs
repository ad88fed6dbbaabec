use std::collections::{BTreeMap, BTreeSet};

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

#[derive(Debug, Clone, Copy)]
enum Op {
    Acquire(u16, u16),
    Bind(u16, u16, u8, u16),
    Release(prop::sample::Index),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..12_u16, 1..6_u16).prop_map(|(host, port)| Op::Acquire(host, port)),
        1 => (0..12_u16, 1..6_u16, 192..204_u8, 1..6_u16)
            .prop_map(|(host, port, last, to)| Op::Bind(host, port, last, to)),
        3 => any::<prop::sample::Index>().prop_map(Op::Release),
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
        let mut bib = bib(len);
        let mut model = BTreeMap::<(u16, u16), Bound>::new();
        for op in ops {
            match op {
                Op::Acquire(host, port) => {
                    let Some(id) = bib.acquire(remote(host, port)) else {
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
                    let Some(id) = bib.bind(remote(host, port), to.0, to.1) else {
                        continue;
                    };
                    let sessions = model.get(&(host, port)).map_or(0, |(.., count)| *count);
                    model.insert((host, port), (id, to, sessions + 1));
                }
                Op::Release(at) => {
                    if model.is_empty() {
                        continue;
                    }
                    let (remote, (id, bound, sessions)) = {
                        let entry = model.iter().nth(at.index(model.len())).unwrap();
                        (*entry.0, *entry.1)
                    };
                    bib.release(id);
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
                prop_assert_eq!(found.remote, remote(*host, *port));
                prop_assert_eq!((found.addr, found.port), *bound);
            }
        }
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

fn remote(host: u16, port: u16) -> Remote {
    let addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host);
    Remote {
        transport: Transport::Tcp,
        addr,
        port,
        nsp: NspId(0),
    }
}
