//! The one writer: decides on a value, persists, publishes, awaits the followers, answers.
//!
//! **Invariant:** nothing is answered with success before it is stored and every follower that
//! it concerns has applied it; nothing that closes waits for the disk. Knows no protocol and no
//! SQL.
//!
//! Start from [`start()`], which gives a [`Writer`] to run and a [`Handle`] for requesters, and
//! from [`Follower`], which those hold that act on a [`mapping::Snapshot`].
//! [`Observe`] is how the dashboard reads what is not in the snapshot.
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod counters;
mod follower;
mod handle;
mod observe;
mod session_log;
mod sessions;
mod start;
mod upstream;
mod writer;

pub use follower::Follower;
pub use handle::Handle;
pub use observe::{Busy, Count, Observe, ObserveFuture};
pub use session_log::{EndReason, LogCursor, LogEntry, LogPage, LogQuery, LoggedEnd};
pub use sessions::{
    Ended, NoSuch, Session, SessionCursor, SessionEnds, SessionFilter, SessionId, SessionPage,
    SessionProtocol, SessionState, SessionTraffic,
};
pub use start::{Config, StartError, start};
pub use store::{AuditCursor, AuditLine, AuditPage, OpenStoreError, ReadAuditError};
pub use upstream::{UpstreamCursor, UpstreamGateway, UpstreamPage, UpstreamPort};
pub use writer::{Writer, WriterError};
