//! How often one client is answered.

use std::collections::BTreeMap;
use std::time::Duration;

use mapping::Instant;

use crate::caller::Payer;

/// Lets each client ask so often and no more (a generic cell rate algorithm).
///
/// What this bounds is what a forger can make us send to a host that asked nothing: requests
/// and answers are about equally long, so that there is little else to win. Strangers have no
/// lease and can only be refused; together they are answered so often that no more than a few
/// hundred of the addresses that they make up wait in the kernel for ARP, which has room for
/// 1,024 and would forget hosts that are there. Nothing that they do takes a place from a host.
#[derive(Debug)]
pub(crate) struct Rate {
    hosts: Table,
    strangers: Table,
    /// When strangers will have used up nothing of their common burst.
    rested: Instant,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Who has a lease; there are only so many.
    Host,
    Stranger,
}

impl Rate {
    pub(crate) const fn new(per_second: u32) -> Self {
        Self {
            hosts: Table::new(per_second),
            strangers: Table::new(per_second),
            rested: Instant::from_nanos(0),
        }
    }

    /// Counts a datagram; tells whether it is within the rate.
    pub(crate) fn admits(&mut self, payer: Payer, standing: Standing, now: Instant) -> bool {
        match standing {
            Standing::Host => self.hosts.admits(payer, usize::MAX, now),
            Standing::Stranger => {
                if self.rested.since(now) > STRANGERS_STEP * STRANGERS_BURST
                    || !self.strangers.admits(payer, PAYERS, now)
                {
                    return false;
                }
                self.rested = self.rested.max(now) + STRANGERS_STEP;
                true
            }
        }
    }
}

#[derive(Debug)]
struct Table {
    step: Duration,
    /// When each client will have used up nothing of its burst.
    rested: BTreeMap<Payer, Instant>,
    swept: Instant,
}

impl Table {
    const fn new(per_second: u32) -> Self {
        let per_second = if per_second == 0 { 1 } else { per_second };
        Self {
            step: Duration::from_nanos(NANOS / per_second as u64),
            rested: BTreeMap::new(),
            swept: Instant::from_nanos(0),
        }
    }

    fn admits(&mut self, payer: Payer, most: usize, now: Instant) -> bool {
        if let Some(rested) = self.rested.get_mut(&payer) {
            if rested.since(now) > self.step * BURST {
                return false;
            }
            *rested = (*rested).max(now) + self.step;
            return true;
        }
        if self.rested.len() >= PAYERS {
            self.sweep(now);
        }
        if self.rested.len() >= most {
            return false;
        }
        self.rested.insert(payer, now + self.step);
        true
    }

    /// Forgets who has rested, not too often.
    fn sweep(&mut self, now: Instant) {
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.rested.retain(|_, rested| *rested > now);
        }
    }
}

const NANOS: u64 = 1_000_000_000;

/// A client that starts may ask for all its ports at once.
const BURST: u32 = 512;

/// More than the hosts of most homes; strangers beyond are not heard.
const PAYERS: usize = 4096;

/// 200 a second: a device without a lease asks far less often.
const STRANGERS_STEP: Duration = Duration::from_millis(5);

const STRANGERS_BURST: u32 = 256;

const SWEEP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_others_are_not_touched() {
        let mut rate = Rate::new(1000);
        let mut now = Instant::from_nanos(1);
        let admitted = |rate: &mut Rate, now| {
            let ask = |_: &u32| rate.admits(A, Standing::Host, now);
            (0..2000).filter(ask).count()
        };

        assert_eq!(admitted(&mut rate, now), 513);
        assert!(rate.admits(B, Standing::Host, now));
        now += Duration::from_millis(100);
        assert_eq!(admitted(&mut rate, now), 100);
    }

    #[test]
    fn strangers_share_a_rate_and_take_nothing_from_hosts() {
        let mut rate = Rate::new(1000);
        let mut now = Instant::from_nanos(1);
        let forge = |rate: &mut Rate, now| {
            let ask = |n: &u32| rate.admits(payer(*n), Standing::Stranger, now);
            (0..10_000_u32).filter(ask).count()
        };

        assert_eq!(forge(&mut rate, now), 257);
        for n in 0..10_000 {
            assert!(rate.admits(payer(n), Standing::Host, now));
        }
        now += Duration::from_secs(1);
        assert_eq!(forge(&mut rate, now), 200);
        assert!(rate.strangers.rested.len() <= PAYERS);
    }

    fn payer(n: u32) -> Payer {
        Payer::Addr(std::net::IpAddr::from(n.to_be_bytes()))
    }

    const A: Payer = Payer::Mac(mapping::Mac([2, 0, 0, 0, 0, 1]));
    const B: Payer = Payer::Mac(mapping::Mac([2, 0, 0, 0, 0, 2]));
}
