//! Port mappings (WANIPConnection:2 §2.5.14 to §2.5.21).

use std::sync::Arc;
use std::time::Duration;

use mapping::{
    External, ExternalPort, FilterChange, InternalPort, MapRequest, Mapping, Now, Prefix6,
    Protocol, RemoteFilter, Request, Requester, Snapshot, Subject, UnmapRequest, UnmapTarget, Via,
};

use super::{Caller, Fault, invalid, refused};
use crate::server::arguments::{Arguments, RemoteHost};
use crate::server::state;
use crate::wire::listing::{self, Entry};
use crate::{Action, ErrorCode, Event};

/// U-6, U-7, U-13: what [`Action::AddPortMapping`] and [`Action::AddAnyPortMapping`] ask.
pub(super) fn add(
    action: Action,
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
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
    arguments.internal_client(caller.client, snapshot)?;
    let (via, filters) = remotes(arguments.remote_host()?, snapshot)?;
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
        via,
        peer: false,
        filters,
        description: Some(arguments.text("NewPortMappingDescription")?.to_owned()),
        memo: None,
    }))
}

/// DEVIATION WANIPConnection:2 §2.3.17 (U-6): where servers share no IPv4 address, a mapping for
/// a single remote host is refused with 726, because remote hosts have IPv6 addresses, which the
/// argument cannot hold, and a filter on an IPv4 address would let nobody in. Names of remote
/// hosts are never resolved: what they mean may change behind our back.
fn remotes(remote: RemoteHost, snapshot: &Snapshot) -> Result<(Via, FilterChange), Fault> {
    let unsupported = (
        ErrorCode::RemoteHostOnlySupportsWildcard,
        Event::ActionRemoteHost,
    );
    let (via, add) = match (remote, snapshot.carriers().ipv4) {
        (RemoteHost::Any, _) => (Via::Both, Vec::new()),
        (RemoteHost::Single(addr), Some(_)) => {
            let prefix = Prefix6::new(addr.to_ipv6_mapped(), 128).map_err(|_| unsupported)?;
            (Via::Ipv4, vec![RemoteFilter { prefix, port: None }])
        }
        (RemoteHost::Single(_), None) | (RemoteHost::Other, _) => return Err(unsupported),
    };
    // an entry that is overwritten is for the new remote host alone
    Ok((via, FilterChange { clear: true, add }))
}

pub(super) fn delete(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &Snapshot,
) -> Result<Request, Fault> {
    let missing = refused(ErrorCode::NoSuchEntryInArray);
    let (protocol, port, mapping) = named(arguments, caller, snapshot)?;
    let port = port.ok_or(missing)?;
    match mapping {
        // on a shared address the entry is there to be seen, but not to be taken away
        Some(mapping) if !is_own(mapping, caller, snapshot) => {
            return Err(refused(ErrorCode::ActionNotAuthorized));
        }
        Some(_) => {}
        None => return Err(missing),
    }
    Ok(Request::Unmap(UnmapRequest {
        subject: Subject::Client(caller.client),
        requester: Requester::Upnp,
        target: UnmapTarget::External(protocol, port),
    }))
}

/// U-10: nobody here is authenticated, so `NewManage` changes nothing: the range is of the
/// caller's own entries.
pub(super) fn delete_range(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
) -> Result<Request, Fault> {
    let (protocol, first, last) = range(arguments)?;
    Ok(Request::Unmap(UnmapRequest {
        subject: Subject::Client(caller.client),
        requester: Requester::Upnp,
        target: UnmapTarget::Range(protocol, first, last),
    }))
}

/// U-9: the mappings of every creator.
pub(super) fn generic(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Result<Vec<String>, Fault> {
    let index = arguments.number::<u16>("NewPortMappingIndex")?;
    let mapping = state::table(snapshot, caller.client).nth(usize::from(index));
    let mapping = mapping.ok_or(refused(ErrorCode::SpecifiedArrayIndexInvalid))?;
    let mut outputs = vec![
        state::remote_host(mapping),
        mapping.external_port.to_string(),
        mapping.protocol.as_str().to_ascii_uppercase(),
    ];
    outputs.extend(entry(mapping, snapshot, now));
    Ok(outputs)
}

pub(super) fn specific(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Result<Vec<String>, Fault> {
    let (_, _, mapping) = named(arguments, caller, snapshot)?;
    let mapping = mapping.ok_or(refused(ErrorCode::NoSuchEntryInArray))?;
    Ok(entry(mapping, snapshot, now).to_vec())
}

/// U-10: the caller's own entries, by external port.
pub(super) fn list(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Result<Vec<String>, Fault> {
    let (protocol, first, last) = range(arguments)?;
    let most = match arguments.number::<u16>("NewNumberOfPorts")? {
        0 => usize::from(u16::MAX),
        most => usize::from(most),
    };
    let in_range = |mapping: &&Arc<Mapping>| {
        mapping.protocol == protocol && (first..=last).contains(&mapping.external_port)
    };
    let mut found: Vec<_> = state::own(snapshot, caller.client)
        .filter(in_range)
        .collect();
    if found.is_empty() {
        return Err(refused(ErrorCode::PortMappingNotFound));
    }
    found.sort_unstable_by_key(|mapping| mapping.external_port);
    let entries = found.into_iter().take(most).map(|mapping| Entry {
        remote_host: state::remote_host(mapping),
        external_port: mapping.external_port.get(),
        protocol: mapping.protocol,
        internal_port: mapping.internal_port.get(),
        internal_client: mapping.server,
        description: &mapping.description,
        lease: lease_left(mapping, snapshot, now),
    });
    Ok(vec![listing::emit(entries)])
}

/// A range of external ports. Port 0 stands for nothing that could be in it.
fn range(arguments: &Arguments<'_>) -> Result<(Protocol, ExternalPort, ExternalPort), Fault> {
    let start = arguments.number::<u16>("NewStartPort")?;
    let end = arguments.number::<u16>("NewEndPort")?;
    arguments.boolean("NewManage")?;
    let protocol = arguments.protocol()?;
    if start > end {
        return Err(invalid(ErrorCode::InconsistentParameters));
    }
    let empty = refused(ErrorCode::PortMappingNotFound);
    let last = ExternalPort::new(end).ok_or(empty)?;
    let first = ExternalPort::new(start.max(1)).ok_or(empty)?;
    Ok((protocol, first, last))
}

/// What three arguments name: an entry, if there is one, and what else they say.
type Named<'a> = (Protocol, Option<ExternalPort>, Option<&'a Arc<Mapping>>);

/// The entry of the caller's table that three arguments name. U-9: a mapping of every remote
/// host is not that of a single one.
fn named<'a>(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &'a Snapshot,
) -> Result<Named<'a>, Fault> {
    let port = ExternalPort::new(arguments.number::<u16>("NewExternalPort")?);
    let protocol = arguments.protocol()?;
    let remote = match arguments.remote_host()? {
        RemoteHost::Any => Some(String::new()),
        RemoteHost::Single(addr) => Some(addr.to_string()),
        RemoteHost::Other => None,
    };
    let found = port.and_then(|port| match snapshot.carriers().ipv4 {
        Some(_) => snapshot.mapping_by_shared(protocol, port),
        None => {
            let host = snapshot.host_of(caller.client)?;
            snapshot.mapping_by_external(host.addr, protocol, port)
        }
    });
    let found = found.filter(|mapping| remote.is_some_and(|it| it == state::remote_host(mapping)));
    Ok((protocol, port, found))
}

fn is_own(mapping: &Mapping, caller: Caller<'_>, snapshot: &Snapshot) -> bool {
    let host = snapshot.host_of(caller.client);
    host.is_some_and(|host| host.mac == mapping.host)
}

/// The outputs that both kinds of entry share.
fn entry(mapping: &Mapping, snapshot: &Snapshot, now: Now) -> [String; 5] {
    [
        mapping.internal_port.to_string(),
        mapping.server.to_string(),
        "1".to_owned(),
        mapping.description.clone(),
        lease_left(mapping, snapshot, now).to_string(),
    ]
}

/// A static mapping has no lease: 0 says so (WANIPConnection:2 §2.5.16.2); one that is about to
/// end must not look static.
fn lease_left(mapping: &Mapping, snapshot: &Snapshot, now: Now) -> u64 {
    mapping.expires.map_or(0, |expires| {
        let left = snapshot.remaining(expires, now);
        left.as_secs().max(1)
    })
}

/// WANIPConnection:2 §2.3.16: a week, in seconds.
const MAX_LEASE: u32 = 604_800;
