//! What the PCP machine counts.

use crate::wire::ResultCode;

/// Every datagram ends in exactly one of these, or waits for its outcome, or is NAT-PMP's;
/// announcements are counted apart.
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
        let count = self.responses.get(usize::from(code.number()));
        count.copied().unwrap_or_default()
    }

    /// Returns how often a datagram was dropped for a reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        let mut found = DropReason::ALL.into_iter().zip(self.drops);
        found
            .find(|(one, _)| *one == reason)
            .map_or(0, |(_, count)| count)
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
        if let Some(count) = self.responses.get_mut(usize::from(code.number())) {
            *count = count.saturating_add(1);
        }
    }

    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        for (one, count) in DropReason::ALL.iter().zip(&mut self.drops) {
            if *one == reason {
                *count = count.saturating_add(1);
            }
        }
    }
}

/// Why a datagram gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Too many requests wait already (RFC 6887 §8.2).
    Overload,
    /// It is a response.
    Response,
    /// Shorter than the common header, or than its first two octets.
    Short,
    /// Its source is no host of the LAN.
    Source,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Overload, Self::Response, Self::Short, Self::Source];

    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Response => "response",
            Self::Short => "short",
            Self::Source => "source",
        }
    }
}
