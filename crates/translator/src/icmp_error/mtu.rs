//! Path MTU from one family to the other (RFC 7915 §4.2, §5.2).

use crate::config::Links;
use crate::wire::ipv6;

/// Returns the MTU of a Packet Too Big for one of a Fragmentation Needed about a packet that was
/// `total_len` long.
pub(super) fn four_to_six(mtu: u32, total_len: usize, links: Links) -> u32 {
    // RFC 7915 §4.2 includes the plateau as it is: its floor is that of IPv6.
    let mtu = match mtu {
        0 => plateau(total_len),
        mtu => mtu.saturating_add(LONGER),
    };
    mtu.min(links.wan_mtu.into())
        .min(links.four_as_six().into())
        .max(ipv6::MIN_MTU.into())
}

/// Returns the MTU of a Fragmentation Needed for one of a Packet Too Big about a packet with or
/// without a Fragment Header.
pub(super) fn six_to_four(mtu: u32, has_fragment_header: bool, links: Links) -> u16 {
    let longer = if has_fragment_header {
        LONGER + FRAGMENT_HEADER
    } else {
        LONGER
    };
    // DEVIATION RFC 7915 §5.2: less than the minimum of IPv6 counts as that, because RFC 8201 §4
    // lets nobody believe it, and who forges it would have a server send crumbs.
    let mtu = mtu.max(ipv6::MIN_MTU.into()) - longer;
    u16::try_from(mtu)
        .unwrap_or(u16::MAX)
        .min(links.lan_mtu)
        .min(links.six_as_four())
}

/// Returns what is likely when a router does not know RFC 1191: the greatest plateau below the
/// length of the packet that was too long, if it is an MTU of IPv6.
fn plateau(total_len: usize) -> u32 {
    let below = |plateau: &&u16| usize::from(**plateau) < total_len;
    let found = PLATEAUS.iter().find(below).copied();
    found.unwrap_or(ipv6::MIN_MTU).into()
}

/// RFC 1191 §7.1, as far as they are at least 1280.
const PLATEAUS: [u16; 7] = [65_535, 32_000, 17_914, 8166, 4352, 2002, 1492];

/// An IPv6 header is that much longer than an IPv4 header.
const LONGER: u32 = 20;

const FRAGMENT_HEADER: u32 = 8;
