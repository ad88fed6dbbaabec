//! Telling clients that their mappings moved (RFC 6887 §14.2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use mapping::{Instant, InternalPort, Mapping, MappingId, Now, Snapshot};
use natpmp::Transmit;

use super::memo::Client;
use super::refuse::{error_lifetime, seconds};
use crate::wire::{Body, Filter, Map, PcpOption, Peer, PortSet, Response, ResultCode, emit_option};

/// Who has yet to be told that its mapping moved; who asked for which mapping stands in the
/// mapping's memo, so that a restart forgets nobody.
///
/// ```text
///          it moved, or had before the start      third sent, or the client asked again
///   Quiet ───────────────────────────────► Sending ─────────────────────────────► Quiet
/// ```
#[derive(Debug)]
pub(super) struct Updates {
    /// How many of a series were sent, and when the next one is due.
    series: BTreeMap<MappingId, (u8, Instant)>,
    due: BTreeSet<(Instant, MappingId)>,
    /// What clients were told by updates since they asked last.
    told: BTreeMap<MappingId, Ipv6Addr>,
    sent: u64,
}

impl Updates {
    pub(super) const fn new() -> Self {
        Self {
            series: BTreeMap::new(),
            due: BTreeSet::new(),
            told: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Returns how many updates were sent.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// A client asked for its mapping and is answered: it need not be told any more.
    pub(super) fn handle_asked(&mut self, id: MappingId) {
        self.stop(id);
        self.told.remove(&id);
    }

    /// An external address changed, maybe before the start: whose mapping is no longer where its
    /// client was told is told so.
    pub(super) fn handle_renumbering(&mut self, snapshot: &Snapshot, now: Instant) {
        self.told.retain(|id, _| snapshot.mapping(*id).is_some());
        for mapping in snapshot.mappings() {
            let Some(client) = Client::of(mapping, snapshot) else {
                continue;
            };
            let known = self.told.get(&mapping.id).copied().unwrap_or(client.told);
            let is_moved = client
                .address(mapping, snapshot)
                .is_some_and(|addr| addr != known);
            self.stop(mapping.id);
            if is_moved {
                self.series.insert(mapping.id, (0, now));
                self.due.insert((now, mapping.id));
            }
        }
    }

    /// Returns the next update that is due.
    pub(super) fn handle_timeout(&mut self, snapshot: &Snapshot, now: Now) -> Option<Transmit> {
        loop {
            let &(_, id) = self.due.first().filter(|(due, _)| *due <= now.mono)?;
            let sent = self.stop(id).unwrap_or_default();
            let Some(mapping) = snapshot.mapping(id) else {
                continue;
            };
            let Some(client) = Client::of(mapping, snapshot) else {
                continue;
            };
            let Some(addr) = client.address(mapping, snapshot) else {
                continue; // there is no address to tell; the next one begins a new series
            };
            if let Some(gap) = GAPS.get(usize::from(sent)) {
                let next = now.mono + *gap;
                self.series.insert(id, (sent.saturating_add(1), next));
                self.due.insert((next, id));
            }
            self.told.insert(id, addr);
            self.sent = self.sent.saturating_add(1);
            return Some(Transmit {
                from: Some(client.local),
                to: client.source,
                bytes: update(&client, mapping, addr, snapshot, now),
            });
        }
    }

    /// Returns when the next update is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Ends a series that may be under way; returns how many of it were sent.
    fn stop(&mut self, id: MappingId) -> Option<u8> {
        let (sent, due) = self.series.remove(&id)?;
        self.due.remove(&(due, id));
        Some(sent)
    }
}

/// Says where a mapping is now, or that it is no longer where its client wants it.
// DEVIATION RFC 6887 §14.2: an update of a port set bears PORT_SET, which may be ignored, because
// without it the client would take its set to be a single port (RFC 7753 §4.2).
fn update(
    client: &Client,
    mapping: &Mapping,
    addr: Ipv6Addr,
    snapshot: &Snapshot,
    now: Now,
) -> Vec<u8> {
    let here = (mapping.external_port.get(), addr);
    let wanted = client.exact.filter(|(_, addr)| is_meant(*addr));
    let fails = wanted.is_some_and(|wanted| wanted != here);
    let (external_port, external_addr) = wanted.filter(|_| fails).unwrap_or(here);
    let map = Map {
        nonce: client.nonce,
        protocol: mapping.protocol.number(),
        internal_port: mapping.internal_port.get(),
        external_port,
        external_addr,
    };
    let body = match client.peer {
        Some((remote_port, remote_addr)) => Body::Peer(Peer {
            map,
            remote_port,
            remote_addr,
        }),
        None => Body::Map(map),
    };
    let left = mapping.expires.map(|end| snapshot.remaining(end, now));
    let (result, lifetime) = if fails {
        let code = ResultCode::CannotProvideExternal;
        (code, error_lifetime(code))
    } else {
        (ResultCode::Success, left.map_or(u32::MAX, seconds))
    };
    let response = Response {
        result,
        lifetime,
        epoch: snapshot.pcp_epoch(now),
        body,
        options: &options(client, mapping, snapshot),
    };
    response.emit()
}

/// The mandatory options that the client's request had.
fn options(client: &Client, mapping: &Mapping, snapshot: &Snapshot) -> Vec<u8> {
    let mut options = Vec::new();
    if client.third_party {
        let addr = mapping.server.to_ipv6_mapped();
        emit_option(PcpOption::ThirdParty(addr), &mut options);
    }
    if client.exact.is_some() {
        emit_option(PcpOption::PreferFailure, &mut options);
    }
    if client.filtered {
        for filter in mapping.filters.iter() {
            let filter = Filter {
                prefix_len: filter.prefix.len(),
                remote_port: filter.port.map_or(0, std::num::NonZeroU16::get),
                remote_addr: filter.prefix.addr(),
            };
            emit_option(PcpOption::Filter(filter), &mut options);
        }
    }
    if let Some((asked, parity)) = client.port_set {
        let size = set_size(mapping, asked, snapshot);
        let set = PortSet {
            size,
            first_internal_port: mapping.internal_port.get(),
            parity,
        };
        // RFC 7753 §4.2: never for a single port
        if size > 1 {
            emit_option(PcpOption::PortSet(set), &mut options);
        }
    }
    options
}

/// Counts the ports of a set that are open, from the first on.
fn set_size(first: &Mapping, asked: u16, snapshot: &Snapshot) -> u16 {
    let is_open = |offset: &u16| {
        let internal = first.internal_port.get().checked_add(*offset);
        let external = first.external_port.get().checked_add(*offset);
        let (Some(internal), Some(external)) = (internal.and_then(InternalPort::new), external)
        else {
            return false;
        };
        snapshot
            .mappings_by_internal(first.server, first.protocol, internal)
            .any(|it| it.external_port.get() == external && it.nonce == first.nonce && !it.peer)
    };
    let more = (1..asked).take_while(is_open).count();
    u16::try_from(more).unwrap_or(u16::MAX).saturating_add(1)
}

/// Tells whether an address is one, and not all zeros of a family.
fn is_meant(addr: Ipv6Addr) -> bool {
    !addr.is_unspecified() && !addr.to_canonical().is_unspecified()
}

/// RFC 6887 §14.2: three times.
const GAPS: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(500)];
