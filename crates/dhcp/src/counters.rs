//! What was answered, and what was not and why.

use crate::wire::{Field, MessageType};

/// The counters of the room; every datagram is in exactly one of `answers`, `drops`,
/// `malformed`, `declined`, `released` or still waits for the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams received.
    pub received: u64,
    /// DECLINE that took effect; it has no answer.
    pub declined: u64,
    /// RELEASE that took effect; it has no answer.
    pub released: u64,
    answers: [u64; Answer::ALL.len()],
    drops: [u64; DropReason::ALL.len()],
    malformed: [u64; Field::ALL.len()],
}

impl Counters {
    /// Returns counters at zero.
    #[must_use]
    pub const fn zero() -> Self {
        Self {
            received: 0,
            declined: 0,
            released: 0,
            answers: [0; Answer::ALL.len()],
            drops: [0; DropReason::ALL.len()],
            malformed: [0; Field::ALL.len()],
        }
    }

    /// Returns how many answers of a kind were given.
    #[must_use]
    pub fn answers(&self, answer: Answer) -> u64 {
        value(&Answer::ALL, &self.answers, answer)
    }

    /// Returns how many datagrams were dropped for a reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        value(&DropReason::ALL, &self.drops, reason)
    }

    /// Returns how many datagrams could not be read because of a field.
    #[must_use]
    pub fn malformed(&self, field: Field) -> u64 {
        value(&Field::ALL, &self.malformed, field)
    }

    /// Returns how many datagrams have been dealt with.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let counted = self
            .answers
            .iter()
            .chain(&self.drops)
            .chain(&self.malformed);
        counted
            .sum::<u64>()
            .saturating_add(self.declined)
            .saturating_add(self.released)
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        count(&Answer::ALL, &mut self.answers, answer);
    }

    pub(crate) fn drop(&mut self, reason: DropReason) {
        count(&DropReason::ALL, &mut self.drops, reason);
    }

    pub(crate) fn count_malformed(&mut self, field: Field) {
        count(&Field::ALL, &mut self.malformed, field);
    }
}

/// A kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
    /// DHCPOFFER.
    Offer,
}

impl Answer {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Ack, Self::Nak, Self::Offer];

    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Nak => "nak",
            Self::Offer => "offer",
        }
    }

    /// Returns the message type.
    #[must_use]
    pub const fn kind(self) -> MessageType {
        match self {
            Self::Ack => MessageType::Ack,
            Self::Nak => MessageType::Nak,
            Self::Offer => MessageType::Offer,
        }
    }
}

/// Why a datagram got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// As many requests wait for the writer as may.
    Busy,
    /// The same request already waits for the writer.
    Duplicate,
    /// A DECLINE of an address that this client was not given a moment ago.
    ForeignDecline,
    /// A RELEASE by somebody else than the client.
    ForeignRelease,
    /// Another DHCP server is on the LAN.
    ForeignServer,
    /// No address can be leased.
    NoAddress,
    /// The server knows nothing of this client (RFC 2131 §4.3.2).
    NoRecord,
    /// An INFORM from elsewhere than the LAN.
    NotOnLan,
    /// It is no message of a client.
    NotRequest,
    /// As many offers stand as may.
    OffersFull,
    /// The client chose another server, or speaks to one.
    OtherServer,
    /// It came by a relay agent, and the LAN is one cable.
    Relayed,
    /// The writer refused for a reason that the protocol cannot tell.
    Refused,
    /// The writer could not decide now; the client asks again.
    Unavailable,
    /// It names no address where it must.
    Unaddressed,
    /// Its type is none that a client sends.
    UnknownType,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::Busy,
        Self::Duplicate,
        Self::ForeignDecline,
        Self::ForeignRelease,
        Self::ForeignServer,
        Self::NoAddress,
        Self::NoRecord,
        Self::NotOnLan,
        Self::NotRequest,
        Self::OffersFull,
        Self::OtherServer,
        Self::Relayed,
        Self::Refused,
        Self::Unavailable,
        Self::Unaddressed,
        Self::UnknownType,
    ];

    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Duplicate => "duplicate",
            Self::ForeignDecline => "foreign-decline",
            Self::ForeignRelease => "foreign-release",
            Self::ForeignServer => "foreign-server",
            Self::NoAddress => "no-address",
            Self::NoRecord => "no-record",
            Self::NotOnLan => "not-on-lan",
            Self::NotRequest => "not-request",
            Self::OffersFull => "offers-full",
            Self::OtherServer => "other-server",
            Self::Relayed => "relayed",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Unaddressed => "unaddressed",
            Self::UnknownType => "unknown-type",
        }
    }
}

fn count<T: PartialEq>(all: &[T], counts: &mut [u64], which: T) {
    let place = all.iter().position(|item| *item == which);
    if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
        *count = count.saturating_add(1);
    }
}

fn value<T: PartialEq>(all: &[T], counts: &[u64], which: T) -> u64 {
    let place = all.iter().position(|item| *item == which);
    place
        .and_then(|place| counts.get(place))
        .copied()
        .unwrap_or(0)
}
