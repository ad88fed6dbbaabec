//! Who has how much: the /64 networks of remotes, and servers, so that none keeps the others out.

mod nets;
mod pace;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::Limits;
use crate::hash::Key;
use crate::session::{SixTuple, Tick};
use crate::table::{Linked, List, Slab};
use nets::Nets;
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

/// For whom a session counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whose {
    pub(crate) net: Prefix,
    pub(crate) server: Ipv4Addr,
}

impl Whose {
    pub(crate) fn of(six: &SixTuple) -> Self {
        Self {
            net: Prefix::of(six.remote),
            server: six.server,
        }
    }
}

/// What a session is to those who share the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// None, because it makes room for any other session.
    Finished,
    HalfOpen,
    InUse,
}

/// How a session comes to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It begins.
    Anew(Tick),
    /// It began earlier, and is there again after a restart: no matter how fast.
    Again(Tick),
}

impl Start {
    pub(crate) const fn tick(self) -> Tick {
        match self {
            Self::Again(now) | Self::Anew(now) => now,
        }
    }
}

/// What is counted for whom.
#[derive(Debug)]
pub(crate) struct Shares {
    limits: Limits,
    nets: Nets,
    servers: BTreeMap<Ipv4Addr, Server>,
}

/// A server that has sessions.
#[derive(Debug)]
struct Server {
    sessions: u32,
    /// Those of them that are finished.
    finished: u32,
    pace: Pace,
    /// Half-open sessions, the oldest first.
    half_open: List<BY_SERVER>,
}

/// What the sessions of a network or of a server come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    /// Sessions that are not finished.
    used: u32,
    half_open: u32,
    /// The oldest of the half-open ones.
    oldest: Option<u32>,
    /// Whether one more may begin now.
    may_begin: bool,
}

/// Where the count of a new session would be over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The network has too many; this half-open session, its oldest, would make room.
    Remote(Option<u32>),
    /// The network has begun too many of late.
    RemoteRate,
    /// The server has too many; this half-open session, its oldest, would make room.
    Server(Option<u32>),
    /// The server was given too many of late.
    ServerRate,
}

impl Shares {
    pub(crate) fn new(limits: Limits, key: Key) -> Self {
        Self {
            limits,
            nets: Nets::new(limits.sessions, limits.new_per_remote_64, key),
            servers: BTreeMap::new(),
        }
    }

    /// Returns which limit one more half-open session would exceed.
    // RFC 6888 REQ-4 counts what a subscriber uses: a connection that is over only waits for stray
    // segments, and who opens many short ones is not to be kept out for it.
    pub(crate) fn over(&self, whose: Whose, now: Tick) -> Option<Over> {
        let limits = &self.limits;
        if let Some(net) = self.nets.count(whose.net, now) {
            if !net.may_begin {
                return Some(Over::RemoteRate);
            }
            let of_net = (limits.per_remote_64, limits.half_open_per_64);
            if let Some(instead) = net.instead(of_net) {
                return Some(Over::Remote(instead));
            }
        }
        let server = self
            .servers
            .get(&whose.server)?
            .count(limits.new_per_server, now);
        if !server.may_begin {
            return Some(Over::ServerRate);
        }
        let instead = server.instead((limits.per_server, u32::MAX));
        instead.map(Over::Server)
    }

    /// Tells whether a session that is finished may be in use again: there is a share for it.
    pub(crate) fn may_resume(&self, whose: Whose, now: Tick) -> bool {
        let net = self.nets.count(whose.net, now);
        let server = self.servers.get(&whose.server);
        net.is_none_or(|net| net.used < self.limits.per_remote_64)
            && server.is_none_or(|server| server.used() < self.limits.per_server)
    }

    pub(crate) fn of_server(&self, server: Ipv4Addr) -> u32 {
        self.servers.get(&server).map_or(0, |it| it.sessions)
    }

    /// Returns how many half-open sessions the network with the most has, and the oldest of them;
    /// a network that has a single session is none.
    pub(crate) fn heaviest(&self) -> Option<(u32, u32)> {
        self.nets.heaviest()
    }

    /// Counts a session that was not there.
    pub(crate) fn add<T: Linked<BY_NET> + Linked<BY_SERVER>>(
        &mut self,
        whose: Whose,
        share: Share,
        sessions: &mut Slab<T>,
        session: u32,
        start: Start,
    ) {
        let per_second = self.limits.new_per_server;
        let server = self.servers.entry(whose.server);
        let server = server.or_insert_with(|| Server::new(Pace::new(per_second, start.tick())));
        server.sessions += 1;
        server.pace.start(per_second, start);
        server.enter(share, sessions, session);
        self.nets.add(whose.net, share, sessions, session, start);
    }

    /// Counts a session as what it is now.
    pub(crate) fn change<T: Linked<BY_NET> + Linked<BY_SERVER>>(
        &mut self,
        whose: Whose,
        (from, to): (Share, Share),
        sessions: &mut Slab<T>,
        session: u32,
    ) {
        if from == to {
            return;
        }
        if let Some(server) = self.servers.get_mut(&whose.server) {
            server.leave(from, sessions, session);
            server.enter(to, sessions, session);
        }
        self.nets.change(whose.net, (from, to), sessions, session);
    }

    /// No longer counts a session.
    pub(crate) fn remove<T: Linked<BY_NET> + Linked<BY_SERVER>>(
        &mut self,
        whose: Whose,
        share: Share,
        sessions: &mut Slab<T>,
        session: u32,
        now: Tick,
    ) {
        if let Some(server) = self.servers.get_mut(&whose.server) {
            server.leave(share, sessions, session);
            server.sessions -= 1;
            if server.sessions == 0 {
                self.servers.remove(&whose.server);
            }
        }
        self.nets.remove(whose.net, share, sessions, session, now);
    }
}

impl Server {
    fn new(pace: Pace) -> Self {
        Self {
            sessions: 0,
            finished: 0,
            pace,
            half_open: List::default(),
        }
    }

    const fn used(&self) -> u32 {
        self.sessions - self.finished
    }

    fn count(&self, per_second: u32, now: Tick) -> Count {
        Count {
            used: self.used(),
            half_open: self.half_open.len(),
            oldest: self.half_open.head(),
            may_begin: self.pace.allows(per_second, now),
        }
    }

    fn enter<T: Linked<BY_SERVER>>(&mut self, share: Share, sessions: &mut Slab<T>, session: u32) {
        match share {
            Share::Finished => self.finished += 1,
            Share::HalfOpen => self.half_open.push_back(sessions, session),
            Share::InUse => {}
        }
    }

    fn leave<T: Linked<BY_SERVER>>(&mut self, share: Share, sessions: &mut Slab<T>, session: u32) {
        match share {
            Share::Finished => self.finished -= 1,
            Share::HalfOpen => self.half_open.unlink(sessions, session),
            Share::InUse => {}
        }
    }
}

impl Count {
    /// Returns the half-open session whose end would leave room for one more, where there is none
    /// without; no session where one less is too little: what comes back after a restart is not
    /// measured by limits that have become lower.
    fn instead(&self, (used, half_open): (u32, u32)) -> Option<Option<u32>> {
        if self.used < used && self.half_open < half_open {
            return None;
        }
        let is_enough = self.used <= used && self.half_open <= half_open;
        Some(self.oldest.filter(|_| is_enough))
    }
}

/// The list of half-open sessions of one network, in which sessions stand.
pub(crate) const BY_NET: usize = 16;

/// The list of half-open sessions of one server, in which sessions stand.
pub(crate) const BY_SERVER: usize = 19;

#[cfg(test)]
pub(crate) mod tests;
