//! The way out of packets that are too long for one, or that came in parts (RFC 7915 §4.1,
//! §5.1.1).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::checksum::Sum;
use crate::frame::Frame;
use crate::incoming::{Incoming, Pieces};
use crate::outbox::Outbox;
use crate::verdict::{DropReason, Verdict};
use crate::wire::vnet::Gso;
use crate::wire::{Field, Malformed, ipv4, ipv6, udp, vnet};

/// How a packet leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A super-packet, as datagrams that are cut each.
    Datagrams {
        /// Of the first one; each has the next.
        id: u16,
        /// Bytes of payload in each.
        size: usize,
        /// Bytes of the segment in each fragment.
        fragment: usize,
    },
    /// In fragments.
    Fragments {
        id: u32,
        /// Bytes of the segment in each.
        size: usize,
    },
    /// As one packet.
    Whole,
}

/// Decides how a packet from the LAN leaves. Fragments fit `lowest_ipv6_mtu`, which no link is
/// below; what must not be cut fits `mtu`.
pub(crate) fn four_to_six(
    incoming: &mut Incoming<Ipv4Addr>,
    mtu: u16,
    lowest_ipv6_mtu: u16,
) -> Result<Way, DropReason> {
    let mtu = mtu.max(ipv6::MIN_MTU);
    let lowest = usize::from(lowest_ipv6_mtu.clamp(ipv6::MIN_MTU, mtu));
    let room = lowest - ipv6::LEN - ipv6::Fragment::LEN;
    let (largest, _) = incoming.on_the_wire(ipv6::LEN);
    // DEVIATION RFC 7915 §4.1: DF of a fragment asks for no error, because the datagram has been
    // put together and can be cut to fit.
    if let Some(pieces) = incoming.came_in_pieces {
        return Ok(pieces_of(pieces, incoming.l4_len, room));
    }
    if incoming.dont_fragment {
        return if largest > usize::from(mtu) {
            Err(DropReason::TooBig)
        } else {
            Ok(Way::Whole)
        };
    }
    if largest <= lowest {
        return Ok(Way::Whole);
    }
    match &mut incoming.offload.segmentation {
        None => Ok(Way::Fragments {
            id: incoming.id.into(),
            size: of_units(room),
        }),
        Some(segmentation) if segmentation.kind == Gso::UdpL4 => Ok(Way::Datagrams {
            id: incoming.id,
            size: usize::from(segmentation.size),
            fragment: of_units(room),
        }),
        // A stream has no borders: shorter segments serve it better than fragments.
        Some(segmentation) => {
            let headers = ipv6::LEN + incoming.segment.header_len();
            segmentation.size = u16::try_from(lowest - headers).unwrap_or(u16::MAX);
            Ok(Way::Whole)
        }
    }
}

/// Decides how a packet from a remote leaves. What came whole leaves whole: where it is too long,
/// DF tells the routers behind us whether they may cut it.
pub(crate) fn six_to_four(incoming: &Incoming<Ipv6Addr>, mtu: u16) -> Way {
    let room = usize::from(mtu.max(ipv4::MIN_MTU)) - ipv4::LEN;
    match incoming.came_in_pieces {
        Some(pieces) => pieces_of(pieces, incoming.l4_len, room),
        None => Way::Whole,
    }
}

/// What came in pieces leaves in the same (RFC 7915 §4.1, §5.1.1: the offset is copied), cut again
/// where they are too long; if they are too many, in others, of which none is larger than the
/// largest that came. Never in a single one (RFC 8021).
fn pieces_of(pieces: Pieces, len: usize, room: usize) -> Way {
    if pieces.are_kept {
        return Way::Fragments {
            id: pieces.id,
            size: of_units(room),
        };
    }
    let size = of_units(pieces.largest.min(room));
    if size < len && pieces.largest < len {
        Way::Fragments {
            id: pieces.id,
            size,
        }
    } else {
        Way::Whole
    }
}

impl Way {
    /// Sends the IPv6 packet in `frame` this way; `starts` says where the pieces began that it came
    /// in, in units of eight bytes, if they are kept.
    pub(crate) fn take_six(
        self,
        frame: &mut Frame,
        starts: &[u16],
        outbox: &mut Outbox,
    ) -> Result<Verdict, DropReason> {
        let header = match self {
            Self::Whole => return Ok(Verdict::Forward),
            Self::Datagrams { .. } | Self::Fragments { .. } => ipv6::Header::parse(frame.packet())?,
        };
        match self {
            Self::Whole => {}
            Self::Fragments { id, size } => {
                complete_checksum(frame)?;
                let segment = frame.packet().get(ipv6::LEN..).unwrap_or_default();
                let cuts = Cuts::new(starts, size, segment.len());
                fragments_six(&header, id, cuts, (&[], segment), outbox);
            }
            Self::Datagrams { id, size, fragment } => {
                let segment = frame.packet().get(ipv6::LEN..).unwrap_or_default();
                let (head, payload) = segment
                    .split_first_chunk::<{ udp::LEN }>()
                    .ok_or(Malformed::new(Field::UdpHeader, 0))?;
                let mut id = id;
                for payload in payload.chunks(size.max(1)) {
                    let head = datagram_head(&header, *head, payload);
                    let datagram = (&head[..], payload);
                    if udp::LEN + payload.len() <= fragment + ipv6::Fragment::LEN {
                        whole_six(&header, datagram, outbox);
                    } else {
                        let cuts = Cuts::new(&[], fragment, udp::LEN + payload.len());
                        fragments_six(&header, id.into(), cuts, datagram, outbox);
                    }
                    id = id.wrapping_add(1);
                }
            }
        }
        Ok(Verdict::Hold)
    }

    /// As [`Self::take_six`].
    pub(crate) fn take_four(
        self,
        frame: &mut Frame,
        starts: &[u16],
        outbox: &mut Outbox,
    ) -> Result<Verdict, DropReason> {
        let Self::Fragments { size, .. } = self else {
            return Ok(Verdict::Forward);
        };
        complete_checksum(frame)?;
        let mut header = ipv4::Header::parse(frame.packet())?;
        let segment = frame.packet().get(ipv4::LEN..).unwrap_or_default();
        for place in Cuts::new(starts, size, segment.len()) {
            let data = segment.get(place.clone()).unwrap_or_default();
            header.total_len = length(ipv4::LEN + data.len());
            header.fragment_offset = length(place.start / UNIT);
            header.more_fragments = place.end < segment.len();
            let mut ip = [0; ipv4::LEN];
            header.emit(&mut ip);
            outbox.push(&[&NO_OFFLOAD, &ip, data]);
        }
        Ok(Verdict::Hold)
    }
}

/// A part of a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a> {
    pub(crate) id: u32,
    /// Where it stands in the datagram, in units of eight bytes.
    pub(crate) offset: u16,
    /// Others follow.
    pub(crate) more: bool,
    pub(crate) data: &'a [u8],
}

/// Sends a part of a datagram in fragments of at most `mtu` bytes.
pub(crate) fn stretch_six(
    header: &ipv6::Header,
    stretch: &Stretch<'_>,
    mtu: usize,
    outbox: &mut Outbox,
) {
    let room = mtu.saturating_sub(ipv6::LEN + ipv6::Fragment::LEN);
    let size = if stretch.data.len() <= room {
        room
    } else {
        of_units(room)
    };
    let mut pieces = stretch.data.chunks(size.max(1)).peekable();
    let mut offset = stretch.offset;
    while let Some(data) = pieces.next() {
        let fragment = ipv6::Fragment {
            id: stretch.id,
            offset,
            more: stretch.more || pieces.peek().is_some(),
        };
        let mut ip = [0; ipv6::LEN];
        let mut extension = [0; ipv6::Fragment::LEN];
        ipv6::Header {
            payload_len: length(ipv6::Fragment::LEN + data.len()),
            next_header: ipv6::FRAGMENT,
            ..*header
        }
        .emit(&mut ip);
        fragment.emit(header.next_header, &mut extension);
        outbox.push(&[&NO_OFFLOAD, &ip, &extension, data]);
        offset = offset.wrapping_add(length(data.len() / UNIT));
    }
}

/// Sends a segment, given in two parts, in fragments.
fn fragments_six(
    header: &ipv6::Header,
    id: u32,
    cuts: Cuts<'_>,
    (head, body): (&[u8], &[u8]),
    outbox: &mut Outbox,
) {
    let len = head.len() + body.len();
    let (mut head, mut body) = (head, body);
    for place in cuts {
        // no head is as long as a fragment
        let (first, rest) = body.split_at(place.len().saturating_sub(head.len()).min(body.len()));
        let fragment = ipv6::Fragment {
            id,
            offset: length(place.start / UNIT),
            more: place.end < len,
        };
        let mut ip = [0; ipv6::LEN];
        let mut extension = [0; ipv6::Fragment::LEN];
        ipv6::Header {
            payload_len: length(ipv6::Fragment::LEN + place.len()),
            next_header: ipv6::FRAGMENT,
            ..*header
        }
        .emit(&mut ip);
        fragment.emit(header.next_header, &mut extension);
        outbox.push(&[&NO_OFFLOAD, &ip, &extension, head, first]);
        (head, body) = (&[], rest);
    }
}

/// The places of the parts into which a segment is cut: none is longer than `size`, and each start
/// of a piece that it came in is one again.
struct Cuts<'a> {
    starts: &'a [u16],
    size: usize,
    at: usize,
    len: usize,
}

impl<'a> Cuts<'a> {
    const fn new(starts: &'a [u16], size: usize, len: usize) -> Self {
        Self {
            starts,
            size,
            at: 0,
            len,
        }
    }
}

impl Iterator for Cuts<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let mut end = self.len.min(self.at + self.size.max(UNIT));
        while let Some((start, later)) = self.starts.split_first() {
            let start = usize::from(*start) * UNIT;
            if start > self.at {
                end = end.min(start);
                break;
            }
            self.starts = later;
        }
        let place = self.at..end;
        self.at = end;
        (!place.is_empty()).then_some(place)
    }
}

fn whole_six(header: &ipv6::Header, (head, body): (&[u8], &[u8]), outbox: &mut Outbox) {
    let mut ip = [0; ipv6::LEN];
    ipv6::Header {
        payload_len: length(head.len() + body.len()),
        ..*header
    }
    .emit(&mut ip);
    outbox.push(&[&NO_OFFLOAD, &ip, head, body]);
}

/// Returns the header of one of the datagrams of a super-packet.
fn datagram_head(
    header: &ipv6::Header,
    [s0, s1, d0, d1, ..]: [u8; udp::LEN],
    payload: &[u8],
) -> [u8; udp::LEN] {
    let len = udp::LEN + payload.len();
    let [l0, l1] = length(len).to_be_bytes();
    let head = [s0, s1, d0, d1, l0, l1, 0, 0];
    let pseudo = Sum::pseudo_v6(header.src, header.dst, len, udp::PROTOCOL);
    let [c0, c1] = match !(pseudo + Sum::of(&head) + Sum::of(payload)).fold() {
        0 => [0xff; 2],
        checksum => checksum.to_be_bytes(),
    };
    [s0, s1, d0, d1, l0, l1, c0, c1]
}

/// Does what the next device can no longer do when it gets parts only.
fn complete_checksum(frame: &mut Frame) -> Result<(), Malformed> {
    let Some(partial) = vnet::Header::parse(frame.bytes())?.partial else {
        return Ok(());
    };
    let outside = Malformed::new(Field::VnetHdr, 6);
    let segment = frame.packet_mut().get_mut(usize::from(partial.start)..);
    let segment = segment.ok_or(outside)?;
    let checksum = match !Sum::of(segment).fold() {
        0 => 0xffff,
        checksum => checksum,
    };
    let place = segment.get_mut(usize::from(partial.offset)..);
    let place = place.and_then(<[u8]>::first_chunk_mut).ok_or(outside)?;
    *place = checksum.to_be_bytes();
    Ok(())
}

/// Returns how much of a segment goes into each fragment where there is so much room. The parts of
/// a datagram that came in crumbs leave in parts of 48 bytes, which every link carries: RFC 791
/// §3.2.
fn of_units(room: usize) -> usize {
    (room - room % UNIT).max(48)
}

/// All lengths here are parts of lengths that were 16 bits wide.
fn length(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

const NO_OFFLOAD: [u8; vnet::LEN] = [0; vnet::LEN];

/// Bytes in a unit of fragment offsets.
const UNIT: usize = 8;
