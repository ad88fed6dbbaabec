//! Keeps our delegation in the zone above true: its NS and glue follow our address (RFC 2136).

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{AAAA, NS};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use mapping::{Instant, Now};
use rand::RngExt as _;

use crate::tsig::{Key, Unverified};
use crate::wire::Head;

/// What is delegated, where, and with which key.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// The zone above.
    pub parent: Name,
    /// Our zone.
    pub child: Name,
    /// Our name server.
    pub name_server: Name,
    /// How long resolvers keep the delegation.
    pub ttl: Duration,
    /// The key that the zone above knows us by.
    pub key: Key,
}

/// Sends one update after the other until the zone above says what is true.
///
/// ```text
///          handle_addresses              authentic NOERROR
///   Quiet ──────────────────► Waiting ─────────────────────► Quiet
///                               │  ▲
///   silence, refusal            ▼  │ the pause is over, or the addresses changed
///                              Pausing
/// ```
#[derive(Debug)]
pub struct Updater<R> {
    delegation: Delegation,
    rng: R,
    wanted: Vec<Ipv6Addr>,
    /// What the zone above says; unknown after the start.
    done: Option<Vec<Ipv6Addr>>,
    state: State,
    failures: u32,
    transmit: Option<Vec<u8>>,
    events: VecDeque<Event>,
    last_seen: Instant,
}

/// What happened to an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The zone above has refused it.
    Refused(ResponseCode),
    /// The zone above has been silent.
    TimedOut,
    /// An answer is not authentic; the update still waits.
    Unverified(Unverified),
    /// The zone above says what is true.
    Updated,
}

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Queued output has not been drained.
    Drain,
    /// No answer has come.
    Answer,
    /// The pause after a failure is over.
    Retry,
}

#[derive(Debug)]
enum State {
    Pausing {
        until: Instant,
    },
    Quiet,
    Waiting {
        id: u16,
        mac: Vec<u8>,
        sent: Vec<Ipv6Addr>,
        deadline: Instant,
    },
}

impl<R: rand::Rng> Updater<R> {
    /// Makes an updater that knows no address yet.
    #[must_use]
    pub const fn new(delegation: Delegation, rng: R, now: Now) -> Self {
        Self {
            delegation,
            rng,
            wanted: Vec::new(),
            done: None,
            state: State::Quiet,
            failures: 0,
            transmit: None,
            events: VecDeque::new(),
            last_seen: now.mono,
        }
    }

    /// Learns our addresses; with none there is nothing true to say, and the old is left.
    pub fn handle_addresses(&mut self, addresses: &[Ipv6Addr], now: Now) {
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses != self.wanted {
            self.wanted = addresses;
            self.failures = 0;
            if matches!(self.state, State::Pausing { .. }) {
                self.state = State::Quiet;
            }
        }
        self.handle_timeout(now);
    }

    /// Takes an answer of the zone above; what is not authentic changes nothing
    /// (RFC 8945 §5.3).
    pub fn handle_response(&mut self, bytes: &[u8], now: Now) {
        self.last_seen = now.mono;
        let State::Waiting { id, mac, sent, .. } = &self.state else {
            return;
        };
        let Some(head) = Head::parse(bytes).ok().filter(|head| head.is_response()) else {
            return self
                .events
                .push_back(Event::Unverified(Unverified::Malformed));
        };
        if head.id != *id {
            return self
                .events
                .push_back(Event::Unverified(Unverified::Malformed));
        }
        if let Err(unverified) = self.delegation.key.verify(bytes, mac, now.wall.as_secs()) {
            return self.events.push_back(Event::Unverified(unverified));
        }
        let code = ResponseCode::from(0, u8::try_from(head.rcode()).unwrap_or(u8::MAX));
        if code == ResponseCode::NoError {
            self.done = Some(sent.clone());
            self.failures = 0;
            self.state = State::Quiet;
            self.events.push_back(Event::Updated);
        } else {
            self.events.push_back(Event::Refused(code));
            self.pause(now);
        }
        self.handle_timeout(now);
    }

    /// Sends, gives up or tries again; early or twice changes nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        self.last_seen = now.mono;
        match &self.state {
            State::Waiting { deadline, .. } if now.mono >= *deadline => {
                self.events.push_back(Event::TimedOut);
                self.pause(now);
            }
            State::Pausing { until } if now.mono >= *until => self.state = State::Quiet,
            State::Pausing { .. } | State::Quiet | State::Waiting { .. } => {}
        }
        let stale = self.done.as_ref() != Some(&self.wanted) && !self.wanted.is_empty();
        if stale && matches!(self.state, State::Quiet) {
            self.send(now);
        }
    }

    /// Returns the next message to send to the zone above.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.take()
    }

    /// Returns the next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        if self.transmit.is_some() || !self.events.is_empty() {
            return Some((self.last_seen, Timer::Drain));
        }
        match &self.state {
            State::Pausing { until } => Some((*until, Timer::Retry)),
            State::Quiet => None,
            State::Waiting { deadline, .. } => Some((*deadline, Timer::Answer)),
        }
    }

    fn send(&mut self, now: Now) {
        let id = self.rng.random();
        let message = self.delegation.update(id, &self.wanted);
        match self.delegation.key.sign(message, now.wall.as_secs()) {
            Some(signed) => {
                self.transmit = Some(signed.bytes);
                let deadline = now.mono + PATIENCE;
                let sent = self.wanted.clone();
                self.state = State::Waiting {
                    id,
                    mac: signed.mac,
                    sent,
                    deadline,
                };
            }
            // names and addresses always encode; if not, a pause keeps it from spinning
            None => self.pause(now),
        }
    }

    fn pause(&mut self, now: Now) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(MOST_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        self.transmit = None;
        self.state = State::Pausing {
            until: now.mono + pause.min(LONGEST_PAUSE),
        };
    }
}

impl Delegation {
    /// Returns the update that replaces the NS of our zone and the addresses of our name server.
    fn update(&self, id: u16, addresses: &[Ipv6Addr]) -> Message {
        let mut message = Message::new(id, MessageType::Query, OpCode::Update);
        message.add_query(Query::query(self.parent.clone(), RecordType::SOA));
        let ttl = u32::try_from(self.ttl.as_secs()).unwrap_or(0).max(1);
        let ns = RData::NS(NS(self.name_server.clone()));
        message.add_authority(remove_rrset(&self.child, RecordType::NS));
        message.add_authority(Record::from_rdata(self.child.clone(), ttl, ns));
        // RFC 2136 §3.4.1.2: what lies outside the zone would be NOTZONE
        if self.parent.zone_of(&self.name_server) {
            message.add_authority(remove_rrset(&self.name_server, RecordType::AAAA));
            message.add_authorities(addresses.iter().map(|addr| {
                let data = RData::AAAA(AAAA(*addr));
                Record::from_rdata(self.name_server.clone(), ttl, data)
            }));
        }
        message
    }
}

/// RFC 2136 §2.5.2: class ANY, TTL 0 and no data delete a set.
fn remove_rrset(name: &Name, kind: RecordType) -> Record {
    let mut record = Record::update0(name.clone(), 0, kind);
    record.dns_class = DNSClass::ANY;
    record
}

/// How long the zone above may be silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first pause; each is twice the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A wrong key is not worth more.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

const MOST_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests;
