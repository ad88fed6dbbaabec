//! How often one client is answered.

use std::collections::BTreeMap;
use std::time::Duration;

use mapping::Instant;

use crate::caller::Payer;

/// Lets each client ask so often and no more (a generic cell rate algorithm).
///
/// What this bounds is what a forger can make us send to a host that asked nothing: requests
/// and answers are about equally long, so that there is little else to win.
#[derive(Debug)]
pub(crate) struct Rate {
    step: Duration,
    /// When each client will have used up nothing of its burst.
    rested: BTreeMap<Payer, Instant>,
    swept: Instant,
}

impl Rate {
    pub(crate) const fn new(per_second: u32) -> Self {
        let per_second = if per_second == 0 { 1 } else { per_second };
        Self {
            step: Duration::from_nanos(NANOS / per_second as u64),
            rested: BTreeMap::new(),
            swept: Instant::from_nanos(0),
        }
    }

    /// Counts a datagram; tells whether it is within the rate.
    pub(crate) fn admits(&mut self, payer: Payer, now: Instant) -> bool {
        if let Some(rested) = self.rested.get_mut(&payer) {
            if rested.since(now) > self.step * BURST {
                return false;
            }
            *rested = (*rested).max(now) + self.step;
            return true;
        }
        if self.rested.len() >= PAYERS && !self.sweep(now) {
            return false;
        }
        self.rested.insert(payer, now + self.step);
        true
    }

    /// Forgets who has rested, not too often; tells whether there is room.
    fn sweep(&mut self, now: Instant) -> bool {
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.rested.retain(|_, rested| *rested > now);
        }
        self.rested.len() < PAYERS
    }
}

const NANOS: u64 = 1_000_000_000;

/// A client that starts may ask for all its ports at once.
const BURST: u32 = 512;

/// More than the hosts of most homes; who forges more sources than this shares what is left.
const PAYERS: usize = 4096;

const SWEEP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_others_are_not_touched() {
        let mut rate = Rate::new(1000);
        let mut now = Instant::from_nanos(1);
        let admitted = |rate: &mut Rate, now| (0..2000).filter(|_| rate.admits(A, now)).count();

        assert_eq!(admitted(&mut rate, now), 513);
        assert!(rate.admits(B, now));
        now += Duration::from_millis(100);
        assert_eq!(admitted(&mut rate, now), 100);
    }

    #[test]
    fn forged_sources_fill_a_bounded_table_that_empties_again() {
        let mut rate = Rate::new(1000);
        let mut now = Instant::from_nanos(1);
        let forge = |rate: &mut Rate, now| {
            (0..10_000_u32)
                .filter(|n| rate.admits(Payer::Addr(std::net::IpAddr::from(n.to_be_bytes())), now))
                .count()
        };

        assert_eq!(forge(&mut rate, now), PAYERS);
        assert!(!rate.admits(B, now));
        now += SWEEP;
        assert!(rate.admits(B, now));
    }

    const A: Payer = Payer::Mac(mapping::Mac([2, 0, 0, 0, 0, 1]));
    const B: Payer = Payer::Mac(mapping::Mac([2, 0, 0, 0, 0, 2]));
}
