//! What the writer asks of a disk: the store, or one that fails on purpose in a test.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use mapping::{Delta, Image};
use store::Store;

/// Keeps batches. A disk may hang, so nobody waits for one without end: every future may be
/// dropped, and what it began is over before [`Self::reread`] reads.
pub(crate) trait Disk: Send {
    /// Stores a batch; after an error, or when nobody waits any more, it is not known whether it
    /// was stored.
    fn commit(&mut self, delta: &Delta) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Forgets the connection and reads what is really there, and durable.
    fn reread(&mut self) -> impl Future<Output = Result<Image, DiskError>> + Send;

    /// Tells whether there is something to tidy up in a pause.
    fn wants_pause(&self) -> bool;

    /// Tidies up.
    fn pause(&mut self) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Ends.
    fn close(self) -> impl Future<Output = Result<(), DiskError>> + Send;
}

/// Why a disk did not do what it was asked: only a log reads it.
pub(crate) type DiskError = Box<dyn Error + Send + Sync>;

/// Waits for a disk for so long and no longer.
pub(crate) async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, DiskError>>,
) -> Result<T, DiskError> {
    match tokio::time::timeout(patience, work).await {
        Ok(done) => done,
        Err(_) => Err(Box::new(Hangs(patience))),
    }
}

/// The disk did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the disk has not answered for {0:?}")]
pub(crate) struct Hangs(Duration);

impl Disk for Store {
    async fn commit(&mut self, delta: &Delta) -> Result<(), DiskError> {
        Ok(Self::commit(self, delta).await?)
    }

    async fn reread(&mut self) -> Result<Image, DiskError> {
        self.reopen().await?;
        self.load()
            .await?
            .ok_or_else(|| "the store is empty".into())
    }

    fn wants_pause(&self) -> bool {
        self.wants_checkpoint()
    }

    async fn pause(&mut self) -> Result<(), DiskError> {
        Ok(self.checkpoint().await?)
    }

    async fn close(self) -> Result<(), DiskError> {
        Ok(Self::close(self).await?)
    }
}
