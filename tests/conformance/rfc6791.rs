//! Errors of those who have no address in the other family (RFC 6791), and of the translator
//! itself (RFC 7915 §4.4, §5.4).
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
use home::{CAMERA, Home, NAS, POOL, Packet, REMOTE, Segment, from_camera, nsp, to_camera};
use mapping::Instant;
use translator::{Alone, Config, DropReason, PoolRange, Pref64, Translator, Verdict};

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
    flow.assert_quoted(&left.body[..flow.sent.len()], flow.sent.len());
}

#[test]
fn s4_address_of_a_router_stands_in_an_extension() {
    let mut home = ready();
    for len in [20, 90, 100, 700] {
        let flow = Flow::udp_from_camera(&mut home, len);
        for (kind, code) in [(3, 0), (1, 0), (1, 1), (2, 0)] {
            let error = Error::about(&flow.arrived, kind, code).word(1400);

            let left = home.error(&error.clone().from(ROUTER)).unwrap();

            let [_, words, _, _] = left.word.to_be_bytes();
            let (quote, extension) = left.body.split_at(usize::from(words) * 4);
            assert!(quote.len() >= 128, "RFC 4884 §3");
            let quoted = flow.sent.len().min(quote.len());
            flow.assert_quoted(&quote[..quoted], quoted);
            assert!(quote[quoted..].iter().all(|byte| *byte == 0));
            // RFC 4884 §7, RFC 5837 §4.1 and §4.2
            assert_eq!(extension[..2], [0x20, 0]);
            assert_eq!(home::sum16(extension), 0xffff);
            assert_eq!(extension[4..12], [0, 24, 2, 4, 0, 2, 0, 0]);
            assert_eq!(extension[12..], ROUTER.octets());

            // the remote itself and a router that has an address in IPv4 need none
            for own in [REMOTE, nsp().embed(NAS)] {
                let left = home.error(&error.clone().from(own));
                let length = left.map(|left| left.word.to_be_bytes()[1]);
                assert!(matches!(length, Ok(0) | Err(_)), "{own}: {length:?}");
            }
        }
        let problem = Error::about(&flow.arrived, 4, 0).from(ROUTER).word(8);
        let left = home.error(&problem).unwrap();
        assert_eq!(left.word.to_be_bytes()[0], 12, "the pointer stays");
        assert_ne!(left.word.to_be_bytes()[1], 0);
    }
}

#[test]
fn s4_extension_stands_behind_those_that_a_router_adds() {
    let mut home = ready();
    let flow = Flow::udp_from_camera(&mut home, 20);
    let mut quote = flow.arrived;
    quote.resize(128, 0);
    let mut mpls = vec![0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 2, 3];
    let sum = !home::sum16(&mpls);
    mpls[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut error = Error::about(&quote, 3, 0).from(ROUTER);
    error.word = u32::from_be_bytes([16, 0, 0, 0]);
    error.body.extend(&mpls);

    let left = home.error(&error).unwrap();

    let [_, words, _, _] = left.word.to_be_bytes();
    let extensions = &left.body[usize::from(words) * 4..];
    assert_eq!(extensions[4..12], mpls[4..]);
    assert_eq!(extensions[12..16], [0, 24, 2, 4]);
    assert_eq!(extensions[20..], ROUTER.octets());
    assert_eq!(home::sum16(extensions), 0xffff);
}

#[test]
fn rfc_5837_s4_errors_of_our_own_name_no_interface() {
    let mut home = ready();
    let mut large = from_camera(Segment::udp(5001, 4000)).with_payload(1470);
    large.dont_fragment = true;

    let (_, left) = home.exchange(&large.bytes());

    let answer = Error::parse(&left[0]);
    assert_eq!((answer.kind, answer.code, answer.word), (3, 4, 1480));
    assert!(
        large.bytes().starts_with(&answer.body),
        "and nothing behind"
    );
}

#[test]
fn s4_stateless_translator_says_who_a_router_is() {
    let alone = Alone {
        maps: translator::AddressMaps::new(vec!["192.0.2.10=2001:db8:aaaa::1".parse().unwrap()])
            .unwrap(),
        ..Alone::default()
    };
    let config = Config::alone(Vec::new(), alone).unwrap();
    let now = Instant::from_nanos(1_000_000_000);
    let mut translator = Translator::new(config, [7; 16], now);
    let prefix: Pref64 = "2001:db8:46::/96".parse().unwrap();
    translator.handle_pref64s(&[prefix], now);
    let mut home = Home { translator, now };
    let host = Ipv4Addr::new(198, 51, 100, 20);
    let mapped = Ipv4Addr::new(192, 0, 2, 10);
    let sent = Packet::new(host.into(), mapped.into(), Segment::ping(7));
    let arrived = home.raw(&sent.bytes()).unwrap();

    let left = home
        .error(&Error::about(&arrived, 3, 0).from(ROUTER))
        .unwrap();

    assert_eq!((left.kind, left.dst), (11, host.into()));
    assert!(left.body.ends_with(&ROUTER.octets()));
}

#[test]
fn rfc_7915_s6_host_in_ipv4_that_is_not_the_server_speaks_from_the_prefix() {
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
fn rfc_7915_s5_1_routing_header_is_answered_with_its_place() {
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
fn rfc_6052_s3_1_private_router_does_not_speak_from_the_well_known_prefix() {
    let peer = Ipv4Addr::new(9, 9, 9, 7);
    let pool = Ipv4Addr::new(8, 8, 4, 4);
    let config = Config::alone(vec![PoolRange::new(pool, 32).unwrap()], Alone::default());
    let now = Instant::from_nanos(1_000_000_000);
    let mut translator = Translator::new(config.unwrap(), [7; 16], now);
    translator.handle_pref64s(&[Pref64::WELL_KNOWN], now);
    let mut home = Home { translator, now };
    let to = Pref64::WELL_KNOWN.embed(peer);
    let packet = Packet::new(REMOTE.into(), to.into(), Segment::udp(4000, 53));
    let flow = Flow::new(&mut home, &packet);
    for (router, source) in [
        (Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 8, 8)),
        (Ipv4Addr::new(10, 0, 0, 1), pool),
    ] {
        // what it says is needed all the same: path MTU discovery is made of it
        let left = home
            .error(&Error::about(&flow.arrived, 3, 4).word(1400).from(router))
            .unwrap();

        assert_eq!(left.src, Pref64::WELL_KNOWN.embed(source));
        assert_eq!((left.kind, left.word), (2, 1420));
    }
}

#[test]
fn rfc_7915_s4_1_source_route_is_answered() {
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
fn rfc_6146_s3_4_other_protocols_are_answered_only_if_the_policy_says_so() {
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
fn rfc_7915_s5_4_address_without_an_open_port_says_nothing() {
    let mut home = ready_with(|config| config.refuse_protocols = true);
    let mut packet = to_camera(Segment::udp(4000, 5000));
    packet.dst = nsp().embed(NAS).into();
    let mut bytes = packet.bytes();
    bytes[6] = 132;

    let (verdict, left) = home.exchange(&bytes);

    assert_eq!(verdict, Verdict::Drop(DropReason::UnsupportedProtocol));
    assert!(left.is_empty());
}
