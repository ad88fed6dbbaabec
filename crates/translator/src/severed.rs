//! Connections that were cut because their port or prefix ended, so that both ends can be told.

use std::collections::{BTreeMap, VecDeque};

use crate::hash::Key;
use crate::session::{FourTuple, SixTuple, Tick};

/// Keyed hashes of connections as either end sees them, for a while, and of a bounded number.
///
/// Of a stranger's connection one in a million looks like one of them: it hears a reset as well.
#[derive(Debug)]
pub(crate) struct Severed {
    key: Key,
    /// Until when.
    ends: BTreeMap<u32, Tick>,
    /// The oldest first.
    order: VecDeque<[u32; 2]>,
    /// Until when the newest is known.
    last: Tick,
}

impl Severed {
    pub(crate) const fn new(key: Key) -> Self {
        Self {
            key,
            ends: BTreeMap::new(),
            order: VecDeque::new(),
            last: Tick(0),
        }
    }

    /// Remembers a connection; in place of the oldest where there is no room.
    pub(crate) fn add(&mut self, six: &SixTuple, four: &FourTuple, now: Tick) {
        while let Some(oldest) = self.order.front().copied()
            && (self.order.len() >= CAPACITY || oldest.iter().all(|end| !self.is_known(*end, now)))
        {
            self.order.pop_front();
            for end in oldest {
                self.ends.remove(&end);
            }
        }
        let ends = [self.key.six(six), self.key.four(four)];
        self.last = Tick(now.0.saturating_add(LIFETIME));
        for end in ends {
            self.ends.insert(end, self.last);
        }
        self.order.push_back(ends);
    }

    /// Tells whether no connection was cut of late.
    pub(crate) fn is_empty(&self, now: Tick) -> bool {
        now >= self.last
    }

    /// Tells whether a remote's connection was cut a while ago.
    pub(crate) fn has_six(&self, tuple: &SixTuple, now: Tick) -> bool {
        self.is_known(self.key.six(tuple), now)
    }

    /// As [`Self::has_six`], for a server's.
    pub(crate) fn has_four(&self, tuple: &FourTuple, now: Tick) -> bool {
        self.is_known(self.key.four(tuple), now)
    }

    fn is_known(&self, end: u32, now: Tick) -> bool {
        self.ends.get(&end).is_some_and(|until| now < *until)
    }
}

/// Some 300 kB.
const CAPACITY: usize = 4096;

/// Seconds: as long as RFC 5382 REQ-5 keeps what closes.
const LIFETIME: u32 = 240;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::nsps::NspId;
    use crate::transport::Transport;

    #[test]
    fn connection_is_known_for_four_minutes_by_either_end() {
        let mut severed = Severed::new(Key::new([7; 16]));
        severed.add(&six(1), &four(1), Tick(10));

        assert!(severed.has_six(&six(1), Tick(249)) && severed.has_four(&four(1), Tick(249)));
        assert!(!severed.has_six(&six(1), Tick(250)) && !severed.has_four(&four(1), Tick(250)));
        assert!(!severed.is_empty(Tick(249)) && severed.is_empty(Tick(250)));
        assert!(!severed.has_six(&six(2), Tick(10)) && !severed.has_four(&four(2), Tick(10)));

        severed.add(&six(2), &four(2), Tick(300));
        assert_eq!((severed.order.len(), severed.ends.len()), (1, 2));
    }

    #[test]
    fn number_is_bounded() {
        let mut severed = Severed::new(Key::new([7; 16]));
        for port in 0..10_000 {
            severed.add(&six(port), &four(port), Tick(10));
        }

        assert_eq!(severed.order.len(), CAPACITY);
        assert!(severed.ends.len() <= 2 * CAPACITY);
        assert!(severed.has_six(&six(9_999), Tick(10)) && !severed.has_six(&six(0), Tick(10)));
    }

    fn six(remote_port: u16) -> SixTuple {
        SixTuple {
            transport: Transport::Tcp,
            remote: Ipv6Addr::LOCALHOST,
            remote_port,
            nsp: NspId(0),
            server: Ipv4Addr::LOCALHOST,
            external_port: 80,
        }
    }

    fn four(pool_port: u16) -> FourTuple {
        FourTuple {
            transport: Transport::Tcp,
            pool: Ipv4Addr::LOCALHOST,
            pool_port,
            server: Ipv4Addr::LOCALHOST,
            internal_port: 80,
        }
    }
}
