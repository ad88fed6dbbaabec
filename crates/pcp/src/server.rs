//! The machine of UDP 5351: PCP itself, and NAT-PMP's machine beside it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use mapping::{Epoch, Grant, Instant, Now, Outcome, Snapshot};
use natpmp::{Admission, Announcer, Limits, Pending, begins_anew, may_answer};

use crate::counters::{Counters, DropReason};
use crate::server::ask::{Asked, Judged, Wish, judge};
use crate::server::refuse::{error_lifetime, refusal_code, seconds};
use crate::wire::{
    Body, Field, Malformed, Map, PcpOption, Request, Response, ResultCode, emit_error, emit_option,
};

mod ask;
mod refuse;

pub use natpmp::{Timer, Transmit};

/// Answers what comes to UDP 5351 of the LAN (RFC 6887 §8.2 and appendix A).
///
/// ```text
///   handle_datagram ──► poll_request ──► (the writer) ──► handle_outcome ──► poll_transmit
///          └───────────────── answered at once or counted ──────────────────────┘
/// ```
#[derive(Debug)]
pub struct Server {
    dialects: Dialects,
    natpmp: natpmp::Server,
    pending: Pending<Asked>,
    requests: VecDeque<(RequestToken, mapping::Request)>,
    transmits: VecDeque<Transmit>,
    announcer: Announcer,
    /// The epoch that clients were last told about.
    epoch: Option<Epoch>,
    counters: Counters,
    last_seen: Option<Instant>,
}

/// Which of the two protocols of the port are served (RFC 6887 appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialects {
    /// Both.
    Both,
    /// NAT-PMP alone: a PCP client is told to speak version 0.
    NatPmp,
    /// PCP alone: a NAT-PMP client is told to speak version 2.
    Pcp,
}

impl Dialects {
    const fn pcp(self) -> bool {
        matches!(self, Self::Both | Self::Pcp)
    }

    const fn natpmp(self) -> bool {
        matches!(self, Self::Both | Self::NatPmp)
    }
}

/// Names a request to the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestToken(Owner);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    NatPmp(natpmp::RequestToken),
    Pcp(u64),
}

impl Server {
    /// Makes a server; `limits` hold for each dialect.
    #[must_use]
    pub const fn new(dialects: Dialects, limits: Limits) -> Self {
        Self {
            dialects,
            natpmp: natpmp::Server::new(limits),
            pending: Pending::new(limits),
            requests: VecDeque::new(),
            transmits: VecDeque::new(),
            announcer: Announcer::QUIET,
            epoch: None,
            counters: Counters::ZERO,
            last_seen: None,
        }
    }

    /// Takes a datagram of a client.
    pub fn handle_datagram(
        &mut self,
        bytes: &[u8],
        source: SocketAddrV4,
        snapshot: &Snapshot,
        now: Now,
    ) {
        self.last_seen = Some(now.mono);
        let speaks_natpmp = bytes.first() == Some(&0) || !self.dialects.pcp();
        if speaks_natpmp && self.dialects.natpmp() {
            self.natpmp.handle_datagram(bytes, source, snapshot, now);
        } else if may_answer(snapshot.site(), source) {
            self.handle_pcp(bytes, source, snapshot, now);
        } else {
            self.counters.count_drop(DropReason::Source);
        }
    }

    /// Takes the writer's answer to a request.
    pub fn handle_outcome(
        &mut self,
        token: RequestToken,
        outcome: &Outcome,
        snapshot: &Snapshot,
        now: Now,
    ) {
        self.last_seen = Some(now.mono);
        let token = match token.0 {
            Owner::NatPmp(token) => {
                return self.natpmp.handle_outcome(token, outcome, snapshot, now);
            }
            Owner::Pcp(token) => token,
        };
        let Some(waiting) = self.pending.take(token) else {
            return;
        };
        let asked = waiting.asked;
        let epoch = snapshot.pcp_epoch(now);
        let (code, lifetime) = match outcome {
            Outcome::Granted(Grant::Mapped {
                mapping,
                lifetime,
                external_address: Some(addr),
            }) => {
                // M-3: a static mapping is given for ever
                let lifetime = lifetime.map_or(u32::MAX, seconds);
                let map = Map {
                    external_port: mapping.external_port.get(),
                    external_addr: in_ipv6(*addr),
                    ..asked.map
                };
                return self.succeed(waiting.source, asked.wish, map, lifetime, epoch);
            }
            Outcome::Granted(Grant::Unmapped(_)) => {
                // M-5: the suggested address and port come back as they were
                return self.succeed(waiting.source, asked.wish, asked.map, 0, epoch);
            }
            Outcome::Granted(Grant::Mapped { .. }) => {
                let code = ResultCode::NetworkFailure;
                (code, error_lifetime(code))
            }
            Outcome::Granted(
                Grant::Done
                | Grant::Leased(_)
                | Grant::MappedSet { .. }
                | Grant::Pinholed { .. }
                | Grant::Prefixed(_),
            ) => {
                let code = ResultCode::NoResources;
                (code, error_lifetime(code))
            }
            Outcome::Refused(refusal) => refusal_code(*refusal, &asked, snapshot.policy()),
        };
        let bytes = emit_error(&waiting.datagram, code, lifetime, epoch);
        self.answer(waiting.source, code, bytes);
    }

    /// Looks at a newer snapshot: a new epoch is announced (RFC 6887 §14.1.3).
    pub fn handle_snapshot(&mut self, snapshot: &Snapshot, now: Now) {
        if self.dialects.natpmp() {
            self.natpmp.handle_snapshot(snapshot, now);
        }
        let epoch = snapshot.counters().pcp_epoch;
        let is_new = match self.epoch {
            Some(known) => begins_anew(known, epoch),
            // a start that lost nothing has nothing to tell, unless the last run was cut off
            // in the middle of its series
            None => u64::from(snapshot.pcp_epoch(now)) < Announcer::SERIES.as_secs(),
        };
        self.epoch = Some(epoch);
        if is_new && self.dialects.pcp() {
            self.announcer.handle_restart(now.mono);
        }
        self.handle_timeout(snapshot, now);
    }

    /// Queues what is due; early or twice changes nothing.
    pub fn handle_timeout(&mut self, snapshot: &Snapshot, now: Now) {
        self.last_seen = Some(now.mono);
        if self.dialects.natpmp() {
            self.natpmp.handle_timeout(snapshot, now);
        }
        if self.announcer.handle_timeout(now.mono) {
            self.counters.announcements = self.counters.announcements.saturating_add(1);
            let bytes = announcement(snapshot.pcp_epoch(now)).emit();
            self.transmits.push_back(Transmit { to: CLIENTS, bytes });
        }
    }

    /// Returns the next request to the writer.
    pub fn poll_request(&mut self) -> Option<(RequestToken, mapping::Request)> {
        self.requests.pop_front().or_else(|| {
            let (token, request) = self.natpmp.poll_request()?;
            Some((RequestToken(Owner::NatPmp(token)), request))
        })
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let own = self.transmits.pop_front();
        own.or_else(|| self.natpmp.poll_transmit())
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let own = if self.transmits.is_empty() && self.requests.is_empty() {
            let due = self.announcer.poll_timeout();
            due.map(|due| (due, Timer::Announce))
        } else {
            self.last_seen.map(|now| (now, Timer::Drain))
        };
        own.into_iter()
            .chain(self.natpmp.poll_timeout())
            .min_by_key(|(at, _)| *at)
    }

    /// Returns what was counted of PCP.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns what was counted of NAT-PMP.
    #[must_use]
    pub const fn natpmp_counters(&self) -> &natpmp::Counters {
        self.natpmp.counters()
    }

    /// Returns how many requests wait for the writer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len().saturating_add(self.natpmp.pending())
    }

    fn handle_pcp(&mut self, bytes: &[u8], source: SocketAddrV4, snapshot: &Snapshot, now: Now) {
        let epoch = snapshot.pcp_epoch(now);
        let request = match Request::parse(bytes) {
            Ok(request) => request,
            Err(malformed) => match unread(malformed) {
                Ok(code) => return self.fail(source, bytes, code, epoch),
                Err(reason) => return self.counters.count_drop(reason),
            },
        };
        match judge(&request, *source.ip(), snapshot) {
            Judged::Announce => {
                let bytes = announcement(epoch).emit();
                self.answer(source, ResultCode::Success, bytes);
            }
            Judged::Ask(asked, request) => match self.pending.admit(source, bytes, asked) {
                Admission::Overload => self.counters.count_drop(DropReason::Overload),
                Admission::Queued(token) => {
                    let token = RequestToken(Owner::Pcp(token));
                    self.requests.push_back((token, *request));
                }
                Admission::Repeated => {
                    self.counters.repeats = self.counters.repeats.saturating_add(1);
                }
            },
            Judged::NothingToClose(map) => self.succeed(source, Wish::Close, map, 0, epoch),
            Judged::Refused(code) => self.fail(source, bytes, code, epoch),
        }
    }

    fn succeed(&mut self, to: SocketAddrV4, wish: Wish, map: Map, lifetime: u32, epoch: u32) {
        let mut options = Vec::new();
        if wish == Wish::OpenExactly {
            emit_option(PcpOption::PreferFailure { len: 0 }, &mut options);
        }
        let response = Response {
            result: ResultCode::Success,
            lifetime,
            epoch,
            body: Body::Map(map),
            options: &options,
        };
        self.answer(to, ResultCode::Success, response.emit());
    }

    fn fail(&mut self, to: SocketAddrV4, request: &[u8], code: ResultCode, epoch: u32) {
        let bytes = emit_error(request, code, error_lifetime(code), epoch);
        self.answer(to, code, bytes);
    }

    fn answer(&mut self, to: SocketAddrV4, code: ResultCode, bytes: Vec<u8>) {
        self.counters.count_response(code);
        self.transmits.push_back(Transmit { to, bytes });
    }
}

/// What is done about a datagram that cannot be read (RFC 6887 §8.2): an error, or silence.
const fn unread(malformed: Malformed) -> Result<ResultCode, DropReason> {
    match malformed.field {
        Field::Start | Field::Header => Err(DropReason::Short),
        Field::ResponseBit => Err(DropReason::Response),
        Field::Version => Ok(ResultCode::UnsuppVersion),
        // M-12: PEER is not served; it would open nothing that is not open already
        Field::Opcode(_) => Ok(ResultCode::UnsuppOpcode),
        Field::Length | Field::Map => Ok(ResultCode::MalformedRequest),
        Field::Options => Ok(ResultCode::MalformedOption),
    }
}

/// RFC 6887 §5: an IPv4 address stands as an IPv4-mapped one.
const fn in_ipv6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

/// Asked for or not, it says the same (RFC 6887 §14.1.1).
const fn announcement(epoch: u32) -> Response<'static> {
    Response {
        result: ResultCode::Success,
        lifetime: 0,
        epoch,
        body: Body::Announce,
        options: &[],
    }
}

/// RFC 6887 §14.1.3: all hosts, port 5350.
const CLIENTS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 5350);

#[cfg(test)]
mod tests;
