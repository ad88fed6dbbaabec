//! Links, addresses, routes, neighbours and proxy neighbours of the kernel (rtnetlink).
//!
//! Every call may be repeated: adding what exists replaces it, removing what is gone succeeds.

mod address;
mod link;
mod neighbour;
mod route;
mod watch;

use std::fmt;
use std::io;
use std::sync::Arc;

use nix::libc;
use tokio::task::JoinHandle;

pub use address::{Address, Lifetimes};
pub use link::{Link, NewLink, Tally};
pub use route::{Route, Target};
pub use watch::{Change, Watch};

/// A handle on the kernel's network configuration, in the namespace where it was opened.
///
/// Cheap to clone, and usable from any runtime as long as the one that opened it runs.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    _connection: Arc<Connection>,
}

impl Netlink {
    /// Opens a handle in the network namespace of the calling thread; must run inside a tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| NetlinkError {
                action: "open netlink".to_owned(),
                source,
            })?;
        let connection = Arc::new(Connection(tokio::spawn(connection)));
        Ok(Self {
            handle,
            _connection: connection,
        })
    }
}

/// Something that the kernel would not do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct NetlinkError {
    action: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// The task that moves messages; it ends with the last handle.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Turns the answer of the kernel into ours, with what was asked in words.
fn done<T>(
    result: Result<T, rtnetlink::Error>,
    action: impl fmt::Display,
) -> Result<T, NetlinkError> {
    result.map_err(|error| NetlinkError {
        action: action.to_string(),
        source: to_io(error),
    })
}

/// Like [`done`], but each error number in `fine` is success.
fn done_or(
    result: Result<(), rtnetlink::Error>,
    fine: &[i32],
    action: impl fmt::Display,
) -> Result<(), NetlinkError> {
    match result {
        Err(error) if errno(&error).is_some_and(|errno| fine.contains(&errno)) => Ok(()),
        other => done(other, action),
    }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().raw_os_error(),
        _ => None,
    }
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match errno(&error) {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error),
    }
}

/// What the kernel says about something that is not there (any more).
const GONE: &[i32] = &[
    libc::ENOENT,
    libc::ESRCH,
    libc::ENODEV,
    libc::ENXIO,
    libc::EADDRNOTAVAIL,
];

#[cfg(test)]
mod tests;
