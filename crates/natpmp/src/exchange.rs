//! What the machines of NAT-PMP and PCP have in common.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use mapping::{Epoch, Instant, Now, Snapshot};

use crate::announcer::{Announcer, begins_anew};
use crate::caller::{Caller, Claim, Payer, may_answer};
use crate::counters::{Code, Counters, DropReason};
use crate::pending::{Admission, Limits, Pending, Waiting};
use crate::rate::{Rate, Standing};

/// Requests that wait for the writer, answers that wait to be sent, announcements, and the
/// counters of a protocol with the codes `C`; `T` is what its machine remembers of a request.
#[derive(Debug)]
pub struct Exchange<C, T> {
    pending: Pending<T>,
    /// Datagrams of which it is not known yet whose they are.
    doubted: Pending<()>,
    claims: VecDeque<(u64, Claim)>,
    rate: Rate,
    requests: VecDeque<(u64, mapping::Request)>,
    transmits: VecDeque<Transmit>,
    announcer: Announcer,
    /// The epoch that clients were last told about.
    epoch: Option<Epoch>,
    counters: Counters<C>,
    last_seen: Option<Instant>,
}

/// A datagram to send from UDP 5351.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Our address that it leaves from; for an announcement whichever the system takes.
    pub from: Option<IpAddr>,
    /// Where it goes.
    pub to: SocketAddr,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// Why a machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The next announcement is due.
    Announce,
    /// Queued output has not been drained.
    Drain,
    /// A client is told of its mapping's new address.
    Update,
}

impl<C: Code, T> Exchange<C, T> {
    /// Makes one in which nothing waits.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            pending: Pending::new(limits),
            doubted: Pending::new(Limits {
                per_client: DOUBTED_PER_CLIENT,
                total: DOUBTED,
                per_second: limits.per_second,
            }),
            claims: VecDeque::new(),
            rate: Rate::new(limits.per_second),
            requests: VecDeque::new(),
            transmits: VecDeque::new(),
            announcer: Announcer::QUIET,
            epoch: None,
            counters: Counters::ZERO,
            last_seen: None,
        }
    }

    /// Notes the time of a call.
    pub const fn see(&mut self, now: Now) {
        self.last_seen = Some(now.mono);
    }

    /// Tells whether a datagram is looked at: its source is a host of the LAN that asks no more
    /// often than the limits allow, and whose address no other host's frame bears.
    pub fn hears(&mut self, caller: &Caller, snapshot: &Snapshot, now: Now) -> bool {
        let reason = if !may_answer(snapshot.site(), caller) {
            DropReason::Source
        } else if !self.is_within_rate(caller, snapshot, now) {
            DropReason::Rate
        } else if snapshot.is_forged(caller.client()) {
            DropReason::Forged
        } else {
            return true;
        };
        self.drop(reason);
        false
    }

    fn is_within_rate(&mut self, caller: &Caller, snapshot: &Snapshot, now: Now) -> bool {
        let host = match caller.payer() {
            Payer::Addr(IpAddr::V4(addr)) => snapshot.host_by_addr(addr),
            Payer::Addr(IpAddr::V6(_)) => None,
            Payer::Mac(mac) => snapshot.host(mac),
        };
        let standing = match host.and_then(|host| host.lease) {
            Some(_) => Standing::Host,
            None => Standing::Stranger,
        };
        self.rate.admits(caller.payer(), standing, now.mono)
    }

    /// Counts a datagram that gets no answer.
    pub fn drop(&mut self, reason: DropReason) {
        self.counters.count_drop(reason);
    }

    /// Lets a request wait for the writer, unless too many do or the same one does.
    pub fn ask(&mut self, caller: Caller, datagram: &[u8], asked: T, request: mapping::Request) {
        match self.pending.admit(caller, datagram, asked) {
            Admission::Overload => self.drop(DropReason::Overload),
            Admission::Queued(token) => self.requests.push_back((token, request)),
            Admission::Repeated => {
                self.counters.repeats = self.counters.repeats.saturating_add(1);
            }
        }
    }

    /// Lets a datagram wait until it is known whether a claim is true, unless too many do.
    pub fn doubt(&mut self, caller: Caller, claim: Claim, datagram: &[u8]) {
        match self.doubted.admit(caller, datagram, ()) {
            Admission::Overload => self.drop(DropReason::Overload),
            Admission::Queued(token) => self.claims.push_back((token, claim)),
            Admission::Repeated => {
                self.counters.repeats = self.counters.repeats.saturating_add(1);
            }
        }
    }

    /// Returns the next claim to look into.
    pub fn poll_claim(&mut self) -> Option<(u64, Claim)> {
        self.claims.pop_front()
    }

    /// Takes out what waited for the truth of a claim; what is not true is dropped.
    pub fn settle(&mut self, token: u64, is_true: bool) -> Option<Waiting<()>> {
        let waiting = self.doubted.take(token)?;
        if !is_true {
            self.drop(DropReason::Forged);
            return None;
        }
        Some(waiting)
    }

    /// Takes out what waits under a token.
    pub fn take(&mut self, token: u64) -> Option<Waiting<T>> {
        self.pending.take(token)
    }

    /// Answers a datagram.
    pub fn answer(&mut self, caller: Caller, code: C, bytes: Vec<u8>) {
        self.counters.count_response(code);
        self.transmits.push_back(Transmit {
            from: Some(caller.local),
            to: caller.source,
            bytes,
        });
    }

    /// Sends what nobody asked for.
    pub fn send(&mut self, transmit: Transmit) {
        self.transmits.push_back(transmit);
    }

    /// Looks at an epoch: tells whether clients have to be told that it began anew, where
    /// `at_start` says whether they are to be told of the first one.
    pub fn handle_epoch(&mut self, epoch: Epoch, at_start: bool, now: Now) -> bool {
        let is_new = match self.epoch {
            Some(known) => begins_anew(known, epoch),
            None => at_start,
        };
        self.epoch = Some(epoch);
        if is_new {
            self.announcer.handle_restart(now.mono);
        }
        is_new
    }

    /// Tells whether an announcement is due; the caller sends it.
    pub fn handle_timeout(&mut self, now: Now) -> bool {
        self.last_seen = Some(now.mono);
        let is_due = self.announcer.handle_timeout(now.mono);
        if is_due {
            self.counters.announcements = self.counters.announcements.saturating_add(1);
        }
        is_due
    }

    /// Returns the next request to the writer.
    pub fn poll_request(&mut self) -> Option<(u64, mapping::Request)> {
        self.requests.pop_front()
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let drained =
            self.transmits.is_empty() && self.requests.is_empty() && self.claims.is_empty();
        if !drained {
            return self.last_seen.map(|now| (now, Timer::Drain));
        }
        let due = self.announcer.poll_timeout();
        due.map(|due| (due, Timer::Announce))
    }

    /// Returns what was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters<C> {
        &self.counters
    }

    /// Returns how many requests wait for the writer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Returns how many datagrams wait for the truth of their claims.
    #[must_use]
    pub fn doubted(&self) -> usize {
        self.doubted.len()
    }
}

/// For each of them the kernel may look for an address, and it has room for 1,024: who makes
/// addresses up fills a tenth of that at most, and under one MAC a quarter of the tenth.
const DOUBTED: usize = 64;
const DOUBTED_PER_CLIENT: usize = 16;

/// RFC 6886 §3.2.1 and RFC 6887 §14.1.3: all hosts, port 5350.
pub const CLIENTS: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 5350));
