//! What followers hold, and how the writer waits for them.

use std::sync::{Arc, Mutex, PoisonError};

use mapping::{Gate, Revision, Snapshot};
use tokio::sync::watch;

/// Gets every newer snapshot and says how far it has come.
#[derive(Debug)]
pub struct Follower {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    applied: watch::Sender<Revision>,
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
        self.applied.send_if_modified(|applied| {
            let newer = revision > *applied;
            *applied = revision.max(*applied);
            newer
        });
    }
}

/// The followers that gate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Followers(Arc<Mutex<Vec<Registered>>>);

#[derive(Debug, Clone)]
pub(crate) struct Registered {
    pub(crate) name: &'static str,
    pub(crate) gate: Gate,
    pub(crate) applied: watch::Receiver<Revision>,
}

impl Followers {
    pub(crate) fn register(
        &self,
        name: &'static str,
        gate: Gate,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Follower {
        let (applied, receiver) = watch::channel(Revision(0));
        let registered = Registered { name, gate, applied: receiver };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(registered);
        Follower { snapshots, applied, fresh: true }
    }

    pub(crate) fn all(&self) -> Vec<Registered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
