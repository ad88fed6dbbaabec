//! Translation by explicit address mappings, without sessions (RFC 7757, RFC 7915 §6).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::alone::Alone;
use crate::bib::Bib;
use crate::martian::is_host_v4;
use crate::nsps::Nsps;
use crate::pref64::Pref64;
use crate::verdict::DropReason;

/// The addresses of a packet after its translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair<A> {
    pub(crate) src: A,
    pub(crate) dst: A,
}

/// How the IPv4 source of a packet becomes an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// By a row of the table, if there is one.
    Mapped,
    /// By the prefix only, because the packet came from IPv6 (RFC 7757 §4.2.1).
    Hairpinned,
}

/// Returns the IPv4 addresses of a packet whose addresses are both mapped, `None` when a session
/// has to translate it.
pub(crate) fn stateless_six(
    alone: &Alone,
    nsps: &Nsps,
    bib: &Bib,
    (src, dst): (Ipv6Addr, Ipv6Addr),
) -> Result<Option<Pair<Ipv4Addr>>, DropReason> {
    let pool_is_empty = bib.pool_is_empty();
    if alone.maps.is_empty() && !pool_is_empty {
        return Ok(None);
    }
    let (mapped_src, mapped_dst) = (alone.maps.four(src), alone.maps.four(dst));
    if mapped_src.is_none() && mapped_dst.is_none() && !pool_is_empty {
        return Ok(None);
    }
    let src = match mapped_src {
        Some(src) => src,
        None => match embedded(nsps, src)? {
            Some(src) => src,
            None if pool_is_empty => return Err(DropReason::NotMapped),
            None => return Ok(None),
        },
    };
    let dst = match mapped_dst {
        Some(dst) => dst,
        None => {
            let dst = embedded(nsps, dst)?.ok_or(DropReason::NotOurs)?;
            // To a mapped address it goes on in IPv4, since the host of a map may be there.
            if !alone.hairpin && bib.contains(dst) {
                return Err(DropReason::Hairpin);
            }
            dst
        }
    };
    if !is_host_v4(src) {
        return Err(DropReason::IllegalSource);
    }
    if !is_host_v4(dst) {
        return Err(DropReason::NotOurs);
    }
    Ok(Some(Pair { src, dst }))
}

/// As [`stateless_six`], the other way.
pub(crate) fn stateless_four(
    alone: &Alone,
    nsps: &Nsps,
    bib: &Bib,
    (src, dst): (Ipv4Addr, Ipv4Addr),
    source: Source,
) -> Result<Option<Pair<Ipv6Addr>>, DropReason> {
    let pool_is_empty = bib.pool_is_empty();
    if alone.maps.is_empty() && !pool_is_empty {
        return Ok(None);
    }
    let mapped_src = match source {
        Source::Mapped => alone.maps.six(src),
        Source::Hairpinned => None,
    };
    let mapped_dst = alone.maps.six(dst);
    if mapped_dst.is_none() && (bib.contains(dst) || (mapped_src.is_none() && !pool_is_empty)) {
        return Ok(None);
    }
    if !is_host_v4(src) {
        return Err(DropReason::IllegalSource);
    }
    if !is_host_v4(dst) {
        return Err(DropReason::NotOurs);
    }
    // Several prefixes may embed one address; the first one stands for it.
    let first = nsps.iter().next().map(|(_, prefix)| prefix);
    let src = match mapped_src {
        Some(src) => src,
        None => embed(first, src)?,
    };
    let dst = match mapped_dst {
        Some(dst) => dst,
        None => embed(first, dst)?,
    };
    Ok(Some(Pair { src, dst }))
}

fn embedded(nsps: &Nsps, v6: Ipv6Addr) -> Result<Option<Ipv4Addr>, DropReason> {
    let Some((id, v4)) = nsps.extract(v6) else {
        return Ok(None);
    };
    match nsps.get(id) {
        Some(prefix) if prefix.may_represent(v4) => Ok(Some(v4)),
        _ => Err(DropReason::NotGlobal),
    }
}

fn embed(prefix: Option<Pref64>, v4: Ipv4Addr) -> Result<Ipv6Addr, DropReason> {
    let prefix = prefix.ok_or(DropReason::NotMapped)?;
    if prefix.may_represent(v4) {
        Ok(prefix.embed(v4))
    } else {
        Err(DropReason::NotGlobal)
    }
}
