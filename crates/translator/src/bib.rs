//! The binding information base: which transport address stands for a remote (RFC 6146 §3.1).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::hash::Key;
use crate::nsps::NspId;
use crate::pool::{Pool, PoolRange};
use crate::session::SixTuple;
use crate::table::{Chain, Chained, Index, Slab};
use crate::transport::Transport;

/// A remote's transport address. A remote that speaks to two prefix generations from one port
/// gets two bindings, since in IPv4 the destinations are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) transport: Transport,
    pub(crate) addr: Ipv6Addr,
    pub(crate) port: u16,
    pub(crate) nsp: NspId,
}

impl Remote {
    pub(crate) const fn of(tuple: &SixTuple) -> Self {
        Self {
            transport: tuple.transport,
            addr: tuple.remote,
            port: tuple.remote_port,
            nsp: tuple.nsp,
        }
    }
}

/// A binding; it lives as long as a session uses it.
#[derive(Debug)]
pub(crate) struct Entry {
    remote: Remote,
    /// `T`.
    pub(crate) addr: Ipv4Addr,
    /// `t`.
    pub(crate) port: u16,
    sessions: u32,
    chain: Chain,
}

impl Entry {
    pub(crate) const fn remote(&self) -> Remote {
        self.remote
    }
}

impl Chained<BY_REMOTE> for Entry {
    fn chain(&self) -> Chain {
        self.chain
    }

    fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }
}

/// All bindings, endpoint-independent (RFC 4787 REQ-1).
#[derive(Debug)]
pub(crate) struct Bib {
    entries: Slab<Entry>,
    by_remote: Index<BY_REMOTE>,
    pool: Pool,
    key: Key,
}

/// Names an [`Entry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BibId(u32);

impl Bib {
    pub(crate) fn new(pool: &[PoolRange], capacity: u32, key: Key) -> Self {
        Self {
            entries: Slab::new(capacity),
            by_remote: Index::new(),
            pool: Pool::new(pool),
            key,
        }
    }

    /// Tells whether an address is one of the pool's.
    pub(crate) fn contains(&self, addr: Ipv4Addr) -> bool {
        self.pool.contains(addr)
    }

    pub(crate) fn get(&self, id: BibId) -> Option<&Entry> {
        self.entries.get(id.0)
    }

    /// Returns the binding of a remote, made now if there is none; [`Self::release`] gives it
    /// back.
    pub(crate) fn acquire(&mut self, remote: Remote) -> Option<BibId> {
        let hash = self.key.remote(&remote);
        let is = |entry: &Entry| entry.remote == remote;
        let found = self.by_remote.find(&self.entries, hash, is);
        if let Some(id) = found {
            self.entries.get_mut(id)?.sessions += 1;
            return Some(BibId(id));
        }
        if self.entries.is_full() {
            return None;
        }
        let spread = (hash >> 16) as u16;
        let (addr, port) = self.pool.allocate(remote.transport, remote.port, spread)?;
        let id = self.entries.insert(Entry {
            remote,
            addr,
            port,
            sessions: 1,
            chain: Chain::default(),
        })?;
        let key = self.key;
        let hash_of = |entry: &Entry| key.remote(&entry.remote);
        self.by_remote.insert(&mut self.entries, id, hash, hash_of);
        Some(BibId(id))
    }

    /// Says that a session no longer uses a binding.
    pub(crate) fn release(&mut self, id: BibId) {
        let Some(entry) = self.entries.get_mut(id.0) else {
            return;
        };
        entry.sessions -= 1;
        if entry.sessions > 0 {
            return;
        }
        let (remote, addr, port) = (entry.remote, entry.addr, entry.port);
        let hash = self.key.remote(&remote);
        self.by_remote.remove(&mut self.entries, id.0, hash);
        self.entries.remove(id.0);
        self.pool.release(remote.transport, addr, port);
    }
}

const BY_REMOTE: usize = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n6_5_binding_is_shared_until_its_last_session_ends() {
        let mut bib = bib();
        let first = bib.acquire(remote(1)).unwrap();

        assert_eq!(bib.acquire(remote(1)), Some(first));
        bib.release(first);
        assert!(bib.get(first).is_some());
        bib.release(first);
        assert!(bib.get(first).is_none());
    }

    #[test]
    fn n6_6_two_remotes_with_one_port_number_get_different_pool_ports() {
        let mut bib = bib();
        let ids = [1, 2].map(|host| bib.acquire(remote(host)).unwrap());
        let [first, second] = ids.map(|id| bib.get(id).map(|entry| (entry.addr, entry.port)));

        assert_eq!(first.unwrap().1, 5000);
        assert_ne!(first, second);
    }

    fn bib() -> Bib {
        let range = PoolRange::new([192, 168, 64, 192].into(), 26).unwrap();
        Bib::new(&[range], 8, Key::new([3; 16]))
    }

    fn remote(host: u16) -> Remote {
        let addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host);
        Remote {
            transport: Transport::Tcp,
            addr,
            port: 5000,
            nsp: NspId(0),
        }
    }
}
