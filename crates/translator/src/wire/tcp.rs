//! The TCP header (RFC 9293), as far as a translator reads it.

use crate::wire::{Field, Malformed};

/// IANA protocol number.
pub const PROTOCOL: u8 = 6;

/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 16;

/// Length of a header without options.
pub const LEN: usize = 20;

/// What is read from a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; means something only beside [`Flags::ACK`].
    pub acknowledgment: u32,
    /// Bytes of header, options included.
    pub header_len: usize,
    /// The control bits.
    pub flags: Flags,
}

impl Header {
    /// Parses the header at the start of `segment`.
    ///
    /// # Errors
    /// When it is cut short or its data offset does not fit.
    pub fn parse(segment: &[u8]) -> Result<Self, Malformed> {
        let Some(
            &[
                s0,
                s1,
                d0,
                d1,
                n0,
                n1,
                n2,
                n3,
                a0,
                a1,
                a2,
                a3,
                offset,
                flags,
                ..,
            ],
        ) = segment.first_chunk::<LEN>()
        else {
            return Err(Malformed::new(Field::TcpHeader, segment.len()));
        };
        let header_len = usize::from(offset >> 4) * 4;
        if header_len < LEN || header_len > segment.len() {
            return Err(Malformed::new(Field::TcpDataOffset, 12));
        }
        Ok(Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            sequence: u32::from_be_bytes([n0, n1, n2, n3]),
            acknowledgment: u32::from_be_bytes([a0, a1, a2, a3]),
            header_len,
            flags: Flags(flags),
        })
    }
}

/// The control bits of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// FIN.
    pub const FIN: Self = Self(0x01);
    /// SYN.
    pub const SYN: Self = Self(0x02);
    /// RST.
    pub const RST: Self = Self(0x04);
    /// ACK.
    pub const ACK: Self = Self(0x10);

    /// Tells whether any bit of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Tells whether the segment opens a connection: a SYN and nothing else that matters.
    #[must_use]
    pub const fn opens(self) -> bool {
        self.0 & (Self::FIN.0 | Self::SYN.0 | Self::RST.0 | Self::ACK.0) == Self::SYN.0
    }
}

/// Returns where the value of the MSS option stands in `segment`, whose header is `header_len`
/// long, and the value (RFC 9293 §3.7.1).
#[must_use]
pub fn max_segment_size(segment: &[u8], header_len: usize) -> Option<(usize, u16)> {
    let mut at = LEN;
    loop {
        match *segment.get(at..header_len)? {
            [] | [OPTION_END, ..] => return None,
            [OPTION_NOP, ..] => at += 1,
            [OPTION_MSS, 4, v0, v1, ..] => return Some((at + 2, u16::from_be_bytes([v0, v1]))),
            [_, len, ..] if len >= 2 => at += usize::from(len),
            _ => return None,
        }
    }
}

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
