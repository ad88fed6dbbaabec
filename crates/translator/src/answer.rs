//! Packets of our own that tell the sender why a packet of his is not forwarded: ICMP errors
//! (RFC 7915 §4.4, §5.4) and resets (RFC 9293 §3.10.7.1).
//!
//! They name no interface: RFC 5837 §4 wants that where an interface has no number, and these come
//! from an address of the pool that stands for the translator alone.

mod bucket;
mod build;
mod quote;

use std::net::{Ipv4Addr, Ipv6Addr};

use mapping::Instant;

use crate::counters::Answers;
use crate::embedded::Embedded;
use crate::martian::{is_host_v4, is_host_v6};
use crate::outbox::Outbox;
use crate::wire::icmp::{self, Message};
use bucket::Bucket;
pub(crate) use quote::Quote;

/// What the sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There is no way there: `ICMPv6` 1/3, ICMP 3/1.
    AddressUnreachable,
    /// Communication is administratively prohibited: `ICMPv6` 1/1, ICMP 3/13.
    Prohibited,
    /// The transport protocol is not translated: `ICMPv6` 1/4 (RFC 6146 §3.4), ICMP 3/2.
    ProtocolUnreachable,
    /// The TCP connection is not known.
    Reset,
    /// Source routes are not followed: `ICMPv6` 4/0 with the place of the Segments Left field,
    /// ICMP 3/5.
    SourceRouted,
    /// It does not fit: `ICMPv6` 2/0, ICMP 3/4, with what fits.
    TooBig { six: u16, four: u16 },
}

macro_rules! answer_kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A kind of packet of our own that answers a packet that is not forwarded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AnswerKind {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl AnswerKind {
            /// Every kind, in the order of the variants.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the name used in the API and in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

answer_kinds! {
    /// There is no way there.
    AddressUnreachable = "address_unreachable",
    /// Communication is administratively prohibited.
    Prohibited = "prohibited",
    /// The transport protocol is not translated.
    ProtocolUnreachable = "protocol_unreachable",
    /// The TCP connection is not known.
    Reset = "reset",
    /// Source routes are not followed.
    SourceRouted = "source_routed",
    /// The packet does not fit the next link.
    TooBig = "too_big",
}

impl Answer {
    pub(crate) const fn kind(self) -> AnswerKind {
        match self {
            Self::AddressUnreachable => AnswerKind::AddressUnreachable,
            Self::Prohibited => AnswerKind::Prohibited,
            Self::ProtocolUnreachable => AnswerKind::ProtocolUnreachable,
            Self::Reset => AnswerKind::Reset,
            Self::SourceRouted => AnswerKind::SourceRouted,
            Self::TooBig { .. } => AnswerKind::TooBig,
        }
    }
}

/// Answers, so many in a second (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
#[derive(Debug)]
pub(crate) struct Answerer {
    /// What path MTU discovery needs has a bucket of its own, which no scan empties.
    too_big: Bucket,
    others: Bucket,
    answers: Answers,
}

impl Answerer {
    pub(crate) const fn new(per_second: u32, now: Instant) -> Self {
        Self {
            too_big: Bucket::new(per_second, now),
            others: Bucket::new(per_second, now),
            answers: Answers::new(),
        }
    }

    pub(crate) const fn answers(&self) -> Answers {
        self.answers
    }

    /// Answers an IPv4 packet; errors come from `router`.
    pub(crate) fn four(
        &mut self,
        answer: Answer,
        quote: &Quote<'_>,
        router: Ipv4Addr,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let Ok(packet) = Embedded::<Ipv4Addr>::parse(quote.packet()) else {
            return;
        };
        let may_answer = is_host_v4(packet.src)
            && is_host_v4(packet.dst)
            && packet.is_first()
            && (packet.protocol != icmp::PROTOCOL_V4 || is_query(Message::parse_v4(packet.l4)));
        if may_answer && self.take(answer, now) {
            match answer {
                Answer::Reset => build::reset_four(&packet, outbox),
                _ => build::error_four(answer, &packet, quote, router, outbox),
            }
        }
    }

    /// Answers an IPv6 packet; errors come from `router`.
    pub(crate) fn six(
        &mut self,
        answer: Answer,
        quote: &Quote<'_>,
        router: Ipv6Addr,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let Ok(packet) = Embedded::<Ipv6Addr>::parse(quote.packet()) else {
            return;
        };
        let may_answer = is_host_v6(packet.src)
            && is_host_v6(packet.dst)
            && packet.is_first()
            && (packet.protocol != icmp::PROTOCOL_V6 || is_query(Message::parse_v6(packet.l4)));
        if may_answer && self.take(answer, now) {
            match answer {
                Answer::Reset => build::reset_six(&packet, outbox),
                _ => build::error_six(answer, &packet, quote, router, outbox),
            }
        }
    }

    fn take(&mut self, answer: Answer, now: Instant) -> bool {
        let bucket = match answer {
            Answer::TooBig { .. } => &mut self.too_big,
            _ => &mut self.others,
        };
        let taken = bucket.take(now);
        if taken {
            self.answers.count(answer.kind());
        } else {
            self.answers.count_limited();
        }
        taken
    }
}

/// RFC 1812 §4.3.2.7 and RFC 4443 §2.4 (e) forbid errors about errors; of a message that nobody
/// knows nobody knows what it is.
fn is_query(message: Result<Message, crate::wire::Malformed>) -> bool {
    matches!(
        message,
        Ok(Message::EchoReply { .. } | Message::EchoRequest { .. })
    )
}
