//! How fast strangers are heard once others are preferred.
//!
//! A flood of them takes the time of a processor and not the place of a host that is known: what
//! they send beyond the pace stays in their own queue, and what finds no room there costs the
//! kernel little.

use std::time::Duration;

use mapping::Instant;

/// Counts what was taken from strangers.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the window under way began.
    since: Instant,
    taken: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            since: Instant::from_nanos(0),
            taken: 0,
        }
    }
}

impl Pace {
    /// Takes note of datagrams.
    pub(super) fn take(&mut self, count: usize, now: Instant) {
        if now >= self.since + WINDOW {
            *self = Self {
                since: now,
                taken: 0,
            };
        }
        self.taken = self.taken.saturating_add(count);
    }

    /// Returns when strangers are heard again, if they are not heard now.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        let end = self.since + WINDOW;
        (self.taken >= AT_ONCE && now < end).then_some(end)
    }
}

/// With [`AT_ONCE`] some 13,000 datagrams a second: more than all devices of a home say, less
/// than a tenth of what one processor can look at.
const WINDOW: Duration = Duration::from_millis(5);

const AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_wait_for_the_next_window_when_one_is_full() {
        let mut pace = Pace::default();
        let begin = Instant::from_nanos(1_000_000_000);
        assert_eq!(pace.pause(begin), None);

        pace.take(AT_ONCE - 1, begin);
        assert_eq!(pace.pause(begin), None);
        pace.take(AT_ONCE, begin);
        assert_eq!(pace.pause(begin), Some(begin + WINDOW));

        assert_eq!(pace.pause(begin + WINDOW), None);
        pace.take(1, begin + WINDOW);
        assert_eq!(pace.pause(begin + WINDOW), None);
    }
}
