//! A UDP datagram in an IP packet, as strict as the kernel's own UDP.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;

use crate::packet::checksum::{finish, sum};
use crate::packet::ipv4::{self, UDP};

/// Whether the checksum of a datagram can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    /// The hardware verified it, or it never left this machine (a guest, a namespace) and is
    /// not written yet.
    Known,
    /// It is to be verified.
    Unknown,
}

/// What a packet carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Udp {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// Where the payload lies in the packet.
    pub(super) payload: Range<usize>,
}

/// Why a packet is no datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// The UDP or IPv4 checksum is wrong, or absent over IPv6.
    Checksum,
    /// No header of IP, a fragment, or something else than UDP.
    Ip,
    /// The UDP header is cut or lies about its length.
    Length,
    /// A source that is no host.
    Source,
}

/// Reads a packet that begins with its IP header; what follows the packet is padding.
pub(super) fn parse(packet: &[u8], checksum: Checksum, ifindex: u32) -> Result<Udp, Malformed> {
    let (header, from, to) = match packet.first().map(|first| first >> 4) {
        Some(4) => parse_v4(packet)?,
        Some(6) => parse_v6(packet)?,
        _ => return Err(Malformed::Ip),
    };
    let udp = packet.get(header.clone()).ok_or(Malformed::Ip)?;
    let fields = udp.first_chunk::<8>().ok_or(Malformed::Length)?;
    let [s0, s1, d0, d1, l0, l1, c0, c1] = *fields;
    let len = u16::from_be_bytes([l0, l1]);
    let datagram = udp.get(..usize::from(len)).ok_or(Malformed::Length)?;
    let payload_len = datagram.len().checked_sub(8).ok_or(Malformed::Length)?;
    let verified = match (checksum, u16::from_be_bytes([c0, c1]), from) {
        (Checksum::Known, ..) => true,
        // RFC 768: none; RFC 8200 §8.1 forbids that
        (Checksum::Unknown, 0, IpAddr::V4(_)) => true,
        (Checksum::Unknown, 0, IpAddr::V6(_)) => false,
        (Checksum::Unknown, ..) => is_whole(datagram, from, to, len),
    };
    if !verified {
        return Err(Malformed::Checksum);
    }
    let start = header.start.saturating_add(8);
    Ok(Udp {
        source: socket(from, [s0, s1], ifindex),
        destination: socket(to, [d0, d1], ifindex),
        payload: start..start.saturating_add(payload_len),
    })
}

type Addressed = (Range<usize>, IpAddr, IpAddr);

fn parse_v4(packet: &[u8]) -> Result<Addressed, Malformed> {
    let header = ipv4::Header::parse(packet).ok_or(Malformed::Ip)?;
    let whole = packet.get(..header.udp.start).ok_or(Malformed::Ip)?;
    if finish(sum(0, whole)) != 0 {
        return Err(Malformed::Checksum);
    }
    let from = header.source;
    if from.is_multicast() || from.is_broadcast() || from.is_loopback() {
        return Err(Malformed::Source);
    }
    Ok((header.udp, from.into(), header.destination.into()))
}

fn parse_v6(packet: &[u8]) -> Result<Addressed, Malformed> {
    let header = packet.first_chunk::<40>().ok_or(Malformed::Ip)?;
    let (fields, addrs) = header.split_at(8);
    let &[_, _, _, _, l0, l1, next, _] = fields else {
        return Err(Malformed::Ip);
    };
    let (from, to) = addrs.split_at(16);
    let addr = |bytes: &[u8]| {
        bytes
            .first_chunk::<16>()
            .map(|bytes| Ipv6Addr::from(*bytes))
    };
    let (from, to) = addr(from).zip(addr(to)).ok_or(Malformed::Ip)?;
    let end = usize::from(u16::from_be_bytes([l0, l1])).saturating_add(40);
    if next != UDP || end > packet.len() {
        return Err(Malformed::Ip);
    }
    if from.is_multicast() || from.is_unspecified() || from.is_loopback() {
        return Err(Malformed::Source);
    }
    Ok((40..end, from.into(), to.into()))
}

/// Adds up the datagram with its pseudo-header (RFC 768, RFC 8200 §8.1); the sums of both
/// families are the same.
fn is_whole(datagram: &[u8], from: IpAddr, to: IpAddr, len: u16) -> bool {
    let mut total = sum(0, datagram);
    for addr in [from, to] {
        total = match addr {
            IpAddr::V4(addr) => sum(total, &addr.octets()),
            IpAddr::V6(addr) => sum(total, &addr.octets()),
        };
    }
    let [l0, l1] = len.to_be_bytes();
    finish(sum(total, &[0, UDP, l0, l1])) == 0
}

fn socket(addr: IpAddr, port: [u8; 2], ifindex: u32) -> SocketAddr {
    let port = u16::from_be_bytes(port);
    match addr {
        IpAddr::V4(addr) => SocketAddrV4::new(addr, port).into(),
        IpAddr::V6(addr) => {
            let scope = if addr.is_unicast_link_local() {
                ifindex
            } else {
                0
            };
            SocketAddrV6::new(addr, port, 0, scope).into()
        }
    }
}

#[cfg(test)]
mod tests;
