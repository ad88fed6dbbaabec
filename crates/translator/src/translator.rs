//! The machine: packets, snapshots and time in, packets and sessions out.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::time::Duration;

use mapping::{Admission, Instant, Nsp, Snapshot};

use crate::admission::RuleId;
use crate::bib::Bib;
use crate::config::Config;
use crate::counters::{Counters, Traffic};
use crate::filter::{Expired, Filter};
use crate::frame::Frame;
use crate::hash::Key;
use crate::incoming::{Incoming, Tuple, determine_incoming_tuple};
use crate::nsps::{NspId, Nsps};
use crate::outbox::Outbox;
use crate::pref64::Pref64;
use crate::session::{Found, SessionId, SessionTable, Tick};
use crate::tcp_state::TcpState;
use crate::transport::Transport;
use crate::verdict::{DropReason, Verdict};
use crate::{v4_to_v6, v6_to_v4};

/// A stateful NAT64 (RFC 6146).
///
/// ```
/// use mapping::Instant;
/// use translator::{Config, Frame, PoolRange, Translator, Verdict};
///
/// let pool = PoolRange::new([192, 168, 64, 192].into(), 26)?;
/// let now = Instant::from_nanos(0);
/// let mut translator = Translator::new(Config::new(pool), [7; 16], now);
/// let mut frame = Frame::new();
/// frame.filled(0);
/// assert!(matches!(translator.handle_packet(&mut frame, now), Verdict::Drop(_)));
/// assert_eq!(translator.counters().drops.total(), 1);
/// # Ok::<(), translator::InvalidPool>(())
/// ```
#[derive(Debug)]
pub struct Translator {
    config: Config,
    start: Instant,
    last_seen: Instant,
    filter: Filter,
    counters: Counters,
    outbox: Outbox,
    /// The next identification of an IPv4 packet that may be fragmented.
    ids: u16,
}

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// A session's lifetime ends.
    SessionExpiry,
}

/// A session, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its kind.
    pub transport: Transport,
    /// The remote and its port or identifier.
    pub remote: (Ipv6Addr, u16),
    /// Where the remote knocks.
    pub external: (Ipv6Addr, u16),
    /// How the remote appears to the server.
    pub pool: (Ipv4Addr, u16),
    /// Where the server answers.
    pub server: (Ipv4Addr, u16),
    /// Present for TCP.
    pub tcp: Option<TcpState>,
    /// How long it has been there.
    pub age: Duration,
    /// How long until it ends if nothing comes.
    pub expires_in: Duration,
    /// From the remote.
    pub six_to_four: Traffic,
    /// From the server.
    pub four_to_six: Traffic,
}

impl Translator {
    /// Makes a translator that lets nothing pass until it is given a snapshot. The key must be
    /// random.
    #[must_use]
    pub fn new(config: Config, key: [u8; 16], now: Instant) -> Self {
        let capacity = config.limits.sessions;
        let hash = Key::new(key);
        let [a, b, ..] = key;
        let bib = Bib::new(&config.pool, capacity, hash);
        let filter = Filter {
            nsps: Nsps::default(),
            admissions: crate::admission::Admissions::default(),
            sessions: SessionTable::new(capacity, config.lifetimes, bib, hash),
            opened: 0,
            evicted: 0,
        };
        Self {
            config,
            start: now,
            last_seen: now,
            filter,
            counters: Counters::default(),
            outbox: Outbox::new(),
            ids: u16::from_be_bytes([a, b]),
        }
    }

    /// Translates the packet in `frame` in place, or says why not.
    pub fn handle_packet(&mut self, frame: &mut Frame, now: Instant) -> Verdict {
        self.last_seen = now;
        match self.translate(frame) {
            Ok(()) => Verdict::Forward,
            Err(reason) => {
                self.counters.drops.count(reason);
                Verdict::Drop(reason)
            }
        }
    }

    /// Returns the next packet that leaves besides those that were translated in place, offload
    /// header first; drain it after each `handle_*`.
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.outbox.pop()
    }

    /// Follows from one snapshot to another; without an old one, everything is new.
    pub fn handle_snapshot(&mut self, old: Option<&Snapshot>, new: &Snapshot) {
        match old {
            Some(old) => self.handle_admissions(&new.admission_changes(old)),
            None => {
                let opened: Vec<_> = new
                    .admissions()
                    .map(|(server, protocol, port, to)| Admission::Open(server, protocol, port, to))
                    .collect();
                self.handle_admissions(&opened);
            }
        }
        let nsps: Vec<_> = new.generations().map(|generation| generation.nsp).collect();
        self.handle_nsps(&nsps);
    }

    /// Opens and closes ports; the sessions of a port that closes end.
    pub fn handle_admissions(&mut self, changes: &[Admission]) {
        for change in changes {
            let ended = self.filter.admissions.apply(*change);
            for rule in ended.port.into_iter().chain(ended.echo) {
                self.close_rule(rule);
            }
        }
    }

    /// Makes exactly these prefixes valid; the sessions of a prefix that is no longer among them
    /// end.
    pub fn handle_nsps(&mut self, valid: &[Nsp]) {
        let valid: Vec<Pref64> = valid.iter().copied().map(Pref64::from).collect();
        self.handle_pref64s(&valid);
    }

    /// As [`Self::handle_nsps`], for prefixes of any length; none may hold another.
    pub fn handle_pref64s(&mut self, valid: &[Pref64]) {
        let ended: Vec<NspId> = self
            .filter
            .nsps
            .iter()
            .filter(|(_, nsp)| !valid.contains(nsp))
            .map(|(id, _)| id)
            .collect();
        for nsp in ended {
            for id in (0..self.filter.sessions.end()).map(SessionId) {
                if self
                    .filter
                    .sessions
                    .get(id)
                    .is_some_and(|entry| entry.six.nsp == nsp)
                {
                    self.close(id);
                }
            }
            self.filter.nsps.remove(nsp);
        }
        for nsp in valid {
            self.filter.nsps.add(*nsp);
        }
    }

    /// Sets the largest IPv6 packet that the WAN carries.
    pub const fn handle_mtu(&mut self, mtu: u16) {
        self.config.mtu = mtu;
    }

    /// Ends sessions whose lifetime has ended, a bounded number at a time; early and repeated
    /// calls change nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.last_seen = now;
        let tick = self.tick();
        for _ in 0..EXPIRIES_AT_ONCE {
            let Some(id) = self.filter.sessions.any_expired(tick) else {
                break;
            };
            if self.filter.expire(id, tick) == Expired::Ended {
                self.counters.sessions_expired += 1;
            }
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let tick = self.filter.sessions.next_expiry()?;
        let due = self.start + Duration::from_secs(u64::from(tick.0));
        Some((due.max(self.last_seen), Timer::SessionExpiry))
    }

    /// Returns everything that is counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            sessions: self.filter.sessions.live(),
            sessions_opened: self.filter.opened,
            sessions_evicted: self.filter.evicted,
            outbox_full: self.outbox.refused(),
            ..self.counters
        }
    }

    /// Iterates over the live sessions that have these numbers, by number.
    pub fn sessions(
        &self,
        numbers: Range<u32>,
        now: Instant,
    ) -> impl Iterator<Item = (u32, Session)> {
        let end = numbers.end.min(self.filter.sessions.end());
        (numbers.start..end).filter_map(move |id| {
            let entry = self.filter.sessions.get(SessionId(id))?;
            Some((id, self.session(&entry, now)?))
        })
    }

    /// Tells whether a session has this number or a higher one; never wrongly no.
    #[must_use]
    pub fn may_have_sessions_from(&self, number: u32) -> bool {
        number < self.filter.sessions.end()
    }

    /// Ends the session that has this number, and tells whether there was one.
    pub fn end_session(&mut self, number: u32) -> bool {
        let id = SessionId(number);
        if self.filter.sessions.get(id).is_none() {
            return false;
        }
        self.filter.end(id);
        self.counters.sessions_requested += 1;
        true
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    fn translate(&mut self, frame: &mut Frame) -> Result<(), DropReason> {
        match determine_incoming_tuple(frame)? {
            Tuple::Four(incoming) => self.four_to_six(frame, &incoming),
            Tuple::Six(incoming) => self.six_to_four(frame, &incoming),
        }
    }

    fn six_to_four(
        &mut self,
        frame: &mut Frame,
        incoming: &Incoming<Ipv6Addr>,
    ) -> Result<(), DropReason> {
        let tick = self.tick();
        let id = self.filter.six_to_four(incoming, tick)?;
        let session = self.filter.sessions.get(id).ok_or(DropReason::NoSession)?;
        let outgoing = v6_to_v4::compute_outgoing_tuple(&session);
        let traffic = incoming.traffic();
        v6_to_v4::translate(
            frame,
            incoming,
            &outgoing,
            mss(self.config.mtu),
            &mut self.ids,
        )?;
        if let Some(entry) = self.filter.sessions.get_mut(id) {
            entry.traffic.0.add(traffic);
        }
        self.counters.six_to_four.add(traffic);
        Ok(())
    }

    fn four_to_six(
        &mut self,
        frame: &mut Frame,
        incoming: &Incoming<Ipv4Addr>,
    ) -> Result<(), DropReason> {
        let id = self.filter.four_to_six(incoming, self.tick())?;
        let session = self.filter.sessions.get(id).ok_or(DropReason::NoSession)?;
        let nsp = self
            .filter
            .nsps
            .get(session.six.nsp)
            .ok_or(DropReason::NoSession)?;
        let outgoing = v4_to_v6::compute_outgoing_tuple(&session, nsp);
        let traffic = incoming.traffic();
        v4_to_v6::translate(
            frame,
            incoming,
            &outgoing,
            self.config.mtu,
            mss(self.config.mtu),
        )?;
        if let Some(entry) = self.filter.sessions.get_mut(id) {
            entry.traffic.1.add(traffic);
        }
        self.counters.four_to_six.add(traffic);
        Ok(())
    }

    fn close_rule(&mut self, rule: RuleId) {
        while let Some(id) = self.filter.sessions.any_of_rule(rule) {
            self.close(id);
        }
    }

    fn close(&mut self, id: SessionId) {
        self.filter.end(id);
        self.counters.sessions_closed += 1;
    }

    fn session(&self, entry: &Found<'_>, now: Instant) -> Option<Session> {
        let nsp = self.filter.nsps.get(entry.six.nsp)?;
        let at = |tick: Tick| self.start + Duration::from_secs(u64::from(tick.0));
        Some(Session {
            transport: entry.six.transport,
            remote: (entry.six.remote, entry.six.remote_port),
            external: (nsp.embed(entry.six.server), entry.six.external_port),
            pool: (entry.four.pool, entry.four.pool_port),
            server: (entry.four.server, entry.four.internal_port),
            tcp: entry.tcp,
            age: now - at(entry.opened),
            expires_in: at(self.filter.sessions.deadline(entry)) - now,
            six_to_four: entry.traffic.0.total(),
            four_to_six: entry.traffic.1.total(),
        })
    }

    fn tick(&self) -> Tick {
        Tick(u32::try_from((self.last_seen - self.start).as_secs()).unwrap_or(u32::MAX))
    }
}

/// Returns the largest segment that fits `mtu` in IPv6, whose header is the longer one.
const fn mss(mtu: u16) -> u16 {
    mtu.saturating_sub(40 + 20)
}

/// Bounds the time that packets wait for expiries.
const EXPIRIES_AT_ONCE: usize = 256;
