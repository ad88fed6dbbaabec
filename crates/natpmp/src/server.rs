//! The NAT-PMP machine.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use mapping::{
    Client, Epoch, External, ExternalPort, FilterChange, Grant, Instant, InternalPort, MapRequest,
    Now, Outcome, Refusal, Requester, Site, Snapshot, Subject, UnmapRequest, UnmapTarget, Via,
};

use crate::announcer::{Announcer, begins_anew};
use crate::counters::{Counters, DropReason};
use crate::pending::{Admission, Limits, Pending};
use crate::wire::{Field, Map, Request, Response, ResultCode, emit_unsupported_opcode};

/// Answers NAT-PMP requests (RFC 6886 §3).
///
/// ```text
///   handle_datagram ──► poll_request ──► (the writer) ──► handle_outcome ──► poll_transmit
///          └───────────────── answered at once or counted ──────────────────────┘
/// ```
#[derive(Debug)]
pub struct Server {
    pending: Pending<Map>,
    requests: VecDeque<(RequestToken, mapping::Request)>,
    transmits: VecDeque<Transmit>,
    announcer: Announcer,
    /// The epoch that clients were last told about.
    epoch: Option<Epoch>,
    counters: Counters,
    last_seen: Option<Instant>,
}

/// Names a request to the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestToken(u64);

/// A datagram to send from UDP 5351 of the LAN address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub to: SocketAddrV4,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The next announcement is due.
    Announce,
    /// Queued output has not been drained.
    Drain,
}

impl Server {
    /// Makes a server; it announces itself with the first [`Self::handle_snapshot`].
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
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
        if !may_answer(snapshot.site(), source) {
            return self.counters.count_drop(DropReason::Source);
        }
        let epoch = snapshot.natpmp_epoch(now);
        match Request::parse(bytes) {
            Ok(Request::ExternalAddress) => {
                let result = ResultCode::Success;
                self.answer(source, result, external_address(epoch).emit());
            }
            Ok(Request::Map(map)) => self.handle_map(map, bytes, source, epoch),
            Err(malformed) => match malformed.field {
                Field::Version => {
                    let response = Response::UnsupportedVersion { epoch };
                    self.answer(source, ResultCode::UnsupportedVersion, response.emit());
                }
                Field::Opcode => {
                    let response = emit_unsupported_opcode(bytes, epoch);
                    self.answer(source, ResultCode::UnsupportedOpcode, response);
                }
                Field::ResponseBit => self.counters.count_drop(DropReason::Response),
                Field::Header | Field::Map | Field::Address | Field::Result => {
                    self.counters.count_drop(DropReason::Malformed);
                }
            },
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
        let Some(waiting) = self.pending.take(token.0) else {
            return;
        };
        let asked = waiting.asked;
        let (result, external_port, lifetime) = match outcome {
            Outcome::Granted(Grant::Mapped {
                mapping, lifetime, ..
            }) => {
                // NP-7: never longer than asked, also where a static or a guarded mapping is
                let left = lifetime.map_or(u32::MAX, seconds);
                let port = mapping.external_port.get();
                (ResultCode::Success, port, left.min(asked.lifetime))
            }
            Outcome::Granted(Grant::Unmapped(_)) => (ResultCode::Success, 0, 0),
            Outcome::Granted(
                Grant::Done
                | Grant::Leased(_)
                | Grant::MappedSet { .. }
                | Grant::Pinholed { .. }
                | Grant::Prefixed(_),
            ) => (ResultCode::OutOfResources, 0, 0),
            Outcome::Refused(refusal) => (result_code(*refusal), 0, 0),
        };
        let response = Response::Map {
            result,
            epoch: snapshot.natpmp_epoch(now),
            map: Map {
                external_port,
                lifetime,
                ..asked
            },
        };
        self.answer(waiting.source, result, response.emit());
    }

    /// Looks at a newer snapshot: a new epoch is announced, and so is our own start.
    pub fn handle_snapshot(&mut self, snapshot: &Snapshot, now: Now) {
        let epoch = snapshot.counters().natpmp_epoch;
        // RFC 6886 §3.2.1: upon boot, and when the external IPv4 address changes
        let restarted = self.epoch.is_none_or(|known| begins_anew(known, epoch));
        self.epoch = Some(epoch);
        if restarted {
            self.announcer.handle_restart(now.mono);
        }
        self.handle_timeout(snapshot, now);
    }

    /// Queues what is due; early or twice changes nothing.
    pub fn handle_timeout(&mut self, snapshot: &Snapshot, now: Now) {
        self.last_seen = Some(now.mono);
        if self.announcer.handle_timeout(now.mono) {
            self.counters.announcements = self.counters.announcements.saturating_add(1);
            self.transmits.push_back(Transmit {
                to: CLIENTS,
                bytes: external_address(snapshot.natpmp_epoch(now)).emit(),
            });
        }
    }

    /// Returns the next request to the writer.
    pub fn poll_request(&mut self) -> Option<(RequestToken, mapping::Request)> {
        self.requests.pop_front()
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        if !self.transmits.is_empty() || !self.requests.is_empty() {
            return self.last_seen.map(|now| (now, Timer::Drain));
        }
        self.announcer
            .poll_timeout()
            .map(|due| (due, Timer::Announce))
    }

    /// Returns what was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns how many requests wait for the writer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    fn handle_map(&mut self, map: Map, bytes: &[u8], source: SocketAddrV4, epoch: u32) {
        let Some(request) = request(map, *source.ip()) else {
            let result = ResultCode::Refused; // port 0 is no port to open
            let map = Map {
                external_port: 0,
                lifetime: 0,
                ..map
            };
            let response = Response::Map { result, epoch, map };
            return self.answer(source, result, response.emit());
        };
        match self.pending.admit(source, bytes, map) {
            Admission::Overload => self.counters.count_drop(DropReason::Overload),
            Admission::Queued(token) => self.requests.push_back((RequestToken(token), request)),
            Admission::Repeated => {
                self.counters.repeats = self.counters.repeats.saturating_add(1);
            }
        }
    }

    fn answer(&mut self, to: SocketAddrV4, result: ResultCode, bytes: Vec<u8>) {
        self.counters.count_response(result);
        self.transmits.push_back(Transmit { to, bytes });
    }
}

/// Tells whether an answer to `source` would reach one host of the LAN: a datagram from
/// elsewhere, or from an address that means many, is never answered (RFC 6886 §3.3).
#[must_use]
pub fn may_answer(site: &Site, source: SocketAddrV4) -> bool {
    let addr = *source.ip();
    source.port() != 0 && site.contains(addr) && addr != site.network() && addr != site.broadcast()
}

// DEVIATION RFC 6886 §3.2: success and 0.0.0.0 instead of network failure where the WAN has no
// IPv4 address because clients that are told of a failure give up, while they map ports, which
// carry no address, when told 0.0.0.0. Nothing behind Portico has an external IPv4 address yet.
const fn external_address(epoch: u32) -> Response {
    Response::ExternalAddress {
        result: ResultCode::Success,
        epoch,
        addr: Ipv4Addr::UNSPECIFIED,
    }
}

/// Says in the core's language what is asked; `None` for a port that cannot be opened.
fn request(map: Map, addr: Ipv4Addr) -> Option<mapping::Request> {
    let subject = Subject::Client(Client {
        addr: addr.into(),
        mac: None,
    });
    let requester = Requester::NatPmp;
    let internal = InternalPort::new(map.internal_port);
    if map.lifetime == 0 {
        // RFC 6886 §3.4: the external port is ignored; internal port 0 means all
        let target = match internal {
            Some(port) => UnmapTarget::Internal(map.protocol, port, None),
            None => UnmapTarget::All(map.protocol),
        };
        return Some(mapping::Request::Unmap(UnmapRequest {
            subject,
            requester,
            target,
        }));
    }
    Some(mapping::Request::Map(MapRequest {
        subject,
        requester,
        protocol: map.protocol,
        internal_port: internal?,
        external: External::Suggested(ExternalPort::new(map.external_port)),
        lifetime: Some(Duration::from_secs(map.lifetime.into())),
        nonce: None,
        via: Via::Both,
        peer: false,
        filters: FilterChange::default(),
        description: String::new(),
    }))
}

/// Says a refusal in NAT-PMP's codes (RFC 6886 §3.5).
fn result_code(refusal: Refusal) -> ResultCode {
    match refusal {
        Refusal::ForeignMapping { .. }
        | Refusal::NoLease
        | Refusal::PortDenied
        | Refusal::StaticMapping
        | Refusal::Waiting => ResultCode::Refused,
        Refusal::NoPrefix | Refusal::PrefixInvalid(_) => ResultCode::NetworkFailure,
        Refusal::AddressNotFree
        | Refusal::ExternalPortTaken
        | Refusal::NameNotFree
        | Refusal::NotCarried
        | Refusal::NotFound
        | Refusal::QuotaExceeded
        | Refusal::TooManyFilters
        | Refusal::Unavailable => ResultCode::OutOfResources,
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// RFC 6886 §3.2.1: all hosts, port 5350.
const CLIENTS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 5350);

#[cfg(test)]
mod tests;
