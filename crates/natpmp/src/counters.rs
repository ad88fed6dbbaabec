//! What a machine of UDP 5351 counts.

use std::marker::PhantomData;

/// Every datagram ends in exactly one of these, or waits for its outcome; what is sent without
/// being asked for is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters<C> {
    responses: [u64; CODES],
    drops: [u64; DropReason::ALL.len()],
    /// Datagrams that waited for an outcome already.
    pub repeats: u64,
    /// Announcements that were sent.
    pub announcements: u64,
    codes: PhantomData<C>,
}

/// The result codes of a protocol.
pub trait Code: Copy + PartialEq + 'static {
    /// Every code; no more than [`Counters`] has room for.
    const ALL: &'static [Self];

    /// Returns the name used in metrics.
    fn as_str(self) -> &'static str;
}

impl<C: Code> Counters<C> {
    /// Nothing happened yet.
    pub const ZERO: Self = {
        assert!(C::ALL.len() <= CODES, "each code has its own counter");
        Self {
            responses: [0; CODES],
            drops: [0; DropReason::ALL.len()],
            repeats: 0,
            announcements: 0,
            codes: PhantomData,
        }
    };

    /// Returns how often a result code was answered.
    #[must_use]
    pub fn responses(&self, code: C) -> u64 {
        value(&self.responses, C::ALL, code)
    }

    /// Returns how often a datagram was dropped for a reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        value(&self.drops, &DropReason::ALL, reason)
    }

    /// Returns how many datagrams were judged.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.responses
            .iter()
            .chain(&self.drops)
            .fold(self.repeats, |sum, count| sum.saturating_add(*count))
    }

    /// Iterates over all of them: name, reason, value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let responses = C::ALL
            .iter()
            .zip(self.responses)
            .map(|(code, count)| ("responses_total", code.as_str(), count));
        let drops = DropReason::ALL
            .into_iter()
            .zip(self.drops)
            .map(|(reason, count)| ("drops_total", reason.as_str(), count));
        responses.chain(drops).chain([
            ("repeats_total", "", self.repeats),
            ("announcements_total", "", self.announcements),
        ])
    }

    pub(crate) fn count_response(&mut self, code: C) {
        count(&mut self.responses, C::ALL, code);
    }

    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        count(&mut self.drops, &DropReason::ALL, reason);
    }
}

/// Why a datagram gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Its frame is of another host than its address (an answer would reach who did not ask).
    Forged,
    /// Shorter than its opcode or the common header asks.
    Malformed,
    /// Too many requests wait already.
    Overload,
    /// Its client asks more often than it is answered.
    Rate,
    /// It is a response (RFC 6886 §3.5, RFC 6887 §8.2).
    Response,
    /// Its source is no host of the LAN.
    Source,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Forged,
        Self::Malformed,
        Self::Overload,
        Self::Rate,
        Self::Response,
        Self::Source,
    ];

    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Malformed => "malformed",
            Self::Overload => "overload",
            Self::Rate => "rate",
            Self::Response => "response",
            Self::Source => "source",
        }
    }
}

fn value<T: PartialEq>(counts: &[u64], all: &[T], what: T) -> u64 {
    let mut found = counts.iter().zip(all).filter(|(_, one)| **one == what);
    found.next().map_or(0, |(count, _)| *count)
}

fn count<T: PartialEq>(counts: &mut [u64], all: &[T], what: T) {
    for (count, one) in counts.iter_mut().zip(all) {
        if *one == what {
            *count = count.saturating_add(1);
        }
    }
}

/// As many as PCP has; NAT-PMP has fewer.
const CODES: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ResultCode;

    #[test]
    fn every_counter_has_its_own_name_and_place() {
        let mut counters = Counters::<ResultCode>::ZERO;
        for code in ResultCode::ALL {
            counters.count_response(code);
            assert_eq!(counters.responses(code), 1, "{code:?}");
        }
        for reason in DropReason::ALL {
            counters.count_drop(reason);
            assert_eq!(counters.drops(reason), 1, "{reason:?}");
        }

        let mut named = counters.iter().filter(|(_, reason, _)| !reason.is_empty());
        assert!(named.all(|(_, _, value)| value == 1));
        let names: std::collections::BTreeSet<_> = counters
            .iter()
            .map(|(name, reason, _)| (name, reason))
            .collect();
        assert_eq!(names.len(), counters.iter().count());
    }
}
