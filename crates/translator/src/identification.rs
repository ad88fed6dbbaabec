//! Identifications of the IPv4 packets that routers may cut.

use std::net::Ipv4Addr;

use crate::hash::Key;

/// A counter for each pair of addresses, as far as a keyed hash tells them apart, each from a
/// start of its own: nobody can tell from the numbers that he gets which ones others will get
/// (RFC 7739 §5.3), and few come twice within the life of a packet (RFC 6864 §5.3.1).
#[derive(Debug)]
pub(crate) struct Identifications {
    key: Key,
    counters: Box<[u16]>,
}

impl Identifications {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            counters: vec![0; COUNTERS].into_boxed_slice(),
        }
    }

    /// Returns the first of as many numbers as `packets`.
    pub(crate) fn next(&mut self, src: Ipv4Addr, dst: Ipv4Addr, packets: usize) -> u16 {
        let [a, b, c, d] = self.key.pair(src, dst).to_be_bytes();
        let place = usize::from(u16::from_be_bytes([c, d])) % COUNTERS;
        let Some(counter) = self.counters.get_mut(place) else {
            return 0;
        };
        let id = u16::from_be_bytes([a, b]).wrapping_add(*counter);
        *counter = counter.wrapping_add(u16::try_from(packets).unwrap_or(u16::MAX));
        id
    }
}

const COUNTERS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const T: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 193);

    #[test]
    fn each_pair_counts_from_a_start_of_its_own() {
        let mut ids = Identifications::new(Key::new([7; 16]));
        let servers = [1, 2, 3, 4].map(|host| Ipv4Addr::new(192, 168, 64, host));

        let first = servers.map(|server| ids.next(T, server, 1));
        let second = servers.map(|server| ids.next(T, server, 45));
        let third = servers.map(|server| ids.next(T, server, 1));

        for at in 0..servers.len() {
            assert_eq!(second[at], first[at].wrapping_add(1));
            assert_eq!(third[at], second[at].wrapping_add(45));
            for other in 0..at {
                assert!(first[at].abs_diff(first[other]) > 3, "{first:?}");
            }
        }
    }

    #[test]
    fn start_is_another_one_with_another_key() {
        let of = |key| Identifications::new(Key::new([key; 16])).next(T, T, 1);
        assert_ne!(of(1), of(2));
    }
}
