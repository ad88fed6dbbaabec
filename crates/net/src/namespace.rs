//! Network namespaces without names: a thread makes one, and it vanishes with the thread.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, gettid, getuid};

/// Moves the calling thread into a new, empty network namespace.
///
/// # Errors
///
/// Says what is missing.
pub fn unshare_network() -> Result<(), NamespaceError> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| NamespaceError::Network(io::Error::from(errno)))
}

/// Opens the network namespace of the calling thread.
///
/// # Errors
///
/// When `/proc` does not show it.
pub fn current() -> Result<OwnedFd, NamespaceError> {
    File::open("/proc/thread-self/ns/net")
        .map(OwnedFd::from)
        .map_err(NamespaceError::Open)
}

/// The kernel's id of the calling thread: `/proc/self/task/<id>/ns/net` is its namespace.
#[must_use]
pub fn thread_id() -> u32 {
    gettid().as_raw().unsigned_abs()
}

/// Moves the calling thread into the network namespace `namespace`.
///
/// # Errors
///
/// Says that it could not.
pub fn enter(namespace: impl AsFd) -> Result<(), NamespaceError> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| NamespaceError::Enter(io::Error::from(errno)))
}

/// Makes an ordinary user root of a new user namespace, as `unshare -Ur` does, so that the
/// process may make network namespaces. Does nothing for root.
///
/// # Errors
///
/// Says what is missing. The process must have one thread only.
pub fn become_root_of_new_user_namespace() -> Result<(), NamespaceError> {
    let (uid, gid) = (getuid(), getgid());
    if uid.is_root() {
        return Ok(());
    }
    if fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(NamespaceError::Threads);
    }
    unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| NamespaceError::User(io::Error::from(errno)))?;
    // An unprivileged process may map its group only after it gave up setgroups.
    fs::write("/proc/self/setgroups", "deny").map_err(NamespaceError::Map)?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(NamespaceError::Map)?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(NamespaceError::Map)
}

/// What a namespace lacks.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// `CAP_SYS_ADMIN`, mostly.
    #[error(
        "cannot make a network namespace (it takes root, or `unshare -Urn` around the command)"
    )]
    Network(#[source] io::Error),
    /// The system does not let ordinary users make user namespaces.
    #[error(
        "cannot make a user namespace (run as root, or allow them: \
         sysctl kernel.unprivileged_userns_clone=1, \
         kernel.apparmor_restrict_unprivileged_userns=0)"
    )]
    User(#[source] io::Error),
    /// A user namespace takes a process with one thread.
    #[error("cannot make a user namespace after threads were started")]
    Threads,
    /// The new namespace has no users.
    #[error("cannot map our own user into the new user namespace")]
    Map(#[source] io::Error),
    /// `/proc` is not there.
    #[error("cannot open /proc/thread-self/ns/net")]
    Open(#[source] io::Error),
    /// Another namespace could not be entered.
    #[error("cannot enter a network namespace")]
    Enter(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_thread_can_leave_and_come_back() {
        std::thread::spawn(|| {
            // An ordinary user may only come back to what belongs to its own user namespace.
            unshare_network().unwrap();
            let home = current().unwrap();
            unshare_network().unwrap();
            let away = current().unwrap();
            assert_ne!(link(&home), link(&away));

            enter(&home).unwrap();

            assert_eq!(link(&current().unwrap()), link(&home));
        })
        .join()
        .unwrap();
    }

    #[test]
    #[expect(
        unsafe_code,
        reason = "only a process that was just forked has one thread"
    )]
    fn an_ordinary_user_becomes_root_of_a_namespace_of_its_own() {
        let mut command = Command::new("sh");
        command.args(["-c", "id -u; id -g"]);
        if getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let become_root = || {
            // As after a fresh exec: a process that changed its user may not open its own files.
            nix::sys::prctl::set_dumpable(true)?;
            become_root_of_new_user_namespace().map_err(io::Error::other)?;
            unshare_network().map_err(io::Error::other)
        };
        // SAFETY: the test process does nothing meanwhile that could hold a lock of the
        // allocator for good; the allocator itself survives a fork.
        unsafe { command.pre_exec(become_root) };

        let output = command.output().unwrap();

        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.starts_with("0\n0\n"), "{said}");
    }

    #[test]
    fn a_process_with_threads_is_told_so() {
        if getuid().is_root() {
            become_root_of_new_user_namespace().unwrap();
        } else {
            let error = become_root_of_new_user_namespace().unwrap_err();
            assert!(matches!(error, NamespaceError::Threads), "{error}");
        }
    }

    fn link(fd: &OwnedFd) -> std::path::PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
    }

    const NOBODY: u32 = 65_534;
}
