//! From a request that can be read to what the writer is asked (RFC 6887 §8.2, §11.3, §13).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use mapping::{
    Client, External, ExternalPort, FilterChange, InternalPort, MapRequest, Protocol, Requester,
    Snapshot, Subject, UnmapRequest, UnmapTarget, Via,
};

use crate::wire::{Body, Map, PcpOption, Request, ResultCode};

/// What is remembered of a MAP request while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) map: Map,
    pub(super) wish: Wish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Lifetime 0.
    Close,
    /// Any external port will do.
    Open,
    /// With `PREFER_FAILURE`.
    OpenExactly,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Judged {
    /// ANNOUNCE is answered.
    Announce,
    /// The writer decides.
    Ask(Asked, Box<mapping::Request>),
    /// What shall be deleted cannot exist.
    NothingToClose(Map),
    /// It is an error.
    Refused(ResultCode),
}

/// Judges a request that can be read.
pub(super) fn judge(request: &Request<'_>, source: Ipv4Addr, snapshot: &Snapshot) -> Judged {
    // P-4: all 96 bits of the prefix count
    if request.client != source.to_ipv6_mapped() {
        return Judged::Refused(ResultCode::AddressMismatch);
    }
    // RFC 6887 §7.3: first the structure of all, then each in its order
    if request.options().any(|option| option.is_err()) {
        return Judged::Refused(ResultCode::MalformedOption);
    }
    let judged = match request.body {
        Body::Announce => announce_options(request).map(|()| Judged::Announce),
        Body::Map(map) => judge_map(request, map, source, snapshot),
    };
    judged.unwrap_or_else(Judged::Refused)
}

fn judge_map(
    request: &Request<'_>,
    map: Map,
    source: Ipv4Addr,
    snapshot: &Snapshot,
) -> Result<Judged, ResultCode> {
    // M-1
    if map.protocol == 0 && map.internal_port != 0 {
        return Err(ResultCode::MalformedRequest);
    }
    let ports = Protocol::from_number(map.protocol).zip(InternalPort::new(map.internal_port));
    // all protocols, all ports, and protocols that the translator does not carry
    if request.lifetime != 0 && ports.is_none() {
        return Err(ResultCode::UnsuppProtocol);
    }
    let wish = map_options(request, map)?;
    let Some((protocol, internal_port)) = ports else {
        return Ok(Judged::NothingToClose(map));
    };
    let external = match (wish, ExternalPort::new(map.external_port)) {
        (Wish::OpenExactly, Some(port)) => {
            // RFC 6887 §11.3: the suggested address counts as well
            let own = snapshot.external_address(source);
            if own.is_some_and(|own| !suits(map.external_addr, own)) {
                return Err(ResultCode::CannotProvideExternal);
            }
            External::Required(port)
        }
        (Wish::Open | Wish::OpenExactly | Wish::Close, port) => External::Suggested(port),
    };
    let subject = Subject::Client(Client {
        addr: source.into(),
        mac: None,
    });
    let requester = Requester::Pcp;
    let nonce = Some(map.nonce);
    let request = if wish == Wish::Close {
        mapping::Request::Unmap(UnmapRequest {
            subject,
            requester,
            target: UnmapTarget::Internal(protocol, internal_port, nonce),
        })
    } else {
        mapping::Request::Map(MapRequest {
            subject,
            requester,
            protocol,
            internal_port,
            external,
            lifetime: Some(Duration::from_secs(request.lifetime.into()).max(SHORTEST)),
            nonce,
            via: Via::Ipv6,
            peer: false,
            filters: FilterChange::default(),
            description: String::new(),
        })
    };
    Ok(Judged::Ask(Asked { map, wish }, Box::new(request)))
}

/// Processes the options of MAP in their order; the first error counts (P-5, P-6).
fn map_options(request: &Request<'_>, map: Map) -> Result<Wish, ResultCode> {
    let deletes = request.lifetime == 0;
    let mut wish = if deletes { Wish::Close } else { Wish::Open };
    for option in request.options().flatten() {
        match option {
            PcpOption::ThirdParty(None) => return Err(ResultCode::MalformedOption),
            PcpOption::ThirdParty(Some(addr)) if addr == request.client => {
                return Err(ResultCode::MalformedRequest);
            }
            // O-1: nobody opens ports for others
            PcpOption::ThirdParty(Some(_)) => return Err(ResultCode::UnsuppOption),
            PcpOption::PreferFailure { len } => {
                let again = wish == Wish::OpenExactly;
                if len != 0 || deletes || again || map.external_port == 0 {
                    return Err(ResultCode::MalformedOption);
                }
                wish = Wish::OpenExactly;
            }
            PcpOption::Filter(_) if deletes => return Err(ResultCode::MalformedOption),
            PcpOption::Filter(_) => return Err(ResultCode::UnsuppOption),
            PcpOption::Unknown { code, .. } if code < OPTIONAL => {
                return Err(ResultCode::UnsuppOption);
            }
            PcpOption::Unknown { .. } => {}
        }
    }
    Ok(wish)
}

/// ANNOUNCE has no option of its own yet; those of MAP make no sense with it.
fn announce_options(request: &Request<'_>) -> Result<(), ResultCode> {
    for option in request.options().flatten() {
        match option {
            PcpOption::ThirdParty(_) | PcpOption::PreferFailure { .. } | PcpOption::Filter(_) => {
                return Err(ResultCode::MalformedOption);
            }
            PcpOption::Unknown { code, .. } if code < OPTIONAL => {
                return Err(ResultCode::UnsuppOption);
            }
            PcpOption::Unknown { .. } => {}
        }
    }
    Ok(())
}

/// Tells whether a suggested address is none at all (of either family) or our own.
fn suits(suggested: Ipv6Addr, own: Ipv6Addr) -> bool {
    suggested.is_unspecified()
        || suggested.to_ipv4_mapped() == Some(Ipv4Addr::UNSPECIFIED)
        || suggested == own
}

/// RFC 6887 §7.3: from here on an option may be ignored.
const OPTIONAL: u8 = 128;

/// RFC 6887 §15: the least lifetime.
const SHORTEST: Duration = Duration::from_secs(120);
