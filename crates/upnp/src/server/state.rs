//! What the variables of the services are now: actions and events say the same.

use std::net::Ipv4Addr;
use std::sync::Arc;

use mapping::{Client, Mapping, Snapshot};

/// What the machines look at.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Everything that is decided.
    pub snapshot: &'a Snapshot,
    /// Somebody is at the other end of the WAN interface.
    pub link_up: bool,
}

/// There is a connection as long as remotes reach the servers under some prefix, or at a shared
/// IPv4 address.
pub(super) fn is_connected(snapshot: &Snapshot) -> bool {
    snapshot.generations().next().is_some() || snapshot.carriers().ipv4.is_some()
}

pub(super) fn connection_status(snapshot: &Snapshot) -> &'static str {
    match is_connected(snapshot) {
        true => "Connected",
        false => "Disconnected",
    }
}

pub(super) const fn link_status(up: bool) -> &'static str {
    match up {
        true => "Up",
        false => "Down",
    }
}

/// DEVIATION WANIPConnection:2 §2.3.13 (U-11): where the WAN has no IPv4 address, 0.0.0.0
/// instead of an empty string, because more control points go on to map. igd-next's
/// `get_any_address` and the Go control points that parse the address give up at an empty one;
/// libtorrent and those that only show it go on with either. What wants a public IPv4 address
/// gives up with both: everything that asks miniupnpc for a *connected* gateway (Transmission,
/// and upnpc without its option -i), and libp2p. No address that would content them is ours to
/// tell.
pub(super) fn external_ip_address(snapshot: &Snapshot) -> Ipv4Addr {
    snapshot.carriers().ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED)
}

/// The table of port mappings that a client sees (U-9). Where servers share an IPv4 address its
/// ports are everybody's matter. Where none is shared each server has an address of its own, and
/// a table of every server's ports would show conflicts that there are not: the table is a view
/// of the asking device.
pub(super) fn table<'a>(
    snapshot: &'a Snapshot,
    client: Client,
) -> Box<dyn Iterator<Item = &'a Arc<Mapping>> + 'a> {
    match snapshot.carriers().ipv4 {
        Some(_) => Box::new(snapshot.shared_mappings()),
        None => own(snapshot, client),
    }
}

/// A client's own mappings of that table.
pub(super) fn own<'a>(
    snapshot: &'a Snapshot,
    client: Client,
) -> Box<dyn Iterator<Item = &'a Arc<Mapping>> + 'a> {
    let shared = snapshot.carriers().ipv4.is_some();
    match snapshot.host_of(client) {
        Some(host) => Box::new(
            snapshot
                .mappings_of(host.addr)
                .filter(move |mapping| !shared || mapping.via.has_ipv4()),
        ),
        None => Box::new(std::iter::empty()),
    }
}

/// The remote host of a mapping as IGD shows it: empty for everybody, and for filters that it
/// has no word for.
pub(super) fn remote_host(mapping: &Mapping) -> String {
    let single = match mapping.filters.as_ref() {
        [filter] if filter.prefix.len() == 128 => filter.prefix.addr().to_ipv4_mapped(),
        _ => None,
    };
    single.map(|addr| addr.to_string()).unwrap_or_default()
}

/// A variable that is told to subscribers, for one of them.
pub(super) fn variable(
    name: &str,
    default_connection: &str,
    client: Client,
    situation: Situation<'_>,
) -> String {
    let Situation { snapshot, link_up } = situation;
    match name {
        "ConnectionStatus" => connection_status(snapshot).to_owned(),
        "DefaultConnectionService" => default_connection.to_owned(),
        "EnabledForInternet" | "FirewallEnabled" => "1".to_owned(),
        "ExternalIPAddress" => external_ip_address(snapshot).to_string(),
        "InboundPinholeAllowed" => flag(snapshot.carriers().pinholes).to_owned(),
        "PhysicalLinkStatus" => link_status(link_up).to_owned(),
        "PortMappingNumberOfEntries" => {
            let entries = table(snapshot, client).take(usize::from(u16::MAX)).count();
            entries.to_string()
        }
        "PossibleConnectionTypes" => "IP_Routed".to_owned(),
        "SystemUpdateID" => snapshot.counters().system_update_id.to_string(),
        _ => String::new(),
    }
}

pub(super) const fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}
