//! The switches below `/proc/sys/net`, of the calling thread's network namespace.

use std::fs;
use std::io;

/// Reads a key such as `ipv4/ip_forward` or `ipv6/conf/wan0/accept_ra`.
///
/// # Errors
///
/// Names the key.
pub fn read(key: &str) -> Result<String, SysctlError> {
    fs::read_to_string(path(key))
        .map(|text| text.trim().to_owned())
        .map_err(|source| SysctlError {
            action: "read",
            key: key.to_owned(),
            source,
        })
}

/// Writes a key; succeeds without writing when it has the value already, since `/proc/sys` is
/// read-only in many containers.
///
/// # Errors
///
/// Names the key.
pub fn write(key: &str, value: &str) -> Result<(), SysctlError> {
    if read(key).is_ok_and(|current| current == value) {
        return Ok(());
    }
    fs::write(path(key), value).map_err(|source| SysctlError {
        action: "set",
        key: key.to_owned(),
        source,
    })
}

/// A switch that could not be read or set.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} sysctl net/{key}")]
pub struct SysctlError {
    action: &'static str,
    key: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_is_named() {
        let error = read("ipv4/no_such_key").unwrap_err();

        assert_eq!(error.to_string(), "cannot read sysctl net/ipv4/no_such_key");
    }

    #[test]
    fn the_namespace_of_the_thread_is_written_and_no_other() {
        let before = read("ipv4/ip_forward").unwrap();
        std::thread::spawn(|| {
            crate::namespace::unshare_network().unwrap();
            write("ipv4/ip_forward", "1").unwrap();
            assert_eq!(read("ipv4/ip_forward").unwrap(), "1");
            write("ipv4/ip_forward", "0").unwrap();
            assert_eq!(read("ipv4/ip_forward").unwrap(), "0");
        })
        .join()
        .unwrap();

        assert_eq!(read("ipv4/ip_forward").unwrap(), before);
    }
}
