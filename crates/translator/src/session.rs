//! The session tables (RFC 6146 §3.1) and the lifetimes of sessions.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::admission::RuleId;
use crate::bib::BibId;
use crate::config::Lifetimes;
use crate::counters::{Gauge, Traffic};
use crate::hash::Key;
use crate::nsps::NspId;
use crate::proof::Proof;
use crate::table::{Index, Link, Linked, List, Slab};
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

/// A session. The table owns its keys, its last use and its counters; whoever forwards its packets
/// elsewhere reports them by [`SessionTable::touch`] and [`Entry::traffic`].
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) six: SixTuple,
    pub(crate) four: FourTuple,
    pub(crate) bib: BibId,
    pub(crate) rule: RuleId,
    /// Present for TCP.
    pub(crate) tcp: Option<TcpState>,
    pub(crate) proof: Proof,
    pub(crate) lifetime: Lifetime,
    pub(crate) opened: Tick,
    pub(crate) last_used: Tick,
    /// From the remote, and from the server.
    pub(crate) traffic: (Traffic, Traffic),
    by_lifetime: Link,
    by_rule: Link,
}

/// Names a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionId(pub(crate) u32);

/// Whole seconds since the machine was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u32);

/// How long a session lives without a packet, see [`Lifetimes`], and whether it may have to go
/// before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    IcmpQuery,
    /// Both sides have finished.
    TcpClosing,
    TcpEstablished,
    /// The remote has not yet answered to the server.
    TcpOpening,
    /// One side has reset, the other may go on.
    TcpTransitory,
    Udp,
    /// The remote has not yet answered to the server.
    UdpOpening,
}

impl Lifetime {
    const COUNT: usize = 7;

    /// Sessions whose place a new session may take when the table is full. An established
    /// connection, or one whose reset may be forged, is not among them.
    const DISPENSABLE: [Self; 5] = [
        Self::IcmpQuery,
        Self::TcpClosing,
        Self::TcpOpening,
        Self::Udp,
        Self::UdpOpening,
    ];
}

/// All sessions, found by either tuple; bounded.
///
/// Sessions of one lifetime stand in a list in the order of their last use, so that expiry looks
/// at the heads only. Sessions of one rule stand in a list, so that closing a port costs what it
/// ends.
#[derive(Debug)]
pub(crate) struct SessionTable {
    entries: Slab<Entry>,
    by_six: Index,
    by_four: Index,
    key: Key,
    lifetimes: Lifetimes,
    ages: [List<BY_LIFETIME>; Lifetime::COUNT],
    rules: Vec<List<BY_RULE>>,
    live: Gauge,
}

impl SessionTable {
    pub(crate) fn new(capacity: u32, lifetimes: Lifetimes, key: Key) -> Self {
        Self {
            entries: Slab::with_capacity(capacity),
            by_six: Index::with_capacity(capacity),
            by_four: Index::with_capacity(capacity),
            key,
            lifetimes,
            ages: [List::default(); Lifetime::COUNT],
            rules: Vec::new(),
            live: Gauge::default(),
        }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.entries.is_full()
    }

    pub(crate) const fn live(&self) -> Gauge {
        self.live
    }

    /// Returns one more than the highest number in use.
    pub(crate) fn end(&self) -> u32 {
        self.entries.end()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Entry> {
        self.entries.get(id.0)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Entry> {
        self.entries.get_mut(id.0)
    }

    pub(crate) fn find_six(&self, tuple: &SixTuple) -> Option<SessionId> {
        let is = |id| {
            self.entries
                .get(id)
                .is_some_and(|entry| entry.six == *tuple)
        };
        self.by_six.find(self.hash_six(tuple), is).map(SessionId)
    }

    pub(crate) fn find_four(&self, tuple: &FourTuple) -> Option<SessionId> {
        let is = |id| {
            self.entries
                .get(id)
                .is_some_and(|entry| entry.four == *tuple)
        };
        self.by_four.find(self.hash_four(tuple), is).map(SessionId)
    }

    /// Adds a session whose tuples are not in the table.
    pub(crate) fn insert(&mut self, new: New, now: Tick) -> Option<SessionId> {
        let id = self.entries.insert(Entry {
            six: new.six,
            four: new.four,
            bib: new.bib,
            rule: new.rule,
            tcp: new.tcp,
            proof: Proof::default(),
            lifetime: new.lifetime,
            opened: now,
            last_used: now,
            traffic: Default::default(),
            by_lifetime: Link::default(),
            by_rule: Link::default(),
        })?;
        self.by_six.insert(self.hash_six(&new.six), id);
        self.by_four.insert(self.hash_four(&new.four), id);
        if let Some(list) = self.ages.get_mut(new.lifetime as usize) {
            list.push_back(&mut self.entries, id);
        }
        if let Some(list) = rule_list(&mut self.rules, new.rule) {
            list.push_back(&mut self.entries, id);
        }
        *gauge(&mut self.live, new.six.transport) += 1;
        Some(SessionId(id))
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
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Entry> {
        let entry = self.entries.get(id.0)?;
        let (six, four) = (entry.six, entry.four);
        let (lifetime, rule) = (entry.lifetime, entry.rule);
        self.by_six.remove(self.hash_six(&six), id.0);
        self.by_four.remove(self.hash_four(&four), id.0);
        if let Some(list) = self.ages.get_mut(lifetime as usize) {
            list.unlink(&mut self.entries, id.0);
        }
        if let Some(list) = rule_list(&mut self.rules, rule) {
            list.unlink(&mut self.entries, id.0);
        }
        *gauge(&mut self.live, six.transport) -= 1;
        self.entries.remove(id.0)
    }

    /// Returns a session that came in by a rule.
    pub(crate) fn any_of_rule(&self, rule: RuleId) -> Option<SessionId> {
        let list = self.rules.get(usize::try_from(rule.0).ok()?)?;
        list.head().map(SessionId)
    }

    /// Returns a session whose lifetime has ended.
    pub(crate) fn any_expired(&self, now: Tick) -> Option<SessionId> {
        self.oldest()
            .find(|(_, deadline)| *deadline <= now)
            .map(|(id, _)| id)
    }

    /// Returns the session that is to go when there is no room: of the dispensable kinds the one
    /// with the most sessions gives its oldest, so that a flood of one kind pays for itself.
    // DEVIATION RFC 4787 §4.3: in a full table a session may end before its two minutes, because
    // else whoever forges sources would keep everybody out for as long.
    pub(crate) fn most_dispensable(&self) -> Option<SessionId> {
        Lifetime::DISPENSABLE
            .into_iter()
            .filter_map(|kind| self.ages.get(kind as usize))
            .max_by_key(|list| list.len())?
            .head()
            .map(SessionId)
    }

    /// Returns when the next session ends.
    pub(crate) fn next_expiry(&self) -> Option<Tick> {
        self.oldest().map(|(_, deadline)| deadline).min()
    }

    /// Returns when a session ends if nothing comes.
    pub(crate) fn deadline(&self, entry: &Entry) -> Tick {
        // A tick is a whole second: one more, so that nothing ends early.
        let lifetime = self.lifetimes.of(entry.lifetime).saturating_add(1);
        Tick(entry.last_used.0.saturating_add(lifetime))
    }

    fn oldest(&self) -> impl Iterator<Item = (SessionId, Tick)> {
        self.ages
            .iter()
            .filter_map(List::head)
            .filter_map(|id| Some((SessionId(id), self.deadline(self.entries.get(id)?))))
    }

    fn hash_six(&self, tuple: &SixTuple) -> u32 {
        let flow = tuple.transport as u16;
        let numbers = [
            tuple.remote_port,
            tuple.external_port,
            tuple.nsp.0,
            flow << 8,
        ];
        self.key.six(tuple.remote, tuple.server, numbers)
    }

    fn hash_four(&self, tuple: &FourTuple) -> u32 {
        let numbers = [
            tuple.pool_port,
            tuple.internal_port,
            tuple.transport as u16,
            0,
        ];
        self.key.four(tuple.pool, tuple.server, numbers)
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

impl Linked<BY_LIFETIME> for Entry {
    fn link(&mut self) -> &mut Link {
        &mut self.by_lifetime
    }

    fn peek(&self) -> &Link {
        &self.by_lifetime
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
