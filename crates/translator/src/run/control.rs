//! What the packet thread waits for besides packets.

use std::sync::Arc;

use gateway::Follower;
use mapping::{Revision, Snapshot};
use net::netlink::{Change, Watch};
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::observer::{Ask, Inbox};

/// The gateway, people with questions, and the kernel's interfaces.
pub(super) struct Control<'a> {
    /// Gone when there is no gateway, or no longer one.
    follower: Option<Follower>,
    inbox: Inbox,
    watch: Watch,
    cancel: &'a CancellationToken,
}

/// Something for the thread to do between two bursts.
#[derive(Debug)]
pub(super) enum Notice {
    Ask(Ask),
    Cancelled,
    Interface(Change),
    Snapshot(Arc<Snapshot>),
}

impl<'a> Control<'a> {
    pub(super) const fn new(
        follower: Option<Follower>,
        inbox: Inbox,
        watch: Watch,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            follower,
            inbox,
            watch,
            cancel,
        }
    }

    /// Waits for the next notice; nothing is lost if it is not waited for to the end.
    pub(super) async fn next(&mut self) -> Result<Notice, RunError> {
        tokio::select! {
            () = self.cancel.cancelled() => Ok(Notice::Cancelled),
            new = changed(&mut self.follower) => Ok(Notice::Snapshot(new)),
            ask = self.inbox.next() => Ok(Notice::Ask(ask)),
            change = self.watch.next() => {
                change.map(Notice::Interface).map_err(RunError::Routes)
            }
        }
    }

    /// Tells the gateway what is in force.
    pub(super) fn applied(&mut self, revision: Revision) {
        if let Some(follower) = &mut self.follower {
            follower.applied(revision);
        }
    }
}

/// Waits for the next snapshot, for ever when there is no gateway.
async fn changed(follower: &mut Option<Follower>) -> Arc<Snapshot> {
    if let Some(following) = follower {
        if let Some(new) = following.changed().await {
            return new;
        }
        // The writer ends first; what is open goes on until we are told.
        *follower = None;
    }
    std::future::pending().await
}
