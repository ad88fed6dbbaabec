//! Datagrams in parts: cut by one implementation, put together by another, neither ours.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, of which each test uses some"
)]

use std::collections::BTreeMap;

use crate::home::{Home, Packet, seal_ipv4};
use translator::Verdict;

/// Cuts an IPv4 packet without options or an IPv6 packet without extension headers, behind each of
/// the given numbers of units of eight bytes.
pub fn cut(packet: &[u8], id: u32, units: &[usize]) -> Vec<Vec<u8>> {
    let header = header_len(packet);
    let len = packet.len() - header;
    let mut ends: Vec<usize> = units.iter().map(|unit| unit * 8).collect();
    ends.retain(|end| (1..len).contains(end));
    ends.push(len);
    ends.sort_unstable();
    ends.dedup();
    let starts = std::iter::once(0).chain(ends.clone());
    starts
        .zip(ends)
        .map(|(start, end)| part(packet, id, start..end))
        .collect()
}

/// Cuts a packet into parts of so many units of eight bytes.
pub fn cut_evenly(packet: &[u8], id: u32, units: usize) -> Vec<Vec<u8>> {
    let cuts: Vec<usize> = (1..=65_536 / 8 / units).map(|part| part * units).collect();
    cut(packet, id, &cuts)
}

/// Returns the part of a packet with these bytes of its segment.
pub fn part(packet: &[u8], id: u32, range: std::ops::Range<usize>) -> Vec<u8> {
    let header = header_len(packet);
    let more = range.end < packet.len() - header;
    fragment(
        packet,
        id,
        range.start,
        more,
        &packet[header..][range.clone()],
    )
}

/// Returns a fragment with the addresses and the protocol of a packet.
pub fn fragment(packet: &[u8], id: u32, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
    let mut bytes = packet[..header_len(packet)].to_vec();
    if packet[0] >> 4 == 4 {
        bytes[2..4].copy_from_slice(&((20 + data.len()) as u16).to_be_bytes());
        bytes[4..6].copy_from_slice(&(id as u16).to_be_bytes());
        let place = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        bytes[6..8].copy_from_slice(&place.to_be_bytes());
        seal_ipv4(&mut bytes);
    } else {
        bytes[4..6].copy_from_slice(&((8 + data.len()) as u16).to_be_bytes());
        bytes.extend([bytes[6], 0]);
        bytes[6] = 44;
        bytes.extend((offset as u16 | u16::from(more)).to_be_bytes());
        bytes.extend(id.to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

/// What a fragment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub id: u32,
    pub offset: usize,
    pub more: bool,
    pub dont_fragment: bool,
    pub len: usize,
    pub data: Vec<u8>,
    pub header: Vec<u8>,
}

/// Reads a packet; one without a Fragment Header is a fragment with everything.
pub fn read(packet: &[u8]) -> Part {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    if packet[0] >> 4 == 4 {
        assert_eq!(usize::from(word(2)), packet.len());
        assert_eq!(crate::home::sum16(&packet[..20]), 0xffff);
        let mut header = packet[..20].to_vec();
        header[2..8].fill(0);
        header[10..12].fill(0);
        return Part {
            id: word(4).into(),
            offset: usize::from(word(6) & 0x1fff) * 8,
            more: word(6) & 0x2000 != 0,
            dont_fragment: word(6) & 0x4000 != 0,
            len: packet.len(),
            data: packet[20..].to_vec(),
            header,
        };
    }
    assert_eq!(usize::from(word(4)) + 40, packet.len());
    let mut header = packet[..40].to_vec();
    header[4..6].fill(0);
    let fragmented = packet[6] == 44;
    if !fragmented {
        return Part {
            id: 0,
            offset: 0,
            more: false,
            dont_fragment: true,
            len: packet.len(),
            data: packet[40..].to_vec(),
            header,
        };
    }
    header[6] = packet[40];
    assert_eq!(packet[41], 0);
    Part {
        id: u32::from_be_bytes(packet[44..48].try_into().unwrap()),
        offset: usize::from(word(42) & !7),
        more: word(42) & 1 != 0,
        dont_fragment: false,
        len: packet.len(),
        data: packet[48..].to_vec(),
        header,
    }
}

/// Puts fragments together that must all be there, each byte once, with one header; returns the
/// datagram as one packet.
pub fn join(packets: &[Vec<u8>]) -> Packet {
    Packet::parse(&join_bytes(packets))
}

/// As `join`, without a look at what it holds.
pub fn join_bytes(packets: &[Vec<u8>]) -> Vec<u8> {
    let parts: Vec<Part> = packets.iter().map(|packet| read(packet)).collect();
    let mut by_offset = BTreeMap::new();
    for part in &parts {
        assert_eq!(part.id, parts[0].id, "one identification");
        assert_eq!(part.header, parts[0].header, "one header");
        assert!(!part.more || part.data.len() % 8 == 0, "units of eight");
        assert!(by_offset.insert(part.offset, part).is_none());
    }
    let mut data: Vec<u8> = Vec::new();
    for (offset, part) in &by_offset {
        assert_eq!(*offset, data.len(), "no hole, no overlap");
        data.extend(&part.data);
        assert_eq!(
            part.more,
            data.len() < by_offset.values().map(|p| p.data.len()).sum()
        );
    }
    let mut bytes = parts[0].header.clone();
    let len = data.len() as u16;
    if bytes[0] >> 4 == 4 {
        bytes[2..4].copy_from_slice(&(20 + len).to_be_bytes());
        if parts[0].dont_fragment {
            bytes[6] = 0x40;
        }
        seal_ipv4(&mut bytes);
    } else {
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

/// Sends a part of a datagram, of which others are missing.
#[track_caller]
pub fn hold(home: &mut Home, packet: &[u8]) {
    assert_eq!(home.exchange(packet), (Verdict::Hold, Vec::new()));
}

/// Sends packets of which the last one completes a datagram, and returns what leaves then.
pub fn send_all(home: &mut Home, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (last, others) = packets.split_last().unwrap();
    for packet in others {
        hold(home, packet);
    }
    let (verdict, left) = home.exchange(last);
    assert!(!matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    assert!(!left.is_empty());
    left
}

fn header_len(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 4 { 20 } else { 40 }
}
