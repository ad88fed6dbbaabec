//! Who has how much: the /64 networks of remotes, and servers, so that none keeps the others out.

mod pace;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use crate::config::Limits;
use crate::hash::Key;
use crate::session::Tick;
use crate::table::{Chain, Chained, Index, Link, Linked, List, Slab};
use pace::Pace;

/// The network of a remote, its upper 64 bits: whoever has one has all its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix([u8; 8]);

impl Prefix {
    pub(crate) fn of(addr: Ipv6Addr) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = addr.octets();
        Self([a, b, c, d, e, f, g, h])
    }

    pub(crate) const fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// What is counted for whom.
#[derive(Debug)]
pub(crate) struct Shares {
    limits: Limits,
    nets: Slab<Net>,
    by_prefix: Index<BY_PREFIX>,
    /// The networks by their number of half-open sessions.
    by_weight: Vec<List<BY_WEIGHT>>,
    /// No network has more; [`HEAVIEST`] stands for more as well.
    heaviest: usize,
    servers: BTreeMap<Ipv4Addr, Server>,
    key: Key,
}

/// A server that has sessions.
#[derive(Debug)]
struct Server {
    sessions: u32,
    /// Those of them that both ends have finished.
    finished: u32,
    pace: Pace,
    /// Half-open sessions, the oldest first.
    half_open: List<BY_SERVER>,
}

/// A network that has sessions.
#[derive(Debug)]
struct Net {
    prefix: Prefix,
    sessions: NonZeroU32,
    /// Those of them that both ends have finished.
    finished: u32,
    pace: Pace,
    /// Half-open sessions, the oldest first.
    half_open: List<BY_NET>,
    by_weight: Link,
    chain: Chain,
}

/// Where the count of a new session would be over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The network has too many; this is its oldest half-open session.
    Remote(Option<u32>),
    /// The network has begun too many of late.
    RemoteRate,
    /// The server has too many; this is its oldest half-open session.
    Server(Option<u32>),
    /// The server was given too many of late.
    ServerRate,
}

impl Shares {
    pub(crate) fn new(limits: Limits, key: Key) -> Self {
        Self {
            limits,
            nets: Slab::new(limits.sessions),
            by_prefix: Index::new(),
            by_weight: vec![List::default(); HEAVIEST + 1],
            heaviest: 0,
            servers: BTreeMap::new(),
            key,
        }
    }

    /// Returns which limit one more half-open session would exceed.
    // RFC 6888 REQ-4 counts what a subscriber uses: a connection that both ends have finished only
    // waits for stray segments, and who opens many short ones is not to be kept out for it.
    pub(crate) fn over(&self, prefix: Prefix, server: Ipv4Addr, now: Tick) -> Option<Over> {
        if let Some(net) = self.find(prefix).and_then(|net| self.nets.get(net)) {
            if !net.pace.allows(self.limits.new_per_remote_64, now) {
                return Some(Over::RemoteRate);
            }
            if net.sessions.get() - net.finished >= self.limits.per_remote_64
                || net.half_open.len() >= self.limits.half_open_per_64
            {
                return Some(Over::Remote(net.half_open.head()));
            }
        }
        let server = self.servers.get(&server)?;
        if !server.pace.allows(self.limits.new_per_server, now) {
            return Some(Over::ServerRate);
        }
        let is_over = server.sessions - server.finished >= self.limits.per_server;
        is_over.then(|| Over::Server(server.half_open.head()))
    }

    pub(crate) fn of_server(&self, server: Ipv4Addr) -> u32 {
        self.servers.get(&server).map_or(0, |it| it.sessions)
    }

    /// Returns how many half-open sessions the network with the most has, and the oldest of them.
    pub(crate) fn heaviest(&self) -> Option<(u32, u32)> {
        let net = self.by_weight.get(self.heaviest)?.head()?;
        let half_open = &self.nets.get(net)?.half_open;
        Some((half_open.len(), half_open.head()?))
    }

    /// Counts a new session.
    pub(crate) fn add(&mut self, prefix: Prefix, server: Ipv4Addr, now: Tick) {
        let per_second = self.limits.new_per_server;
        let server = self.servers.entry(server).or_insert_with(|| Server {
            sessions: 0,
            finished: 0,
            pace: Pace::new(per_second, now),
            half_open: List::default(),
        });
        server.sessions += 1;
        server.pace.count(per_second, now);
        let per_second = self.limits.new_per_remote_64;
        if let Some(id) = self.find(prefix) {
            if let Some(net) = self.nets.get_mut(id) {
                net.sessions = net.sessions.saturating_add(1);
                net.pace.count(per_second, now);
            }
            return;
        }
        let mut pace = Pace::new(per_second, now);
        pace.count(per_second, now);
        let key = self.key;
        let net = self.nets.insert(Net {
            prefix,
            sessions: NonZeroU32::MIN,
            finished: 0,
            pace,
            half_open: List::default(),
            by_weight: Link::default(),
            chain: Chain::default(),
        });
        if let Some(id) = net {
            self.by_prefix
                .insert(&mut self.nets, id, key.prefix(prefix), |net| {
                    key.prefix(net.prefix)
                });
        }
    }

    /// Says that both ends have finished a session: what it takes is no longer a share, because it
    /// makes room for any other one.
    pub(crate) fn finish(&mut self, prefix: Prefix, server: Ipv4Addr) {
        self.count_finished(prefix, server, |finished| finished + 1);
    }

    /// Takes back [`Self::finish`].
    pub(crate) fn resume(&mut self, prefix: Prefix, server: Ipv4Addr) {
        self.count_finished(prefix, server, |finished| finished - 1);
    }

    fn count_finished(&mut self, prefix: Prefix, server: Ipv4Addr, change: impl Fn(u32) -> u32) {
        if let Some(server) = self.servers.get_mut(&server) {
            server.finished = change(server.finished);
        }
        let net = self.find(prefix).and_then(|net| self.nets.get_mut(net));
        if let Some(net) = net {
            net.finished = change(net.finished);
        }
    }

    /// No longer counts a session, which is neither half-open nor finished.
    pub(crate) fn remove(&mut self, prefix: Prefix, server: Ipv4Addr) {
        if let Some(of_server) = self.servers.get_mut(&server) {
            of_server.sessions -= 1;
            if of_server.sessions == 0 {
                self.servers.remove(&server);
            }
        }
        let Some(id) = self.find(prefix) else {
            return;
        };
        let Some(net) = self.nets.get_mut(id) else {
            return;
        };
        match NonZeroU32::new(net.sessions.get() - 1) {
            Some(left) => net.sessions = left,
            None => {
                let hash = self.key.prefix(prefix);
                self.by_prefix.remove(&mut self.nets, id, hash);
                self.nets.remove(id);
            }
        }
    }

    /// Counts a session as half-open.
    pub(crate) fn open<T: Linked<BY_NET> + Linked<BY_SERVER>>(
        &mut self,
        prefix: Prefix,
        server: Ipv4Addr,
        sessions: &mut Slab<T>,
        session: u32,
    ) {
        if let Some(server) = self.servers.get_mut(&server) {
            server.half_open.push_back(sessions, session);
        }
        self.weigh(prefix, |half_open| half_open.push_back(sessions, session));
    }

    /// No longer counts a session as half-open.
    pub(crate) fn settle<T: Linked<BY_NET> + Linked<BY_SERVER>>(
        &mut self,
        prefix: Prefix,
        server: Ipv4Addr,
        sessions: &mut Slab<T>,
        session: u32,
    ) {
        if let Some(server) = self.servers.get_mut(&server) {
            server.half_open.unlink(sessions, session);
        }
        self.weigh(prefix, |half_open| half_open.unlink(sessions, session));
    }

    fn weigh(&mut self, prefix: Prefix, change: impl FnOnce(&mut List<BY_NET>)) {
        let Some((id, net)) = self
            .find(prefix)
            .and_then(|id| Some((id, self.nets.get_mut(id)?)))
        else {
            return;
        };
        let before = weight(net);
        change(&mut net.half_open);
        let after = weight(net);
        if before == after {
            return;
        }
        if before > 0
            && let Some(list) = self.by_weight.get_mut(before)
        {
            list.unlink(&mut self.nets, id);
        }
        if after > 0
            && let Some(list) = self.by_weight.get_mut(after)
        {
            list.push_back(&mut self.nets, id);
        }
        self.heaviest = self.heaviest.max(after);
        while self.heaviest > 0
            && self
                .by_weight
                .get(self.heaviest)
                .is_none_or(|list| list.len() == 0)
        {
            self.heaviest -= 1;
        }
    }

    fn find(&self, prefix: Prefix) -> Option<u32> {
        let is = |net: &Net| net.prefix == prefix;
        self.by_prefix.find(&self.nets, self.key.prefix(prefix), is)
    }
}

fn weight(net: &Net) -> usize {
    usize::try_from(net.half_open.len()).map_or(HEAVIEST, |len| len.min(HEAVIEST))
}

impl Chained<BY_PREFIX> for Net {
    fn chain(&self) -> Chain {
        self.chain
    }

    fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }
}

impl Linked<BY_WEIGHT> for Net {
    fn link(&mut self) -> &mut Link {
        &mut self.by_weight
    }

    fn peek(&self) -> &Link {
        &self.by_weight
    }
}

/// The list of half-open sessions of one network, in which sessions stand.
pub(crate) const BY_NET: usize = 16;

/// The list of half-open sessions of one server, in which sessions stand.
pub(crate) const BY_SERVER: usize = 19;

const BY_PREFIX: usize = 17;
const BY_WEIGHT: usize = 18;

/// Networks with as many half-open sessions or more are one as heavy as another.
const HEAVIEST: usize = 1023;

#[cfg(test)]
mod tests;
