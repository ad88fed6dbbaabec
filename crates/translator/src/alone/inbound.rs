//! Sessions that start from IPv4, and what filtering has to know for them (RFC 6146 §3.5).

use std::net::Ipv4Addr;

use mapping::Instant;

use crate::admission::RuleId;
use crate::alone::ledger::{Bound, Ledger};
use crate::alone::waiting::{Syn, Waiting};
use crate::alone::{Alone, Filtering};
use crate::bib::{Bib, BibId, Remote};
use crate::filter::Filter;
use crate::hash::Key;
use crate::incoming::{Incoming, Segment};
use crate::martian::is_host_v4;
use crate::nsps::NspId;
use crate::proof::Proof;
use crate::session::{FourTuple, Lifetime, SessionId, SixTuple, Tick};
use crate::tcp_state::{Direction, TcpState};
use crate::transport::Transport;
use crate::verdict::DropReason;

/// The state of a translator that stands alone.
#[derive(Debug)]
pub(crate) struct Inbound {
    filtering: Filtering,
    hairpin: bool,
    restricted: bool,
    /// By which everything is let in that is not restricted.
    rule: RuleId,
    ledger: Ledger,
    waiting: Waiting,
}

/// What there is for a packet from IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its session.
    Session(SessionId),
    /// Time to wait for a SYN from IPv6.
    Waits,
}

impl Inbound {
    /// Makes the state and the static bindings, which [`Alone::check`] has found possible.
    pub(crate) fn new(alone: &Alone, sessions: u32, key: Key, rule: RuleId, bib: &mut Bib) -> Self {
        let bindings = u32::try_from(alone.bindings.len()).unwrap_or(u32::MAX);
        let mut ledger = Ledger::new(sessions, bindings, key);
        for binding in &alone.bindings {
            let remote = Remote {
                transport: binding.transport,
                addr: binding.six.0,
                port: binding.six.1,
                nsp: FIRST_PREFIX,
            };
            let (pool, port) = binding.four;
            if let Some(id) = bib.bind(remote, pool, port) {
                let bound = Bound {
                    transport: binding.transport,
                    pool,
                    port,
                };
                ledger.bind(bound, id);
            }
        }
        Self {
            filtering: alone.filtering,
            hairpin: alone.hairpin,
            restricted: alone.restricted,
            rule,
            ledger,
            waiting: Waiting::new(),
        }
    }

    /// Takes a SYN that has waited for long enough.
    pub(crate) fn refused(&mut self, now: Instant) -> Option<Syn> {
        self.waiting.expired(now)
    }

    /// Returns when the next SYN has waited for long enough.
    pub(crate) fn next_refusal(&self) -> Option<Instant> {
        self.waiting.next()
    }

    /// Returns the binding through which a packet may start a session, or why it may not.
    fn permit(
        &mut self,
        four: &FourTuple,
        segment: &Segment,
        packet: &[u8],
        now: Instant,
    ) -> Result<Option<BibId>, DropReason> {
        let bound = four.into();
        let permitted = match self.ledger.binding(bound) {
            // A static binding says that the host is to be reached, by whomever.
            Some((bib, true)) => Some(bib),
            // DEVIATION RFC 6146 §3.5.2.2: a SYN from an address that filtering by address admits
            // does not wait, because waiting is there for what the filter would drop.
            Some((bib, false)) => (self.filtering == Filtering::EndpointIndependent
                || self.ledger.knows(bound, four.server))
            .then_some(bib),
            None => None,
        };
        match segment {
            Segment::EchoReply { .. } => Err(DropReason::NoSession),
            // DEVIATION RFC 6146 §3.5.2.2: a binding alone lets no other segment pass, because
            // filtering is by session.
            Segment::Tcp(tcp) if !tcp.flags.opens() => Err(DropReason::NoSession),
            Segment::Tcp(_) if permitted.is_none() => {
                let proof = Proof::default().next(Direction::FourToSix, segment);
                if self.waiting.put(four, proof, packet, now) {
                    Ok(None)
                } else {
                    Err(DropReason::Unsolicited)
                }
            }
            Segment::EchoRequest { .. } | Segment::Tcp(_) | Segment::Udp(_) => {
                permitted.map(Some).ok_or(DropReason::NoSession)
            }
        }
    }
}

impl Filter {
    /// Finds or starts the session of a packet from IPv4 that came with `packet`.
    pub(crate) fn start_from_four(
        &mut self,
        incoming: &Incoming<Ipv4Addr>,
        packet: &[u8],
        now: (Tick, Instant),
    ) -> Result<Found, DropReason> {
        let (internal_port, pool_port) = incoming.segment.ports(false);
        let four = FourTuple {
            transport: incoming.segment.transport(),
            pool: incoming.dst,
            pool_port,
            server: incoming.src,
            internal_port,
        };
        let found = self.sessions.find_four(&four);
        if let Some(id) = found.and_then(|id| self.alive(id, now.0)) {
            self.update(id, Direction::FourToSix, &incoming.segment, now.0);
            return Ok(Found::Session(id));
        }
        let inbound = self.inbound.as_mut().ok_or(DropReason::NoSession)?;
        if !is_host_v4(incoming.src) {
            return Err(DropReason::IllegalSource);
        }
        let rule = inbound.rule;
        let Some(bib) = inbound.permit(&four, &incoming.segment, packet, now.1)? else {
            return Ok(Found::Waits);
        };
        let binding = self.sessions.bib.get(bib);
        let remote = binding.ok_or(DropReason::NoSession)?.remote;
        self.represents(remote.nsp, incoming.src)?;
        let six = SixTuple {
            transport: four.transport,
            remote: remote.addr,
            remote_port: remote.port,
            nsp: remote.nsp,
            server: four.server,
            external_port: four.internal_port,
        };
        // The remote may have a session with this peer by another port of the pool.
        if self.sessions.find_six(&six).is_some() {
            return Err(DropReason::TupleInUse);
        }
        let (tcp, lifetime) = match four.transport {
            Transport::IcmpQuery => (None, Lifetime::IcmpQuery),
            Transport::Tcp => (Some(TcpState::V4Init), Lifetime::TcpOpening),
            Transport::Udp => (None, Lifetime::UdpOpening),
        };
        let id = self.open(six, (rule, internal_port), (tcp, lifetime), now.0)?;
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.proof = Proof::default().next(Direction::FourToSix, &incoming.segment);
        }
        Ok(Found::Session(id))
    }

    /// Takes note of a session that has begun. If a SYN from IPv4 has waited for it, both sides
    /// have opened it at once.
    pub(crate) fn began(&mut self, id: SessionId, bib: BibId) {
        let (Some(inbound), Some(session)) = (&mut self.inbound, self.sessions.get(id)) else {
            return;
        };
        let four = session.four;
        let is_first = self.sessions.bib.has_one_session(bib);
        inbound.ledger.began(&four, bib, is_first);
        if four.transport != Transport::Tcp {
            return;
        }
        if let Some(syn) = inbound.waiting.take(&four)
            && let Some(entry) = self.sessions.get_mut(id)
        {
            entry.tcp = Some(TcpState::Established);
            entry.proof = syn.proof;
        }
    }

    /// Takes note of a session that is about to end.
    pub(crate) fn will_end(&mut self, id: SessionId) {
        if let (Some(inbound), Some(session)) = (&mut self.inbound, self.sessions.get(id)) {
            inbound.ledger.ended(&session.four);
        }
    }

    /// Lets in whatever is behind a prefix, unless it is restricted to what admissions open.
    pub(crate) fn admit_everything(
        &self,
        six: &SixTuple,
        segment: &Segment,
    ) -> Option<Result<(RuleId, u16), DropReason>> {
        let inbound = self
            .inbound
            .as_ref()
            .filter(|inbound| !inbound.restricted)?;
        Some(match segment {
            Segment::EchoReply { .. } => Err(DropReason::NoSession),
            Segment::Tcp(tcp) if !tcp.flags.opens() => Err(DropReason::NotSyn),
            Segment::EchoRequest { .. } if is_host_v4(six.server) => Ok((inbound.rule, 0)),
            Segment::Tcp(_) | Segment::Udp(_)
                if is_host_v4(six.server) && six.external_port != 0 =>
            {
                Ok((inbound.rule, six.external_port))
            }
            Segment::EchoRequest { .. } | Segment::Tcp(_) | Segment::Udp(_) => {
                Err(DropReason::Closed)
            }
        })
    }

    /// Refuses an address that the prefix must not stand for.
    pub(crate) fn represents(&self, nsp: NspId, v4: Ipv4Addr) -> Result<(), DropReason> {
        match self.nsps.get(nsp) {
            Some(prefix) if prefix.may_represent(v4) => Ok(()),
            Some(_) => Err(DropReason::NotGlobal),
            None => Err(DropReason::NotOurs),
        }
    }

    /// Tells whether anybody in IPv4 may start a session at this pool address and port.
    pub(crate) fn is_bound(&self, four: &FourTuple) -> bool {
        let inbound = self.inbound.as_ref();
        let binding = inbound.and_then(|inbound| inbound.ledger.binding(four.into()));
        binding.is_some_and(|(_, is_static)| is_static)
    }

    /// Tells whether a packet to a pool address comes back.
    pub(crate) fn hairpins(&self) -> bool {
        self.inbound.as_ref().is_some_and(|inbound| inbound.hairpin)
    }
}

/// Static bindings belong to the prefix that was given first.
const FIRST_PREFIX: NspId = NspId(0);
