//! The bytes of a translated error.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::interface::Extensions;
use super::layout::Layout;
use super::mtu;
use super::table::{self, Translated, Word};
use super::{Error, Names};
use crate::checksum::Sum;
use crate::config::Links;
use crate::embedded::{Embedded, Quoted};
use crate::rewrite::Rewrite;
use crate::wire::ipv6::Fragment;
use crate::wire::{icmp, ipv4, ipv6, udp, vnet};

/// A packet of the length that an ICMP error may have, with an offload header that asks for
/// nothing.
pub(crate) struct Packet {
    bytes: [u8; vnet::LEN + MAX_LEN_V6],
    len: usize,
}

/// Translates an error from IPv4 to IPv6.
pub(super) fn four_to_six(
    error: &Error<'_, Ipv4Addr>,
    translated: Translated,
    names: &Names<Ipv6Addr>,
    links: Links,
) -> Packet {
    let Embedded { l4, l4_len, .. } = error.embedded;
    let mut packet = Packet::new(ipv6::LEN);
    let unit = table::has_length_v6(translated.kind).then_some(8);
    let head = quoted_head_six(&error.embedded, names);
    let layout = Layout::new(
        head.as_ref().len() + l4.len(),
        error.extensions.len(),
        MAX_LEN_V6 - ipv6::LEN - icmp::LEN,
        unit,
    );
    let word = match translated.word {
        Word::Mtu(mtu) => {
            let total_len = error.embedded.l4_offset + l4_len;
            mtu::four_to_six(mtu, total_len, links).to_be_bytes()
        }
        Word::Pointer(pointer) => u32::from(pointer).to_be_bytes(),
        Word::Unused => [layout.length, 0, 0, 0],
    };
    packet.push_icmp(translated, word);
    let segment = packet.push_body(head.as_ref(), l4, &layout, error.extensions);
    let addrs = Sum::addrs_v6(names.sender.0, names.receiver.0);
    let pseudo = Sum::pseudo_v6(names.sender.0, names.receiver.0, l4_len, icmp::PROTOCOL_V6);
    rewrite_quoted(
        segment,
        error,
        names,
        &Pseudo {
            addrs: Sum::change(Sum::addrs_v4(error.embedded.src, error.embedded.dst), addrs),
            icmp: Sum::change(Sum::default(), pseudo),
            echo: (icmp::ECHO_REQUEST_V6, icmp::ECHO_REPLY_V6),
            whole: whole_udp(&error.embedded, addrs),
        },
    );
    packet.finish_six(error, names);
    packet
}

/// Translates an error from IPv6 to IPv4.
pub(super) fn six_to_four(
    error: &Error<'_, Ipv6Addr>,
    translated: Translated,
    names: &Names<Ipv4Addr>,
    links: Links,
    id: u16,
) -> Packet {
    let Embedded { l4, l4_len, .. } = error.embedded;
    let mut packet = Packet::new(ipv4::LEN);
    let unit = table::has_length_v4(translated.kind).then_some(4);
    let head = quoted_head_four(&error.embedded, names);
    let extensions = Extensions::new(error.extensions, names.origin);
    let layout = Layout::new(
        head.len() + l4.len(),
        extensions.bytes().len(),
        MAX_LEN_V4 - ipv4::LEN - icmp::LEN,
        unit,
    );
    let length = layout.length;
    let word = match translated.word {
        Word::Mtu(mtu) => {
            let has_fragment_header = error.embedded.part.is_some();
            let mtu = mtu::six_to_four(mtu, has_fragment_header, links);
            let [m0, m1] = mtu.to_be_bytes();
            [0, length, m0, m1]
        }
        Word::Pointer(pointer) => [pointer, length, 0, 0],
        Word::Unused => [0, length, 0, 0],
    };
    packet.push_icmp(translated, word);
    let segment = packet.push_body(&head, l4, &layout, extensions.bytes());
    let (src, dst) = (error.embedded.src, error.embedded.dst);
    let pseudo = Sum::pseudo_v6(src, dst, l4_len, icmp::PROTOCOL_V6);
    rewrite_quoted(
        segment,
        error,
        names,
        &Pseudo {
            addrs: Sum::change(
                Sum::addrs_v6(src, dst),
                Sum::addrs_v4(names.sender.0, names.receiver.0),
            ),
            icmp: Sum::change(pseudo, Sum::default()),
            echo: (icmp::ECHO_REQUEST_V4, icmp::ECHO_REPLY_V4),
            whole: None,
        },
    );
    packet.finish_four(error, names, id);
    packet
}

/// How the sums of quoted segments change.
struct Pseudo {
    addrs: Sum,
    icmp: Sum,
    /// Types of echo requests and replies.
    echo: (u8, u8),
    /// See [`Rewrite::quoted_udp`].
    whole: Option<Sum>,
}

fn rewrite_quoted<A, B>(
    segment: &mut [u8],
    error: &Error<'_, A>,
    names: &Names<B>,
    pseudo: &Pseudo,
) {
    let rewrite = |pseudo| Rewrite {
        pseudo,
        partial: false,
        src_port: names.sender.1,
        dst_port: names.receiver.1,
    };
    match error.quoted {
        Quoted::EchoReply { .. } => rewrite(pseudo.icmp).echo(segment, pseudo.echo.1, names.id),
        Quoted::EchoRequest { .. } => rewrite(pseudo.icmp).echo(segment, pseudo.echo.0, names.id),
        Quoted::Other => {}
        Quoted::Tcp { .. } => rewrite(pseudo.addrs).quoted_tcp(segment),
        Quoted::Udp { .. } => rewrite(pseudo.addrs).quoted_udp(segment, pseudo.whole),
    }
}

/// Returns the sum of a UDP datagram that has no checksum, and of its new pseudo-header, if all of
/// it is quoted.
fn whole_udp(embedded: &Embedded<'_, Ipv4Addr>, addrs: Sum) -> Option<Sum> {
    let len = udp::Header::parse(embedded.l4).ok()?.len;
    let datagram = embedded.l4.get(..len)?;
    let [l0, l1] = u16::try_from(len).ok()?.to_be_bytes();
    let pseudo = addrs + Sum::of(&[0, udp::PROTOCOL, l0, l1]);
    embedded.part.is_none().then(|| pseudo + Sum::of(datagram))
}

/// An IPv6 header, with or without a Fragment Header.
enum HeadSix {
    Part([u8; ipv6::LEN + Fragment::LEN]),
    Whole([u8; ipv6::LEN]),
}

impl AsRef<[u8]> for HeadSix {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Part(bytes) => bytes,
            Self::Whole(bytes) => bytes,
        }
    }
}

fn quoted_head_six(embedded: &Embedded<'_, Ipv4Addr>, names: &Names<Ipv6Addr>) -> HeadSix {
    let protocol = match embedded.protocol {
        icmp::PROTOCOL_V4 => icmp::PROTOCOL_V6,
        protocol => protocol,
    };
    let mut header = ipv6::Header {
        traffic_class: embedded.tos,
        payload_len: length(embedded.l4_len),
        next_header: protocol,
        hop_limit: embedded.ttl,
        src: names.sender.0,
        dst: names.receiver.0,
    };
    let mut head = [0; ipv6::LEN];
    let Some(part) = embedded.part else {
        header.emit(&mut head);
        return HeadSix::Whole(head);
    };
    header.payload_len = length(embedded.l4_len + Fragment::LEN);
    header.next_header = ipv6::FRAGMENT;
    header.emit(&mut head);

    let mut both = [0; ipv6::LEN + Fragment::LEN];
    let (ip, fragment) = both.split_at_mut(ipv6::LEN);
    ip.copy_from_slice(&head);
    if let Some(fragment) = fragment.first_chunk_mut() {
        part.emit(protocol, fragment);
    }
    HeadSix::Part(both)
}

fn quoted_head_four(embedded: &Embedded<'_, Ipv6Addr>, names: &Names<Ipv4Addr>) -> [u8; ipv4::LEN] {
    let protocol = match embedded.protocol {
        icmp::PROTOCOL_V6 => icmp::PROTOCOL_V4,
        protocol => protocol,
    };
    let total_len = length(ipv4::LEN + embedded.l4_len);
    let [_, _, i0, i1] = embedded.part.map_or([0; 4], |part| part.id.to_be_bytes());
    let mut head = [0; ipv4::LEN];
    ipv4::Header {
        header_len: ipv4::LEN,
        tos: embedded.tos,
        total_len,
        id: u16::from_be_bytes([i0, i1]),
        dont_fragment: embedded.part.is_none() && total_len > ALWAYS_FITS,
        more_fragments: embedded.part.is_some_and(|part| part.more),
        fragment_offset: embedded.part.map_or(0, |part| part.offset),
        ttl: embedded.ttl,
        protocol,
        src: names.sender.0,
        dst: names.receiver.0,
        source_routed: false,
    }
    .emit(&mut head);
    head
}

impl Packet {
    /// Leaves room for an IP header.
    const fn new(ip_len: usize) -> Self {
        Self {
            bytes: [0; vnet::LEN + MAX_LEN_V6],
            len: vnet::LEN + ip_len,
        }
    }

    /// Returns the packet behind its offload header.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn push_icmp(&mut self, translated: Translated, [w0, w1, w2, w3]: [u8; 4]) {
        self.push(&[translated.kind, translated.code, 0, 0, w0, w1, w2, w3]);
    }

    /// Pushes quote, padding and extensions, and returns the quoted segment.
    fn push_body(
        &mut self,
        head: &[u8],
        l4: &[u8],
        layout: &Layout,
        extensions: &[u8],
    ) -> &mut [u8] {
        self.push(head);
        let start = self.len;
        let quoted = layout.quoted.saturating_sub(head.len());
        self.push(l4.get(..quoted).unwrap_or(l4));
        let end = self.len;
        // the buffer is made of zeros
        self.len += layout.padding;
        if layout.length != 0 {
            self.push(extensions);
        }
        self.bytes.get_mut(start..end).unwrap_or_default()
    }

    fn finish_six(&mut self, error: &Error<'_, Ipv4Addr>, names: &Names<Ipv6Addr>) {
        let (src, dst) = (names.source, names.sender.0);
        let len = self.len - vnet::LEN - ipv6::LEN;
        self.seal(ipv6::LEN, Sum::pseudo_v6(src, dst, len, icmp::PROTOCOL_V6));
        let (_, packet) = self.bytes.split_at_mut(vnet::LEN);
        if let Some(header) = packet.first_chunk_mut() {
            ipv6::Header {
                traffic_class: error.tos,
                payload_len: length(len),
                next_header: icmp::PROTOCOL_V6,
                hop_limit: error.ttl,
                src,
                dst,
            }
            .emit(header);
        }
    }

    fn finish_four(&mut self, error: &Error<'_, Ipv6Addr>, names: &Names<Ipv4Addr>, id: u16) {
        self.seal(ipv4::LEN, Sum::default());
        let total_len = length(self.len - vnet::LEN);
        let (_, packet) = self.bytes.split_at_mut(vnet::LEN);
        if let Some(header) = packet.first_chunk_mut() {
            ipv4::Header {
                header_len: ipv4::LEN,
                tos: error.tos,
                total_len,
                id,
                dont_fragment: false,
                more_fragments: false,
                fragment_offset: 0,
                ttl: error.ttl,
                protocol: icmp::PROTOCOL_V4,
                src: names.source,
                dst: names.sender.0,
                source_routed: false,
            }
            .emit(header);
        }
    }

    fn seal(&mut self, ip_len: usize, pseudo: Sum) {
        let message = self.bytes.get_mut(vnet::LEN + ip_len..self.len);
        let message = message.unwrap_or_default();
        let checksum = !(pseudo + Sum::of(message)).fold();
        let field = message.get_mut(icmp::CHECKSUM_OFFSET..);
        if let Some(field) = field.and_then(<[u8]>::first_chunk_mut) {
            *field = checksum.to_be_bytes();
        }
    }
}

/// All lengths here are made of lengths of 16 bits that left room for a header.
fn length(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// RFC 4443 §2.4 (c).
const MAX_LEN_V6: usize = 1280;

/// RFC 1812 §4.3.2.3.
const MAX_LEN_V4: usize = 576;

/// RFC 7915 §5.1: up to here IPv4 packets have no DF.
const ALWAYS_FITS: u16 = 1260;
