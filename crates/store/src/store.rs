//! The one connection that writes.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use mapping::{Delta, Image, Policy};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};
use sqlx::{Connection as _, Row as _};

use crate::audit::AuditReader;
use crate::image::{self, LoadError};
use crate::open::{self, Checking, OpenStoreError};
use crate::rows::Rows;
use crate::statements;

/// A store in its state folder, locked for this process while the value lives.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let folder = tempfile::tempdir()?;
/// let mut store = store::Store::open(folder.path()).await?;
/// assert!(store.load().await?.is_none(), "a fresh store holds nothing");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Store {
    folder: PathBuf,
    /// `None` after a reopening that failed.
    connection: Option<SqliteConnection>,
    /// The end of the connection before. It waits for a commit that was given up, and as long as
    /// it does nothing is read.
    ending: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The check that began with the connection.
    checking: Option<Checking>,
    audit: AuditReader,
    commits_since_checkpoint: u32,
    _lock: File,
}

impl Store {
    /// Opens the store in `folder`, and makes both if there is none. A WAL that a power cut left
    /// torn is repaired: everything up to its last whole commit is there.
    ///
    /// # Errors
    /// When the folder cannot be used or is in use, or when the database is newer than the
    /// program, cannot be opened or is plainly damaged; [`Self::checked`] tells the rest. Nothing is
    /// ever deleted.
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self, OpenStoreError> {
        let folder = folder.as_ref().to_owned();
        let lock = open::lock(&folder)?;
        let (connection, checking) = open::connect(&folder).await?;
        let audit = AuditReader::new(&folder);
        Ok(Self {
            folder,
            connection: Some(connection),
            ending: None,
            checking: Some(checking),
            audit,
            commits_since_checkpoint: 0,
            _lock: lock,
        })
    }

    /// Reads everything, `None` if the store is fresh.
    ///
    /// # Errors
    /// When SQLite cannot read, or when a row holds what was never written.
    pub async fn load(&mut self) -> Result<Option<Image>, LoadError> {
        image::load(self.connection.as_mut().ok_or(LoadError::Closed)?).await
    }

    /// Waits for the end of the check that began with the opening. Call it before anything is
    /// done that follows from what was read; nothing is stored before.
    ///
    /// # Errors
    /// When the database is damaged, or cannot be read.
    pub async fn checked(&mut self) -> Result<(), OpenStoreError> {
        let Some(checking) = &mut self.checking else {
            return Ok(());
        };
        let found = checking.end().await;
        self.checking = None;
        if found.is_err() {
            self.connection = None;
        }
        found
    }

    /// Stores the key, the policy and the first batch of a fresh store.
    ///
    /// # Errors
    /// When SQLite cannot write, or when the store is not fresh: then nothing changed.
    pub async fn initialise(
        &mut self,
        key: [u8; 16],
        policy: &Policy,
        first: &Delta,
    ) -> Result<(), CommitError> {
        self.checked().await.map_err(CommitError::Damaged)?;
        let query = sqlx::query(statements::INITIALISE);
        let query = query
            .bind(key.to_vec())
            .bind(crate::rows::policy_text(policy));
        self.run(Rows::of(first)?.bind(query)).await
    }

    /// Stores a batch: when this returns `Ok`, it survives a power cut.
    ///
    /// # Errors
    /// When SQLite cannot write. Then nobody knows whether the batch reached the disk:
    /// [`Self::reopen`] and [`Self::load`] tell.
    pub async fn commit(&mut self, delta: &Delta) -> Result<(), CommitError> {
        self.checked().await.map_err(CommitError::Damaged)?;
        let query = sqlx::query(statements::COMMIT);
        self.run(Rows::of(delta)?.bind(query)).await?;
        self.commits_since_checkpoint = self.commits_since_checkpoint.saturating_add(1);
        Ok(())
    }

    /// Tells whether enough was committed for a [`Self::checkpoint`] to be worth its while.
    #[must_use]
    pub const fn wants_checkpoint(&self) -> bool {
        self.commits_since_checkpoint >= COMMITS_PER_CHECKPOINT
    }

    /// Moves the WAL into the database file; call it in a pause. Nothing is lost if it fails.
    ///
    /// # Errors
    /// When SQLite cannot write.
    pub async fn checkpoint(&mut self) -> Result<(), CommitError> {
        self.commits_since_checkpoint = 0;
        self.run(sqlx::query(statements::CHECKPOINT)).await
    }

    /// Closes the connection and opens another one, after a commit failed; [`Self::load`] then
    /// reads what the disk really holds, and what it reads is durable. A commit whose future was
    /// dropped is over by then. This one may be dropped as well, and called again.
    ///
    /// # Errors
    /// As for [`Self::open`]; the store stays closed until a later call succeeds.
    pub async fn reopen(&mut self) -> Result<(), OpenStoreError> {
        if let Some(connection) = self.connection.take() {
            // it rolls back; what else it says about a failed connection is of no use
            self.ending = Some(Box::pin(async move { drop(connection.close().await) }));
        }
        if let Some(ending) = &mut self.ending {
            ending.await;
            self.ending = None;
        }
        let (mut connection, mut checking) = open::connect(&self.folder).await?;
        // it reads the WAL, which is to be emptied
        checking.end().await?;
        let failed = |source| OpenStoreError::Open {
            path: open::database(&self.folder),
            source,
        };
        // After a failed fdatasync the kernel may hold pages of the WAL that never reach the
        // disk. To write and sync them elsewhere is the only way to know.
        let row = sqlx::query(statements::CHECKPOINT_ALL)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if row.try_get::<i64, _>(0).map_err(failed)? != 0 {
            return Err(failed(sqlx::Error::Protocol(
                "the WAL is in use".to_owned(),
            )));
        }
        self.commits_since_checkpoint = 0;
        self.connection = Some(connection);
        Ok(())
    }

    /// Returns a reader of the audit log, which works beside the writer.
    #[must_use]
    pub fn audit(&self) -> AuditReader {
        self.audit.clone()
    }

    /// Checks the whole database.
    ///
    /// # Errors
    /// When it cannot be read, or with the first thing that is wrong.
    pub async fn check(&mut self) -> Result<(), OpenStoreError> {
        let path = open::database(&self.folder);
        let Some(connection) = self.connection.as_mut() else {
            let source = sqlx::Error::WorkerCrashed;
            return Err(OpenStoreError::Open { path, source });
        };
        let found = sqlx::query_scalar::<_, String>(statements::CHECK)
            .fetch_one(connection)
            .await;
        match found {
            Ok(found) if found == "ok" => Ok(()),
            Ok(found) => Err(OpenStoreError::Damaged {
                path,
                source: sqlx::Error::Protocol(found),
            }),
            Err(source) => Err(OpenStoreError::Open { path, source }),
        }
    }

    /// Closes the store; the WAL is empty afterwards. Without it nothing is lost either.
    ///
    /// # Errors
    /// When SQLite cannot write.
    pub async fn close(mut self) -> Result<(), CommitError> {
        self.audit.close().await;
        // who closes a store that was never used waits for its check
        drop(self.checked().await);
        match self.connection.take() {
            Some(connection) => connection.close().await.map_err(CommitError::Write),
            None => Ok(()),
        }
    }

    async fn run(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<(), CommitError> {
        let connection = self.connection.as_mut().ok_or(CommitError::Closed)?;
        query
            .execute(connection)
            .await
            .map_err(CommitError::Write)?;
        Ok(())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("folder", &self.folder)
            .field("open", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An earlier reopening failed.
    #[error("the store is closed")]
    Closed,
    /// The check that began with the opening found damage.
    #[error(transparent)]
    Damaged(OpenStoreError),
    /// A row cannot be written as JSON.
    #[error("cannot encode a row")]
    Encode(#[source] serde_json::Error),
    /// SQLite cannot write it.
    #[error("cannot write to the store")]
    Write(#[source] sqlx::Error),
}

/// About half of what SQLite's own checkpoint waits for.
const COMMITS_PER_CHECKPOINT: u32 = 16;
