//! The ports of one upstream gateway: when each is due, and which are queued to be asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use mapping::Instant;

use crate::port::{Phase, Port, PortKey, PortState};

/// Every step costs the logarithm of the number of ports.
#[derive(Debug)]
pub(crate) struct PortTable {
    ports: BTreeMap<PortKey, Port>,
    due: BTreeSet<(Instant, PortKey)>,
    line: BTreeSet<PortKey>,
}

impl PortTable {
    pub(crate) const fn new() -> Self {
        Self {
            ports: BTreeMap::new(),
            due: BTreeSet::new(),
            line: BTreeSet::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    pub(crate) fn get(&self, key: PortKey) -> Option<&Port> {
        self.ports.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: PortKey) -> Option<&mut Port> {
        self.ports.get_mut(&key)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&PortKey, &mut Port)> {
        self.ports.iter_mut()
    }

    pub(crate) fn want(&mut self, key: PortKey, make: impl FnOnce() -> Port) -> &mut Port {
        self.ports.entry(key).or_insert_with(make)
    }

    pub(crate) fn states(&self) -> impl Iterator<Item = (PortKey, Ipv4Addr, PortState)> {
        let ports = self.ports.iter();
        ports.map(|(key, port)| (*key, port.server, port.state()))
    }

    /// Takes a port whose time has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<PortKey> {
        let (_, key) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.set_due(key, None);
        Some(key)
    }

    pub(crate) fn first_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(crate) fn set_due(&mut self, key: PortKey, due: Option<Instant>) {
        let Some(port) = self.ports.get_mut(&key) else {
            return;
        };
        self.line.remove(&key);
        if let Some(old) = std::mem::replace(&mut port.due, due) {
            self.due.remove(&(old, key));
        }
        if let Some(due) = due {
            self.due.insert((due, key));
        }
    }

    pub(crate) fn line_up(&mut self, key: PortKey) {
        self.set_due(key, None);
        if self.ports.contains_key(&key) {
            self.line.insert(key);
        }
    }

    /// Puts every port that is asked for in line, from the beginning; returns which.
    pub(crate) fn line_up_asking(&mut self) -> Vec<PortKey> {
        let asking = |(key, port): (&PortKey, &mut Port)| {
            let asking = matches!(port.phase, Phase::Asking { .. });
            asking.then(|| {
                port.phase = Phase::FRESH;
                *key
            })
        };
        let keys: Vec<_> = self.ports.iter_mut().filter_map(asking).collect();
        for key in &keys {
            self.line_up(*key);
        }
        keys
    }

    /// Takes the first one in line.
    pub(crate) fn next(&mut self) -> Option<PortKey> {
        self.line.pop_first()
    }

    /// Takes the first one in line that is among `some`.
    pub(crate) fn next_of(&mut self, some: &BTreeSet<PortKey>) -> Option<PortKey> {
        let key = some.iter().find(|key| self.line.contains(key)).copied()?;
        self.line.remove(&key);
        Some(key)
    }

    /// Nothing is due and nothing stands in line; what was to be closed is forgotten.
    pub(crate) fn rest(&mut self) {
        self.due.clear();
        self.line.clear();
        self.forget_closing();
        for port in self.ports.values_mut() {
            port.due = None;
            port.phase = Phase::FRESH;
        }
    }

    pub(crate) fn forget_closing(&mut self) {
        let closing = |(key, port): (&PortKey, &Port)| {
            matches!(port.phase, Phase::Closing { .. }).then_some(*key)
        };
        let keys: Vec<_> = self.ports.iter().filter_map(closing).collect();
        for key in keys {
            self.forget(key);
        }
    }

    pub(crate) fn forget(&mut self, key: PortKey) {
        self.set_due(key, None);
        self.ports.remove(&key);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }
}
