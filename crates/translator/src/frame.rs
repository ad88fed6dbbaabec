//! The buffer in which a packet is read, translated in place and written.

use crate::wire::vnet;

/// A packet with its offload header in front and room for a longer IP header before both.
///
/// ```
/// use translator::Frame;
///
/// let mut frame = Frame::new();
/// frame.space()[..3].copy_from_slice(b"abc");
/// frame.filled(3);
/// assert_eq!(frame.bytes(), b"abc");
/// ```
#[derive(Debug)]
pub struct Frame {
    buf: Box<[u8]>,
    start: usize,
    end: usize,
}

/// The three parts of a translated packet, still to be written.
pub(crate) struct Parts<'a, const IP: usize> {
    pub(crate) vnet: &'a mut [u8; vnet::LEN],
    pub(crate) ip: &'a mut [u8; IP],
    pub(crate) l4: &'a mut [u8],
}

impl Frame {
    /// Makes a buffer for the largest packet.
    #[must_use]
    pub fn new() -> Self {
        let buf = vec![0; HEADROOM + CAPACITY].into_boxed_slice();
        Self {
            buf,
            start: HEADROOM,
            end: HEADROOM,
        }
    }

    /// Empties the buffer and returns where to read the next packet to, offload header first.
    pub fn space(&mut self) -> &mut [u8] {
        self.start = HEADROOM;
        self.end = HEADROOM;
        self.buf.get_mut(HEADROOM..).unwrap_or_default()
    }

    /// Says how many bytes were read to [`Self::space`].
    pub fn filled(&mut self, len: usize) {
        self.start = HEADROOM;
        self.end = HEADROOM + len.min(CAPACITY);
    }

    /// Returns the packet, offload header first.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or_default()
    }

    /// Returns the packet behind its offload header.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        self.bytes().get(vnet::LEN..).unwrap_or_default()
    }

    pub(crate) fn packet_mut(&mut self) -> &mut [u8] {
        self.buf
            .get_mut(self.start + vnet::LEN..self.end)
            .unwrap_or_default()
    }

    /// Throws away the packet and makes room for another one, without offloads.
    pub(crate) fn replace<const IP: usize>(&mut self, l4_len: usize) -> Option<Parts<'_, IP>> {
        self.start = HEADROOM;
        let parts = self.rewrite(IP, l4_len)?;
        parts.vnet.fill(0);
        Some(parts)
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.buf.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Holds what `other` holds.
    pub(crate) fn copy(&mut self, other: &Self) {
        let bytes = other.bytes();
        if let Some(space) = self.space().get_mut(..bytes.len()) {
            space.copy_from_slice(bytes);
            self.filled(bytes.len());
        }
    }

    /// Adds bytes to the end of the packet, unless there is no room.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> bool {
        let end = self.end + bytes.len();
        let space = self.buf.get_mut(self.end..end);
        if let Some(space) = space {
            space.copy_from_slice(bytes);
            self.end = end;
            return true;
        }
        false
    }

    /// Puts a header of `IP` bytes and an offload header before the transport segment that stands
    /// at `l4_offset` of the packet and is `l4_len` long; the segment does not move.
    pub(crate) fn rewrite<const IP: usize>(
        &mut self,
        l4_offset: usize,
        l4_len: usize,
    ) -> Option<Parts<'_, IP>> {
        let l4_start = self.start + vnet::LEN + l4_offset;
        let start = l4_start.checked_sub(IP + vnet::LEN)?;
        let end = l4_start + l4_len;
        let bytes = self.buf.get_mut(start..end)?;
        let (vnet, rest) = bytes.split_first_chunk_mut()?;
        let (ip, l4) = rest.split_first_chunk_mut()?;
        self.start = start;
        self.end = end;
        Some(Parts { vnet, ip, l4 })
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

/// An IPv6 header is 20 bytes longer than an IPv4 header; the packet behind the offload header
/// stands at a multiple of four.
const HEADROOM: usize = 22;

/// The largest IPv6 packet without jumbo payload, with its offload header.
const CAPACITY: usize = vnet::LEN + 40 + 65_535;
