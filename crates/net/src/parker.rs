//! A thread that waits for a file of the kernel and for a future at once.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

/// Puts a thread to sleep until a descriptor is readable, a future wants to be polled, or time is
/// up.
///
/// The thread itself polls the future, with [`Self::waker`], after [`Self::take_notified`] has
/// said so; the drivers of what the future waits for run elsewhere. Between two packets such a
/// thread passes through one system call and no runtime.
#[derive(Debug)]
pub struct Parker {
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    notified: AtomicBool,
    event: EventFd,
}

impl Parker {
    /// Makes a parker; a new future has to be polled once before the waker can tell of it.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Bell {
            notified: AtomicBool::new(false),
            event: EventFd::from_flags(flags)?,
        };
        Ok(Self {
            bell: Arc::new(bell),
        })
    }

    /// Returns what wakes the thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.bell))
    }

    /// Tells whether the waker was used since the last call; no system call if it was not.
    #[must_use]
    pub fn take_notified(&self) -> bool {
        if !self.bell.notified.load(Ordering::Acquire) {
            return false;
        }
        // The event is taken first: who rings in between is answered by the poll that follows.
        let _count = self.bell.event.read();
        self.bell.notified.store(false, Ordering::Release);
        true
    }

    /// Sleeps until `fd` is readable, the waker is used or `patience` is over, whichever comes
    /// first; perhaps earlier.
    ///
    /// # Errors
    ///
    /// Only when the kernel is out of memory.
    pub fn park(&self, fd: BorrowedFd<'_>, patience: Option<Duration>) -> io::Result<()> {
        let mut fds = [
            PollFd::new(fd, PollFlags::POLLIN),
            PollFd::new(self.bell.event.as_fd(), PollFlags::POLLIN),
        ];
        match ppoll(&mut fds, patience.map(TimeSpec::from_duration), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Bell {
    fn ring(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            // Only a full counter is refused, and that one rings already.
            let _full = self.event.write(1);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::unistd::{pipe, write};

    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(20));

    #[test]
    fn waker_wakes_once_for_many_calls() {
        let parker = Parker::new().unwrap();
        let (silent, _end) = silence();
        assert!(!parker.take_notified());

        let wakers: Vec<_> = std::iter::repeat_with(|| parker.waker()).take(8).collect();
        let thread = std::thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
        parker.park(silent.as_fd(), LONG).unwrap();
        assert!(parker.take_notified());
        thread.join().unwrap();
        // the last of them may have come after that
        let _late = parker.take_notified();
        assert!(!parker.take_notified());
    }

    #[test]
    fn thread_sleeps_until_a_byte_comes_or_time_is_up() {
        let parker = Parker::new().unwrap();
        let (fd, end) = silence();
        let clock = crate::Clock::new();

        let begun = clock.mono();
        let patience = Duration::from_millis(20);
        parker.park(fd.as_fd(), Some(patience)).unwrap();
        assert!(clock.mono() - begun >= patience);

        write(&end, b"!").unwrap();
        parker.park(fd.as_fd(), None).unwrap();
        assert!(!parker.take_notified());
    }

    #[test]
    fn no_call_of_the_waker_is_lost() {
        let parker = Parker::new().unwrap();
        let (fd, _end) = silence();
        let rounds = 2000;
        let seen = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let thread = std::thread::spawn({
            let (seen, waker) = (Arc::clone(&seen), parker.waker());
            move || {
                for _ in 0..rounds {
                    seen.fetch_add(1, Ordering::SeqCst);
                    waker.wake_by_ref();
                }
            }
        });
        while seen.load(Ordering::SeqCst) < rounds {
            parker.park(fd.as_fd(), LONG).unwrap();
            let _first = parker.take_notified();
        }
        thread.join().unwrap();
    }

    fn silence() -> (OwnedFd, OwnedFd) {
        pipe().unwrap()
    }
}
