//! Time in whole seconds, for what is kept a million times.

use std::time::Duration;

use mapping::Instant;

use crate::session::Tick;

/// Converts between instants and ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticks {
    start: Instant,
}

impl Ticks {
    pub(crate) const fn new(start: Instant) -> Self {
        Self { start }
    }

    /// Returns the tick in which `now` lies.
    pub(crate) fn at(self, now: Instant) -> Tick {
        let secs = u32::try_from((now - self.start).as_secs()).unwrap_or(u32::MAX);
        Tick(PAST.saturating_add(secs))
    }

    /// Returns when a tick begins; before the boot of the machine there are no instants.
    pub(crate) fn instant(self, tick: Tick) -> Instant {
        if tick.0 >= PAST {
            self.start + secs(tick.0 - PAST)
        } else {
            self.start - secs(PAST - tick.0)
        }
    }

    /// Returns the time from when a tick began to `now`, even if it began before the boot.
    pub(crate) fn since(self, tick: Tick, now: Instant) -> Duration {
        let whole = self.at(now);
        secs(whole.0.saturating_sub(tick.0)) + (now - self.instant(whole))
    }
}

fn secs(secs: u32) -> Duration {
    Duration::from_secs(secs.into())
}

/// What came before the start has ticks too: more than a year.
const PAST: u32 = 1 << 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_count_from_long_before_the_start() {
        let start = Instant::from_nanos(7_500_000_000);
        let ticks = Ticks::new(start);
        let second = Duration::from_secs(1);

        assert_eq!(ticks.at(start + second * 3 / 2), Tick(PAST + 1));
        assert_eq!(ticks.instant(Tick(PAST + 1)), start + second);
        assert_eq!(ticks.instant(Tick(PAST - 7)), start - second * 7);
        assert_eq!(ticks.at(start - second), Tick(PAST));
        let age = ticks.since(Tick(PAST - 100), start + second * 3 / 2);
        assert_eq!(age, second * 203 / 2);
    }
}
