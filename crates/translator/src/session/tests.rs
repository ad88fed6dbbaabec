use super::*;

#[test]
fn tally_stays_at_its_highest_values() {
    let mut tally = Tally::default();
    let traffic = |packets, bytes| Traffic { packets, bytes };
    for (more, total) in [
        (traffic(1, 40), traffic(1, 40)),
        (
            traffic(1 << 33, 1 << 50),
            traffic((1 << 33) + 1, (1 << 50) + 40),
        ),
        (
            traffic(1 << 40, 1 << 55),
            traffic(MAX_PACKETS, (1 << 55) + (1 << 50) + 40),
        ),
        (traffic(u64::MAX, u64::MAX), traffic(MAX_PACKETS, MAX_BYTES)),
    ] {
        tally.add(more);
        assert_eq!(tally.total(), total);
    }
}

#[test]
fn entry_is_small() {
    assert_eq!(size_of::<Option<Entry>>(), 88);
}
