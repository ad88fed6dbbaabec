//! Requests that wait for the writer's outcome, bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::caller::{Caller, Payer};

/// What waits for an outcome, by token.
///
/// A datagram that waits already is a retransmission: it is answered once, with the first.
#[derive(Debug)]
pub struct Pending<T> {
    limits: Limits,
    next: u64,
    waiting: BTreeMap<u64, Waiting<T>>,
    datagrams: BTreeSet<(Caller, Arc<[u8]>)>,
    clients: BTreeMap<Payer, usize>,
}

/// How much is done for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many requests of one client may wait at once, so that it cannot crowd out the others.
    pub per_client: usize,
    /// How many requests of all clients may wait at once.
    pub total: usize,
    /// How many datagrams of one client are answered in a second, after a burst.
    pub per_second: u32,
}

impl Default for Limits {
    /// The writer's queue is as long; the disk makes one client wait for much fewer, and keeps
    /// it from opening half as many ports in a second.
    fn default() -> Self {
        Self {
            per_client: 64,
            total: 1024,
            per_second: 8192,
        }
    }
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting<T> {
    /// Who asked, and is answered.
    pub caller: Caller,
    /// What it sent.
    pub datagram: Arc<[u8]>,
    /// What the machine wants to remember of it.
    pub asked: T,
}

/// What became of a request that wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Too many wait already.
    Overload,
    /// It waits under this token.
    Queued(u64),
    /// The same datagram of the same client waits already.
    Repeated,
}

impl<T> Pending<T> {
    /// Makes an empty one.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            waiting: BTreeMap::new(),
            datagrams: BTreeSet::new(),
            clients: BTreeMap::new(),
        }
    }

    /// Lets a request wait.
    pub fn admit(&mut self, caller: Caller, datagram: &[u8], asked: T) -> Admission {
        let datagram: Arc<[u8]> = Arc::from(datagram);
        let key = (caller, Arc::clone(&datagram));
        if self.datagrams.contains(&key) {
            return Admission::Repeated;
        }
        let count = self
            .clients
            .get(&caller.payer())
            .copied()
            .unwrap_or_default();
        if count >= self.limits.per_client || self.waiting.len() >= self.limits.total {
            return Admission::Overload;
        }
        let token = self.next;
        self.next = self.next.wrapping_add(1);
        self.datagrams.insert(key);
        self.clients.insert(caller.payer(), count.saturating_add(1));
        let waiting = Waiting {
            caller,
            datagram,
            asked,
        };
        self.waiting.insert(token, waiting);
        Admission::Queued(token)
    }

    /// Takes out what waits under a token.
    pub fn take(&mut self, token: u64) -> Option<Waiting<T>> {
        let waiting = self.waiting.remove(&token)?;
        let key = (waiting.caller, Arc::clone(&waiting.datagram));
        self.datagrams.remove(&key);
        let client = waiting.caller.payer();
        match self.clients.get(&client).copied() {
            Some(count) if count > 1 => {
                self.clients.insert(client, count - 1);
            }
            Some(_) | None => {
                self.clients.remove(&client);
            }
        }
        Some(waiting)
    }

    /// Returns how many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_crowd_out_another() {
        let mut pending = Pending::new(Limits {
            per_client: 2,
            total: 3,
            ..Limits::default()
        });

        assert_eq!(pending.admit(client(1), b"a", ()), Admission::Queued(0));
        assert_eq!(pending.admit(client(1), b"b", ()), Admission::Queued(1));
        assert_eq!(pending.admit(client(1), b"c", ()), Admission::Overload);
        assert_eq!(pending.admit(client(2), b"a", ()), Admission::Queued(2));
        assert_eq!(pending.admit(client(3), b"a", ()), Admission::Overload);
    }

    #[test]
    fn a_retransmission_waits_once_and_may_come_again_after_the_answer() {
        let mut pending = Pending::new(Limits::default());

        assert_eq!(pending.admit(client(1), b"a", 7), Admission::Queued(0));
        assert_eq!(pending.admit(client(1), b"a", 8), Admission::Repeated);
        assert_eq!(pending.take(0).map(|waiting| waiting.asked), Some(7));
        assert_eq!(pending.take(0), None);
        assert!(
            pending.waiting.is_empty()
                && pending.clients.is_empty()
                && pending.datagrams.is_empty()
        );
        assert_eq!(pending.admit(client(1), b"a", 9), Admission::Queued(1));
    }

    fn client(host: u8) -> Caller {
        Caller {
            source: ([192, 168, 64, host], 50_000).into(),
            local: [192, 168, 64, 1].into(),
            mac: None,
            on_link: false,
        }
    }
}
