//! The state folder: its lock, its modes, and the connection.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        /// Why.
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
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Its tables cannot be brought to the current shape.
    #[error("cannot migrate the store {path}")]
    Migrate {
        /// The database file.
        path: PathBuf,
        /// Why.
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

/// Opens the one connection that writes, checks the database and brings it to the current shape.
pub(crate) async fn connect(folder: &Path) -> Result<SqliteConnection, OpenStoreError> {
    let path = database(folder);
    let failed = |source: sqlx::Error| match is_damage(&source) {
        true => OpenStoreError::Damaged {
            path: path.clone(),
            source,
        },
        false => OpenStoreError::Open {
            path: path.clone(),
            source,
        },
    };
    let options = options(folder)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("temp_store", "MEMORY")
        .pragma("wal_autocheckpoint", AUTOCHECKPOINT_PAGES)
        .pragma("journal_size_limit", WAL_SIZE_LIMIT);
    let mut connection = SqliteConnection::connect_with(&options)
        .await
        .map_err(failed)?;
    let found: String = sqlx::query_scalar(statements::QUICK_CHECK)
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    if found != "ok" {
        return Err(OpenStoreError::Damaged {
            path,
            source: sqlx::Error::Protocol(found),
        });
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
    Ok(connection)
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

const LOCK: &str = "portico.lock";

/// Nothing of ours holds the lock for long: this is for a person with a shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// What the thread of a connection may read ahead: with fewer it stops and is woken again for
/// every few rows, and a start with 100,000 mappings waits for that.
const ROWS_AHEAD: usize = 1024;

/// 4 MiB: a commit writes five to ten pages, so under a load without pause less than one in a
/// hundred pays for a checkpoint; else [`crate::Store::checkpoint`] has run in a pause before.
const AUTOCHECKPOINT_PAGES: &str = "1000";

/// What is left of the WAL file after a checkpoint.
const WAL_SIZE_LIMIT: &str = "4194304";

/// <https://www.sqlite.org/rescode.html#corrupt>
const SQLITE_CORRUPT: u32 = 11;

/// <https://www.sqlite.org/rescode.html#notadb>
const SQLITE_NOTADB: u32 = 26;
