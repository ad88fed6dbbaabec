//! Ports of the pool that rest after their last session, so that what is still under way to the
//! remote that had them reaches nobody else (RFC 6888 REQ-8).

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::session::Tick;
use crate::transport::Transport;

/// The ports that rest; bounded.
#[derive(Debug, Default)]
pub(super) struct Resting {
    /// By whose they were.
    ports: HashMap<u32, Rest>,
    /// The pool address of each remote, and how many of its ports rest.
    addrs: HashMap<u32, (Ipv4Addr, u32)>,
    /// In the order in which they rest; those that were taken back are passed over.
    queue: VecDeque<(Owner, Rest)>,
    at_most: usize,
    seconds: u32,
}

/// Whose a port was, as keyed hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Of the remote's address.
    pub(crate) addr: u32,
    /// Of all that names the binding.
    pub(crate) binding: u32,
}

/// A port that rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) transport: Transport,
    pub(super) addr: Ipv4Addr,
    pub(super) port: u16,
    until: Tick,
}

impl Resting {
    /// Lets at most so many ports rest for so long.
    pub(super) fn new(at_most: u32, time: Duration) -> Self {
        Self {
            at_most: usize::try_from(at_most).unwrap_or(usize::MAX),
            seconds: u32::try_from(time.as_secs()).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    /// Tells whether ports rest at all.
    pub(super) const fn is_wanted(&self) -> bool {
        self.at_most > 0 && self.seconds > 0
    }

    /// Lets a port rest; [`Self::make_room`] and [`Self::take`] have been called for it.
    pub(super) fn put(
        &mut self,
        owner: Owner,
        (transport, addr, port): (Transport, Ipv4Addr, u16),
        now: Tick,
    ) {
        let rest = Rest {
            transport,
            addr,
            port,
            // a tick is a whole second: one more, so that nothing wakes early
            until: Tick(now.0.saturating_add(self.seconds).saturating_add(1)),
        };
        self.ports.insert(owner.binding, rest);
        self.addrs.entry(owner.addr).or_insert((addr, 0)).1 += 1;
        self.queue.push_back((owner, rest));
    }

    /// Takes the port of a binding back.
    pub(super) fn take(&mut self, owner: Owner) -> Option<Rest> {
        let rest = self.ports.remove(&owner.binding)?;
        if let Some((_, ports)) = self.addrs.get_mut(&owner.addr) {
            *ports -= 1;
            if *ports == 0 {
                self.addrs.remove(&owner.addr);
            }
        }
        Some(rest)
    }

    /// Returns the port of a binding.
    pub(super) fn find(&self, owner: Owner) -> Option<Rest> {
        self.ports.get(&owner.binding).copied()
    }

    /// Returns where a remote was, given its hash.
    pub(super) fn addr_of(&self, remote: u32) -> Option<Ipv4Addr> {
        self.addrs.get(&remote).map(|(addr, _)| *addr)
    }

    /// Takes a port that has rested for long enough.
    pub(super) fn due(&mut self, now: Tick) -> Option<Rest> {
        self.next(|rest| rest.until <= now)
    }

    /// Takes the port that has rested longest.
    pub(super) fn oldest(&mut self) -> Option<Rest> {
        self.next(|_| true)
    }

    /// Takes the port that has to go before another one may rest.
    pub(super) fn make_room(&mut self) -> Option<Rest> {
        if self.queue.len() < self.at_most {
            return None;
        }
        let (owner, rest) = self.queue.pop_front()?;
        self.wake(owner, rest)
    }

    fn next(&mut self, is_due: impl Fn(&Rest) -> bool) -> Option<Rest> {
        while let Some((owner, rest)) = self.queue.pop_front_if(|(_, rest)| is_due(rest)) {
            if let Some(rest) = self.wake(owner, rest) {
                return Some(rest);
            }
        }
        None
    }

    /// Takes a port unless it was taken back before.
    fn wake(&mut self, owner: Owner, rest: Rest) -> Option<Rest> {
        (self.find(owner) == Some(rest)).then(|| self.take(owner))?
    }
}
