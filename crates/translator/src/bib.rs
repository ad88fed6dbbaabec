//! The binding information base: which transport address stands for a remote (RFC 6146 §3.1).

mod hosts;

use std::net::{Ipv4Addr, Ipv6Addr};

use hosts::{HostId, Hosts};

use crate::hash::Key;
use crate::nsps::NspId;
use crate::pool::{Owner, Pool, PoolRange};
use crate::session::{SixTuple, Tick};
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

/// A binding as it is kept.
#[derive(Debug)]
struct Entry {
    host: HostId,
    addr: Ipv4Addr,
    port: u16,
    remote_port: u16,
    kind: Kind,
    sessions: u16,
    chain: Chain,
}

/// A binding; it lives as long as a session uses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding {
    pub(crate) remote: Remote,
    /// `T`.
    pub(crate) addr: Ipv4Addr,
    /// `t`.
    pub(crate) port: u16,
}

/// All bindings, endpoint-independent (RFC 4787 REQ-1).
#[derive(Debug)]
pub(crate) struct Bib {
    entries: Slab<Entry>,
    by_remote: Index<BY_REMOTE>,
    hosts: Hosts,
    pub(crate) pool: Pool,
    key: Key,
}

/// Names a [`Binding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BibId(u32);

impl Bib {
    pub(crate) fn new(pool: &[PoolRange], capacity: u32, key: Key) -> Self {
        Self {
            entries: Slab::new(capacity),
            by_remote: Index::new(),
            hosts: Hosts::new(capacity, key),
            pool: Pool::new(pool),
            key,
        }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.entries.len()
    }

    /// Returns how many remotes have bindings.
    pub(crate) const fn remotes(&self) -> u32 {
        self.hosts.len()
    }

    /// Returns the pool address of a remote that has bindings.
    pub(crate) fn addr_of(&self, remote: Ipv6Addr) -> Option<Ipv4Addr> {
        let (_, addr) = self.hosts.get(self.hosts.find(remote)?)?;
        Some(addr)
    }

    /// Tells whether an address is one of the pool's.
    pub(crate) fn contains(&self, addr: Ipv4Addr) -> bool {
        self.pool.contains(addr)
    }

    /// Returns the address from which routers speak that have none in IPv4, and we ourselves.
    pub(crate) const fn router(&self) -> Ipv4Addr {
        self.pool.router()
    }

    /// Tells whether an address of the pool stands for a remote now.
    pub(crate) fn is_used(&self, addr: Ipv4Addr) -> bool {
        self.pool.is_used(addr)
    }

    /// Tells whether there are no addresses to bind to.
    pub(crate) fn pool_is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    pub(crate) fn get(&self, id: BibId) -> Option<Binding> {
        let entry = self.entries.get(id.0)?;
        let (addr, _) = self.hosts.get(entry.host)?;
        let (transport, nsp) = entry.kind.parts();
        Some(Binding {
            remote: Remote {
                transport,
                addr,
                port: entry.remote_port,
                nsp,
            },
            addr: entry.addr,
            port: entry.port,
        })
    }

    /// Tells whether a binding is that of a remote.
    pub(crate) fn is_of(&self, id: BibId, remote: &Remote) -> bool {
        let kind = Kind::new(remote.transport, remote.nsp);
        self.entries.get(id.0).is_some_and(|entry| {
            entry.remote_port == remote.port
                && Some(entry.kind) == kind
                && self.hosts.is(entry.host, remote.addr)
        })
    }

    /// Returns for what a binding stands in IPv4, which takes less than all of it.
    pub(crate) fn bound(&self, id: BibId) -> Option<(Transport, Ipv4Addr, u16)> {
        let entry = self.entries.get(id.0)?;
        let (transport, _) = entry.kind.parts();
        Some((transport, entry.addr, entry.port))
    }

    /// Tells whether the end of one session is the end of a binding.
    pub(crate) fn has_one_session(&self, id: BibId) -> bool {
        self.entries
            .get(id.0)
            .is_some_and(|entry| entry.sessions == 1)
    }

    /// Returns the binding of a remote, made now if there is none; [`Self::release`] gives it
    /// back.
    pub(crate) fn acquire(&mut self, remote: Remote) -> Option<BibId> {
        let host = self.hosts.find(remote.addr);
        if let Some(id) = host.and_then(|host| self.find(host, &remote)) {
            return self.share(id);
        }
        if self.entries.is_full() {
            return None;
        }
        let (transport, wanted) = (remote.transport, remote.port);
        let owner = self.owner(&remote);
        let addr = match host {
            Some(host) => self.hosts.get(host)?.1,
            None => self.pool.join(owner.addr, transport, wanted)?,
        };
        let spread = (owner.binding >> 16) as u16;
        let port = self.pool.take_back(owner, addr);
        match port.or_else(|| self.pool.take(transport, addr, wanted, spread)) {
            Some(port) => self.insert(host, remote, (addr, port)),
            None => {
                if host.is_none() {
                    self.pool.leave(addr);
                }
                None
            }
        }
    }

    /// Binds a remote to this pool address and port, or says that it is bound to them already;
    /// `None` when that cannot be. [`Self::release`] gives the binding back.
    pub(crate) fn bind(&mut self, remote: Remote, addr: Ipv4Addr, port: u16) -> Option<BibId> {
        let host = self.hosts.find(remote.addr);
        if let Some(id) = host.and_then(|host| self.find(host, &remote)) {
            let entry = self.entries.get(id)?;
            if (entry.addr, entry.port) != (addr, port) {
                return None;
            }
            return self.share(id);
        }
        if self.entries.is_full() || !self.pool.claim(remote.transport, addr, port) {
            return None;
        }
        let own = host.and_then(|host| self.hosts.get(host));
        if own.is_some_and(|(_, own)| own == addr) {
            self.pool.leave(addr);
        }
        self.insert(host, remote, (addr, port))
    }

    /// Says that a session no longer uses a binding.
    pub(crate) fn release(&mut self, id: BibId) {
        self.unuse(id, None);
    }

    /// As [`Self::release`]; the port of the last session rests.
    pub(crate) fn retire(&mut self, id: BibId, now: Tick) {
        self.unuse(id, Some(now));
    }

    fn unuse(&mut self, id: BibId, rests: Option<Tick>) {
        let Some(entry) = self.entries.get_mut(id.0) else {
            return;
        };
        entry.sessions -= 1;
        if entry.sessions > 0 {
            return;
        }
        let (host, hash) = (entry.host, entry.hash(self.key));
        let remote = self.get(id).map(|binding| binding.remote);
        self.by_remote.remove(&mut self.entries, id.0, hash);
        let Some(entry) = self.entries.remove(id.0) else {
            return;
        };
        let (transport, _) = entry.kind.parts();
        let port = (transport, entry.addr, entry.port);
        // RFC 6888 REQ-8 a: TCP sessions are tracked to their end.
        match (remote, rests.filter(|_| transport != Transport::Tcp)) {
            (Some(remote), Some(now)) => self.pool.rest(self.owner(&remote), port, now),
            _ => self.pool.release(transport, entry.addr, entry.port),
        }
        if self
            .hosts
            .get(host)
            .is_some_and(|(_, own)| own != entry.addr)
        {
            self.pool.leave(entry.addr);
        }
        if let Some(own) = self.hosts.unbind(host) {
            self.pool.leave(own);
        }
    }

    fn owner(&self, remote: &Remote) -> Owner {
        Owner {
            addr: self.key.addr(remote.addr),
            binding: self.key.remote(remote),
        }
    }

    fn find(&self, host: HostId, remote: &Remote) -> Option<u32> {
        let kind = Kind::new(remote.transport, remote.nsp)?;
        let hash = self.key.binding(host.get(), remote.port, kind.0);
        self.by_remote.find(&self.entries, hash, |entry| {
            (entry.host, entry.remote_port, entry.kind) == (host, remote.port, kind)
        })
    }

    fn share(&mut self, id: u32) -> Option<BibId> {
        let entry = self.entries.get_mut(id)?;
        entry.sessions = entry.sessions.checked_add(1)?;
        Some(BibId(id))
    }

    /// Adds a binding whose pool port is taken; there is room for it.
    fn insert(
        &mut self,
        host: Option<HostId>,
        remote: Remote,
        (addr, port): (Ipv4Addr, u16),
    ) -> Option<BibId> {
        let kind = Kind::new(remote.transport, remote.nsp)?;
        let host = match host {
            Some(host) => {
                self.hosts.bind(host);
                host
            }
            None => self.hosts.insert(remote.addr, addr)?,
        };
        let entry = Entry {
            host,
            addr,
            port,
            remote_port: remote.port,
            kind,
            sessions: 1,
            chain: Chain::default(),
        };
        let (key, hash) = (self.key, entry.hash(self.key));
        let id = self.entries.insert(entry)?;
        self.by_remote
            .insert(&mut self.entries, id, hash, |entry| entry.hash(key));
        Some(BibId(id))
    }
}

impl Entry {
    fn hash(&self, key: Key) -> u32 {
        key.binding(self.host.get(), self.remote_port, self.kind.0)
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

/// A transport and a prefix in two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind(u16);

impl Kind {
    fn new(transport: Transport, nsp: NspId) -> Option<Self> {
        let nsp = nsp.0.checked_mul(4)?;
        Some(Self(nsp | transport as u16))
    }

    const fn parts(self) -> (Transport, NspId) {
        let transport = match self.0 % 4 {
            ICMP => Transport::IcmpQuery,
            TCP => Transport::Tcp,
            _ => Transport::Udp,
        };
        (transport, NspId(self.0 / 4))
    }
}

const ICMP: u16 = Transport::IcmpQuery as u16;
const TCP: u16 = Transport::Tcp as u16;

const BY_REMOTE: usize = 0;

#[cfg(test)]
mod tests;
