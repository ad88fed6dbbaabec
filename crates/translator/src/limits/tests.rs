use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::table::Link;

/// Sessions in use, half-open ones and the oldest of these.
pub(crate) type Counted = (u32, u32, Option<u32>);

impl Shares {
    /// Returns what is counted for a network and for a server.
    pub(crate) fn counted(&self, whose: Whose) -> (Counted, Counted) {
        let parts = |count: Count| (count.used, count.half_open, count.oldest);
        let net = self.nets.count(whose.net, NOW);
        let server = self.servers.get(&whose.server);
        (
            net.map(parts).unwrap_or_default(),
            server
                .map(|server| parts(server.count(0, NOW)))
                .unwrap_or_default(),
        )
    }

    /// Returns how many networks and servers there are, and how many networks take more than the
    /// least room.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let (nets, crowds) = self.nets.sizes();
        (nets as usize, self.servers.len(), crowds as usize)
    }
}

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

/// Shares and the sessions that they count.
struct Table {
    shares: Shares,
    sessions: Slab<Session>,
}

impl Table {
    fn new(limits: Limits) -> Self {
        Self {
            shares: Shares::new(limits, Key::new([1; 16])),
            sessions: Slab::new(u32::MAX),
        }
    }

    /// Begins a session if it may begin.
    fn begin(&mut self, whose: Whose, share: Share, now: Tick) -> Result<u32, Over> {
        match self.shares.over(whose, now) {
            Some(over) => Err(over),
            None => Ok(self.add(whose, share, Start::Anew(now))),
        }
    }

    fn add(&mut self, whose: Whose, share: Share, start: Start) -> u32 {
        let id = self.sessions.insert(Session::default()).unwrap();
        self.shares.add(whose, share, &mut self.sessions, id, start);
        id
    }

    fn change(&mut self, whose: Whose, shares: (Share, Share), id: u32) {
        self.shares.change(whose, shares, &mut self.sessions, id);
    }

    fn remove(&mut self, whose: Whose, share: Share, id: u32, now: Tick) {
        self.shares
            .remove(whose, share, &mut self.sessions, id, now);
        self.sessions.remove(id);
    }
}

#[test]
fn limits_are_of_a_network_and_of_a_server() {
    let mut table = Table::new(limits());
    for _ in 0..4 {
        table.begin(whose(1, HERE), Share::InUse, NOW).unwrap();
    }
    assert_eq!(
        table.begin(whose(1, THERE), Share::InUse, NOW),
        Err(Over::Remote(None))
    );
    for other in 2..4 {
        table.begin(whose(other, HERE), Share::InUse, NOW).unwrap();
    }
    assert_eq!(
        table.begin(whose(4, HERE), Share::InUse, NOW),
        Err(Over::Server(None))
    );
    assert_eq!(table.shares.over(whose(4, THERE), NOW), None);

    table.remove(whose(1, HERE), Share::InUse, 0, NOW);

    assert_eq!(table.shares.over(whose(1, THERE), NOW), None);
    assert_eq!(table.shares.over(whose(4, HERE), NOW), None);
}

#[test]
fn network_with_too_many_half_open_sessions_gives_its_oldest() {
    let mut table = Table::new(limits());
    for _ in 0..3 {
        table.begin(whose(7, HERE), Share::HalfOpen, NOW).unwrap();
    }
    assert_eq!(
        table.shares.over(whose(7, HERE), NOW),
        Some(Over::Remote(Some(0)))
    );
    table.change(whose(7, HERE), (Share::HalfOpen, Share::InUse), 0);
    assert_eq!(table.shares.over(whose(7, HERE), NOW), None);
}

#[test]
fn limit_of_one_holds_for_a_network_with_a_single_session() {
    for (share, over) in [
        (Share::Finished, None),
        (Share::HalfOpen, Some(Over::Remote(Some(0)))),
        (Share::InUse, Some(Over::Remote(None))),
    ] {
        let limits = Limits {
            per_remote_64: 1,
            ..limits()
        };
        let mut table = Table::new(limits);
        table.begin(whose(7, HERE), share, NOW).unwrap();
        assert_eq!(table.shares.over(whose(7, HERE), NOW), over, "{share:?}");
    }
    let mut table = Table::new(Limits {
        half_open_per_64: 1,
        ..limits()
    });
    table.begin(whose(7, HERE), Share::HalfOpen, NOW).unwrap();
    let over = table.shares.over(whose(7, HERE), NOW);
    assert_eq!(over, Some(Over::Remote(Some(0))));
}

#[test]
fn who_has_more_than_it_may_ends_nothing_in_vain() {
    let mut table = Table::new(limits());
    for net in [1, 1, 1, 1, 1, 2, 2] {
        // as after a restart with limits that have become lower
        table.add(whose(net, HERE), Share::InUse, Start::Again(NOW));
    }
    table.add(whose(1, HERE), Share::HalfOpen, Start::Again(NOW));

    for (net, server, over) in [
        (1, THERE, Over::Remote(None)),
        (2, HERE, Over::Server(None)),
    ] {
        let whose = whose(net, server);
        assert_eq!(table.shares.over(whose, NOW), Some(over));
        assert!(!table.shares.may_resume(whose, NOW));
    }
    assert!(table.shares.may_resume(whose(2, THERE), NOW));
}

/// What a session is in the model, and when it became half-open.
type Known = (Whose, Share, usize);

#[derive(Debug, Clone)]
enum Op {
    Add(u64, Ipv4Addr, Share),
    Change(prop::sample::Index, Share),
    Remove(prop::sample::Index),
    Pass(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let share = prop::sample::select(vec![Share::Finished, Share::HalfOpen, Share::InUse]);
    let server = prop::sample::select(vec![HERE, THERE]);
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..9_u64, server, share.clone()).prop_map(|(net, server, share)| Op::Add(net, server, share)),
        3 => (at(), share).prop_map(|(at, share)| Op::Change(at, share)),
        3 => at().prop_map(Op::Remove),
        1 => (0..9_u32).prop_map(Op::Pass),
    ]
}

proptest! {
    #[test]
    fn counts_are_those_of_a_recount(ops in prop::collection::vec(op(), 0..300)) {
        let mut table = Table::new(Limits { new_per_remote_64: 2, ..limits() });
        let mut model = BTreeMap::<u32, Known>::new();
        let mut now = NOW;
        for (step, op) in ops.into_iter().enumerate() {
            match op {
                Op::Add(net, server, share) => {
                    let whose = whose(net, server);
                    let id = table.add(whose, share, Start::Anew(now));
                    model.insert(id, (whose, share, step));
                }
                Op::Change(at, share) => {
                    let Some(id) = pick(&model, at) else { continue };
                    let known = model.get_mut(&id).unwrap();
                    table.change(known.0, (known.1, share), id);
                    if known.1 != share {
                        *known = (known.0, share, step);
                    }
                }
                Op::Remove(at) => {
                    let Some(id) = pick(&model, at) else { continue };
                    let known = model.remove(&id).unwrap();
                    table.remove(known.0, known.1, id, now);
                }
                Op::Pass(secs) => now = Tick(now.0 + secs),
            }
            check(&table.shares, &model);
        }
        for (id, (whose, share, _)) in model {
            table.remove(whose, share, id, now);
        }
        prop_assert_eq!((table.shares.sizes(), table.shares.heaviest()), ((0, 0, 0), None));
    }
}

#[track_caller]
fn check(shares: &Shares, model: &BTreeMap<u32, Known>) {
    let recount = |of: &dyn Fn(&Whose) -> bool| -> Counted {
        let all = || model.iter().filter(|(_, known)| of(&known.0));
        let half_open = || all().filter(|(_, known)| known.1 == Share::HalfOpen);
        let oldest = half_open().min_by_key(|(_, known)| known.2);
        let used = all().filter(|(_, known)| known.1 != Share::Finished);
        (
            u32::try_from(used.count()).unwrap(),
            u32::try_from(half_open().count()).unwrap(),
            oldest.map(|(id, _)| *id),
        )
    };
    let mut most = 0;
    let (mut nets, mut crowds) = (0, 0);
    for number in 0..9 {
        let net = whose(number, HERE).net;
        let of_net = recount(&|whose| whose.net == net);
        assert_eq!(shares.counted(whose(number, HERE)).0, of_net);
        let sessions = model.values().filter(|known| known.0.net == net).count();
        nets += usize::from(sessions > 0);
        crowds += usize::from(sessions > 1);
        if sessions > 1 {
            most = most.max(of_net.1);
        }
    }
    for server in [HERE, THERE] {
        let of_server = recount(&|whose| whose.server == server);
        assert_eq!(shares.counted(whose(0, server)).1, of_server);
        let all = model.values().filter(|known| known.0.server == server);
        assert_eq!(shares.of_server(server) as usize, all.count());
    }
    let (counted, _, apart) = shares.sizes();
    assert_eq!(counted, nets);
    assert!(
        (crowds..=nets).contains(&apart),
        "{apart} of {nets}, {crowds} have company"
    );
    match shares.heaviest() {
        None => assert_eq!(most, 0),
        Some((weight, oldest)) => {
            assert!(weight >= most && weight.max(1) == most.max(1));
            let net = model[&oldest].0.net;
            let of_net = recount(&|whose| whose.net == net);
            assert_eq!((of_net.1, of_net.2), (weight, Some(oldest)));
        }
    }
}

fn pick(model: &BTreeMap<u32, Known>, at: prop::sample::Index) -> Option<u32> {
    (!model.is_empty()).then(|| *model.keys().nth(at.index(model.len())).unwrap())
}

#[test]
fn network_that_is_alone_again_takes_little_once_its_pace_is_forgotten() {
    for (later, takes_more) in [(0, true), (1, false)] {
        let mut table = Table::new(Limits {
            new_per_remote_64: 2,
            ..limits()
        });
        for _ in 0..2 {
            table.begin(whose(7, HERE), Share::HalfOpen, NOW).unwrap();
        }
        assert_eq!(table.shares.sizes().2, 1);

        table.remove(whose(7, HERE), Share::HalfOpen, 1, Tick(NOW.0 + later));

        assert_eq!(table.shares.sizes().2, usize::from(takes_more));
        let counted = table.shares.counted(whose(7, HERE));
        assert_eq!(counted, ((1, 1, Some(0)), (1, 1, Some(0))));
    }
}

#[test]
fn pace_is_that_of_a_network_and_of_a_server() {
    let limits = Limits {
        new_per_remote_64: 2,
        new_per_server: 3,
        ..Limits::without_shares(1000)
    };
    let mut table = Table::new(limits);
    for _ in 0..8 {
        table.begin(whose(1, HERE), Share::InUse, NOW).unwrap();
    }
    let refused = table.begin(whose(1, THERE), Share::InUse, NOW);
    assert_eq!(refused, Err(Over::RemoteRate));
    for _ in 0..4 {
        table.begin(whose(2, HERE), Share::InUse, NOW).unwrap();
    }
    let refused = table.begin(whose(3, HERE), Share::InUse, NOW);
    assert_eq!(refused, Err(Over::ServerRate));
    assert_eq!(table.shares.over(whose(3, THERE), NOW), None);

    let later = Tick(NOW.0 + 1);
    assert_eq!(table.shares.over(whose(1, HERE), later), None);
    assert_eq!(table.shares.over(whose(3, HERE), later), None);
}

#[test]
fn what_comes_back_begins_nothing() {
    let mut table = Table::new(Limits {
        new_per_remote_64: 2,
        new_per_server: 2,
        ..Limits::without_shares(1000)
    });
    for _ in 0..100 {
        table.add(whose(1, HERE), Share::InUse, Start::Again(NOW));
    }

    for _ in 0..7 {
        table.begin(whose(1, HERE), Share::InUse, NOW).unwrap();
    }
    let refused = table.begin(whose(1, HERE), Share::InUse, NOW);
    assert_eq!(refused, Err(Over::RemoteRate));
}

fn limits() -> Limits {
    Limits {
        sessions: 1000,
        per_remote_64: 4,
        per_server: 6,
        half_open_per_64: 3,
        ..Limits::default()
    }
}

fn whose(net: u64, server: Ipv4Addr) -> Whose {
    let net = Prefix(net.to_be_bytes());
    Whose { net, server }
}

const HERE: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 2);

const NOW: Tick = Tick(1000);
