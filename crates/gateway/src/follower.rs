//! What followers hold, and how the writer sees how far they have come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mapping::{Gate, Revision, Snapshot};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Gets every newer snapshot and says how far it has come.
#[derive(Debug)]
pub struct Follower {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    standing: Arc<Standing>,
    followers: Followers,
    fresh: bool,
}

impl Follower {
    /// Waits for a snapshot that this follower has not seen; the first call returns the current
    /// one at once. `None` when the writer has ended. Cancel-safe.
    pub async fn changed(&mut self) -> Option<Arc<Snapshot>> {
        if self.fresh {
            self.fresh = false;
        } else {
            self.snapshots.changed().await.ok()?;
        }
        Some(Arc::clone(&self.snapshots.borrow_and_update()))
    }

    /// Says that everything up to `revision` is in force.
    pub fn applied(&self, revision: Revision) {
        let before = self
            .standing
            .applied
            .fetch_max(revision.0, Ordering::AcqRel);
        if before < revision.0 {
            self.followers.0.moved.notify_one();
            self.followers.0.settling.notify_one();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.standing.gone.store(true, Ordering::Release);
        self.followers.0.moved.notify_one();
    }
}

/// The followers that gate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Followers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    all: Mutex<Vec<Arc<Standing>>>,
    /// Wakes the writer.
    moved: Notify,
    /// Wakes whoever starts the program.
    settling: Notify,
}

/// One follower, as the writer sees it.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) name: &'static str,
    pub(crate) gate: Gate,
    pub(crate) since: Instant,
    applied: AtomicU64,
    gone: AtomicBool,
}

impl Standing {
    pub(crate) fn applied(&self) -> Revision {
        Revision(self.applied.load(Ordering::Acquire))
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

impl Followers {
    pub(crate) fn register(
        &self,
        name: &'static str,
        gate: Gate,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Follower {
        let standing = Arc::new(Standing {
            name,
            gate,
            since: Instant::now(),
            applied: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        });
        let mut all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&standing));
        Follower {
            snapshots,
            standing,
            followers: self.clone(),
            fresh: true,
        }
    }

    /// Waits until one of them has come along or gone away. Cancel-safe.
    pub(crate) async fn moved(&self) {
        self.0.moved.notified().await;
    }

    /// Waits until every follower that is registered has applied `revision`.
    pub(crate) async fn settled(&self, revision: Revision) {
        while [Gate::Names, Gate::Packets]
            .into_iter()
            .any(|gate| self.applied(gate) < revision)
        {
            self.0.settling.notified().await;
        }
    }

    /// Returns what every follower of a gate has applied; without one, everything is.
    pub(crate) fn applied(&self, gate: Gate) -> Revision {
        let all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = all.iter().filter(|follower| follower.gate == gate);
        mine.map(|follower| follower.applied())
            .min()
            .unwrap_or(Revision(u64::MAX))
    }

    /// Returns the first follower for which `test` is true.
    pub(crate) fn find(&self, test: impl Fn(&Standing) -> bool) -> Option<&'static str> {
        let all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .find(|follower| test(follower))
            .map(|follower| follower.name)
    }
}
