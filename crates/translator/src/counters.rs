//! What the translator counts.

use crate::answer::AnswerKind;
use crate::event::EndReason;
use crate::verdict::DropReason;

/// A reading of everything that is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// From remotes to servers.
    pub six_to_four: Traffic,
    /// From servers to remotes.
    pub four_to_six: Traffic,
    /// What was not forwarded.
    pub drops: Drops,
    /// Parts of datagrams.
    pub fragments: Fragments,
    /// Packets of our own that told senders why.
    pub answers: Answers,
    /// ICMP errors that were translated, from remotes and from servers and the routers before
    /// them.
    pub icmp_errors: (u64, u64),
    /// Packets of our own that found no room to wait in.
    pub outbox_full: u64,
    /// Sessions that are live now.
    pub sessions: Gauge,
    /// Those among them that anybody may have forged: the remote has not answered to the server.
    pub half_open: u32,
    /// Remote addresses and ports that are bound to one of the pool.
    pub bindings: u32,
    /// Remote addresses that have a pool address.
    pub remotes: u32,
    /// Sessions that ever were.
    pub sessions_opened: u64,
    /// Sessions that have ended, in the order of [`EndReason::ALL`].
    pub sessions_ended: [u64; EndReason::ALL.len()],
    /// Events that found no room to wait in.
    pub events_lost: u64,
}

impl Counters {
    /// Returns how many sessions have ended for a reason.
    #[must_use]
    pub fn ended(&self, why: EndReason) -> u64 {
        self.sessions_ended
            .get(why as usize)
            .copied()
            .unwrap_or_default()
    }
}

/// Datagrams that came in parts, or left so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fragments {
    /// Datagrams that wait for the rest now.
    pub held: u32,
    /// Bytes of memory that they take now.
    pub held_bytes: u64,
    /// Datagrams that were put together.
    pub reassembled: u64,
    /// Packets that left in parts.
    pub cut: u64,
}

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets on the wire; a super-packet counts as what it is cut into.
    pub packets: u64,
    /// Their bytes as IPv6, the header of a super-packet counted once.
    pub bytes: u64,
}

impl Traffic {
    pub(crate) const fn add(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

/// Live sessions by protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauge {
    /// ICMP echo.
    pub icmp: u32,
    /// TCP.
    pub tcp: u32,
    /// UDP.
    pub udp: u32,
}

/// Packets dropped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl Drops {
    pub(crate) fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }

    pub(crate) fn add(&mut self, reason: DropReason, packets: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.wrapping_add(packets);
        }
    }

    /// Returns how many packets were dropped for a reason.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// Iterates over all reasons, those without a packet included.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().zip(self.0)
    }

    /// Returns how many packets were dropped.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Answers of our own, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    kinds: [u64; AnswerKind::ALL.len()],
    limited: u64,
}

impl Answers {
    pub(crate) const fn new() -> Self {
        Self {
            kinds: [0; AnswerKind::ALL.len()],
            limited: 0,
        }
    }

    pub(crate) fn count(&mut self, kind: AnswerKind) {
        if let Some(count) = self.kinds.get_mut(kind as usize) {
            *count = count.wrapping_add(1);
        }
    }

    pub(crate) const fn count_limited(&mut self) {
        self.limited = self.limited.wrapping_add(1);
    }

    /// Returns how many answers of a kind there were.
    #[must_use]
    pub fn get(&self, kind: AnswerKind) -> u64 {
        self.kinds.get(kind as usize).copied().unwrap_or_default()
    }

    /// Iterates over all kinds, those without an answer included.
    pub fn iter(&self) -> impl Iterator<Item = (AnswerKind, u64)> {
        AnswerKind::ALL.into_iter().zip(self.kinds)
    }

    /// Returns how many answers were not given because there were too many.
    #[must_use]
    pub const fn limited(&self) -> u64 {
        self.limited
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_drop_reason_has_its_own_counter_and_name() {
        let mut names = BTreeSet::new();
        for reason in DropReason::ALL {
            let mut drops = Drops::default();

            drops.count(reason);

            assert_eq!(drops.get(reason), 1);
            assert_eq!(drops.total(), 1);
            assert!(names.insert(reason.as_str()));
        }
    }
}
