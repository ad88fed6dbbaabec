//! What the session log answers: who was behind a pool address at a time.

use mapping::Wall;

use crate::sessions::{SessionEnds, SessionFilter, SessionTraffic};

/// What is asked of the session log: sessions that fit and were alive at any moment of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogQuery {
    /// Which sessions; see [`SessionFilter::fits_ends`].
    pub filter: SessionFilter,
    /// The first moment.
    pub from: Wall,
    /// The last moment, which may be the first.
    pub until: Wall,
    /// How many sessions the page may hold.
    pub limit: usize,
    /// Where to go on.
    pub cursor: LogCursor,
}

/// Where a page of the log begins; what the number means is the log's own affair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCursor(pub u64);

/// What the log knows, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPage {
    /// The sessions, in the order in which they began as far as the log keeps it.
    pub entries: Vec<LogEntry>,
    /// Where the next page begins, `None` after the last one; a page may be empty and still have
    /// a next one.
    pub next: Option<LogCursor>,
    /// From when on the log knows everything; `None` if no log is kept.
    pub since: Option<Wall>,
}

/// A session in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEntry {
    /// Between whom.
    pub ends: SessionEnds,
    /// When it began.
    pub began: Wall,
    /// When and why it ended; `None` as long as the log has not heard of an end.
    pub ended: Option<LoggedEnd>,
    /// What passed, as far as the log has heard.
    pub traffic: SessionTraffic,
}

/// The end of a session in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedEnd {
    /// When the session ended.
    pub at: Wall,
    /// Why it ended.
    pub why: EndReason,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its port was closed, or its prefix or its host went.
    Closed,
    /// Another session needed its place.
    Evicted,
    /// Nothing more was heard, or both sides had closed.
    Expired,
    /// Portico stopped before it could see the end; the time is when it was last known to live.
    Lost,
    /// A person ended it.
    Requested,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Closed,
        Self::Evicted,
        Self::Expired,
        Self::Lost,
        Self::Requested,
    ];

    /// Returns the name used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Requested => "requested",
        }
    }
}

impl LogEntry {
    /// Tells whether the session fits a query.
    #[must_use]
    pub fn fits(&self, query: &LogQuery) -> bool {
        self.began <= query.until
            && self.ended.is_none_or(|end| end.at >= query.from)
            && query.filter.fits_ends(&self.ends)
    }
}
