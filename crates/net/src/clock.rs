//! The one place where time is read.

use std::io;
use std::time::Duration;

use mapping::{BootId, Instant, Now, Wall};
use nix::time::{ClockId, clock_gettime};

/// Reads the machine's clocks; a machine gets the [`Now`] and never the clock.
///
/// ```
/// let clock = net::Clock::new();
/// let before = clock.now();
/// assert!(clock.now().mono >= before.mono);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock(());

impl Clock {
    /// Makes a clock; every clock of a machine tells the same time.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }

    /// Samples both clocks; call it once per wake-up and pass the value down.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            mono: self.mono(),
            wall: Wall::from_nanos(nanos(ClockId::CLOCK_REALTIME)),
        }
    }

    /// The time since boot, suspend included (`CLOCK_BOOTTIME`).
    #[must_use]
    pub fn mono(&self) -> Instant {
        Instant::from_nanos(nanos(ClockId::CLOCK_BOOTTIME))
    }

    /// The time for which the processor has worked for the calling thread.
    #[must_use]
    pub fn thread_cpu(&self) -> Duration {
        Duration::from_nanos(nanos(ClockId::CLOCK_THREAD_CPUTIME_ID))
    }

    /// Sleeps until `deadline`; a deadline in the past returns at once.
    ///
    /// The runtime's timers stand still while the machine is suspended, `CLOCK_BOOTTIME` does
    /// not: so no single sleep is longer than half a minute, and the clock is read again
    /// after each.
    pub async fn sleep_until(&self, deadline: Instant) {
        loop {
            let left = deadline - self.mono();
            if left.is_zero() {
                return;
            }
            // The runtime rounds up to whole milliseconds, so this never spins.
            tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        }
    }

    /// Sleeps until `deadline`, or for ever if there is none: the shape of `poll_timeout`.
    pub async fn sleep_until_some(&self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => self.sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }
}

/// Reads which boot of the machine this is.
///
/// # Errors
///
/// When `/proc` is not mounted or says something unexpected.
pub fn boot_id() -> Result<BootId, BootIdError> {
    let text = std::fs::read_to_string(BOOT_ID).map_err(BootIdError::Read)?;
    parse_boot_id(&text).ok_or(BootIdError::Malformed)
}

/// Why the boot id is not known.
#[derive(Debug, thiserror::Error)]
pub enum BootIdError {
    /// The file cannot be read.
    #[error("cannot read {BOOT_ID}")]
    Read(#[source] io::Error),
    /// The file holds no UUID.
    #[error("{BOOT_ID} holds no UUID")]
    Malformed,
}

fn parse_boot_id(text: &str) -> Option<BootId> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    u128::from_str_radix(&digits, 16)
        .ok()
        .map(|id| BootId(id.to_be_bytes()))
}

fn nanos(clock: ClockId) -> u64 {
    // clock_gettime fails only for a clock that the kernel does not have; both of ours are in
    // every Linux since 2.6.39.
    let Ok(time) = clock_gettime(clock) else {
        return 0;
    };
    let secs = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// After a suspend a deadline may be late by at most this.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_run_backwards() {
        let clock = Clock::new();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now.mono >= last.mono);
            last = now;
        }
        assert!(last.mono.as_nanos() > 0);
        assert!(last.wall.as_secs() > 1_700_000_000);
    }

    #[test]
    fn thread_that_sleeps_uses_no_processor() {
        let clock = Clock::new();
        let (begun, before) = (clock.mono(), clock.thread_cpu());
        let sleep = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        sleep.block_on(clock.sleep_until(begun + Duration::from_millis(50)));
        let used = clock.thread_cpu() - before;

        assert!(
            used < Duration::from_millis(50) && clock.mono() - begun >= Duration::from_millis(50)
        );
        while clock.thread_cpu() == before {}
    }

    #[tokio::test]
    async fn sleep_ends_at_the_deadline_and_not_before() {
        let clock = Clock::new();
        let deadline = clock.mono() + Duration::from_millis(20);

        clock.sleep_until(deadline).await;

        assert!(clock.mono() >= deadline);
    }

    #[tokio::test]
    async fn a_past_deadline_returns_at_once() {
        Clock::new().sleep_until(Instant::from_nanos(1)).await;
    }

    #[test]
    fn boot_id_is_stable_and_a_uuid() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert!(parse_boot_id("00000000-0000-0000-0000-0000000000ff\n").is_some());
        assert!(parse_boot_id("").is_none());
        assert!(parse_boot_id("zz000000-0000-0000-0000-0000000000ff").is_none());
    }
}
