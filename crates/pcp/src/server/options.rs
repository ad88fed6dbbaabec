//! The options of a request, in their order (RFC 6887 §7.3 and §13).

use std::net::Ipv6Addr;
use std::num::NonZeroU16;

use mapping::{FilterChange, Prefix6, RemoteFilter, Snapshot};

use super::Settings;
use super::answer::room_for_prefixes;
use crate::wire::{Filter, PcpOption, PortSet, Request, ResultCode};

/// What the options of MAP and PEER ask.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes<'a> {
    /// `PREFER_FAILURE`.
    pub(super) exactly: bool,
    /// Whether there was a FILTER.
    pub(super) filtered: bool,
    pub(super) filters: FilterChange,
    pub(super) third_party: Option<Ipv6Addr>,
    pub(super) description: Option<&'a str>,
    pub(super) prefix64: bool,
    pub(super) port_set: Option<PortSet>,
}

/// Processes the options of MAP; the first error counts (P-5, P-6).
pub(super) fn of_map<'a>(
    request: &Request<'a>,
    external_port: u16,
    settings: &Settings,
    snapshot: &Snapshot,
) -> Result<Wishes<'a>, ResultCode> {
    let deletes = request.lifetime == 0;
    let mut wishes = Wishes::default();
    for option in request.options().flatten() {
        match option {
            PcpOption::PreferFailure => {
                let in_vain = deletes || wishes.exactly || external_port == 0;
                if in_vain || wishes.port_set.is_some() {
                    return Err(ResultCode::MalformedOption);
                }
                wishes.exactly = true;
            }
            PcpOption::Filter(_) if deletes => return Err(ResultCode::MalformedOption),
            PcpOption::Filter(filter) => {
                wishes.filtered = true;
                add_filter(&mut wishes.filters, filter, request, snapshot)?;
            }
            PcpOption::PortSet(set) => {
                // RFC 7753 §4.2
                if wishes.exactly || wishes.port_set.replace(set).is_some() {
                    return Err(ResultCode::MalformedOption);
                }
            }
            PcpOption::Prefix64(_) if std::mem::replace(&mut wishes.prefix64, true) => {
                return Err(ResultCode::MalformedOption);
            }
            other => of_both(&mut wishes, request, other, settings)?,
        }
    }
    fits(request, snapshot)?;
    Ok(wishes)
}

/// Processes the options of PEER.
pub(super) fn of_peer<'a>(
    request: &Request<'a>,
    settings: &Settings,
) -> Result<Wishes<'a>, ResultCode> {
    let mut wishes = Wishes::default();
    for option in request.options().flatten() {
        match option {
            // E-1: neither required nor allowed (RFC 6887 §12.1)
            PcpOption::PreferFailure => return Err(ResultCode::MalformedRequest),
            PcpOption::Filter(_) => return Err(ResultCode::MalformedOption),
            // not valid for PEER, and may be ignored
            PcpOption::Prefix64(_) | PcpOption::PortSet(_) => {}
            other => of_both(&mut wishes, request, other, settings)?,
        }
    }
    Ok(wishes)
}

/// Processes the options of ANNOUNCE: those of MAP and PEER make no sense with it
/// (RFC 6887 §13), and it can ask for prefixes (RFC 7225 §4.1).
pub(super) fn of_announce(request: &Request<'_>, snapshot: &Snapshot) -> Result<(), ResultCode> {
    let mut prefix64 = false;
    for option in request.options().flatten() {
        match option {
            PcpOption::Prefix64(_) if std::mem::replace(&mut prefix64, true) => {
                return Err(ResultCode::MalformedOption);
            }
            PcpOption::Unknown { .. } if !option.is_optional() => {
                return Err(ResultCode::UnsuppOption);
            }
            other if !other.is_optional() => return Err(ResultCode::MalformedOption),
            _ => {}
        }
    }
    fits(request, snapshot)
}

/// Processes what is the same for MAP and PEER.
fn of_both<'a>(
    wishes: &mut Wishes<'a>,
    request: &Request<'_>,
    option: PcpOption<'a>,
    settings: &Settings,
) -> Result<(), ResultCode> {
    match option {
        PcpOption::ThirdParty(addr) if addr == request.client => Err(ResultCode::MalformedRequest),
        // O-1: unless the operator says that everybody on the LAN may act for everybody
        PcpOption::ThirdParty(_) if !settings.third_party => Err(ResultCode::UnsuppOption),
        PcpOption::ThirdParty(addr) => match wishes.third_party.replace(addr) {
            Some(_) => Err(ResultCode::MalformedOption),
            None => Ok(()),
        },
        PcpOption::Description(text) => match wishes.description.replace(text) {
            Some(_) => Err(ResultCode::MalformedOption),
            None => Ok(()),
        },
        // RFC 7220 §3: a text that is none is passed over, not refused
        PcpOption::Invalid { .. } if is_description(&option) => Ok(()),
        PcpOption::Invalid { .. } => Err(ResultCode::MalformedOption),
        PcpOption::Unknown { .. } if !option.is_optional() => Err(ResultCode::UnsuppOption),
        PcpOption::PreferFailure
        | PcpOption::Filter(_)
        | PcpOption::Prefix64(_)
        | PcpOption::PortSet(_)
        | PcpOption::Unknown { .. } => Ok(()),
    }
}

/// Adds a filter, or takes away those that stand before it (RFC 6887 §13.3).
// DEVIATION RFC 6887 §13.3: a filter of an IPv4 client may name an IPv6 prefix because its
// remotes are IPv6 hosts; one that names an IPv4 prefix is for the shared IPv4 address alone, and
// cannot be created where none is carried.
fn add_filter(
    filters: &mut FilterChange,
    filter: Filter,
    request: &Request<'_>,
    snapshot: &Snapshot,
) -> Result<(), ResultCode> {
    let Some(host_bits) = 128_u32.checked_sub(filter.prefix_len.into()) else {
        return Err(ResultCode::MalformedOption);
    };
    let Some(mask) = u128::MAX.checked_shl(host_bits) else {
        *filters = FilterChange {
            clear: true,
            add: Vec::new(),
        };
        return Ok(());
    };
    let by_ipv4 = request.client.to_ipv4_mapped().is_some();
    let of_ipv4 = filter.remote_addr.to_ipv4_mapped().is_some();
    if of_ipv4 && !(by_ipv4 && snapshot.carriers().ipv4.is_some()) {
        return Err(ResultCode::ExcessiveRemotePeers);
    }
    let network = u128::from(filter.remote_addr) & mask;
    let prefix = Prefix6::new(network.into(), filter.prefix_len);
    filters.add.push(RemoteFilter {
        prefix: prefix.map_err(|_| ResultCode::MalformedOption)?,
        port: NonZeroU16::new(filter.remote_port),
    });
    Ok(())
}

/// P-7: an answer carries the options that are processed, and at least one prefix where one is
/// asked for; the prefix alone may make it longer than the question was.
fn fits(request: &Request<'_>, snapshot: &Snapshot) -> Result<(), ResultCode> {
    let is_asked = |option: PcpOption<'_>| matches!(option, PcpOption::Prefix64(_));
    let asks = request.options().flatten().any(is_asked);
    let has_prefix = snapshot.generations().next().is_some();
    if asks && has_prefix && room_for_prefixes(request) == 0 {
        return Err(ResultCode::MalformedRequest);
    }
    Ok(())
}

fn is_description(option: &PcpOption<'_>) -> bool {
    option.code() == PcpOption::Description("").code()
}
