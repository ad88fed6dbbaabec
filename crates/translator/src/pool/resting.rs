//! Ports of the pool that rest after their last session, so that what is still under way to the
//! remote that had them reaches nobody else (RFC 6888 REQ-8).

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::session::Tick;
use crate::table::{Link, Linked, List, Slab};
use crate::transport::Transport;

/// The ports that rest; bounded. Each is found by whose it was, by its age, and among those of its
/// address, so that no search gets longer with their number.
#[derive(Debug)]
pub(super) struct Resting {
    rests: Slab<Rest>,
    owners: HashMap<u32, u32>,
    /// The pool address of each remote, and how many of its ports rest.
    addrs: HashMap<u32, (Ipv4Addr, u32)>,
    /// In the order in which they rest.
    all: List<BY_AGE>,
    /// As before, those of one address.
    places: HashMap<(Transport, Ipv4Addr), List<BY_PLACE>>,
    at_most: u32,
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
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) transport: Transport,
    pub(super) addr: Ipv4Addr,
    pub(super) port: u16,
    owner: Owner,
    until: Tick,
    by_age: Link,
    by_place: Link,
}

impl Resting {
    /// Lets at most so many ports rest for so long.
    pub(super) fn new(at_most: u32, time: Duration) -> Self {
        Self {
            rests: Slab::new(at_most),
            owners: HashMap::new(),
            addrs: HashMap::new(),
            all: List::default(),
            places: HashMap::new(),
            at_most,
            seconds: u32::try_from(time.as_secs()).unwrap_or(u32::MAX),
        }
    }

    /// Tells whether ports rest at all.
    pub(super) const fn is_wanted(&self) -> bool {
        self.at_most > 0 && self.seconds > 0
    }

    /// Lets a port rest; [`Self::make_room`] and [`Self::take`] have been called for it. `false` when
    /// there is no room.
    pub(super) fn put(
        &mut self,
        owner: Owner,
        (transport, addr, port): (Transport, Ipv4Addr, u16),
        now: Tick,
    ) -> bool {
        let rest = self.rests.insert(Rest {
            transport,
            addr,
            port,
            owner,
            // a tick is a whole second: one more, so that nothing wakes early
            until: Tick(now.0.saturating_add(self.seconds).saturating_add(1)),
            by_age: Link::default(),
            by_place: Link::default(),
        });
        let Some(id) = rest else {
            return false;
        };
        self.all.push_back(&mut self.rests, id);
        let place = self.places.entry((transport, addr)).or_default();
        place.push_back(&mut self.rests, id);
        self.owners.insert(owner.binding, id);
        self.addrs.entry(owner.addr).or_insert((addr, 0)).1 += 1;
        true
    }

    /// Takes the port whose place another one of this owner needs: its own, or that of a binding
    /// with the same hash.
    pub(super) fn take(&mut self, owner: Owner) -> Option<Rest> {
        let id = self.owners.get(&owner.binding).copied()?;
        self.end(id)
    }

    /// Takes the port of a binding back if it is of this address.
    pub(super) fn take_at(&mut self, owner: Owner, addr: Ipv4Addr) -> Option<Rest> {
        let id = self.owners.get(&owner.binding).copied()?;
        let rest = self.rests.get(id)?;
        (rest.owner == owner && rest.addr == addr).then(|| self.end(id))?
    }

    /// Returns where a remote was, given its hash.
    pub(super) fn addr_of(&self, remote: u32) -> Option<Ipv4Addr> {
        self.addrs.get(&remote).map(|(addr, _)| *addr)
    }

    /// Takes a port that has rested for long enough.
    pub(super) fn due(&mut self, now: Tick) -> Option<Rest> {
        let oldest = self.all.head()?;
        let until = self.rests.get(oldest)?.until;
        (until <= now).then(|| self.end(oldest))?
    }

    /// Tells whether a port of an address rests.
    pub(super) fn any_at(&self, transport: Transport, addr: Ipv4Addr) -> bool {
        self.places.contains_key(&(transport, addr))
    }

    /// Takes the port of an address that has rested longest.
    pub(super) fn oldest_at(&mut self, transport: Transport, addr: Ipv4Addr) -> Option<Rest> {
        let oldest = self.places.get(&(transport, addr))?.head()?;
        self.end(oldest)
    }

    /// Takes the port that has to go before another one may rest.
    pub(super) fn make_room(&mut self) -> Option<Rest> {
        if self.rests.len() < self.at_most {
            return None;
        }
        self.end(self.all.head()?)
    }

    fn end(&mut self, id: u32) -> Option<Rest> {
        let (owner, place) = {
            let rest = self.rests.get(id)?;
            (rest.owner, (rest.transport, rest.addr))
        };
        self.all.unlink(&mut self.rests, id);
        if let Some(list) = self.places.get_mut(&place) {
            list.unlink(&mut self.rests, id);
            if list.len() == 0 {
                self.places.remove(&place);
            }
        }
        self.owners.remove(&owner.binding);
        if let Some((_, ports)) = self.addrs.get_mut(&owner.addr) {
            *ports -= 1;
            if *ports == 0 {
                self.addrs.remove(&owner.addr);
            }
        }
        self.rests.remove(id)
    }
}

impl Linked<BY_AGE> for Rest {
    fn link(&mut self) -> &mut Link {
        &mut self.by_age
    }

    fn peek(&self) -> &Link {
        &self.by_age
    }
}

impl Linked<BY_PLACE> for Rest {
    fn link(&mut self) -> &mut Link {
        &mut self.by_place
    }

    fn peek(&self) -> &Link {
        &self.by_place
    }
}

const BY_AGE: usize = 0;
const BY_PLACE: usize = 1;
