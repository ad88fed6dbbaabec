//! What searchers are sent (threat 7).

use std::collections::BTreeMap;
use std::time::Duration;

use mapping::Instant;

use super::limits::{Holder, Standing};

/// Lets each searcher be sent so much and no more, whatever addresses it uses and whatever it
/// asks.
///
/// A search for everything finds twenty times as much as one that names its target, and a host
/// on which one program searches for everything again and again has others that search for a
/// gateway: the two have budgets of their own.
#[derive(Debug)]
pub(super) struct Budgets {
    hosts: Spent,
    strangers: Spent,
    /// When everything that strangers were sent will be forgotten.
    strangers_until: Instant,
}

/// For each searcher, when everything that it was sent will be forgotten.
type Spent = BTreeMap<(Holder, Breadth), Instant>;

/// How much a search finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Breadth {
    /// Everything.
    All,
    /// What has the target.
    Target,
}

impl Budgets {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            hosts: BTreeMap::new(),
            strangers: BTreeMap::new(),
            strangers_until: now,
        }
    }

    /// Takes messages out of a searcher's budget; `false` if there are not so many in it.
    pub(super) fn spend(
        &mut self,
        (holder, standing): (Holder, Standing),
        breadth: Breadth,
        messages: u32,
        now: Instant,
    ) -> bool {
        let (spent, most) = match standing {
            Standing::Host => (&mut self.hosts, usize::MAX),
            Standing::Stranger => (&mut self.strangers, MAX_STRANGERS),
        };
        let known = spent.get(&(holder, breadth)).copied();
        if known.is_none() && spent.len() >= most {
            return false;
        }
        let Some(until) = EACH.afford(known.unwrap_or(now), messages, now) else {
            return false;
        };
        if standing == Standing::Stranger {
            let Some(in_all) = STRANGERS.afford(self.strangers_until, messages, now) else {
                return false;
            };
            self.strangers_until = in_all;
        }
        spent.insert((holder, breadth), until);
        true
    }

    /// Forgets who has been sent nothing for long enough.
    pub(super) fn forget(&mut self, now: Instant) {
        for spent in [&mut self.hosts, &mut self.strangers] {
            spent.retain(|_, until| *until > now);
        }
    }
}

/// What may be sent: so many messages at once, and one each `cost` after that.
#[derive(Debug, Clone, Copy)]
struct Budget {
    burst: u32,
    cost: Duration,
}

impl Budget {
    /// Returns until when the budget remembers these messages; `None` if it is used up.
    fn afford(self, spent: Instant, messages: u32, now: Instant) -> Option<Instant> {
        let until = spent.max(now) + self.cost.saturating_mul(messages);
        (until - now <= self.cost.saturating_mul(self.burst)).then_some(until)
    }
}

/// Both roots, searched for twice: 21 messages each.
const EACH: Budget = Budget {
    burst: 42,
    cost: Duration::from_millis(500),
};

/// MACs and addresses are made up easily: 100 messages a second are some 40 kB/s. A burst of
/// theirs leaves half of the answers that may wait to hosts.
const STRANGERS: Budget = Budget {
    burst: 512,
    cost: Duration::from_millis(10),
};

/// Whoever comes then waits some seconds.
const MAX_STRANGERS: usize = 1024;
