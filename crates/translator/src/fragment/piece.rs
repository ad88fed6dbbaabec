//! What is read from the headers of a part of a datagram.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::fragment::Address;
use crate::verdict::DropReason;
use crate::wire::{Field, Malformed, icmp, ipv4, ipv6, tcp, udp, vnet};

/// A part of a datagram.
#[derive(Debug, Clone)]
pub(crate) struct Piece<A> {
    pub(crate) src: A,
    pub(crate) dst: A,
    pub(crate) id: u32,
    pub(crate) protocol: u8,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    /// Where its data stand in the segment.
    pub(crate) offset: usize,
    /// Others follow.
    pub(crate) more: bool,
    /// Where its data stand in the packet.
    pub(crate) data: Range<usize>,
}

impl Piece<Ipv4Addr> {
    /// Reads a fragment.
    pub(crate) fn four(header: &ipv4::Header, offload: &vnet::Header) -> Result<Self, DropReason> {
        no_offload(offload)?;
        if !matches!(
            header.protocol,
            icmp::PROTOCOL_V4 | tcp::PROTOCOL | udp::PROTOCOL
        ) {
            return Err(DropReason::UnsupportedProtocol);
        }
        Ok(Self {
            src: header.src,
            dst: header.dst,
            id: header.id.into(),
            protocol: header.protocol,
            tos: header.tos,
            ttl: header.ttl,
            offset: usize::from(header.fragment_offset) * 8,
            more: header.more_fragments,
            data: header.header_len..usize::from(header.total_len),
        })
    }
}

impl Piece<Ipv6Addr> {
    /// Reads a packet with a Fragment Header, behind which `data` stand.
    pub(crate) fn six(
        header: &ipv6::Header,
        protocol: u8,
        fragment: &ipv6::Fragment,
        data: Range<usize>,
        offload: &vnet::Header,
    ) -> Result<Self, DropReason> {
        no_offload(offload)?;
        // RFC 7915 §5.1.1: these are not looked through.
        if ipv6::is_extension(protocol) {
            return Err(DropReason::FragmentExtension);
        }
        if !matches!(protocol, icmp::PROTOCOL_V6 | tcp::PROTOCOL | udp::PROTOCOL) {
            return Err(DropReason::UnsupportedProtocol);
        }
        Ok(Self {
            src: header.src,
            dst: header.dst,
            id: fragment.id,
            protocol,
            tos: header.traffic_class,
            ttl: header.hop_limit,
            offset: usize::from(fragment.offset) * 8,
            more: fragment.more,
            data,
        })
    }
}

impl<A: Address> Piece<A> {
    /// Checks what can be checked without the other parts.
    pub(super) fn check(&self, data: &[u8]) -> Result<(), DropReason> {
        is_possible(self.offset, self.more, data.len(), A::longest())
    }

    /// Tells whether the first part holds the whole header of its transport.
    pub(super) fn holds_header(&self, data: &[u8]) -> bool {
        match self.protocol {
            tcp::PROTOCOL => tcp::Header::parse(data).is_ok(),
            udp::PROTOCOL => data.len() >= udp::LEN,
            _ => data.len() >= icmp::LEN,
        }
    }
}

/// Says whether a part can be one of a segment of at most `longest` bytes (RFC 8200 §4.5): each but
/// the last has a multiple of eight bytes.
pub(crate) fn is_possible(
    offset: usize,
    more: bool,
    len: usize,
    longest: usize,
) -> Result<(), DropReason> {
    let is_odd = more && !len.is_multiple_of(8);
    if len == 0 || is_odd || offset + len > longest {
        return Err(DropReason::FragmentInconsistent);
    }
    Ok(())
}

/// The kernel cuts no super-packet, and computes every checksum before it cuts.
fn no_offload(offload: &vnet::Header) -> Result<(), Malformed> {
    if offload.partial.is_some() || offload.segmentation.is_some() {
        return Err(Malformed::new(Field::VnetHdr, 0));
    }
    Ok(())
}
