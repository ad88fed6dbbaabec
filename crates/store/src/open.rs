//! The state folder: its lock, its modes, and the connection.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::future::{self, Future};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::statements;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The file is no database, or a damaged one. It is never deleted.
    #[error(
        "the store {path} is damaged; move it away to start afresh, or put a copy in its place"
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite found.
        #[source]
        source: sqlx::Error,
    },
    /// The folder, the lock file or the database file cannot be made or read.
    #[error("cannot use {path} as a state folder")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system or SQLite said.
        #[source]
        source: io::Error,
    },
    /// Another daemon runs on the same folder.
    #[error("another daemon uses the state folder {path}")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A later version of the program wrote the store.
    #[error("the store {path} was written by a newer version; start that one")]
    Newer {
        /// The database file.
        path: PathBuf,
    },
    /// SQLite cannot open it.
    #[error("cannot open the store {path}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the system or SQLite said.
        #[source]
        source: sqlx::Error,
    },
    /// Its tables cannot be brought to the current shape.
    #[error("cannot migrate the store {path}")]
    Migrate {
        /// The database file.
        path: PathBuf,
        /// What the system or SQLite said.
        #[source]
        source: Box<MigrateError>,
    },
}

/// Makes the folder if there is none and locks it for this process.
pub(crate) fn lock(folder: &Path) -> Result<File, OpenStoreError> {
    let failed = |source| OpenStoreError::Folder {
        path: folder.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let lock = private_file(&folder.join(LOCK)).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenStoreError::InUse {
                path: folder.to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    // SQLite gives its WAL the mode of the database file
    private_file(&database(folder))
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    // SQLite makes its own files durable, not the names of this one and of the folder
    for path in [Some(folder), folder.parent()].into_iter().flatten() {
        if let Ok(opened) = File::open(if path == Path::new("") {
            Path::new(".")
        } else {
            path
        }) {
            opened.sync_all().map_err(failed)?;
        }
    }
    Ok(lock)
}

/// Opens the one connection that writes and brings the database to the current shape. One whose
/// shape is the current one is checked from here on, over a connection of its own: that takes
/// longer than to read it.
pub(crate) async fn connect(folder: &Path) -> Result<(SqliteConnection, Checking), OpenStoreError> {
    let path = database(folder);
    let failed = |source: sqlx::Error| opening(folder, source);
    let options = options(folder)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", CACHE_KIB)
        .pragma("wal_autocheckpoint", AUTOCHECKPOINT_PAGES)
        .pragma("journal_size_limit", WAL_SIZE_LIMIT);
    let mut connection = SqliteConnection::connect_with(&options)
        .await
        .map_err(failed)?;
    let mut checking = Checking::begin(folder).await?;
    let known: Result<i64, _> = sqlx::query_scalar(statements::COUNT_MIGRATIONS)
        .fetch_one(&mut connection)
        .await;
    if known.ok() != i64::try_from(MIGRATOR.iter().count()).ok() {
        // nothing damaged is brought to another shape
        checking.end().await?;
    }
    match MIGRATOR.run_direct(None, &mut connection, false).await {
        Ok(()) => {}
        Err(MigrateError::VersionMissing(_)) => return Err(OpenStoreError::Newer { path }),
        Err(MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _)) => {
            return Err(failed(source));
        }
        Err(source) => {
            return Err(OpenStoreError::Migrate {
                path,
                source: Box::new(source),
            });
        }
    }
    // what it refers to must be there
    sqlx::raw_sql(statements::BATCH)
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    Ok((connection, checking))
}

/// A check of the database under way.
pub(crate) struct Checking(Option<Check>);

type Check = Pin<Box<dyn Future<Output = Result<(), OpenStoreError>> + Send>>;

impl Checking {
    async fn begin(folder: &Path) -> Result<Self, OpenStoreError> {
        let options = options(folder).read_only(true);
        let connected = SqliteConnection::connect_with(&options).await;
        let mut connection = connected.map_err(|source| opening(folder, source))?;
        let folder = folder.to_owned();
        let mut check: Check = Box::pin(async move {
            let failed = |source| opening(&folder, source);
            let found: String = sqlx::query_scalar(statements::QUICK_CHECK)
                .fetch_one(&mut connection)
                .await
                .map_err(failed)?;
            connection.close().await.map_err(failed)?;
            if found == "ok" {
                return Ok(());
            }
            Err(OpenStoreError::Damaged {
                path: database(&folder),
                source: sqlx::Error::Protocol(found),
            })
        });
        // the thread of the connection goes on with it by itself
        let found = (&mut check).now_or_never();
        Ok(Self(Some(match found {
            Some(found) => Box::pin(future::ready(found)),
            None => check,
        })))
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) -> Result<(), OpenStoreError> {
        let Some(check) = &mut self.0 else {
            return Ok(());
        };
        let result = check.await;
        self.0 = None;
        result
    }
}

fn opening(folder: &Path, source: sqlx::Error) -> OpenStoreError {
    let path = database(folder);
    if is_damage(&source) {
        OpenStoreError::Damaged { path, source }
    } else {
        OpenStoreError::Open { path, source }
    }
}

/// What every connection to the store has in common.
pub(crate) fn options(folder: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database(folder))
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging()
}

pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join(DATABASE)
}

/// Opens a file that only its owner may read, whatever the umask says.
fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn is_damage(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    // the primary result code is the low byte of the extended one
    let primary = code
        .and_then(|code| code.parse::<u32>().ok())
        .map(|code| code & 0xff);
    matches!(primary, Some(SQLITE_CORRUPT | SQLITE_NOTADB))
}

pub(crate) static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

const DATABASE: &str = "portico.db";

/// Negative: KiB. Holds what renewals touch of 60,000 mappings, and grows only where there are many.
const CACHE_KIB: &str = "-4096";

const LOCK: &str = "portico.lock";

/// Nothing of ours holds the lock for long: this is for a person with a shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// What the thread of a connection may read ahead: with fewer it stops and is woken again for
/// every few rows, and a start with 100,000 mappings waits for that.
const ROWS_AHEAD: usize = 1024;

/// 16 MiB. A checkpoint writes each page once that changed since the one before, by a request to
/// the disk of its own unless its neighbour changed as well: so the more commits share one, the
/// less each pays. With 100,000 mappings, what changes a row beyond its end changes any of 3,300
/// pages: after 1,000 of them most have no such neighbour, and checkpoints cost more than
/// everything else; after 4,000 most have one. Renewals change any of 440, which are written once
/// for thousands. Only a load without pause comes here; else [`crate::Store::checkpoint`] has
/// run in a pause before. One table of the index of the WAL holds 4,062 pages.
const AUTOCHECKPOINT_PAGES: &str = "4000";

/// What is left of the WAL file after a checkpoint: all of it, since a file that does not grow is
/// synced faster.
const WAL_SIZE_LIMIT: &str = "17825792";

/// <https://www.sqlite.org/rescode.html#corrupt>
const SQLITE_CORRUPT: u32 = 11;

/// <https://www.sqlite.org/rescode.html#notadb>
const SQLITE_NOTADB: u32 = 26;
