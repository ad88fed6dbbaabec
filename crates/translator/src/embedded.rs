//! Packets as ICMP errors quote them: whole headers, and as much of the rest as there was room
//! for (RFC 792, RFC 4443 §2.4, RFC 4884).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::checksum::Sum;
use crate::transport::Transport;
use crate::verdict::DropReason;
use crate::wire::icmp::{self, Message};
use crate::wire::ipv6::Fragment;
use crate::wire::{Field, Malformed, ipv4, ipv6, tcp, udp};

/// A quoted packet. What its lengths say may be more than what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Embedded<'a, A> {
    pub(crate) src: A,
    pub(crate) dst: A,
    /// Type of service or traffic class.
    pub(crate) tos: u8,
    /// Time to live or hop limit.
    pub(crate) ttl: u8,
    /// IANA number of the segment.
    pub(crate) protocol: u8,
    /// Bytes before the segment: options and extension headers are among them.
    pub(crate) l4_offset: usize,
    /// How long the segment, or this part of it, is said to be.
    pub(crate) l4_len: usize,
    /// As much of it as there is.
    pub(crate) l4: &'a [u8],
    /// Present when it is only a part of a datagram, and when a Fragment Header says so.
    pub(crate) part: Option<Fragment>,
    /// Where the Segments Left field of a routing header stands that has not been worked off.
    pub(crate) segments_left: Option<usize>,
}

/// What names the session of a quoted segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quoted {
    EchoReply {
        id: u16,
    },
    EchoRequest {
        id: u16,
    },
    /// A later fragment, or of a protocol that has no sessions.
    Other,
    Tcp {
        src_port: u16,
        dst_port: u16,
    },
    Udp {
        src_port: u16,
        dst_port: u16,
    },
}

impl<'a> Embedded<'a, Ipv4Addr> {
    /// Reads a quoted IPv4 packet.
    pub(crate) fn parse(quote: &'a [u8]) -> Result<Self, Malformed> {
        let Some(&[vihl, tos, l0, l1, i0, i1, f0, f1, ttl, protocol, ..]) =
            quote.first_chunk::<{ ipv4::LEN }>()
        else {
            return Err(Malformed::new(Field::Ipv4HeaderLength, quote.len()));
        };
        if vihl >> 4 != 4 {
            return Err(Malformed::new(Field::IpVersion, 0));
        }
        let l4_offset = usize::from(vihl & 0x0f) * 4;
        let (header, rest) = quote
            .split_at_checked(l4_offset)
            .filter(|(header, _)| header.len() >= ipv4::LEN)
            .ok_or(Malformed::new(Field::Ipv4HeaderLength, 0))?;
        // RFC 5508 REQ-3 a)
        if Sum::of(header).fold() != 0xffff {
            return Err(Malformed::new(Field::Ipv4Checksum, 10));
        }
        let l4_len = usize::from(u16::from_be_bytes([l0, l1]))
            .checked_sub(l4_offset)
            .ok_or(Malformed::new(Field::Ipv4TotalLength, 2))?;
        let fragment = u16::from_be_bytes([f0, f1]);
        let part = Fragment {
            id: u16::from_be_bytes([i0, i1]).into(),
            offset: fragment & 0x1fff,
            more: fragment & 0x2000 != 0,
        };
        Ok(Self {
            src: addr_v4(header, 12),
            dst: addr_v4(header, 16),
            tos,
            ttl,
            protocol,
            l4_offset,
            l4_len,
            l4: cut(rest, l4_len),
            part: Some(part).filter(|part| part.more || part.offset != 0),
            segments_left: None,
        })
    }

    /// Returns what names its session.
    pub(crate) fn quoted(&self) -> Result<Quoted, DropReason> {
        self.ports(icmp::PROTOCOL_V4, Message::parse_v4)
    }
}

impl<'a> Embedded<'a, Ipv6Addr> {
    /// Reads a quoted IPv6 packet.
    pub(crate) fn parse(quote: &'a [u8]) -> Result<Self, Malformed> {
        let Some((&[v0, v1, _, _, l0, l1, next, ttl], addrs)) = quote
            .split_at_checked(ipv6::LEN)
            .and_then(|(header, _)| header.split_first_chunk::<8>())
        else {
            return Err(Malformed::new(Field::Ipv6Header, quote.len()));
        };
        if v0 >> 4 != 6 {
            return Err(Malformed::new(Field::IpVersion, 0));
        }
        let upper = upper(quote, next)?;
        let l4_len = usize::from(u16::from_be_bytes([l0, l1]))
            .checked_sub(upper.offset - ipv6::LEN)
            .ok_or(Malformed::new(Field::Ipv6PayloadLength, 4))?;
        let rest = quote.get(upper.offset..).unwrap_or_default();
        Ok(Self {
            src: addr_v6(addrs, 0),
            dst: addr_v6(addrs, 16),
            tos: (v0 << 4) | (v1 >> 4),
            ttl,
            protocol: upper.protocol,
            l4_offset: upper.offset,
            l4_len,
            l4: cut(rest, l4_len),
            part: upper.part,
            segments_left: upper.segments_left,
        })
    }

    /// Returns what names its session.
    pub(crate) fn quoted(&self) -> Result<Quoted, DropReason> {
        self.ports(icmp::PROTOCOL_V6, Message::parse_v6)
    }
}

impl<A> Embedded<'_, A> {
    /// Tells whether the segment starts here, and not in another fragment.
    pub(crate) fn is_first(&self) -> bool {
        self.part.is_none_or(|part| part.offset == 0)
    }

    fn ports(
        &self,
        icmp: u8,
        message: impl Fn(&[u8]) -> Result<Message, Malformed>,
    ) -> Result<Quoted, DropReason> {
        if !self.is_first() {
            return Ok(Quoted::Other);
        }
        let ports = || {
            let &[s0, s1, d0, d1] = self.l4.first_chunk().ok_or(DropReason::MalformedIcmp)?;
            Ok((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
        };
        match self.protocol {
            tcp::PROTOCOL => ports().map(|(src_port, dst_port)| Quoted::Tcp { src_port, dst_port }),
            udp::PROTOCOL => ports().map(|(src_port, dst_port)| Quoted::Udp { src_port, dst_port }),
            protocol if protocol == icmp => match message(self.l4)? {
                Message::EchoReply { id } => Ok(Quoted::EchoReply { id }),
                Message::EchoRequest { id } => Ok(Quoted::EchoRequest { id }),
                Message::Error => Err(DropReason::IcmpNested),
                Message::Other => Err(DropReason::IcmpError),
            },
            _ => Ok(Quoted::Other),
        }
    }
}

impl Quoted {
    /// Returns the kind of its session, if it can have one.
    pub(crate) const fn transport(self) -> Option<Transport> {
        match self {
            Self::EchoReply { .. } | Self::EchoRequest { .. } => Some(Transport::IcmpQuery),
            Self::Other => None,
            Self::Tcp { .. } => Some(Transport::Tcp),
            Self::Udp { .. } => Some(Transport::Udp),
        }
    }

    /// Returns the source and destination port. An echo has an identifier, which stands for the
    /// port of the IPv6 host; the other one is zero.
    pub(crate) const fn ports(self, echo_from_six: bool) -> (u16, u16) {
        match self {
            Self::EchoReply { id } | Self::EchoRequest { id } if echo_from_six => (id, 0),
            Self::EchoReply { id } | Self::EchoRequest { id } => (0, id),
            Self::Other => (0, 0),
            Self::Tcp { src_port, dst_port } | Self::Udp { src_port, dst_port } => {
                (src_port, dst_port)
            }
        }
    }
}

/// What stands behind the extension headers of a packet that may be cut short.
struct Upper {
    protocol: u8,
    offset: usize,
    part: Option<Fragment>,
    segments_left: Option<usize>,
}

/// Skips Hop-by-Hop, Destination, Routing and Fragment headers.
fn upper(quote: &[u8], next_header: u8) -> Result<Upper, Malformed> {
    let mut upper = Upper {
        protocol: next_header,
        offset: ipv6::LEN,
        part: None,
        segments_left: None,
    };
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(
            upper.protocol,
            HOP_BY_HOP | ROUTING | ipv6::FRAGMENT | DESTINATION
        ) {
            return Ok(upper);
        }
        let short = Malformed::new(Field::Ipv6ExtensionHeader, upper.offset);
        let rest = quote.get(upper.offset..).unwrap_or_default();
        let &[next, units, o0, o1, i0, i1, i2, i3] = rest.first_chunk().ok_or(short)?;
        let mut len = Fragment::LEN;
        if upper.protocol == ipv6::FRAGMENT {
            let place = u16::from_be_bytes([o0, o1]);
            upper.part = Some(Fragment {
                id: u32::from_be_bytes([i0, i1, i2, i3]),
                offset: place >> 3,
                more: place & 1 != 0,
            });
        } else {
            len += usize::from(units) * 8;
            if upper.protocol == ROUTING && o1 != 0 && upper.segments_left.is_none() {
                upper.segments_left = Some(upper.offset + 3);
            }
        }
        upper.protocol = next;
        upper.offset += len;
        if upper.offset > quote.len() {
            return Err(short);
        }
        if upper.part.is_some_and(|part| part.offset != 0) {
            return Ok(upper);
        }
    }
    Err(Malformed::new(Field::Ipv6ExtensionHeader, upper.offset))
}

/// Returns what there is of a segment, in whole words: of a checksum, one half is of no use.
fn cut(bytes: &[u8], len: usize) -> &[u8] {
    let even = bytes.len() & !1;
    bytes
        .get(..len)
        .or_else(|| bytes.get(..even))
        .unwrap_or_default()
}

fn addr_v4(header: &[u8], at: usize) -> Ipv4Addr {
    let addr = header.get(at..).and_then(<[u8]>::first_chunk::<4>);
    addr.copied().unwrap_or_default().into()
}

fn addr_v6(header: &[u8], at: usize) -> Ipv6Addr {
    let addr = header.get(at..).and_then(<[u8]>::first_chunk::<16>);
    addr.copied().unwrap_or_default().into()
}

/// More than anybody sends; bounds the work per packet.
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;
