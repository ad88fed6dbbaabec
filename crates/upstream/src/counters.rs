//! What happened, as cheap integers.

/// Why a datagram from the upstream side was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It cannot be read.
    Malformed,
    /// It is not from the gateway that was asked.
    Stranger,
    /// It answers nothing that was asked.
    Unasked,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Malformed, Self::Stranger, Self::Unasked];

    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Stranger => "stranger",
            Self::Unasked => "unasked",
        }
    }
}

/// What a client counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that were sent, repeated ones too.
    pub requests: u64,
    /// Answers that opened or renewed a port.
    pub granted: u64,
    /// Answers that refused one.
    pub refused: u64,
    /// How often the server seems to have lost its state.
    pub losses: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl Counters {
    pub(crate) const ZERO: Self = Self {
        requests: 0,
        granted: 0,
        refused: 0,
        losses: 0,
        dropped: [0; DropReason::ALL.len()],
    };

    /// Returns how many datagrams were dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        let found = DropReason::ALL.iter().zip(self.dropped);
        found
            .filter(|(other, _)| **other == reason)
            .map(|(_, count)| count)
            .sum()
    }

    pub(crate) fn drop(&mut self, reason: DropReason) {
        for (other, count) in DropReason::ALL.iter().zip(&mut self.dropped) {
            if *other == reason {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Adds another client's.
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.requests, other.requests),
            (&mut self.granted, other.granted),
            (&mut self.refused, other.refused),
            (&mut self.losses, other.losses),
        ];
        let dropped = self.dropped.iter_mut().zip(other.dropped);
        for (count, more) in pairs.into_iter().chain(dropped) {
            *count = count.saturating_add(more);
        }
    }

    /// Iterates over (name, reason, value) as metrics show them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let plain = [
            ("requests_total", "", self.requests),
            ("answers_total", "granted", self.granted),
            ("answers_total", "refused", self.refused),
            ("state_losses_total", "", self.losses),
        ];
        let drops = DropReason::ALL.iter().zip(self.dropped);
        plain
            .into_iter()
            .chain(drops.map(|(reason, count)| ("drops_total", reason.as_str(), count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        for reason in DropReason::ALL {
            let mut counters = Counters::default();
            counters.drop(reason);

            for other in DropReason::ALL {
                assert_eq!(counters.dropped(other), u64::from(other == reason));
            }
            let shown: Vec<_> = counters.iter().filter(|it| it.2 > 0).collect();
            assert_eq!(shown, [("drops_total", reason.as_str(), 1)]);
        }
    }
}
