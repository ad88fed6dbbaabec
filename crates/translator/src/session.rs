//! The session tables (RFC 6146 §3.1) and the lifetimes of sessions.

mod room;
mod tally;

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) use room::Place;
pub(crate) use tally::Tally;

use crate::admission::RuleId;
use crate::bib::{Bib, BibId, Binding, Remote};
use crate::config::{Lifetimes, Limits};
use crate::counters::Gauge;
use crate::hash::Key;
use crate::limits::{BY_NET, BY_SERVER, Share, Shares, Start, Whose};
use crate::nsps::NspId;
use crate::proof::Proof;
use crate::table::{Chain, Chained, Index, Link, Linked, List, Slab};
use crate::tcp_state::TcpState;
use crate::transport::Transport;

/// A session as the remote sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SixTuple {
    pub(crate) transport: Transport,
    /// `X'`.
    pub(crate) remote: Ipv6Addr,
    /// `x`, or the identifier of an echo.
    pub(crate) remote_port: u16,
    /// The prefix of the destination.
    pub(crate) nsp: NspId,
    /// `A4`, the server inside the destination.
    pub(crate) server: Ipv4Addr,
    /// `y`, zero for an echo.
    pub(crate) external_port: u16,
}

/// A session as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FourTuple {
    pub(crate) transport: Transport,
    /// `T`.
    pub(crate) pool: Ipv4Addr,
    /// `t`, or the identifier of an echo.
    pub(crate) pool_port: u16,
    /// `A4`.
    pub(crate) server: Ipv4Addr,
    /// `y'`, zero for an echo.
    pub(crate) internal_port: u16,
}

/// What is kept of a session; the rest of its tuples stands in its binding.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) bib: BibId,
    server: Ipv4Addr,
    external_port: u16,
    internal_port: u16,
    pub(crate) rule: RuleId,
    pub(crate) opened: Tick,
    pub(crate) last_used: Tick,
    /// Present for TCP.
    pub(crate) tcp: Option<TcpState>,
    pub(crate) proof: Proof,
    pub(crate) lifetime: Lifetime,
    /// Whether its beginning was told of.
    pub(crate) told: bool,
    /// From the remote, and from the server.
    pub(crate) traffic: (Tally, Tally),
    by_lifetime: Link,
    by_net: Link,
    by_rule: Link,
    by_server: Link,
    by_six: Chain,
    by_four: Chain,
}

/// A session with its tuples. The table owns its keys, its last use and its counters; whoever
/// forwards its packets elsewhere reports them by [`SessionTable::touch`] and [`Entry::traffic`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) six: SixTuple,
    pub(crate) four: FourTuple,
    entry: &'a Entry,
}

impl std::ops::Deref for Found<'_> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        self.entry
    }
}

/// Names a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionId(pub(crate) u32);

/// Whole seconds, see [`Ticks`].
///
/// [`Ticks`]: crate::ticks::Ticks
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u32);

/// How long a session lives without a packet, see [`Lifetimes`], and whether it may have to go
/// before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    IcmpQuery,
    /// Both sides have finished, or the server has reset.
    TcpClosing,
    TcpEstablished,
    /// The remote has not yet answered to the server.
    TcpOpening,
    /// The remote has reset, or somebody in its name.
    TcpReset,
    /// The server was asked whether there still is a connection, and has not answered.
    TcpTransitory,
    Udp,
    /// The remote has not yet answered to the server.
    UdpOpening,
}

impl Lifetime {
    const COUNT: usize = 8;

    /// The remote has not shown that it is where it says, so that anybody may have forged it.
    pub(crate) const HALF_OPEN: [Self; 3] = [Self::IcmpQuery, Self::TcpOpening, Self::UdpOpening];

    /// Returns what a session of this lifetime is to others.
    ///
    /// A connection that was reset is over, as one that both ends have finished, on the word of its
    /// server alone. A reset in the name of the remote anybody may have sent who guesses two ports:
    /// no sequence number is checked, and the server that ignores it goes on (RFC 5961 §3). So such
    /// a session counts until the server, which is asked ten seconds later, has reset too. What the
    /// server has reset it holds nothing for any more. Nobody gains by such sessions: like others
    /// that are over they go first where a place is missing, and none of them comes to life again
    /// beyond what its network and the server may have, see [`SessionTable::may_resume`].
    const fn share(self) -> Share {
        match self {
            Self::IcmpQuery | Self::TcpOpening | Self::UdpOpening => Share::HalfOpen,
            Self::TcpClosing => Share::Finished,
            Self::TcpEstablished | Self::TcpReset | Self::TcpTransitory | Self::Udp => Share::InUse,
        }
    }

    const fn transport(self) -> Transport {
        match self {
            Self::IcmpQuery => Transport::IcmpQuery,
            Self::TcpClosing
            | Self::TcpEstablished
            | Self::TcpOpening
            | Self::TcpReset
            | Self::TcpTransitory => Transport::Tcp,
            Self::Udp | Self::UdpOpening => Transport::Udp,
        }
    }
}

/// All sessions, found by either tuple; bounded.
///
/// Sessions of one lifetime stand in a list in the order of their last use, so that expiry looks
/// at the heads only. Sessions of one rule stand in a list, so that closing a port costs what it
/// ends.
#[derive(Debug)]
pub(crate) struct SessionTable {
    pub(crate) bib: Bib,
    entries: Slab<Entry>,
    by_six: Index<BY_SIX>,
    by_four: Index<BY_FOUR>,
    key: Key,
    lifetimes: Lifetimes,
    ages: [List<BY_LIFETIME>; Lifetime::COUNT],
    rules: Vec<List<BY_RULE>>,
    shares: Shares,
    live: Gauge,
}

impl SessionTable {
    pub(crate) fn new(limits: Limits, lifetimes: Lifetimes, bib: Bib, key: Key) -> Self {
        Self {
            bib,
            entries: Slab::new(limits.sessions),
            by_six: Index::new(),
            by_four: Index::new(),
            key,
            lifetimes,
            ages: [List::default(); Lifetime::COUNT],
            rules: Vec::new(),
            shares: Shares::new(limits, key),
            live: Gauge::default(),
        }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.entries.is_full()
    }

    pub(crate) const fn live(&self) -> Gauge {
        self.live
    }

    /// Returns how many sessions anybody may have forged.
    pub(crate) fn half_open(&self) -> u32 {
        let kinds = Lifetime::HALF_OPEN.into_iter();
        kinds.map(|kind| self.len_of(kind)).sum()
    }

    fn len_of(&self, kind: Lifetime) -> u32 {
        self.ages.get(kind as usize).map_or(0, List::len)
    }

    /// Returns a number above all that are in use.
    pub(crate) fn end(&self) -> u32 {
        self.entries.end()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<Found<'_>> {
        let entry = self.entries.get(id.0)?;
        let (six, four) = entry.tuples(&self.bib)?;
        Some(Found { six, four, entry })
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Entry> {
        self.entries.get_mut(id.0)
    }

    pub(crate) fn find_six(&self, tuple: &SixTuple) -> Option<SessionId> {
        let remote = Remote::of(tuple);
        let is = |entry: &Entry| {
            entry.server == tuple.server
                && entry.external_port == tuple.external_port
                && self.bib.is_of(entry.bib, &remote)
        };
        self.by_six
            .find(&self.entries, self.key.six(tuple), is)
            .map(SessionId)
    }

    pub(crate) fn find_four(&self, tuple: &FourTuple) -> Option<SessionId> {
        let bound = (tuple.transport, tuple.pool, tuple.pool_port);
        let is = |entry: &Entry| {
            entry.server == tuple.server
                && entry.internal_port == tuple.internal_port
                && self.bib.bound(entry.bib) == Some(bound)
        };
        self.by_four
            .find(&self.entries, self.key.four(tuple), is)
            .map(SessionId)
    }

    /// Adds a session whose tuples are those of its binding and not in the table.
    pub(crate) fn insert(&mut self, new: New, now: Tick) -> Option<SessionId> {
        self.add(new, Start::Anew(now))
    }

    /// As [`Self::insert`], of a session that has come back: it was last used earlier, but not before
    /// another one of the same lifetime, because the list of a lifetime is in order.
    pub(crate) fn insert_used(&mut self, new: New, last_used: Tick) -> Option<SessionId> {
        let last_used = self.in_order(new.lifetime, last_used);
        self.add(new, Start::Again(last_used))
    }

    fn add(&mut self, new: New, start: Start) -> Option<SessionId> {
        let now = start.tick();
        let (entries, bib, key) = (&mut self.entries, &self.bib, self.key);
        let id = entries.insert(Entry {
            bib: new.bib,
            server: new.six.server,
            external_port: new.six.external_port,
            internal_port: new.four.internal_port,
            rule: new.rule,
            opened: now,
            last_used: now,
            tcp: new.tcp,
            proof: Proof::default(),
            lifetime: new.lifetime,
            told: false,
            traffic: Default::default(),
            by_lifetime: Link::default(),
            by_net: Link::default(),
            by_rule: Link::default(),
            by_server: Link::default(),
            by_six: Chain::default(),
            by_four: Chain::default(),
        })?;
        // a session has a binding as long as it is here
        let six = |entry: &Entry| entry.tuples(bib).map_or(0, |(six, _)| key.six(&six));
        self.by_six.insert(entries, id, key.six(&new.six), six);
        let four = |entry: &Entry| {
            let bound = bib.bound(entry.bib);
            bound.map_or(0, |bound| key.four(&entry.four(bound)))
        };
        self.by_four.insert(entries, id, key.four(&new.four), four);
        if let Some(list) = self.ages.get_mut(new.lifetime as usize) {
            list.push_back(entries, id);
        }
        if let Some(list) = rule_list(&mut self.rules, new.rule) {
            list.push_back(entries, id);
        }
        let (whose, share) = (Whose::of(&new.six), new.lifetime.share());
        self.shares.add(whose, share, entries, id, start);
        *gauge(&mut self.live, new.six.transport) += 1;
        Some(SessionId(id))
    }

    /// As [`Self::touch`], as of a moment that has passed, but not before another session of the
    /// same lifetime.
    pub(crate) fn touch_earlier(&mut self, id: SessionId, lifetime: Lifetime, last_used: Tick) {
        self.touch(id, lifetime, self.in_order(lifetime, last_used));
    }

    fn in_order(&self, lifetime: Lifetime, last_used: Tick) -> Tick {
        self.ages
            .get(lifetime as usize)
            .and_then(|list| list.tail(&self.entries))
            .and_then(|id| self.entries.get(id))
            .map_or(last_used, |newest| newest.last_used.max(last_used))
    }

    /// Starts a lifetime anew. Within one second of the last use of the same lifetime there is
    /// nothing to do.
    pub(crate) fn touch(&mut self, id: SessionId, lifetime: Lifetime, now: Tick) {
        let Some(entry) = self.entries.get_mut(id.0) else {
            return;
        };
        if entry.lifetime == lifetime && entry.last_used == now {
            return;
        }
        let old = std::mem::replace(&mut entry.lifetime, lifetime);
        entry.last_used = now;
        if let Some(list) = self.ages.get_mut(old as usize) {
            list.unlink(&mut self.entries, id.0);
        }
        if let Some(list) = self.ages.get_mut(lifetime as usize) {
            list.push_back(&mut self.entries, id.0);
        }
        if old.share() != lifetime.share()
            && let Some(whose) = self.get(id).map(|found| Whose::of(&found.six))
        {
            let shares = (old.share(), lifetime.share());
            self.shares.change(whose, shares, &mut self.entries, id.0);
        }
    }

    /// Tells whether a packet may bring a session to life again that takes no share: only where
    /// there is one for it.
    // DEVIATION RFC 6146 §3.5.2.2: where there is none, the session stays in TRANS whatever comes,
    // because who had many connections reset could else revive them all at once, and have more
    // than its share.
    pub(crate) fn may_resume(&self, id: SessionId, now: Tick) -> bool {
        let is_finished = |entry: &Entry| entry.lifetime.share() == Share::Finished;
        if !self.entries.get(id.0).is_some_and(is_finished) {
            return true;
        }
        let found = self.get(id);
        found.is_some_and(|found| self.shares.may_resume(Whose::of(&found.six), now))
    }

    /// Takes a session out; its binding remains to be released.
    pub(crate) fn remove(&mut self, id: SessionId, now: Tick) -> Option<Entry> {
        let Found { six, four, entry } = self.get(id)?;
        let (lifetime, rule) = (entry.lifetime, entry.rule);
        let entries = &mut self.entries;
        self.by_six.remove(entries, id.0, self.key.six(&six));
        self.by_four.remove(entries, id.0, self.key.four(&four));
        if let Some(list) = self.ages.get_mut(lifetime as usize) {
            list.unlink(entries, id.0);
        }
        if let Some(list) = rule_list(&mut self.rules, rule) {
            list.unlink(entries, id.0);
        }
        let (whose, share) = (Whose::of(&six), lifetime.share());
        self.shares.remove(whose, share, entries, id.0, now);
        *gauge(&mut self.live, lifetime.transport()) -= 1;
        self.entries.remove(id.0)
    }

    /// Returns a session that came in by a rule.
    pub(crate) fn any_of_rule(&self, rule: RuleId) -> Option<SessionId> {
        let list = self.rules.get(usize::try_from(rule.0).ok()?)?;
        list.head().map(SessionId)
    }

    /// Returns how many sessions came in by a rule.
    pub(crate) fn len_of_rule(&self, rule: RuleId) -> u32 {
        let list = usize::try_from(rule.0)
            .ok()
            .and_then(|at| self.rules.get(at));
        list.map_or(0, List::len)
    }

    /// Puts the session that [`Self::any_of_rule`] returns behind all others of the rule.
    pub(crate) fn rotate_rule(&mut self, rule: RuleId) {
        if let Some(list) = rule_list(&mut self.rules, rule) {
            list.rotate(&self.entries);
        }
    }

    /// Returns a session whose lifetime has ended.
    pub(crate) fn any_expired(&self, now: Tick) -> Option<SessionId> {
        self.oldest()
            .find(|(_, deadline)| *deadline <= now)
            .map(|(id, _)| id)
    }

    /// Returns when the next session ends.
    pub(crate) fn next_expiry(&self) -> Option<Tick> {
        self.oldest().map(|(_, deadline)| deadline).min()
    }

    /// Returns when a session ends if nothing comes.
    pub(crate) fn deadline(&self, entry: &Entry) -> Tick {
        Tick(
            entry
                .last_used
                .0
                .saturating_add(self.lifetime(entry.lifetime)),
        )
    }

    /// Returns a lifetime in ticks.
    pub(crate) fn lifetime(&self, lifetime: Lifetime) -> u32 {
        // A tick is a whole second: one more, so that nothing ends early.
        self.lifetimes.of(lifetime).saturating_add(1)
    }

    fn oldest(&self) -> impl Iterator<Item = (SessionId, Tick)> {
        self.ages
            .iter()
            .filter_map(List::head)
            .filter_map(|id| Some((SessionId(id), self.deadline(self.entries.get(id)?))))
    }
}

impl Entry {
    fn tuples(&self, bib: &Bib) -> Option<(SixTuple, FourTuple)> {
        let Binding { remote, addr, port } = bib.get(self.bib)?;
        let six = SixTuple {
            transport: remote.transport,
            remote: remote.addr,
            remote_port: remote.port,
            nsp: remote.nsp,
            server: self.server,
            external_port: self.external_port,
        };
        Some((six, self.four((remote.transport, addr, port))))
    }

    const fn four(&self, (transport, pool, pool_port): (Transport, Ipv4Addr, u16)) -> FourTuple {
        FourTuple {
            transport,
            pool,
            pool_port,
            server: self.server,
            internal_port: self.internal_port,
        }
    }
}

/// What is known of a session when it starts.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) six: SixTuple,
    pub(crate) four: FourTuple,
    pub(crate) bib: BibId,
    pub(crate) rule: RuleId,
    pub(crate) tcp: Option<TcpState>,
    pub(crate) lifetime: Lifetime,
}

impl Chained<BY_SIX> for Entry {
    fn chain(&self) -> Chain {
        self.by_six
    }

    fn chain_mut(&mut self) -> &mut Chain {
        &mut self.by_six
    }
}

impl Chained<BY_FOUR> for Entry {
    fn chain(&self) -> Chain {
        self.by_four
    }

    fn chain_mut(&mut self) -> &mut Chain {
        &mut self.by_four
    }
}

impl Linked<BY_LIFETIME> for Entry {
    fn link(&mut self) -> &mut Link {
        &mut self.by_lifetime
    }

    fn peek(&self) -> &Link {
        &self.by_lifetime
    }
}

impl Linked<BY_NET> for Entry {
    fn link(&mut self) -> &mut Link {
        &mut self.by_net
    }

    fn peek(&self) -> &Link {
        &self.by_net
    }
}

impl Linked<BY_SERVER> for Entry {
    fn link(&mut self) -> &mut Link {
        &mut self.by_server
    }

    fn peek(&self) -> &Link {
        &self.by_server
    }
}

impl Linked<BY_RULE> for Entry {
    fn link(&mut self) -> &mut Link {
        &mut self.by_rule
    }

    fn peek(&self) -> &Link {
        &self.by_rule
    }
}

fn rule_list(rules: &mut Vec<List<BY_RULE>>, rule: RuleId) -> Option<&mut List<BY_RULE>> {
    let at = usize::try_from(rule.0).ok()?;
    if rules.len() <= at {
        rules.resize(at + 1, List::default());
    }
    rules.get_mut(at)
}

const fn gauge(live: &mut Gauge, transport: Transport) -> &mut u32 {
    match transport {
        Transport::IcmpQuery => &mut live.icmp,
        Transport::Tcp => &mut live.tcp,
        Transport::Udp => &mut live.udp,
    }
}

const BY_LIFETIME: usize = 0;
const BY_RULE: usize = 1;
const BY_SIX: usize = 2;
const BY_FOUR: usize = 3;

#[cfg(test)]
mod tests;
