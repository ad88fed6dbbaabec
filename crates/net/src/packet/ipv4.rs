//! The IPv4 header of a UDP datagram.

use std::net::Ipv4Addr;
use std::ops::Range;

/// What the header of a datagram says that is whole and no fragment (RFC 791 §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    /// Where the UDP header and its payload lie in the packet; what follows is padding.
    pub(crate) udp: Range<usize>,
}

impl Header {
    /// Reads the header at the start of `packet`; `None` for anything but a whole UDP datagram.
    /// Options are passed over (RFC 1122 §3.2.1.8), and the header's checksum is not verified.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let [
            first,
            _,
            l0,
            l1,
            _,
            _,
            f0,
            f1,
            _,
            protocol,
            _,
            _,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ] = *packet.first_chunk::<20>()?;
        let header_len = usize::from(first & 0x0f).saturating_mul(4);
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let is_fragment = u16::from_be_bytes([f0, f1]) & MORE_OR_OFFSET != 0;
        let is_whole = header_len >= 20 && header_len <= len && len <= packet.len();
        if first >> 4 != 4 || !is_whole || protocol != UDP || is_fragment {
            return None;
        }
        Some(Self {
            source: Ipv4Addr::new(s0, s1, s2, s3),
            destination: Ipv4Addr::new(d0, d1, d2, d3),
            udp: header_len..len,
        })
    }
}

/// IANA number of UDP.
pub(crate) const UDP: u8 = 17;

/// RFC 791 §3.1: the flag for more fragments, and the offset.
const MORE_OR_OFFSET: u16 = 0x3fff;
