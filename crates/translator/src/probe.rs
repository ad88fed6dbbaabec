//! The question to an endpoint whether its connection is alive (RFC 6146 §3.5.2.2).

use crate::checksum::Sum;
use crate::view::Session;
use crate::wire::tcp::Flags;
use crate::wire::{ipv4, ipv6, tcp, vnet};

/// A probe behind an offload header that asks for nothing.
pub(crate) type ToRemote = [u8; vnet::LEN + ipv6::LEN + tcp::LEN];

/// As [`ToRemote`].
pub(crate) type ToServer = [u8; vnet::LEN + ipv4::LEN + tcp::LEN];

/// Returns what the remote is asked.
pub(crate) fn to_remote(session: &Session) -> ToRemote {
    let (src, dst) = (session.external, session.remote);
    let pseudo = Sum::pseudo_v6(src.0, dst.0, tcp::LEN, tcp::PROTOCOL);
    let mut packet = [0; vnet::LEN + ipv6::LEN + tcp::LEN];
    let (_, rest) = packet.split_at_mut(vnet::LEN);
    let (ip, segment) = rest.split_at_mut(ipv6::LEN);
    if let Some(ip) = ip.first_chunk_mut() {
        ipv6::Header {
            traffic_class: 0,
            payload_len: TCP_LEN,
            next_header: tcp::PROTOCOL,
            hop_limit: HOP_LIMIT,
            src: src.0,
            dst: dst.0,
        }
        .emit(ip);
    }
    segment.copy_from_slice(&bare_ack(src.1, dst.1, pseudo));
    packet
}

/// Returns what the server is asked.
pub(crate) fn to_server(session: &Session) -> ToServer {
    let (src, dst) = (session.pool, session.server);
    let pseudo = Sum::addrs_v4(src.0, dst.0) + Sum::of(&[0, tcp::PROTOCOL, 0, 20]);
    let mut packet = [0; vnet::LEN + ipv4::LEN + tcp::LEN];
    let (_, rest) = packet.split_at_mut(vnet::LEN);
    let (ip, segment) = rest.split_at_mut(ipv4::LEN);
    if let Some(ip) = ip.first_chunk_mut() {
        ipv4::Header {
            header_len: ipv4::LEN,
            tos: 0,
            total_len: IPV4_LEN,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: HOP_LIMIT,
            protocol: tcp::PROTOCOL,
            src: src.0,
            dst: dst.0,
            source_routed: false,
        }
        .emit(ip);
    }
    segment.copy_from_slice(&bare_ack(src.1, dst.1, pseudo));
    packet
}

/// All flags but ACK, both numbers and the window are zero: who knows the connection answers with
/// the numbers that it expects.
fn bare_ack(src_port: u16, dst_port: u16, pseudo: Sum) -> [u8; tcp::LEN] {
    let [s0, s1] = src_port.to_be_bytes();
    let [d0, d1] = dst_port.to_be_bytes();
    let mut segment = [
        s0,
        s1,
        d0,
        d1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0x50,
        Flags::ACK.0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let checksum = !(pseudo + Sum::of(&segment)).fold();
    if let Some((_, tail)) = segment.split_at_mut_checked(tcp::CHECKSUM_OFFSET)
        && let Some(field) = tail.first_chunk_mut()
    {
        *field = checksum.to_be_bytes();
    }
    segment
}

const TCP_LEN: u16 = 20;
const IPV4_LEN: u16 = 40;

/// RFC 1700: the default time to live.
const HOP_LIMIT: u8 = 64;
