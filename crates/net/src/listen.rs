//! Listeners that somebody else opened, and Unix sockets.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Socket};

use crate::bind::{BindError, Transport};

/// A listener that was handed over.
#[derive(Debug)]
pub enum Listener {
    /// TCP; non-blocking.
    Tcp(TcpListener),
    /// Unix stream; non-blocking.
    Unix(UnixListener),
}

/// Takes over the listeners of the `LISTEN_FDS` protocol, in order; none if nobody handed any.
///
/// Unlike systemd's, `LISTEN_PID` may be absent: whoever forks and executes with plain means
/// does not know it. They are closed on exec, so that no child inherits them; a second call
/// returns none. Call it first thing in `main`, before anything else opens a descriptor.
///
/// # Errors
///
/// When the environment promises a descriptor that is no listening stream socket.
pub fn inherited() -> Result<Vec<Listener>, InheritError> {
    let pid = std::env::var("LISTEN_PID").ok();
    let count = std::env::var("LISTEN_FDS").ok();
    let Some(count) = promised(count.as_deref(), pid.as_deref(), std::process::id())? else {
        return Ok(Vec::new());
    };
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    (FIRST_FD..FIRST_FD.saturating_add(count))
        .map(adopt)
        .collect()
}

/// Listens on a Unix stream socket at `path` with the file mode `mode`; needs no runtime.
///
/// What a dead process left at `path` is removed; a socket that answers is not.
///
/// # Errors
///
/// Names the path.
pub fn unix(path: &Path, mode: u32) -> Result<UnixListener, BindError> {
    let open = || {
        if is_stale(path)? {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|source| BindError {
        transport: Transport::Unix,
        local: path.display().to_string(),
        device: None,
        owner: None,
        source,
    })
}

/// Why a promised listener could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// `LISTEN_FDS` is not a small number.
    #[error("LISTEN_FDS is {0:?}, which is no number of listeners")]
    Count(String),
    /// The descriptor is not open.
    #[error("LISTEN_FDS promises descriptor {0}, which is not open")]
    NotOpen(RawFd),
    /// The descriptor is something else.
    #[error("descriptor {0}, promised by LISTEN_FDS, is no listening stream socket")]
    NoListener(RawFd),
    /// The descriptor refuses to be set up.
    #[error("cannot take over descriptor {fd} of LISTEN_FDS")]
    SetUp {
        /// The descriptor's number.
        fd: RawFd,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn promised(
    count: Option<&str>,
    pid: Option<&str>,
    own: u32,
) -> Result<Option<RawFd>, InheritError> {
    let Some(text) = count else {
        return Ok(None);
    };
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return Ok(None);
    }
    match text.parse::<RawFd>() {
        Ok(count @ 0..=MOST_FDS) => Ok(Some(count)),
        _ => Err(InheritError::Count(text.to_owned())),
    }
}

fn adopt(fd: RawFd) -> Result<Listener, InheritError> {
    if fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_err() {
        return Err(InheritError::NotOpen(fd));
    }
    let socket = Socket::from(own(fd));
    if !socket.is_listener().unwrap_or(false) {
        // Not ours after all: leave it to whoever owns it.
        std::mem::forget(socket);
        return Err(InheritError::NoListener(fd));
    }
    let set_up = || {
        socket.set_cloexec(true)?;
        socket.set_nonblocking(true)?;
        socket.domain()
    };
    match set_up() {
        Ok(Domain::UNIX) => Ok(Listener::Unix(OwnedFd::from(socket).into())),
        Ok(_) => Ok(Listener::Tcp(OwnedFd::from(socket).into())),
        Err(source) => Err(InheritError::SetUp { fd, source }),
    }
}

#[expect(
    unsafe_code,
    reason = "a descriptor that came through exec has no owner in this process"
)]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the descriptor is open, the parent passed it for us to own (LISTEN_FDS), and
    // `TAKEN` lets each be adopted once only.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn is_stale(path: &Path) -> io::Result<bool> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Ok(false);
    }
    match UnixStream::connect(path) {
        Ok(_) => Ok(false),
        Err(error) => Ok(error.kind() == io::ErrorKind::ConnectionRefused),
    }
}

static TAKEN: AtomicBool = AtomicBool::new(false);

/// `SD_LISTEN_FDS_START`.
const FIRST_FD: RawFd = 3;

/// More than anybody hands over.
const MOST_FDS: RawFd = 64;

#[cfg(test)]
mod tests;
