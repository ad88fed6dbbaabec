//! Who has sent to whom: what filtering by address asks.

use std::net::Ipv4Addr;

use crate::bib::BibId;
use crate::hash::Key;
use crate::session::FourTuple;
use crate::table::{Chain, Chained, Index, Slab};
use crate::transport::Transport;

/// For each bound pool address and port, its binding, and to which addresses it has sessions.
///
/// The sessions are counted, so that a lookup costs the same however many there are.
#[derive(Debug)]
pub(super) struct Ledger {
    lines: Slab<Line>,
    index: Index<BY_PEER>,
    key: Key,
}

#[derive(Debug)]
struct Line {
    bound: Bound,
    /// Unspecified in the line that stands for all peers.
    peer: Ipv4Addr,
    bib: BibId,
    sessions: u32,
    /// Present when the binding is static; such a line stays.
    is_static: bool,
    chain: Chain,
}

impl Line {
    fn new(bound: Bound, peer: Ipv4Addr, bib: BibId, is_static: bool) -> Self {
        Self {
            bound,
            peer,
            bib,
            sessions: u32::from(!is_static),
            is_static,
            chain: Chain::default(),
        }
    }
}

impl Chained<BY_PEER> for Line {
    fn chain(&self) -> Chain {
        self.chain
    }

    fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }
}

/// A pool address and port in one of the three bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) transport: Transport,
    pub(super) pool: Ipv4Addr,
    pub(super) port: u16,
}

impl From<&FourTuple> for Bound {
    fn from(four: &FourTuple) -> Self {
        Self {
            transport: four.transport,
            pool: four.pool,
            port: four.pool_port,
        }
    }
}

impl Ledger {
    /// Makes a ledger for as many sessions and static bindings.
    pub(super) fn new(sessions: u32, bindings: u32, key: Key) -> Self {
        let lines = sessions.saturating_mul(2).saturating_add(bindings);
        Self {
            lines: Slab::new(lines),
            index: Index::new(),
            key,
        }
    }

    /// Notes a static binding.
    pub(super) fn bind(&mut self, bound: Bound, bib: BibId) {
        self.insert(Line::new(bound, Ipv4Addr::UNSPECIFIED, bib, true));
    }

    /// Notes a session that has begun, perhaps as the first of its binding.
    pub(super) fn began(&mut self, four: &FourTuple, bib: BibId, is_first: bool) {
        for peer in [Ipv4Addr::UNSPECIFIED, four.server] {
            let known = if is_first {
                None
            } else {
                self.find(four.into(), peer)
            };
            match known.and_then(|id| self.lines.get_mut(id)) {
                Some(line) => line.sessions += 1,
                None => self.insert(Line::new(four.into(), peer, bib, false)),
            }
        }
    }

    /// Notes a session that has ended.
    pub(super) fn ended(&mut self, four: &FourTuple) {
        self.subtract(four.into(), Ipv4Addr::UNSPECIFIED);
        self.subtract(four.into(), four.server);
    }

    /// Returns the binding of a pool address and port, and whether it is static.
    pub(super) fn binding(&self, bound: Bound) -> Option<(BibId, bool)> {
        let line = self.lines.get(self.find(bound, Ipv4Addr::UNSPECIFIED)?)?;
        Some((line.bib, line.is_static))
    }

    /// Tells whether there is a session with this peer, at whatever port.
    pub(super) fn knows(&self, bound: Bound, peer: Ipv4Addr) -> bool {
        self.find(bound, peer).is_some()
    }

    fn insert(&mut self, line: Line) {
        let key = self.key;
        let hash_of = |line: &Line| hash(key, line.bound, line.peer);
        let hash = hash_of(&line);
        if let Some(id) = self.lines.insert(line) {
            self.index.insert(&mut self.lines, id, hash, hash_of);
        }
    }

    fn subtract(&mut self, bound: Bound, peer: Ipv4Addr) {
        let Some(id) = self.find(bound, peer) else {
            return;
        };
        let Some(line) = self.lines.get_mut(id) else {
            return;
        };
        line.sessions = line.sessions.saturating_sub(1);
        if line.sessions == 0 && !line.is_static {
            let hash = hash(self.key, bound, peer);
            self.index.remove(&mut self.lines, id, hash);
            self.lines.remove(id);
        }
    }

    fn find(&self, bound: Bound, peer: Ipv4Addr) -> Option<u32> {
        let is = |line: &Line| line.bound == bound && line.peer == peer;
        self.index
            .find(&self.lines, hash(self.key, bound, peer), is)
    }
}

fn hash(key: Key, bound: Bound, peer: Ipv4Addr) -> u32 {
    key.four(&FourTuple {
        transport: bound.transport,
        pool: bound.pool,
        pool_port: bound.port,
        server: peer,
        internal_port: 0,
    })
}

const BY_PEER: usize = 0;
