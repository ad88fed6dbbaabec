//! Translation from IPv4 to IPv6 (RFC 7915 §4).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::checksum::Sum;
use crate::frame::Frame;
use crate::incoming::{Incoming, Segment};
use crate::pref64::Pref64;
use crate::rewrite::Rewrite;
use crate::session::Found;
use crate::verdict::DropReason;
use crate::wire::{icmp, ipv6, tcp, udp};

/// The outgoing tuple (RFC 6146 §3.6).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing {
    /// `NSP::A4`.
    src: Ipv6Addr,
    /// `y`.
    src_port: u16,
    /// `X'`.
    dst: Ipv6Addr,
    /// `x`.
    dst_port: u16,
}

impl Outgoing {
    /// Returns where a packet goes whose addresses alone are translated.
    pub(crate) const fn stateless(src: Ipv6Addr, dst: Ipv6Addr, segment: &Segment) -> Self {
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

/// Returns where a packet of a session goes; `nsp` is the prefix that the remote used.
pub(crate) fn compute_outgoing_tuple(session: &Found<'_>, nsp: Pref64) -> Outgoing {
    Outgoing {
        src: nsp.embed(session.six.server),
        src_port: session.six.external_port,
        dst: session.six.remote,
        dst_port: session.six.remote_port,
    }
}

/// Makes the packet in `frame` an IPv6 packet.
pub(crate) fn translate(
    frame: &mut Frame,
    incoming: &Incoming<Ipv4Addr>,
    outgoing: &Outgoing,
    mss: u16,
) -> Result<(), DropReason> {
    let header = ipv6::Header {
        traffic_class: incoming.tos,
        payload_len: u16::try_from(incoming.l4_len).map_err(|_| DropReason::TooBig)?,
        next_header: protocol(&incoming.segment),
        // DEVIATION RFC 7915 §4.1: the time to live is copied, because the kernel forwards twice,
        // to the TUN device and from it.
        hop_limit: incoming.ttl,
        src: outgoing.src,
        dst: outgoing.dst,
    };
    let parts = frame
        .rewrite::<{ ipv6::LEN }>(incoming.l4_offset, incoming.l4_len)
        .ok_or(DropReason::TooBig)?;
    header.emit(parts.ip);
    incoming
        .offload
        .translated(incoming.l4_offset, ipv6::LEN)
        .emit(parts.vnet);

    let rewrite = Rewrite {
        pseudo: pseudo_change(incoming, outgoing),
        partial: incoming.offload.partial.is_some(),
        src_port: outgoing.src_port,
        dst_port: outgoing.dst_port,
    };
    match &incoming.segment {
        Segment::EchoReply { .. } => {
            rewrite.echo(parts.l4, icmp::ECHO_REPLY_V6, outgoing.dst_port);
        }
        Segment::EchoRequest { .. } => {
            rewrite.echo(parts.l4, icmp::ECHO_REQUEST_V6, outgoing.dst_port);
        }
        Segment::Tcp(tcp) => rewrite.tcp(parts.l4, tcp, mss),
        // RFC 6146 §3.4: a checksum must be computed.
        Segment::Udp(udp) if udp.checksum == 0 && !rewrite.partial => {
            let pseudo = Sum::pseudo_v6(header.src, header.dst, udp.len, udp::PROTOCOL);
            rewrite.udp_without_checksum(parts.l4, udp.len, pseudo);
        }
        Segment::Udp(_) => rewrite.udp(parts.l4),
    }
    Ok(())
}

fn protocol(segment: &Segment) -> u8 {
    match segment {
        Segment::EchoReply { .. } | Segment::EchoRequest { .. } => icmp::PROTOCOL_V6,
        Segment::Tcp(_) => tcp::PROTOCOL,
        Segment::Udp(_) => udp::PROTOCOL,
    }
}

/// The pseudo-headers of TCP and UDP differ in their addresses only; ICMP has none.
fn pseudo_change(incoming: &Incoming<Ipv4Addr>, outgoing: &Outgoing) -> Sum {
    match incoming.segment {
        Segment::EchoReply { .. } | Segment::EchoRequest { .. } => Sum::change(
            Sum::default(),
            Sum::pseudo_v6(
                outgoing.src,
                outgoing.dst,
                incoming.l4_len,
                icmp::PROTOCOL_V6,
            ),
        ),
        Segment::Tcp(_) | Segment::Udp(_) => Sum::change(
            Sum::addrs_v4(incoming.src, incoming.dst),
            Sum::addrs_v6(outgoing.src, outgoing.dst),
        ),
    }
}
