//! Refusals and errors in PCP's words (RFC 6887 §7.4).

use std::time::Duration;

use mapping::{Policy, Refusal};

use super::ask::{Asked, Wish};
use crate::wire::ResultCode;

/// Says a refusal in PCP's codes, and for how long the client may take it for granted.
pub(super) fn refusal_code(refusal: Refusal, asked: &Asked, policy: &Policy) -> (ResultCode, u32) {
    let code = match refusal {
        // M-2: as long as the other's mapping lives
        Refusal::ForeignMapping {
            remaining: Some(remaining),
        } => return (ResultCode::NotAuthorized, seconds(remaining)),
        Refusal::ForeignMapping { remaining: None } | Refusal::NoLease | Refusal::StaticMapping => {
            ResultCode::NotAuthorized
        }
        // RFC 6887 §7.4: code 11 is for requests with PREFER_FAILURE alone
        Refusal::ExternalPortTaken if asked.wish == Wish::OpenExactly => {
            ResultCode::CannotProvideExternal
        }
        // it is the external port that the policy denies
        Refusal::PortDenied
            if asked.wish == Wish::OpenExactly && is_open_to(policy, asked.map.internal_port) =>
        {
            ResultCode::CannotProvideExternal
        }
        Refusal::PortDenied => ResultCode::NotAuthorized,
        // a person may say yes at any moment, so the client shall ask again soon
        Refusal::Waiting => return (ResultCode::NotAuthorized, SHORT),
        Refusal::TooManyFilters => ResultCode::ExcessiveRemotePeers,
        Refusal::NoPrefix | Refusal::PrefixInvalid(_) => ResultCode::NetworkFailure,
        Refusal::QuotaExceeded => ResultCode::UserExQuota,
        Refusal::AddressNotFree
        | Refusal::ExternalPortTaken
        | Refusal::NameNotFree
        | Refusal::NotCarried
        | Refusal::NotFound
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

fn is_open_to(policy: &Policy, port: u16) -> bool {
    policy.auto_allow.contains(port) && !policy.always_rejects(port)
}

/// RFC 6887 §7.4: 30 minutes, and 30 seconds.
const LONG: u32 = 30 * 60;
const SHORT: u32 = 30;
