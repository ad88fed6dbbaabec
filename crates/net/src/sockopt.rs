//! Socket options that neither nix nor socket2 knows, as their bytes.

use std::io;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;

/// Sets an option to `value`, the bytes of an integer or of a structure without pointers.
#[expect(unsafe_code, reason = "an option that no crate of ours sets")]
pub(crate) fn set(
    fd: RawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: `value` is alive and `len` bytes long; the kernel only reads it.
    let result = unsafe { libc::setsockopt(fd, level, option, value.as_ptr().cast(), len) };
    Errno::result(result)?;
    Ok(())
}

/// Reads an option into `buf`, and returns how many bytes the kernel wrote.
#[expect(unsafe_code, reason = "an option that no crate of ours reads")]
pub(crate) fn get(
    fd: RawFd,
    level: libc::c_int,
    option: libc::c_int,
    buf: &mut [u8],
) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(buf.len()).map_err(io::Error::other)?;
    // SAFETY: `buf` is alive and `len` bytes long, and the kernel writes no more than that.
    let result =
        unsafe { libc::getsockopt(fd, level, option, buf.as_mut_ptr().cast(), &raw mut len) };
    Errno::result(result)?;
    usize::try_from(len).map_err(io::Error::other)
}
