//! From what the writer decided to what the client is told.

use std::net::Ipv6Addr;

use mapping::{Grant, Mapping, MappingId, Outcome, Snapshot, Via};

use super::ask::Asked;
use super::refuse::{error_lifetime, refusal_code, seconds};
use crate::wire::{
    Body, Ipv4Prefixes, MAX, Map, PcpOption, Peer, PortSet, Prefix64, Request, Response,
    ResultCode, emit_option,
};

/// A success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) lifetime: u32,
    pub(super) body: Body,
    /// The text that is stored; `None` where the client's was not.
    pub(super) description: Option<&'a str>,
    /// The ports that were opened or closed, if they are more than one (RFC 7753 §4.2).
    pub(super) port_set: Option<PortSet>,
    pub(super) mapping: Option<MappingId>,
}

impl<'a> Answer<'a> {
    /// RFC 6887 §14.1.1.
    pub(super) const ANNOUNCE: Self = Self {
        lifetime: 0,
        body: Body::Announce,
        description: None,
        port_set: None,
        mapping: None,
    };

    /// M-5: the suggested address and port come back as they were.
    pub(super) const fn closed(map: Map) -> Self {
        Self {
            body: Body::Map(map),
            ..Self::ANNOUNCE
        }
    }

    /// Writes the answer, with the options that were processed and no others (P-7).
    pub(super) fn emit(&self, request: &Request<'_>, snapshot: &Snapshot, epoch: u32) -> Vec<u8> {
        let mut options = Vec::new();
        for option in request.options().flatten() {
            match option {
                PcpOption::ThirdParty(_) | PcpOption::PreferFailure | PcpOption::Filter(_) => {
                    emit_option(option, &mut options);
                }
                PcpOption::Description(asked) => {
                    // RFC 7220 §3: what is stored of the text comes back
                    if let Some(stored) = self.description.filter(|it| asked.starts_with(it)) {
                        emit_option(PcpOption::Description(stored), &mut options);
                    }
                }
                PcpOption::Prefix64(_) => {
                    emit_prefixes(snapshot, room_for_prefixes(request), &mut options);
                }
                PcpOption::PortSet(_) => {
                    if let Some(set) = self.port_set {
                        emit_option(PcpOption::PortSet(set), &mut options);
                    }
                }
                PcpOption::Invalid { .. } | PcpOption::Unknown { .. } => {}
            }
        }
        let response = Response {
            result: ResultCode::Success,
            lifetime: self.lifetime,
            epoch,
            body: self.body,
            options: &options,
        };
        response.emit()
    }
}

/// Says what the writer decided; an error with its lifetime.
pub(super) fn answer<'a>(
    request: &Request<'_>,
    asked: &Asked,
    outcome: &'a Outcome,
    snapshot: &Snapshot,
) -> Result<Answer<'a>, (ResultCode, u32)> {
    let no_resources = (
        ResultCode::NoResources,
        error_lifetime(ResultCode::NoResources),
    );
    let (map, peer) = match request.body {
        Body::Announce => return Err(no_resources),
        Body::Map(map) => (map, None),
        Body::Peer(peer) => (peer.map, Some(peer)),
    };
    let body = |map| match peer {
        Some(peer) => Body::Peer(Peer { map, ..peer }),
        None => Body::Map(map),
    };
    match outcome {
        Outcome::Granted(Grant::Mapped {
            mapping, lifetime, ..
        }) => {
            let map = assigned(map, mapping, asked.via, snapshot)?;
            Ok(Answer {
                // M-3: a static mapping is given for ever
                lifetime: lifetime.map_or(u32::MAX, seconds),
                body: body(map),
                description: Some(&mapping.description),
                port_set: None,
                mapping: Some(mapping.id),
            })
        }
        Outcome::Granted(Grant::MappedSet {
            first,
            size,
            lifetime,
            ..
        }) => {
            let map = assigned(map, first, asked.via, snapshot)?;
            let set = PortSet {
                size: size.get(),
                first_internal_port: first.internal_port.get(),
                parity: asks_parity(request),
            };
            Ok(Answer {
                lifetime: lifetime.map_or(u32::MAX, seconds),
                body: body(map),
                description: Some(&first.description),
                // RFC 7753 §4.2: never for a single port
                port_set: Some(set).filter(|set| set.size > 1),
                mapping: Some(first.id),
            })
        }
        Outcome::Granted(Grant::Pinholed { pinhole, lifetime }) => Ok(Answer {
            lifetime: seconds(*lifetime),
            body: body(Map {
                external_port: pinhole.port.get(),
                external_addr: pinhole.addr,
                ..map
            }),
            description: Some(&pinhole.description),
            ..Answer::ANNOUNCE
        }),
        Outcome::Granted(Grant::Unmapped(_)) => Ok(Answer {
            port_set: asked_set(request),
            ..Answer::closed(map)
        }),
        Outcome::Granted(Grant::Done | Grant::Leased(_) | Grant::Prefixed(_)) => Err(no_resources),
        Outcome::Refused(refusal) => Err(refusal_code(*refusal, map, asked)),
    }
}

/// Says at which address and port remotes reach a mapping.
pub(super) fn assigned(
    map: Map,
    mapping: &Mapping,
    via: Via,
    snapshot: &Snapshot,
) -> Result<Map, (ResultCode, u32)> {
    let code = ResultCode::NetworkFailure;
    let external_addr = told(mapping, via, snapshot);
    Ok(Map {
        external_port: mapping.external_port.get(),
        external_addr: external_addr.ok_or((code, error_lifetime(code)))?,
        ..map
    })
}

/// Returns the address of a mapping in the family that was asked for, if it has one there.
pub(super) fn told(mapping: &Mapping, via: Via, snapshot: &Snapshot) -> Option<Ipv6Addr> {
    let shared = snapshot.carriers().ipv4;
    match shared.filter(|_| via.has_ipv4() && mapping.via.has_ipv4()) {
        Some(shared) => Some(shared.to_ipv6_mapped()),
        None => snapshot.external_address_of(mapping).map(super::in_ipv6),
    }
}

/// Says the epoch without being asked, and the prefixes where they are news (RFC 7225 §4.2).
pub(super) fn announcement(snapshot: &Snapshot, with_prefix: bool, epoch: u32) -> Vec<u8> {
    let mut options = Vec::new();
    if with_prefix {
        let room = (MAX - Body::Announce.total()) / PREFIX64;
        emit_prefixes(snapshot, room, &mut options);
    }
    let response = Response {
        result: ResultCode::Success,
        lifetime: 0,
        epoch,
        body: Body::Announce,
        options: &options,
    };
    response.emit()
}

/// Returns how many prefixes an answer has room for, besides its body and the other options that
/// it may carry.
pub(super) fn room_for_prefixes(request: &Request<'_>) -> usize {
    let mut others = Vec::new();
    for option in request.options().flatten() {
        match option {
            PcpOption::ThirdParty(_)
            | PcpOption::PreferFailure
            | PcpOption::Filter(_)
            | PcpOption::Description(_)
            | PcpOption::PortSet(_) => emit_option(option, &mut others),
            PcpOption::Prefix64(_) | PcpOption::Invalid { .. } | PcpOption::Unknown { .. } => {}
        }
    }
    let taken = request.body.total().saturating_add(others.len());
    MAX.saturating_sub(taken) / PREFIX64
}

/// Writes the prefixes that lead here, the preferred one first, at most `room` of them. Each says
/// that it is for the addresses of the LAN alone: a host must not make addresses of the Internet
/// with it.
fn emit_prefixes(snapshot: &Snapshot, room: usize, options: &mut Vec<u8>) {
    let site = snapshot.site();
    let ipv4 = Ipv4Prefixes::bytes(site.network(), site.prefix_len());
    let preferred = snapshot.preferred();
    let others = snapshot
        .generations()
        .filter(|it| preferred.is_none_or(|preferred| preferred.id != it.id));
    for generation in preferred.into_iter().chain(others).take(room) {
        let prefix = generation.nsp.prefix().addr().octets();
        let Some(octets) = prefix.first_chunk() else {
            break;
        };
        let option = PcpOption::Prefix64(Prefix64 {
            prefix_len: 12,
            octets: *octets,
            ipv4: Some(Ipv4Prefixes::one(&ipv4)),
        });
        emit_option(option, options);
    }
}

fn asks_parity(request: &Request<'_>) -> bool {
    asked_set(request).is_some_and(|set| set.parity)
}

fn asked_set(request: &Request<'_>) -> Option<PortSet> {
    let sets = request.options().flatten().find_map(|option| match option {
        PcpOption::PortSet(set) => Some(set),
        PcpOption::ThirdParty(_)
        | PcpOption::PreferFailure
        | PcpOption::Filter(_)
        | PcpOption::Description(_)
        | PcpOption::Prefix64(_)
        | PcpOption::Invalid { .. }
        | PcpOption::Unknown { .. } => None,
    });
    sets.filter(|set| set.size > 1)
}

/// An option with one prefix and one IPv4 prefix.
const PREFIX64: usize = 28;
