//! The rate at which the queue of strangers is read once other hosts are preferred.
//!
//! A flood of strangers then costs bounded processor time and takes nothing from known hosts: what
//! exceeds the limit stays in the strangers' queue, and what overflows it costs the kernel little.

use std::time::Duration;

use mapping::Instant;

/// Counts what was taken from strangers.
#[derive(Debug)]
pub(super) struct RateLimit {
    /// When the window under way began.
    since: Instant,
    taken: usize,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            since: Instant::from_nanos(0),
            taken: 0,
        }
    }
}

impl RateLimit {
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
        let mut limit = RateLimit::default();
        let begin = Instant::from_nanos(1_000_000_000);
        assert_eq!(limit.pause(begin), None);

        limit.take(AT_ONCE - 1, begin);
        assert_eq!(limit.pause(begin), None);
        limit.take(AT_ONCE, begin);
        assert_eq!(limit.pause(begin), Some(begin + WINDOW));

        assert_eq!(limit.pause(begin + WINDOW), None);
        limit.take(1, begin + WINDOW);
        assert_eq!(limit.pause(begin + WINDOW), None);
    }
}
