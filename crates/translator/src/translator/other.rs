//! Packets between mapped addresses that pass as they are, one by one: those of transport protocols
//! that have no sessions here (RFC 7915 §4.5, §5.5), and the parts of datagrams (§4.1, §5.1.1).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::Translator;
use crate::alone::{Pair, Source, stateless_four, stateless_six};
use crate::checksum::Sum;
use crate::counters::Traffic;
use crate::cut::{Stretch, stretch_six};
use crate::fragment::{Address as _, is_possible};
use crate::frame::Frame;
use crate::rewrite::Rewrite;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{Field, Malformed, icmp, ipv4, ipv6, tcp, udp, vnet};

impl Translator {
    /// Translates the headers of a packet that was found to be of no protocol that is known.
    pub(super) fn pass_other(&mut self, frame: &mut Frame) -> Result<Verdict, DropReason> {
        if self.config.alone.is_none() {
            return Err(DropReason::UnsupportedProtocol);
        }
        if vnet::Header::parse(frame.bytes())? != vnet::Header::default() {
            return Err(Malformed::new(Field::VnetHdr, 0).into());
        }
        match frame.packet().first().map(|first| first >> 4) {
            Some(4) => self.other_four(frame, Source::Mapped),
            _ => self.other_six(frame),
        }
    }

    /// Translates the header of an IPv4 packet, and the checksum where this is the first part of a
    /// datagram.
    pub(super) fn other_four(
        &mut self,
        frame: &mut Frame,
        source: Source,
    ) -> Result<Verdict, DropReason> {
        let header = ipv4::Header::parse(frame.packet())?;
        self.is_not_forged(header.src, source)?;
        let Pair { src, dst } = self.mapped_pair_four((header.src, header.dst), source)?;
        if !passes(header.protocol) {
            return Err(DropReason::UnsupportedProtocol);
        }
        let data = header.header_len..usize::from(header.total_len);
        let len = data.len();
        if header.is_fragment() {
            is_part(header.fragment_offset, header.more_fragments, len)?;
        }
        let mtu = usize::from(self.config.links.wan_mtu.max(ipv6::MIN_MTU));
        let lowest = usize::from(self.config.lowest_ipv6_mtu).clamp(ipv6::MIN_MTU.into(), mtu);
        let fragment = if header.is_fragment() {
            ipv6::Fragment::LEN
        } else {
            0
        };
        if header.dont_fragment && ipv6::LEN + fragment + len > mtu {
            return Err(DropReason::TooBig);
        }
        if header.fragment_offset == 0 {
            let old = Sum::addrs_v4(header.src, header.dst);
            let pseudo = Sum::change(old, Sum::addrs_v6(src, dst));
            self.first_part(frame, (data.clone(), header.protocol), pseudo)?;
        }
        self.counters.four_to_six.add(traffic(len));
        let six = ipv6::Header {
            traffic_class: if self.config.zero_traffic_class {
                0
            } else {
                header.tos
            },
            payload_len: u16::try_from(len).map_err(|_| DropReason::TooBig)?,
            next_header: header.protocol,
            hop_limit: header.ttl,
            src,
            dst,
        };
        let is_cut = !header.dont_fragment && ipv6::LEN + len > lowest;
        if header.is_fragment() || is_cut {
            let room = if header.dont_fragment { mtu } else { lowest };
            let stretch = Stretch {
                id: header.id.into(),
                offset: header.fragment_offset,
                more: header.more_fragments,
                data: frame.packet().get(data).unwrap_or_default(),
            };
            stretch_six(&six, &stretch, room, &mut self.outbox);
            self.counters.fragments.cut += u64::from(is_cut);
            return Ok(Verdict::Hold);
        }
        let parts = frame
            .rewrite::<{ ipv6::LEN }>(data.start, len)
            .ok_or(DropReason::TooBig)?;
        six.emit(parts.ip);
        parts.vnet.fill(0);
        Ok(Verdict::Forward)
    }

    /// As [`Self::other_four`], the other way.
    pub(super) fn other_six(&mut self, frame: &mut Frame) -> Result<Verdict, DropReason> {
        let header = ipv6::Header::parse(frame.packet())?;
        let end = ipv6::LEN + usize::from(header.payload_len);
        let ipv6::Upper::Transport {
            protocol,
            offset,
            fragment,
        } = ipv6::upper(frame.packet(), &header)?
        else {
            return Err(DropReason::SourceRouted);
        };
        let Pair { src, dst } = self.mapped_pair_six((header.src, header.dst))?;
        if !passes(protocol) {
            return Err(DropReason::UnsupportedProtocol);
        }
        let len = end
            .checked_sub(offset)
            .ok_or(Malformed::new(Field::Ipv6PayloadLength, 4))?;
        if let Some(part) = fragment {
            is_part(part.offset, part.more, len)?;
        }
        let total_len = u16::try_from(ipv4::LEN + len).map_err(|_| DropReason::TooBig)?;
        let dont_fragment = fragment.is_none() && total_len > ALWAYS_FITS;
        if dont_fragment && total_len > self.config.links.lan_mtu {
            return Err(DropReason::TooBig);
        }
        if fragment.is_none_or(|part| part.offset == 0) {
            let old = Sum::addrs_v6(header.src, header.dst);
            let pseudo = Sum::change(old, Sum::addrs_v4(src, dst));
            self.first_part(frame, (offset..end, protocol), pseudo)?;
        }
        let id = match fragment {
            Some(fragment) => {
                let [_, _, a, b] = fragment.id.to_be_bytes();
                u16::from_be_bytes([a, b])
            }
            None if dont_fragment => 0,
            None => self.ids.next(src, dst, 1),
        };
        let four = ipv4::Header {
            header_len: ipv4::LEN,
            tos: self.config.tos.unwrap_or(header.traffic_class),
            total_len,
            id,
            dont_fragment,
            more_fragments: fragment.is_some_and(|fragment| fragment.more),
            fragment_offset: fragment.map_or(0, |fragment| fragment.offset),
            ttl: header.hop_limit,
            protocol,
            src,
            dst,
            source_routed: false,
        };
        let parts = frame
            .rewrite::<{ ipv4::LEN }>(offset, len)
            .ok_or(DropReason::TooBig)?;
        four.emit(parts.ip);
        parts.vnet.fill(0);
        self.counters.six_to_four.add(traffic(len));
        if self.comes_back(dst) {
            return self.other_four(frame, Source::Hairpinned);
        }
        Ok(Verdict::Forward)
    }

    /// Keeps the checksum in the first part of a TCP segment or UDP datagram as right or wrong as it
    /// came, although the addresses change.
    fn first_part(
        &self,
        frame: &mut Frame,
        (place, protocol): (Range<usize>, u8),
        pseudo: Sum,
    ) -> Result<(), DropReason> {
        let l4 = frame.packet_mut().get_mut(place).unwrap_or_default();
        let Some(&[s0, s1, d0, d1, .., c0, c1]) = l4.first_chunk::<{ udp::LEN }>() else {
            return Ok(());
        };
        let rewrite = Rewrite {
            pseudo,
            partial: false,
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
        };
        match protocol {
            tcp::PROTOCOL => {
                let header = tcp::Header::parse(l4).map_err(|_| DropReason::FragmentTiny)?;
                rewrite.tcp(l4, &header, self.config.links.mss());
            }
            udp::PROTOCOL if [c0, c1] == [0; 2] => return Err(DropReason::UdpWithoutChecksum),
            udp::PROTOCOL => rewrite.udp(l4),
            _ => {}
        }
        Ok(())
    }

    fn mapped_pair_four(
        &self,
        addrs: (Ipv4Addr, Ipv4Addr),
        source: Source,
    ) -> Result<Pair<Ipv6Addr>, DropReason> {
        let (nsps, bib) = (&self.filter.nsps, &self.filter.sessions.bib);
        let alone = self.config.alone.as_ref();
        let pair = alone.map(|alone| stateless_four(alone, nsps, bib, addrs, source));
        pair.transpose()?
            .flatten()
            .ok_or(DropReason::UnsupportedProtocol)
    }

    fn mapped_pair_six(&self, addrs: (Ipv6Addr, Ipv6Addr)) -> Result<Pair<Ipv4Addr>, DropReason> {
        let (nsps, bib) = (&self.filter.nsps, &self.filter.sessions.bib);
        let alone = self.config.alone.as_ref();
        let pair = alone.map(|alone| stateless_six(alone, nsps, bib, addrs));
        pair.transpose()?
            .flatten()
            .ok_or(DropReason::UnsupportedProtocol)
    }
}

/// Tells whether a protocol is one of transport, so that its number means the same in both
/// families.
// DEVIATION RFC 7915 §4.1, §5.1: other numbers are not copied, because a payload from IPv4 would be
// read as an extension header, with which anybody could forge fragments; IGMP and what follows
// nothing are for their link, and of ICMP only the own kind makes sense.
const fn passes(protocol: u8) -> bool {
    const IGMP: u8 = 2;
    const AUTHENTICATION: u8 = 51;
    const NO_NEXT_HEADER: u8 = 59;
    match protocol {
        AUTHENTICATION => true,
        IGMP | NO_NEXT_HEADER | icmp::PROTOCOL_V4 | icmp::PROTOCOL_V6 => false,
        _ => !ipv6::is_extension(protocol),
    }
}

/// Refuses what is no part of any datagram in IPv4; the offset is in units of eight bytes.
fn is_part(offset: u16, more: bool, len: usize) -> Result<(), DropReason> {
    is_possible(usize::from(offset) * 8, more, len, Ipv4Addr::longest())
}

fn traffic(len: usize) -> Traffic {
    Traffic {
        packets: 1,
        bytes: u64::try_from(ipv6::LEN + len).unwrap_or(u64::MAX),
    }
}

/// RFC 7915 §5.1: up to here IPv4 packets have no DF.
const ALWAYS_FITS: u16 = 1260;
