//! What an action means.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mapping::{
    Client, External, ExternalPort, FilterChange, Grant, InternalPort, MapRequest, Mapping, Now,
    Outcome, Protocol, Refusal, Request, Requester, ServerName, Snapshot, Subject, UnmapRequest,
    UnmapTarget, Via,
};

use crate::wire::soap::Call;
use crate::{Action, ErrorCode, Event};

/// Who asks, and in which version of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The device that asks.
    pub client: Client,
    /// The version of the service type that it named.
    pub version: u8,
}

/// What follows from an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The outputs, in the order of [`Action::outputs`].
    Answer(Vec<String>),
    /// The core decides.
    Ask(Request, Continuation),
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
    caller: Caller,
    snapshot: &Snapshot,
    now: Now,
) -> Result<Decision, (ErrorCode, Event)> {
    let arguments = Arguments::new(action, call)?;
    let server = server_of(caller, snapshot);
    let outputs = match action {
        Action::AddAnyPortMapping | Action::AddPortMapping => {
            let request = add(action, &arguments, caller, snapshot)?;
            return Ok(Decision::Ask(
                request,
                Continuation {
                    action,
                    version: caller.version,
                },
            ));
        }
        Action::DeletePortMapping => {
            let request = delete(&arguments, caller)?;
            return Ok(Decision::Ask(
                request,
                Continuation {
                    action,
                    version: caller.version,
                },
            ));
        }
        Action::GetCommonLinkProperties => {
            let link = if is_connected(snapshot) { "Up" } else { "Down" };
            // zero: the link's speed says nothing of the provider's, which nobody tells us
            ["Ethernet", "0", "0", link].map(str::to_owned).to_vec()
        }
        Action::GetConnectionTypeInfo => ["IP_Routed", "IP_Routed"].map(str::to_owned).to_vec(),
        Action::GetExternalIpAddress => vec![external_ip_address()],
        Action::GetGenericPortMappingEntry => {
            let index = arguments.number::<u16>("NewPortMappingIndex")?;
            // U-9: the mappings of every creator; standards that know one external address
            // list those of every host, but here each server has an address of its own
            let mapping = snapshot.mappings_of(server).nth(usize::from(index));
            let mapping = mapping.ok_or(refused(ErrorCode::SpecifiedArrayIndexInvalid))?;
            let mut outputs = vec![
                String::new(),
                mapping.external_port.to_string(),
                mapping.protocol.as_str().to_ascii_uppercase(),
            ];
            outputs.extend(entry(mapping, snapshot, now));
            outputs
        }
        Action::GetNatRsipStatus => ["0", "1"].map(str::to_owned).to_vec(),
        Action::GetSpecificPortMappingEntry => {
            let missing = refused(ErrorCode::NoSuchEntryInArray);
            let (protocol, port) = named(&arguments)?.ok_or(missing)?;
            let mapping = snapshot
                .mapping_by_external(server, protocol, port)
                .ok_or(missing)?;
            entry(mapping, snapshot, now).to_vec()
        }
        Action::GetStatusInfo => {
            let connected = is_connected(snapshot);
            let status = if connected {
                "Connected"
            } else {
                "Disconnected"
            };
            // the PCP epoch runs for as long as the external addresses have stayed the same
            let uptime = if connected {
                snapshot.pcp_epoch(now)
            } else {
                0
            };
            vec![
                status.to_owned(),
                "ERROR_NONE".to_owned(),
                uptime.to_string(),
            ]
        }
    };
    Ok(Decision::Answer(outputs))
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
        Outcome::Granted(_) => Ok(Vec::new()),
        Outcome::Refused(refusal) => Err(error_of(*refusal, continuation)),
    }
}

/// The codes of RFC 6970 §4.3, which differ where version 1 has no such code.
fn error_of(refusal: Refusal, continuation: Continuation) -> ErrorCode {
    let Continuation { action, version } = continuation;
    let not_authorized = match (action, version) {
        // a control point of version 1 tries another port then
        (Action::AddPortMapping, 1) => ErrorCode::ConflictInMappingEntry,
        _ => ErrorCode::ActionNotAuthorized,
    };
    let exhausted = match version {
        1 => ErrorCode::ActionFailed,
        _ => ErrorCode::NoPortMapsAvailable,
    };
    match refusal {
        Refusal::ExternalPortTaken if action == Action::AddAnyPortMapping => exhausted,
        Refusal::ExternalPortTaken => ErrorCode::ConflictInMappingEntry,
        Refusal::ForeignMapping { .. } if action == Action::DeletePortMapping => {
            ErrorCode::ActionNotAuthorized
        }
        Refusal::ForeignMapping { .. } => ErrorCode::ConflictInMappingEntry,
        Refusal::NotFound => ErrorCode::NoSuchEntryInArray,
        Refusal::PortDenied => not_authorized,
        Refusal::NoLease | Refusal::StaticMapping | Refusal::Waiting => {
            ErrorCode::ActionNotAuthorized
        }
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

/// U-6, U-7, U-13: what [`Action::AddPortMapping`] and [`Action::AddAnyPortMapping`] ask.
fn add(
    action: Action,
    arguments: &Arguments<'_>,
    caller: Caller,
    snapshot: &Snapshot,
) -> Result<Request, Fault> {
    let external = arguments.number::<u16>("NewExternalPort")?;
    let internal = arguments.number::<u16>("NewInternalPort")?;
    let lease = arguments.number::<u32>("NewLeaseDuration")?;
    let enabled = arguments.boolean("NewEnabled")?;
    let protocol = arguments.protocol()?;
    let external = ExternalPort::new(external);
    let external = external.ok_or(invalid(ErrorCode::WildCardNotPermittedInExtPort))?;
    let internal = InternalPort::new(internal);
    let internal = internal.ok_or(invalid(ErrorCode::WildCardNotPermittedInIntPort))?;
    arguments.internal_client(server_of(caller, snapshot), snapshot)?;
    if !arguments.any_remote()? {
        // DEVIATION WANIPConnection:2 §2.3.17 (U-6): a mapping for a single remote host is
        // refused with 726 because remote hosts have IPv6 addresses, which the argument cannot
        // hold, and a filter on an IPv4 address would let nobody in.
        return Err((
            ErrorCode::RemoteHostOnlySupportsWildcard,
            Event::ActionRemoteHost,
        ));
    }
    if !enabled {
        // RFC 6970 §4.1: only 1 is allowed
        return Err((ErrorCode::ActionFailed, Event::ActionDisabledMapping));
    }
    let lease = match (lease, caller.version) {
        (0, _) => MAX_LEASE,
        // version 1 knows no longest lease; the policy cuts it, which shows in the entry
        (lease, 1) => lease,
        (lease @ 1..=MAX_LEASE, _) => lease,
        _ => return Err(invalid(ErrorCode::ArgumentValueOutOfRange)),
    };
    Ok(Request::Map(MapRequest {
        subject: Subject::Client(caller.client),
        requester: Requester::Upnp,
        protocol,
        internal_port: internal,
        external: match action {
            Action::AddAnyPortMapping => External::Any(external),
            _ => External::Exact(external),
        },
        lifetime: Some(Duration::from_secs(u64::from(lease))),
        nonce: None,
        via: Via::Both,
        peer: false,
        filters: FilterChange::default(),
        description: arguments.text("NewPortMappingDescription")?.to_owned(),
    }))
}

fn delete(arguments: &Arguments<'_>, caller: Caller) -> Result<Request, Fault> {
    let (protocol, port) = named(arguments)?.ok_or(refused(ErrorCode::NoSuchEntryInArray))?;
    Ok(Request::Unmap(UnmapRequest {
        subject: Subject::Client(caller.client),
        requester: Requester::Upnp,
        target: UnmapTarget::External(protocol, port),
    }))
}

/// The IPv4 address of the device that asks, from whichever of its addresses it does.
fn server_of(caller: Caller, snapshot: &Snapshot) -> Ipv4Addr {
    match caller.client.addr {
        IpAddr::V4(addr) => addr,
        IpAddr::V6(_) => snapshot
            .host_of(caller.client)
            .map_or(Ipv4Addr::UNSPECIFIED, |host| host.addr),
    }
}

/// The entry that three arguments name; `None` if there can be none.
fn named(arguments: &Arguments<'_>) -> Result<Option<(Protocol, ExternalPort)>, Fault> {
    let port = arguments.number::<u16>("NewExternalPort")?;
    let protocol = arguments.protocol()?;
    // U-9: a mapping of every remote host is not that of a single one
    let any = arguments.any_remote()?;
    Ok(ExternalPort::new(port)
        .filter(|_| any)
        .map(|port| (protocol, port)))
}

/// The outputs that both kinds of entry share.
fn entry(mapping: &Mapping, snapshot: &Snapshot, now: Now) -> [String; 5] {
    // a static mapping has no lease: 0 says so (WANIPConnection:2 §2.5.16.2); one that is about
    // to end must not look static
    let left = mapping.expires.map_or(0, |expires| {
        let left = snapshot.remaining(expires, now);
        left.as_secs().max(1)
    });
    [
        mapping.internal_port.to_string(),
        mapping.server.to_string(),
        "1".to_owned(),
        mapping.description.clone(),
        left.to_string(),
    ]
}

/// There is a connection as long as remotes reach the servers under some prefix.
fn is_connected(snapshot: &Snapshot) -> bool {
    snapshot.generations().next().is_some()
}

/// DEVIATION WANIPConnection:2 §2.3.13 (U-11): 0.0.0.0 instead of an empty string, because the
/// WAN has no IPv4 address and more control points go on to map. igd-next's `get_any_address`
/// and the Go control points that parse the address give up at an empty one; libtorrent and
/// those that only show it go on with either. What wants a public IPv4 address gives up with
/// both: everything that asks miniupnpc for a *connected* gateway (Transmission, and upnpc
/// without its option -i), and libp2p. No address that would content them is ours to tell.
fn external_ip_address() -> String {
    Ipv4Addr::UNSPECIFIED.to_string()
}

const fn invalid(error: ErrorCode) -> Fault {
    (error, Event::ActionInvalid)
}

const fn refused(error: ErrorCode) -> Fault {
    (error, Event::ActionRefused)
}

/// The arguments of a call, each there exactly once.
struct Arguments<'a>(&'a Call);

impl<'a> Arguments<'a> {
    /// Threat 2: whatever is missing, the answer is 402. What is not an argument of the action
    /// is passed over; some control points add some.
    fn new(action: Action, call: &'a Call) -> Result<Self, Fault> {
        let once = |name: &str| {
            call.arguments
                .iter()
                .filter(|(argument, _)| argument == name)
                .count()
                == 1
        };
        if action.inputs().iter().all(|argument| once(argument.name)) {
            Ok(Self(call))
        } else {
            Err(invalid(ErrorCode::InvalidArgs))
        }
    }

    fn text(&self, name: &str) -> Result<&'a str, Fault> {
        let found = self
            .0
            .arguments
            .iter()
            .find(|(argument, _)| argument == name);
        found
            .map(|(_, value)| value.as_str())
            .ok_or(invalid(ErrorCode::InvalidArgs))
    }

    /// A `ui2` or `ui4`: digits only.
    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Fault> {
        let text = self.text(name)?.trim();
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number.ok_or(invalid(ErrorCode::InvalidArgs))
    }

    /// UDA 1.1 §2.5: the spellings of a boolean; a Python client's True is meant as one of them.
    fn boolean(&self, name: &str) -> Result<bool, Fault> {
        match self.text(name)?.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" => Ok(true),
            "0" | "false" | "no" => Ok(false),
            _ => Err(invalid(ErrorCode::InvalidArgs)),
        }
    }

    /// Tells whether every remote host is meant. The wildcard is an empty string; some control
    /// points say it in other words (async-upnp-client can only name an address).
    fn any_remote(&self) -> Result<bool, Fault> {
        let remote = self.text("NewRemoteHost")?.trim();
        Ok(["", "*", "0.0.0.0"].contains(&remote))
    }

    fn protocol(&self) -> Result<Protocol, Fault> {
        let text = self.text("NewProtocol")?.trim();
        [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .find(|protocol| text.eq_ignore_ascii_case(protocol.as_str()))
            .ok_or(invalid(ErrorCode::ArgumentValueOutOfRange))
    }

    /// Threat 4: a device opens ports for itself only. It may call itself by its name.
    fn internal_client(&self, own: Ipv4Addr, snapshot: &Snapshot) -> Result<(), Fault> {
        let text = self.text("NewInternalClient")?.trim();
        if text.is_empty() {
            return Err(invalid(ErrorCode::WildCardNotPermittedInSrcIp));
        }
        let named = || {
            let zone = snapshot.site().zone();
            let label = text
                .strip_suffix(zone)
                .and_then(|label| label.strip_suffix('.'));
            let name: ServerName = label.unwrap_or(text).parse().ok()?;
            snapshot.host_by_name(&name).map(|host| host.addr)
        };
        match text.parse::<Ipv4Addr>().ok().or_else(named) {
            Some(addr) if addr == own => Ok(()),
            Some(_) | None => Err((ErrorCode::ActionNotAuthorized, Event::ActionForeignClient)),
        }
    }
}

/// WANIPConnection:2 §2.3.16: a week, in seconds.
const MAX_LEASE: u32 = 604_800;
