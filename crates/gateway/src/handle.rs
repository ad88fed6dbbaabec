//! What requesters hold.

use std::sync::Arc;

use mapping::{Gate, Now, Outcome, Refusal, Request, Snapshot};
use net::Clock;
use tokio::sync::{mpsc, oneshot, watch};

use crate::follower::{Follower, Followers};

/// The way to the writer, and the newest snapshot. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    clock: Clock,
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
        clock: Clock,
        followers: Followers,
        jobs: mpsc::Sender<Job>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Self {
        Self { clock, followers, jobs, snapshots }
    }

    /// Asks, and returns the answer: what is granted is stored and applied. While the queue is
    /// full or the program ends, the answer is [`Refusal::Unavailable`].
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn request(&self, request: Request) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        if self.jobs.try_send(Job { request, answer }).is_err() {
            return Outcome::Refused(Refusal::Unavailable);
        }
        outcome.await.unwrap_or(Outcome::Refused(Refusal::Unavailable))
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
    /// dropped or stuck ends the writer.
    #[must_use]
    pub fn follower(&self, name: &'static str, gate: Gate) -> Follower {
        self.followers.register(name, gate, self.snapshots.clone())
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
