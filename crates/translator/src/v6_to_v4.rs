//! Translation from IPv6 to IPv4 (RFC 7915 §5).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::checksum::Sum;
use crate::frame::Frame;
use crate::identification::Identifications;
use crate::incoming::{Incoming, Segment};
use crate::rewrite::Rewrite;
use crate::session::Found;
use crate::verdict::DropReason;
use crate::wire::{icmp, ipv4, tcp, udp};

/// The outgoing tuple (RFC 6146 §3.6).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing {
    /// `T`.
    src: Ipv4Addr,
    /// `t`.
    src_port: u16,
    /// `A4`.
    dst: Ipv4Addr,
    /// `y'`.
    dst_port: u16,
}

impl Outgoing {
    /// Returns where a packet goes whose addresses alone are translated.
    pub(crate) const fn stateless(src: Ipv4Addr, dst: Ipv4Addr, segment: &Segment) -> Self {
        let (src_port, dst_port) = match *segment {
            Segment::EchoReply { id } | Segment::EchoRequest { id } => (id, id),
            Segment::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
            Segment::Udp(udp) => (udp.src_port, udp.dst_port),
        };
        Self {
            src,
            src_port,
            dst,
            dst_port,
        }
    }
}

/// Returns where a packet of a session goes.
pub(crate) const fn compute_outgoing_tuple(session: &Found<'_>) -> Outgoing {
    Outgoing {
        src: session.four.pool,
        src_port: session.four.pool_port,
        dst: session.four.server,
        dst_port: session.four.internal_port,
    }
}

/// Makes the packet in `frame` an IPv4 packet; `ids` numbers those that may be fragmented.
pub(crate) fn translate(
    frame: &mut Frame,
    incoming: &Incoming<Ipv6Addr>,
    outgoing: &Outgoing,
    mss: u16,
    ids: &mut Identifications,
) -> Result<(), DropReason> {
    let total_len = u16::try_from(ipv4::LEN + incoming.l4_len).map_err(|_| DropReason::TooBig)?;
    let (largest, packets) = incoming.on_the_wire(ipv4::LEN);
    let (dont_fragment, id) = match incoming.came_in_pieces {
        Some(pieces) => (false, low_half(pieces.id)),
        None if largest > ALWAYS_FITS => (true, 0),
        None => (false, ids.next(outgoing.src, outgoing.dst, packets)),
    };
    let header = ipv4::Header {
        header_len: ipv4::LEN,
        tos: incoming.tos,
        total_len,
        id,
        dont_fragment,
        more_fragments: false,
        fragment_offset: 0,
        // DEVIATION RFC 7915 §5.1: the hop limit is copied, because the kernel forwards twice, to
        // the TUN device and from it.
        ttl: incoming.ttl,
        protocol: protocol(&incoming.segment),
        src: outgoing.src,
        dst: outgoing.dst,
        source_routed: false,
    };
    let parts = frame
        .rewrite::<{ ipv4::LEN }>(incoming.l4_offset, incoming.l4_len)
        .ok_or(DropReason::TooBig)?;
    header.emit(parts.ip);
    incoming
        .offload
        .translated(incoming.l4_offset, ipv4::LEN)
        .emit(parts.vnet);

    let rewrite = Rewrite {
        pseudo: pseudo_change(incoming, outgoing),
        partial: incoming.offload.partial.is_some(),
        src_port: outgoing.src_port,
        dst_port: outgoing.dst_port,
    };
    match &incoming.segment {
        Segment::EchoReply { .. } => {
            rewrite.echo(parts.l4, icmp::ECHO_REPLY_V4, outgoing.src_port);
        }
        Segment::EchoRequest { .. } => {
            rewrite.echo(parts.l4, icmp::ECHO_REQUEST_V4, outgoing.src_port);
        }
        Segment::Tcp(tcp) => rewrite.tcp(parts.l4, tcp, mss),
        Segment::Udp(_) => rewrite.udp(parts.l4),
    }
    Ok(())
}

fn protocol(segment: &Segment) -> u8 {
    match segment {
        Segment::EchoReply { .. } | Segment::EchoRequest { .. } => icmp::PROTOCOL_V4,
        Segment::Tcp(_) => tcp::PROTOCOL,
        Segment::Udp(_) => udp::PROTOCOL,
    }
}

/// The pseudo-headers of TCP and UDP differ in their addresses only; ICMP has none.
fn pseudo_change(incoming: &Incoming<Ipv6Addr>, outgoing: &Outgoing) -> Sum {
    match incoming.segment {
        Segment::EchoReply { .. } | Segment::EchoRequest { .. } => Sum::change(
            Sum::pseudo_v6(
                incoming.src,
                incoming.dst,
                incoming.l4_len,
                icmp::PROTOCOL_V6,
            ),
            Sum::default(),
        ),
        Segment::Tcp(_) | Segment::Udp(_) => Sum::change(
            Sum::addrs_v6(incoming.src, incoming.dst),
            Sum::addrs_v4(outgoing.src, outgoing.dst),
        ),
    }
}

/// RFC 7915 §5.1.1.
fn low_half(id: u32) -> u16 {
    let [_, _, a, b] = id.to_be_bytes();
    u16::from_be_bytes([a, b])
}

/// RFC 7915 §5.1: what could have been an IPv6 packet of the minimum MTU is cut by IPv4 routers
/// where it must be, since the remote cannot make it smaller.
const ALWAYS_FITS: usize = 1260;
