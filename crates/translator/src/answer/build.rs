//! The bytes of answers.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Answer, Quote};
use crate::checksum::Sum;
use crate::embedded::Embedded;
use crate::outbox::Outbox;
use crate::wire::tcp::Flags;
use crate::wire::{icmp, ipv4, ipv6, tcp, vnet};

/// Pushes an ICMP error.
pub(super) fn error_four(
    answer: Answer,
    packet: &Embedded<'_, Ipv4Addr>,
    quote: &Quote<'_>,
    router: Ipv4Addr,
    outbox: &mut Outbox,
) {
    let (kind, code, word) = match answer {
        Answer::AddressUnreachable => (3, 1, 0),
        Answer::ProtocolUnreachable => (3, 2, 0),
        Answer::SourceRouted => (3, 5, 0),
        Answer::TooBig { four, .. } => (3, 4, u32::from(four)),
        Answer::Prohibited | Answer::Reset => (3, 13, 0),
    };
    let wire = quote.on_the_wire(packet.l4_offset + packet.l4_len);
    let cut = wire.get(..MAX_QUOTE_V4).unwrap_or(wire);
    let Some((head, rest)) = cut.split_first_chunk::<{ ipv4::LEN }>() else {
        return;
    };
    let head = first_of_super_packet_v4(*head, wire.len());
    let sum = Sum::of(&head) + Sum::of(rest);
    let icmp = icmp_header(kind, code, word, sum);
    let header = ipv4_header(
        icmp::PROTOCOL_V4,
        icmp::LEN + cut.len(),
        (router, packet.src),
        INTERNETWORK_CONTROL,
    );
    outbox.push(&[&NO_OFFLOAD, &header, &icmp, &head, rest]);
}

/// Pushes an `ICMPv6` error.
pub(super) fn error_six(
    answer: Answer,
    packet: &Embedded<'_, Ipv6Addr>,
    quote: &Quote<'_>,
    router: Ipv6Addr,
    outbox: &mut Outbox,
) {
    let (kind, code, word) = match answer {
        Answer::AddressUnreachable => (1, 3, 0),
        Answer::ProtocolUnreachable => (1, 4, 0),
        Answer::SourceRouted => {
            let Some(pointer) = packet.segments_left else {
                return;
            };
            (4, 0, u32::try_from(pointer).unwrap_or_default())
        }
        Answer::TooBig { six, .. } => (2, 0, u32::from(six)),
        Answer::Prohibited | Answer::Reset => (1, 1, 0),
    };
    let wire = quote.on_the_wire(packet.l4_offset + packet.l4_len);
    let cut = wire.get(..MAX_QUOTE_V6).unwrap_or(wire);
    let Some((head, rest)) = cut.split_first_chunk::<{ ipv6::LEN }>() else {
        return;
    };
    let head = first_of_super_packet_v6(*head, wire.len());
    let len = icmp::LEN + cut.len();
    let pseudo = Sum::pseudo_v6(router, packet.src, len, icmp::PROTOCOL_V6);
    let icmp = icmp_header(kind, code, word, pseudo + Sum::of(&head) + Sum::of(rest));
    let header = ipv6_header(icmp::PROTOCOL_V6, len, (router, packet.src));
    outbox.push(&[&NO_OFFLOAD, &header, &icmp, &head, rest]);
}

/// Pushes the reset of a connection that nobody knows.
pub(super) fn reset_four(packet: &Embedded<'_, Ipv4Addr>, outbox: &mut Outbox) {
    let (src, dst) = (packet.dst, packet.src);
    let pseudo = Sum::addrs_v4(src, dst) + Sum::of(&[0, tcp::PROTOCOL, 0, RESET_LEN]);
    if let Some(segment) = reset(packet, pseudo) {
        let header = ipv4_header(tcp::PROTOCOL, segment.len(), (src, dst), 0);
        outbox.push(&[&NO_OFFLOAD, &header, &segment]);
    }
}

/// As [`reset_four`].
pub(super) fn reset_six(packet: &Embedded<'_, Ipv6Addr>, outbox: &mut Outbox) {
    let (src, dst) = (packet.dst, packet.src);
    let pseudo = Sum::pseudo_v6(src, dst, tcp::LEN, tcp::PROTOCOL);
    if let Some(segment) = reset(packet, pseudo) {
        let header = ipv6_header(tcp::PROTOCOL, segment.len(), (src, dst));
        outbox.push(&[&NO_OFFLOAD, &header, &segment]);
    }
}

/// RFC 9293 §3.10.7.1; nothing answers a reset.
fn reset<A>(packet: &Embedded<'_, A>, pseudo: Sum) -> Option<[u8; tcp::LEN]> {
    if packet.protocol != tcp::PROTOCOL {
        return None;
    }
    let header = tcp::Header::parse(packet.l4).ok()?;
    if header.flags.has(Flags::RST) {
        return None;
    }
    let (sequence, acknowledgment, flags) = if header.flags.has(Flags::ACK) {
        (header.acknowledgment, 0, Flags::RST.0)
    } else {
        let taken = packet.l4_len.saturating_sub(header.header_len)
            + usize::from(header.flags.has(Flags::SYN))
            + usize::from(header.flags.has(Flags::FIN));
        let next = header.sequence.wrapping_add(u32::try_from(taken).ok()?);
        (0, next, Flags::RST.0 | Flags::ACK.0)
    };
    let [s0, s1] = header.dst_port.to_be_bytes();
    let [d0, d1] = header.src_port.to_be_bytes();
    let [n0, n1, n2, n3] = sequence.to_be_bytes();
    let [a0, a1, a2, a3] = acknowledgment.to_be_bytes();
    let segment = |c0, c1| {
        [
            s0, s1, d0, d1, n0, n1, n2, n3, a0, a1, a2, a3, 0x50, flags, 0, 0, c0, c1, 0, 0,
        ]
    };
    let [c0, c1] = (!(pseudo + Sum::of(&segment(0, 0))).fold()).to_be_bytes();
    Some(segment(c0, c1))
}

fn icmp_header(kind: u8, code: u8, word: u32, rest: Sum) -> [u8; icmp::LEN] {
    let [w0, w1, w2, w3] = word.to_be_bytes();
    let header = |c0, c1| [kind, code, c0, c1, w0, w1, w2, w3];
    let [c0, c1] = (!(rest + Sum::of(&header(0, 0))).fold()).to_be_bytes();
    header(c0, c1)
}

fn ipv4_header(
    protocol: u8,
    payload_len: usize,
    (src, dst): (Ipv4Addr, Ipv4Addr),
    tos: u8,
) -> [u8; ipv4::LEN] {
    let mut bytes = [0; ipv4::LEN];
    ipv4::Header {
        header_len: ipv4::LEN,
        tos,
        total_len: length(ipv4::LEN + payload_len),
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: HOP_LIMIT,
        protocol,
        src,
        dst,
        source_routed: false,
    }
    .emit(&mut bytes);
    bytes
}

fn ipv6_header(
    next_header: u8,
    payload_len: usize,
    (src, dst): (Ipv6Addr, Ipv6Addr),
) -> [u8; ipv6::LEN] {
    let mut bytes = [0; ipv6::LEN];
    ipv6::Header {
        traffic_class: 0,
        payload_len: length(payload_len),
        next_header,
        hop_limit: HOP_LIMIT,
        src,
        dst,
    }
    .emit(&mut bytes);
    bytes
}

/// Gives the header of a super-packet the length of the first packet that it was made of.
fn first_of_super_packet_v4(mut head: [u8; ipv4::LEN], len: usize) -> [u8; ipv4::LEN] {
    let old = u16::from_be_bytes([head[2], head[3]]);
    let new = length(len);
    if new < old {
        let checksum = u16::from_be_bytes([head[10], head[11]]);
        [head[10], head[11]] = Sum::change_word(old, new).update(checksum).to_be_bytes();
        [head[2], head[3]] = new.to_be_bytes();
    }
    head
}

fn first_of_super_packet_v6(mut head: [u8; ipv6::LEN], len: usize) -> [u8; ipv6::LEN] {
    let old = u16::from_be_bytes([head[4], head[5]]);
    let new = length(len.saturating_sub(ipv6::LEN));
    if new < old {
        [head[4], head[5]] = new.to_be_bytes();
    }
    head
}

/// All lengths here are under 2^16.
fn length(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// RFC 1812 §4.3.2.3: the whole message is at most 576 bytes long.
const MAX_QUOTE_V4: usize = 576 - ipv4::LEN - icmp::LEN;

/// RFC 4443 §2.4 (c): the whole message fits the minimum MTU.
const MAX_QUOTE_V6: usize = 1280 - ipv6::LEN - icmp::LEN;

/// RFC 1812 §4.3.2.5: precedence 6.
const INTERNETWORK_CONTROL: u8 = 0xc0;

/// RFC 1700: the default time to live.
const HOP_LIMIT: u8 = 64;

/// `tcp::LEN` as a byte of the pseudo-header.
const RESET_LEN: u8 = 20;

const NO_OFFLOAD: [u8; vnet::LEN] = [0; vnet::LEN];
