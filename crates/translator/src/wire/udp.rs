//! The UDP header (RFC 768).

use crate::wire::{Field, Malformed};

/// IANA protocol number.
pub const PROTOCOL: u8 = 17;

/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 6;

/// Length of the header.
pub const LEN: usize = 8;

/// What is read from a UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes that the length field says, header included; what stands behind them is the surplus
    /// area of RFC 9868, which no checksum covers.
    pub len: usize,
    /// Zero: not computed, which only IPv4 allows.
    pub checksum: u16,
}

impl Header {
    /// Parses the header at the start of `payload`, which is all that the IP packet carries.
    ///
    /// # Errors
    /// When it is cut short, or its length is less than a header or more than there is.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let Some(&[s0, s1, d0, d1, l0, l1, c0, c1]) = payload.first_chunk::<LEN>() else {
            return Err(Malformed::new(Field::UdpHeader, payload.len()));
        };
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if !(LEN..=payload.len()).contains(&len) {
            return Err(Malformed::new(Field::UdpLength, 4));
        }
        Ok(Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            len,
            checksum: u16::from_be_bytes([c0, c1]),
        })
    }
}
