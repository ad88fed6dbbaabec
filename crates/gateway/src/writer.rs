//! The one writer.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use answers::{Answers, Published};
use disk::{Disk, DiskError};
use mapping::GenerationId;
use scribe::Scribe;
use store::Store;

pub(crate) mod answers;
pub(crate) mod disk;
pub(crate) mod scribe;

#[cfg(test)]
mod tests;

/// Decides, persists, publishes, awaits and answers, as long as [`Self::run`] runs.
#[derive(Debug)]
pub struct Writer(pub(crate) Engine<Store>);

impl Writer {
    /// Runs until `cancel` is cancelled: then no request is taken any more, what waits is
    /// answered, and the store is closed.
    ///
    /// # Errors
    /// When a follower is stuck or gone, or when at the end something closed that could not be
    /// stored.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), WriterError> {
        self.0.run(cancel).await
    }
}

/// The two halves of the writer: one decides batch N + 1 while the other one waits for the
/// followers of batch N.
#[derive(Debug)]
pub(crate) struct Engine<D> {
    pub(crate) scribe: Scribe<D>,
    pub(crate) answers: Answers,
    pub(crate) published: mpsc::UnboundedReceiver<Published>,
}

impl<D: Disk> Engine<D> {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<(), WriterError> {
        let Self {
            scribe,
            answers,
            published,
        } = self;
        // at most a few: one for each batch that a generation waits through
        let (prefer, preferences) = mpsc::unbounded_channel::<GenerationId>();
        let deciding = Box::pin(scribe.run(preferences, cancel.clone()));
        let answering = Box::pin(answers.run(published, prefer, cancel));
        tokio::try_join!(deciding, answering)?;
        Ok(())
    }
}

/// Why the writer ended.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// A follower was dropped.
    #[error("the follower {name} is gone")]
    FollowerGone {
        /// The name that it registered with.
        name: &'static str,
    },
    /// A follower has not come along for seconds.
    #[error("the follower {name} is stuck")]
    FollowerStuck {
        /// The name that it registered with.
        name: &'static str,
    },
    /// The program ended while the store could not be written.
    #[error("cannot store what was closed before the end")]
    Unstored(#[source] DiskError),
}
