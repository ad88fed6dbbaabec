//! Determining the incoming tuple (RFC 6146 §3.4): everything that is read from a packet.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::counters::Traffic;
use crate::fragment::Piece;
use crate::frame::Frame;
use crate::icmp_error::Outer;
use crate::martian::is_host_v4;
use crate::transport::Transport;
use crate::verdict::DropReason;
use crate::wire::icmp::Message;
use crate::wire::vnet::Gso;
use crate::wire::{Field, Malformed, icmp, ipv4, ipv6, tcp, udp, vnet};

/// A packet that can be translated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<A> {
    pub(crate) src: A,
    pub(crate) dst: A,
    /// Type of service or traffic class.
    pub(crate) tos: u8,
    /// Time to live or hop limit.
    pub(crate) ttl: u8,
    pub(crate) segment: Segment,
    /// Where the segment stands in the packet.
    pub(crate) l4_offset: usize,
    pub(crate) l4_len: usize,
    pub(crate) offload: vnet::Header,
    /// No router may cut it: DF in IPv4, and every packet in IPv6.
    pub(crate) dont_fragment: bool,
    /// Present when it has been put together, or has a Fragment Header although it is whole.
    pub(crate) came_in_pieces: Option<Pieces>,
    /// What IPv4 has for its fragments; zero in IPv6.
    pub(crate) id: u16,
}

/// How a datagram came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pieces {
    /// Their identification.
    pub(crate) id: u32,
    /// Bytes of the segment in the piece that had most.
    pub(crate) largest: usize,
    /// They are few enough to leave as they came.
    pub(crate) are_kept: bool,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Segment {
    EchoReply { id: u16 },
    EchoRequest { id: u16 },
    Tcp(tcp::Header),
    Udp(udp::Header),
}

/// The family that a packet has either way.
#[derive(Debug)]
pub(crate) enum Tuple {
    Four(Incoming<Ipv4Addr>),
    FourError(Outer<Ipv4Addr>),
    FourPiece(Piece<Ipv4Addr>),
    Six(Incoming<Ipv6Addr>),
    SixError(Outer<Ipv6Addr>),
    SixPiece(Piece<Ipv6Addr>),
}

/// Reads a packet.
pub(crate) fn determine_incoming_tuple(frame: &Frame) -> Result<Tuple, DropReason> {
    let offload = vnet::Header::parse(frame.bytes())?;
    let packet = frame.packet();
    match packet.first().map(|first| first >> 4) {
        Some(4) => four(packet, offload),
        Some(6) => six(packet, offload),
        Some(_) | None => Err(Malformed::new(Field::IpVersion, 0).into()),
    }
}

fn four(packet: &[u8], offload: vnet::Header) -> Result<Tuple, DropReason> {
    let header = ipv4::Header::parse(packet)?;
    if header.ttl == 0 {
        return Err(DropReason::HopLimit);
    }
    if header.source_routed {
        return Err(DropReason::SourceRouted);
    }
    // RFC 7915 §4.1; an error tells its reason whoever sends it.
    if header.protocol != icmp::PROTOCOL_V4 && !is_host_v4(header.src) {
        return Err(DropReason::IllegalSource);
    }
    if header.is_fragment() {
        return Piece::four(&header, &offload).map(Tuple::FourPiece);
    }
    let l4 = packet
        .get(header.header_len..usize::from(header.total_len))
        .ok_or(Malformed::new(Field::Ipv4TotalLength, 2))?;
    let segment = match header.protocol {
        icmp::PROTOCOL_V4 => match echo(Message::parse_v4(l4)?)? {
            Some(echo) => echo,
            None => {
                return Ok(Tuple::FourError(Outer {
                    src: header.src,
                    dst: header.dst,
                    tos: header.tos,
                    ttl: header.ttl,
                    l4_offset: header.header_len,
                    l4_len: l4.len(),
                    partial: is_partial_error(&offload, header.header_len)?,
                }));
            }
        },
        protocol => transport(protocol, l4)?,
    };
    let incoming = Incoming {
        src: header.src,
        dst: header.dst,
        tos: header.tos,
        ttl: header.ttl,
        segment,
        l4_offset: header.header_len,
        l4_len: l4.len(),
        offload,
        dont_fragment: header.dont_fragment,
        came_in_pieces: None,
        id: header.id,
    };
    check_offload(&incoming, |kind| matches!(kind, Gso::Tcp4 { .. }))?;
    Ok(Tuple::Four(incoming))
}

fn six(packet: &[u8], offload: vnet::Header) -> Result<Tuple, DropReason> {
    let header = ipv6::Header::parse(packet)?;
    if header.hop_limit == 0 {
        return Err(DropReason::HopLimit);
    }
    let end = ipv6::LEN + usize::from(header.payload_len);
    let packet = packet
        .get(..end)
        .ok_or(Malformed::new(Field::Ipv6PayloadLength, 4))?;
    let (protocol, offset, fragment) = match ipv6::upper(packet, &header)? {
        ipv6::Upper::SourceRouted { .. } => return Err(DropReason::SourceRouted),
        ipv6::Upper::Transport {
            protocol,
            offset,
            fragment,
        } => (protocol, offset, fragment),
    };
    if let Some(fragment) = fragment {
        let piece = Piece::six(&header, protocol, &fragment, offset..end, &offload)?;
        if !fragment.is_atomic() {
            return Ok(Tuple::SixPiece(piece));
        }
    }
    let l4 = packet.get(offset..).unwrap_or_default();
    let segment = match protocol {
        icmp::PROTOCOL_V6 => match echo(Message::parse_v6(l4)?)? {
            Some(echo) => echo,
            None => {
                return Ok(Tuple::SixError(Outer {
                    src: header.src,
                    dst: header.dst,
                    tos: header.traffic_class,
                    ttl: header.hop_limit,
                    l4_offset: offset,
                    l4_len: l4.len(),
                    partial: is_partial_error(&offload, offset)?,
                }));
            }
        },
        protocol => transport(protocol, l4)?,
    };
    let incoming = Incoming {
        src: header.src,
        dst: header.dst,
        tos: header.traffic_class,
        ttl: header.hop_limit,
        segment,
        l4_offset: offset,
        l4_len: l4.len(),
        offload,
        dont_fragment: true,
        // RFC 7915 §5.1.1: its identification is kept, and DF is not set.
        came_in_pieces: fragment.map(|fragment| Pieces {
            id: fragment.id,
            largest: l4.len(),
            are_kept: false,
        }),
        id: 0,
    };
    check_offload(&incoming, |kind| matches!(kind, Gso::Tcp6 { .. }))?;
    if matches!(segment, Segment::Udp(udp) if udp.checksum == 0 && offload.partial.is_none()) {
        return Err(DropReason::UdpWithoutChecksum);
    }
    Ok(Tuple::Six(incoming))
}

fn transport(protocol: u8, l4: &[u8]) -> Result<Segment, DropReason> {
    match protocol {
        tcp::PROTOCOL => Ok(Segment::Tcp(tcp::Header::parse(l4)?)),
        udp::PROTOCOL => Ok(Segment::Udp(udp::Header::parse(l4)?)),
        _ => Err(DropReason::UnsupportedProtocol),
    }
}

/// Returns an echo, or nothing when the message is an error.
fn echo(message: Message) -> Result<Option<Segment>, DropReason> {
    match message {
        Message::EchoReply { id } => Ok(Some(Segment::EchoReply { id })),
        Message::EchoRequest { id } => Ok(Some(Segment::EchoRequest { id })),
        Message::Error => Ok(None),
        Message::Other => Err(DropReason::IcmpUnsupported),
    }
}

/// Tells whether the checksum of an ICMP error is still to be computed; no other offload makes
/// sense.
fn is_partial_error(offload: &vnet::Header, l4_offset: usize) -> Result<bool, Malformed> {
    let Some(partial) = offload.partial else {
        return Ok(false);
    };
    let fits = usize::from(partial.start) == l4_offset
        && usize::from(partial.offset) == icmp::CHECKSUM_OFFSET
        && offload.segmentation.is_none();
    fits.then_some(true)
        .ok_or(Malformed::new(Field::VnetHdr, 6))
}

/// Refuses offloads that are not those of the segment: what they point at is about to move. They
/// take all that there is for the datagram, so that it must not end before.
fn check_offload<A>(
    incoming: &Incoming<A>,
    tcp_of_family: impl Fn(Gso) -> bool,
) -> Result<(), Malformed> {
    let checksum_offset = match incoming.segment {
        Segment::EchoReply { .. } | Segment::EchoRequest { .. } => icmp::CHECKSUM_OFFSET,
        Segment::Tcp(_) => tcp::CHECKSUM_OFFSET,
        Segment::Udp(_) => udp::CHECKSUM_OFFSET,
    };
    let is_offloaded =
        incoming.offload.partial.is_some() || incoming.offload.segmentation.is_some();
    if let Segment::Udp(udp) = incoming.segment
        && is_offloaded
        && udp.len != incoming.l4_len
    {
        return Err(Malformed::new(Field::UdpLength, 4));
    }
    if let Some(partial) = incoming.offload.partial {
        let fits = usize::from(partial.start) == incoming.l4_offset
            && usize::from(partial.offset) == checksum_offset;
        if !fits {
            return Err(Malformed::new(Field::VnetHdr, 6));
        }
    }
    if let Some(segmentation) = incoming.offload.segmentation {
        let fits = match incoming.segment {
            Segment::EchoReply { .. } | Segment::EchoRequest { .. } => false,
            Segment::Tcp(_) => tcp_of_family(segmentation.kind),
            Segment::Udp(_) => segmentation.kind == Gso::UdpL4,
        };
        if !fits {
            return Err(Malformed::new(Field::VnetHdr, 1));
        }
    }
    Ok(())
}

impl Segment {
    pub(crate) const fn transport(&self) -> Transport {
        match self {
            Self::EchoReply { .. } | Self::EchoRequest { .. } => Transport::IcmpQuery,
            Self::Tcp(_) => Transport::Tcp,
            Self::Udp(_) => Transport::Udp,
        }
    }

    /// Returns the source and destination port. An echo has an identifier, which stands for the
    /// port of the remote; the other one is zero.
    pub(crate) const fn ports(&self, echo_from_remote: bool) -> (u16, u16) {
        match *self {
            Self::EchoReply { id } | Self::EchoRequest { id } if echo_from_remote => (id, 0),
            Self::EchoReply { id } | Self::EchoRequest { id } => (0, id),
            Self::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
            Self::Udp(udp) => (udp.src_port, udp.dst_port),
        }
    }

    pub(crate) const fn header_len(&self) -> usize {
        match self {
            Self::EchoReply { .. } | Self::EchoRequest { .. } => icmp::LEN,
            Self::Tcp(tcp) => tcp.header_len,
            Self::Udp(_) => udp::LEN,
        }
    }
}

impl<A> Incoming<A> {
    /// Returns what this packet adds to a counter.
    pub(crate) fn traffic(&self) -> Traffic {
        let (_, packets) = self.on_the_wire(ipv6::LEN);
        let count = |number| u64::try_from(number).unwrap_or(u64::MAX);
        Traffic {
            packets: count(packets),
            bytes: count(ipv6::LEN + self.l4_len),
        }
    }

    /// Returns the length of the largest packet on the wire behind an IP header of `ip_len`, and
    /// how many packets there are.
    pub(crate) fn on_the_wire(&self, ip_len: usize) -> (usize, usize) {
        match (self.offload.segmentation, self.came_in_pieces) {
            (None, None) => (ip_len + self.l4_len, 1),
            (None, Some(pieces)) => {
                let count = self.l4_len.div_ceil(pieces.largest.max(1));
                (ip_len + self.l4_len, count)
            }
            (Some(segmentation), _) => {
                let size = usize::from(segmentation.size);
                let payload = self.l4_len - self.segment.header_len().min(self.l4_len);
                let largest = ip_len + self.segment.header_len() + payload.min(size);
                (largest, payload.div_ceil(size.max(1)).max(1))
            }
        }
    }
}
