//! The IPv6 header and the extension headers that a translator skips (RFC 8200).

use std::net::Ipv6Addr;

use crate::wire::{Field, Malformed};

/// Length of the fixed header.
pub const LEN: usize = 40;

/// What is read from and written to an IPv6 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Traffic class.
    pub traffic_class: u8,
    /// Bytes behind the fixed header.
    pub payload_len: u16,
    /// IANA number of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
}

impl Header {
    /// Parses the fixed header at the start of `packet` and checks the payload length.
    ///
    /// # Errors
    /// When the header is cut short, or the payload length does not fit what came.
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let short = Malformed::new(Field::Ipv6Header, packet.len());
        let (&[v0, v1, _, _, l0, l1, next_header, hop_limit], rest) =
            packet.split_first_chunk::<8>().ok_or(short)?;
        let (src, rest) = rest.split_first_chunk::<16>().ok_or(short)?;
        let (dst, payload) = rest.split_first_chunk::<16>().ok_or(short)?;
        if v0 >> 4 != 6 {
            return Err(Malformed::new(Field::IpVersion, 0));
        }
        let payload_len = u16::from_be_bytes([l0, l1]);
        // Zero with a payload is a jumbogram, which IPv4 cannot carry.
        let jumbo = payload_len == 0 && !payload.is_empty();
        if usize::from(payload_len) > payload.len() || jumbo {
            return Err(Malformed::new(Field::Ipv6PayloadLength, 4));
        }
        Ok(Self {
            traffic_class: (v0 << 4) | (v1 >> 4),
            payload_len,
            next_header,
            hop_limit,
            src: Ipv6Addr::from(*src),
            dst: Ipv6Addr::from(*dst),
        })
    }

    /// Writes the header with a flow label of zero (RFC 7915 §4.1).
    pub fn emit(&self, bytes: &mut [u8; LEN]) {
        let (head, addrs) = bytes.split_at_mut(8);
        let [l0, l1] = self.payload_len.to_be_bytes();
        head.copy_from_slice(&[
            0x60 | (self.traffic_class >> 4),
            self.traffic_class << 4,
            0,
            0,
            l0,
            l1,
            self.next_header,
            self.hop_limit,
        ]);
        let (src, dst) = addrs.split_at_mut(16);
        src.copy_from_slice(&self.src.octets());
        dst.copy_from_slice(&self.dst.octets());
    }
}

/// What stands behind the extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upper {
    /// A part of a datagram.
    Fragment,
    /// A routing header that has not been worked off.
    SourceRouted,
    /// A header that is not skipped: a transport, or something that cannot be translated.
    Transport {
        /// IANA number.
        protocol: u8,
        /// Where it starts in the packet.
        offset: usize,
    },
}

/// Skips Hop-by-Hop, Destination and worked-off Routing headers (RFC 7915 §5.1).
///
/// # Errors
/// When a header runs out of the packet, or when there are too many.
pub fn upper(packet: &[u8], header: &Header) -> Result<Upper, Malformed> {
    let (mut protocol, mut offset) = (header.next_header, LEN);
    for _ in 0..MAX_EXTENSIONS {
        if protocol == FRAGMENT {
            return Ok(Upper::Fragment);
        }
        if !matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION) {
            return Ok(Upper::Transport { protocol, offset });
        }
        let short = Malformed::new(Field::Ipv6ExtensionHeader, offset);
        let &[next, units, _, segments_left] = packet
            .get(offset..)
            .and_then(<[u8]>::first_chunk::<4>)
            .ok_or(short)?;
        if protocol == ROUTING && segments_left != 0 {
            return Ok(Upper::SourceRouted);
        }
        offset += 8 + usize::from(units) * 8;
        if offset > packet.len() {
            return Err(short);
        }
        protocol = next;
    }
    Err(Malformed::new(Field::Ipv6ExtensionHeader, offset))
}

/// More than anybody sends; bounds the work per packet.
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
