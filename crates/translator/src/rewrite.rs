//! Changes of a transport segment in place, its checksum kept as right or wrong as it came.

use crate::checksum::Sum;
use crate::wire::{icmp, tcp, udp};

/// What changes in a segment besides its addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rewrite {
    /// How the sum of the pseudo-header changes.
    pub(crate) pseudo: Sum,
    /// The checksum field holds the pseudo-header sum only; the next device adds the rest.
    pub(crate) partial: bool,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
}

impl Rewrite {
    /// Rewrites a TCP segment; the MSS of a SYN becomes at most `mss`.
    pub(crate) fn tcp(&self, segment: &mut [u8], header: &tcp::Header, mss: u16) {
        let mut change = self.ports(segment);
        if header.flags.has(tcp::Flags::SYN)
            && let Some((at, old)) = tcp::max_segment_size(segment, header.header_len)
            && old > mss
        {
            change = change + replace(segment, at, mss);
        }
        self.checksum(segment, tcp::CHECKSUM_OFFSET, change);
    }

    /// Rewrites a UDP datagram.
    pub(crate) fn udp(&self, datagram: &mut [u8]) {
        let change = self.ports(datagram);
        self.checksum(datagram, udp::CHECKSUM_OFFSET, change);
        if !self.partial && read(datagram, udp::CHECKSUM_OFFSET) == 0 {
            write(datagram, udp::CHECKSUM_OFFSET, 0xffff);
        }
    }

    /// Rewrites a UDP datagram that came without a checksum, at the start of `payload`; `pseudo`
    /// is the sum of its new pseudo-header.
    pub(crate) fn udp_without_checksum(&self, payload: &mut [u8], len: usize, pseudo: Sum) {
        let datagram = payload.get_mut(..len).unwrap_or_default();
        self.ports(datagram);
        write(datagram, udp::CHECKSUM_OFFSET, 0);
        let checksum = !(pseudo + Sum::of(datagram)).fold();
        write(
            datagram,
            udp::CHECKSUM_OFFSET,
            if checksum == 0 { 0xffff } else { checksum },
        );
    }

    /// Rewrites as much as there is of a TCP segment in an ICMP error.
    pub(crate) fn quoted_tcp(&self, segment: &mut [u8]) {
        let change = self.ports(segment);
        self.checksum(segment, tcp::CHECKSUM_OFFSET, change);
    }

    /// Rewrites as much as there is of a UDP datagram in an ICMP error; `whole` is the sum of the
    /// datagram and of its new pseudo-header where all of it is there. Without all of it there is
    /// no checksum to be computed.
    pub(crate) fn quoted_udp(&self, datagram: &mut [u8], whole: Option<Sum>) {
        if read(datagram, udp::CHECKSUM_OFFSET) != 0 {
            self.udp(datagram);
            return;
        }
        let change = self.ports(datagram);
        if let Some(whole) = whole {
            let checksum = match !(whole + change).fold() {
                0 => 0xffff,
                checksum => checksum,
            };
            write(datagram, udp::CHECKSUM_OFFSET, checksum);
        }
    }

    /// Rewrites an echo; its code stays what it is, for RFC 7915 §4.2 adjusts its type only.
    pub(crate) fn echo(&self, message: &mut [u8], kind: u8, id: u16) {
        let code = message.get(1).copied().unwrap_or_default();
        let head = replace(message, 0, u16::from_be_bytes([kind, code]));
        let change = head + replace(message, 4, id);
        self.checksum(message, icmp::CHECKSUM_OFFSET, change);
    }

    fn ports(&self, segment: &mut [u8]) -> Sum {
        replace(segment, 0, self.src_port) + replace(segment, 2, self.dst_port)
    }

    fn checksum(&self, segment: &mut [u8], at: usize, change: Sum) {
        let old = read(segment, at);
        let new = if self.partial {
            self.pseudo.update_partial(old)
        } else {
            (self.pseudo + change).update(old)
        };
        write(segment, at, new);
    }
}

/// Writes a word and returns how the sum over the segment changes.
fn replace(segment: &mut [u8], at: usize, new: u16) -> Sum {
    let old = read(segment, at);
    write(segment, at, new);
    // At an odd place the two bytes belong to two words of the sum, each in the other half.
    if at.is_multiple_of(2) {
        Sum::change_word(old, new)
    } else {
        Sum::change_word(old.swap_bytes(), new.swap_bytes())
    }
}

fn read(segment: &[u8], at: usize) -> u16 {
    let word = segment.get(at..).and_then(<[u8]>::first_chunk);
    word.map_or(0, |word| u16::from_be_bytes(*word))
}

fn write(segment: &mut [u8], at: usize, value: u16) {
    if let Some(word) = segment.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *word = value.to_be_bytes();
    }
}
