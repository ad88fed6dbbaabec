//! When to ask again.

use std::time::Duration;

use mapping::Instant;
use rand::{Rng, RngExt as _};

/// Times between retransmissions that double up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    jitter: bool,
    previous: Option<Duration>,
    sent: u32,
}

impl Backoff {
    /// PCP's: IRT 3 s, MRT 1024 s, no end, each with its own random tenth
    /// ([RFC 6887 §8.1.1](https://www.rfc-editor.org/rfc/rfc6887#section-8.1.1)).
    pub const PCP: Self = Self::new(Duration::from_secs(3), Duration::from_secs(1024), true);

    /// NAT-PMP's: 250 ms, doubling, and 64 s after the ninth
    /// ([RFC 6886 §3.1](https://www.rfc-editor.org/rfc/rfc6886#section-3.1)).
    pub const NAT_PMP: Self = Self::new(Duration::from_millis(250), Duration::from_secs(64), false);

    /// UPnP has no rule: a search every minute at first, every 17 minutes in the long run.
    pub const UPNP: Self = Self::new(Duration::from_mins(1), Duration::from_secs(1024), true);

    const fn new(first: Duration, limit: Duration, jitter: bool) -> Self {
        Self {
            first,
            limit,
            jitter,
            previous: None,
            sent: 0,
        }
    }

    /// Returns how long to wait after the transmission that is made now.
    pub fn wait<R: Rng>(&mut self, rng: &mut R) -> Duration {
        let doubled = self.previous.map(|previous| previous.saturating_mul(2));
        let base = doubled.map_or(self.first, |doubled| doubled.min(self.limit));
        let wait = if self.jitter {
            base.mul_f64(rng.random_range(0.9..=1.1))
        } else {
            base
        };
        self.previous = Some(wait);
        self.sent = self.sent.saturating_add(1);
        wait
    }

    /// Returns how many transmissions were made.
    #[must_use]
    pub const fn sent(&self) -> u32 {
        self.sent
    }
}

/// When the renewal number `count` (from 0) of a lifetime is due: at 1/2 to 5/8 of it, at 3/4 to
/// 13/16, at 7/8 to 29/32 and so on; `None` when that is no use any more, because requests must
/// be four seconds apart
/// ([RFC 6887 §11.2.1](https://www.rfc-editor.org/rfc/rfc6887#section-11.2.1)).
pub fn renewal<R: Rng>(
    granted: Instant,
    lifetime: Duration,
    count: u32,
    last_sent: Instant,
    rng: &mut R,
) -> Option<Instant> {
    let left = lifetime.checked_div(2_u32.checked_pow(count.checked_add(1)?)?)?;
    let jitter = left.mul_f64(rng.random_range(0.0..=0.25));
    let due = granted + lifetime.saturating_sub(left) + jitter;
    let (earliest, end) = (last_sent + APART, granted + lifetime);
    (due >= earliest && due + APART <= end).then_some(due)
}

/// RFC 6887 §11.2.1: renewals are never closer.
pub const APART: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn c_1_retransmissions_begin_at_3_s_double_and_end_at_1024_s() {
        for seed in 0..50 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::PCP;
            let mut previous = None;
            for sent in 1..40 {
                let wait = backoff.wait(&mut rng).as_secs_f64();

                let base = previous.map_or(3.0, |previous: f64| (2.0 * previous).min(1024.0));
                let within = base * 0.899..=base * 1.101;
                assert!(
                    within.contains(&wait),
                    "seed {seed}: {wait} after {previous:?}"
                );
                assert_eq!(backoff.sent(), sent, "and no count ends it");
                previous = Some(wait);
            }
        }
    }

    #[test]
    fn c_1_two_clients_do_not_retransmit_in_step() {
        let waits = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::PCP;
            (0..5).map(|_| backoff.wait(&mut rng)).collect::<Vec<_>>()
        };

        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn s3_1_nat_pmp_waits_250_ms_and_doubles_to_64_s() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::NAT_PMP;

        let waits: Vec<_> = (0..9).map(|_| backoff.wait(&mut rng).as_millis()).collect();

        let expected = [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000];
        assert_eq!(waits, expected);
    }

    #[test]
    fn c_1_renewals_stand_in_their_ranges_and_four_seconds_apart() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            for seconds in [120, 7200, 86_400] {
                let lifetime = Duration::from_secs(seconds);
                let granted = Instant::default() + Duration::from_secs(1000);
                let mut last = granted;
                let mut count = 0;
                while let Some(due) = renewal(granted, lifetime, count, last, &mut rng) {
                    let part = due.since(granted).as_secs_f64() / lifetime.as_secs_f64();
                    let left = 0.5_f64.powi(i32::try_from(count).unwrap() + 1);
                    let range = (1.0 - left)..=(1.0 - left + left / 4.0 + 1e-9);
                    assert!(range.contains(&part), "seed {seed}: {count} at {part}");
                    assert!(due.since(last) >= APART, "seed {seed}");
                    last = due;
                    count += 1;
                }
                assert!(count >= 3, "{count} renewals in {seconds} s");
                assert!(last + APART <= granted + lifetime);
            }
        }
    }

    #[test]
    fn c_1_life_that_is_too_short_is_not_renewed_in_a_flood() {
        let mut rng = StdRng::seed_from_u64(1);
        let start = Instant::default();

        assert_eq!(
            renewal(start, Duration::from_secs(6), 0, start, &mut rng),
            None
        );
        assert_eq!(
            renewal(start, Duration::from_secs(7200), 31, start, &mut rng),
            None
        );
    }
}
