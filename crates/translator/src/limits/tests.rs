use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Session(Link, Link);

impl Linked<BY_SERVER> for Session {
    fn link(&mut self) -> &mut Link {
        &mut self.1
    }

    fn peek(&self) -> &Link {
        &self.1
    }
}

impl Linked<BY_NET> for Session {
    fn link(&mut self) -> &mut Link {
        &mut self.0
    }

    fn peek(&self) -> &Link {
        &self.0
    }
}

#[test]
fn net_is_small() {
    assert_eq!(size_of::<Option<Net>>(), 40);
}

#[test]
fn limits_are_of_a_network_and_of_a_server() {
    let mut shares = shares();
    let (here, there) = (Ipv4Addr::from(1), Ipv4Addr::from(2));
    for _ in 0..4 {
        assert_eq!(shares.over(net(1), here, NOW), None);
        shares.add(net(1), here, NOW);
    }
    assert_eq!(shares.over(net(1), there, NOW), Some(Over::Remote(None)));
    for other in 2..4 {
        assert_eq!(shares.over(net(other), here, NOW), None);
        shares.add(net(other), here, NOW);
    }
    assert_eq!(shares.over(net(4), here, NOW), Some(Over::Server(None)));
    assert_eq!(shares.over(net(4), there, NOW), None);

    shares.remove(net(1), here);

    assert_eq!(shares.over(net(1), there, NOW), None);
    assert_eq!(shares.over(net(4), here, NOW), None);
}

#[test]
fn network_with_too_many_half_open_sessions_gives_its_oldest() {
    let (mut shares, mut sessions) = (shares(), Slab::new(100));
    for _ in 0..3 {
        shares.add(net(7), Ipv4Addr::LOCALHOST, NOW);
        let id = sessions.insert(Session::default()).unwrap();
        shares.open(net(7), Ipv4Addr::LOCALHOST, &mut sessions, id);
    }
    assert_eq!(
        shares.over(net(7), Ipv4Addr::LOCALHOST, NOW),
        Some(Over::Remote(Some(0)))
    );
    shares.settle(net(7), Ipv4Addr::LOCALHOST, &mut sessions, 0);
    assert_eq!(shares.over(net(7), Ipv4Addr::LOCALHOST, NOW), None);
}

proptest! {
    #[test]
    fn heaviest_network_and_its_oldest_session_are_those_of_a_model(
        ops in prop::collection::vec((any::<bool>(), 0..6_u64, any::<prop::sample::Index>()), 0..300),
    ) {
        let (mut shares, mut sessions) = (shares(), Slab::new(u32::MAX));
        let mut model = BTreeMap::<u64, Vec<u32>>::new();
        for (open, which, at) in ops {
            let of = model.entry(which).or_default();
            if open {
                let id = sessions.insert(Session::default()).unwrap();
                shares.add(net(which), Ipv4Addr::LOCALHOST, NOW);
                shares.open(net(which), Ipv4Addr::LOCALHOST, &mut sessions, id);
                of.push(id);
            } else if !of.is_empty() {
                let id = of.remove(at.index(of.len()));
                shares.settle(net(which), Ipv4Addr::LOCALHOST, &mut sessions, id);
                shares.remove(net(which), Ipv4Addr::LOCALHOST);
                sessions.remove(id);
            }
            let most = model.values().map(Vec::len).max().unwrap_or(0);
            match shares.heaviest() {
                None => prop_assert_eq!(most, 0),
                Some((weight, oldest)) => {
                    prop_assert_eq!(weight as usize, most);
                    let is = |of: &Vec<u32>| of.len() == most && of[0] == oldest;
                    prop_assert!(model.values().any(is));
                }
            }
            let all: usize = model.values().map(Vec::len).sum();
            prop_assert_eq!(shares.of_server(Ipv4Addr::LOCALHOST) as usize, all);
            let nets = model.values().filter(|of| !of.is_empty()).count();
            prop_assert_eq!(shares.nets.len() as usize, nets);
        }
    }
}

#[test]
fn pace_is_that_of_a_network_and_of_a_server() {
    let limits = Limits {
        new_per_remote_64: 2,
        new_per_server: 3,
        ..Limits::without_shares(1000)
    };
    let mut shares = Shares::new(limits, Key::new([1; 16]));
    let (here, there) = (Ipv4Addr::from(1), Ipv4Addr::from(2));
    for _ in 0..8 {
        assert_eq!(shares.over(net(1), here, NOW), None);
        shares.add(net(1), here, NOW);
    }
    assert_eq!(shares.over(net(1), there, NOW), Some(Over::RemoteRate));
    for _ in 0..4 {
        assert_eq!(shares.over(net(2), here, NOW), None);
        shares.add(net(2), here, NOW);
    }
    assert_eq!(shares.over(net(3), here, NOW), Some(Over::ServerRate));
    assert_eq!(shares.over(net(3), there, NOW), None);

    let later = Tick(NOW.0 + 1);
    assert_eq!(shares.over(net(1), here, later), None);
    assert_eq!(shares.over(net(3), here, later), None);
}

fn shares() -> Shares {
    let limits = Limits {
        sessions: 1000,
        per_remote_64: 4,
        per_server: 6,
        half_open_per_64: 3,
        ..Limits::default()
    };
    Shares::new(limits, Key::new([1; 16]))
}

fn net(number: u64) -> Prefix {
    Prefix(number.to_be_bytes())
}

const NOW: Tick = Tick(1000);
