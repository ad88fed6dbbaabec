//! What is true outside the snapshot: live sessions and counters, read through one trait that
//! every room's shell implements.

use std::future::Future;
use std::pin::Pin;

use mapping::PinholeId;

use crate::session_log::{LogPage, LogQuery};
use crate::sessions::{Ended, SessionCursor, SessionFilter, SessionPage};
use crate::upstream::{UpstreamCursor, UpstreamPage};

/// A room whose live state can be read.
pub trait Observe: Send + Sync + std::fmt::Debug {
    /// Returns the room's name, such as `translator`.
    fn room(&self) -> &'static str;

    /// Returns the room's counters.
    fn counters(&self) -> ObserveFuture<'_, Vec<Count>>;

    /// Returns a page of the live sessions that fit a filter; a page may be empty and still have
    /// a next one. Rooms without sessions have none.
    fn sessions(
        &self,
        filter: SessionFilter,
        cursor: SessionCursor,
    ) -> ObserveFuture<'_, Result<SessionPage, Busy>> {
        let _ = (filter, cursor);
        Box::pin(std::future::ready(Ok(SessionPage::default())))
    }

    /// Ends every live session that fits a filter, and says how many those were. Rooms without
    /// sessions end none.
    fn end_sessions(&self, filter: SessionFilter) -> ObserveFuture<'_, Result<Ended, Busy>> {
        let _ = filter;
        Box::pin(std::future::ready(Ok(Ended::default())))
    }

    /// Returns a page of what the session log knows; rooms without a log know nothing.
    fn log(&self, query: LogQuery) -> ObserveFuture<'_, Result<LogPage, Busy>> {
        let _ = query;
        Box::pin(std::future::ready(Ok(LogPage::default())))
    }

    /// Returns how many packets came in through a pinhole; nothing where none are counted, as in
    /// every room that carries none.
    fn pinhole_packets(&self, id: PinholeId) -> ObserveFuture<'_, Option<u64>> {
        let _ = id;
        Box::pin(std::future::ready(None))
    }

    /// Returns the gateways in front of us and at most `limit` of the ports there; only the room
    /// that knows them has an answer.
    fn upstream(
        &self,
        cursor: UpstreamCursor,
        limit: usize,
    ) -> ObserveFuture<'_, Result<Option<UpstreamPage>, Busy>> {
        let _ = (cursor, limit);
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// What an [`Observe`] returns.
pub type ObserveFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The room is not running, or too many ask at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unavailable at the moment; try again")]
pub struct Busy;

/// One counter: `portico_<room>_<name>{reason="<reason>"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// What is counted, unit last, such as `drops_total`.
    pub name: &'static str,
    /// Which of its kinds; empty if there is one.
    pub reason: &'static str,
    /// The value: of a `_total` a sum since the start, else what there is now.
    pub value: u64,
}

impl Count {
    /// Returns a counter as the room that owns it reads it.
    pub const fn new(name: &'static str, reason: &'static str, value: u64) -> Self {
        Self {
            name,
            reason,
            value,
        }
    }
}
