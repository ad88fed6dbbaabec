//! What an action means.

mod connection;
mod link;
mod pinholes;
mod ports;

use mapping::{Client, Grant, Now, Outcome, PinholeId, Refusal, Request, Snapshot};

use super::arguments::Arguments;
use crate::wire::soap::Call;
use crate::{Action, Edition, ErrorCode, Event, Identity};

pub use link::Traffic;

/// Who asks, and in which version of the service.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The device that asks.
    pub client: Client,
    /// The root device that it speaks to.
    pub edition: Edition,
    /// The version of the service type that it named.
    pub version: u8,
    /// Who we are.
    pub identity: &'a Identity,
}

/// What follows from an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The outputs, in the order of [`Action::outputs`].
    Answer(Vec<String>),
    /// The core decides.
    Ask(Box<Request>),
    /// Who carries the pinhole counts its packets.
    Count(PinholeId),
    /// The WAN interface's counters tell.
    Measure,
}

/// What becomes of the core's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation {
    /// The action that asked.
    pub action: Action,
    /// The version of the service type that the caller named.
    pub version: u8,
}

/// An error to answer with, and what to count.
pub(super) type Fault = (ErrorCode, Event);

/// Decides what an action means.
///
/// # Errors
/// The error to answer with, and what it counts as.
pub fn decide(
    action: Action,
    call: &Call,
    caller: Caller<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Result<Decision, (ErrorCode, Event)> {
    let arguments = Arguments::new(action, call)?;
    match action {
        Action::AddAnyPortMapping | Action::AddPortMapping => {
            ports::add(action, &arguments, caller, snapshot).map(ask)
        }
        Action::DeletePortMapping => ports::delete(&arguments, caller, snapshot).map(ask),
        Action::DeletePortMappingRange => ports::delete_range(&arguments, caller).map(ask),
        Action::GetGenericPortMappingEntry => {
            ports::generic(&arguments, caller, snapshot, now).map(Decision::Answer)
        }
        Action::GetListOfPortMappings => {
            ports::list(&arguments, caller, snapshot, now).map(Decision::Answer)
        }
        Action::GetSpecificPortMappingEntry => {
            ports::specific(&arguments, caller, snapshot, now).map(Decision::Answer)
        }
        Action::AddPinhole => pinholes::add(&arguments, caller, snapshot).map(ask),
        Action::DeletePinhole => pinholes::delete(&arguments, caller, snapshot).map(ask),
        Action::UpdatePinhole => pinholes::update(&arguments, caller, snapshot).map(ask),
        Action::CheckPinholeWorking | Action::GetPinholePackets => {
            pinholes::counted(&arguments, caller, snapshot).map(Decision::Count)
        }
        Action::GetFirewallStatus | Action::GetOutboundPinholeTimeout => {
            pinholes::answer(action, &arguments, snapshot).map(Decision::Answer)
        }
        Action::GetCommonLinkProperties
        | Action::GetTotalBytesReceived
        | Action::GetTotalBytesSent
        | Action::GetTotalPacketsReceived
        | Action::GetTotalPacketsSent => Ok(Decision::Measure),
        Action::GetActiveConnection
        | Action::GetEnabledForInternet
        | Action::GetMaximumActiveConnections
        | Action::GetWanAccessProvider
        | Action::SetEnabledForInternet => {
            link::answer(action, &arguments, caller, snapshot).map(Decision::Answer)
        }
        Action::ForceTermination
        | Action::GetAutoDisconnectTime
        | Action::GetConnectionTypeInfo
        | Action::GetDefaultConnectionService
        | Action::GetExternalIpAddress
        | Action::GetIdleDisconnectTime
        | Action::GetNatRsipStatus
        | Action::GetStatusInfo
        | Action::GetWarnDisconnectDelay
        | Action::RequestConnection
        | Action::RequestTermination
        | Action::SetAutoDisconnectTime
        | Action::SetConnectionType
        | Action::SetDefaultConnectionService
        | Action::SetIdleDisconnectTime
        | Action::SetWarnDisconnectDelay => {
            connection::answer(action, &arguments, caller, snapshot, now).map(Decision::Answer)
        }
    }
}

/// Turns the core's outcome into outputs.
///
/// # Errors
/// The error to answer with.
pub fn finish(continuation: Continuation, outcome: &Outcome) -> Result<Vec<String>, ErrorCode> {
    match outcome {
        Outcome::Granted(Grant::Mapped { mapping, .. })
            if continuation.action == Action::AddAnyPortMapping =>
        {
            Ok(vec![mapping.external_port.to_string()])
        }
        Outcome::Granted(Grant::Pinholed { pinhole, .. })
            if continuation.action == Action::AddPinhole =>
        {
            Ok(vec![pinhole.id.0.to_string()])
        }
        Outcome::Granted(_) => Ok(Vec::new()),
        Outcome::Refused(refusal) => Err(error_of(*refusal, continuation)),
    }
}

/// Turns what came in through a pinhole into outputs; `None` if nobody counts.
///
/// # Errors
/// The error to answer with.
pub fn counted(continuation: Continuation, packets: Option<u64>) -> Result<Vec<String>, ErrorCode> {
    let packets = packets.ok_or(ErrorCode::ActionFailed)?;
    pinholes::outputs(continuation.action, packets)
}

/// Turns the WAN interface's counters into outputs; `None` if nobody can tell them.
///
/// # Errors
/// The error to answer with.
pub fn measured(
    continuation: Continuation,
    traffic: Option<Traffic>,
) -> Result<Vec<String>, ErrorCode> {
    let traffic = traffic.ok_or(ErrorCode::ActionFailed)?;
    Ok(link::outputs(continuation.action, traffic))
}

/// The codes of RFC 6970 §4.3, which differ where version 1 has no such code, and those of
/// WANIPv6FirewallControl:1.
fn error_of(refusal: Refusal, continuation: Continuation) -> ErrorCode {
    let Continuation { action, version } = continuation;
    let pinhole = matches!(
        action,
        Action::AddPinhole | Action::DeletePinhole | Action::UpdatePinhole
    );
    let exhausted = match (pinhole, version) {
        (true, _) => ErrorCode::PinholeSpaceExhausted,
        (false, 1) => ErrorCode::ActionFailed,
        (false, _) => ErrorCode::NoPortMapsAvailable,
    };
    match refusal {
        Refusal::ExternalPortTaken if pinhole || action == Action::AddAnyPortMapping => exhausted,
        Refusal::ExternalPortTaken => ErrorCode::ConflictInMappingEntry,
        Refusal::ForeignMapping { .. } => match action {
            Action::AddAnyPortMapping | Action::AddPortMapping => ErrorCode::ConflictInMappingEntry,
            _ => ErrorCode::ActionNotAuthorized,
        },
        Refusal::NotCarried if pinhole => ErrorCode::InboundPinholeNotAllowed,
        Refusal::NotFound if pinhole => ErrorCode::NoSuchEntry,
        Refusal::NotFound if action == Action::DeletePortMappingRange => {
            ErrorCode::PortMappingNotFound
        }
        Refusal::NotFound => ErrorCode::NoSuchEntryInArray,
        // a control point of version 1 tries another port then
        Refusal::ExternalPortDenied | Refusal::PortDenied
            if (action, version) == (Action::AddPortMapping, 1) =>
        {
            ErrorCode::ConflictInMappingEntry
        }
        // a person is asked: another port would be another question
        Refusal::ExternalPortDenied
        | Refusal::NoLease
        | Refusal::OutboundMapping
        | Refusal::PortDenied
        | Refusal::StaticMapping
        | Refusal::Waiting => ErrorCode::ActionNotAuthorized,
        Refusal::QuotaExceeded => exhausted,
        Refusal::AddressNotFree
        | Refusal::NameNotFree
        | Refusal::NoPrefix
        | Refusal::NotCarried
        | Refusal::PrefixInvalid(_)
        | Refusal::TooManyFilters
        | Refusal::Unavailable => ErrorCode::ActionFailed,
    }
}

fn ask(request: Request) -> Decision {
    Decision::Ask(Box::new(request))
}

pub(super) const fn invalid(error: ErrorCode) -> Fault {
    (error, Event::ActionInvalid)
}

const fn refused(error: ErrorCode) -> Fault {
    (error, Event::ActionRefused)
}
