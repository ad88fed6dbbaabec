//! What the NAT-PMP machine counts.

use crate::wire::ResultCode;

/// Every datagram ends in exactly one of these, or waits for its outcome; announcements are
/// counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    responses: [u64; ResultCode::ALL.len()],
    drops: [u64; DropReason::ALL.len()],
    /// Datagrams that waited for an outcome already.
    pub repeats: u64,
    /// Announcements that were sent.
    pub announcements: u64,
}

impl Counters {
    /// Nothing happened yet.
    pub const ZERO: Self = Self {
        responses: [0; ResultCode::ALL.len()],
        drops: [0; DropReason::ALL.len()],
        repeats: 0,
        announcements: 0,
    };

    /// Returns how often a result code was answered.
    #[must_use]
    pub fn responses(&self, code: ResultCode) -> u64 {
        value(&self.responses, &ResultCode::ALL, code)
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
        let responses = ResultCode::ALL
            .into_iter()
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

    pub(crate) fn count_response(&mut self, code: ResultCode) {
        count(&mut self.responses, &ResultCode::ALL, code);
    }

    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        count(&mut self.drops, &DropReason::ALL, reason);
    }
}

/// Why a datagram gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Shorter than its opcode asks.
    Malformed,
    /// Too many requests wait already.
    Overload,
    /// It is a response (RFC 6886 §3.5).
    Response,
    /// Its source is no host of the LAN.
    Source,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [
        Self::Malformed,
        Self::Overload,
        Self::Response,
        Self::Source,
    ];

    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Overload => "overload",
            Self::Response => "response",
            Self::Source => "source",
        }
    }
}

fn value<T: PartialEq, const N: usize>(counts: &[u64; N], all: &[T; N], what: T) -> u64 {
    let mut found = counts.iter().zip(all).filter(|(_, one)| **one == what);
    found.next().map_or(0, |(count, _)| *count)
}

fn count<T: PartialEq, const N: usize>(counts: &mut [u64; N], all: &[T; N], what: T) {
    for (count, one) in counts.iter_mut().zip(all) {
        if *one == what {
            *count = count.saturating_add(1);
        }
    }
}
