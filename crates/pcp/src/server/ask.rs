//! From a request that can be read to what the writer is asked (RFC 6887 §8.2, §11.3, §12.3).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use mapping::{
    Client, ClosePinholeRequest, External, ExternalPort, FilterChange, InternalPort, MapRequest,
    MapSetRequest, Mapping, Now, PinholeRequest, PinholeTarget, PinholeTuple, Prefix6, Protocol,
    RemoteFilter, Requester, Snapshot, Subject, UnmapRequest, UnmapTarget, Via,
};
use natpmp::Caller;

use super::Settings;
use super::answer::Answer;
use super::memo;
use super::options::{Wishes, of_announce, of_map, of_peer};
use crate::wire::{Body, Map, Peer, PortSet, Request, ResultCode};

/// What is remembered of a request while it waits, besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) wish: Wish,
    /// At which address the mapping was asked for.
    pub(super) via: Via,
    /// Whether FILTER was processed.
    pub(super) filtered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// MAP with lifetime 0.
    Close,
    /// MAP: any external port will do.
    Open,
    /// MAP with `PREFER_FAILURE`.
    OpenExactly,
    /// PEER.
    Peer,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Judged<'a> {
    /// It is answered with success at once.
    Answer(Answer<'a>),
    /// The writer decides.
    Ask(Asked, mapping::Request),
    /// It is an error.
    Refused(ResultCode),
}

/// Judges a request that can be read.
pub(super) fn judge<'a>(
    request: &Request<'a>,
    caller: Caller,
    settings: &Settings,
    snapshot: &Snapshot,
    now: Now,
) -> Judged<'a> {
    // P-4: all 96 bits before an IPv4 address count
    if request.client != super::in_ipv6(caller.source.ip()) {
        return Judged::Refused(ResultCode::AddressMismatch);
    }
    // RFC 6887 §7.3: first the structure of all, then each in its order
    if request.options().any(|option| option.is_err()) {
        return Judged::Refused(ResultCode::MalformedOption);
    }
    let judge = Judge {
        request,
        caller,
        settings,
        snapshot,
        now,
    };
    let judged = match request.body {
        Body::Announce => of_announce(request, snapshot).map(|()| Judged::Answer(Answer::ANNOUNCE)),
        Body::Map(map) => judge.map(map),
        Body::Peer(peer) => judge.peer(peer),
    };
    judged.unwrap_or_else(Judged::Refused)
}

struct Judge<'r, 'a> {
    request: &'r Request<'a>,
    caller: Caller,
    settings: &'r Settings,
    snapshot: &'r Snapshot,
    now: Now,
}

/// For whom a port is, and which.
struct Inside {
    client: Client,
    addr: Ipv6Addr,
    protocol: Protocol,
    port: InternalPort,
}

impl<'a> Judge<'_, 'a> {
    fn map(&self, map: Map) -> Result<Judged<'a>, ResultCode> {
        // M-1
        if map.protocol == 0 && map.internal_port != 0 {
            return Err(ResultCode::MalformedRequest);
        }
        let inside = Protocol::from_number(map.protocol).zip(InternalPort::new(map.internal_port));
        let deletes = self.request.lifetime == 0;
        // all protocols, all ports, and protocols that the translator does not carry
        if !deletes && inside.is_none() {
            return Err(ResultCode::UnsuppProtocol);
        }
        let wishes = of_map(
            self.request,
            map.external_port,
            self.settings,
            self.snapshot,
        )?;
        let Some((protocol, port)) = inside else {
            return Ok(Judged::Answer(Answer::closed(map)));
        };
        let inside = self.inside(&wishes, protocol, port);
        let wish = match (deletes, wishes.exactly) {
            (true, _) => Wish::Close,
            (false, false) => Wish::Open,
            (false, true) => Wish::OpenExactly,
        };
        let server = inside.addr.to_ipv4_mapped();
        let via = self.via(map);
        let request = match (server, wish) {
            (Some(_), Wish::Close) => close(&inside, map, wishes.port_set),
            (None, Wish::Close) => {
                // what nothing carries does not exist
                if !self.snapshot.carriers().pinholes {
                    return Ok(Judged::Answer(Answer::closed(map)));
                }
                close_pinhole(&inside, map)
            }
            (Some(server), Wish::Open | Wish::OpenExactly | Wish::Peer) => {
                self.open(&inside, map, server, via, wishes.exactly, &wishes)?
            }
            (None, Wish::Open | Wish::OpenExactly | Wish::Peer) => {
                let remote = None;
                self.pinhole(&inside, map, remote, wishes.exactly, &wishes)?
            }
        };
        let asked = Asked {
            wish,
            via,
            filtered: wishes.filtered,
        };
        Ok(Judged::Ask(asked, request))
    }

    fn peer(&self, peer: Peer) -> Result<Judged<'a>, ResultCode> {
        let map = peer.map;
        // E-1
        if map.protocol == 0 || peer.remote_port == 0 {
            return Err(ResultCode::MalformedRequest);
        }
        let port = InternalPort::new(map.internal_port).ok_or(ResultCode::MalformedRequest)?;
        let protocol = Protocol::from_number(map.protocol).ok_or(ResultCode::UnsuppProtocol)?;
        let wishes = of_peer(self.request, self.settings)?;
        let inside = self.inside(&wishes, protocol, port);
        let remote = remote(&peer, inside.addr).ok_or(ResultCode::MalformedRequest)?;
        let request = match inside.addr.to_ipv4_mapped() {
            Some(server) => self.outbound(&inside, peer, server, remote, &wishes)?,
            None => self.pinhole(&inside, map, Some(remote), true, &wishes)?,
        };
        let asked = Asked {
            wish: Wish::Peer,
            via: Via::Ipv4,
            filtered: false,
        };
        Ok(Judged::Ask(asked, request))
    }

    fn inside(&self, wishes: &Wishes<'_>, protocol: Protocol, port: InternalPort) -> Inside {
        let client = match wishes.third_party {
            None => self.caller.client(),
            Some(addr) => Client {
                addr: addr.to_canonical(),
                mac: None,
            },
        };
        Inside {
            client,
            addr: super::in_ipv6(client.addr),
            protocol,
            port,
        }
    }

    /// RFC 6887 §10: who suggests an IPv4 address, be it all zeros, wants to be reached by IPv4.
    /// Where no IPv4 is carried the suggestion does no harm (RFC 6887 §11.3).
    const fn via(&self, map: Map) -> Via {
        let by_ipv4 = map.external_addr.to_ipv4_mapped().is_some();
        if by_ipv4 && self.snapshot.carriers().ipv4.is_some() {
            Via::Ipv4
        } else {
            Via::Ipv6
        }
    }

    fn open(
        &self,
        inside: &Inside,
        map: Map,
        server: Ipv4Addr,
        via: Via,
        exactly: bool,
        wishes: &Wishes<'_>,
    ) -> Result<mapping::Request, ResultCode> {
        let external = match (exactly, ExternalPort::new(map.external_port)) {
            (true, Some(port)) => {
                // RFC 6887 §11.3: the suggested address counts as well
                let own = self.own(server, via);
                if own.is_some_and(|own| !suits(map.external_addr, own)) {
                    return Err(ResultCode::CannotProvideExternal);
                }
                External::Required(port)
            }
            (_, port) => External::Suggested(port),
        };
        let first = MapRequest {
            external,
            lifetime: Some(self.lifetime()),
            via,
            filters: wishes.filters.clone(),
            memo: Some(self.client(map, server, via, wishes).memo()),
            ..map_request(inside, map, wishes)
        };
        let more = wishes.port_set.filter(|set| set.size > 1);
        Ok(match more {
            Some(set) => mapping::Request::MapSet(MapSetRequest {
                first,
                size: NonZeroU16::new(set.size).unwrap_or(NonZeroU16::MIN),
                parity: set.parity,
            }),
            None => mapping::Request::Map(first),
        })
    }

    /// PEER of an IPv4 client: an outbound mapping at the shared IPv4 address.
    fn outbound(
        &self,
        inside: &Inside,
        peer: Peer,
        server: Ipv4Addr,
        remote: RemoteFilter,
        wishes: &Wishes<'_>,
    ) -> Result<mapping::Request, ResultCode> {
        let map = peer.map;
        let found = self.outbound_of(inside, server);
        let learns = found.is_some_and(|mapping| !mapping.peer);
        let own = self.own(server, Via::Ipv4);
        // RFC 6887 §12.1: what is suggested is meant
        if !learns && own.is_some_and(|own| !suits(map.external_addr, own)) {
            return Err(ResultCode::CannotProvideExternal);
        }
        let left = found
            .and_then(|mapping| mapping.expires)
            .map(|expiry| self.snapshot.remaining(expiry, self.now));
        let common = MapRequest {
            // RFC 6887 §12.1: PEER never cuts short
            lifetime: Some(self.lifetime().max(left.unwrap_or_default())),
            via: Via::Ipv4,
            memo: Some(
                memo::Client {
                    peer: Some((peer.remote_port, peer.remote_addr)),
                    ..self.client(map, server, Via::Ipv4, wishes)
                }
                .memo(),
            ),
            ..map_request(inside, map, wishes)
        };
        // RFC 6887 §12.3: of a mapping that MAP made, the client learns and prolongs, whatever it
        // suggests
        if learns {
            return Ok(mapping::Request::Map(common));
        }
        let external = match ExternalPort::new(map.external_port) {
            Some(port) => External::Required(port),
            None => External::Suggested(None),
        };
        Ok(mapping::Request::Map(MapRequest {
            external,
            peer: true,
            filters: FilterChange {
                clear: false,
                add: vec![remote],
            },
            ..common
        }))
    }

    /// Returns what leads from an internal port to the shared IPv4 address; the inbound mapping
    /// comes first.
    fn outbound_of(&self, inside: &Inside, server: Ipv4Addr) -> Option<&Mapping> {
        self.snapshot
            .mappings_by_internal(server, inside.protocol, inside.port)
            .filter(|mapping| mapping.via.has_ipv4())
            .min_by_key(|mapping| mapping.peer)
            .map(|mapping| &**mapping)
    }

    /// MAP and PEER of an IPv6 client: nothing is translated.
    fn pinhole(
        &self,
        inside: &Inside,
        map: Map,
        remote: Option<RemoteFilter>,
        exactly: bool,
        wishes: &Wishes<'_>,
    ) -> Result<mapping::Request, ResultCode> {
        if !self.snapshot.carriers().pinholes {
            return Err(ResultCode::NoResources);
        }
        if !is_global(inside.addr) {
            return Err(ResultCode::NotAuthorized);
        }
        let other_port = ![0, map.internal_port].contains(&map.external_port);
        if exactly && (other_port || !suits(map.external_addr, inside.addr)) {
            return Err(ResultCode::CannotProvideExternal);
        }
        let tuple = tuple(inside, remote);
        let left = self
            .snapshot
            .pinhole_by_tuple(&tuple)
            .filter(|_| remote.is_some())
            .map(|known| self.snapshot.remaining(known.expires, self.now));
        Ok(mapping::Request::Pinhole(PinholeRequest {
            subject: Subject::Client(inside.client),
            requester: Requester::Pcp,
            tuple,
            filters: wishes.filters.clone(),
            lifetime: self.lifetime().max(left.unwrap_or_default()),
            nonce: Some(map.nonce),
            description: wishes.description.map(str::to_owned),
        }))
    }

    /// M-6: the core knows the least and the most.
    fn lifetime(&self) -> Duration {
        Duration::from_secs(self.request.lifetime.into())
    }

    /// Returns what is kept of who asks.
    fn client(&self, map: Map, server: Ipv4Addr, via: Via, wishes: &Wishes<'_>) -> memo::Client {
        let set = wishes.port_set.filter(|set| set.size > 1);
        memo::Client {
            nonce: map.nonce,
            source: self.caller.source,
            local: self.caller.local,
            told: self.own(server, via).unwrap_or(Ipv6Addr::UNSPECIFIED),
            by_ipv4: via.has_ipv4(),
            third_party: wishes.third_party.is_some(),
            filtered: wishes.filtered,
            exact: wishes
                .exactly
                .then_some((map.external_port, map.external_addr)),
            port_set: set.map(|set| (set.size, set.parity)),
            peer: None,
        }
    }

    /// Returns where remotes reach a server.
    fn own(&self, server: Ipv4Addr, via: Via) -> Option<Ipv6Addr> {
        match via {
            Via::Ipv4 => {
                let shared = self.snapshot.carriers().ipv4;
                shared.map(|addr| addr.to_ipv6_mapped())
            }
            Via::Both | Via::Ipv6 => self.snapshot.external_address(server),
        }
    }
}

/// What every MAP and PEER of an IPv4 client has in common.
fn map_request(inside: &Inside, map: Map, wishes: &Wishes<'_>) -> MapRequest {
    MapRequest {
        subject: Subject::Client(inside.client),
        requester: Requester::Pcp,
        protocol: inside.protocol,
        internal_port: inside.port,
        external: External::Suggested(None),
        lifetime: None,
        nonce: Some(map.nonce),
        via: Via::Ipv6,
        peer: false,
        filters: FilterChange::default(),
        description: wishes.description.map(str::to_owned),
        memo: None,
    }
}

fn close(inside: &Inside, map: Map, set: Option<PortSet>) -> mapping::Request {
    let (protocol, port, nonce) = (inside.protocol, inside.port, Some(map.nonce));
    let target = match set.and_then(|set| NonZeroU16::new(set.size)) {
        Some(size) => UnmapTarget::InternalSet(protocol, port, size, nonce),
        None => UnmapTarget::Internal(protocol, port, nonce),
    };
    mapping::Request::Unmap(UnmapRequest {
        subject: Subject::Client(inside.client),
        requester: Requester::Pcp,
        target,
    })
}

fn close_pinhole(inside: &Inside, map: Map) -> mapping::Request {
    mapping::Request::ClosePinhole(ClosePinholeRequest {
        subject: Subject::Client(inside.client),
        requester: Requester::Pcp,
        target: PinholeTarget::Tuple(tuple(inside, None), Some(map.nonce)),
    })
}

const fn tuple(inside: &Inside, remote: Option<RemoteFilter>) -> PinholeTuple {
    PinholeTuple {
        addr: inside.addr,
        protocol: inside.protocol,
        port: inside.port,
        remote,
    }
}

/// Returns the one remote of PEER, if the client can mean it (RFC 6887 §10: it has the family of
/// the client; §12.3: an address that no packet goes to is malformed).
fn remote(peer: &Peer, inside: Ipv6Addr) -> Option<RemoteFilter> {
    let addr = peer.remote_addr;
    let is_possible = match (addr.to_ipv4_mapped(), inside.to_ipv4_mapped()) {
        (Some(remote), Some(_)) => {
            let nobody = remote.is_unspecified() || remote.is_loopback();
            !(nobody || remote.is_multicast() || remote.is_broadcast())
        }
        (None, None) => !(addr.is_unspecified() || addr.is_loopback() || addr.is_multicast()),
        (Some(_), None) | (None, Some(_)) => false,
    };
    let prefix = Prefix6::new(addr, 128).ok()?;
    let port = NonZeroU16::new(peer.remote_port);
    is_possible.then_some(RemoteFilter { prefix, port })
}

/// Tells whether a suggested address is none at all (of either family) or our own.
fn suits(suggested: Ipv6Addr, own: Ipv6Addr) -> bool {
    suggested.is_unspecified()
        || suggested.to_ipv4_mapped() == Some(Ipv4Addr::UNSPECIFIED)
        || suggested == own
}

/// Tells whether remotes can send to an address at all (RFC 4291 §2.4, RFC 4193).
const fn is_global(addr: Ipv6Addr) -> bool {
    !(addr.is_unspecified()
        || addr.is_loopback()
        || addr.is_multicast()
        || addr.is_unicast_link_local()
        || addr.is_unique_local())
}
