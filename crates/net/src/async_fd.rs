//! Files of the kernel that tokio waits for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A file that owns its one descriptor for as long as it lives.
pub(crate) trait OwnsDescriptor: std::os::fd::AsRawFd {}

impl OwnsDescriptor for OwnedFd {}

/// Registers `file` with the runtime; must run inside one.
#[expect(
    unsafe_code,
    reason = "AsyncFd wants a promise that the descriptor stays open"
)]
pub(crate) fn register<T: OwnsDescriptor>(file: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `OwnsDescriptor` is private and only given to types that keep one descriptor
    // open until they are dropped, and AsyncFd gives up its registration before that.
    unsafe { AsyncFd::register(file) }.map_err(io::Error::from)
}
