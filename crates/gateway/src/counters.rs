//! What the writer counts, for the dashboard.

use std::future::ready;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mapping::{Outcome, Refusal};
use tokio::sync::mpsc;

use crate::handle::Job;
use crate::{Count, Observe, ObserveFuture};

/// The counters of the writer; they only rise, except the length of the queue.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: [AtomicU64; OUTCOMES.len()],
    batches: AtomicU64,
    batched_requests: AtomicU64,
    commits: AtomicU64,
    commit_failures: AtomicU64,
    commit_us: AtomicU64,
    disk_timeouts: AtomicU64,
    rereads: AtomicU64,
    reread_failures: AtomicU64,
    follower_timeouts: AtomicU64,
    queue_full: AtomicU64,
    queue: OnceLock<mpsc::WeakSender<Job>>,
}

impl Counters {
    pub(crate) fn watch_queue(&self, queue: &mpsc::Sender<Job>) {
        // set once, where the queue is made
        drop(self.queue.set(queue.downgrade()));
    }

    pub(crate) fn answered(&self, outcome: &Outcome) {
        let name = outcome_name(outcome);
        let place = OUTCOMES.iter().position(|known| *known == name);
        if let Some(counter) = place.and_then(|place| self.requests.get(place)) {
            add(counter, 1);
        }
    }

    pub(crate) fn batched(&self, requests: usize) {
        add(&self.batches, 1);
        add(
            &self.batched_requests,
            u64::try_from(requests).unwrap_or(u64::MAX),
        );
    }

    pub(crate) fn committed(&self, took: Duration) {
        add(&self.commits, 1);
        add(
            &self.commit_us,
            u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        );
    }

    pub(crate) fn commit_failed(&self) {
        add(&self.commit_failures, 1);
    }

    pub(crate) fn disk_timed_out(&self) {
        add(&self.disk_timeouts, 1);
    }

    pub(crate) fn reread(&self, succeeded: bool) {
        add(
            if succeeded {
                &self.rereads
            } else {
                &self.reread_failures
            },
            1,
        );
    }

    pub(crate) fn follower_timed_out(&self) {
        add(&self.follower_timeouts, 1);
    }

    pub(crate) fn queue_was_full(&self) {
        add(&self.queue_full, 1);
    }

    fn counts(&self) -> Vec<Count> {
        let count = |name, value| Count::new(name, "", value);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let queue = self.queue.get().and_then(mpsc::WeakSender::upgrade);
        let waiting = queue.map_or(0, |queue| {
            queue.max_capacity().saturating_sub(queue.capacity())
        });
        let requests = OUTCOMES.into_iter().zip(&self.requests);
        let mut counts: Vec<_> = requests
            .map(|(reason, value)| Count::new("requests_total", reason, load(value)))
            .collect();
        counts.extend([
            count("batches_total", load(&self.batches)),
            count("batched_requests_total", load(&self.batched_requests)),
            count("commits_total", load(&self.commits)),
            count("commit_failures_total", load(&self.commit_failures)),
            count("commit_microseconds_total", load(&self.commit_us)),
            count("disk_timeouts_total", load(&self.disk_timeouts)),
            count("rereads_total", load(&self.rereads)),
            count("reread_failures_total", load(&self.reread_failures)),
            count("follower_timeouts_total", load(&self.follower_timeouts)),
            count("queue_full_total", load(&self.queue_full)),
            count("queue_requests", u64::try_from(waiting).unwrap_or(u64::MAX)),
        ]);
        counts
    }
}

impl Observe for Counters {
    fn room(&self) -> &'static str {
        "gateway"
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        Box::pin(ready(self.counts()))
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

const fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Granted(_) => "granted",
        Outcome::Refused(refusal) => match refusal {
            Refusal::AddressNotFree => "address-not-free",
            Refusal::ExternalPortDenied => "external-port-denied",
            Refusal::ExternalPortTaken => "external-port-taken",
            Refusal::ForeignMapping { .. } => "foreign-mapping",
            Refusal::NameNotFree => "name-not-free",
            Refusal::NoLease => "no-lease",
            Refusal::NoPrefix => "no-prefix",
            Refusal::NotCarried => "not-carried",
            Refusal::NotFound => "not-found",
            Refusal::OutboundMapping => "outbound-mapping",
            Refusal::PortDenied => "port-denied",
            Refusal::PrefixInvalid(_) => "prefix-invalid",
            Refusal::QuotaExceeded => "quota-exceeded",
            Refusal::StaticMapping => "static-mapping",
            Refusal::TooManyFilters => "too-many-filters",
            Refusal::Unavailable => "unavailable",
            Refusal::Waiting => "waiting",
        },
    }
}

const OUTCOMES: [&str; 18] = [
    "granted",
    "address-not-free",
    "external-port-denied",
    "external-port-taken",
    "foreign-mapping",
    "name-not-free",
    "no-lease",
    "no-prefix",
    "not-carried",
    "not-found",
    "outbound-mapping",
    "port-denied",
    "prefix-invalid",
    "quota-exceeded",
    "static-mapping",
    "too-many-filters",
    "unavailable",
    "waiting",
];

#[cfg(test)]
mod tests {
    use mapping::{Grant, InvalidPrefix};

    use super::*;

    #[test]
    fn every_outcome_has_a_counter_of_its_own() {
        let refusals = [
            Refusal::AddressNotFree,
            Refusal::ExternalPortDenied,
            Refusal::ExternalPortTaken,
            Refusal::ForeignMapping { remaining: None },
            Refusal::NameNotFree,
            Refusal::NoLease,
            Refusal::NoPrefix,
            Refusal::NotCarried,
            Refusal::NotFound,
            Refusal::OutboundMapping,
            Refusal::PortDenied,
            Refusal::PrefixInvalid(InvalidPrefix::Length),
            Refusal::QuotaExceeded,
            Refusal::StaticMapping,
            Refusal::TooManyFilters,
            Refusal::Unavailable,
            Refusal::Waiting,
        ];
        let counters = Counters::default();

        counters.answered(&Outcome::Granted(Grant::Done));
        for refusal in refusals {
            counters.answered(&Outcome::Refused(refusal));
        }

        let counts = counters.counts();
        let requests = counts.iter().filter(|count| count.name == "requests_total");
        assert!(requests.clone().all(|count| count.value == 1), "{counts:?}");
        assert_eq!(requests.count(), refusals.len() + 1);
    }
}
