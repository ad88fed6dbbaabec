//! Children that do not outlive us.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, geteuid, getpid, getppid};

/// Makes the child of `command` die by SIGKILL as soon as the *thread* that spawned it ends.
///
/// The thread, not the process: so the child of a simulated node dies with its node.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    let parent = getpid();
    before_exec(command, parent)
}

/// Asks a process to end, by SIGTERM.
///
/// # Errors
///
/// When it is not there, or not ours.
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(signal::kill(Pid::from_raw(pid), Signal::SIGTERM)?)
}

/// Gives the calling thread, and no other, a niceness from -20 (first) to 19 (last).
///
/// # Errors
///
/// When a thread wants to be less nice without `CAP_SYS_NICE`.
#[expect(unsafe_code, reason = "setpriority, which nix does not wrap")]
pub fn set_thread_niceness(niceness: i32) -> io::Result<()> {
    const THIS_THREAD: u32 = 0;
    // SAFETY: it takes numbers only.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, THIS_THREAD, niceness) };
    Ok(Errno::result(result).map(drop)?)
}

/// Tells whether whoever started this process wants it to go on when its terminal closes, as `nohup`
/// does.
#[must_use]
pub fn ignores_hangup() -> bool {
    // proc_pid_status(5): a mask of signals, the first of them SIGHUP
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

/// Returns the user as whom this process acts.
#[must_use]
pub fn effective_uid() -> u32 {
    geteuid().as_raw()
}

#[expect(
    unsafe_code,
    reason = "the signal must be asked for between fork and exec"
)]
fn before_exec(command: &mut Command, parent: Pid) -> &mut Command {
    let ask = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the call; then nobody would send the signal.
        if getppid() == parent {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    };
    // SAFETY: prctl and getppid are async-signal-safe, and nothing here allocates or locks.
    unsafe { command.pre_exec(ask) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn niceness_is_of_one_thread_only() {
        let niceness = |folder: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{folder}/stat")).unwrap();
            // proc_pid_stat(5): the name, in parentheses, is the second field, this one the 19th
            let (_, fields) = stat.rsplit_once(") ").unwrap();
            fields.split(' ').nth(16).unwrap().to_owned()
        };
        let before = niceness("thread-self");

        let other = std::thread::spawn(move || {
            set_thread_niceness(7).unwrap();
            niceness("thread-self")
        });

        assert_eq!(other.join().unwrap(), "7");
        assert_eq!(niceness("thread-self"), before);
    }

    #[test]
    fn the_child_dies_with_the_thread_that_spawned_it() {
        let mut child = std::thread::spawn(|| {
            die_with_parent(Command::new("sleep").arg("60").stdin(Stdio::null()))
                .spawn()
                .unwrap()
        })
        .join()
        .unwrap();

        let status = child.wait().unwrap();

        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn process_that_is_asked_to_end_ends() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();

        terminate(child.id()).unwrap();

        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGTERM));
        assert!(terminate(u32::MAX).is_err());
    }
}
