use super::*;
use crate::wire::udp;

#[test]
fn source_with_its_share_makes_room_for_itself() {
    let mut table = table(8 * 10_000);
    let mut drops = Drops::default();
    assert_eq!(first(&mut table, &mut drops, 1, 0), Ok(false));
    for id in 0..50 {
        assert_eq!(first(&mut table, &mut drops, 2, id), Ok(false));
    }

    let held: Vec<_> = table
        .datagrams
        .keys()
        .map(|key| (key.src, key.id))
        .collect();
    let mut expected = vec![(source(1), 0)];
    let share = table.bytes_of[&source(2)] / table.datagrams[&key(2, 49)].bytes();
    expected.extend((50 - u32::try_from(share).unwrap()..50).map(|id| (source(2), id)));
    assert_eq!(held, expected);
    assert_eq!(drops.get(DropReason::FragmentEvicted), 50 - share as u64);
    check(&table);
}

#[test]
fn who_has_waited_longest_for_a_useful_part_makes_room_for_others() {
    let mut table = table(100_000);
    let mut drops = Drops::default();
    let mut sources = 1..;
    while table.bytes + table.bytes / table.datagrams.len().max(1) <= table.limits.bytes {
        let source = sources.next().unwrap();
        assert_eq!(first(&mut table, &mut drops, source, 7), Ok(false));
    }
    // the first one goes on, the second one only repeats itself
    let more = |source| piece(source, 7, 800, true);
    let again = |source| piece(source, 7, 0, true);
    let data = [0; 800];
    let now = Instant::from_nanos(1);
    let result = table.insert(&more(1), &data, now, &mut drops);
    assert!(matches!(result, Ok(None)));
    let result = table.insert(&again(2), &data, now, &mut drops);
    assert_eq!(result.err(), Some(DropReason::FragmentDuplicate));

    for _ in 0..2 {
        let source = sources.next().unwrap();
        assert_eq!(first(&mut table, &mut drops, source, 7), Ok(false));
    }

    let left = |source| table.datagrams.contains_key(&key(source, 7));
    assert_eq!([1, 2, 3, 4].map(left), [true, false, false, true]);
    check(&table);
}

#[test]
fn without_room_for_one_datagram_nothing_is_held() {
    for (bytes, datagrams) in [(0, 10), (1000, 10), (1_000_000, 0)] {
        let limits = Limits {
            bytes,
            datagrams,
            lifetime: Duration::from_secs(2),
        };
        let mut table = Reassembly::new(limits);
        let mut drops = Drops::default();

        let result = first(&mut table, &mut drops, 1, 1);

        assert_eq!(result, Err(DropReason::FragmentEvicted));
        assert_eq!(table.bytes, 0);
        check(&table);
    }
}

fn first(
    table: &mut Reassembly<Ipv4Addr>,
    drops: &mut Drops,
    source: u8,
    id: u32,
) -> Result<bool, DropReason> {
    let piece = piece(source, id, 0, true);
    let whole = table.insert(&piece, &[0; 800], Instant::from_nanos(0), drops)?;
    Ok(whole.is_some())
}

/// The indexes say the same.
fn check(table: &Reassembly<Ipv4Addr>) {
    let bytes: usize = table
        .datagrams
        .values()
        .map(|datagram| datagram.bytes())
        .sum();
    assert_eq!(table.bytes, bytes);
    assert_eq!(table.bytes_of.values().sum::<usize>(), bytes);
    assert!(table.bytes <= table.limits.bytes);
    let count = table.datagrams.len();
    let indexes = [
        table.by_deadline.len(),
        table.by_use.len(),
        table.by_source.len(),
    ];
    assert_eq!(indexes, [count; 3]);
}

fn table(bytes: usize) -> Reassembly<Ipv4Addr> {
    Reassembly::new(Limits {
        bytes,
        datagrams: 1000,
        lifetime: Duration::from_secs(2),
    })
}

fn source(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

fn key(number: u8, id: u32) -> Key<Ipv4Addr> {
    Key {
        src: source(number),
        dst: source(0),
        id,
        protocol: udp::PROTOCOL,
    }
}

fn piece(number: u8, id: u32, offset: usize, more: bool) -> Piece<Ipv4Addr> {
    Piece {
        src: source(number),
        dst: source(0),
        id,
        protocol: udp::PROTOCOL,
        tos: 0,
        ttl: 64,
        offset,
        more,
        data: 0..800,
    }
}
