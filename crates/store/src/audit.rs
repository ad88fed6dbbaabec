//! The audit log, read beside the writer.

use std::path::Path;

use mapping::{AuditAction, AuditEntry, Requester};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};

use crate::image::{Columns, LoadError};
use crate::{open, statements};

/// Reads the audit log over a connection of its own. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AuditReader(SqlitePool);

/// Below which line a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor(pub u64);

/// A line of the log and its number; later lines have higher numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Counts the lines.
    pub id: u64,
    /// What happened.
    pub entry: AuditEntry,
}

/// Some lines, newest first, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The lines.
    pub lines: Vec<AuditLine>,
    /// Where the next page begins, `None` after the last one.
    pub next: Option<AuditCursor>,
}

/// The audit log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the audit log")]
pub struct ReadAuditError(#[source] LoadError);

impl AuditReader {
    pub(crate) fn new(folder: &Path) -> Self {
        let options = open::options(folder).read_only(true);
        // opened by the first reader, so that a gateway without one has one thread less
        Self(
            SqlitePoolOptions::new()
                .max_connections(1)
                .connect_lazy_with(options),
        )
    }

    /// Reads at most `limit` lines below `cursor`, or the newest ones; newest first.
    ///
    /// # Errors
    /// When SQLite cannot read, or the store is closed.
    pub async fn page(
        &self,
        cursor: Option<AuditCursor>,
        limit: u16,
    ) -> Result<AuditPage, ReadAuditError> {
        let below = cursor.map_or(i64::MAX, |below| i64::try_from(below.0).unwrap_or(i64::MAX));
        let limit = limit.clamp(1, LONGEST_PAGE);
        let rows = sqlx::query(statements::READ_AUDIT)
            .bind(below)
            .bind(limit)
            .fetch_all(&self.0)
            .await
            .map_err(|error| ReadAuditError(LoadError::Read(error)))?;
        let lines = rows.iter().map(|row| {
            line(&Columns {
                table: "audit",
                row,
            })
        });
        let lines = lines
            .collect::<Result<Vec<_>, _>>()
            .map_err(ReadAuditError)?;
        let full = lines.len() == usize::from(limit);
        let next = lines
            .last()
            .filter(|_| full)
            .map(|line| AuditCursor(line.id));
        Ok(AuditPage { lines, next })
    }

    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

fn line(columns: &Columns<'_>) -> Result<AuditLine, LoadError> {
    let requester = Requester::from_name(&columns.get::<String>("requester")?);
    let action = AuditAction::from_name(&columns.get::<String>("action")?);
    let entry = AuditEntry {
        at: columns.wall("at")?,
        requester: requester.ok_or_else(|| columns.invalid("requester"))?,
        action: action.ok_or_else(|| columns.invalid("action"))?,
        target: columns.get("target")?,
    };
    Ok(AuditLine {
        id: columns.number("id")?,
        entry,
    })
}

/// A page of the dashboard, with room to spare.
const LONGEST_PAGE: u16 = 1000;
