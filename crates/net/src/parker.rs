//! A thread that waits for a file of the kernel and for a future at once.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use mapping::Instant;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{
    SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

/// Lets the thread that made it sleep in a read until there is something to read, a future wants
/// to be polled, or time is up.
///
/// The thread itself polls the future, with [`Self::waker`], after [`Self::take_notified`] has
/// said so; the drivers of what the future waits for run elsewhere. Between two packets such a
/// thread passes through no system call but the read itself: waiting for both by epoll, and
/// reading then, takes one more, which is a tenth of what a lone packet costs.
///
/// Who interrupts the read does two things: the descriptor becomes non-blocking, so that a read
/// which is about to begin ends with `EAGAIN`; and the thread gets a signal (`SIGURG`), so that
/// a read under way ends with `EINTR`. No wake-up is lost between the two.
#[derive(Debug)]
pub struct Parker {
    bell: Arc<Bell>,
    fd: Arc<OwnedFd>,
    /// When the timer wakes the thread.
    armed: Option<Instant>,
    /// The signal goes to the thread that made it.
    thread: PhantomData<Cell<*const ()>>,
}

#[derive(Debug)]
struct Bell {
    notified: AtomicBool,
    /// Until the parker is gone.
    sleeper: Mutex<Option<Sleeper>>,
}

/// The thread, and what it reads.
#[derive(Debug)]
struct Sleeper {
    /// Its handler uses the descriptor, which is closed after it.
    timer: AnyonesTimer,
    fd: Arc<OwnedFd>,
    thread: Pthread,
}

#[derive(Debug)]
struct AnyonesTimer(Timer);

// SAFETY: what is in it is a number (or, in glibc, a pointer that only glibc follows) that belongs
// to the process; timer_settime(3) and timer_delete(3) take it on any thread.
#[expect(unsafe_code, reason = "nix leaves open what a timer_t is")]
unsafe impl Send for AnyonesTimer {}

impl Parker {
    /// Makes a parker for reads of `fd`, which has no other status flags than that it blocks or
    /// not; a new future has to be polled once before the waker can tell of it.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor or no timer left.
    pub fn new(fd: impl AsFd) -> io::Result<Self> {
        let fd = Arc::new(fd.as_fd().try_clone_to_owned()?);
        handle_signal()?;
        let event = SigEvent::new(SigevNotify::SigevThreadId {
            signal: SIGNAL,
            thread_id: gettid().as_raw(),
            si_value: libc::intptr_t::try_from(fd.as_raw_fd()).map_err(io::Error::other)?,
        });
        let timer = Timer::new(ClockId::CLOCK_BOOTTIME, event)?;
        let sleeper = Sleeper {
            timer: AnyonesTimer(timer),
            fd: Arc::clone(&fd),
            thread: pthread_self(),
        };
        set_blocking(&fd, true)?;
        Ok(Self {
            bell: Arc::new(Bell {
                notified: AtomicBool::new(false),
                sleeper: Mutex::new(Some(sleeper)),
            }),
            fd,
            armed: None,
            thread: PhantomData,
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
        self.bell.notified.load(Ordering::Acquire)
            && self.bell.notified.swap(false, Ordering::AcqRel)
    }

    /// Calls `read`, which reads the descriptor once, and lets it sleep until there is something
    /// to read, the waker is used or `deadline` has come (suspend included); perhaps shorter.
    /// Returns what it has read, if that is what ended its sleep.
    ///
    /// # Errors
    ///
    /// Those of `read` but `EINTR` and `EAGAIN`.
    pub fn park<T>(
        &mut self,
        deadline: Option<Instant>,
        read: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        if let Some(deadline) = deadline
            && self.armed.is_none_or(|armed| deadline < armed)
        {
            self.bell.set_timer(deadline)?;
            self.armed = Some(deadline);
        }
        match read() {
            Ok(it) => Ok(Some(it)),
            Err(error) if is_interrupted(&error) => {
                // Who has rung before this is heard of by `take_notified`, and a deadline that has
                // come is set anew.
                self.armed = None;
                set_blocking(&self.fd, true)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Parker {
    fn drop(&mut self) {
        // A signal of the timer that is under way comes before this returns, while the descriptor
        // is open.
        drop(self.bell.sleeper().take());
    }
}

impl Bell {
    fn ring(&self) {
        if self.notified.swap(true, Ordering::AcqRel) {
            return;
        }
        // Nobody: there is no parker any more.
        if let Some(sleeper) = &*self.sleeper() {
            // Neither can fail: the descriptor is open and the thread there as long as this is.
            let _set = set_blocking(&sleeper.fd, false);
            let _sent = pthread_kill(sleeper.thread, SIGNAL);
        }
    }

    fn set_timer(&self, deadline: Instant) -> io::Result<()> {
        // Zero would silence it.
        let at = Duration::from_nanos(deadline.as_nanos().max(1));
        let at = Expiration::OneShot(TimeSpec::from_duration(at));
        if let Some(sleeper) = &mut *self.sleeper() {
            let AnyonesTimer(timer) = &mut sleeper.timer;
            timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        }
        Ok(())
    }

    fn sleeper(&self) -> MutexGuard<'_, Option<Sleeper>> {
        self.sleeper.lock().unwrap_or_else(PoisonError::into_inner)
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

fn set_blocking(fd: &OwnedFd, blocks: bool) -> io::Result<()> {
    let flags = if blocks {
        OFlag::empty()
    } else {
        OFlag::O_NONBLOCK
    };
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

fn is_interrupted(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

/// Makes this process answer [`SIGNAL`] by [`on_signal`], and lets it in to this thread.
#[expect(unsafe_code, reason = "a handler of signals runs at any time")]
fn handle_signal() -> io::Result<()> {
    // No SA_RESTART: the read is to end.
    let handler = SigHandler::SigAction(on_signal);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does only what signal-safety(7) allows, and keeps errno.
    unsafe { sigaction(SIGNAL, &action) }?;
    let mut signals = SigSet::empty();
    signals.add(SIGNAL);
    signals.thread_unblock()?;
    Ok(())
}

/// Makes the descriptor non-blocking of whose timer the signal comes; a ring has done so.
#[expect(
    unsafe_code,
    reason = "called by the kernel, in the middle of anything"
)]
extern "C" fn on_signal(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel hands over a whole siginfo_t; a timer's has the value that it was made
    // with, the descriptor, which its parker keeps open. fcntl(2) is async-signal-safe.
    unsafe {
        if (*info).si_code != SI_TIMER {
            return;
        }
        let Ok(fd) = libc::c_int::try_from((*info).si_value().sival_ptr.addr()) else {
            return;
        };
        let errno = Errno::last_raw();
        libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
        Errno::set_raw(errno);
    }
}

/// What nobody sends who does not ask for it, and what does nothing where nobody handles it.
const SIGNAL: Signal = Signal::SIGURG;

/// `asm-generic/siginfo.h`.
const SI_TIMER: libc::c_int = -2;

#[cfg(test)]
mod tests {
    use nix::unistd::{pipe, read, write};

    use super::*;
    use crate::Clock;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn waker_wakes_once_for_many_calls() {
        let mut sleeper = Pipe::new();
        assert!(!sleeper.parker.take_notified());

        let waker = sleeper.parker.waker();
        let wakers: Vec<_> = std::iter::repeat_n(waker, 8).collect();
        let thread = std::thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
        assert_eq!(sleeper.sleep(LONG), None);
        assert!(sleeper.parker.take_notified());
        thread.join().unwrap();
        // the last of them may have come after that
        let _late = sleeper.parker.take_notified();
        assert!(!sleeper.parker.take_notified());
    }

    #[test]
    fn thread_sleeps_until_a_byte_comes_and_returns_it() {
        let mut sleeper = Pipe::new();
        let end = sleeper.end.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            pause(30);
            write(&end, b"!").unwrap();
        });

        assert_eq!(
            sleeper.parker.park(None, || byte(&sleeper.fd)).unwrap(),
            Some(b'!')
        );

        assert!(!sleeper.parker.take_notified());
        thread.join().unwrap();
    }

    #[test]
    fn other_errors_are_passed_on() {
        let mut sleeper = Pipe::new();
        let gone = || Err::<u8, _>(io::Error::from_raw_os_error(libc::EBADFD));

        let error = sleeper.parker.park(None, gone).unwrap_err();

        assert_eq!(error.raw_os_error(), Some(libc::EBADFD));
    }

    #[test]
    fn every_deadline_is_kept_whatever_was_asked_before() {
        let mut sleeper = Pipe::new();
        let clock = Clock::new();
        write(&sleeper.end, b"!").unwrap();
        assert_eq!(sleeper.sleep(LONG), Some(b'!'));

        for millis in [0, 30, 10, 20] {
            let begun = clock.mono();
            let deadline = begun + Duration::from_millis(millis);
            while clock.mono() < deadline {
                assert_eq!(sleeper.sleep_until(deadline), None);
            }
            assert!(clock.mono() - begun < LONG);
        }
    }

    #[test]
    fn deadline_that_comes_while_the_thread_is_awake_ends_the_next_sleep() {
        let mut sleeper = Pipe::new();
        write(&sleeper.end, b"!").unwrap();
        assert_eq!(sleeper.sleep(Duration::from_millis(20)), Some(b'!'));
        pause(60);

        let begun = Clock::new().mono();
        assert_eq!(sleeper.sleep(LONG), None);
        assert!(Clock::new().mono() - begun < LONG);
    }

    #[test]
    fn a_timer_that_has_rung_is_silent() {
        let mut sleeper = Pipe::new();
        assert_eq!(sleeper.sleep(Duration::ZERO), None);

        let waker = sleeper.parker.waker();
        let thread = std::thread::spawn(move || {
            pause(50);
            waker.wake();
        });
        let begun = Clock::new().mono();
        assert_eq!(
            sleeper.parker.park(None, || byte(&sleeper.fd)).unwrap(),
            None
        );

        assert!(sleeper.parker.take_notified());
        assert!(Clock::new().mono() - begun >= Duration::from_millis(40));
        thread.join().unwrap();
    }

    #[test]
    fn no_call_of_the_waker_is_lost() {
        let mut sleeper = Pipe::new();
        let rounds = 2000;
        let (told, heard) = std::sync::mpsc::sync_channel(0);
        let waker = sleeper.parker.waker();
        let thread = std::thread::spawn(move || {
            for _ in 0..rounds {
                waker.wake_by_ref();
                heard.recv().unwrap();
            }
        });
        let clock = Clock::new();
        let begun = clock.mono();
        for _ in 0..rounds {
            while !sleeper.parker.take_notified() {
                // an earlier deadline is set anew each time, against the waker
                sleeper.sleep(LONG);
            }
            told.send(()).unwrap();
        }
        thread.join().unwrap();
        assert!(clock.mono() - begun < LONG);
    }

    #[test]
    fn waker_that_outlives_the_parker_does_nothing() {
        let Pipe {
            parker,
            fd,
            end: _end,
        } = Pipe::new();
        let waker = parker.waker();
        drop(parker);

        waker.wake();

        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK));
    }

    #[derive(Debug)]
    struct Pipe {
        parker: Parker,
        fd: OwnedFd,
        end: OwnedFd,
    }

    impl Pipe {
        fn new() -> Self {
            let (fd, end) = pipe().unwrap();
            let parker = Parker::new(&fd).unwrap();
            Self { parker, fd, end }
        }

        fn sleep(&mut self, longest: Duration) -> Option<u8> {
            self.sleep_until(Clock::new().mono() + longest)
        }

        fn sleep_until(&mut self, deadline: Instant) -> Option<u8> {
            self.parker.park(Some(deadline), || byte(&self.fd)).unwrap()
        }
    }

    #[expect(clippy::disallowed_methods, reason = "time has to pass")]
    fn pause(millis: u64) {
        std::thread::sleep(Duration::from_millis(millis));
    }

    fn byte(fd: &OwnedFd) -> io::Result<u8> {
        let mut byte = [0];
        assert_eq!(read(fd, &mut byte)?, 1);
        Ok(byte[0])
    }
}
