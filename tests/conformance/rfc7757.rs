//! Explicit address mappings (RFC 7757), by section.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;
#[path = "../../crates/translator/tests/support/pieces.rs"]
mod pieces;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use home::icmp::Error;
use home::{ACK, Home, Packet, SYN, Segment, sum16};
use mapping::Instant;
use proptest::prelude::*;
use translator::{
    AddressMap, AddressMaps, Alone, Config, DropReason, InvalidAddressMap, Links, PoolRange,
    Pref64, Translator, Verdict,
};

/// RFC 7757 §3.2, figure 1.
const FIGURE_1: [&str; 6] = [
    "192.0.2.1=2001:db8:aaaa::",
    "192.0.2.2/32=2001:db8:bbbb::b/128",
    "192.0.2.16/28=2001:db8:cccc::/124",
    "192.0.2.128/26=2001:db8:dddd::/64",
    "192.0.2.192/29=2001:db8:eeee:8::/62",
    "192.0.2.224/31=64:ff9b::/127",
];

/// RFC 7757 appendix B, figure 7, without its last row, which RFC 6052 translates.
const FIGURE_7: [(&str, &str); 11] = [
    ("192.0.2.1", "2001:db8:aaaa::"),
    ("192.0.2.2", "2001:db8:bbbb::b"),
    ("192.0.2.16", "2001:db8:cccc::"),
    ("192.0.2.24", "2001:db8:cccc::8"),
    ("192.0.2.31", "2001:db8:cccc::f"),
    ("192.0.2.128", "2001:db8:dddd::"),
    ("192.0.2.152", "2001:db8:dddd:0:6000::"),
    ("192.0.2.183", "2001:db8:dddd:0:dc00::"),
    ("192.0.2.191", "2001:db8:dddd:0:fc00::"),
    ("192.0.2.195", "2001:db8:eeee:9:8000::"),
    ("192.0.2.225", "64:ff9b::1"),
];

const PREFIX: &str = "2001:db8:64::/96";

#[test]
fn rfc_6890_row_of_addresses_that_no_host_has_is_refused() {
    for (text, what) in [
        ("127.0.0.1=2001:db8::1", "loopback"),
        ("0.0.0.0=2001:db8::1", "unspecified"),
        ("169.254.1.0/24=2001:db8::/120", "link-local"),
        ("224.0.0.0/4=2001:db8::/100", "multicast"),
        ("255.255.255.255=2001:db8::1", "reserved"),
        ("192.0.2.1=::1", "loopback"),
        ("192.0.2.1=::", "unspecified"),
        ("192.0.2.1=::ffff:198.51.100.1", "IPv4-mapped"),
        ("192.0.2.0/24=fe80::/120", "link-local"),
        ("192.0.2.1=ff02::1", "multicast"),
    ] {
        let refused = Err(InvalidAddressMap::Reserved(what));
        assert_eq!(text.parse::<AddressMap>(), refused, "{text}");
    }
}

#[test]
fn s3_2_row_may_not_leave_more_bits_free_in_ipv4() {
    for (text, why) in [
        ("192.0.2.0/24=2001:db8::/121", InvalidAddressMap::TooLong),
        ("192.0.2.1/24=2001:db8::/64", InvalidAddressMap::HostBits),
        ("192.0.2.0/24=2001:db8::1/64", InvalidAddressMap::HostBits),
        ("192.0.2.0/33=2001:db8::/64", InvalidAddressMap::Length),
        ("192.0.2.0=2001:db8::/129", InvalidAddressMap::Length),
        ("192.0.2.0", InvalidAddressMap::Text),
        ("2001:db8::=192.0.2.0", InvalidAddressMap::Text),
    ] {
        assert_eq!(text.parse::<AddressMap>(), Err(why), "{text}");
    }
    assert!("192.0.2.0/24=2001:db8::/120".parse::<AddressMap>().is_ok());
    assert!("0.0.0.0/0=2001:db8:ff00::/40".parse::<AddressMap>().is_ok());
}

#[test]
fn s3_3_addresses_are_those_of_figure_7_both_ways() {
    let maps = maps(&FIGURE_1);
    for (four, six) in FIGURE_7 {
        let (four, six): (Ipv4Addr, Ipv6Addr) = (four.parse().unwrap(), six.parse().unwrap());
        assert_eq!(maps.six(four), Some(six));
        assert_eq!(maps.four(six), Some(four));
    }
    assert_eq!(maps.six("192.0.2.248".parse().unwrap()), None);
    assert_eq!(maps.four("64:ff9b::c000:2f8".parse().unwrap()), None);
}

#[test]
fn s3_3_longest_prefix_counts_and_rows_may_overlap() {
    // RFC 7757 §5, figure 2
    let maps = maps(&[
        "0.0.0.0/0=2001:db8:ff00::/40",
        "198.51.100.64=2001:db8::abcd",
    ]);
    let four: Ipv4Addr = "198.51.100.64".parse().unwrap();

    assert_eq!(
        maps.four("2001:db8:ffc6:3364:4000::".parse().unwrap()),
        Some(four)
    );
    assert_eq!(maps.six(four), Some("2001:db8::abcd".parse().unwrap()));
    assert_eq!(maps.overlaps().count(), 1);
}

#[test]
fn s3_packets_between_mapped_addresses_need_no_session() {
    let mut world = world(&FIGURE_1, false, false);
    let peer: Ipv4Addr = "198.51.100.9".parse().unwrap();
    for (four, six) in FIGURE_7.iter().take(10) {
        let (four, six): (Ipv4Addr, Ipv6Addr) = (four.parse().unwrap(), six.parse().unwrap());
        for segment in [
            Segment::tcp(80, 4000, SYN | ACK),
            Segment::udp(53, 4000),
            Segment::ping(7),
            Segment::pong(8),
        ] {
            let out = Packet::new(six.into(), prefix().embed(peer).into(), segment.clone());
            let left = world.send(&out).unwrap();
            assert_eq!(
                (left.src, left.dst),
                (IpAddr::from(four), IpAddr::from(peer))
            );
            assert_eq!((&left.segment, &left.payload), (&segment, &out.payload));

            let back = Packet::new(peer.into(), four.into(), segment.clone());
            let left = world.send(&back).unwrap();
            assert_eq!((left.src, left.dst), (out.dst, out.src));
            assert_eq!((&left.segment, &left.payload), (&segment, &out.payload));
        }
    }
    assert_eq!(world.live(), 0);
}

#[test]
fn s3_both_ends_may_be_mapped() {
    let mut world = world(
        &["192.168.1.0/24=2001:db8:1::/120", "10.0.0.1=fd00::1"],
        false,
        false,
    );
    let out = Packet::new(
        "fd00::1".parse().unwrap(),
        "2001:db8:1::14".parse().unwrap(),
        Segment::udp(1, 2),
    );

    let left = world.send(&out).unwrap();
    assert_eq!(left.src, "10.0.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(left.dst, "192.168.1.20".parse::<IpAddr>().unwrap());

    let back = world
        .send(&Packet::new(left.dst, left.src, Segment::udp(2, 1)))
        .unwrap();
    assert_eq!((back.src, back.dst), (out.dst, out.src));
}

#[test]
fn a_1_customer_side_translator_maps_its_own_address_and_embeds_the_others() {
    let mut world = world(&["192.0.0.1=2001:db8:c::1"], false, false);
    let internet: Ipv4Addr = "8.8.8.8".parse().unwrap();
    let out = Packet::new(
        "192.0.0.1".parse().unwrap(),
        internet.into(),
        Segment::udp(4000, 53),
    );

    let left = world.send(&out).unwrap();
    assert_eq!(left.src, "2001:db8:c::1".parse::<IpAddr>().unwrap());
    assert_eq!(left.dst, IpAddr::from(prefix().embed(internet)));

    let back = world
        .send(&Packet::new(left.dst, left.src, Segment::udp(53, 4000)))
        .unwrap();
    assert_eq!((back.src, back.dst), (out.dst, out.src));
}

#[test]
fn s3_without_a_pool_both_ends_may_be_embedded() {
    let mut world = world(&[], false, false);
    let (host, peer) = (Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::new(198, 51, 100, 9));
    let out = Packet::new(
        prefix().embed(host).into(),
        prefix().embed(peer).into(),
        Segment::tcp(1, 2, SYN),
    );

    let left = world.send(&out).unwrap();
    assert_eq!((left.src, left.dst), (host.into(), peer.into()));
    let back = world
        .send(&Packet::new(
            peer.into(),
            host.into(),
            Segment::tcp(2, 1, SYN),
        ))
        .unwrap();
    assert_eq!((back.src, back.dst), (out.dst, out.src));

    let mut unmapped = out;
    unmapped.src = "2001:db8:1::1".parse().unwrap();
    assert_eq!(world.send(&unmapped), Err(DropReason::NotMapped));
}

#[test]
fn s3_with_a_pool_only_mapped_hosts_go_without_a_session() {
    let mut world = world(&["192.0.2.10=2001:db8::10"], true, false);
    let peer: Ipv4Addr = "198.51.100.9".parse().unwrap();
    let to_peer = |src: &str| {
        let src: Ipv6Addr = src.parse().unwrap();
        Packet::new(
            src.into(),
            prefix().embed(peer).into(),
            Segment::udp(4000, 53),
        )
    };

    let mapped = world.send(&to_peer("2001:db8::10")).unwrap();
    assert_eq!(mapped.src, "192.0.2.10".parse::<IpAddr>().unwrap());
    assert_eq!(world.live(), 0);

    let unmapped = world.send(&to_peer("2001:db8::11")).unwrap();
    assert_eq!(unmapped.src, "203.0.113.1".parse::<IpAddr>().unwrap());
    assert_eq!(world.live(), 1);

    let inside = world.send(&to_peer("2001:db8:64::c000:201"));
    assert_eq!(inside, Err(DropReason::SourceInPref64));
    let foreign = Packet::new(
        peer.into(),
        "192.0.2.99".parse().unwrap(),
        Segment::udp(1, 2),
    );
    assert_eq!(world.send(&foreign), Err(DropReason::NotOurs));
}

#[test]
fn s3_map_over_the_pool_is_refused() {
    for map in ["203.0.113.1=2001:db8::1", "203.0.113.0/24=2001:db8::/120"] {
        let alone = Alone {
            maps: maps(&[map]),
            ..Alone::default()
        };
        assert!(Config::alone(pool(), alone).is_err(), "{map}");
    }
}

#[test]
fn s3_packet_from_no_host_or_to_none_is_dropped() {
    let mut world = world(&["192.0.2.10=2001:db8::10"], false, false);
    let to_host = |src: &str| {
        Packet::new(
            src.parse().unwrap(),
            "192.0.2.10".parse().unwrap(),
            Segment::udp(1, 2),
        )
    };
    for src in ["127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.9"] {
        assert_eq!(world.send(&to_host(src)), Err(DropReason::IllegalSource));
    }
    let loopback = prefix().embed(Ipv4Addr::LOCALHOST);
    let out = Packet::new(
        "2001:db8::10".parse().unwrap(),
        loopback.into(),
        Segment::udp(1, 2),
    );
    assert_eq!(world.send(&out), Err(DropReason::NotOurs));
}

#[test]
fn s4_without_hairpinning_a_packet_to_a_mapped_address_goes_on_in_ipv4() {
    let mut world = world(&FIGURE_1, false, false);

    let left = world.send(&figure_8()).unwrap();

    assert_eq!(left.src, "192.0.2.1".parse::<IpAddr>().unwrap());
    assert_eq!(left.dst, "192.0.2.2".parse::<IpAddr>().unwrap());
}

#[test]
fn n6_13_mapped_host_reaches_no_pool_address_unless_asked_for() {
    let mut world = world(&FIGURE_1, true, false);
    let mut packet = figure_8();
    packet.dst = prefix().embed([203, 0, 113, 1].into()).into();

    assert_eq!(world.send(&packet), Err(DropReason::Hairpin));
}

#[test]
fn s4_2_2_hairpinned_packet_shows_its_source_behind_the_prefix() {
    // RFC 7757 appendix B.1, figures 8 and 11
    let mut world = world(&FIGURE_1, false, true);

    let there = world.send(&figure_8()).unwrap();
    let source = prefix().embed("192.0.2.1".parse().unwrap());
    assert_eq!(there.src, IpAddr::from(source));
    assert_eq!(there.dst, "2001:db8:bbbb::b".parse::<IpAddr>().unwrap());

    let answer = Packet::new(there.dst, there.src, Segment::udp(2, 1));
    let back = world.send(&answer).unwrap();
    assert_eq!((back.src, back.dst), (figure_8().dst, figure_8().src));
}

#[test]
fn s4_2_1_error_about_a_hairpinned_packet_comes_from_where_that_was_sent() {
    let mut world = world(&FIGURE_1, false, true);
    let sent = figure_8();
    let arrived = world.raw(&sent.bytes()).unwrap();
    // a router that is mapped too
    let router: IpAddr = "2001:db8:cccc::5".parse().unwrap();
    for (source, from) in [(None, sent.dst), (Some(router), router)] {
        let mut error = Error::about(&arrived, 1, 4);
        error.src = source.unwrap_or(error.src);

        let left = world.error(&error).unwrap();

        assert_eq!((left.src, left.dst), (from, sent.src));
        assert_eq!(left.body, sent.bytes());
    }
}

#[test]
fn s3_packet_that_does_not_fit_ipv6_is_answered_to_a_mapped_host() {
    for with_pool in [false, true] {
        let mut world = world(&["192.0.2.10=2001:db8::10"], with_pool, false);
        let mut packet = Packet::new(
            "198.51.100.9".parse().unwrap(),
            "192.0.2.10".parse().unwrap(),
            Segment::udp(1, 2),
        )
        .with_payload(1460);
        packet.dont_fragment = true;

        let (verdict, left) = world.exchange(&packet.bytes());

        assert_eq!(verdict, Verdict::Drop(DropReason::TooBig));
        let [answer] = &left[..] else {
            panic!("one answer, not {left:?}");
        };
        assert_eq!(answer[16..20], [198, 51, 100, 9]);
        assert_ne!(answer[12..16], [0; 4]);
        assert_eq!(answer[20..22], [3, 4]);
        assert_eq!(u16::from_be_bytes([answer[26], answer[27]]), 1480);
    }
}

#[test]
fn s3_packet_that_does_not_fit_ipv4_is_answered_to_a_mapped_host() {
    let rows = [
        "192.0.2.10=2001:db8::10",
        "198.51.100.0/24=2001:db8:9::/120",
    ];
    for (with_pool, dst) in [
        (false, "2001:db8:64::c633:6509"),
        (true, "2001:db8:64::c633:6509"),
        (false, "2001:db8:9::9"),
    ] {
        let mut world = world(&rows, with_pool, false);
        world.translator.handle_links(Links {
            wan_mtu: 1500,
            lan_mtu: 1300,
        });
        let packet = Packet::new(
            "2001:db8::10".parse().unwrap(),
            dst.parse().unwrap(),
            Segment::udp(1, 2),
        )
        .with_payload(1400);

        let (verdict, left) = world.exchange(&packet.bytes());

        assert_eq!(verdict, Verdict::Drop(DropReason::TooBig));
        let [answer] = &left[..] else {
            panic!("one answer, not {left:?}");
        };
        assert_eq!(answer[40..42], [2, 0], "{dst}");
        assert_eq!(answer[46..48], 1320_u16.to_be_bytes());
        let source = Ipv6Addr::from(<[u8; 16]>::try_from(&answer[8..24]).unwrap());
        let is_ours = prefix().contains(source) || source.to_string() == dst;
        assert!(is_ours, "{source}");
    }
}

#[test]
fn s3_2_error_about_a_mapped_packet_is_translated_with_what_it_quotes() {
    let mut world = world(&["192.0.2.10=2001:db8::10"], false, false);
    let peer: Ipv4Addr = "198.51.100.9".parse().unwrap();
    let out = Packet::new(
        "2001:db8::10".parse().unwrap(),
        prefix().embed(peer).into(),
        Segment::udp(4000, 53),
    );
    let quoted = world.raw(&out.bytes()).unwrap();
    let mut error = Packet::new(peer.into(), "192.0.2.10".parse().unwrap(), Segment::ping(0));
    error.payload = quoted;
    let mut message = error.sealed_segment();
    message[..8].copy_from_slice(&[3, 3, 0, 0, 0, 0, 0, 0]);
    let sum = (!sum16(&message)).to_be_bytes();
    message[2..4].copy_from_slice(&sum);

    let left = world.raw(&error.with_header(&message, &[])).unwrap();

    assert_eq!(left[8..24], prefix().embed(peer).octets());
    assert_eq!(
        IpAddr::from(<[u8; 16]>::try_from(&left[24..40]).unwrap()),
        out.src
    );
    assert_eq!(left[40..42], [1, 4]);
    // what it quotes is what the host has sent
    assert_eq!(left[48 + 8..], out.bytes()[8..]);
}

#[test]
fn rfc_7915_s4_5_every_transport_protocol_passes_between_mapped_addresses() {
    // IP in IP, DCCP, 6in4, GRE, ESP, AH, SCTP, UDP-Lite, an experiment
    for protocol in [4, 33, 41, 47, 50, 51, 132, 136, 253] {
        let mut world = world(&FIGURE_1, false, false);
        for len in [0, 1, 100, 1240, 1241, 1460] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let six = other_six(protocol, &payload);

            let four = world.raw(&six).unwrap();

            assert_eq!(four[..2], [0x45, 0x28]);
            assert_eq!(usize::from(word(&four, 2)), 20 + len);
            assert_eq!(four[6], if len > 1240 { 0x40 } else { 0 }, "DF, {len}");
            assert_eq!(four[8..10], [61, protocol]);
            assert_eq!(sum16(&four[..20]), 0xffff);
            assert_eq!(four[12..20], [192, 0, 2, 16, 198, 51, 100, 7]);
            assert_eq!(four[20..], payload);

            // what came, turned round
            let mut turned = four;
            turned[12..20].rotate_left(4);
            turned[6] = 0x40;
            home::seal_ipv4(&mut turned);
            let mut back = world.raw(&turned).unwrap();
            let (src, dst) = back[8..40].split_at_mut(16);
            src.swap_with_slice(dst);
            assert_eq!(back, six, "protocol {protocol}, {len} bytes");
        }
    }
}

#[test]
fn rfc_7915_s4_5_numbers_that_mean_something_else_in_the_other_family_are_dropped() {
    let mut world = world(&FIGURE_1, false, false);
    let four = |protocol| {
        let mut four = other_four(0, false, 0, &[1; 40]);
        four[9] = protocol;
        home::seal_ipv4(&mut four);
        four
    };
    for protocol in [0, 2, 43, 44, 58, 59, 60, 135, 139, 140] {
        let sent = world.raw(&four(protocol));
        assert_eq!(sent, Err(DropReason::UnsupportedProtocol), "{protocol}");
    }
    for protocol in [1, 2, 59, 135, 139, 140] {
        let sent = world.raw(&other_six(protocol, &[1; 40]));
        assert_eq!(sent, Err(DropReason::UnsupportedProtocol), "{protocol}");
    }
}

#[test]
fn rfc_7915_s4_1_fragments_of_other_protocols_pass_one_by_one() {
    let mut world = world(&FIGURE_1, false, false);
    let data: Vec<u8> = (0..1480_usize).map(|at| at as u8).collect();
    for (offset, more, len) in [(0, true, 800), (100, true, 1480), (185, false, 7)] {
        let four = other_four(0, more, offset, &data[..len]);

        let (verdict, left) = world.exchange(&four);

        assert_eq!(verdict, Verdict::Hold);
        let mut at = 0;
        for (number, part) in left.iter().enumerate() {
            assert!(part.len() <= 1280);
            assert_eq!((part[6], part[40]), (44, 132));
            assert_eq!(usize::from(word(part, 4)), part.len() - 40);
            assert_eq!(part[44..48], [0, 0, 0x12, 0x34], "the identification");
            assert_eq!(word(part, 42) & !7, (offset * 8) + at as u16);
            let follows = more || number + 1 < left.len();
            assert_eq!(word(part, 42) & 1 != 0, follows);
            assert_eq!(part[48..], data[at..at + part.len() - 48]);
            at += part.len() - 48;
        }
        assert_eq!(at, len);
    }

    let mut six = other_six(44, &[132, 0, 0x01, 0x91, 9, 8, 7, 6]);
    six.extend([7; 64]);
    six[5] += 64;
    let four = world.raw(&six).unwrap();
    assert_eq!(four[4..10], [7, 6, 0x20, 50, 61, 132]);
    assert_eq!(four[20..], [7; 64]);
    // what no datagram can be
    for (offset, more, len) in [(0, true, 7), (0, true, 0), (8191, false, 16)] {
        let four = other_four(0, more, offset, &data[..len]);
        let sent = world.exchange(&four).0;
        assert_eq!(sent, Verdict::Drop(DropReason::FragmentInconsistent));
    }
}

#[test]
fn rfc_7915_s4_1_and_s5_1_1_parts_of_datagrams_pass_one_by_one() {
    let (six_host, peer) = ("2001:db8:cccc::", "198.51.100.7");
    let six = |segment| {
        let dst = prefix().embed(peer.parse().unwrap());
        Packet::new(six_host.parse().unwrap(), dst.into(), segment).with_payload(3000)
    };
    let four = |segment| {
        let (src, dst) = (peer.parse().unwrap(), "192.0.2.16".parse().unwrap());
        Packet::new(src, dst, segment).with_payload(3000)
    };
    for packet in [
        six(Segment::udp(1, 2)),
        four(Segment::udp(1, 2)),
        six(Segment::tcp(1, 2, ACK)),
        four(Segment::tcp(1, 2, ACK)),
    ] {
        for with_pool in [false, true] {
            let mut world = world(&FIGURE_1, with_pool, false);
            let mut parts = pieces::cut(&packet.bytes(), 0x7777_1234, &[150, 290]);
            parts.rotate_left(1);
            let mut left = Vec::new();
            for part in &parts {
                let (verdict, out) = world.exchange(part);
                assert!(!matches!(verdict, Verdict::Drop(_)) && !out.is_empty());
                let (came, first) = (pieces::read(part), pieces::read(&out[0]));
                assert_eq!(first.offset, came.offset);
                assert_eq!(first.id, 0x1234);
                assert!(!first.dont_fragment || packet.src.is_ipv4());
                left.extend(out);
            }
            assert_eq!(world.translator.counters().fragments.held, 0);
            assert_eq!(pieces::join(&left).payload, packet.payload);
        }
    }
}

#[test]
fn rfc_7915_s4_5_parts_of_a_datagram_without_a_checksum_wait_for_each_other() {
    let mut world = world(&FIGURE_1, false, false);
    let (src, dst) = ("198.51.100.7", "192.0.2.16");
    let packet = Packet::new(
        src.parse().unwrap(),
        dst.parse().unwrap(),
        Segment::udp(1, 2),
    )
    .with_payload(3000);
    let mut bytes = packet.bytes();
    bytes[26..28].fill(0);

    let left = pieces::send_all(&mut world, &pieces::cut(&bytes, 9, &[150, 290]));

    assert_eq!(pieces::join(&left).payload, packet.payload);
}

#[test]
fn rfc_7915_s5_1_1_parts_that_cannot_be_are_dropped() {
    let mut world = world(&FIGURE_1, false, false);
    let six = Packet::new(
        "2001:db8:cccc::".parse().unwrap(),
        prefix().embed([198, 51, 100, 7].into()).into(),
        Segment::tcp(1, 2, ACK),
    )
    .with_payload(100)
    .bytes();
    for (offset, more, len, reason) in [
        (8, true, 7, DropReason::FragmentInconsistent),
        (8, true, 0, DropReason::FragmentInconsistent),
        (65_512, false, 8, DropReason::FragmentInconsistent),
        (0, true, 16, DropReason::FragmentTiny),
    ] {
        let part = pieces::fragment(&six, 7, offset, more, &six[40..40 + len]);
        assert_eq!(world.exchange(&part).0, Verdict::Drop(reason), "{offset}");
    }
    let udp = Packet::new(
        "2001:db8:cccc::".parse().unwrap(),
        prefix().embed([198, 51, 100, 7].into()).into(),
        Segment::udp(1, 2),
    );
    let mut unsummed = udp.with_payload(100).bytes();
    unsummed[46..48].fill(0);
    let part = pieces::part(&unsummed, 7, 0..64);
    let sent = world.exchange(&part).0;
    assert_eq!(sent, Verdict::Drop(DropReason::UdpWithoutChecksum));
}

#[test]
fn rfc_7915_s1_2_messages_of_icmp_in_parts_wait_for_each_other() {
    let mut world = world(&FIGURE_1, false, false);
    for packet in [
        Packet::new(
            "2001:db8:cccc::".parse().unwrap(),
            prefix().embed([198, 51, 100, 7].into()).into(),
            Segment::ping(7),
        ),
        Packet::new(
            "198.51.100.7".parse().unwrap(),
            "192.0.2.16".parse().unwrap(),
            Segment::pong(7),
        ),
    ] {
        let packet = packet.with_payload(3000);

        let left = pieces::send_all(&mut world, &pieces::cut_evenly(&packet.bytes(), 9, 100));

        assert_eq!(pieces::join(&left).payload, packet.payload);
    }
}

#[test]
fn n6_13_parts_come_back_to_mapped_hosts_where_that_is_asked_for() {
    for (hairpin, with_pool) in [(false, false), (true, false), (true, true)] {
        let mut world = world(&FIGURE_1, with_pool, hairpin);
        let packet = figure_8().with_payload(2000);

        let mut left = Vec::new();
        for part in pieces::cut_evenly(&packet.bytes(), 9, 100) {
            left.extend(world.exchange(&part).1);
        }

        let whole = pieces::join(&left);
        assert_eq!(whole.payload, packet.payload);
        assert_eq!(whole.dst.is_ipv6(), hairpin);
    }
}

#[test]
fn rfc_7915_s4_1_other_protocols_are_cut_or_answered() {
    let mut world = world(&FIGURE_1, false, false);
    let data = [3; 1481];
    let (verdict, left) = world.exchange(&other_four(0, false, 0, &data[..1400]));
    assert_eq!((verdict, left.len()), (Verdict::Hold, 2), "DF is not set");
    let (verdict, left) = world.exchange(&other_four(0x40, false, 0, &data[..1460]));
    assert_eq!((verdict, left.len()), (Verdict::Forward, 1));
    let (verdict, left) = world.exchange(&other_four(0x40, false, 0, &data[..1461]));
    assert_eq!(verdict, Verdict::Drop(DropReason::TooBig));
    assert_eq!(left[0][20..28][..2], [3, 4]);
    assert_eq!(word(&left[0], 26), 1480);

    let (wan_mtu, lan_mtu) = (1500, 1400);
    world.translator.handle_links(Links { wan_mtu, lan_mtu });
    let (verdict, left) = world.exchange(&other_six(132, &data[..1381]));
    assert_eq!(verdict, Verdict::Drop(DropReason::TooBig));
    assert_eq!(left[0][40..42], [2, 0]);
    assert_eq!(word(&left[0], 46), 1420);
}

#[test]
fn rfc_7915_s4_3_and_s5_3_errors_about_other_protocols_and_later_fragments_pass() {
    let mut world = world(&FIGURE_1, false, false);
    let (six_host, four_host) = ("2001:db8:cccc::", "198.51.100.7");
    let esp = other_six(50, &[5; 64]);
    let arrived = world.raw(&esp).unwrap();
    // of a datagram that was put together here and cut again on its way
    let mut later = other_four(0, false, 50, &[7; 8]);
    later[9] = 17;
    later[12..20].rotate_left(4);
    home::seal_ipv4(&mut later);
    for (arrived, sent) in [(arrived, &esp[..]), (later, &[7; 8])] {
        let error = Error::about(&arrived, 3, 1).from(four_host.parse::<Ipv4Addr>().unwrap());
        let left = world.error(&error).unwrap();
        assert_eq!((left.kind, left.code), (1, 0));
        assert_eq!(left.dst, six_host.parse::<IpAddr>().unwrap());
        assert!(left.body.ends_with(&sent[sent.len() - 8..]));
    }
    let sent = other_four(0x40, false, 0, &[5; 64]);
    let arrived = world.raw(&sent).unwrap();
    let left = world
        .error(&Error::about(&arrived, 2, 0).word(1400))
        .unwrap();
    assert_eq!((left.kind, left.code, left.word), (3, 4, 1380));
    assert_eq!(left.dst, four_host.parse::<IpAddr>().unwrap());
    assert_eq!(left.body[20..], sent[20..]);
}

#[test]
fn rfc_7915_s4_5_other_protocols_come_back_to_mapped_hosts_where_that_is_asked_for() {
    for hairpin in [false, true] {
        let mut world = world(&FIGURE_1, false, hairpin);
        let mut six = other_six(132, &[9; 30]);
        let peer = prefix().embed("192.0.2.2".parse().unwrap());
        six[24..40].copy_from_slice(&peer.octets());

        let left = world.raw(&six).unwrap();

        assert_eq!(left[0] >> 4, if hairpin { 6 } else { 4 });
        if hairpin {
            let dst: Ipv6Addr = "2001:db8:bbbb::b".parse().unwrap();
            assert_eq!(left[24..40], dst.octets());
            let src = prefix().embed("192.0.2.16".parse().unwrap());
            assert_eq!(left[8..24], src.octets());
        }
    }
}

/// A packet of a mapped host in IPv6 to one that the prefix embeds.
fn other_six(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let src: Ipv6Addr = "2001:db8:cccc::".parse().unwrap();
    let dst = prefix().embed([198, 51, 100, 7].into());
    let [l0, l1] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut six = vec![0x62, 0x80, 0, 0, l0, l1, next_header, 61];
    six.extend(src.octets());
    six.extend(dst.octets());
    six.extend(payload);
    six
}

/// An SCTP packet, or a part of one, that goes the other way.
fn other_four(flags: u8, more: bool, offset: u16, data: &[u8]) -> Vec<u8> {
    let [l0, l1] = u16::try_from(20 + data.len()).unwrap().to_be_bytes();
    let [o0, o1] = offset.to_be_bytes();
    let flags = flags | o0 | if more { 0x20 } else { 0 };
    let mut four = vec![0x45, 0x28, l0, l1, 0x12, 0x34, flags, o1, 61, 132, 0, 0];
    four.extend([198, 51, 100, 7, 192, 0, 2, 16]);
    home::seal_ipv4(&mut four);
    four.extend(data);
    four
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

proptest! {
    #[test]
    fn s3_3_there_and_back_is_the_identity(
        host in 0..16_u8,
        peer: u32,
        tos: u8,
        ttl in 1..=255_u8,
        ports: (u16, u16),
        payload in 0..1200_usize,
        kind in 0..4,
    ) {
        let peer = Ipv4Addr::from_bits(peer);
        prop_assume!(!peer.is_loopback() && !peer.is_link_local());
        prop_assume!((1..224).contains(&peer.octets()[0]) && peer.octets()[..3] != [192, 0, 2]);
        let segment = match kind {
            0 => Segment::tcp(ports.0, ports.1, ACK),
            1 => Segment::udp(ports.0, ports.1),
            2 => Segment::ping(ports.0),
            _ => Segment::pong(ports.0),
        };
        let mut world = world(&FIGURE_1, false, false);
        let six: Ipv6Addr = format!("2001:db8:cccc::{host:x}").parse().unwrap();
        let mut out = Packet::new(six.into(), prefix().embed(peer).into(), segment);
        out.tos = tos;
        out.ttl = ttl;
        let out = out.with_payload(payload);

        let four = world.send(&out).unwrap();
        let mut turned = four.clone();
        (turned.src, turned.dst) = (four.dst, four.src);
        let mut back = world.send(&turned).unwrap();
        (back.src, back.dst) = (back.dst, back.src);
        back.dont_fragment = out.dont_fragment;

        prop_assert_eq!(back, out);
    }
}

fn figure_8() -> Packet {
    Packet::new(
        "2001:db8:aaaa::".parse().unwrap(),
        prefix().embed("192.0.2.2".parse().unwrap()).into(),
        Segment::udp(1, 2),
    )
}

fn prefix() -> Pref64 {
    PREFIX.parse().unwrap()
}

fn pool() -> Vec<PoolRange> {
    vec![PoolRange::new([203, 0, 113, 1].into(), 32).unwrap()]
}

fn maps(rows: &[&str]) -> AddressMaps {
    let rows = rows.iter().map(|row| row.parse().unwrap()).collect();
    AddressMaps::new(rows).unwrap()
}

fn world(rows: &[&str], with_pool: bool, hairpin: bool) -> Home {
    let pool = if with_pool { pool() } else { Vec::new() };
    let alone = Alone {
        maps: maps(rows),
        hairpin,
        ..Alone::default()
    };
    let now = Instant::from_nanos(1_000_000_000);
    let mut translator = Translator::new(Config::alone(pool, alone).unwrap(), [7; 16], now);
    translator.handle_pref64s(&[prefix()], now);
    Home { translator, now }
}
