//! What happens to sessions, for the log.

use std::collections::VecDeque;

use crate::session::Tick;
use crate::view::Session;

/// What has happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It has begun, [`Session::age`] ago.
    Began(Session),
    /// It has ended; nothing is said of a session of which nothing was said when it began.
    Ended {
        /// What it was.
        session: Session,
        /// Why it ended.
        why: EndReason,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its port was closed, or its prefix or its host went.
    Closed,
    /// Another session needed its place.
    Evicted,
    /// Nothing came for long enough.
    Expired,
    /// A person ended it.
    Requested,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Closed, Self::Evicted, Self::Expired, Self::Requested];

    /// Returns the name used in the API and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Requested => "requested",
        }
    }
}

/// Events that wait to be drained, bounded; what finds no room is counted.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    lost: u64,
    budget: Budget,
}

impl Events {
    /// Tells whether a session that is not proven may be told of. Who forges sources must not wash
    /// the others out of the log.
    pub(crate) fn may_tell_unproven(&mut self, now: Tick) -> bool {
        self.budget.take(now)
    }

    pub(crate) fn push(&mut self, event: Event) {
        if self.queue.len() < CAPACITY {
            self.queue.push_back(event);
        } else {
            self.lost = self.lost.wrapping_add(1);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns how many events were lost for want of room.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }
}

/// A bucket of tokens that fills as time passes.
#[derive(Debug)]
struct Budget {
    tokens: u32,
    filled: Tick,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tokens: BURST,
            filled: Tick::default(),
        }
    }
}

impl Budget {
    fn take(&mut self, now: Tick) -> bool {
        let passed = now.0.saturating_sub(self.filled.0);
        self.filled = now;
        self.tokens = self
            .tokens
            .saturating_add(passed.saturating_mul(PER_SECOND))
            .min(BURST);
        let taken = self.tokens.checked_sub(1);
        self.tokens = taken.unwrap_or_default();
        taken.is_some()
    }
}

/// Ten times what a burst of packets can cause; about 700 kB.
const CAPACITY: usize = 4096;

/// Sessions not proven that are told of in a row.
const BURST: u32 = 256;

/// Sessions not proven that are told of per second on the average.
const PER_SECOND: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_fills_with_time_up_to_a_burst() {
        let mut budget = Budget::default();
        let take_all = |budget: &mut Budget, now| (0..10_000).filter(|_| budget.take(now)).count();

        assert_eq!(take_all(&mut budget, Tick(5)), 256);
        assert_eq!(take_all(&mut budget, Tick(5)), 0);
        assert_eq!(take_all(&mut budget, Tick(7)), 32);
        assert_eq!(take_all(&mut budget, Tick(u32::MAX)), 256);
    }
}
