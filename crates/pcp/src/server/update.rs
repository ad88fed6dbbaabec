//! Telling clients that their mappings moved (RFC 6887 §14.2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use mapping::{Instant, Mapping, MappingId, Now, Snapshot};
use natpmp::{Caller, Transmit};

use super::answer::told;
use super::ask::Asked;
use super::refuse::{error_lifetime, seconds};
use crate::wire::{Body, Filter, Map, PcpOption, PortSet, Response, ResultCode, emit_option};

/// Who asked for which mapping, and who has yet to be told that it moved.
///
/// ```text
///                 it moved               third sent, or the client asked again
///   heard (Quiet) ─────────► Sending ──────────────────────────────────────► Quiet
/// ```
///
/// A restart forgets who asked; then the announcement alone makes clients ask again
/// (RFC 6887 §14: one of the two is a must).
#[derive(Debug)]
pub(super) struct Updates {
    heard: BTreeMap<MappingId, Entry>,
    due: BTreeSet<(Instant, MappingId)>,
    /// Mappings that are gone are looked for when there are so many.
    prune_at: usize,
    sent: u64,
}

/// What is remembered of a client and its mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) caller: Caller,
    pub(super) asked: Asked,
    /// The external port and address that the client would like.
    pub(super) suggested: (u16, Ipv6Addr),
    /// What it was told last.
    pub(super) body: Body,
    pub(super) port_set: Option<PortSet>,
}

#[derive(Debug)]
struct Entry {
    heard: Heard,
    /// How many of a series were sent, and when the next one is due.
    series: Option<(u8, Instant)>,
}

impl Updates {
    pub(super) const fn new() -> Self {
        Self {
            heard: BTreeMap::new(),
            due: BTreeSet::new(),
            prune_at: PRUNE,
            sent: 0,
        }
    }

    /// Returns how many updates were sent.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// A client asked for a mapping and is answered: it need not be told any more.
    pub(super) fn remember(&mut self, id: MappingId, heard: Heard, snapshot: &Snapshot) {
        let entry = Entry {
            heard,
            series: None,
        };
        let old = self.heard.insert(id, entry);
        if let Some((_, due)) = old.and_then(|old| old.series) {
            self.due.remove(&(due, id));
        }
        if self.heard.len() >= self.prune_at {
            let due = &mut self.due;
            self.heard.retain(|id, entry| {
                let is_open = snapshot.mapping(*id).is_some();
                if let Some((_, at)) = entry.series.filter(|_| !is_open) {
                    due.remove(&(at, *id));
                }
                is_open
            });
            self.prune_at = self.heard.len().saturating_mul(2).max(PRUNE);
        }
    }

    /// An external address changed: whose mapping moved is told so.
    pub(super) fn handle_renumbering(&mut self, snapshot: &Snapshot, now: Instant) {
        let due = &mut self.due;
        self.heard.retain(|id, entry| {
            if let Some((_, at)) = entry.series.take() {
                due.remove(&(at, *id));
            }
            let Some(mapping) = snapshot.mapping(*id) else {
                return false;
            };
            let moved = told(mapping, entry.heard.asked.via, snapshot)
                .is_some_and(|addr| addr != entry.heard.told());
            if moved {
                entry.series = Some((0, now));
                due.insert((now, *id));
            }
            true
        });
    }

    /// Returns the next update that is due.
    pub(super) fn handle_timeout(&mut self, snapshot: &Snapshot, now: Now) -> Option<Transmit> {
        loop {
            let &(due, id) = self.due.first().filter(|(due, _)| *due <= now.mono)?;
            self.due.remove(&(due, id));
            let Some(mapping) = snapshot.mapping(id) else {
                self.heard.remove(&id);
                continue;
            };
            let Some(entry) = self.heard.get_mut(&id) else {
                continue;
            };
            let sent = entry.series.take().map_or(0, |(sent, _)| sent);
            let Some(bytes) = entry.heard.update(mapping, snapshot, now) else {
                continue; // there is no address to tell; the next one begins a new series
            };
            if let Some(gap) = GAPS.get(usize::from(sent)) {
                let next = now.mono + *gap;
                entry.series = Some((sent.saturating_add(1), next));
                self.due.insert((next, id));
            }
            self.sent = self.sent.saturating_add(1);
            return Some(Transmit {
                from: Some(entry.heard.caller.local),
                to: entry.heard.caller.source,
                bytes,
            });
        }
    }

    /// Returns when the next update is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }
}

impl Heard {
    const fn map(&self) -> Option<Map> {
        match self.body {
            Body::Announce => None,
            Body::Map(map) => Some(map),
            Body::Peer(peer) => Some(peer.map),
        }
    }

    fn told(&self) -> Ipv6Addr {
        self.map()
            .map_or(Ipv6Addr::UNSPECIFIED, |map| map.external_addr)
    }

    const fn map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.body {
            Body::Announce => None,
            Body::Map(map) => Some(map),
            Body::Peer(peer) => Some(&mut peer.map),
        }
    }

    /// Says where the mapping is now, or that it is no longer where the client wants it.
    // DEVIATION RFC 6887 §14.2: an update of a port set bears PORT_SET, which may be ignored,
    // because without it the client would take its set to be a single port (RFC 7753 §4.2).
    fn update(&mut self, mapping: &Mapping, snapshot: &Snapshot, now: Now) -> Option<Vec<u8>> {
        let addr = told(mapping, self.asked.via, snapshot)?;
        let port = mapping.external_port.get();
        let (wanted_port, wanted_addr) = self.suggested;
        let is_exact = self.asked.is_exact() && is_meant(wanted_addr);
        let fails = is_exact && (wanted_port, wanted_addr) != (port, addr);
        let (wanted, exact) = (self.suggested, self.asked.is_exact());
        let map = self.map_mut()?;
        (map.external_port, map.external_addr) = (port, addr);
        let mut body = self.body;
        if fails {
            let map = match &mut body {
                Body::Announce => return None,
                Body::Map(map) => map,
                Body::Peer(peer) => &mut peer.map,
            };
            (map.external_port, map.external_addr) = wanted;
        }
        let mut options = Vec::new();
        if let Some(addr) = self.asked.third_party {
            emit_option(PcpOption::ThirdParty(addr), &mut options);
        }
        if exact {
            emit_option(PcpOption::PreferFailure, &mut options);
        }
        if self.asked.filtered {
            for filter in mapping.filters.iter() {
                let filter = Filter {
                    prefix_len: filter.prefix.len(),
                    remote_port: filter.port.map_or(0, std::num::NonZeroU16::get),
                    remote_addr: filter.prefix.addr(),
                };
                emit_option(PcpOption::Filter(filter), &mut options);
            }
        }
        if let Some(set) = self.port_set {
            emit_option(PcpOption::PortSet(set), &mut options);
        }
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
            options: &options,
        };
        Some(response.emit())
    }
}

/// Tells whether an address is one, and not all zeros of a family.
fn is_meant(addr: Ipv6Addr) -> bool {
    !addr.is_unspecified() && !addr.to_canonical().is_unspecified()
}

/// RFC 6887 §14.2: three times.
const GAPS: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(500)];

const PRUNE: usize = 64;
