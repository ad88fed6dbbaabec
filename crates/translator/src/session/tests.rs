use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::pool::PoolRange;

#[test]
fn entry_is_small() {
    assert_eq!(size_of::<Option<Entry>>(), 104);
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Insert(u16, u16, u8),
    Pass(u32),
    Remove(prop::sample::Index),
    Touch(prop::sample::Index, usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..200_u16, 1..4_u16, 0..3_u8).prop_map(|(host, port, last)| Op::Insert(host, port, last)),
        1 => (0..100_u32).prop_map(Op::Pass),
        2 => any::<prop::sample::Index>().prop_map(Op::Remove),
        3 => (any::<prop::sample::Index>(), 0..TCP.len()).prop_map(|(at, to)| Op::Touch(at, to)),
    ]
}

const TCP: [Lifetime; 4] = [
    Lifetime::TcpClosing,
    Lifetime::TcpEstablished,
    Lifetime::TcpOpening,
    Lifetime::TcpTransitory,
];

/// What the model knows of a session: its number, lifetime and last use.
type Known = (SessionId, Lifetime, Tick);

proptest! {
    #[test]
    fn table_agrees_with_a_map(
        grow in 0..3000_u16,
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let mut table = table();
        let mut model = BTreeMap::<(u16, u16, u8), Known>::new();
        let mut now = Tick(0);
        let grow = (0..grow).map(|host| Op::Insert(1000 + host, 1, 0));
        for op in grow.chain(ops) {
            match op {
                Op::Insert(host, port, last) => {
                    let six = six(host, port, last);
                    let found = table.find_six(&six);
                    prop_assert_eq!(found, model.get(&(host, port, last)).map(|known| known.0));
                    if found.is_none() {
                        let id = insert(&mut table, six, now);
                        model.insert((host, port, last), (id, Lifetime::TcpOpening, now));
                    }
                }
                Op::Pass(secs) => now = Tick(now.0 + secs),
                Op::Remove(at) => {
                    let Some(key) = pick(&model, at) else { continue };
                    let (id, ..) = model.remove(&key).unwrap();
                    let entry = table.remove(id).unwrap();
                    table.bib.release(entry.bib);
                    prop_assert!(table.get(id).is_none());
                }
                Op::Touch(at, to) => {
                    let Some(key) = pick(&model, at) else { continue };
                    let known = model.get_mut(&key).unwrap();
                    table.touch(known.0, TCP[to], now);
                    (known.1, known.2) = (TCP[to], now);
                }
            }
        }
        check(&table, &model, now)?;
        for (id, ..) in model.into_values() {
            let entry = table.remove(id).unwrap();
            table.bib.release(entry.bib);
        }
        prop_assert_eq!((table.entries.len(), table.bib.len(), table.bib.remotes()), (0, 0, 0));
        prop_assert_eq!((table.half_open(), table.shares.heaviest()), (0, None));
        prop_assert_eq!(table.live(), Gauge::default());
    }
}

fn check(
    table: &SessionTable,
    model: &BTreeMap<(u16, u16, u8), Known>,
    now: Tick,
) -> Result<(), TestCaseError> {
    for ((host, port, last), (id, lifetime, last_used)) in model {
        let found = table.get(*id).unwrap();
        prop_assert_eq!(found.six, six(*host, *port, *last));
        prop_assert_eq!((found.lifetime, found.last_used), (*lifetime, *last_used));
        prop_assert_eq!(table.find_six(&found.six), Some(*id));
        prop_assert_eq!(table.find_four(&found.four), Some(*id), "not shared");
        let deadline = last_used.0 + table.lifetimes.of(*lifetime) + 1;
        prop_assert_eq!(table.deadline(&found), Tick(deadline));
    }
    let deadline = |known: &Known| known.2.0 + table.lifetimes.of(known.1) + 1;
    let next = model.values().map(deadline).min();
    prop_assert_eq!(table.next_expiry(), next.map(Tick));
    prop_assert_eq!(
        table.any_expired(now).is_some(),
        next.is_some_and(|next| next <= now.0)
    );
    let half_open = model
        .values()
        .filter(|known| known.1.share() == Share::HalfOpen)
        .count();
    prop_assert_eq!(table.half_open() as usize, half_open);
    prop_assert_eq!(table.live().tcp as usize, model.len());
    Ok(())
}

fn table() -> SessionTable {
    let key = Key::new([5; 16]);
    let pool = PoolRange::new([192, 168, 64, 192].into(), 28).unwrap();
    let bib = Bib::new(&[pool], 10_000, key);
    SessionTable::new(Limits::of(10_000), Lifetimes::default(), bib, key)
}

fn insert(table: &mut SessionTable, six: SixTuple, now: Tick) -> SessionId {
    let bib = table.bib.acquire(Remote::of(&six)).unwrap();
    let bound = table.bib.get(bib).unwrap();
    let four = FourTuple {
        transport: six.transport,
        pool: bound.addr,
        pool_port: bound.port,
        server: six.server,
        internal_port: 8080,
    };
    let new = New {
        six,
        four,
        bib,
        rule: RuleId(u32::from(six.server.octets()[3])),
        tcp: None,
        lifetime: Lifetime::TcpOpening,
    };
    table.insert(new, now).unwrap()
}

fn six(host: u16, port: u16, last: u8) -> SixTuple {
    SixTuple {
        transport: Transport::Tcp,
        remote: Ipv6Addr::new(0x2001, 0xdb8, 0, host % 7, 0, 0, 0, host),
        remote_port: port,
        nsp: NspId(0),
        server: Ipv4Addr::new(192, 168, 64, last),
        external_port: 80,
    }
}

fn pick(
    model: &BTreeMap<(u16, u16, u8), Known>,
    at: prop::sample::Index,
) -> Option<(u16, u16, u8)> {
    let at = (!model.is_empty()).then(|| at.index(model.len()))?;
    model.keys().nth(at).copied()
}
