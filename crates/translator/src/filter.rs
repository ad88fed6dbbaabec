//! Filtering and updating of binding and session information (RFC 6146 §3.5).

use std::net::{Ipv4Addr, Ipv6Addr};

use mapping::Protocol;

use crate::admission::{Admissions, RuleId};
use crate::alone::Inbound;
use crate::bib::{BibId, Remote};
use crate::ending::Endings;
use crate::event::{EndReason, Events};
use crate::incoming::{Incoming, Segment};
use crate::martian::is_host_v6;
use crate::nsps::Nsps;
use crate::proof::Proof;
use crate::session::{
    Found, FourTuple, Lifetime, New, Place, SessionId, SessionTable, SixTuple, Tick,
};
use crate::severed::Severed;
use crate::tcp_state::{Direction, TcpState};
use crate::ticks::Ticks;
use crate::transport::Transport;
use crate::verdict::DropReason;
use crate::wire::tcp::Flags;

/// Who may pass, and who does.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) nsps: Nsps,
    pub(crate) admissions: Admissions,
    pub(crate) sessions: SessionTable,
    pub(crate) endings: Endings,
    pub(crate) events: Events,
    pub(crate) ticks: Ticks,
    pub(crate) severed: Severed,
    /// Present in a translator that stands alone.
    pub(crate) inbound: Option<Inbound>,
    /// Sessions that ever were.
    pub(crate) opened: u64,
    /// Sessions that have ended, by reason.
    pub(crate) ended: [u64; EndReason::ALL.len()],
}

impl Filter {
    /// Finds or starts the session of a packet from a remote.
    pub(crate) fn six_to_four(
        &mut self,
        incoming: &Incoming<Ipv6Addr>,
        now: Tick,
    ) -> Result<SessionId, DropReason> {
        if self.nsps.contains(incoming.src) {
            return Err(DropReason::SourceInPref64);
        }
        let tuple = self.six_tuple(incoming).ok_or(DropReason::NotOurs)?;
        let found = self.sessions.find_six(&tuple);
        match found.and_then(|id| self.alive(id, now)) {
            Some(id) if !self.begins_anew(id, &incoming.segment) => {
                self.update(id, Direction::SixToFour, &incoming.segment, now);
                return Ok(id);
            }
            Some(finished) => self.end(finished, EndReason::Evicted, now),
            None => {}
        }
        self.start(tuple, &incoming.segment, now)
    }

    /// Tells whether a segment opens a connection anew that is over: both ends have finished it, or
    /// its server has reset it.
    // DEVIATION RFC 6146 §3.5.2.2: that is another session, and admitted as any other, because the
    // old one would end in the midst of the new connection, or be held for proven.
    fn begins_anew(&self, id: SessionId, segment: &Segment) -> bool {
        let is_finished = |entry: Found<'_>| {
            entry.tcp == Some(TcpState::V4FinV6FinRcv) || entry.lifetime == Lifetime::TcpClosing
        };
        matches!(segment, Segment::Tcp(tcp) if tcp.flags.opens())
            && self.sessions.get(id).is_some_and(is_finished)
    }

    /// Returns the tuple of a packet to a valid prefix.
    pub(crate) fn six_tuple(&self, incoming: &Incoming<Ipv6Addr>) -> Option<SixTuple> {
        let (nsp, server) = self.nsps.extract(incoming.dst)?;
        let (remote_port, external_port) = incoming.segment.ports(true);
        Some(SixTuple {
            transport: incoming.segment.transport(),
            remote: incoming.src,
            remote_port,
            nsp,
            server,
            external_port,
        })
    }

    /// Finds the session of a packet from the LAN; it must come from the server of that session.
    pub(crate) fn four_to_six(
        &mut self,
        incoming: &Incoming<Ipv4Addr>,
        now: Tick,
    ) -> Result<SessionId, DropReason> {
        if !self.sessions.bib.contains(incoming.dst) {
            return Err(DropReason::NotOurs);
        }
        if matches!(incoming.segment, Segment::EchoRequest { .. }) {
            return Err(DropReason::NoSession);
        }
        let tuple = four_tuple(incoming);
        let found = self.sessions.find_four(&tuple);
        let id = match found.and_then(|id| self.alive(id, now)) {
            Some(id) if self.begins_anew(id, &incoming.segment) && self.is_bound(&tuple) => {
                self.end(id, EndReason::Evicted, now);
                return Err(DropReason::NoSession);
            }
            found => found.ok_or_else(|| self.without_session(incoming))?,
        };
        self.update(id, Direction::FourToSix, &incoming.segment, now);
        Ok(id)
    }

    /// Tells whether a packet from the LAN may be of a connection that was forgotten: it comes from
    /// an open port, and opens none itself.
    fn without_session(&self, incoming: &Incoming<Ipv4Addr>) -> DropReason {
        match incoming.segment {
            Segment::Tcp(tcp)
                if self.inbound.is_none()
                    && !tcp.flags.opens()
                    && !tcp.flags.has(Flags::RST)
                    && self
                        .admissions
                        .leads_to(incoming.src, Protocol::Tcp, tcp.src_port) =>
            {
                DropReason::UnknownConnection
            }
            _ => DropReason::NoSession,
        }
    }

    pub(crate) fn update(
        &mut self,
        id: SessionId,
        direction: Direction,
        segment: &Segment,
        now: Tick,
    ) {
        if !self.sessions.may_resume(id, now) {
            return;
        }
        let Some(entry) = self.sessions.get_mut(id) else {
            return;
        };
        let untold = !entry.told && entry.proof != Proof::Given;
        entry.proof = entry.proof.next(direction, segment);
        let proven = entry.proof == Proof::Given;
        let lifetime = match segment {
            Segment::EchoReply { .. } | Segment::EchoRequest { .. } => Some(Lifetime::IcmpQuery),
            Segment::Tcp(tcp) => entry.tcp.and_then(|state| {
                let (next, lifetime) = state.next(direction, tcp.flags);
                entry.tcp = Some(next);
                // a further reset says at most that the server has reset too
                let is_news = (state, next) != (TcpState::Trans, TcpState::Trans)
                    || matches!(entry.lifetime, Lifetime::TcpReset | Lifetime::TcpTransitory);
                // DEVIATION RFC 6146 §3.5.2.2: the answer of the server alone does not start the
                // lifetime of an established connection, because to RFC 5382 §5 it is open in
                // part until the remote acknowledges, and a forged SYN would hold its place for
                // two hours.
                lifetime.filter(|_| is_news).map(|lifetime| {
                    if proven {
                        lifetime
                    } else {
                        Lifetime::TcpOpening
                    }
                })
            }),
            Segment::Udp(_) if proven => Some(Lifetime::Udp),
            Segment::Udp(_) => Some(Lifetime::UdpOpening),
        };
        if let Some(lifetime) = lifetime {
            self.sessions.touch(id, lifetime, now);
        }
        if proven && untold {
            self.tell(id, now);
        }
    }

    fn start(
        &mut self,
        six: SixTuple,
        segment: &Segment,
        now: Tick,
    ) -> Result<SessionId, DropReason> {
        if !is_host_v6(six.remote) {
            return Err(DropReason::IllegalSource);
        }
        // DEVIATION RFC 6146 §3.8: no hairpinning, because between two remotes it would make the
        // home a relay.
        if self.sessions.bib.contains(six.server) && !self.hairpins() {
            return Err(DropReason::Hairpin);
        }
        self.represents(six.nsp, six.server)?;
        let admitted = match self.admit_everything(&six, segment) {
            Some(admitted) => admitted?,
            None => self.admit(&six, segment)?,
        };
        let (tcp, lifetime) = match six.transport {
            Transport::IcmpQuery => (None, Lifetime::IcmpQuery),
            Transport::Tcp => (Some(TcpState::V6Init), Lifetime::TcpOpening),
            Transport::Udp => (None, Lifetime::UdpOpening),
        };
        self.open(six, admitted, (tcp, lifetime), now)
    }

    /// Adds a session that a rule has let in.
    pub(crate) fn open(
        &mut self,
        six: SixTuple,
        (rule, internal_port): (RuleId, u16),
        (tcp, lifetime): (Option<TcpState>, Lifetime),
        now: Tick,
    ) -> Result<SessionId, DropReason> {
        self.make_room(&six, now)?;
        let remote = Remote::of(&six);
        let bib = self.bind(remote, now)?;
        let four = self.sessions.bib.get(bib).map(|binding| FourTuple {
            transport: six.transport,
            pool: binding.addr,
            pool_port: binding.port,
            server: six.server,
            internal_port,
        });
        // Two external ports of a server may lead to one internal port; to a remote that uses one
        // port for both, the server could not answer.
        let session = match four {
            Some(four) if self.is_in_use(&four, now) => Err(DropReason::TupleInUse),
            Some(four) => self
                .sessions
                .insert(
                    New {
                        six,
                        four,
                        bib,
                        rule,
                        tcp,
                        lifetime,
                    },
                    now,
                )
                .ok_or(DropReason::SessionsFull),
            None => Err(DropReason::PoolExhausted),
        };
        match session {
            Ok(id) => {
                self.opened += 1;
                self.began(id, bib);
                self.tell(id, now);
            }
            Err(_) => self.sessions.bib.release(bib),
        }
        session
    }

    fn is_in_use(&mut self, four: &FourTuple, now: Tick) -> bool {
        let found = self.sessions.find_four(four);
        found.and_then(|id| self.alive(id, now)).is_some()
    }

    fn make_room(&mut self, six: &SixTuple, now: Tick) -> Result<(), DropReason> {
        if self.sessions.is_full() {
            self.give_back(LOOKS_FOR_ROOM, now);
        }
        // One for each limit.
        for _ in 0..3 {
            match self.sessions.place_for(six, now) {
                Place::Free => return Ok(()),
                Place::Full(reason) => return Err(reason),
                Place::Instead(id) => self.end(id, EndReason::Evicted, now),
            }
        }
        match self.sessions.place_for(six, now) {
            Place::Free => Ok(()),
            Place::Full(_) | Place::Instead(_) => Err(DropReason::SessionsFull),
        }
    }

    /// Binds a remote, if need be to a pool port that a half-open session gives up.
    fn bind(&mut self, remote: Remote, now: Tick) -> Result<BibId, DropReason> {
        self.sessions.bib.pool.wake(now);
        if let Some(bib) = self.sessions.bib.acquire(remote) {
            return Ok(bib);
        }
        let id = self.sessions.place_in_pool(&remote);
        self.end(
            id.ok_or(DropReason::PoolExhausted)?,
            EndReason::Evicted,
            now,
        );
        let bib = self.sessions.bib.acquire(remote);
        bib.ok_or(DropReason::PoolExhausted)
    }

    /// Returns the rule that lets a first packet in, and the port where the server listens. Only a
    /// leased host has open ports, so that every other address is closed as well.
    fn admit(&self, six: &SixTuple, segment: &Segment) -> Result<(RuleId, u16), DropReason> {
        match segment {
            Segment::EchoReply { .. } => Err(DropReason::NoSession),
            Segment::Tcp(tcp) => {
                let open = self.admissions.admit(six)?;
                // DEVIATION RFC 6146 §3.5.2.2: a binding alone lets no segment pass, because
                // filtering is by session.
                if tcp.flags.opens() {
                    Ok(open)
                } else {
                    Err(DropReason::NotSyn)
                }
            }
            Segment::EchoRequest { .. } | Segment::Udp(_) => self.admissions.admit(six),
        }
    }
}

/// Bounds the time that a packet waits for places of sessions that have ended.
const LOOKS_FOR_ROOM: u32 = 16;
/// Returns the tuple of a packet from the LAN.
pub(crate) fn four_tuple(incoming: &Incoming<Ipv4Addr>) -> FourTuple {
    let (internal_port, pool_port) = incoming.segment.ports(false);
    FourTuple {
        transport: incoming.segment.transport(),
        pool: incoming.dst,
        pool_port,
        server: incoming.src,
        internal_port,
    }
}
