//! Names of interfaces.

use std::io;

use nix::libc;

/// Tells whether the kernel takes `name` for an interface: at most 15 bytes, no white space, and
/// none of what has a meaning in paths and in old tools (`dev_valid_name` of the kernel, and no
/// control characters besides).
///
/// ```
/// assert!(net::ifname::is_valid("wan0.7"));
/// assert!(!net::ifname::is_valid("a/b") && !net::ifname::is_valid(".."));
/// ```
#[must_use]
pub fn is_valid(name: &str) -> bool {
    let odd = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    // one byte must stay for the terminating zero
    (1..libc::IFNAMSIZ).contains(&name.len()) && !name.contains(odd) && ![".", ".."].contains(&name)
}

/// Returns a name as a `struct ifreq` takes it.
pub(crate) fn bytes(name: &str) -> io::Result<[u8; libc::IFNAMSIZ]> {
    if !is_valid(name) {
        let message = format!("{name:?} is no name of an interface");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut bytes = [0; libc::IFNAMSIZ];
    for (byte, from) in bytes.iter_mut().zip(name.bytes()) {
        *byte = from;
    }
    Ok(bytes)
}
