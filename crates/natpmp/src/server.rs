//! The NAT-PMP machine.

use std::net::Ipv4Addr;
use std::time::Duration;

use mapping::{
    Client, External, ExternalPort, FilterChange, Grant, Instant, InternalPort, MapRequest, Now,
    Outcome, Refusal, Requester, Snapshot, Subject, UnmapRequest, UnmapTarget, Via,
};

use crate::caller::Caller;
use crate::counters::{Counters, DropReason};
use crate::exchange::{CLIENTS, Exchange, Timer, Transmit};
use crate::pending::Limits;
use crate::wire::{Field, Map, Request, Response, ResultCode, emit_unsupported_opcode};

/// Answers NAT-PMP requests (RFC 6886 §3).
///
/// ```text
///   handle_datagram ──► poll_request ──► (the writer) ──► handle_outcome ──► poll_transmit
///          └───────────────── answered at once or counted ──────────────────────┘
/// ```
#[derive(Debug)]
pub struct Server {
    exchange: Exchange<ResultCode, Map>,
}

/// Names a request to the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestToken(u64);

impl Server {
    /// Makes a server; it announces itself with the first [`Self::handle_snapshot`].
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            exchange: Exchange::new(limits),
        }
    }

    /// Takes a datagram of a client.
    pub fn handle_datagram(&mut self, bytes: &[u8], caller: Caller, snapshot: &Snapshot, now: Now) {
        self.exchange.see(now);
        if !self.exchange.hears(&caller, snapshot, now) {
            return;
        }
        let epoch = snapshot.natpmp_epoch(now);
        match Request::parse(bytes) {
            Ok(Request::ExternalAddress) => {
                let response = external_address(snapshot, now);
                let result = ResultCode::Success;
                self.exchange.answer(caller, result, response.emit());
            }
            Ok(Request::Map(map)) => self.handle_map(map, bytes, caller, epoch),
            Err(malformed) => match malformed.field {
                Field::Version => {
                    let response = Response::UnsupportedVersion { epoch };
                    let result = ResultCode::UnsupportedVersion;
                    self.exchange.answer(caller, result, response.emit());
                }
                Field::Opcode => {
                    let response = emit_unsupported_opcode(bytes, epoch);
                    let result = ResultCode::UnsupportedOpcode;
                    self.exchange.answer(caller, result, response);
                }
                Field::ResponseBit => self.exchange.drop(DropReason::Response),
                Field::Header | Field::Map | Field::Address | Field::Result => {
                    self.exchange.drop(DropReason::Malformed);
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
        self.exchange.see(now);
        let Some(waiting) = self.exchange.take(token.0) else {
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
        self.exchange
            .answer(waiting.caller, result, response.emit());
    }

    /// Looks at a newer snapshot: a new epoch is announced, and so is our own start.
    pub fn handle_snapshot(&mut self, snapshot: &Snapshot, now: Now) {
        // RFC 6886 §3.2.1: upon boot, and when the external IPv4 address changes
        let epoch = snapshot.counters().natpmp_epoch;
        self.exchange.handle_epoch(epoch, true, now);
        self.handle_timeout(snapshot, now);
    }

    /// Queues what is due; early or twice changes nothing.
    pub fn handle_timeout(&mut self, snapshot: &Snapshot, now: Now) {
        if self.exchange.handle_timeout(now) {
            self.exchange.send(Transmit {
                from: None,
                to: CLIENTS,
                bytes: external_address(snapshot, now).emit(),
            });
        }
    }

    /// Returns the next request to the writer.
    pub fn poll_request(&mut self) -> Option<(RequestToken, mapping::Request)> {
        let (token, request) = self.exchange.poll_request()?;
        Some((RequestToken(token), request))
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.exchange.poll_transmit()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.exchange.poll_timeout()
    }

    /// Returns what was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters<ResultCode> {
        self.exchange.counters()
    }

    /// Returns how many requests wait for the writer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.exchange.pending()
    }

    fn handle_map(&mut self, map: Map, bytes: &[u8], caller: Caller, epoch: u32) {
        if let Some(request) = request(map, caller.client()) {
            return self.exchange.ask(caller, bytes, map, request);
        }
        let result = ResultCode::Refused; // port 0 is no port to open
        let map = Map {
            external_port: 0,
            lifetime: 0,
            ..map
        };
        let response = Response::Map { result, epoch, map };
        self.exchange.answer(caller, result, response.emit());
    }
}

/// Says the external IPv4 address where one is carried.
// DEVIATION RFC 6886 §3.2: success and 0.0.0.0 instead of network failure where the WAN has no
// IPv4 address because clients that are told of a failure give up, while they map ports, which
// carry no address, when told 0.0.0.0.
fn external_address(snapshot: &Snapshot, now: Now) -> Response {
    let addr = snapshot.carriers().ipv4;
    Response::ExternalAddress {
        result: ResultCode::Success,
        epoch: snapshot.natpmp_epoch(now),
        addr: addr.unwrap_or(Ipv4Addr::UNSPECIFIED),
    }
}

/// Says in the core's language what is asked; `None` for a port that cannot be opened.
// DEVIATION RFC 6886 §3.4: connections of a mapping that closes end on both sides without a reset,
// because the translator keeps no sequence numbers, without which no end would believe one.
fn request(map: Map, client: Client) -> Option<mapping::Request> {
    let subject = Subject::Client(client);
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
        description: None,
        memo: None,
    }))
}

/// Says a refusal in NAT-PMP's codes (RFC 6886 §3.5).
fn result_code(refusal: Refusal) -> ResultCode {
    match refusal {
        Refusal::ExternalPortDenied
        | Refusal::ForeignMapping { .. }
        | Refusal::NoLease
        | Refusal::OutboundMapping
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

#[cfg(test)]
mod tests;
