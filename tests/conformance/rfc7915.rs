//! IP/ICMP translation (RFC 7915), by section, as far as it is built.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::net::IpAddr;

use home::{ACK, CAMERA, Home, Packet, SYN, Segment, from_camera, nsp, sum16, to_camera};
use translator::DropReason;

#[test]
fn s4_1_header_fields_are_those_of_the_ipv4_packet() {
    let mut home = ready();
    let mut packet = from_camera(Segment::udp(5001, 4000));
    packet.tos = 0xb9;
    packet.ttl = 33;

    let answer = home.send(&packet).unwrap();

    // the kernel decrements, twice: see DEVIATION in v4_to_v6.rs
    assert_eq!((answer.tos, answer.ttl), (0xb9, 33));
    assert_eq!(answer.payload, packet.payload);
}

#[test]
fn s4_1_options_are_ignored() {
    let mut home = ready();
    let packet = from_camera(Segment::udp(5001, 4000)).with_payload(33);
    // no operation, router alert, end
    let options = [1, 148, 4, 0, 0, 0, 0, 0];

    let answer = Packet::parse(&home.raw(&packet.bytes_with(&options)).unwrap());

    assert_eq!(answer.payload, packet.payload);
}

#[test]
fn s4_1_unexpired_source_route_is_dropped() {
    let mut home = ready();
    let packet = from_camera(Segment::udp(5001, 4000));

    for kind in [131, 137] {
        let unexpired = [kind, 7, 4, 10, 0, 0, 1, 0];
        let expired = [kind, 7, 8, 10, 0, 0, 1, 0];

        assert_eq!(
            home.raw(&packet.bytes_with(&unexpired)),
            Err(DropReason::SourceRouted)
        );
        assert!(home.raw(&packet.bytes_with(&expired)).is_ok());
    }
}

#[test]
fn s4_1_malformed_options_are_dropped() {
    let mut home = ready();
    let packet = from_camera(Segment::udp(5001, 4000));
    for options in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 9, 0, 0], [1, 1, 1, 7]] {
        let sent = home.raw(&packet.bytes_with(&options));
        assert_eq!(sent, Err(DropReason::MalformedIpv4), "{options:?}");
    }
}

#[test]
fn s4_2_echo_becomes_icmpv6_echo() {
    let mut home = Home::new();
    let request = home.raw(&to_camera(Segment::ping(9)).bytes()).unwrap();
    assert_eq!((request[9], request[20]), (1, 8));

    let reply = home.raw(&from_camera(Segment::pong(9)).bytes()).unwrap();

    assert_eq!((reply[6], reply[40]), (58, 129));
    Packet::parse(&reply);
}

#[test]
fn s4_2_and_s5_2_only_the_type_of_an_echo_is_adjusted() {
    let mut home = Home::new();
    for code in [0, 1, 9, 255] {
        let mut request = icmp(&to_camera(Segment::ping(9)), 128, code);
        request[42..44].fill(0);
        let sum = !sum_six(&request, request.len() - 40);
        request[42..44].copy_from_slice(&sum.to_be_bytes());
        let arrived = home.raw(&request).unwrap();
        assert_eq!(arrived[20..22], [8, code]);
        assert_eq!(sum16(&arrived[20..]), 0xffff);

        let mut reply = icmp(&from_camera(Segment::pong(9)), 0, code);
        reply[22..24].fill(0);
        let sum = !sum16(&reply[20..]);
        reply[22..24].copy_from_slice(&sum.to_be_bytes());
        let arrived = home.raw(&reply).unwrap();
        assert_eq!(arrived[40..42], [129, code]);
        assert_eq!(sum_six(&arrived, arrived.len() - 40), 0xffff);
    }
}

#[test]
fn s4_2_and_s5_2_other_icmp_is_dropped() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::ping(9))).unwrap();
    let silent = [
        (9, 0),
        (10, 0),
        (13, 0),
        (14, 0),
        (15, 0),
        (17, 0),
        (200, 0),
    ];
    for (kind, code) in silent {
        let sent = home.raw(&icmp(&from_camera(Segment::pong(9)), kind, code));
        assert_eq!(sent, Err(DropReason::IcmpUnsupported), "ICMP {kind}/{code}");
    }
    for kind in [130, 131, 132, 133, 134, 135, 136, 137, 143, 255] {
        let sent = home.raw(&icmp(&to_camera(Segment::ping(9)), kind, 0));
        assert_eq!(sent, Err(DropReason::IcmpUnsupported), "ICMPv6 {kind}");
    }
}

#[test]
fn s4_5_and_s5_5_bad_checksum_stays_bad() {
    let mut home = ready();
    home.connect(4000);
    home.send(&to_camera(Segment::ping(4000))).unwrap();
    let packets = [
        to_camera(Segment::udp(4000, 5000)),
        to_camera(Segment::tcp(4000, 80, ACK)),
        to_camera(Segment::ping(4000)),
        from_camera(Segment::udp(5001, 4000)),
        from_camera(Segment::tcp(8080, 4000, ACK)),
        from_camera(Segment::pong(4000)),
    ];
    for packet in packets {
        let mut bytes = packet.bytes();
        let last = bytes.len() - 1;
        bytes[last] ^= 0x55;

        let sent = home.raw(&bytes).unwrap();

        let parsed = std::panic::catch_unwind(|| Packet::parse(&sent));
        assert!(parsed.is_err(), "the checksum of {packet:?} was repaired");
    }
}

#[test]
fn s4_bad_ipv4_header_checksum_is_dropped() {
    let mut home = ready();
    let mut bytes = from_camera(Segment::udp(5001, 4000)).bytes();
    bytes[10] ^= 1;

    assert_eq!(home.raw(&bytes), Err(DropReason::MalformedIpv4));
}

#[test]
fn s5_1_df_follows_the_length() {
    let mut home = Home::new();
    for (payload, dont_fragment) in [(0, false), (1232, false), (1233, true), (1452, true)] {
        let packet = to_camera(Segment::udp(4000, 5000)).with_payload(payload);

        let arrived = home.send(&packet).unwrap();

        assert_eq!(
            arrived.dont_fragment,
            dont_fragment,
            "{} bytes",
            payload + 28
        );
    }
}

#[test]
fn s5_1_packets_that_may_be_fragmented_have_different_identifications() {
    let mut home = Home::new();
    let packet = to_camera(Segment::udp(4000, 5000)).bytes();

    let [first, second] = [(), ()].map(|()| home.raw(&packet).unwrap());

    assert_ne!(first[4..6], second[4..6]);
}

#[test]
fn s5_1_header_fields_are_those_of_the_ipv6_packet() {
    let mut home = Home::new();
    let mut packet = to_camera(Segment::udp(4000, 5000));
    packet.tos = 0xb9;
    packet.ttl = 33;

    let arrived = home.send(&packet).unwrap();

    assert_eq!((arrived.tos, arrived.ttl), (0xb9, 33));
}

#[test]
fn s5_1_extension_headers_are_skipped() {
    let mut home = Home::new();
    let packet = to_camera(Segment::udp(4000, 5000)).with_payload(41);
    // destination options, then a routing header with nothing left, then hop-by-hop, each of
    // eight bytes, the second with sixteen more
    let mut extra = vec![43, 0, 1, 4, 0, 0, 0, 0];
    extra.extend([0, 2, 0, 0]);
    extra.extend([0; 20]);
    extra.extend([17, 0, 1, 4, 0, 0, 0, 0]);

    let arrived = Packet::parse(&home.raw(&packet.bytes_with(&extra)).unwrap());

    assert_eq!(arrived.payload, packet.payload);
}

#[test]
fn s5_1_routing_header_with_segments_left_is_dropped() {
    let mut home = Home::new();
    let mut packet = to_camera(Segment::udp(4000, 5000)).bytes_with(&[17, 0, 0, 1, 0, 0, 0, 0]);
    packet[6] = 43;

    assert_eq!(home.raw(&packet), Err(DropReason::SourceRouted));
}

#[test]
fn s5_5_udp_without_checksum_is_dropped() {
    let mut home = Home::new();
    let mut bytes = to_camera(Segment::udp(4000, 5000)).bytes();
    bytes[46..48].copy_from_slice(&[0, 0]);

    assert_eq!(home.raw(&bytes), Err(DropReason::UdpWithoutChecksum));
}

#[test]
fn rfc_9868_bytes_behind_a_datagram_are_carried_and_not_summed_up() {
    let mut home = ready();
    for surplus in [1_usize, 2, 7, 1000] {
        let surplus: Vec<u8> = (0..surplus).map(|at| (at * 3 + 1) as u8).collect();
        let out = to_camera(Segment::udp(4000, 5000)).with_payload(9);
        let back = from_camera(Segment::udp(5001, 4000)).with_payload(9);
        let datagram = 8 + 9;
        let six = out.with_header(&[out.sealed_segment(), surplus.clone()].concat(), &[]);
        let segment = [back.sealed_segment(), surplus.clone()].concat();
        let four = back.with_header(&segment, &[]);
        let mut unsummed = segment;
        unsummed[6..8].fill(0);
        let unsummed = back.with_header(&unsummed, &[]);

        let arrived = home.raw(&six).unwrap();
        assert_eq!(arrived[20 + datagram..], surplus);
        Packet::parse(&without(&arrived, surplus.len()));

        for sent in [four, unsummed] {
            let arrived = home.raw(&sent).unwrap();
            assert_eq!(arrived[40 + datagram..], surplus);
            assert_eq!(sum_six(&arrived, datagram), 0xffff);
            let alone = Packet::parse(&without(&arrived, surplus.len()));
            assert_eq!(alone.payload, back.payload);
        }
    }
}

#[test]
fn rfc_9868_length_of_a_datagram_is_no_more_than_there_is_and_no_less_than_its_header() {
    let mut home = ready();
    for len in [0_u16, 7, 18, 500, 65_535] {
        for packet in [
            to_camera(Segment::udp(4000, 5000)),
            from_camera(Segment::udp(5001, 4000)),
        ] {
            let packet = packet.with_payload(9);
            let mut segment = packet.sealed_segment();
            segment[4..6].copy_from_slice(&len.to_be_bytes());
            let sent = home.raw(&packet.with_header(&segment, &[]));
            assert_eq!(sent, Err(DropReason::MalformedUdp), "{len}");
        }
    }
}

#[test]
fn s5_5_partial_checksum_of_less_than_all_is_refused() {
    let mut home = ready();
    for packet in [
        to_camera(Segment::udp(4000, 5000)),
        from_camera(Segment::udp(5001, 4000)),
    ] {
        let header = if packet.src.is_ipv4() { 20 } else { 40 };
        let bytes = packet.with_header(&[packet.sealed_segment(), vec![0; 8]].concat(), &[]);
        let sent = home.offloaded(&offload(0, 0, 0, header, 6), &bytes);
        assert_eq!(sent, Err(DropReason::MalformedUdp));
    }
}

#[test]
fn s5_1_expired_hop_limit_is_dropped() {
    let mut home = ready();
    let mut six = to_camera(Segment::udp(4000, 5000));
    let mut four = from_camera(Segment::udp(5001, 4000));
    six.ttl = 0;
    four.ttl = 0;

    assert_eq!(home.send(&six), Err(DropReason::HopLimit));
    assert_eq!(home.send(&four), Err(DropReason::HopLimit));
}

#[test]
fn s5_1_mss_of_a_syn_fits_the_longer_header() {
    let mut home = Home::new();
    for (offered, passed) in [(1460, 1440), (1440, 1440), (1220, 1220), (65_535, 1440)] {
        // an odd number of bytes before the option: its value straddles two words of the sum
        for odd in [false, true] {
            let mut options = if odd { vec![1] } else { Vec::new() };
            options.extend(Segment::mss(offered));
            options.resize(8, 0);
            let mut segment = Segment::tcp(4000, 80, SYN);
            let Segment::Tcp { options: place, .. } = &mut segment else {
                unreachable!()
            };
            *place = options.clone();

            let arrived = home.send(&to_camera(segment)).unwrap();

            let at = 2 + usize::from(odd);
            options[at..at + 2].copy_from_slice(&u16::to_be_bytes(passed));
            let Segment::Tcp { options: left, .. } = arrived.segment else {
                unreachable!()
            };
            assert_eq!(left, options);
        }
    }
}

#[test]
fn s5_5_partial_checksum_keeps_the_sum_of_the_new_pseudo_header_only() {
    let mut home = ready();
    home.connect(4000);
    home.send(&to_camera(Segment::ping(4000))).unwrap();
    let packets = [
        to_camera(Segment::udp(4000, 5000)),
        to_camera(Segment::tcp(4000, 80, ACK)),
        to_camera(Segment::ping(4000)),
        from_camera(Segment::udp(5001, 4000)),
        from_camera(Segment::tcp(8080, 4000, ACK)),
        from_camera(Segment::pong(4000)),
    ];
    for packet in packets {
        let packet = packet.with_payload(99);
        let start = if packet.src.is_ipv4() { 20 } else { 40 };
        let offset = packet.checksum_at();
        let offload = offload(0, 0, 0, start, offset);

        let (left, mut bytes) = home.offloaded(&offload, &packet.partial_bytes()).unwrap();

        let start = 60 - start;
        assert_eq!(left, self::offload(0, 0, 0, start, offset));
        // what the next device does
        let sum = match !sum16(&bytes[start..]) {
            0 => 0xffff,
            sum => sum,
        };
        bytes[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(Packet::parse(&bytes).payload, packet.payload);
    }
}

#[test]
fn s5_1_super_packet_is_translated_once() {
    let mut home = ready();
    home.connect(4000);
    // type, header length and checksum start change with the family; ECN and size do not
    let tcp6 = to_camera(Segment::tcp(4000, 80, ACK)).with_payload(60_000);
    let mut tcp4 = from_camera(Segment::tcp(8080, 4000, ACK)).with_payload(60_000);
    tcp4.dont_fragment = true;
    let udp6 = to_camera(Segment::udp(4000, 5000)).with_payload(40_000);
    let udp4 = from_camera(Segment::udp(5001, 4000)).with_payload(40_000);
    let cases = [
        (
            tcp6.clone(),
            offload(4, 60, 1400, 40, 16),
            offload(1, 40, 1400, 20, 16),
        ),
        (
            tcp6,
            offload(0x84, 60, 1400, 40, 16),
            offload(0x81, 40, 1400, 20, 16),
        ),
        (
            tcp4.clone(),
            offload(1, 40, 1440, 20, 16),
            offload(4, 60, 1440, 40, 16),
        ),
        (
            tcp4,
            offload(0x81, 40, 1440, 20, 16),
            offload(0x84, 60, 1440, 40, 16),
        ),
        (
            udp6,
            offload(5, 48, 1200, 40, 6),
            offload(5, 28, 1200, 20, 6),
        ),
        (
            udp4,
            offload(5, 28, 1200, 20, 6),
            offload(5, 48, 1200, 40, 6),
        ),
    ];
    for (packet, before, after) in cases {
        let (left, bytes) = home.offloaded(&before, &packet.partial_bytes()).unwrap();

        assert_eq!(left, after);
        assert!(bytes.ends_with(&packet.payload));
    }
    let counted = home.translator.counters().six_to_four.packets;
    assert_eq!(
        counted,
        1 + 2 + 2 * 43 + 34,
        "a super-packet counts as its segments"
    );
}

#[test]
fn s5_1_super_packet_whose_segments_exceed_the_link_is_dropped() {
    let mut home = ready();
    home.connect(4000);
    let mut packet = from_camera(Segment::tcp(8080, 4000, ACK)).with_payload(3000);
    packet.dont_fragment = true;

    let sent = home.offloaded(&offload(1, 40, 1460, 20, 16), &packet.partial_bytes());

    assert_eq!(sent.unwrap_err(), DropReason::TooBig);
}

#[test]
fn s5_1_offload_that_describes_another_packet_is_dropped() {
    let mut home = ready();
    home.connect(4000);
    let packet = to_camera(Segment::tcp(4000, 80, ACK))
        .with_payload(3000)
        .partial_bytes();
    let mut without_checksum = offload(4, 60, 1400, 40, 16);
    without_checksum[0] = 0;
    let wrong = [
        offload(1, 60, 1400, 40, 16),
        offload(3, 60, 1400, 40, 16),
        offload(5, 60, 1400, 40, 16),
        offload(0x80, 60, 1400, 40, 16),
        offload(4, 60, 0, 40, 16),
        offload(4, 60, 1400, 20, 16),
        offload(4, 60, 1400, 40, 6),
        without_checksum,
    ];
    for offload in wrong {
        let sent = home.offloaded(&offload, &packet);
        assert_eq!(sent, Err(DropReason::MalformedOffload), "{offload:?}");
    }
}

#[test]
fn s5_1_lengths_that_do_not_fit_are_dropped() {
    let mut home = ready();
    home.connect(4000);
    let six = to_camera(Segment::udp(4000, 5000)).bytes();
    let four = from_camera(Segment::udp(5001, 4000)).bytes();
    for len in 0..six.len() {
        assert!(home.raw(&six[..len]).is_err(), "IPv6 cut at {len}");
    }
    for len in 0..four.len() {
        assert!(home.raw(&four[..len]).is_err(), "IPv4 cut at {len}");
    }
    let mut jumbo = six.clone();
    jumbo[4..6].copy_from_slice(&[0, 0]);
    assert_eq!(home.raw(&jumbo), Err(DropReason::MalformedIpv6));
    let mut udp = six;
    udp[45] += 1;
    assert_eq!(home.raw(&udp), Err(DropReason::MalformedUdp));
    let mut tcp = to_camera(Segment::tcp(4000, 80, ACK)).bytes();
    for offset in [0x00, 0x40, 0xf0] {
        tcp[52] = offset;
        assert_eq!(home.raw(&tcp), Err(DropReason::MalformedTcp));
    }
}

#[test]
fn s5_1_bytes_behind_the_packet_do_not_leave() {
    let mut home = ready();
    for packet in [
        to_camera(Segment::udp(4000, 5000)),
        from_camera(Segment::udp(5001, 4000)),
    ] {
        let mut padded = packet.bytes();
        padded.extend([0xaa; 6]);

        let sent = Packet::parse(&home.raw(&padded).unwrap());

        assert_eq!(sent.payload, packet.payload);
    }
}

#[test]
fn s5_1_packet_never_leaves_with_an_untranslated_address() {
    let mut home = ready();
    let arrived = home
        .raw(&to_camera(Segment::udp(4000, 5000)).bytes())
        .unwrap();
    let answer = home
        .raw(&from_camera(Segment::udp(5001, 4000)).bytes())
        .unwrap();

    assert_eq!((arrived[0] >> 4, answer[0] >> 4), (4, 6));
    assert_eq!(
        Packet::parse(&answer).src,
        IpAddr::from(nsp().embed(CAMERA))
    );
}

/// A home in which UDP port 4000 of the remote has a session with the camera.
/// Returns the sum over so many bytes behind an IPv6 header, and their pseudo-header.
fn sum_six(packet: &[u8], len: usize) -> u16 {
    let len_word = u32::try_from(len).unwrap().to_be_bytes();
    let pseudo = [&packet[8..40], &len_word, &[0, 0, 0, packet[6]]].concat();
    sum16(&[pseudo.as_slice(), &packet[40..40 + len]].concat())
}

/// Takes bytes from the end of a packet.
fn without(packet: &[u8], bytes: usize) -> Vec<u8> {
    let mut packet = packet[..packet.len() - bytes].to_vec();
    let len = packet.len() as u16;
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        home::seal_ipv4(&mut packet);
    } else {
        packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
    }
    packet
}

fn ready() -> Home {
    let mut home = Home::new();
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    home
}

/// An ICMP message of another type, its checksum right.
fn icmp(packet: &Packet, kind: u8, code: u8) -> Vec<u8> {
    let mut bytes = packet.bytes();
    let at = if packet.src.is_ipv4() { 20 } else { 40 };
    bytes[at] = kind;
    bytes[at + 1] = code;
    bytes
}

/// A `virtio_net_hdr` that asks for a checksum.
fn offload(gso: u8, hdr_len: u16, size: u16, start: usize, offset: usize) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[0] = 1;
    bytes[1] = gso;
    bytes[2..4].copy_from_slice(&hdr_len.to_ne_bytes());
    bytes[4..6].copy_from_slice(&size.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(start as u16).to_ne_bytes());
    bytes[8..10].copy_from_slice(&(offset as u16).to_ne_bytes());
    bytes
}
