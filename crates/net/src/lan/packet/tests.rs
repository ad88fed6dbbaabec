use proptest::prelude::*;

use super::*;
use crate::packet::{ETHERTYPE_IPV4, UdpFrame};

#[test]
fn a_datagram_over_ipv4_is_read_whatever_pads_its_frame() {
    let mut packet = v4(b"map");
    packet.extend([0xee; 15]);

    let udp = parse(&packet, Checksum::Unknown, 3).unwrap();

    assert_eq!(udp.source, "192.168.64.20:5000".parse().unwrap());
    assert_eq!(udp.destination, "192.168.64.1:5351".parse().unwrap());
    assert_eq!(packet[udp.payload], *b"map");
}

#[test]
fn options_of_ipv4_are_passed_over() {
    let plain = v4(b"map");
    let mut packet = [&plain[..20], &[1, 1, 1, 0], &plain[20..]].concat();
    packet[0] = 0x46;
    packet[3] += 4;
    correct(&mut packet, 24);

    let udp = parse(&packet, Checksum::Unknown, 3).unwrap();

    assert_eq!(packet[udp.payload], *b"map");
}

#[test]
fn a_datagram_over_ipv6_is_read_and_link_local_has_its_interface() {
    let packet = v6("fe80::20", b"map");

    let udp = parse(&packet, Checksum::Unknown, 3).unwrap();

    let source = SocketAddrV6::new("fe80::20".parse().unwrap(), 5000, 0, 3);
    assert_eq!(udp.source, SocketAddr::V6(source));
    assert_eq!(udp.destination, "[fd00::1]:5351".parse().unwrap());
    assert_eq!(packet[udp.payload], *b"map");
    let global = parse(&v6("2001:db8::20", b""), Checksum::Unknown, 3).unwrap();
    assert_eq!(global.source, "[2001:db8::20]:5000".parse().unwrap());
}

#[test]
fn one_wrong_byte_is_noticed_unless_the_checksum_is_known() {
    for packet in [v4(b"some payload"), v6("fd00::20", b"some payload")] {
        for at in 0..packet.len() {
            let mut bad = packet.clone();
            bad[at] ^= 0x10;
            // of IPv6's header label and hop limit are in no checksum
            let unprotected = packet[0] == 0x60 && matches!(at, 1..4 | 7);
            assert_eq!(
                parse(&bad, Checksum::Unknown, 3).is_ok(),
                unprotected,
                "byte {at} of {}",
                packet.len()
            );
        }
        let mut unfinished = packet.clone();
        let last = unfinished.len() - 1;
        unfinished[last] ^= 0x10;
        parse(&unfinished, Checksum::Known, 3).unwrap();
    }
}

#[test]
fn no_checksum_is_right_over_ipv4_and_wrong_over_ipv6() {
    let mut packet = v4(b"map");
    packet[26..28].fill(0);
    parse(&packet, Checksum::Unknown, 3).unwrap();

    let mut packet = v6("fd00::20", b"map");
    packet[46..48].fill(0);
    assert_eq!(
        parse(&packet, Checksum::Unknown, 3),
        Err(Malformed::Checksum)
    );
}

#[test]
fn fragments_other_protocols_and_lies_about_lengths_are_refused() {
    let change = |at: usize, byte: u8| {
        let mut packet = v4(b"map");
        packet[at] = byte;
        correct(&mut packet, 20);
        parse(&packet, Checksum::Known, 3)
    };
    assert_eq!(change(6, 0x20), Err(Malformed::Ip));
    assert_eq!(change(7, 1), Err(Malformed::Ip));
    assert_eq!(change(9, 6), Err(Malformed::Ip));
    assert_eq!(change(0, 0x44), Err(Malformed::Ip));
    assert_eq!(change(0, 0x55), Err(Malformed::Ip));
    assert_eq!(change(3, 19), Err(Malformed::Ip));
    assert_eq!(change(3, 32), Err(Malformed::Ip));
    assert_eq!(change(25, 7), Err(Malformed::Length));
    assert_eq!(change(25, 12), Err(Malformed::Length));
    assert_eq!(change(12, 224), Err(Malformed::Source));
    assert_eq!(change(12, 127), Err(Malformed::Source));

    let mut behind_a_header = v6("fd00::20", b"map");
    behind_a_header[6] = 0;
    assert_eq!(
        parse(&behind_a_header, Checksum::Known, 3),
        Err(Malformed::Ip)
    );
    for source in ["ff02::1", "::", "::1"] {
        let packet = v6(source, b"map");
        assert_eq!(parse(&packet, Checksum::Known, 3), Err(Malformed::Source));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        first in prop::sample::select(vec![0x45_u8, 0x46, 0x60, 0x00]),
        rest in prop::collection::vec(any::<u8>(), 0..120),
        known in any::<bool>(),
    ) {
        let packet = [&[first][..], &rest].concat();
        let checksum = if known { Checksum::Known } else { Checksum::Unknown };
        if let Ok(udp) = parse(&packet, checksum, 1) {
            prop_assert!(packet.get(udp.payload).is_some());
        }
    }

    #[test]
    fn damaged_datagrams_never_panic(
        damage in prop::collection::vec((0..70_usize, any::<u8>()), 0..4),
        len in 0..70_usize,
        over_ipv6 in any::<bool>(),
    ) {
        let mut packet = if over_ipv6 { v6("fd00::20", b"some") } else { v4(b"some") };
        for (at, byte) in damage {
            if let Some(place) = packet.get_mut(at) {
                *place = byte;
            }
        }
        packet.truncate(len);
        if let Ok(udp) = parse(&packet, Checksum::Known, 1) {
            prop_assert!(packet.get(udp.payload).is_some());
        }
    }

    #[test]
    fn every_payload_comes_back(payload in prop::collection::vec(any::<u8>(), 0..1400)) {
        for packet in [v4(&payload), v6("fd00::20", &payload)] {
            let udp = parse(&packet, Checksum::Unknown, 1).unwrap();
            prop_assert_eq!(&packet[udp.payload], &payload[..]);
        }
    }
}

fn v4(payload: &[u8]) -> Vec<u8> {
    let frame = UdpFrame {
        source_mac: mapping::Mac([2, 0, 0, 0, 0, 1]),
        destination_mac: mapping::Mac([2, 0, 0, 0, 0, 2]),
        source: "192.168.64.20:5000".parse().unwrap(),
        destination: "192.168.64.1:5351".parse().unwrap(),
        payload,
    };
    let frame = frame.emit().unwrap();
    assert_eq!(frame[12..14], ETHERTYPE_IPV4.to_be_bytes());
    frame[14..].to_vec()
}

fn v6(source: &str, payload: &[u8]) -> Vec<u8> {
    let (source, destination): (Ipv6Addr, Ipv6Addr) =
        (source.parse().unwrap(), "fd00::1".parse().unwrap());
    let len = u16::try_from(payload.len() + 8).unwrap().to_be_bytes();
    let mut datagram = [&[0x13, 0x88, 0x14, 0xe7], &len[..], &[0, 0], payload].concat();
    let mut total = sum(sum(0, &source.octets()), &destination.octets());
    total = sum(sum(total, &[0, UDP, len[0], len[1]]), &datagram);
    let csum = match finish(total) {
        0 => u16::MAX,
        csum => csum,
    };
    datagram[6..8].copy_from_slice(&csum.to_be_bytes());
    let header = [0x60, 0, 0, 0, len[0], len[1], UDP, 64];
    [
        &header,
        &source.octets()[..],
        &destination.octets(),
        &datagram,
    ]
    .concat()
}

/// Writes the checksum of an IPv4 header.
fn correct(packet: &mut [u8], header_len: usize) {
    packet[10..12].fill(0);
    let csum = finish(sum(0, &packet[..header_len]));
    packet[10..12].copy_from_slice(&csum.to_be_bytes());
}
