//! Path MTU through the translator (RFC 7915 §1.3, §4.1, §4.2, §5.1, §5.2; RFC 1191).
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use home::icmp::{Error, Flow, ready, with_extension};
use home::{CAMERA, Home, POOL, REMOTE, SYN, Segment, from_camera, nsp, seal_ipv4, to_camera};
use translator::{AnswerKind, DropReason, Frame, Links, Verdict};

#[test]
fn s4_2_mtu_of_packet_too_big() {
    // WAN, LAN, MTU said, total length of the packet, MTU in IPv6
    let table = [
        (1500, 1500, 1400, 1480, 1420),
        (1500, 1500, 1480, 1480, 1500),
        (1500, 1500, 1492, 1480, 1500),
        (1400, 1500, 1492, 1480, 1400),
        (9000, 1500, 1500, 1480, 1520),
        (9000, 1500, 4000, 1480, 1520),
        (9000, 1300, 4000, 1480, 1320),
        (9000, 9000, 65_535, 8980, 9000),
        (65_535, 65_535, 65_535, 8980, 65_535),
        (1500, 1500, 1260, 1480, 1280),
        (1500, 1500, 1261, 1480, 1281),
        (1500, 1500, 1259, 1480, 1280),
        (1500, 1500, 576, 1480, 1280),
        (1500, 1500, 68, 1480, 1280),
        (1500, 1500, 1, 1480, 1280),
        (1500, 576, 1400, 1480, 1280),
        (1280, 1500, 1400, 1260, 1280),
        // RFC 1191 §7.1: a router that says nothing
        (9000, 9000, 0, 1480, 1280),
        (9000, 9000, 0, 1492, 1280),
        (9000, 9000, 0, 1493, 1492),
        (9000, 9000, 0, 2002, 1492),
        (9000, 9000, 0, 2003, 2002),
        (9000, 9000, 0, 4352, 2002),
        (9000, 9000, 0, 4353, 4352),
        (9000, 9000, 0, 8166, 4352),
        (9000, 9000, 0, 8167, 8166),
        (1500, 1500, 0, 8167, 1500),
        (65_535, 65_535, 0, 17_914, 8166),
        (65_535, 65_535, 0, 17_915, 17_914),
        (65_535, 65_535, 0, 32_000, 17_914),
        (65_535, 65_535, 0, 32_001, 32_000),
        (65_535, 65_535, 0, 65_535, 32_000),
        (1500, 1500, 0, 1280, 1280),
        (1500, 1500, 0, 576, 1280),
    ];
    for (wan_mtu, lan_mtu, mtu, total_len, expected) in table {
        let mut home = ready();
        let flow = Flow::udp_to_camera(&mut home, 20);
        home.translator.handle_links(Links { wan_mtu, lan_mtu });
        let mut quote = flow.arrived;
        quote[2..4].copy_from_slice(&u16::to_be_bytes(total_len));
        seal_ipv4(&mut quote);

        let left = home.error(&Error::about(&quote, 3, 4).word(mtu)).unwrap();

        let found = (left.kind, left.code, left.word);
        let case = (wan_mtu, lan_mtu, mtu, total_len);
        assert_eq!(found, (2, 0, expected), "{case:?}");
    }
}

#[test]
fn s5_2_mtu_of_fragmentation_needed() {
    // WAN, LAN, MTU said, Fragment Header, MTU in IPv4
    let table = [
        (1500, 1500, 1400, false, 1380),
        (1500, 1500, 1500, false, 1480),
        (1500, 1500, 1280, false, 1260),
        (1500, 1500, 9000, false, 1480),
        (9000, 1500, 9000, false, 1500),
        (9000, 1500, 1400, false, 1380),
        (9000, 9000, 9000, false, 8980),
        (1500, 1300, 1400, false, 1300),
        (1500, 576, 1400, false, 576),
        (65_535, 65_535, 65_535, false, 65_515),
        (65_535, 65_535, 65_536, false, 65_515),
        (65_535, 65_535, u32::MAX, false, 65_515),
        (1500, 1500, u32::MAX, false, 1480),
        // RFC 8201 §4: nothing is believed below 1280
        (1500, 1500, 1279, false, 1260),
        (1500, 1500, 1000, false, 1260),
        (1500, 1500, 68, false, 1260),
        (1500, 1500, 0, false, 1260),
        (1500, 576, 0, false, 576),
        (1500, 1500, 0, true, 1252),
        (1500, 1500, 1280, true, 1252),
        (1500, 1500, 1400, true, 1372),
    ];
    for (wan_mtu, lan_mtu, mtu, fragment, expected) in table {
        let mut home = ready();
        let flow = Flow::udp_from_camera(&mut home, 20);
        home.translator.handle_links(Links { wan_mtu, lan_mtu });
        let mut quote = flow.arrived;
        if fragment {
            quote = with_extension(&quote, 44, &[17, 0, 0, 1, 0, 0, 0, 9]);
        }

        let left = home.error(&Error::about(&quote, 2, 0).word(mtu)).unwrap();

        let found = (left.kind, left.code, left.word);
        assert_eq!(found, (3, 4, expected), "{:?}", (wan_mtu, lan_mtu, mtu));
    }
}

#[test]
fn s4_1_packet_that_must_not_be_cut_and_does_not_fit_is_answered() {
    for (wan_mtu, mtu) in [(1500, 1480_u16), (1280, 1260), (1400, 1380)] {
        for segment in [
            Segment::udp(5001, 4000),
            Segment::tcp(8080, 4000, 16),
            Segment::pong(4000),
        ] {
            let mut home = ready();
            let lan_mtu = 1500;
            home.translator.handle_links(Links { wan_mtu, lan_mtu });
            let mut packet = from_camera(segment);
            packet.dont_fragment = true;
            let headers = packet.bytes().len() - packet.payload.len();
            let packet = packet.with_payload(usize::from(mtu) + 1 - headers);

            let (verdict, left) = home.exchange(&packet.bytes());

            assert_eq!(verdict, Verdict::Drop(DropReason::TooBig));
            let [answer] = left.try_into().unwrap();
            let answer = Error::parse(&answer);
            assert_eq!((answer.src, answer.dst), (POOL.into(), CAMERA.into()));
            assert_eq!(
                (answer.kind, answer.code, answer.word),
                (3, 4, u32::from(mtu))
            );
            assert_eq!(answer.body, packet.bytes()[..548]);
            assert_eq!(answer.tos, 0xc0, "RFC 1812 §4.3.2.5");
            let answers = home.translator.counters().answers;
            assert_eq!(answers.get(AnswerKind::TooBig), 1);

            let fits = packet.clone().with_payload(packet.payload.len() - 1);
            assert!(home.raw(&fits.bytes()).is_ok());
        }
    }
}

#[test]
fn s5_1_packet_that_does_not_fit_the_lan_is_answered() {
    for (lan_mtu, mtu) in [(1480, 1500_u16), (1400, 1420), (1300, 1320)] {
        let mut home = ready();
        let wan_mtu = 1500;
        home.translator.handle_links(Links { wan_mtu, lan_mtu });
        let packet = to_camera(Segment::udp(4000, 5000)).with_payload(usize::from(mtu) + 1 - 48);

        let (verdict, left) = home.exchange(&packet.bytes());

        assert_eq!(verdict, Verdict::Drop(DropReason::TooBig));
        let [answer] = left.try_into().unwrap();
        let answer = Error::parse(&answer);
        assert_eq!(
            (answer.src, answer.dst),
            (nsp().embed(POOL).into(), REMOTE.into())
        );
        assert_eq!(
            (answer.kind, answer.code, answer.word),
            (2, 0, u32::from(mtu))
        );
        assert_eq!(answer.body, packet.bytes()[..1232]);

        let fits = packet.clone().with_payload(packet.payload.len() - 1);
        assert!(home.raw(&fits.bytes()).is_ok());
    }
}

#[test]
fn s5_1_packet_of_the_minimum_mtu_is_cut_in_ipv4_instead() {
    for lan_mtu in [1259, 1000, 576, 68] {
        let mut home = ready();
        let wan_mtu = 1500;
        home.translator.handle_links(Links { wan_mtu, lan_mtu });
        let packet = to_camera(Segment::udp(4000, 5000)).with_payload(1280 - 48);

        let arrived = home.send(&packet).unwrap();
        assert!(!arrived.dont_fragment, "the kernel cuts it");

        let longer = packet.with_payload(1281 - 48);
        let (verdict, left) = home.exchange(&longer.bytes());
        assert_eq!(verdict, Verdict::Drop(DropReason::TooBig));
        let [answer] = left.try_into().unwrap();
        assert_eq!(Error::parse(&answer).word, 1280);
    }
}

#[test]
fn s4_1_super_packet_is_measured_by_its_segments() {
    let mut home = ready();
    let mut packet = from_camera(Segment::tcp(8080, 4000, 16)).with_payload(14_000);
    packet.dont_fragment = true;
    let send = |home: &mut Home, size: u16| {
        let mut offload = [1, 1, 40, 0, 0, 0, 20, 0, 16, 0];
        offload[4..6].copy_from_slice(&size.to_ne_bytes());
        let mut frame = Frame::new();
        let bytes = packet.partial_bytes();
        frame.space()[..10].copy_from_slice(&offload);
        frame.space()[10..10 + bytes.len()].copy_from_slice(&bytes);
        frame.filled(10 + bytes.len());
        home.translator.handle_packet(&mut frame, home.now)
    };

    assert_eq!(send(&mut home, 1440), Verdict::Forward);
    assert_eq!(send(&mut home, 1441), Verdict::Drop(DropReason::TooBig));

    let [answer] = home.transmitted().try_into().unwrap();
    let answer = Error::parse(&answer);
    assert_eq!((answer.kind, answer.code, answer.word), (3, 4, 1480));
    // what is quoted is the first of the packets that came
    assert_eq!(answer.body[2..4], 1481_u16.to_be_bytes());
    assert_eq!(home::sum16(&answer.body[..20]), 0xffff);
    assert_eq!(answer.body[20..36], packet.partial_bytes()[20..36]);
}

#[test]
fn s1_3_mss_is_what_both_links_carry() {
    for (wan_mtu, lan_mtu, mss) in [(1500, 1500, 1440), (1400, 1500, 1340), (1500, 1400, 1360)] {
        let mut home = Home::new();
        home.translator.handle_links(Links { wan_mtu, lan_mtu });
        let mut syn = to_camera(Segment::tcp(4000, 80, SYN));
        if let Segment::Tcp { options, .. } = &mut syn.segment {
            *options = Segment::mss(8960);
        }

        let arrived = home.send(&syn).unwrap();

        assert!(
            matches!(arrived.segment, Segment::Tcp { options, .. } if options == Segment::mss(mss))
        );
    }
}
