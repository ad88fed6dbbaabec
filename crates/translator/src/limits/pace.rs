//! How fast sessions may begin.

use crate::limits::Start;
use crate::session::Tick;

/// A bucket of tokens that fills as time passes, in four bytes because many networks of remotes have
/// one. After eighteen hours without a new session it may give a second's too few.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    tokens: u16,
    /// The low half of a tick.
    filled: u16,
}

impl Pace {
    /// Makes a full bucket.
    pub(super) fn new(per_second: u32, now: Tick) -> Self {
        Self {
            tokens: burst(per_second),
            filled: low(now),
        }
    }

    /// Makes the bucket of who has begun one session now.
    pub(super) fn of_one(per_second: u32, now: Tick) -> Self {
        let mut pace = Self::new(per_second, now);
        pace.count(per_second, now);
        pace
    }

    /// Tells whether nothing would be lost if it were forgotten.
    pub(super) fn is_full(self, per_second: u32, now: Tick) -> bool {
        per_second > MOST || self.tokens(per_second, now) == burst(per_second)
    }

    /// Tells whether one more may begin.
    pub(super) fn allows(self, per_second: u32, now: Tick) -> bool {
        per_second > MOST || self.tokens(per_second, now) > 0
    }

    /// Counts one more.
    pub(super) fn count(&mut self, per_second: u32, now: Tick) {
        self.tokens = self.tokens(per_second, now).saturating_sub(1);
        self.filled = low(now);
    }

    /// Counts a session that begins.
    pub(super) fn start(&mut self, per_second: u32, start: Start) {
        match start {
            Start::Again(_) => {}
            Start::Anew(now) => self.count(per_second, now),
        }
    }

    fn tokens(self, per_second: u32, now: Tick) -> u16 {
        let passed = u32::from(low(now).wrapping_sub(self.filled));
        let tokens = passed
            .saturating_mul(per_second)
            .saturating_add(self.tokens.into());
        u16::try_from(tokens)
            .unwrap_or(u16::MAX)
            .min(burst(per_second))
    }
}

fn burst(per_second: u32) -> u16 {
    u16::try_from(per_second.saturating_mul(BURST)).unwrap_or(u16::MAX)
}

const fn low(tick: Tick) -> u16 {
    let [_, _, a, b] = tick.0.to_be_bytes();
    u16::from_be_bytes([a, b])
}

/// Seconds' worth that may begin at once.
const BURST: u32 = 4;

/// Beyond it there is no limit: the packet thread itself begins fewer.
const MOST: u32 = u16::MAX as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_holds_four_seconds_and_fills_with_time() {
        let mut pace = Pace::new(10, Tick(5));
        let mut take_all = |now| {
            let mut taken = 0;
            while pace.allows(10, Tick(now)) && taken < 1000 {
                pace.count(10, Tick(now));
                taken += 1;
            }
            taken
        };

        assert_eq!(take_all(5), 40);
        assert_eq!(take_all(5), 0);
        assert_eq!(take_all(6), 10);
        assert_eq!(take_all(8), 20);
        assert_eq!(take_all(1000), 40);
    }

    #[test]
    fn more_than_the_bucket_counts_is_no_limit() {
        let mut pace = Pace::new(u32::MAX, Tick(5));
        for _ in 0..200_000 {
            assert!(pace.allows(u32::MAX, Tick(5)));
            pace.count(u32::MAX, Tick(5));
        }
        let mut fast = Pace::new(MOST, Tick(5));
        let taken = (0..200_000).take_while(|_| {
            let allows = fast.allows(MOST, Tick(5));
            fast.count(MOST, Tick(5));
            allows
        });
        assert_eq!(taken.count(), 65_535);
    }
}
