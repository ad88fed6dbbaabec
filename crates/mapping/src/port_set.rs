//! Sets of ports that know their gaps.

use imbl::OrdMap;

/// A set of ports as runs without a gap, the first port of each with the last: the next port
/// that is not in it costs one look-up, however many are.
#[derive(Debug, Clone, Default)]
pub(crate) struct PortSet(OrdMap<u16, u16>);

impl PortSet {
    /// Adds a port that may be in the set.
    pub(crate) fn insert(&mut self, port: u16) {
        if self.run(port).is_some() {
            return;
        }
        let below = port.checked_sub(1).and_then(|below| self.run(below));
        let above = port.checked_add(1).and_then(|above| self.run(above));
        if let Some((first, _)) = above {
            self.0.remove(&first);
        }
        let first = below.map_or(port, |(first, _)| first);
        let last = above.map_or(port, |(_, last)| last);
        self.0.insert(first, last);
    }

    /// Takes out a port that may be in the set.
    pub(crate) fn remove(&mut self, port: u16) {
        let Some((first, last)) = self.run(port) else {
            return;
        };
        self.0.remove(&first);
        if first < port {
            self.0.insert(first, port.saturating_sub(1));
        }
        if port < last {
            self.0.insert(port.saturating_add(1), last);
        }
    }

    /// Returns the first port from `port` on that is not in the set.
    pub(crate) fn next_gap(&self, port: u16) -> Option<u16> {
        match self.run(port) {
            Some((_, last)) => last.checked_add(1),
            None => Some(port),
        }
    }

    fn run(&self, port: u16) -> Option<(u16, u16)> {
        let (first, last) = self.0.get_prev(&port)?;
        (port <= *last).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gap_behind_a_long_run_is_found_at_once() {
        let mut runs = PortSet::default();
        (1024..=65_535).rev().for_each(|port| runs.insert(port));
        assert_eq!(runs.next_gap(1024), None);
        assert_eq!((runs.0.len(), runs.next_gap(1023)), (1, Some(1023)));

        runs.remove(65_000);

        assert_eq!(runs.next_gap(1024), Some(65_000));
        assert_eq!((runs.0.len(), runs.next_gap(65_001)), (2, None));
    }

    proptest! {
        #[test]
        fn runs_are_the_set_that_they_stand_for(
            steps in prop::collection::vec((any::<bool>(), port()), 0..60),
            from in port(),
        ) {
            let (mut runs, mut set) = (PortSet::default(), BTreeSet::new());
            for (insert, port) in steps {
                if insert {
                    runs.insert(port);
                    set.insert(port);
                } else {
                    runs.remove(port);
                    set.remove(&port);
                }
                let begins = |port: &&u16| port.checked_sub(1).is_none_or(|it| !set.contains(&it));
                prop_assert_eq!(runs.0.len(), set.iter().filter(begins).count());
            }
            let expected = (from..=u16::MAX).find(|port| !set.contains(port));
            prop_assert_eq!(runs.next_gap(from), expected);
        }
    }

    fn port() -> impl Strategy<Value = u16> {
        prop_oneof![0..8_u16, 65_530..=u16::MAX]
    }
}
