//! What requesters hold.

use std::sync::Arc;

use mapping::{Gate, Now, Outcome, Refusal, Request, Snapshot};
use net::Clock;
use store::{AuditCursor, AuditPage, AuditReader, ReadAuditError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::counters::Counters;
use crate::follower::{Follower, Followers};
use crate::observe::Observe;

/// The way to the writer, and the newest snapshot. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    audit: AuditReader,
    clock: Clock,
    counters: Arc<Counters>,
    followers: Followers,
    jobs: mpsc::Sender<Job>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// A request on its way to the writer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Outcome>,
}

impl Handle {
    pub(crate) const fn new(
        audit: AuditReader,
        clock: Clock,
        counters: Arc<Counters>,
        followers: Followers,
        jobs: mpsc::Sender<Job>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Self {
        Self {
            audit,
            clock,
            counters,
            followers,
            jobs,
            snapshots,
        }
    }

    /// Asks, and returns the answer: what is granted is stored and applied. While the queue is
    /// full or the program ends, the answer is [`Refusal::Unavailable`].
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn request(&self, request: Request) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        if self.jobs.try_send(Job { request, answer }).is_err() {
            self.counters.queue_was_full();
            return Outcome::Refused(Refusal::Unavailable);
        }
        outcome
            .await
            .unwrap_or(Outcome::Refused(Refusal::Unavailable))
    }

    /// Returns the newest published snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Returns a receiver of every newer snapshot, for those who never gate.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Registers a follower; from then on, what touches `gate` waits for it. A follower that is
    /// dropped or stuck ends the writer. Register before [`crate::Writer::run`]: a prefix that
    /// waits to become the preferred one does so when every follower of packets has come along.
    #[must_use]
    pub fn follower(&self, name: &'static str, gate: Gate) -> Follower {
        self.followers.register(name, gate, self.snapshots.clone())
    }

    /// Waits until every registered follower has applied what is published now; for whoever starts
    /// the program, so that nothing is answered before packets pass and names resolve. One caller
    /// at a time.
    pub async fn settled(&self) {
        let revision = self.snapshot().revision();
        self.followers.settled(revision).await;
    }

    /// Reads at most `limit` lines of the audit log below `cursor`, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit(
        &self,
        cursor: Option<AuditCursor>,
        limit: u16,
    ) -> Result<AuditPage, ReadAuditError> {
        self.audit.page(cursor, limit).await
    }

    /// Returns the counters of the writer, as the room `gateway`.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observe> {
        Arc::<Counters>::clone(&self.counters)
    }

    /// Reads the clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Returns the clock, for the timers of a room's shell.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }
}
