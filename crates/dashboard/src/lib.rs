//! REST API, live events and pages, and the typed client of the CLI.
//!
//! **Invariant:** reads the snapshot and what rooms show of themselves, asks for changes like
//! any requester, and keeps no state of its own. Over TCP it is read-only and answers loopback
//! alone; changes come over the Unix socket from root or from the daemon's own user.
//!
//! Start from [`Dashboard`], which serves, [`Client`], which asks, and [`model`], the JSON that
//! both speak. Errors are problem documents (RFC 9457).
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod events;
mod guard;
pub mod model;
mod run;

pub use run::{BindError, Client, ClientError, Context, Dashboard, Listeners, RoomState, Rooms};
