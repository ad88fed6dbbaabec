//! Bytes and values of the headers that are translated: `parse` checks, `emit` writes.

pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod udp;
pub mod vnet;

/// A header that cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {field:?} at byte {offset} of its header")]
pub struct Malformed {
    /// What is wrong.
    pub field: Field,
    /// Where, counted from the start of the header that holds the field.
    pub offset: usize,
}

/// What is wrong with a malformed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The ICMP or `ICMPv6` header is cut short.
    IcmpHeader,
    /// The IPv4 header's checksum does not verify.
    Ipv4Checksum,
    /// The IPv4 header is cut short or says a length below 20.
    Ipv4HeaderLength,
    /// An IPv4 option runs out of the header.
    Ipv4Options,
    /// The IPv4 total length is less than its header or more than what came.
    Ipv4TotalLength,
    /// No IP version that is known.
    IpVersion,
    /// An IPv6 extension header runs out of the packet.
    Ipv6ExtensionHeader,
    /// The IPv6 header is cut short.
    Ipv6Header,
    /// The IPv6 payload length is more than what came.
    Ipv6PayloadLength,
    /// The TCP data offset is below 20 bytes or beyond the segment.
    TcpDataOffset,
    /// The TCP header is cut short.
    TcpHeader,
    /// The UDP header is cut short.
    UdpHeader,
    /// The UDP length is less than a header, more than what came, or, where a checksum is still to
    /// be computed, less than what came.
    UdpLength,
    /// The offload header is cut short or describes another packet.
    VnetHdr,
}

impl Malformed {
    pub(crate) const fn new(field: Field, offset: usize) -> Self {
        Self { field, offset }
    }
}

#[cfg(test)]
mod tests;
