//! Errors of those who have no address in the other family (RFC 6791), and of the translator
//! itself (RFC 7915 §4.4, §5.4; RFC 1191).
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use home::icmp::{Error, Flow, ready, ready_with};
use home::{CAMERA, Home, NAS, POOL, REMOTE, SYN, Segment, from_camera, nsp, to_camera};
use translator::{AnswerKind, DropReason, Frame, Links, PoolRange, Verdict};

const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xfeed, 0, 0, 0, 0, 1);

#[test]
fn s4_router_speaks_from_an_address_of_the_pool_that_is_nobodys() {
    let mut home = Home::with(|config| {
        config.pool = vec![PoolRange::new([192, 168, 64, 192].into(), 29).unwrap()];
    });
    let mut remotes = BTreeSet::new();
    let mut flows = Vec::new();
    for host in 0..12_u128 {
        let mut packet = to_camera(Segment::udp(4000, 5000));
        packet.src = Ipv6Addr::from(u128::from(REMOTE) + (host << 64)).into();
        let arrived = home.send(&packet).unwrap();
        let port = arrived.segment.ports().0;
        remotes.insert(arrived.src);
        let mut back = from_camera(Segment::udp(5001, port));
        back.dst = arrived.src;
        flows.push(Flow::new(&mut home, &back));
    }
    let mut sources = BTreeSet::new();
    for flow in flows {
        let error = Error::about(&flow.arrived, 3, 0).from(ROUTER);
        let left = home.error(&error).unwrap();
        assert_eq!(left.dst, CAMERA);
        sources.insert(left.src);
        // the remote itself is who it is
        let left = home.error(&Error::about(&flow.arrived, 1, 4)).unwrap();
        assert!(remotes.contains(&left.src));
    }

    assert_eq!(sources.len(), 1, "one address stands for routers");
    assert!(sources.is_disjoint(&remotes));
    let pool = |addr: &IpAddr| matches!(addr, IpAddr::V4(addr) if addr.octets()[3] & 0xf8 == 192);
    assert!(sources.iter().all(pool));
}

#[test]
fn s4_router_shares_the_only_address_of_a_pool() {
    let mut home = ready();
    let flow = Flow::udp_from_camera(&mut home, 20);

    let left = home
        .error(&Error::about(&flow.arrived, 3, 0).from(ROUTER))
        .unwrap();

    assert_eq!(left.src, POOL);
    flow.assert_quoted(&left.body, flow.sent.len());
}

#[test]
fn contract_4_host_in_ipv4_that_is_not_the_server_speaks_from_the_prefix() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 20);
    for router in [
        Ipv4Addr::new(192, 168, 64, 1),
        Ipv4Addr::new(203, 0, 113, 9),
        NAS,
    ] {
        let left = home
            .error(&Error::about(&flow.arrived, 11, 0).from(router))
            .unwrap();

        assert_eq!(left.src, nsp().embed(router));
        assert_eq!(left.dst, REMOTE);
        flow.assert_quoted(&left.body, flow.sent.len());
    }
}

#[test]
fn s7915_4_1_packet_that_must_not_be_cut_and_does_not_fit_is_answered() {
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
fn s7915_5_1_packet_that_does_not_fit_the_lan_is_answered() {
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
fn s7915_5_1_packet_of_the_minimum_mtu_is_cut_in_ipv4_instead() {
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
fn s7915_4_1_super_packet_is_measured_by_its_segments() {
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
fn s7915_5_1_routing_header_is_answered_with_its_place() {
    let mut home = ready();
    // behind a Destination Options header of 16 bytes
    for (before, pointer) in [
        (&[][..], 43),
        (&[43, 1, 1, 4, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0], 59),
    ] {
        let packet = to_camera(Segment::udp(4000, 5000)).bytes();
        let mut routed = packet[..40].to_vec();
        routed[6] = if before.is_empty() { 43 } else { 60 };
        routed.extend(before);
        routed.extend([17, 2, 0, 1, 0, 0, 0, 0]);
        routed.extend(ROUTER.octets());
        routed.extend(&packet[40..]);
        let len = routed.len() - 40;
        routed[4..6].copy_from_slice(&(len as u16).to_be_bytes());

        let (verdict, left) = home.exchange(&routed);

        assert_eq!(verdict, Verdict::Drop(DropReason::SourceRouted));
        let [answer] = left.try_into().unwrap();
        let answer = Error::parse(&answer);
        assert_eq!((answer.kind, answer.code, answer.word), (4, 0, pointer));
        assert_eq!(answer.body, routed);
        assert_eq!(answer.body[pointer as usize], 1, "segments left");
    }
}

#[test]
fn s7915_4_1_source_route_is_answered() {
    let mut home = ready();
    let options = [131, 7, 4, 10, 0, 0, 1, 0];
    let packet = from_camera(Segment::udp(5001, 4000)).bytes_with(&options);

    let (verdict, left) = home.exchange(&packet);

    assert_eq!(verdict, Verdict::Drop(DropReason::SourceRouted));
    let [answer] = left.try_into().unwrap();
    let answer = Error::parse(&answer);
    assert_eq!((answer.kind, answer.code, answer.word), (3, 5, 0));
    assert_eq!(answer.body, packet);
}

#[test]
fn s6146_3_4_other_protocols_are_answered_only_if_the_policy_says_so() {
    for refuse in [false, true] {
        let mut home = ready_with(|config| config.refuse_protocols = refuse);
        let mut six = to_camera(Segment::udp(4000, 5000)).bytes();
        six[6] = 132;
        let mut four = from_camera(Segment::udp(5001, 4000)).bytes();
        four[9] = 132;
        home::seal_ipv4(&mut four);

        for (packet, expected) in [(six, (1, 4)), (four, (3, 2))] {
            let (verdict, left) = home.exchange(&packet);

            assert_eq!(verdict, Verdict::Drop(DropReason::UnsupportedProtocol));
            let left: Vec<_> = left.iter().map(|bytes| Error::parse(bytes)).collect();
            if refuse {
                assert_eq!((left[0].kind, left[0].code), expected);
                assert_eq!(left[0].body, packet);
            }
            assert_eq!(left.len(), usize::from(refuse));
        }
    }
}

#[test]
fn address_without_an_open_port_says_nothing() {
    let mut home = ready_with(|config| config.refuse_protocols = true);
    let mut packet = to_camera(Segment::udp(4000, 5000));
    packet.dst = nsp().embed(NAS).into();
    let mut bytes = packet.bytes();
    bytes[6] = 132;

    let (verdict, left) = home.exchange(&bytes);

    assert_eq!(verdict, Verdict::Drop(DropReason::UnsupportedProtocol));
    assert!(left.is_empty());
}

#[test]
fn mss_is_what_both_links_carry() {
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
