//! The prefixes that are valid now; several while the home is renumbered.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::pref64::Pref64;

/// Names a valid prefix; numbers of prefixes that have ended are given out again, after their
/// sessions have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NspId(pub(crate) u16);

/// The valid prefixes.
#[derive(Debug, Default)]
pub(crate) struct Nsps(Vec<Option<Pref64>>);

impl Nsps {
    /// Returns the prefix that `addr` lies in, and the IPv4 address inside it.
    pub(crate) fn extract(&self, addr: Ipv6Addr) -> Option<(NspId, Ipv4Addr)> {
        self.iter()
            .find_map(|(id, nsp)| Some((id, nsp.extract(addr)?)))
    }

    pub(crate) fn contains(&self, addr: Ipv6Addr) -> bool {
        self.iter().any(|(_, nsp)| nsp.contains(addr))
    }

    pub(crate) fn get(&self, id: NspId) -> Option<Pref64> {
        self.0.get(usize::from(id.0)).copied().flatten()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NspId, Pref64)> {
        (0..)
            .zip(&self.0)
            .filter_map(|(id, nsp)| Some((NspId(id), (*nsp)?)))
    }

    /// Makes a prefix valid; again changes nothing.
    pub(crate) fn add(&mut self, nsp: Pref64) {
        if self.0.contains(&Some(nsp)) {
            return;
        }
        match self.0.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(nsp),
            None => self.0.push(Some(nsp)),
        }
    }

    pub(crate) fn remove(&mut self, id: NspId) {
        if let Some(slot) = self.0.get_mut(usize::from(id.0)) {
            *slot = None;
        }
    }
}
