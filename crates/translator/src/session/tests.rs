use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::pool::PoolRange;
use crate::verdict::DropReason;

#[test]
fn entry_is_small() {
    assert_eq!(size_of::<Option<Entry>>(), 96);
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Insert(u16, u16, u8, usize),
    Pass(u32),
    Remove(prop::sample::Index),
    Restore(u16, u16, u8, usize, u32),
    Touch(prop::sample::Index, usize),
    TouchEarlier(prop::sample::Index, usize, u32),
}

fn op() -> impl Strategy<Value = Op> {
    let at = any::<prop::sample::Index>;
    let lifetime = || 0..TCP.len();
    prop_oneof![
        4 => (0..200_u16, 1..4_u16, 0..3_u8, lifetime())
            .prop_map(|(host, port, last, kind)| Op::Insert(host, port, last, kind)),
        1 => (0..100_u32).prop_map(Op::Pass),
        2 => at().prop_map(Op::Remove),
        1 => (0..200_u16, 1..4_u16, 0..3_u8, lifetime(), 0..50_u32)
            .prop_map(|(host, port, last, kind, ago)| Op::Restore(host, port, last, kind, ago)),
        3 => (at(), lifetime()).prop_map(|(at, to)| Op::Touch(at, to)),
        1 => (at(), lifetime(), 0..50_u32)
            .prop_map(|(at, to, ago)| Op::TouchEarlier(at, to, ago)),
    ]
}

const TCP: [Lifetime; 5] = [
    Lifetime::TcpClosing,
    Lifetime::TcpEstablished,
    Lifetime::TcpOpening,
    Lifetime::TcpReset,
    Lifetime::TcpTransitory,
];

type Key3 = (u16, u16, u8);

/// What the model knows of a session.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: SessionId,
    lifetime: Lifetime,
    last_used: Tick,
    /// When it became half-open, if it is.
    half_open: Option<usize>,
}

impl Known {
    fn new(id: SessionId, lifetime: Lifetime, last_used: Tick, step: usize) -> Self {
        let is_half_open = lifetime.share() == Share::HalfOpen;
        Self {
            id,
            lifetime,
            last_used,
            half_open: is_half_open.then_some(step),
        }
    }

    fn touch(&mut self, lifetime: Lifetime, last_used: Tick, step: usize) {
        let half_open = self.half_open;
        *self = Self::new(self.id, lifetime, last_used, step);
        self.half_open = self.half_open.map(|step| half_open.unwrap_or(step));
    }
}

#[derive(Default)]
struct Model(BTreeMap<Key3, Known>);

impl Model {
    /// Returns when a session of a lifetime is taken to have been used.
    fn in_order(&self, lifetime: Lifetime, last_used: Tick) -> Tick {
        let others = self.0.values().filter(|known| known.lifetime == lifetime);
        let latest = others.map(|known| known.last_used).max();
        latest.map_or(last_used, |latest| latest.max(last_used))
    }

    fn pick(&self, at: prop::sample::Index) -> Option<Key3> {
        let at = (!self.0.is_empty()).then(|| at.index(self.0.len()))?;
        self.0.keys().nth(at).copied()
    }
}

proptest! {
    #[test]
    fn table_agrees_with_a_map(
        // the indexes grow beyond their least size
        grow in prop_oneof![4 => Just(0), 1 => 0..3000_u16],
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let mut table = table();
        let mut model = Model::default();
        let mut now = Tick(1000);
        let grow = (0..grow).map(|host| Op::Insert(1000 + host, 1, 0, OPENING));
        for (step, op) in grow.chain(ops).enumerate() {
            match op {
                Op::Insert(host, port, last, kind) => {
                    let (key, new) = ((host, port, last), (six(host, port, last), TCP[kind]));
                    let found = table.find_six(&new.0);
                    prop_assert_eq!(found, model.0.get(&key).map(|known| known.id));
                    if found.is_none() {
                        let new = bind(&mut table, new);
                        let id = table.insert(new, now).unwrap();
                        model.0.insert(key, Known::new(id, TCP[kind], now, step));
                    }
                }
                Op::Restore(host, port, last, kind, ago) => {
                    let (key, new) = ((host, port, last), (six(host, port, last), TCP[kind]));
                    if table.find_six(&new.0).is_none() {
                        let last_used = model.in_order(TCP[kind], Tick(now.0 - ago));
                        let new = bind(&mut table, new);
                        let id = table.insert_used(new, Tick(now.0 - ago)).unwrap();
                        model.0.insert(key, Known::new(id, TCP[kind], last_used, step));
                    }
                }
                Op::Pass(secs) => now = Tick(now.0 + secs),
                Op::Remove(at) => {
                    let Some(key) = model.pick(at) else { continue };
                    let known = model.0.remove(&key).unwrap();
                    let entry = table.remove(known.id, now).unwrap();
                    table.bib.release(entry.bib);
                    prop_assert!(table.get(known.id).is_none());
                }
                Op::Touch(at, to) => {
                    let Some(key) = model.pick(at) else { continue };
                    let known = model.0.get_mut(&key).unwrap();
                    table.touch(known.id, TCP[to], now);
                    known.touch(TCP[to], now, step);
                }
                Op::TouchEarlier(at, to, ago) => {
                    let Some(key) = model.pick(at) else { continue };
                    let last_used = model.in_order(TCP[to], Tick(now.0 - ago));
                    let known = model.0.get_mut(&key).unwrap();
                    table.touch_earlier(known.id, TCP[to], Tick(now.0 - ago));
                    known.touch(TCP[to], last_used, step);
                }
            }
        }
        check(&table, &model, now)?;
        for known in model.0.into_values() {
            let entry = table.remove(known.id, now).unwrap();
            table.bib.release(entry.bib);
        }
        prop_assert_eq!((table.entries.len(), table.bib.len(), table.bib.remotes()), (0, 0, 0));
        prop_assert_eq!((table.half_open(), table.shares.heaviest()), (0, None));
        prop_assert_eq!(table.shares.sizes(), (0, 0, 0));
        prop_assert_eq!(table.live(), Gauge::default());
    }
}

fn check(table: &SessionTable, model: &Model, now: Tick) -> Result<(), TestCaseError> {
    for ((host, port, last), known) in &model.0 {
        let found = table.get(known.id).unwrap();
        prop_assert_eq!(found.six, six(*host, *port, *last));
        prop_assert_eq!(
            (found.lifetime, found.last_used),
            (known.lifetime, known.last_used)
        );
        prop_assert_eq!(table.find_six(&found.six), Some(known.id));
        prop_assert_eq!(table.find_four(&found.four), Some(known.id), "not shared");
        let deadline = known.last_used.0 + table.lifetimes.of(known.lifetime) + 1;
        prop_assert_eq!(table.deadline(&found), Tick(deadline));
    }
    let deadline = |known: &Known| known.last_used.0 + table.lifetimes.of(known.lifetime) + 1;
    let next = model.0.values().map(deadline).min();
    prop_assert_eq!(table.next_expiry(), next.map(Tick));
    prop_assert_eq!(
        table.any_expired(now).is_some(),
        next.is_some_and(|next| next <= now.0)
    );
    prop_assert_eq!(table.live().tcp as usize, model.0.len());
    recount(table, model)
}

/// Whoever is counted for something is counted right.
fn recount(table: &SessionTable, model: &Model) -> Result<(), TestCaseError> {
    let mut lifetimes = BTreeMap::<usize, u32>::new();
    let mut rules = BTreeMap::<u8, u32>::new();
    let (mut nets, mut servers) = (BTreeMap::new(), BTreeMap::new());
    for (key, known) in &model.0 {
        *lifetimes.entry(known.lifetime as usize).or_default() += 1;
        *rules.entry(key.2).or_default() += 1;
        for recount in [
            &mut nets.entry(key.0 % NETS).or_insert((whose(key), NOTHING)).1,
            &mut servers.entry(key.2).or_insert((whose(key), NOTHING)).1,
        ] {
            recount.0 += u32::from(known.lifetime.share() != Share::Finished);
            recount.1 += u32::from(known.half_open.is_some());
            recount.2 = [recount.2, known.half_open.map(|step| (step, known.id.0))]
                .into_iter()
                .flatten()
                .min();
        }
    }
    for lifetime in TCP {
        let counted = lifetimes.get(&(lifetime as usize)).copied();
        prop_assert_eq!(table.len_of(lifetime), counted.unwrap_or_default());
    }
    let half_open: u32 = servers.values().map(|(_, counted)| counted.1).sum();
    prop_assert_eq!(table.half_open(), half_open);
    for (server, sessions) in &rules {
        prop_assert_eq!(table.len_of_rule(RuleId((*server).into())), *sessions);
        let server = Ipv4Addr::new(192, 168, 64, *server);
        prop_assert_eq!(table.shares.of_server(server), *sessions);
    }
    for (whose, (used, half_open, oldest)) in nets.values() {
        let recounted = (*used, *half_open, oldest.map(|(_, id)| id));
        prop_assert_eq!(table.shares.counted(*whose).0, recounted);
    }
    for (whose, (used, half_open, oldest)) in servers.values() {
        let recounted = (*used, *half_open, oldest.map(|(_, id)| id));
        prop_assert_eq!(table.shares.counted(*whose).1, recounted);
    }
    let (known_nets, known_servers, _) = table.shares.sizes();
    prop_assert_eq!((known_nets, known_servers), (nets.len(), servers.len()));
    Ok(())
}

#[test]
fn server_that_has_reset_holds_no_share_of_a_network() {
    let limits = Limits {
        per_remote_64: 2,
        ..Limits::of(10_000)
    };
    let mut table = table_with(limits);
    let ids: Vec<_> = (1..=3)
        .map(|port| {
            let new = bind(&mut table, (six(1, port, 0), Lifetime::TcpEstablished));
            let id = table.insert(new, Tick(0)).unwrap();
            table.touch(id, Lifetime::TcpClosing, Tick(0));
            id
        })
        .collect();
    assert_eq!(table.place_for(&six(1, 9, 0), Tick(0)), Place::Free);

    for id in &ids[..2] {
        assert!(table.may_resume(*id, Tick(0)));
        table.touch(*id, Lifetime::TcpEstablished, Tick(0));
    }

    assert!(
        !table.may_resume(ids[2], Tick(0)),
        "the network has its two"
    );
    assert!(table.may_resume(ids[0], Tick(0)), "one of the two");
    let full = Place::Full(DropReason::RemoteFull);
    assert_eq!(table.place_for(&six(1, 9, 0), Tick(0)), full);
}

#[test]
fn pool_port_is_given_up_by_what_is_over_before_what_begins_and_never_in_vain() {
    let mut table = table();
    let mut begin = |host, last, lifetime| {
        let new = bind(&mut table, (six(host, 1, last), lifetime));
        table.insert(new, Tick(0)).unwrap()
    };
    begin(1, 0, Lifetime::TcpEstablished);
    // both from one port
    begin(2, 0, Lifetime::TcpOpening);
    begin(2, 1, Lifetime::TcpOpening);
    let opening = begin(3, 0, Lifetime::TcpOpening);
    let closing = begin(4, 0, Lifetime::TcpClosing);

    let late = Remote::of(&six(9, 1, 0));
    assert_eq!(table.place_in_pool(&late), Some(closing));
    table.remove(closing, Tick(0)).unwrap();
    assert_eq!(table.place_in_pool(&late), Some(opening));
    table.remove(opening, Tick(0)).unwrap();
    assert_eq!(table.place_in_pool(&late), None);
}

fn table() -> SessionTable {
    table_with(Limits::of(10_000))
}

fn table_with(limits: Limits) -> SessionTable {
    let key = Key::new([5; 16]);
    let pool = PoolRange::new([192, 168, 64, 192].into(), 28).unwrap();
    let bib = Bib::new(&[pool], 10_000, key);
    SessionTable::new(limits, Lifetimes::default(), bib, key)
}

/// Binds the remote of a new session.
fn bind(table: &mut SessionTable, (six, lifetime): (SixTuple, Lifetime)) -> New {
    let bib = table.bib.acquire(Remote::of(&six)).unwrap();
    let bound = table.bib.get(bib).unwrap();
    let four = FourTuple {
        transport: six.transport,
        pool: bound.addr,
        pool_port: bound.port,
        server: six.server,
        internal_port: 8080,
    };
    New {
        six,
        four,
        bib,
        rule: RuleId(u32::from(six.server.octets()[3])),
        tcp: None,
        lifetime,
    }
}

fn six(host: u16, port: u16, last: u8) -> SixTuple {
    SixTuple {
        transport: Transport::Tcp,
        remote: Ipv6Addr::new(0x2001, 0xdb8, 0, host % NETS, 0, 0, 0, host),
        remote_port: port,
        nsp: NspId(0),
        server: Ipv4Addr::new(192, 168, 64, last),
        external_port: 80,
    }
}

fn whose((host, port, last): &Key3) -> Whose {
    Whose::of(&six(*host, *port, *last))
}

/// Sessions in use, half-open ones, and since when the oldest of them is so.
const NOTHING: (u32, u32, Option<(usize, u32)>) = (0, 0, None);

/// Of which most have one session where the table does not grow before.
const NETS: u16 = 151;

/// In `TCP`.
const OPENING: usize = 2;
