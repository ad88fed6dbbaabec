//! A bucket of tokens that fills as time passes.

use std::time::Duration;

use mapping::Instant;

/// Holds what one second brings.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u32,
    tokens: u32,
    filled: Instant,
}

impl Bucket {
    pub(super) const fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second,
            tokens: per_second,
            filled: now,
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now - self.filled;
        if passed >= SECOND {
            self.tokens = self.per_second;
            self.filled = now;
        } else {
            let new = passed.as_nanos() * u128::from(self.per_second) / SECOND.as_nanos();
            let new = u32::try_from(new).unwrap_or(u32::MAX);
            if new > 0 {
                self.tokens = self.tokens.saturating_add(new).min(self.per_second);
                // the rest of the time counts for the next token
                self.filled += SECOND * new / self.per_second;
            }
        }
        let taken = self.tokens.checked_sub(1);
        self.tokens = taken.unwrap_or_default();
        taken.is_some()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_fills_with_time_and_holds_a_second() {
        let start = Instant::from_nanos(5_000_000_000);
        let mut bucket = Bucket::new(100, start);
        let mut take_all = |now| (0..1000).filter(|_| bucket.take(now)).count();
        let millis = Duration::from_millis;

        assert_eq!(take_all(start), 100);
        assert_eq!(take_all(start), 0);
        assert_eq!(take_all(start + millis(9)), 0);
        assert_eq!(take_all(start + millis(15)), 1);
        assert_eq!(take_all(start + millis(20)), 1);
        assert_eq!(take_all(start + millis(500)), 48);
        assert_eq!(take_all(start + millis(60_000)), 100);
    }

    #[test]
    fn empty_limit_gives_nothing() {
        let start = Instant::from_nanos(0);
        let mut bucket = Bucket::new(0, start);
        assert!(!bucket.take(start + SECOND / 2));
        assert!(!bucket.take(start + SECOND * 5));
    }
}
