//! A timer that is finer than the runtime's.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use crate::async_fd::{OwnsDescriptor, register};

/// Goes off after a fraction of a millisecond, which the runtime's timers round up; everything
/// longer is left to [`Clock::sleep_until`](crate::Clock::sleep_until).
#[derive(Debug)]
pub struct Alarm(AsyncFd<Timer>);

impl Alarm {
    /// Makes an alarm; must run inside a runtime.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        register(Timer(timer)).map(Self)
    }

    /// Sleeps for `time`; the sleep before must be over or dropped.
    ///
    /// # Errors
    ///
    /// When the runtime ends.
    pub async fn sleep(&self, time: Duration) -> io::Result<()> {
        self.set(time)?;
        self.rings().await
    }

    /// It does not go off any more when it was set to before.
    fn set(&self, after: Duration) -> io::Result<()> {
        // Zero would silence it.
        let after = TimeSpec::from_duration(after.max(Duration::from_nanos(1)));
        let once = Expiration::OneShot(after);
        self.0
            .get_ref()
            .0
            .set(once, TimerSetTimeFlags::empty())
            .map_err(io::Error::from)
    }

    async fn rings(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|timer| match timer.get_ref().0.wait() {
                Err(Errno::EAGAIN) => Err(io::ErrorKind::WouldBlock.into()),
                read => read.map_err(io::Error::from),
            });
            if let Ok(read) = read {
                return read;
            }
        }
    }
}

#[derive(Debug)]
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl OwnsDescriptor for Timer {}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::Clock;

    #[tokio::test]
    async fn it_goes_off_when_its_time_has_come_and_once() {
        let (alarm, clock) = (Alarm::new().unwrap(), Clock::new());
        for micros in [0, 200, 3000] {
            let (after, begun) = (Duration::from_micros(micros), clock.mono());

            alarm.sleep(after).await.unwrap();

            assert!(clock.mono() - begun >= after);
            assert!(alarm.rings().now_or_never().is_none());
        }
    }

    #[tokio::test]
    async fn a_sleep_that_was_dropped_cuts_no_other_short() {
        let (alarm, clock) = (Alarm::new().unwrap(), Clock::new());
        let begun = clock.mono();
        let later = Duration::from_millis(30);
        alarm.set(Duration::from_micros(1)).unwrap();
        // it has gone off, and the runtime knows
        alarm.0.readable().await.unwrap().retain_ready();

        alarm.sleep(later).await.unwrap();

        assert!(clock.mono() - begun >= later);
    }
}
