//! A thread that waits for a file of the kernel and for a future at once.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use mapping::Instant;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Puts a thread to sleep until a descriptor is readable, a future wants to be polled, or time is
/// up.
///
/// The thread itself polls the future, with [`Self::waker`], after [`Self::take_notified`] has
/// said so; the drivers of what the future waits for run elsewhere. Between two packets such a
/// thread passes through one system call and no runtime. What it waits for is told to the kernel
/// once, and a deadline only when it is earlier than the last one that was told: a poll that
/// names them at every sleep takes a third of a microsecond longer.
#[derive(Debug)]
pub struct Parker {
    bell: Arc<Bell>,
    epoll: Epoll,
    timer: TimerFd,
    /// When the timer wakes the thread.
    armed: Option<Instant>,
}

#[derive(Debug)]
struct Bell {
    notified: AtomicBool,
    event: EventFd,
}

impl Parker {
    /// Makes a parker that watches `fd` as long as that is open; a new future has to be polled
    /// once before the waker can tell of it.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left, or `fd` is of a kind that is always ready.
    pub fn new(fd: impl AsFd) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Bell {
            notified: AtomicBool::new(false),
            event: EventFd::from_flags(flags)?,
        };
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        epoll.add(fd, readable(WATCHED))?;
        epoll.add(&bell.event, readable(BELL))?;
        epoll.add(&timer, readable(TIMER))?;
        Ok(Self {
            bell: Arc::new(bell),
            epoll,
            timer,
            armed: None,
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

    /// Sleeps until the descriptor is readable, the waker is used or `deadline` has come (suspend
    /// included), whichever comes first; perhaps earlier.
    ///
    /// # Errors
    ///
    /// Only when the kernel is out of memory.
    pub fn park(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if let Some(deadline) = deadline
            && self.armed.is_none_or(|armed| deadline < armed)
        {
            self.arm(deadline)?;
        }
        let mut events = [EpollEvent::empty(); 3];
        let events = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => events.get(..count).unwrap_or_default(),
            Err(Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        if events.iter().any(|event| event.data() == TIMER) {
            // It rings on until it is set again or read.
            self.timer.wait()?;
            self.armed = None;
        }
        Ok(())
    }

    fn arm(&mut self, deadline: Instant) -> io::Result<()> {
        // Zero would silence it.
        let at = Duration::from_nanos(deadline.as_nanos().max(1));
        let expiration = Expiration::OneShot(TimeSpec::from_duration(at));
        self.timer
            .set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        self.armed = Some(deadline);
        Ok(())
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

const WATCHED: u64 = 0;
const BELL: u64 = 1;
const TIMER: u64 = 2;

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::unistd::{pipe, read, write};

    use super::*;
    use crate::Clock;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn waker_wakes_once_for_many_calls() {
        let (silent, _end) = silence();
        let mut parker = Parker::new(&silent).unwrap();
        assert!(!parker.take_notified());

        let wakers: Vec<_> = std::iter::repeat_with(|| parker.waker()).take(8).collect();
        let thread = std::thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
        parker.park(Some(Clock::new().mono() + LONG)).unwrap();
        assert!(parker.take_notified());
        thread.join().unwrap();
        // the last of them may have come after that
        let _late = parker.take_notified();
        assert!(!parker.take_notified());
    }

    #[test]
    fn thread_sleeps_until_a_byte_comes() {
        let (fd, end) = silence();
        let mut parker = Parker::new(&fd).unwrap();

        write(&end, b"!").unwrap();
        parker.park(None).unwrap();

        assert!(!parker.take_notified());
    }

    #[test]
    fn every_deadline_is_kept_whatever_was_asked_before() {
        let (fd, end) = silence();
        let mut parker = Parker::new(&fd).unwrap();
        let clock = Clock::new();
        write(&end, b"!").unwrap();
        parker.park(Some(clock.mono() + LONG)).unwrap();
        read(&fd, &mut [0]).unwrap();

        for millis in [0, 30, 10, 20] {
            let begun = clock.mono();
            let deadline = begun + Duration::from_millis(millis);
            parker.park(Some(deadline)).unwrap();
            while clock.mono() < deadline {
                parker.park(Some(deadline)).unwrap();
            }
            assert!(clock.mono() - begun < LONG);
        }
    }

    #[test]
    fn a_timer_that_has_rung_is_silent() {
        let (fd, _end) = silence();
        let mut parker = Parker::new(&fd).unwrap();
        parker.park(Some(Instant::from_nanos(0))).unwrap();

        let (waker, mut other) = (parker.waker(), Parker::new(&fd).unwrap());
        let soon = Clock::new().mono() + Duration::from_millis(50);
        let thread = std::thread::spawn(move || {
            other.park(Some(soon)).unwrap();
            waker.wake();
        });
        parker.park(None).unwrap();

        assert!(parker.take_notified());
        thread.join().unwrap();
    }

    #[test]
    fn no_call_of_the_waker_is_lost() {
        let (fd, _end) = silence();
        let mut parker = Parker::new(&fd).unwrap();
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
            parker.park(Some(Clock::new().mono() + LONG)).unwrap();
            let _first = parker.take_notified();
        }
        thread.join().unwrap();
    }

    fn silence() -> (OwnedFd, OwnedFd) {
        pipe().unwrap()
    }
}
