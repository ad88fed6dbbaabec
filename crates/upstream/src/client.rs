//! The machine that speaks PCP or NAT-PMP with one upstream gateway.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use mapping::Instant;
use rand::{Rng, RngExt as _};

use crate::backoff::{Backoff, renewal};
use crate::counters::Counters;
use crate::epoch::Epoch;
use crate::lifetime::Lifetimes;
use crate::nonce::nonce;
use crate::port::{Phase, Port, PortKey, PortState, Refused, Remotes};
use crate::port_table::PortTable;
use crate::upstreams::Link;
use crate::wanted::Wish;

mod answer;
mod filters;
mod request;

pub(crate) use answer::SERVER_PORT;

/// Which protocol the upstream gateway speaks.
///
/// ```text
///            link           PCP answers
///   Absent ────────► Probing ─────────► Pcp
///                     ▲ │ └─ version 0 ─► NatPmp ── nine times silent, or version 2 ──► Probing
///       half an hour  │ └─ another version, or what is not wanted ──► Other
///                     └──────────────────────────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// There is no gateway to ask.
    Absent,
    /// NAT-PMP (RFC 6886).
    NatPmp,
    /// It speaks none that is wanted.
    Other,
    /// PCP (RFC 6887).
    Pcp,
    /// It has not answered yet.
    Probing,
}

/// What may be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Speaks {
    pub(crate) pcp: bool,
    pub(crate) nat_pmp: bool,
}

/// Keeps ports open at one upstream gateway, by PCP or NAT-PMP.
#[derive(Debug)]
pub struct Client<R> {
    speaks: Speaks,
    secret: [u8; 16],
    rng: R,
    link: Option<Link>,
    dialect: Dialect,
    /// The question whether anybody is there; and, of NAT-PMP, which address is ours outside.
    probe: Probe,
    pcp_epoch: Epoch,
    natpmp_epoch: Epoch,
    external: Option<IpAddr>,
    heard: Option<Instant>,
    /// When the server's epoch is looked at, see [`LOOK`].
    look: Option<Instant>,
    table: PortTable,
    /// Those that were asked for and not answered yet.
    flying: BTreeSet<PortKey>,
    /// RFC 6887 §11.4: after `NO_RESOURCES` nothing new is asked for, or nothing at all.
    hold_new: Option<Instant>,
    hold_all: Option<Instant>,
    /// The server takes no `THIRD_PARTY` option until then.
    hold_third_party: Option<Instant>,
    /// The server takes no `FILTER` option until then.
    hold_filters: Option<Instant>,
    lives: Lifetimes,
    /// The state of the server was lost at the first instant, and is built up again at the second.
    recovery: Option<(Instant, Instant)>,
    transmits: VecDeque<Vec<u8>>,
    counters: Counters,
    last_seen: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Probe {
    backoff: Option<Backoff>,
    due: Option<Instant>,
}

impl<R: Rng> Client<R> {
    pub(crate) const fn new(speaks: Speaks, secret: [u8; 16], rng: R) -> Self {
        Self {
            speaks,
            secret,
            rng,
            link: None,
            dialect: Dialect::Absent,
            probe: Probe {
                backoff: None,
                due: None,
            },
            pcp_epoch: Epoch::NEW,
            natpmp_epoch: Epoch::NEW,
            external: None,
            heard: None,
            look: None,
            table: PortTable::new(),
            flying: BTreeSet::new(),
            hold_new: None,
            hold_all: None,
            hold_third_party: None,
            hold_filters: None,
            lives: Lifetimes::NONE,
            recovery: None,
            transmits: VecDeque::new(),
            counters: Counters::ZERO,
            last_seen: Instant::from_nanos(0),
        }
    }

    /// Says where the upstream gateway is and who we are there; another gateway or another
    /// address of ours is asked for everything again.
    pub fn handle_link(&mut self, link: Option<Link>, now: Instant) {
        self.last_seen = now;
        if self.link == link {
            return;
        }
        let moved = self.link.map(|old| old.server) != link.map(|new| new.server);
        self.link = link;
        if moved {
            (self.pcp_epoch, self.natpmp_epoch) = (Epoch::NEW, Epoch::NEW);
            self.heard = None;
        }
        self.forget_holds();
        self.external = None;
        self.recovery = None;
        self.transmits.clear();
        self.table.forget_closing();
        if let (true, Some(link)) = (moved, link) {
            for (key, port) in self.table.iter_mut() {
                port.nonce = nonce(self.secret, link.server, *key);
                port.granted = None;
                (port.told, port.unfiltered) = (Remotes::Unsaid, false);
            }
        }
        if self.link.is_some() {
            self.start_probing(now);
        } else {
            self.dialect = Dialect::Absent;
            self.probe = Probe::default();
            self.rest_all();
        }
    }

    /// Wants a port to be open.
    pub fn handle_open(&mut self, wish: &Wish, now: Instant) {
        self.last_seen = now;
        let (key, filters) = (wish.key, &wish.filters);
        let addr = self.link.map_or(key.addr, |link| link.server);
        let nonce = nonce(self.secret, addr, key);
        let port = self
            .table
            .want(key, || Port::new(wish.server, Arc::clone(filters), nonce));
        port.server = wish.server;
        self.filter(key, filters);
        let Some(port) = self.table.get_mut(key) else {
            return;
        };
        if matches!(port.phase, Phase::Closing { .. }) {
            port.phase = Phase::FRESH;
            self.flying.remove(&key);
        }
        if matches!(port.phase, Phase::Asking { backoff: None, .. }) {
            self.table.line_up(key);
            self.pump(now);
        }
    }

    /// Wants a port to be closed.
    pub fn handle_close(&mut self, key: PortKey, now: Instant) {
        self.last_seen = now;
        let Some(port) = self.table.get_mut(key) else {
            return;
        };
        // an unanswered request may have opened it
        let asked = matches!(
            port.phase,
            Phase::Asking {
                backoff: Some(_),
                ..
            }
        );
        let may_be_open = asked || port.granted.is_some_and(|it| it.expires() > now);
        if may_be_open && matches!(self.dialect, Dialect::Pcp | Dialect::NatPmp) {
            port.phase = Phase::CLOSING;
            self.flying.remove(&key);
            self.table.line_up(key);
        } else {
            self.forget(key);
        }
        self.pump(now);
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.last_seen = now;
        if let Some((lost, at)) = self.recovery
            && at <= now
        {
            self.recovery = None;
            self.recover(lost, now);
        }
        if self.probe.due.is_some_and(|due| due <= now) {
            self.handle_probe_due(now);
        }
        if self.look.is_some_and(|at| at <= now) {
            self.handle_look_due(now);
        }
        while let Some(key) = self.table.pop_due(now) {
            self.wake(key, now);
        }
        self.pump(now);
    }

    /// Returns the next datagram for the gateway's port 5351.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.transmits.is_empty() {
            return Some(self.last_seen);
        }
        let port = self.table.first_due();
        let recovery = self.recovery.map(|(_, at)| at);
        let own = [recovery, self.probe.due, self.look];
        own.into_iter().chain([port]).flatten().min()
    }

    /// Returns which protocol is spoken.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns whom this speaks with.
    #[must_use]
    pub const fn link(&self) -> Option<Link> {
        self.link
    }

    /// Returns the address by which the Internet knows us, as far as the gateway told.
    #[must_use]
    pub const fn external(&self) -> Option<IpAddr> {
        self.external
    }

    /// Tells whether the gateway was asked several times and has never said anything.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let asked = self.probe.backoff.map_or(0, |backoff| backoff.sent());
        match self.dialect {
            Dialect::Other => true,
            Dialect::Probing => asked >= SILENT_AFTER,
            Dialect::Absent | Dialect::NatPmp | Dialect::Pcp => false,
        }
    }

    /// Iterates over the ports, in order.
    pub fn ports(&self) -> impl Iterator<Item = (PortKey, Ipv4Addr, PortState)> {
        self.table.states()
    }

    /// Returns the counters.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    fn start_probing(&mut self, now: Instant) {
        self.dialect = Dialect::Probing;
        self.rest_all();
        self.probe.backoff = None;
        self.probe.due = Some(now);
        self.handle_probe_due(now);
    }

    fn speak(&mut self, dialect: Dialect, now: Instant) {
        self.dialect = dialect;
        self.probe = Probe::default();
        self.look = Some(now + LOOK);
        if dialect == Dialect::NatPmp || self.asks_address() {
            // RFC 6886 §3.2; a PCP server over IPv4 often speaks NAT-PMP too, and its answer,
            // unlike the mapping of RFC 6887 §11.6, opens nothing
            self.probe.due = Some(now);
            self.handle_probe_due(now);
        }
        self.line_up_all();
        self.pump(now);
    }

    /// Asks for the server's epoch if nothing was heard of it for a while.
    fn handle_look_due(&mut self, now: Instant) {
        self.look = Some(now + LOOK);
        let quiet = self.heard.is_none_or(|heard| heard + LOOK <= now);
        if self.table.is_empty() || !quiet {
            return;
        }
        let bytes = match self.dialect {
            Dialect::NatPmp => Some(natpmp::wire::Request::ExternalAddress.emit()),
            Dialect::Pcp => self.announce(),
            Dialect::Absent | Dialect::Other | Dialect::Probing => None,
        };
        self.transmit(bytes);
    }

    /// Tells whether the external address is asked for by NAT-PMP although PCP is spoken.
    fn asks_address(&self) -> bool {
        let over_ipv4 = self.link.is_some_and(|link| link.local.is_ipv4());
        self.speaks.nat_pmp && over_ipv4
    }

    fn handle_probe_due(&mut self, now: Instant) {
        self.probe.due = None;
        let natpmp = match self.dialect {
            Dialect::Absent => return,
            Dialect::Other => return self.start_probing(now),
            Dialect::NatPmp | Dialect::Pcp => true,
            Dialect::Probing => !self.speaks.pcp,
        };
        let sent = self.probe.backoff.map_or(0, |backoff| backoff.sent());
        if self.dialect == Dialect::NatPmp && sent >= NAT_PMP_ATTEMPTS {
            return self.start_probing(now);
        }
        if self.dialect == Dialect::Pcp && sent >= ADDRESS_ATTEMPTS {
            return;
        }
        let fresh = if self.dialect == Dialect::NatPmp {
            Backoff::NAT_PMP
        } else {
            Backoff::PCP
        };
        let backoff = self.probe.backoff.get_or_insert(fresh);
        self.probe.due = Some(now + backoff.wait(&mut self.rng));
        let bytes = if natpmp {
            Some(natpmp::wire::Request::ExternalAddress.emit())
        } else {
            self.announce()
        };
        self.transmit(bytes);
    }

    fn transmit(&mut self, bytes: Option<Vec<u8>>) {
        if let Some(bytes) = bytes {
            self.transmits.push_back(bytes);
            self.counters.requests = self.counters.requests.saturating_add(1);
        }
    }

    /// A port whose time has come.
    fn wake(&mut self, key: PortKey, now: Instant) {
        let Some(port) = self.table.get_mut(key) else {
            return;
        };
        match port.phase {
            Phase::Asking { backoff, .. } => {
                let sent = backoff.map_or(0, |backoff| backoff.sent());
                if self.dialect == Dialect::NatPmp && sent >= NAT_PMP_ATTEMPTS {
                    // RFC 6886 §3.1: this gateway does not speak it any more
                    return self.start_probing(now);
                }
                self.table.line_up(key);
            }
            Phase::Closing { backoff, .. } => {
                if backoff.is_some_and(|backoff| backoff.sent() >= CLOSE_ATTEMPTS) {
                    self.forget(key);
                } else {
                    self.table.line_up(key);
                }
            }
            Phase::Open { .. } => self.renew(key, now),
            Phase::Refused { .. } => {
                port.phase = Phase::FRESH;
                self.table.line_up(key);
            }
        }
    }

    /// Renews a port that is open. RFC 6886 §3.3 has NAT-PMP repeat a renewal like any request.
    fn renew(&mut self, key: PortKey, now: Instant) {
        let Some(port) = self.table.get_mut(key) else {
            return;
        };
        let (Phase::Open { renewals }, Some(granted)) = (port.phase, port.granted) else {
            return;
        };
        if self.dialect == Dialect::NatPmp || granted.expires() <= now {
            port.phase = Phase::FRESH;
            return self.table.line_up(key);
        }
        if let Some(hold) = self.hold_all
            && hold > now
        {
            return self.table.set_due(key, Some(hold.min(granted.expires())));
        }
        let next = renewals.saturating_add(1);
        port.phase = Phase::Open { renewals: next };
        let due = renewal(granted.at, granted.lifetime, next, now, &mut self.rng);
        self.table
            .set_due(key, Some(due.unwrap_or_else(|| granted.expires())));
        self.say(key, self.lifetime(key, now), now);
    }

    /// Sends for those in line, as many as may be under way at once.
    fn pump(&mut self, now: Instant) {
        let window = match self.dialect {
            Dialect::Pcp => WINDOW,
            // RFC 6886 §3.1: one at a time
            Dialect::NatPmp if self.probe.due.is_none() => 1,
            Dialect::NatPmp | Dialect::Absent | Dialect::Other | Dialect::Probing => return,
        };
        // a repetition has its place already
        while let Some(key) = self.table.next_of(&self.flying) {
            self.ask(key, now);
        }
        while self.flying.len() < window {
            let Some(key) = self.table.next() else {
                return;
            };
            self.ask(key, now);
        }
    }

    /// Asks for a port, or for its end.
    fn ask(&mut self, key: PortKey, now: Instant) {
        let (third_party, life) = (self.is_third_party(key), self.lifetime(key, now));
        let Some(port) = self.table.get_mut(key) else {
            return;
        };
        let closing = matches!(port.phase, Phase::Closing { .. });
        if third_party
            && !closing
            && let Some(until) = self.hold_third_party
            && until > now
        {
            let why = Refused::Pcp(pcp::wire::ResultCode::UnsuppOption);
            port.phase = Phase::Refused { why, until };
            self.flying.remove(&key);
            return self.table.set_due(key, Some(until));
        }
        let hold = if port.granted.is_none() {
            self.hold_new.max(self.hold_all)
        } else {
            self.hold_all
        };
        if let Some(until) = hold
            && until > now
        {
            self.flying.remove(&key);
            return self.table.set_due(key, Some(until));
        }
        let fresh = if self.dialect == Dialect::NatPmp {
            Backoff::NAT_PMP
        } else {
            Backoff::PCP
        };
        let (mut backoff, mut first) = match port.phase {
            Phase::Asking { backoff, first } | Phase::Closing { backoff, first } => {
                (backoff.unwrap_or(fresh), first)
            }
            Phase::Open { .. } | Phase::Refused { .. } => return,
        };
        let wait = backoff.wait(&mut self.rng);
        if backoff.sent() == 1 {
            first = now;
        }
        let backoff = Some(backoff);
        let (phase, lifetime) = if closing {
            (Phase::Closing { backoff, first }, Duration::ZERO)
        } else {
            (Phase::Asking { backoff, first }, life)
        };
        port.phase = phase;
        self.take_off(key, first);
        self.table.set_due(key, Some(now + wait));
        self.say(key, lifetime, now);
    }

    /// Counts a port among those under way, unless it has gone unanswered for long: then it must
    /// not hold up others that the server would answer.
    fn take_off(&mut self, key: PortKey, first: Instant) {
        let sent = match self.table.get(key).map(|port| port.phase) {
            Some(Phase::Asking { backoff, .. } | Phase::Closing { backoff, .. }) => {
                backoff.map_or(0, |backoff| backoff.sent())
            }
            Some(Phase::Open { .. } | Phase::Refused { .. }) | None => 0,
        };
        let others_answered = self.heard.is_some_and(|heard| heard > first);
        let gives_way = (sent > PATIENT_FOR && others_answered) || sent > PATIENT_AT_ALL;
        if self.dialect == Dialect::Pcp && gives_way {
            self.flying.remove(&key);
        } else {
            self.flying.insert(key);
        }
    }

    /// Asks again for everything that was not given since the server lost its state.
    fn recover(&mut self, lost: Instant, now: Instant) {
        for (_, port) in self.table.iter_mut() {
            let since = port.granted.is_some_and(|granted| granted.at >= lost);
            match port.phase {
                Phase::Open { .. } if since => {}
                Phase::Asking { .. } | Phase::Open { .. } | Phase::Refused { .. } => {
                    port.phase = Phase::FRESH;
                }
                Phase::Closing { .. } => {}
            }
        }
        self.forget_holds();
        self.line_up_all();
        self.pump(now);
    }

    /// RFC 6887 §14.1.3 and RFC 6886 §3.7: within five seconds, so that not all clients come at
    /// once.
    fn lose(&mut self, now: Instant) {
        self.counters.losses = self.counters.losses.saturating_add(1);
        if self.recovery.is_none() {
            let wait = REMAP_WITHIN.mul_f64(self.rng.random_range(0.0..=1.0));
            self.recovery = Some((now, now + wait));
        }
    }

    /// Puts every port that is not open and not refused in line, from the beginning.
    fn line_up_all(&mut self) {
        for key in self.table.line_up_asking() {
            self.flying.remove(&key);
        }
    }

    /// Nobody is asked until somebody answers.
    fn rest_all(&mut self) {
        self.look = None;
        self.flying.clear();
        self.table.rest();
    }

    fn forget(&mut self, key: PortKey) {
        self.table.forget(key);
        self.flying.remove(&key);
    }
}

/// So many PCP requests are under way at once.
const WINDOW: usize = 16;

/// After so many transmissions a port no longer holds up others that are answered.
const PATIENT_FOR: u32 = 3;

/// And after so many, 190 s, in any case: the server may have dropped just those.
const PATIENT_AT_ALL: u32 = 6;

/// RFC 6886 §3.1: then the gateway does not speak NAT-PMP.
const NAT_PMP_ATTEMPTS: u32 = 9;

/// A PCP server that does not speak NAT-PMP is not asked for the address for ever.
const ADDRESS_ATTEMPTS: u32 = 3;

/// What is not closed expires.
const CLOSE_ATTEMPTS: u32 = 4;

/// After so many unanswered questions, 45 s, something else may be tried.
const SILENT_AFTER: u32 = 4;

/// Not every gateway announces that it lost its state; a question that leaves no state finds it
/// out long before the next renewal.
const LOOK: Duration = Duration::from_mins(5);

const REMAP_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
