//! The IPv6 header and the extension headers that a translator skips (RFC 8200).

use std::net::Ipv6Addr;

use crate::wire::{Field, Malformed};

/// Length of the fixed header.
pub const LEN: usize = 40;

/// What every link carries (RFC 8200 §5).
pub const MIN_MTU: u16 = 1280;

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
    /// A routing header that has not been worked off.
    SourceRouted {
        /// Where its Segments Left field stands in the packet.
        pointer: usize,
    },
    /// A header that is not skipped: a transport, or something that cannot be translated.
    Transport {
        /// IANA number.
        protocol: u8,
        /// Where it starts in the packet, or this part of it.
        offset: usize,
        /// Present behind a Fragment Header, which ends the walk.
        fragment: Option<Fragment>,
    },
}

/// The Fragment Header (RFC 8200 §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// In units of 8 bytes.
    pub offset: u16,
    /// M.
    pub more: bool,
}

impl Fragment {
    /// Length of the header.
    pub const LEN: usize = 8;

    /// Writes the header.
    pub fn emit(&self, next_header: u8, bytes: &mut [u8; Self::LEN]) {
        let [o0, o1] = ((self.offset << 3) | u16::from(self.more)).to_be_bytes();
        let [i0, i1, i2, i3] = self.id.to_be_bytes();
        *bytes = [next_header, 0, o0, o1, i0, i1, i2, i3];
    }

    /// Tells whether the packet is a whole one all the same (RFC 6946).
    #[must_use]
    pub const fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// Tells whether a header in a chain is another extension header; ESP, which hides what follows,
/// ends the chain (RFC 7915 §5.1.1).
#[must_use]
pub const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY | HIP | SHIM6
    )
}

/// Skips Hop-by-Hop, Destination and worked-off Routing headers (RFC 7915 §5.1), and a Fragment
/// Header as the last one.
///
/// # Errors
/// When a header runs out of the packet, when there are too many, or when one says that the packet
/// is a jumbogram.
pub fn upper(packet: &[u8], header: &Header) -> Result<Upper, Malformed> {
    let (mut protocol, mut offset) = (header.next_header, LEN);
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            return Ok(Upper::Transport {
                protocol,
                offset,
                fragment: None,
            });
        }
        let short = Malformed::new(Field::Ipv6ExtensionHeader, offset);
        let rest = packet.get(offset..).unwrap_or_default();
        let &[next, units, o0, o1, i0, i1, i2, i3] = rest.first_chunk::<8>().ok_or(short)?;
        if protocol == FRAGMENT {
            let place = u16::from_be_bytes([o0, o1]);
            return Ok(Upper::Transport {
                protocol: next,
                offset: offset + Fragment::LEN,
                fragment: Some(Fragment {
                    id: u32::from_be_bytes([i0, i1, i2, i3]),
                    offset: place >> 3,
                    more: place & 1 != 0,
                }),
            });
        }
        if protocol == ROUTING && o1 != 0 {
            return Ok(Upper::SourceRouted {
                pointer: offset + 3,
            });
        }
        let len = 8 + usize::from(units) * 8;
        let body = rest.get(..len).ok_or(short)?;
        if protocol == HOP_BY_HOP && is_jumbo(body.get(2..).unwrap_or_default()) {
            return Err(Malformed::new(Field::Ipv6PayloadLength, 4));
        }
        offset += len;
        protocol = next;
    }
    Err(Malformed::new(Field::Ipv6ExtensionHeader, offset))
}

/// Looks for the Jumbo Payload option (RFC 2675 §2).
fn is_jumbo(mut options: &[u8]) -> bool {
    loop {
        match *options {
            [OPTION_PAD1, ref rest @ ..] => options = rest,
            [OPTION_JUMBO, ..] => return true,
            [_, len, ref rest @ ..] => options = rest.get(usize::from(len)..).unwrap_or_default(),
            [] | [_] => return false,
        }
    }
}

/// More than anybody sends; bounds the work per packet.
const MAX_EXTENSIONS: usize = 8;

/// IANA protocol number of the Fragment Header.
pub const FRAGMENT: u8 = 44;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

const OPTION_PAD1: u8 = 0;
const OPTION_JUMBO: u8 = 0xc2;
