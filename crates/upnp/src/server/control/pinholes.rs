//! Pinholes for hosts that have IPv6 addresses of their own (WANIPv6FirewallControl:1).

use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::time::Duration;

use mapping::{
    ClosePinholeRequest, FilterChange, InternalPort, Pinhole, PinholeId, PinholeRequest,
    PinholeTarget, PinholeTuple, Prefix6, Protocol, RemoteFilter, Request, Requester, Snapshot,
    Subject, UpdatePinholeRequest,
};

use super::{Caller, Fault, invalid, refused};
use crate::server::arguments::Arguments;
use crate::server::state;
use crate::{Action, ErrorCode, Event};

pub(super) fn add(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &Snapshot,
) -> Result<Request, Fault> {
    carried(snapshot)?;
    let wanted = flow(arguments)?;
    let lease = lease(arguments, "LeaseTime")?;
    let addr = wanted
        .client
        .ok_or(invalid(ErrorCode::WildCardNotPermittedInPinhole))?;
    // threat 4: for the asking address alone, which is never one of ours
    if caller.client.addr != addr {
        return Err((ErrorCode::ActionNotAuthorized, Event::ActionForeignClient));
    }
    Ok(Request::Pinhole(PinholeRequest {
        subject: Subject::Client(caller.client),
        requester: Requester::Upnp,
        tuple: PinholeTuple {
            addr,
            protocol: wanted.protocol,
            port: wanted.port,
            remote: wanted.remote,
        },
        filters: FilterChange {
            clear: true,
            add: wanted.remote.into_iter().collect(),
        },
        lifetime: lease,
        nonce: None,
        description: None,
    }))
}

pub(super) fn update(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &Snapshot,
) -> Result<Request, Fault> {
    let (id, lifetime) = (named(arguments)?, lease(arguments, "NewLeaseTime")?);
    carried(snapshot)?;
    let pinhole = own(id, caller, snapshot)?;
    Ok(Request::UpdatePinhole(UpdatePinholeRequest {
        subject: Subject::Client(caller.client),
        requester: Requester::Upnp,
        id: pinhole.id,
        lifetime,
    }))
}

pub(super) fn delete(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &Snapshot,
) -> Result<Request, Fault> {
    let pinhole = own(named(arguments)?, caller, snapshot)?;
    Ok(Request::ClosePinhole(ClosePinholeRequest {
        subject: Subject::Client(caller.client),
        requester: Requester::Upnp,
        target: PinholeTarget::Id(pinhole.id),
    }))
}

/// What `CheckPinholeWorking` and `GetPinholePackets` are about.
pub(super) fn counted(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &Snapshot,
) -> Result<PinholeId, Fault> {
    let id = named(arguments)?;
    carried(snapshot)?;
    own(id, caller, snapshot).map(|pinhole| pinhole.id)
}

/// A `ui4` runs over. A pinhole that nothing came through may work or not: 709 says so.
pub(super) fn outputs(action: Action, packets: u64) -> Result<Vec<String>, ErrorCode> {
    match (action, packets) {
        (Action::CheckPinholeWorking, 0) => Err(ErrorCode::NoTrafficReceived),
        (Action::CheckPinholeWorking, _) => Ok(vec![state::flag(true).to_owned()]),
        _ => Ok(vec![(packets & u64::from(u32::MAX)).to_string()]),
    }
}

pub(super) fn answer(
    action: Action,
    arguments: &Arguments<'_>,
    snapshot: &Snapshot,
) -> Result<Vec<String>, Fault> {
    let carried = snapshot.carriers().pinholes;
    if action == Action::GetOutboundPinholeTimeout {
        let wanted = flow(arguments)?;
        if !carried {
            return Err(refused(ErrorCode::ActionFailed));
        }
        let timeout = match wanted.protocol {
            Protocol::Tcp => TCP_TIMEOUT,
            Protocol::Udp => UDP_TIMEOUT,
        };
        return Ok(vec![timeout.to_string()]);
    }
    let (enabled, allowed) = (state::flag(true), state::flag(carried));
    Ok(vec![enabled.to_owned(), allowed.to_owned()])
}

/// What `InboundPinholeAllowed` says holds for every client, whatever its address; only closing
/// is always possible.
fn carried(snapshot: &Snapshot) -> Result<(), Fault> {
    match snapshot.carriers().pinholes {
        true => Ok(()),
        false => Err(refused(ErrorCode::InboundPinholeNotAllowed)),
    }
}

/// What the arguments of a pinhole name.
struct Flow {
    remote: Option<RemoteFilter>,
    client: Option<Ipv6Addr>,
    port: InternalPort,
    protocol: Protocol,
}

fn flow(arguments: &Arguments<'_>) -> Result<Flow, Fault> {
    let remote = match arguments.text("RemoteHost")?.trim() {
        // Syncthing writes the wildcard as a prefix
        "::" | "::/0" => None,
        _ => address(arguments, "RemoteHost")?,
    };
    let remote_port = NonZeroU16::new(arguments.number("RemotePort")?);
    let client = address(arguments, "InternalClient")?;
    let port = arguments.number::<u16>("InternalPort")?;
    let protocol = match arguments.number::<u16>("Protocol")? {
        EVERY_PROTOCOL => return Err(invalid(ErrorCode::ProtocolWildcardingNotAllowed)),
        number => u8::try_from(number).ok().and_then(Protocol::from_number),
    };
    let protocol = protocol.ok_or(invalid(ErrorCode::ProtocolNotSupported))?;
    let port = InternalPort::new(port);
    let port = port.ok_or(invalid(ErrorCode::InternalPortWildcardingNotAllowed))?;
    let filter = |addr: Option<Ipv6Addr>| {
        let len = if addr.is_some() { 128 } else { 0 };
        let prefix = Prefix6::new(addr.unwrap_or(Ipv6Addr::UNSPECIFIED), len);
        let prefix = prefix.map_err(|_| invalid(ErrorCode::ArgumentValueOutOfRange))?;
        Ok(RemoteFilter {
            prefix,
            port: remote_port,
        })
    };
    let any = remote.is_none() && remote_port.is_none();
    Ok(Flow {
        remote: if any { None } else { Some(filter(remote)?) },
        client,
        port,
        protocol,
    })
}

/// An IPv6 address; an empty string is every one.
fn address(arguments: &Arguments<'_>, name: &str) -> Result<Option<Ipv6Addr>, Fault> {
    match arguments.text(name)?.trim() {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| invalid(ErrorCode::InvalidArgs)),
    }
}

fn lease(arguments: &Arguments<'_>, name: &str) -> Result<Duration, Fault> {
    match arguments.number::<u32>(name)? {
        seconds @ 1..=MAX_LEASE => Ok(Duration::from_secs(u64::from(seconds))),
        _ => Err(invalid(ErrorCode::ArgumentValueOutOfRange)),
    }
}

fn named(arguments: &Arguments<'_>) -> Result<PinholeId, Fault> {
    arguments.number("UniqueID").map(PinholeId)
}

/// The caller's own pinhole.
fn own<'a>(
    id: PinholeId,
    caller: Caller<'_>,
    snapshot: &'a Snapshot,
) -> Result<&'a Pinhole, Fault> {
    let Some(pinhole) = snapshot.pinhole(id) else {
        carried(snapshot)?;
        return Err(refused(ErrorCode::NoSuchEntry));
    };
    let host = snapshot.host_of(caller.client);
    match host.is_some_and(|host| host.mac == pinhole.host) {
        true => Ok(pinhole),
        false => Err((ErrorCode::ActionNotAuthorized, Event::ActionForeignClient)),
    }
}

/// WANIPv6FirewallControl:1, `A_ARG_TYPE_LeaseTime`: a day, in seconds.
const MAX_LEASE: u32 = 86_400;

/// WANIPv6FirewallControl:1, `A_ARG_TYPE_Protocol`: the wildcard.
const EVERY_PROTOCOL: u16 = 65_535;

/// RFC 6092 §3.3.1: two hours and four minutes, in seconds.
const TCP_TIMEOUT: u32 = 7440;

/// RFC 6092 §3.2.3: five minutes, in seconds.
const UDP_TIMEOUT: u32 = 300;
