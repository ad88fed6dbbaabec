//! The IPv4 header (RFC 791).

use std::net::Ipv4Addr;

use crate::checksum::Sum;
use crate::wire::{Field, Malformed};

/// Length of a header without options.
pub const LEN: usize = 20;

/// What every link carries (RFC 791 §3.2).
pub const MIN_MTU: u16 = 68;

/// What is read from and written to an IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of header, options included; `emit` writes none of them.
    pub header_len: usize,
    /// Type of service.
    pub tos: u8,
    /// Bytes of the packet, header included.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// DF.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// In units of 8 bytes.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// IANA number of what follows.
    pub protocol: u8,
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// An option holds a source route that has not ended (RFC 7915 §4.1).
    pub source_routed: bool,
}

impl Header {
    /// Parses the header at the start of `packet` and checks its lengths and checksum.
    ///
    /// # Errors
    /// When a length does not fit or the checksum is wrong.
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let Some(
            &[
                vihl,
                tos,
                l0,
                l1,
                i0,
                i1,
                f0,
                f1,
                ttl,
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
            ],
        ) = packet.first_chunk::<LEN>()
        else {
            return Err(Malformed::new(Field::Ipv4HeaderLength, packet.len()));
        };
        let header_len = usize::from(vihl & 0x0f) * 4;
        let total_len = u16::from_be_bytes([l0, l1]);
        if vihl >> 4 != 4 {
            return Err(Malformed::new(Field::IpVersion, 0));
        }
        let header = packet
            .get(..header_len)
            .filter(|header| header.len() >= LEN)
            .ok_or(Malformed::new(Field::Ipv4HeaderLength, 0))?;
        if usize::from(total_len) < header_len || usize::from(total_len) > packet.len() {
            return Err(Malformed::new(Field::Ipv4TotalLength, 2));
        }
        if Sum::of(header).fold() != 0xffff {
            return Err(Malformed::new(Field::Ipv4Checksum, 10));
        }
        let fragment = u16::from_be_bytes([f0, f1]);
        Ok(Self {
            header_len,
            tos,
            total_len,
            id: u16::from_be_bytes([i0, i1]),
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            more_fragments: fragment & MORE_FRAGMENTS != 0,
            fragment_offset: fragment & 0x1fff,
            ttl,
            protocol,
            src: Ipv4Addr::new(s0, s1, s2, s3),
            dst: Ipv4Addr::new(d0, d1, d2, d3),
            source_routed: source_routed(header.get(LEN..).unwrap_or_default())?,
        })
    }

    /// Writes the header without options, its checksum computed.
    pub fn emit(&self, bytes: &mut [u8; LEN]) {
        let [l0, l1] = self.total_len.to_be_bytes();
        let [i0, i1] = self.id.to_be_bytes();
        let mut fragment = self.fragment_offset & 0x1fff;
        if self.dont_fragment {
            fragment |= DONT_FRAGMENT;
        }
        if self.more_fragments {
            fragment |= MORE_FRAGMENTS;
        }
        let [f0, f1] = fragment.to_be_bytes();
        let [s0, s1, s2, s3] = self.src.octets();
        let [d0, d1, d2, d3] = self.dst.octets();
        *bytes = [
            0x45,
            self.tos,
            l0,
            l1,
            i0,
            i1,
            f0,
            f1,
            self.ttl,
            self.protocol,
            0,
            0,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ];
        let [c0, c1] = (!Sum::of(bytes).fold()).to_be_bytes();
        bytes[10] = c0;
        bytes[11] = c1;
    }

    /// Tells whether the packet is only a part of a datagram.
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }
}

/// Looks for a loose or strict source route whose pointer has not passed its end.
fn source_routed(mut options: &[u8]) -> Result<bool, Malformed> {
    loop {
        match *options {
            [] | [OPTION_END, ..] => return Ok(false),
            [OPTION_NOP, ref rest @ ..] => options = rest,
            [kind, len, ref rest @ ..] if len >= 2 => {
                let body = rest
                    .split_at_checked(usize::from(len) - 2)
                    .ok_or(Malformed::new(Field::Ipv4Options, LEN))?;
                if kind == OPTION_LSRR || kind == OPTION_SSRR {
                    let pointer = body.0.first().copied().unwrap_or(u8::MAX);
                    if pointer <= len {
                        return Ok(true);
                    }
                }
                options = body.1;
            }
            _ => return Err(Malformed::new(Field::Ipv4Options, LEN)),
        }
    }
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LSRR: u8 = 131;
const OPTION_SSRR: u8 = 137;
