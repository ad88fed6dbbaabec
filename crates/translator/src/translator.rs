//! The machine: packets, snapshots and time in, packets and sessions out.

mod alone;
mod errors;
mod other;
mod pieces;
mod unknown;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use mapping::{Admission, Instant, Nsp, Snapshot};

use crate::admission::Admissions;
use crate::alone::{Inbound, Source};
use crate::answer::Answerer;
use crate::bib::Bib;
use crate::closed_syns::ClosedSyns;
use crate::config::{Config, Links};
use crate::counters::Counters;
use crate::cut::Way;
use crate::ending::{Endings, Expired};
use crate::event::{EndReason, Event, Events};
use crate::filter::Filter;
use crate::frame::Frame;
use crate::hash::Key;
use crate::identification::Identifications;
use crate::incoming::{Incoming, Tuple, determine_incoming_tuple};
use crate::nsps::{NspId, Nsps};
use crate::outbox::Outbox;
use crate::pref64::Pref64;
use crate::saved::{NotRestored, Saved};
use crate::session::{SessionId, SessionTable, Tick};
use crate::severed::Severed;
use crate::ticks::Ticks;
use crate::verdict::{DropReason, Verdict};
use crate::view::Session;
use crate::{cut, fragment, probe, v4_to_v6, v6_to_v4};

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
    last_seen: Instant,
    filter: Filter,
    counters: Counters,
    answerer: Answerer,
    outbox: Outbox,
    closed_syns: ClosedSyns,
    fragments: fragment::Fragments,
    /// Where the pieces began that the packet came in which is being translated, in units of eight
    /// bytes; empty if it came whole.
    starts: Vec<u16>,
    ids: Identifications,
}

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// A SYN to a closed port is to be answered.
    ClosedSyn,
    /// Queued output has not been drained.
    Drain,
    /// Places of sessions that have ended are still to be given back.
    Ending,
    /// Parts of a datagram have waited long enough for the others.
    FragmentExpiry,
    /// A SYN from IPv4 is to be refused.
    IncomingSyn,
    /// A session's lifetime ends.
    SessionExpiry,
}

impl Translator {
    /// Makes a translator that lets nothing pass until it is given a snapshot. The key must be
    /// random.
    #[must_use]
    pub fn new(config: Config, key: [u8; 16], now: Instant) -> Self {
        let hash = Key::new(key);
        let capacity = config.limits.sessions;
        let alone = config.alone.as_ref();
        let bindings = alone.map_or(0, |alone| alone.bindings.len());
        let bindings = u32::try_from(bindings).unwrap_or(u32::MAX);
        let mut bib = Bib::new(&config.pool, capacity.saturating_add(bindings), hash);
        let (ports, time) = (config.limits.resting_ports, config.lifetimes.port_rest());
        bib.pool.let_rest(ports, time);
        let mut admissions = Admissions::default();
        let inbound =
            alone.map(|alone| Inbound::new(alone, capacity, hash, admissions.new_rule(), &mut bib));
        let fragments = fragment::Limits {
            bytes: usize::try_from(config.limits.fragment_bytes).unwrap_or(usize::MAX),
            datagrams: usize::try_from(config.limits.fragmented_datagrams).unwrap_or(usize::MAX),
            lifetime: config.lifetimes.fragment(),
        };
        let filter = Filter {
            nsps: Nsps::default(),
            admissions,
            inbound,
            sessions: SessionTable::new(config.limits, config.lifetimes, bib, hash),
            endings: Endings::default(),
            events: Events::default(),
            severed: Severed::new(hash),
            ticks: Ticks::new(now),
            opened: 0,
            ended: Default::default(),
        };
        let answerer = Answerer::new(config.limits.answers, now);
        Self {
            config,
            last_seen: now,
            filter,
            counters: Counters::default(),
            answerer,
            outbox: Outbox::new(),
            closed_syns: ClosedSyns::default(),
            fragments: fragment::Fragments::new(fragments),
            starts: Vec::new(),
            ids: Identifications::new(hash),
        }
    }

    /// Translates the packet in `frame` in place, or says why not.
    pub fn handle_packet(&mut self, frame: &mut Frame, now: Instant) -> Verdict {
        self.last_seen = now;
        match self.translate(frame) {
            Ok(verdict) => verdict,
            Err(reason) => {
                self.counters.drops.count(reason);
                self.answer_drop(frame, reason);
                self.answer_unknown(frame, reason);
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
    pub fn handle_snapshot(&mut self, old: Option<&Snapshot>, new: &Snapshot, now: Instant) {
        match old {
            Some(old) => self.handle_admissions(&new.admission_changes(old), now),
            None => {
                let opened: Vec<_> = new
                    .admissions()
                    .map(|(server, protocol, port, rule)| {
                        Admission::Open(server, protocol, port, rule.clone())
                    })
                    .collect();
                self.handle_admissions(&opened, now);
            }
        }
        let nsps: Vec<_> = new.generations().map(|generation| generation.nsp).collect();
        self.handle_nsps(&nsps, now);
    }

    /// Opens and closes ports; the sessions of a port that closes end or go on, see
    /// [`Config::end_on_close`].
    pub fn handle_admissions(&mut self, changes: &[Admission], now: Instant) {
        self.last_seen = now;
        for change in changes {
            let gone = self.filter.admissions.apply(change);
            self.filter.handle_gone(gone, self.config.end_on_close);
        }
        self.filter.give_back(LOOKS_AT_ONCE, self.tick());
    }

    /// Makes exactly these prefixes valid; the sessions of a prefix that is no longer among them
    /// end.
    pub fn handle_nsps(&mut self, valid: &[Nsp], now: Instant) {
        let valid: Vec<Pref64> = valid.iter().copied().map(Pref64::from).collect();
        self.handle_pref64s(&valid, now);
    }

    /// As [`Self::handle_nsps`], for prefixes of any length; none may hold another.
    pub fn handle_pref64s(&mut self, valid: &[Pref64], now: Instant) {
        self.last_seen = now;
        let ended: Vec<NspId> = self
            .filter
            .nsps
            .iter()
            .filter(|(_, nsp)| !valid.contains(nsp))
            .map(|(id, _)| id)
            .collect();
        for nsp in ended {
            self.filter.end_nsp(nsp);
        }
        for nsp in valid {
            self.filter.nsps.add(*nsp);
        }
        self.filter.give_back(LOOKS_AT_ONCE, self.tick());
    }

    /// Says what the links on both sides carry now.
    pub const fn handle_links(&mut self, links: Links) {
        self.config.links = links;
    }

    /// Does what is due, a bounded amount at a time; early and repeated calls change nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.last_seen = now;
        self.refuse(now);
        self.fragments.expire(now, &mut self.counters.drops);
        let tick = self.tick();
        for _ in 0..EXPIRIES_AT_ONCE {
            let Some(id) = self.filter.sessions.any_expired(tick) else {
                break;
            };
            match self.filter.expire(id, tick) {
                Expired::Ended | Expired::Waits => {}
                Expired::ProbeBoth => self.probe(id, true),
                Expired::ProbeServer => self.probe(id, false),
            }
        }
        self.filter.give_back(LOOKS_AT_ONCE, tick);
        self.answer_closed_syns(now);
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        if !self.outbox.is_empty() || !self.filter.events.is_empty() {
            return Some((self.last_seen, Timer::Drain));
        }
        if self.filter.is_ending() {
            return Some((self.last_seen, Timer::Ending));
        }
        let refusal = self.next_refusal().map(|due| (due, Timer::IncomingSyn));
        let session = self.filter.sessions.next_expiry();
        let session = session.map(|tick| (self.filter.ticks.instant(tick), Timer::SessionExpiry));
        let fragment = self.fragments.next_expiry();
        let fragment = fragment.map(|due| (due, Timer::FragmentExpiry));
        let syn = self.closed_syns.next_due();
        let syn = syn.map(|due| (due, Timer::ClosedSyn));
        let next = [refusal, session, fragment, syn].into_iter().flatten();
        let (due, timer) = next.min_by_key(|(due, _)| *due)?;
        Some((due.max(self.last_seen), timer))
    }

    /// Returns what happened to a session; drain it after each `handle_*`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.filter.events.pop()
    }

    /// Returns everything that is counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            sessions: self.filter.sessions.live(),
            half_open: self.filter.sessions.half_open(),
            bindings: self.filter.sessions.bib.len(),
            remotes: self.filter.sessions.bib.remotes(),
            sessions_opened: self.filter.opened,
            sessions_ended: self.filter.ended,
            events_lost: self.filter.events.lost(),
            answers: self.answerer.answers(),
            outbox_full: self.outbox.refused(),
            fragments: self.fragments.counters(self.counters.fragments.cut),
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
        (numbers.start..end).filter_map(move |id| Some((id, self.session(SessionId(id), now)?)))
    }

    /// Tells whether a session has this number or a higher one; never wrongly no.
    #[must_use]
    pub fn may_have_sessions_from(&self, number: u32) -> bool {
        number < self.filter.sessions.end()
    }

    /// Iterates over the records of the sessions that have these numbers and are worth keeping.
    pub fn saved(&self, numbers: Range<u32>, now: Instant) -> impl Iterator<Item = (u32, Saved)> {
        let end = numbers.end.min(self.filter.sessions.end());
        let tick = self.filter.ticks.at(now);
        (numbers.start..end)
            .filter_map(move |id| Some((id, self.filter.saved(SessionId(id), tick)?)))
    }

    /// Brings back a session that was saved, as old as it is now; for the time after the first
    /// snapshot and before the first packet. Nothing is told of its beginning. It counts for its
    /// network and server, but begins nothing: neither a limit that has become lower nor the pace
    /// of [`Limits::new_per_remote_64`] refuses it.
    ///
    /// [`Limits::new_per_remote_64`]: crate::Limits::new_per_remote_64
    ///
    /// # Errors
    /// When a remote would not be let in now, or not with these addresses.
    pub fn restore(&mut self, saved: &Saved, now: Instant) -> Result<(), NotRestored> {
        self.last_seen = now;
        self.filter.restore(saved, self.tick())
    }

    /// Ends the session that has this number, and tells whether there was one.
    pub fn end_session(&mut self, number: u32, now: Instant) -> bool {
        self.last_seen = now;
        let id = SessionId(number);
        let there = self.session(id, now).is_some();
        if there {
            self.filter.end(id, EndReason::Requested, self.tick());
        }
        there
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    fn translate(&mut self, frame: &mut Frame) -> Result<Verdict, DropReason> {
        let tuple = match determine_incoming_tuple(frame) {
            Err(DropReason::UnsupportedProtocol) => return self.pass_other(frame),
            tuple => tuple?,
        };
        match tuple {
            Tuple::Four(mut incoming) => self.receive_four(frame, &mut incoming, Source::Mapped),
            Tuple::FourError(outer) => self.error_four_to_six(frame, &outer, Source::Mapped),
            Tuple::FourPiece(piece) => self.four_piece(frame, &piece),
            Tuple::Six(mut incoming) => self.receive_six(frame, &mut incoming),
            Tuple::SixError(outer) => self.error_six_to_four(frame, &outer),
            Tuple::SixPiece(piece) => self.six_piece(frame, &piece),
        }
    }

    fn receive_six(
        &mut self,
        frame: &mut Frame,
        incoming: &mut Incoming<Ipv6Addr>,
    ) -> Result<Verdict, DropReason> {
        incoming.tos = self.config.tos.unwrap_or(incoming.tos);
        let way = cut::six_to_four(incoming, self.config.links.lan_mtu);
        if !self.mapped_six(frame, incoming)? {
            self.six_to_four(frame, incoming)?;
        }
        if let Some(verdict) = self.hairpin(frame, incoming.came_in_pieces)? {
            return Ok(verdict);
        }
        let verdict = way.take_four(frame, &self.starts, &mut self.outbox)?;
        self.counters.fragments.cut += u64::from(verdict == Verdict::Hold);
        Ok(verdict)
    }

    fn receive_four(
        &mut self,
        frame: &mut Frame,
        incoming: &mut Incoming<Ipv4Addr>,
        source: Source,
    ) -> Result<Verdict, DropReason> {
        if self.config.zero_traffic_class {
            incoming.tos = 0;
        }
        self.is_not_forged(incoming.src, source)?;
        let way = if let Some(way) = self.mapped_four(frame, incoming, source)? {
            way
        } else if let Some(way) = self.four_to_six(frame, incoming)? {
            way
        } else {
            return Ok(Verdict::Hold);
        };
        let verdict = way.take_six(frame, &self.starts, &mut self.outbox)?;
        self.counters.fragments.cut += u64::from(verdict == Verdict::Hold);
        Ok(verdict)
    }

    fn six_to_four(
        &mut self,
        frame: &mut Frame,
        incoming: &Incoming<Ipv6Addr>,
    ) -> Result<(), DropReason> {
        let tick = self.tick();
        let id = self.filter.six_to_four(incoming, tick)?;
        let session = self.filter.sessions.get(id).ok_or(DropReason::NoSession)?;
        self.fits_lan(incoming)?;
        let outgoing = v6_to_v4::compute_outgoing_tuple(&session);
        let traffic = incoming.traffic();
        v6_to_v4::translate(
            frame,
            incoming,
            &outgoing,
            self.config.links.mss(),
            &mut self.ids,
        )?;
        if let Some(entry) = self.filter.sessions.get_mut(id) {
            entry.traffic.0.add(traffic);
        }
        self.counters.six_to_four.add(traffic);
        Ok(())
    }

    /// Translates a packet of a session and says how it leaves; `None` when it waits.
    fn four_to_six(
        &mut self,
        frame: &mut Frame,
        incoming: &mut Incoming<Ipv4Addr>,
    ) -> Result<Option<Way>, DropReason> {
        let Some(id) = self.session_from_four(frame, incoming)? else {
            return Ok(None);
        };
        let session = self.filter.sessions.get(id).ok_or(DropReason::NoSession)?;
        let nsp = self
            .filter
            .nsps
            .get(session.six.nsp)
            .ok_or(DropReason::NoSession)?;
        let way = cut::four_to_six(
            incoming,
            self.config.links.wan_mtu,
            self.config.lowest_ipv6_mtu,
        )?;
        let outgoing = v4_to_v6::compute_outgoing_tuple(&session, nsp);
        let traffic = incoming.traffic();
        v4_to_v6::translate(frame, incoming, &outgoing, self.config.links.mss())?;
        if let Some(entry) = self.filter.sessions.get_mut(id) {
            entry.traffic.1.add(traffic);
        }
        self.counters.four_to_six.add(traffic);
        Ok(Some(way))
    }

    fn session(&self, id: SessionId, now: Instant) -> Option<Session> {
        let entry = self.filter.sessions.get(id)?;
        self.filter
            .passes(&entry)
            .then(|| self.filter.view(id, now))?
    }

    /// Asks the server, and the remote too if it is so, whether a connection is alive.
    fn probe(&mut self, id: SessionId, both: bool) {
        if let Some(session) = self.filter.view(id, self.last_seen) {
            self.outbox.push(&[&probe::to_server(&session)]);
            if both {
                self.outbox.push(&[&probe::to_remote(&session)]);
            }
        }
    }

    fn tick(&self) -> Tick {
        self.filter.ticks.at(self.last_seen)
    }
}

/// Bounds the time that packets wait for expiries.
const EXPIRIES_AT_ONCE: usize = 64;

/// Bounds the time that packets wait for places to be given back.
const LOOKS_AT_ONCE: u32 = 1024;
