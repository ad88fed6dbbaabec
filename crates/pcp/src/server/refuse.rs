//! Refusals and errors in PCP's words (RFC 6887 §7.4).

use std::time::Duration;

use mapping::Refusal;

use super::ask::{Asked, Wish};
use crate::wire::{Map, ResultCode};

/// Says a refusal in PCP's codes, and for how long the client may take it for granted.
pub(super) fn refusal_code(refusal: Refusal, map: Map, asked: &Asked) -> (ResultCode, u32) {
    // RFC 6887 §7.4: code 11 is for requests that mean what they suggest
    let is_exact = match asked.wish {
        Wish::OpenExactly => true,
        Wish::Peer => map.external_port != 0,
        Wish::Open | Wish::Close => false,
    };
    let code = match refusal {
        // M-2: as long as the other's mapping lives
        Refusal::ForeignMapping {
            remaining: Some(remaining),
        } => return (ResultCode::NotAuthorized, seconds(remaining)),
        // a person may say yes at any moment, so the client shall ask again soon
        Refusal::Waiting => return (ResultCode::NotAuthorized, SHORT),
        Refusal::ExternalPortTaken if is_exact => ResultCode::CannotProvideExternal,
        // RFC 6887 §11.3: a port that the policy prohibits cannot be assigned either, and the
        // policy lasts (§7.4)
        Refusal::ExternalPortDenied if is_exact => {
            return (ResultCode::CannotProvideExternal, LONG);
        }
        Refusal::ExternalPortDenied
        | Refusal::ForeignMapping { remaining: None }
        | Refusal::NoLease
        | Refusal::OutboundMapping
        | Refusal::PortDenied
        | Refusal::StaticMapping => ResultCode::NotAuthorized,
        Refusal::NoPrefix | Refusal::PrefixInvalid(_) => ResultCode::NetworkFailure,
        Refusal::QuotaExceeded => ResultCode::UserExQuota,
        // RFC 6887 §7.4: code 13 is for requests with FILTER alone
        Refusal::TooManyFilters if asked.filtered => ResultCode::ExcessiveRemotePeers,
        Refusal::AddressNotFree
        | Refusal::ExternalPortTaken
        | Refusal::NameNotFree
        | Refusal::NotCarried
        | Refusal::NotFound
        | Refusal::TooManyFilters
        | Refusal::Unavailable => ResultCode::NoResources,
    };
    (code, error_lifetime(code))
}

/// Returns for how long an error holds (RFC 6887 §7.4).
pub(super) const fn error_lifetime(code: ResultCode) -> u32 {
    match code {
        ResultCode::Success => 0,
        ResultCode::UnsuppVersion
        | ResultCode::NotAuthorized
        | ResultCode::MalformedRequest
        | ResultCode::UnsuppOpcode
        | ResultCode::UnsuppOption
        | ResultCode::MalformedOption
        | ResultCode::UnsuppProtocol
        | ResultCode::AddressMismatch
        | ResultCode::ExcessiveRemotePeers => LONG,
        ResultCode::NetworkFailure
        | ResultCode::NoResources
        | ResultCode::UserExQuota
        | ResultCode::CannotProvideExternal
        | ResultCode::Unknown(_) => SHORT,
    }
}

pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// RFC 6887 §7.4: 30 minutes, and 30 seconds.
const LONG: u32 = 30 * 60;
const SHORT: u32 = 30;
