//! The prefixes that are valid now; several while the home is renumbered.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::pref64::Pref64;

/// Names a prefix; numbers of prefixes that have ended are given out again, after their sessions
/// have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NspId(pub(crate) u16);

/// The valid prefixes.
#[derive(Debug, Default)]
pub(crate) struct Nsps(Vec<Slot>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Nothing passes any more; there may be sessions still.
    Ended(Pref64),
    Free,
    Valid(Pref64),
}

impl Nsps {
    /// Returns the prefix that `addr` lies in, and the IPv4 address inside it.
    pub(crate) fn extract(&self, addr: Ipv6Addr) -> Option<(NspId, Ipv4Addr)> {
        self.iter()
            .find_map(|(id, nsp)| Some((id, nsp.extract(addr)?)))
    }

    pub(crate) fn contains(&self, addr: Ipv6Addr) -> bool {
        self.iter().any(|(_, nsp)| nsp.contains(addr))
    }

    /// Returns a prefix while it is valid.
    pub(crate) fn get(&self, id: NspId) -> Option<Pref64> {
        match self.0.get(usize::from(id.0))? {
            Slot::Valid(nsp) => Some(*nsp),
            Slot::Ended(_) | Slot::Free => None,
        }
    }

    /// Returns the address of a server in a prefix, even if the prefix has ended.
    pub(crate) fn embed(&self, id: NspId, server: Ipv4Addr) -> Option<Ipv6Addr> {
        match self.0.get(usize::from(id.0))? {
            Slot::Ended(nsp) | Slot::Valid(nsp) => Some(nsp.embed(server)),
            Slot::Free => None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NspId, Pref64)> {
        (0..).zip(&self.0).filter_map(|(id, slot)| match slot {
            Slot::Valid(nsp) => Some((NspId(id), *nsp)),
            Slot::Ended(_) | Slot::Free => None,
        })
    }

    /// Makes a prefix valid; again changes nothing.
    pub(crate) fn add(&mut self, nsp: Pref64) {
        if self.0.contains(&Slot::Valid(nsp)) {
            return;
        }
        match self.0.iter_mut().find(|slot| **slot == Slot::Free) {
            Some(slot) => *slot = Slot::Valid(nsp),
            None => self.0.push(Slot::Valid(nsp)),
        }
    }

    /// Lets nothing of a prefix pass any more; its number is kept until [`Self::free_ended`].
    pub(crate) fn end(&mut self, id: NspId) {
        if let Some(slot) = self.0.get_mut(usize::from(id.0))
            && let Slot::Valid(nsp) = *slot
        {
            *slot = Slot::Ended(nsp);
        }
    }

    /// Tells whether a prefix has ended whose number is kept.
    pub(crate) fn any_ended(&self) -> bool {
        self.0.iter().any(|slot| matches!(slot, Slot::Ended(_)))
    }

    /// Says that no session of a prefix that has ended is left.
    pub(crate) fn free_ended(&mut self) {
        for slot in &mut self.0 {
            if matches!(slot, Slot::Ended(_)) {
                *slot = Slot::Free;
            }
        }
    }
}
