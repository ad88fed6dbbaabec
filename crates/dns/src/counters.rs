//! What the room counts; every message moves at least one of these.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;

use crate::admission::NotAdmitted;
use crate::connection::Closed;
use crate::wire::Malformed;
use crate::zone::View;

/// The counters of the room, shared by its tasks.
#[derive(Debug)]
pub struct Counters([AtomicU64; COUNTERS.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// Adds one.
    pub fn count(&self, counter: Counter) {
        if let Some(value) = self.0.get(counter as usize) {
            value.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns one counter.
    #[must_use]
    pub fn value(&self, counter: Counter) -> u64 {
        self.0
            .get(counter as usize)
            .map_or(0, |value| value.load(Ordering::Relaxed))
    }

    /// Iterates over all counters as name, reason and value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        COUNTERS
            .iter()
            .zip(&self.0)
            .map(|((_, name, reason), value)| (*name, *reason, value.load(Ordering::Relaxed)))
    }

    pub(crate) fn count_answer(&self, code: ResponseCode) {
        self.count(match code {
            ResponseCode::NoError => Counter::NoError,
            ResponseCode::FormErr => Counter::FormErr,
            ResponseCode::ServFail => Counter::ServFail,
            ResponseCode::NXDomain => Counter::NxDomain,
            ResponseCode::NotImp => Counter::NotImp,
            ResponseCode::Refused => Counter::Refused,
            ResponseCode::BADVERS | ResponseCode::BADSIG => Counter::BadVers,
            _ => Counter::OtherCode,
        });
    }

    pub(crate) fn count_malformed(&self, malformed: Malformed) {
        self.count(match malformed {
            Malformed::Body => Counter::MalformedBody,
            Malformed::Cut { .. } => Counter::MalformedCut,
            Malformed::Counts => Counter::MalformedCounts,
            Malformed::Head { .. } => Counter::MalformedHead,
            Malformed::Question { .. } => Counter::MalformedQuestion,
        });
    }

    pub(crate) fn count_closed(&self, closed: Closed) {
        self.count(match closed {
            Closed::Broken => Counter::TcpBroken,
            Closed::Client => Counter::TcpByClient,
            Closed::Idle => Counter::TcpIdle,
            Closed::Malformed => Counter::TcpMalformed,
            Closed::Slow => Counter::TcpSlow,
            Closed::Untaken => Counter::TcpUntaken,
        });
    }

    pub(crate) fn count_not_admitted(&self, error: NotAdmitted) {
        self.count(match error {
            NotAdmitted::Full => Counter::TcpFull,
            NotAdmitted::Source => Counter::TcpSource,
        });
    }

    pub(crate) fn count_view(&self, view: View) {
        self.count(match view {
            View::Lan => Counter::FromLan,
            View::Public => Counter::FromPublic,
        });
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal $reason:literal,)*) => {
        /// What can be counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        /// Every counter with its name and reason, in the order of the enum.
        pub const COUNTERS: &[(Counter, &str, &str)] =
            &[$((Counter::$variant, $name, $reason),)*];
    };
}

counters! {
    /// Answered NOERROR.
    NoError => "queries_total" "noerror",
    /// Answered FORMERR.
    FormErr => "queries_total" "formerr",
    /// Answered SERVFAIL.
    ServFail => "queries_total" "servfail",
    /// Answered NXDOMAIN.
    NxDomain => "queries_total" "nxdomain",
    /// Answered NOTIMP.
    NotImp => "queries_total" "notimp",
    /// Answered REFUSED.
    Refused => "queries_total" "refused",
    /// Answered BADVERS.
    BadVers => "queries_total" "badvers",
    /// Answered with another code, by a resolver outside.
    OtherCode => "queries_total" "other",
    /// Asked from the LAN.
    FromLan => "queries_by_view_total" "lan",
    /// Asked from elsewhere.
    FromPublic => "queries_by_view_total" "public",
    /// A connection that ended within it.
    MalformedCut => "malformed_total" "cut",
    /// Too short for a head; dropped, and by TCP nothing after it is read.
    MalformedHead => "malformed_total" "head",
    /// Section counts that do not fit; answered FORMERR.
    MalformedCounts => "malformed_total" "counts",
    /// A question that cannot be decoded; answered FORMERR.
    MalformedQuestion => "malformed_total" "question",
    /// A record that cannot be decoded; answered FORMERR.
    MalformedBody => "malformed_total" "body",
    /// An answer that nobody asked for; dropped.
    DroppedResponse => "drops_total" "response",
    /// A datagram longer than any query; dropped.
    DroppedOversized => "drops_total" "oversized",
    /// From an address that cannot be answered; dropped.
    DroppedSource => "drops_total" "source",
    /// An answer that the system did not take, or the client's connection ended before it.
    DroppedUnsent => "drops_total" "unsent",
    /// Connections that were admitted.
    TcpAdmitted => "tcp_admitted_total" "",
    /// While every connection of the listener was busy; closed at once.
    TcpFull => "tcp_refused_total" "full",
    /// From a source that has enough connections; closed at once.
    TcpSource => "tcp_refused_total" "source",
    /// Accepting failed, as when too many files are open; tried again.
    TcpAcceptFailed => "tcp_accept_failures_total" "",
    /// Reset, or unusable.
    TcpBroken => "tcp_closed_total" "broken",
    /// Ended by the client.
    TcpByClient => "tcp_closed_total" "client",
    /// Idle for longest while every place was taken; closed for another.
    TcpEvicted => "tcp_closed_total" "evicted",
    /// No query came; closed.
    TcpIdle => "tcp_closed_total" "idle",
    /// A message without a head came; closed.
    TcpMalformed => "tcp_closed_total" "malformed",
    /// A query began and did not end in time; closed.
    TcpSlow => "tcp_closed_total" "slow",
    /// The client did not take its answers in time; closed.
    TcpUntaken => "tcp_closed_total" "untaken",
    /// NOTIFY; answered NOTIMP.
    Notify => "opcodes_rejected_total" "notify",
    /// UPDATE; answered REFUSED.
    Update => "opcodes_rejected_total" "update",
    /// Another opcode; answered NOTIMP.
    OtherOpcode => "opcodes_rejected_total" "other",
    /// AXFR or IXFR; answered REFUSED.
    Transfer => "transfers_refused_total" "",
    /// A class other than IN; answered REFUSED.
    Class => "classes_refused_total" "",
    /// Cut, with TC.
    Truncated => "truncated_total" "",
    /// Answered by a resolver outside.
    Forwarded => "forwarded_total" "answered",
    /// No resolver answered; answered SERVFAIL.
    ForwardFailed => "forwarded_total" "failed",
    /// No resolver is known; answered SERVFAIL.
    ForwardNoResolver => "forwarded_total" "no-resolver",
    /// Too many at once; answered SERVFAIL.
    ForwardBusy => "forwarded_total" "busy",
    /// A resolver was silent or unreachable.
    ForwardTimeout => "forward_timeouts_total" "",
    /// An answer that fits no question of ours.
    ForwardIgnored => "forward_ignored_total" "",
    /// The parent zone took an update.
    ParentUpdated => "parent_updates_total" "ok",
    /// The parent zone's server refused an update.
    ParentRefused => "parent_updates_total" "refused",
    /// The parent zone's server was silent.
    ParentTimeout => "parent_updates_total" "timeout",
    /// An answer about the parent zone that is not authentic.
    ParentUnverified => "parent_updates_total" "unverified",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_has_a_name_of_its_own_and_counts() {
        let counters = Counters::default();
        for (counter, _, _) in COUNTERS {
            counters.count(*counter);
        }

        let names: BTreeSet<_> = COUNTERS
            .iter()
            .map(|(_, name, reason)| (name, reason))
            .collect();
        assert_eq!(names.len(), COUNTERS.len());
        assert!(counters.iter().all(|(_, _, value)| value == 1));
    }
}
