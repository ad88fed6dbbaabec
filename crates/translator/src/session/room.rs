//! Which session goes when there is no room for another one.

use crate::bib::Remote;
use crate::limits::{Over, Whose};
use crate::session::{Lifetime, SessionId, SessionTable, SixTuple, Tick};
use crate::transport::Transport;
use crate::verdict::DropReason;

/// Whether a new session may have a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Free,
    /// Nowhere.
    Full(DropReason),
    /// That of this session, which is to end.
    Instead(SessionId),
}

impl SessionTable {
    /// Returns where a new session of a remote would go. What is half-open, so that anybody may have
    /// forged it, makes room for others, and never what a remote has answered for.
    // DEVIATION RFC 6888 REQ-11 d: what nobody has answered for is deleted to make room, and in a
    // full table a UDP session may end before the two minutes of RFC 4787 REQ-5, because else
    // whoever forges sources would keep everybody out for as long.
    pub(crate) fn place_for(&self, six: &SixTuple, now: Tick) -> Place {
        match self.shares.over(Whose::of(six), now) {
            Some(Over::RemoteRate) => Place::Full(DropReason::RemoteRate),
            Some(Over::ServerRate) => Place::Full(DropReason::ServerRate),
            Some(Over::Remote(Some(oldest))) => Place::Instead(SessionId(oldest)),
            Some(Over::Remote(None)) => Place::Full(DropReason::RemoteFull),
            Some(Over::Server(Some(oldest))) => Place::Instead(SessionId(oldest)),
            Some(Over::Server(None)) => Place::Full(DropReason::ServerFull),
            None if self.entries.is_full() => match self.most_dispensable(now) {
                Some(id) => Place::Instead(id),
                None => Place::Full(DropReason::SessionsFull),
            },
            None => Place::Free,
        }
    }

    /// Returns the session whose pool port a remote may have, where all are taken: one that is over,
    /// or a half-open one.
    pub(crate) fn place_in_pool(&self, remote: &Remote) -> Option<SessionId> {
        let kinds: &[Lifetime] = match remote.transport {
            Transport::IcmpQuery => &[Lifetime::IcmpQuery],
            Transport::Tcp => &[Lifetime::TcpClosing, Lifetime::TcpOpening],
            Transport::Udp => &[Lifetime::UdpOpening],
        };
        let addr = self.bib.addr_of(remote.addr);
        let gives = |id: &SessionId| {
            let bib = self.entries.get(id.0).map(|it| it.bib);
            bib.is_some_and(|bib| {
                self.bib.has_one_session(bib)
                    && self
                        .bib
                        .bound(bib)
                        .is_some_and(|(_, held, _)| addr.is_none_or(|addr| held == addr))
            })
        };
        kinds
            .iter()
            .find_map(|kind| self.oldest_of(*kind).take(LOOKED_AT).find(gives))
    }

    /// Of what is half-open and what has ended, the larger part gives one: a network of remotes
    /// with an outsized share its oldest, else the most frequent kind one of its oldest, from the
    /// server that has the most.
    fn most_dispensable(&self, now: Tick) -> Option<SessionId> {
        let half_open = self.half_open();
        let closing = self.len_of(Lifetime::TcpClosing);
        if half_open == 0 && closing == 0 {
            return self.idle_exchange(now);
        }
        if closing > half_open {
            return self.oldest_of(Lifetime::TcpClosing).next();
        }
        if let Some((weight, oldest)) = self.shares.heaviest()
            && weight > FAIR + half_open / FAIR_PART
        {
            return Some(SessionId(oldest));
        }
        let kind = Lifetime::HALF_OPEN
            .into_iter()
            .max_by_key(|kind| self.len_of(*kind))?;
        let share = |id: &SessionId| {
            let entry = self.entries.get(id.0);
            entry.map_or(0, |entry| self.shares.of_server(entry.server))
        };
        // of equals the oldest
        let oldest = self.oldest_of(kind).take(COMPARED);
        oldest.reduce(|a, b| if share(&b) > share(&a) { b } else { a })
    }

    /// Returns a datagram exchange that is idle for longer than RFC 4787 REQ-5 demands.
    fn idle_exchange(&self, now: Tick) -> Option<SessionId> {
        let id = self.oldest_of(Lifetime::Udp).next()?;
        let idle = now.0.saturating_sub(self.entries.get(id.0)?.last_used.0);
        (idle > UDP_MIN).then_some(id)
    }

    fn oldest_of(&self, kind: Lifetime) -> impl Iterator<Item = SessionId> {
        let list = self.ages.get(kind as usize);
        list.into_iter()
            .flat_map(|list| list.iter(&self.entries))
            .map(SessionId)
    }
}

/// Sessions of one pool address are looked for among so many.
const LOOKED_AT: usize = 32;

/// Sessions whose servers are compared.
const COMPARED: usize = 8;

/// Half-open sessions that a network may have in a full table as well as everybody else: what a
/// browser opens at once, and a small part of all.
const FAIR: u32 = 8;
const FAIR_PART: u32 = 64;

/// Seconds, RFC 4787 REQ-5.
const UDP_MIN: u32 = 120;
