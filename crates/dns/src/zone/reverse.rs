//! Finds a name in the reverse zones (RFC 1035 §3.5, RFC 3596 §2.5).

use std::net::Ipv4Addr;
use std::sync::Arc;

use hickory_proto::rr::Name;
use mapping::{Host, Snapshot};

use super::{Node, Place, name_server};

/// Finds a name in `ip6.arpa` of the preferred NSP.
pub(super) fn locate_v6(snapshot: &Snapshot, home: &Name, name: &Name) -> Option<Place> {
    let labels = below(name, [b"ip6", b"arpa"])?;
    let nsp = snapshot.preferred()?.nsp.prefix().addr();
    let prefix = nibbles(u128::from(nsp));
    let mut digits = labels.iter().map(|label| nibble(label));
    for wanted in prefix.iter().take(NSP_NIBBLES) {
        if digits.next()?? != *wanted {
            return None;
        }
    }
    let apex = name.trim_to(NSP_NIBBLES + 2);
    let node = match digits.collect::<Option<Vec<u8>>>() {
        Some(digits) => v4_node(snapshot, home, &digits, 4, true),
        None => Node::Absent,
    };
    Some(Place { apex, node })
}

/// Finds a name in `in-addr.arpa` of the LAN: the zone of a /16, or else those of the /24 that
/// the LAN touches.
pub(super) fn locate_v4(snapshot: &Snapshot, home: &Name, name: &Name) -> Option<Place> {
    let labels = below(name, [b"in-addr", b"arpa"])?;
    let site = snapshot.site();
    let cut = if site.prefix_len() == 16 { 2 } else { 3 };
    let mut octets = [0; 4];
    for (octet, label) in octets.iter_mut().zip(labels.iter().take(cut)) {
        *octet = decimal(label)?;
    }
    let [a, b, c, _] = site.network().octets();
    let here = match octets {
        [x, y, z, _] if cut == 3 => site.contains([x, y, z, 0].into()) || [x, y, z] == [a, b, c],
        [x, y, ..] => [x, y] == [a, b],
    };
    if labels.len() < cut || !here {
        return None;
    }
    let apex = name.trim_to(cut + 2);
    let node = match labels
        .iter()
        .map(|label| decimal(label))
        .collect::<Option<Vec<u8>>>()
    {
        Some(all) if all.len() == cut => Node::Apex,
        Some(all) => v4_node(snapshot, home, &all, 8, false),
        None => Node::Absent,
    };
    Some(Place { apex, node })
}

/// Returns what stands at the leading digits of an IPv4 address, each of `bits` bits.
fn v4_node(snapshot: &Snapshot, home: &Name, digits: &[u8], bits: usize, embedded: bool) -> Node {
    let known = digits.len() * bits;
    if known == 0 {
        return Node::Apex;
    }
    if known > 32 {
        return Node::Absent;
    }
    let leading = digits
        .iter()
        .fold(0_u32, |all, digit| all << bits | u32::from(*digit));
    if known < 32 {
        let beneath = |addr: Ipv4Addr| u32::from(addr) >> (32 - known) == leading;
        let ours = !embedded && beneath(snapshot.site().gateway());
        let theirs = snapshot
            .hosts()
            .any(|host| host.lease.is_some() && beneath(host.addr));
        return if ours || theirs {
            Node::Empty
        } else {
            Node::Absent
        };
    }
    let addr = Ipv4Addr::from(leading);
    if !embedded && addr == snapshot.site().gateway() {
        return Node::Pointer {
            target: name_server(home),
            embedded,
        };
    }
    let here = |host: &&Arc<Host>| host.lease.is_some();
    let label = snapshot
        .host_by_addr(addr)
        .filter(here)
        .map(|host| host.name.as_str());
    match label.and_then(|label| home.prepend_label(label).ok()) {
        Some(target) => Node::Pointer { target, embedded },
        None => Node::Absent,
    }
}

/// Returns the labels below a suffix, the nearest to it first.
fn below<'a>(name: &'a Name, suffix: [&[u8]; 2]) -> Option<Vec<&'a [u8]>> {
    let mut labels: Vec<_> = name.iter().collect();
    labels.reverse();
    let [last, before, ..] = labels.as_slice() else {
        return None;
    };
    let [wanted_before, wanted_last] = suffix;
    let fits = last.eq_ignore_ascii_case(wanted_last) && before.eq_ignore_ascii_case(wanted_before);
    fits.then(|| labels.split_off(2))
}

fn nibbles(bits: u128) -> [u8; 32] {
    std::array::from_fn(|index| {
        let shifted = bits >> (124 - 4 * index) & 0xf;
        u8::try_from(shifted).unwrap_or_default()
    })
}

fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit] => char::from(*digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok()),
        _ => None,
    }
}

fn decimal(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let value: u8 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

/// A /96 in nibbles.
const NSP_NIBBLES: usize = 24;
