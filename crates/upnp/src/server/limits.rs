//! How many connections there may be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The connections that are open, by source.
#[derive(Debug, Default)]
pub struct Slots {
    total: usize,
    by_source: BTreeMap<Ipv4Addr, usize>,
}

impl Slots {
    /// Takes a slot; `false` if there is none for this source.
    pub fn take(&mut self, source: Ipv4Addr) -> bool {
        let held = self.by_source.get(&source).copied().unwrap_or_default();
        if self.total >= MAX_CONNECTIONS || held >= MAX_PER_SOURCE {
            return false;
        }
        self.total = self.total.saturating_add(1);
        self.by_source.insert(source, held.saturating_add(1));
        true
    }

    /// Gives a slot back.
    pub fn release(&mut self, source: Ipv4Addr) {
        if let Some(held) = self.by_source.get_mut(&source) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.by_source.remove(&source);
            }
            self.total = self.total.saturating_sub(1);
        }
    }
}

/// A home has some dozens of control points, each with a connection for seconds.
const MAX_CONNECTIONS: usize = 64;

/// Control points open one or two at a time.
const MAX_PER_SOURCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_20_connections_are_limited_by_source_and_in_all() {
        let mut slots = Slots::default();
        let source = |n: usize| Ipv4Addr::from(0xc0a8_4000 + u32::try_from(n).unwrap());

        assert_eq!(
            (0..20).filter(|_| slots.take(source(0))).count(),
            MAX_PER_SOURCE
        );
        assert_eq!(
            (1..200).filter(|n| slots.take(source(*n))).count(),
            MAX_CONNECTIONS - MAX_PER_SOURCE
        );
        slots.release(source(0));
        slots.release(source(250));
        assert!(slots.take(source(201)) && !slots.take(source(202)));
    }
}
