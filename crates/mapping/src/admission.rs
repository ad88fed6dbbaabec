//! What the translator passes, and how that changed from one revision to another.

use std::net::Ipv4Addr;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::{ExternalPort, Filters, InternalPort, Protocol, Revision};

/// Where admitted packets go, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionRule {
    /// Where the server listens.
    pub internal: InternalPort,
    /// Whom the rule admits.
    pub filters: Filters,
}

impl AdmissionRule {
    /// Returns a rule that admits everybody.
    #[must_use]
    pub fn to(internal: InternalPort) -> Self {
        Self {
            internal,
            filters: Filters::default(),
        }
    }
}

/// A change of what the translator passes, see [`crate::Snapshot::admission_changes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Packets to (server, protocol, external port) stop.
    Close(Ipv4Addr, Protocol, ExternalPort),
    /// Packets to (server, protocol, external port) follow the rule.
    Open(Ipv4Addr, Protocol, ExternalPort, AdmissionRule),
}

/// Server, protocol and external port.
pub(crate) type Key = (Ipv4Addr, Protocol, ExternalPort);

/// The rules of one revision.
///
/// The structural difference of two of them walks down to every node that both share beside the
/// changed ones, so its cost grows with the table. Who follows closely is told instead which
/// rules the last revisions touched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admissions {
    rules: OrdMap<Key, AdmissionRule>,
    /// What the last revisions touched, oldest first.
    touched: Arc<[Touched]>,
    /// Who has seen this revision finds every later touch in `touched`.
    since: Revision,
    /// What the batch under way touches.
    touching: Vec<Key>,
}

#[derive(Debug, Clone)]
struct Touched {
    revision: Revision,
    keys: Arc<[Key]>,
}

impl Admissions {
    pub(crate) fn insert(&mut self, key: Key, rule: AdmissionRule) {
        self.rules.insert(key, rule);
        self.touching.push(key);
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if self.rules.remove(key).is_some() {
            self.touching.push(*key);
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&AdmissionRule> {
        self.rules.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &AdmissionRule)> {
        self.rules.iter()
    }

    /// Ends the batch that makes `revision`.
    pub(crate) fn finish(&mut self, revision: Revision) {
        if self.touching.is_empty() {
            return;
        }
        let keys = std::mem::take(&mut self.touching);
        if keys.len() > KEYS_KEPT {
            return self.forget(revision);
        }
        let surplus = self.touched.len().saturating_sub(BATCHES_KEPT - 1);
        let (forgotten, kept) = self.touched.split_at(surplus);
        if let Some(last) = forgotten.last() {
            self.since = last.revision;
        }
        let newest = Touched {
            revision,
            keys: keys.into(),
        };
        self.touched = kept.iter().cloned().chain([newest]).collect();
    }

    /// Nobody is told what was touched up to `revision`.
    pub(crate) fn forget(&mut self, revision: Revision) {
        self.touching.clear();
        self.touched = Arc::default();
        self.since = revision;
    }

    /// Returns what changed since `old`, which was true at revision `seen`: everything that
    /// closes, then everything that opens.
    pub(crate) fn changes(&self, old: &Self, seen: Revision) -> Vec<Admission> {
        let (mut closed, mut opened) = (Vec::new(), Vec::new());
        let mut change = |key: &Key, before: Option<&AdmissionRule>, after| {
            let (server, protocol, port) = *key;
            // other filters alone end nobody's session that they still admit
            let moves = |after: Option<&AdmissionRule>| {
                before.is_some() && before.map(|it| it.internal) != after.map(|it| it.internal)
            };
            if moves(after) {
                closed.push(Admission::Close(server, protocol, port));
            }
            if let Some(rule) = after.filter(|_| before != after) {
                opened.push(Admission::Open(server, protocol, port, rule.clone()));
            }
        };
        if seen >= self.since {
            let recent = self.touched.iter().filter(|it| it.revision > seen);
            let mut keys: Vec<_> = recent.flat_map(|it| it.keys.iter()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                change(key, old.rules.get(key), self.rules.get(key));
            }
        } else {
            for item in old.rules.diff(&self.rules) {
                match item {
                    DiffItem::Add(key, rule) => change(key, None, Some(rule)),
                    DiffItem::Remove(key, rule) => change(key, Some(rule), None),
                    DiffItem::Update {
                        old: (_, before),
                        new: (key, after),
                    } => change(key, Some(before), Some(after)),
                }
            }
        }
        closed.append(&mut opened);
        closed
    }
}

/// A follower that falls further behind takes the structural difference.
const BATCHES_KEPT: usize = 16;

/// Of one batch; where more is touched, the table is walked anyway.
const KEYS_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_touched_tells_the_structural_difference(
            batches in prop::collection::vec(
                prop::collection::vec((0..24_u16, prop::option::of(1..4_u16)), 0..6),
                1..40,
            ),
        ) {
            let mut seen = vec![(Revision(7), Admissions::default())];
            let mut now = Admissions::default();
            for (batch, revision) in batches.iter().zip(8..) {
                for (port, internal) in batch {
                    match internal.and_then(InternalPort::new) {
                        Some(internal) => now.insert(key(*port), AdmissionRule::to(internal)),
                        None => now.remove(&key(*port)),
                    }
                }
                now.finish(Revision(revision));
                for (at, old) in &seen {
                    let mut blind = now.clone();
                    blind.forget(Revision(u64::MAX));
                    prop_assert_eq!(now.changes(old, *at), blind.changes(old, *at));
                }
                seen.push((Revision(revision), now.clone()));
            }
        }
    }

    #[test]
    fn only_who_fell_behind_walks_the_table() {
        let mut now = Admissions::default();
        let rule = || AdmissionRule::to(InternalPort::new(80).unwrap());
        for revision in 1..=BATCHES_KEPT as u64 {
            now.insert(key(1), rule());
            now.finish(Revision(revision));
        }
        assert_eq!(now.since, Revision(0));

        now.remove(&key(1));
        now.finish(Revision(100));
        assert_eq!((now.since, now.touched.len()), (Revision(1), BATCHES_KEPT));

        let most = u16::try_from(KEYS_KEPT).unwrap();
        (0..=most).for_each(|port| now.insert(key(port), rule()));
        now.finish(Revision(101));
        assert_eq!((now.since, now.touched.len()), (Revision(101), 0));
    }

    fn key(port: u16) -> Key {
        let port = ExternalPort::new(1000 + port).unwrap();
        (Ipv4Addr::new(192, 168, 64, 20), Protocol::Tcp, port)
    }
}
