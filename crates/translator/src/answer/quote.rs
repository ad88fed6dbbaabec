//! What an answer quotes of the packet that it answers.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::embedded::Embedded;
use crate::frame::Frame;
use crate::wire::{tcp, udp, vnet};

/// A packet that is to be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quote<'a> {
    packet: &'a [u8],
    /// How long the packet was on the wire: a super-packet is made of shorter ones.
    len: usize,
}

impl<'a> Quote<'a> {
    /// Quotes a packet that came as it is.
    pub(crate) const fn whole(packet: &'a [u8]) -> Self {
        Self {
            packet,
            len: packet.len(),
        }
    }

    /// Quotes the packet in `frame`, or the first of those that it was made of.
    pub(crate) fn of(frame: &'a Frame) -> Self {
        let packet = frame.packet();
        let offload = vnet::Header::parse(frame.bytes()).unwrap_or_default();
        let len = offload.segmentation.and_then(|segmentation| {
            let headers = headers(packet)?;
            Some(headers + usize::from(segmentation.size))
        });
        Self {
            packet,
            len: len.unwrap_or(packet.len()).min(packet.len()),
        }
    }

    /// Returns the packet, all of it.
    pub(crate) const fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// Returns the packet as it was on the wire; `said` is the length that its header says.
    pub(super) fn on_the_wire(&self, said: usize) -> &'a [u8] {
        self.packet.get(..self.len.min(said)).unwrap_or(self.packet)
    }
}

/// Returns how long the headers of a super-packet are.
fn headers(packet: &[u8]) -> Option<usize> {
    let (l4_offset, protocol, l4) = match packet.first()? >> 4 {
        4 => {
            let packet = Embedded::<Ipv4Addr>::parse(packet).ok()?;
            (packet.l4_offset, packet.protocol, packet.l4)
        }
        _ => {
            let packet = Embedded::<Ipv6Addr>::parse(packet).ok()?;
            (packet.l4_offset, packet.protocol, packet.l4)
        }
    };
    match protocol {
        tcp::PROTOCOL => Some(l4_offset + tcp::Header::parse(l4).ok()?.header_len),
        _ => Some(l4_offset + udp::LEN),
    }
}
