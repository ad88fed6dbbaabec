//! What the writer's refusals mean in DHCP.

use mapping::Refusal;

use crate::counters::DropReason;

/// What a refusal means to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// It must not use the address: DHCPNAK.
    Nak,
    /// It hears nothing and asks again.
    Silence(DropReason),
}

/// Tells what each refusal of the writer means to the client.
#[must_use]
pub const fn reaction(refusal: Refusal) -> Reaction {
    match refusal {
        Refusal::AddressNotFree => Reaction::Nak,
        Refusal::Unavailable => Reaction::Silence(DropReason::Unavailable),
        Refusal::ExternalPortDenied
        | Refusal::ExternalPortTaken
        | Refusal::ForeignMapping { .. }
        | Refusal::NameNotFree
        | Refusal::NoPrefix
        | Refusal::NoLease
        | Refusal::NotCarried
        | Refusal::NotFound
        | Refusal::OutboundMapping
        | Refusal::PortDenied
        | Refusal::PrefixInvalid(_)
        | Refusal::QuotaExceeded
        | Refusal::StaticMapping
        | Refusal::TooManyFilters
        | Refusal::Waiting => Reaction::Silence(DropReason::Refused),
    }
}
