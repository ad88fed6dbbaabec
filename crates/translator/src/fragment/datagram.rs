//! A datagram of which parts have come.

use std::net::{Ipv4Addr, Ipv6Addr};

use mapping::Instant;

use crate::fragment::Address;
use crate::fragment::piece::Piece;
use crate::frame::Frame;
use crate::incoming::Pieces;
use crate::verdict::DropReason;
use crate::wire::{ipv4, ipv6};

/// What has come of a datagram, byte for byte in its place; a page of memory is taken when its
/// first byte comes.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) deadline: Instant,
    /// When the last part came that was of use, as the table numbers parts; at first zero.
    pub(super) used: u64,
    refused: Option<DropReason>,
    /// From the first part.
    head: Option<Head>,
    ecn: Ecn,
    /// Known from the last part.
    end: Option<usize>,
    /// Where the part ends that reaches farthest.
    reach: usize,
    received: usize,
    largest: usize,
    pieces: u64,
    pages: [Option<Box<Page>>; PAGES],
}

/// A datagram of which all parts have come.
#[derive(Debug)]
pub(crate) struct Whole<A> {
    src: A,
    dst: A,
    protocol: u8,
    tos: u8,
    ttl: u8,
    len: usize,
    pub(crate) pieces: Pieces,
    datagram: Box<Datagram>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    protocol: u8,
    tos: u8,
    ttl: u8,
}

/// Which codepoints the parts had.
#[derive(Debug, Clone, Copy, Default)]
struct Ecn(u8);

/// The bytes of a part of the segment, and which of them have come, in units of eight.
#[derive(Debug)]
struct Page {
    came: [u64; UNITS / 64],
    /// The units with which a part starts.
    starts: [u64; UNITS / 64],
    bytes: [u8; PAGE],
}

impl Datagram {
    pub(super) const fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            used: 0,
            refused: None,
            head: None,
            ecn: Ecn(0),
            end: None,
            reach: 0,
            received: 0,
            largest: 0,
            pieces: 0,
            pages: [const { None }; PAGES],
        }
    }

    /// Tells whether a part fits to those that came.
    pub(super) fn check<A: Address>(
        &self,
        piece: &Piece<A>,
        data: &[u8],
    ) -> Result<(), DropReason> {
        if let Some(reason) = self.refused {
            return Err(reason);
        }
        let end = piece.offset + data.len();
        if piece.offset == 0 && !piece.holds_header(data) {
            return Err(DropReason::FragmentTiny);
        }
        let fits = if piece.more {
            self.end.is_none_or(|last| end <= last)
        } else {
            self.reach <= end && self.end.is_none_or(|last| end == last)
        };
        if !fits {
            return Err(DropReason::FragmentInconsistent);
        }
        if units(piece.offset, data.len()).any(|unit| self.bit(unit, |page| &page.came)) {
            return Err(if self.has(piece, data) {
                DropReason::FragmentDuplicate
            } else {
                DropReason::FragmentOverlap
            });
        }
        if self.ecn.with(piece.tos).contradicts() {
            return Err(DropReason::FragmentInconsistent);
        }
        Ok(())
    }

    /// Takes a part that fits.
    pub(super) fn store<A: Address>(&mut self, piece: &Piece<A>, data: &[u8]) {
        let end = piece.offset + data.len();
        if piece.offset == 0 {
            self.head = Some(Head {
                protocol: piece.protocol,
                tos: piece.tos,
                ttl: piece.ttl,
            });
        }
        if !piece.more {
            self.end = Some(end);
        }
        self.ecn = self.ecn.with(piece.tos);
        self.reach = self.reach.max(end);
        self.received += data.len();
        self.largest = self.largest.max(data.len());
        self.pieces += 1;
        let mut at = piece.offset;
        let mut rest = data;
        while !rest.is_empty() {
            let (here, later) = rest.split_at(rest.len().min(PAGE - at % PAGE));
            let Some(slot) = self.pages.get_mut(at / PAGE) else {
                return;
            };
            let page = slot.get_or_insert_with(Page::new);
            if let Some(place) = page.bytes.get_mut(at % PAGE..at % PAGE + here.len()) {
                place.copy_from_slice(here);
            }
            for unit in units(at, here.len()) {
                set(&mut page.came, unit % UNITS);
            }
            if at == piece.offset {
                set(&mut page.starts, at / 8 % UNITS);
            }
            at += here.len();
            rest = later;
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.head.is_some() && self.end == Some(self.received)
    }

    /// Forgets everything but that the parts to come are unwanted too (RFC 5722 §4).
    pub(super) fn refuse(&mut self, reason: DropReason) {
        *self = Self {
            used: self.used,
            ..Self::new(self.deadline)
        };
        self.refused = Some(reason);
    }

    /// Returns how many parts are held.
    pub(super) const fn pieces(&self) -> u64 {
        self.pieces
    }

    /// Returns how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        FIXED + self.pages.iter().flatten().count() * size_of::<Page>()
    }

    /// Returns how much memory it would take with another part.
    pub(super) fn bytes_with<A: Address>(&self, piece: &Piece<A>, len: usize) -> usize {
        let pages = piece.offset / PAGE..(piece.offset + len).div_ceil(PAGE);
        let new = self.pages.get(pages).unwrap_or_default();
        self.bytes() + new.iter().filter(|page| page.is_none()).count() * size_of::<Page>()
    }

    /// Tells whether exactly this part came before.
    fn has<A: Address>(&self, piece: &Piece<A>, data: &[u8]) -> bool {
        let end = piece.offset + data.len();
        let starts = |unit| self.bit(unit, |page| &page.starts);
        let ends_here = if piece.more {
            // the next one starts where it ends, or has not come
            starts(end / 8) || !self.bit(end / 8, |page| &page.came)
        } else {
            self.end == Some(end)
        };
        ends_here
            && starts(piece.offset / 8)
            && !units(piece.offset, data.len()).skip(1).any(starts)
            && units(piece.offset, data.len()).all(|unit| self.bit(unit, |page| &page.came))
            && self.holds(piece.offset, data)
    }

    fn holds(&self, mut at: usize, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            let (here, later) = data.split_at(data.len().min(PAGE - at % PAGE));
            let held = self
                .page(at / PAGE)
                .and_then(|page| page.bytes.get(at % PAGE..at % PAGE + here.len()));
            if held != Some(here) {
                return false;
            }
            at += here.len();
            data = later;
        }
        true
    }

    fn bit(&self, unit: usize, map: impl Fn(&Page) -> &[u64; UNITS / 64]) -> bool {
        self.page(unit / UNITS).is_some_and(|page| {
            let word = map(page).get(unit % UNITS / 64);
            word.is_some_and(|word| word & (1 << (unit % 64)) != 0)
        })
    }

    fn page(&self, number: usize) -> Option<&Page> {
        self.pages.get(number)?.as_deref()
    }
}

impl Whole<Ipv4Addr> {
    /// Writes the datagram as the one packet that it was, as far as it is translated.
    pub(crate) fn write(&self, frame: &mut Frame) -> Result<(), DropReason> {
        let parts = frame
            .replace::<{ ipv4::LEN }>(self.len)
            .ok_or(DropReason::TooBig)?;
        ipv4::Header {
            header_len: ipv4::LEN,
            tos: self.tos,
            total_len: u16::try_from(ipv4::LEN + self.len).map_err(|_| DropReason::TooBig)?,
            id: u16::try_from(self.pieces.id).unwrap_or_default(),
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            ttl: self.ttl,
            protocol: self.protocol,
            src: self.src,
            dst: self.dst,
            source_routed: false,
        }
        .emit(parts.ip);
        self.copy_to(parts.l4);
        Ok(())
    }
}

impl Whole<Ipv6Addr> {
    /// Writes the datagram as the one packet that it was, as far as it is translated.
    pub(crate) fn write(&self, frame: &mut Frame) -> Result<(), DropReason> {
        let parts = frame
            .replace::<{ ipv6::LEN }>(self.len)
            .ok_or(DropReason::TooBig)?;
        ipv6::Header {
            traffic_class: self.tos,
            payload_len: u16::try_from(self.len).map_err(|_| DropReason::TooBig)?,
            next_header: self.protocol,
            hop_limit: self.ttl,
            src: self.src,
            dst: self.dst,
        }
        .emit(parts.ip);
        self.copy_to(parts.l4);
        Ok(())
    }
}

impl<A: Address> Whole<A> {
    pub(super) fn new(last: &Piece<A>, datagram: Box<Datagram>) -> Self {
        let head = datagram.head.unwrap_or(Head {
            protocol: last.protocol,
            tos: last.tos,
            ttl: last.ttl,
        });
        Self {
            src: last.src,
            dst: last.dst,
            protocol: head.protocol,
            tos: datagram.ecn.merged(head.tos),
            ttl: head.ttl,
            len: datagram.received,
            pieces: Pieces {
                id: last.id,
                largest: datagram.largest,
                are_kept: datagram.pieces <= MOST_KEPT,
            },
            datagram,
        }
    }

    /// Returns how many parts came before the last one.
    pub(crate) const fn earlier_parts(&self) -> u64 {
        self.datagram.pieces.saturating_sub(1)
    }

    /// Says where the parts begin that leave as they came, in units of eight bytes; otherwise
    /// nothing.
    pub(crate) fn starts(&self, starts: &mut Vec<u16>) {
        starts.clear();
        if !self.pieces.are_kept {
            return;
        }
        for (number, page) in self.datagram.pages.iter().enumerate() {
            let words = page.iter().flat_map(|page| page.starts).enumerate();
            for (place, mut word) in words {
                while word != 0 {
                    let bit = usize::try_from(word.trailing_zeros()).unwrap_or_default();
                    let unit = number * UNITS + place * 64 + bit;
                    starts.extend(u16::try_from(unit));
                    word &= word - 1;
                }
            }
        }
    }

    fn copy_to(&self, segment: &mut [u8]) {
        for (to, page) in segment.chunks_mut(PAGE).zip(&self.datagram.pages) {
            let from = page.as_ref().and_then(|page| page.bytes.get(..to.len()));
            if let Some(from) = from {
                to.copy_from_slice(from);
            }
        }
    }
}

impl Page {
    fn new() -> Box<Self> {
        Box::new(Self {
            came: [0; UNITS / 64],
            starts: [0; UNITS / 64],
            bytes: [0; PAGE],
        })
    }
}

impl Ecn {
    #[must_use]
    const fn with(self, tos: u8) -> Self {
        Self(self.0 | 1 << (tos & ECN_MASK))
    }

    /// RFC 3168 §5.3: congestion cannot have been met by what cannot say so.
    const fn contradicts(self) -> bool {
        let (not_capable, congested) = (1, 1 << ECN_CONGESTED);
        self.0 & not_capable != 0 && self.0 & congested != 0
    }

    /// RFC 3168 §5.3: what one part met the whole has met.
    const fn merged(self, tos: u8) -> u8 {
        if self.0 & (1 << ECN_CONGESTED) != 0 {
            tos | ECN_CONGESTED
        } else {
            tos
        }
    }
}

/// Returns the units of eight bytes that a part covers.
fn units(offset: usize, len: usize) -> std::ops::Range<usize> {
    offset / 8..(offset + len).div_ceil(8)
}

fn set(map: &mut [u64; UNITS / 64], unit: usize) {
    if let Some(word) = map.get_mut(unit / 64) {
        *word |= 1 << (unit % 64);
    }
}

/// Bytes in a page: one takes most parts of Ethernet's size.
const PAGE: usize = 2048;

/// Units of eight bytes in a page.
const UNITS: usize = PAGE / 8;

/// Pages in the longest segment.
const PAGES: usize = 65_536 / PAGE;

/// Parts that leave as they came, at most: as many as the longest datagram has that is cut for the
/// smallest link.
const MOST_KEPT: u64 = 65_535 / 48;

/// What a datagram takes besides its pages: itself and its places in the indexes of the table.
const FIXED: usize = size_of::<Datagram>() + 320;

/// RFC 3168 §5.
const ECN_MASK: u8 = 0b11;
const ECN_CONGESTED: u8 = 0b11;
