//! The remotes that have bindings, and the pool address of each.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use crate::hash::Key;
use crate::table::{Chain, Chained, Index, Slab};

/// Remotes by address. A remote keeps one pool address for all its bindings (RFC 4787 REQ-2).
#[derive(Debug)]
pub(super) struct Hosts {
    entries: Slab<Host>,
    by_addr: Index<BY_ADDR>,
    key: Key,
}

/// A remote.
#[derive(Debug)]
pub(super) struct Host {
    addr: Ipv6Addr,
    pool: Ipv4Addr,
    bindings: NonZeroU32,
    chain: Chain,
}

/// Names a [`Host`]; never zero, so that an absent binding takes no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostId(NonZeroU32);

impl HostId {
    pub(super) const fn get(self) -> u32 {
        self.0.get() - 1
    }

    fn new(id: u32) -> Option<Self> {
        NonZeroU32::new(id.wrapping_add(1)).map(Self)
    }
}

impl Hosts {
    pub(super) fn new(capacity: u32, key: Key) -> Self {
        Self {
            entries: Slab::new(capacity),
            by_addr: Index::new(),
            key,
        }
    }

    pub(super) const fn len(&self) -> u32 {
        self.entries.len()
    }

    pub(super) fn find(&self, addr: Ipv6Addr) -> Option<HostId> {
        let is = |host: &Host| host.addr == addr;
        self.by_addr
            .find(&self.entries, self.key.addr(addr), is)
            .and_then(HostId::new)
    }

    /// Returns the address of a remote, and its pool address.
    pub(super) fn get(&self, id: HostId) -> Option<(Ipv6Addr, Ipv4Addr)> {
        let host = self.entries.get(id.get())?;
        Some((host.addr, host.pool))
    }

    /// Tells whether a remote has this address.
    pub(super) fn is(&self, id: HostId, addr: Ipv6Addr) -> bool {
        self.entries
            .get(id.get())
            .is_some_and(|host| host.addr == addr)
    }

    /// Counts one more binding of a remote.
    pub(super) fn bind(&mut self, id: HostId) {
        if let Some(host) = self.entries.get_mut(id.get()) {
            host.bindings = host.bindings.saturating_add(1);
        }
    }

    /// Adds a remote that is not among them, with one binding.
    pub(super) fn insert(&mut self, addr: Ipv6Addr, pool: Ipv4Addr) -> Option<HostId> {
        let key = self.key;
        let id = self.entries.insert(Host {
            addr,
            pool,
            bindings: NonZeroU32::MIN,
            chain: Chain::default(),
        })?;
        self.by_addr
            .insert(&mut self.entries, id, key.addr(addr), |host| {
                key.addr(host.addr)
            });
        HostId::new(id)
    }

    /// Counts one binding less; returns the pool address of a remote that has none left.
    pub(super) fn unbind(&mut self, id: HostId) -> Option<Ipv4Addr> {
        let host = self.entries.get_mut(id.get())?;
        if let Some(left) = NonZeroU32::new(host.bindings.get() - 1) {
            host.bindings = left;
            return None;
        }
        let hash = self.key.addr(host.addr);
        self.by_addr.remove(&mut self.entries, id.get(), hash);
        self.entries.remove(id.get()).map(|host| host.pool)
    }
}

impl Chained<BY_ADDR> for Host {
    fn chain(&self) -> Chain {
        self.chain
    }

    fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }
}

const BY_ADDR: usize = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_small() {
        assert_eq!(size_of::<Option<Host>>(), 28);
    }
}
