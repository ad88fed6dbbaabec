//! NAT behaviour for ICMP (RFC 5508), by its requirements.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use home::icmp::{Error, Flow, ready, ready_with};
use home::{
    ACK, CAMERA, Home, NAS, OTHER, POOL, Packet, REMOTE, SYN, Segment, from_camera, nsp, to_camera,
};
use mapping::{Instant, Protocol};
use proptest::prelude::*;
use translator::{
    Alone, AnswerKind, Config, DropReason, Lifetimes, Limits, Links, PoolRange, Pref64, Translator,
    Verdict,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn req_3_bad_icmp_checksum_is_dropped() {
    let mut home = ready();
    for flow in Flow::all(&mut home, 30) {
        let mut error = Error::about(&flow.arrived, kind(&flow), 0).bytes();
        let last = error.len() - 1;
        error[last] ^= 0x10;

        assert_eq!(home.raw(&error), Err(DropReason::IcmpChecksum));
    }
    assert_eq!(home.dropped(DropReason::IcmpChecksum), 6);
}

#[test]
fn req_1_queries_pass_and_one_identifier_is_one_to_every_server() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Tcp, 80, 80);
    let mut to_nas = to_camera(Segment::ping(77));
    to_nas.dst = nsp().embed(NAS).into();

    let first = home.send(&to_camera(Segment::ping(77))).unwrap();
    let second = home.send(&to_nas).unwrap();

    assert_eq!(first.src, second.src);
    assert_eq!(first.segment.ports(), second.segment.ports());
    let answer = from_camera(Segment::pong(first.segment.ports().0));
    assert_eq!(home.send(&answer).unwrap().segment, Segment::pong(77));
}

#[test]
fn req_2_query_session_lives_a_minute_and_by_configuration_never_less() {
    for (configured, lives) in [(None, 60), (Some(60), 60), (Some(300), 300)] {
        let mut home = Home::with(|config| {
            if let Some(time) = configured {
                config.lifetimes.set_icmp_query(SECOND * time).unwrap();
            }
        });
        home.send(&to_camera(Segment::ping(77))).unwrap();
        home.pass(SECOND * lives);
        assert!(home.send(&from_camera(Segment::pong(77))).is_ok());
        home.pass(SECOND * (lives + 2));
        assert!(home.send(&from_camera(Segment::pong(77))).is_err());
    }
    let short = Lifetimes::default().set_icmp_query(SECOND * 59);
    assert!(short.is_err());
}

#[test]
fn req_3_a_bad_checksum_of_the_quoted_ip_header_is_dropped() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 30);
    let mut quote = flow.arrived;
    quote[10] ^= 1;

    let left = home.error(&Error::about(&quote, 3, 3));

    assert_eq!(left, Err(DropReason::MalformedIcmp));
}

#[test]
fn req_3_b_options_of_the_quoted_packet_are_passed_over() {
    let mut home = ready();
    let flow = Flow::new(&mut home, &to_camera(Segment::udp(4000, 5000)));
    let mut quote = flow.arrived[..20].to_vec();
    quote[0] = 0x4f;
    quote[3] += 40;
    quote.extend([1; 40]);
    home::seal_ipv4(&mut quote);
    quote.extend(&flow.arrived[20..]);

    let left = home.error(&Error::about(&quote, 3, 3)).unwrap();

    flow.assert_quoted(&left.body, flow.sent.len());
}

#[test]
fn req_3_c_transport_checksum_of_the_quoted_packet_is_not_checked() {
    let mut home = ready();
    for flow in Flow::all(&mut home, 30) {
        let mut error = Error::about(&flow.arrived, kind(&flow), 0);
        let last = error.body.len() - 1;
        error.body[last] ^= 0x10;
        let mut wrong = flow.clone();
        let last = wrong.sent.len() - 1;
        wrong.sent[last] ^= 0x10;

        let left = home.error(&error).unwrap();

        // it is as wrong as before
        wrong.assert_quoted(&left.body, wrong.sent.len());
    }
}

#[test]
fn req_4_and_req_5_error_about_no_session_is_dropped() {
    let mut home = ready();
    for flow in Flow::all(&mut home, 30) {
        let header = if flow.is_from_remote() { 20 } else { 40 };
        // another port or identifier on either side, another host, another protocol
        let echo = matches!(flow.arrived[header], 0 | 8 | 128 | 129)
            && matches!(flow.arrived[if header == 20 { 9 } else { 6 }], 1 | 58);
        let places = if echo { vec![5] } else { vec![1, 3] };
        for at in places {
            let mut error = Error::about(&flow.arrived, kind(&flow), 0);
            error.body[header + at] ^= 1;
            assert_eq!(home.error(&error), Err(DropReason::IcmpError), "{error:?}");
        }
        let mut error = Error::about(&flow.arrived, kind(&flow), 0);
        error.body[header - 1] ^= 1;
        if header == 20 {
            home::seal_ipv4(&mut error.body);
        }
        assert_eq!(home.error(&error), Err(DropReason::IcmpError), "{error:?}");
        let mut error = Error::about(&flow.arrived, kind(&flow), 0);
        error.body[if header == 20 { 9 } else { 6 }] = 132;
        if header == 20 {
            home::seal_ipv4(&mut error.body);
        }
        assert_eq!(home.error(&error), Err(DropReason::IcmpError), "SCTP");
    }
    assert!(home.transmitted().is_empty());
}

#[test]
fn req_4_error_about_a_session_that_has_ended_is_dropped() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 30);
    home.close(CAMERA, Protocol::Udp, 5000);

    let left = home.error(&Error::about(&flow.arrived, 3, 3));

    assert_eq!(left, Err(DropReason::IcmpError));
}

#[test]
fn req_5_quoted_packet_and_outer_destination_are_reverted() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Udp, 7000, 7001);
    // the second remote gets another port of the pool
    let mut second = to_camera(Segment::udp(4000, 5000));
    second.src = OTHER.into();
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    let second = Flow::new(&mut home, &second);
    let port = [second.arrived[20], second.arrived[21]];
    assert_ne!(port, [0x0f, 0xa0]);

    let left = home.error(&Error::about(&second.arrived, 3, 3)).unwrap();

    assert_eq!(left.dst, OTHER);
    second.assert_quoted(&left.body, second.sent.len());

    let back = from_camera(Segment::udp(5001, u16::from_be_bytes(port)));
    let back = Flow::new(&mut home, &back);
    let left = home.error(&Error::about(&back.arrived, 1, 4)).unwrap();
    assert_eq!((left.src, left.dst), (POOL.into(), CAMERA.into()));
    back.assert_quoted(&left.body, back.sent.len());
}

#[test]
fn req_6_error_neither_refreshes_nor_ends_a_session() {
    for seconds in [30, 59] {
        let mut home = ready();
        let flows = Flow::all(&mut home, 30);
        home.pass(SECOND * seconds);
        let before: Vec<_> = home.translator.sessions(0..u32::MAX, home.now).collect();

        for flow in &flows {
            home.error(&Error::about(&flow.arrived, kind(flow), 0))
                .unwrap();
        }

        let after: Vec<_> = home.translator.sessions(0..u32::MAX, home.now).collect();
        assert_eq!(before, after);
        assert_eq!(home.translator.counters().icmp_errors, (3, 3));
        home.pass(SECOND * (62 - seconds));
        let counters = home.translator.counters().sessions;
        assert_eq!(counters.icmp, 0, "the query session ends in its time");
    }
}

#[test]
fn req_7_hairpinned_error_reaches_who_sent_the_quoted_packet() {
    let prefix: Pref64 = "64:ff9b:1::/96".parse().unwrap();
    let binding = "udp,[2001:db8:aaaa::1]:5353,192.168.64.193:53"
        .parse()
        .unwrap();
    let alone = Alone {
        hairpin: true,
        bindings: vec![binding],
        ..Alone::default()
    };
    let pool = vec![PoolRange::new(POOL, 32).unwrap()];
    let now = Instant::from_nanos(1_000_000_000);
    let config = Config::alone(pool, alone).unwrap();
    let mut translator = Translator::new(config, [7; 16], now);
    translator.handle_pref64s(&[prefix], now);
    let mut home = Home { translator, now };
    let external = prefix.embed(POOL);
    let packet = Packet::new(OTHER.into(), external.into(), Segment::udp(4000, 53));
    let flow = Flow::new(&mut home, &packet);
    assert_eq!(flow.arrived[24..40], REMOTE.octets());
    let router: Ipv6Addr = "2001:db8:feed::1".parse().unwrap();

    for source in [REMOTE, router] {
        for (kind, code, word) in [(1, 4, 0), (3, 0, 0), (2, 0, 1300)] {
            let error = Error::about(&flow.arrived, kind, code)
                .word(word)
                .from(source);

            let left = home.error(&error).unwrap();

            assert_eq!((left.src, left.dst), (external.into(), OTHER.into()));
            assert_eq!((left.kind, left.code), (kind, code));
            let is_extended = source == router && kind != 2;
            // RFC 4884 §4.3, RFC 6791 §4
            let length = u32::from_be_bytes([128 / 8, 0, 0, 0]);
            assert_eq!(left.word, if is_extended { length } else { word });
            assert_eq!(left.body.ends_with(&router.octets()), is_extended);
            let quote = left.body.get(..flow.sent.len()).unwrap();
            flow.assert_quoted(quote, flow.sent.len());
        }
    }
}

#[test]
fn req_8_without_a_pool_address_the_remote_is_told() {
    let mut home = Home::with(|config| config.pool = Vec::new());
    let packet = to_camera(Segment::udp(4000, 5000));

    let (verdict, left) = home.exchange(&packet.bytes());

    assert_eq!(verdict, Verdict::Drop(DropReason::PoolExhausted));
    let [answer] = left.try_into().unwrap();
    let answer = Error::parse(&answer);
    // RFC 6146 §3.5.1.1 has this code instead of 13
    assert_eq!((answer.kind, answer.code, answer.word), (1, 3, 0));
    assert_eq!((answer.src, answer.dst), (packet.dst, packet.src));
    assert_eq!(answer.body, packet.bytes());
}

#[test]
fn req_10_a_ttl_exceeded_and_path_mtu_pass_both_ways() {
    let mut home = ready();
    for flow in Flow::all(&mut home, 1200) {
        let (exceeded, too_big) = if flow.is_from_remote() {
            ((11, 0), (3, 4))
        } else {
            ((3, 0), (2, 0))
        };
        let exceeded = Error::about(&flow.arrived, exceeded.0, exceeded.1);
        let too_big = Error::about(&flow.arrived, too_big.0, too_big.1).word(1300);

        let exceeded = home.error(&exceeded).unwrap();
        let too_big = home.error(&too_big).unwrap();

        if flow.is_from_remote() {
            assert_eq!((exceeded.kind, exceeded.code), (3, 0));
            assert_eq!((too_big.kind, too_big.code, too_big.word), (2, 0, 1320));
        } else {
            assert_eq!((exceeded.kind, exceeded.code), (11, 0));
            assert_eq!((too_big.kind, too_big.code, too_big.word), (3, 4, 1280));
        }
    }
}

#[test]
fn req_10_d_diffserv_is_kept() {
    let mut home = ready();
    for flow in Flow::all(&mut home, 10) {
        let mut error = Error::about(&flow.arrived, kind(&flow), 0);
        error.tos = 0x2e << 2;
        assert_eq!(home.error(&error).unwrap().tos, 0x2e << 2);
    }
}

#[test]
fn req_10_e_nothing_is_said_about_what_rfc_1812_excepts() {
    let mut home = ready_with(|config| config.refuse_protocols = true);
    home.translator.handle_links(Links {
        wan_mtu: 1280,
        lan_mtu: 1280,
    });
    let silent = |home: &mut Home, packet: &[u8]| {
        let (verdict, left) = home.exchange(packet);
        assert!(matches!(verdict, Verdict::Drop(_)), "{packet:?}");
        assert_eq!(left, Vec::<Vec<u8>>::new());
    };
    let mut sctp = from_camera(Segment::udp(5001, 4000)).bytes();
    sctp[9] = 132;
    let mut illegal = sctp.clone();
    illegal[12] = 224;
    home::seal_ipv4(&mut illegal);
    silent(&mut home, &illegal);
    let mut sctp_six = to_camera(Segment::udp(4000, 5000)).bytes();
    sctp_six[6] = 132;
    for first in [[0; 4], [0xff, 2, 0, 0], [0xfe, 0x80, 0, 0]] {
        let mut illegal = sctp_six.clone();
        illegal[8..12].copy_from_slice(&first);
        if first == [0; 4] {
            illegal[8..24].fill(0);
        }
        silent(&mut home, &illegal);
    }
    // an error with a source route or of an unknown kind
    let flow = Flow::udp_from_camera(&mut home, 20);
    let error = Error::about(&flow.arrived, 1, 4).message();
    let mut routed = to_camera(Segment::ping(4000)).bytes();
    routed[6] = 43;
    routed.truncate(40);
    routed.extend([58, 0, 0, 1, 0, 0, 0, 0]);
    routed.extend(&error);
    let len = routed.len() as u16 - 40;
    routed[4..6].copy_from_slice(&len.to_be_bytes());
    silent(&mut home, &routed);
    assert_eq!(
        home.translator
            .counters()
            .answers
            .iter()
            .map(|(_, n)| n)
            .sum::<u64>(),
        0
    );
}

#[test]
fn req_10_f_answers_are_limited() {
    let mut home = Home::with(|config| config.refuse_protocols = true);
    let mut sctp = to_camera(Segment::udp(4000, 5000)).bytes();
    sctp[6] = 132;
    let answers = |home: &mut Home, count: usize| -> usize {
        (0..count).map(|_| home.exchange(&sctp).1.len()).sum()
    };

    assert_eq!(answers(&mut home, 1500), 1000);
    home.pass(SECOND / 10);
    assert_eq!(answers(&mut home, 500), 100);

    let counted = home.translator.counters().answers;
    assert_eq!(counted.get(AnswerKind::ProtocolUnreachable), 1100);
    assert_eq!(counted.limited(), 900);
    // path MTU discovery goes on all the same
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    let mut long = from_camera(Segment::udp(5001, 4000)).with_payload(1453);
    long.dont_fragment = true;
    assert_eq!(home.exchange(&long.bytes()).1.len(), 1);
}

#[test]
fn req_9_answers_can_be_switched_off() {
    let mut home = Home::with(|config| {
        config.refuse_protocols = true;
        config.limits.answers = 0;
    });
    let mut sctp = to_camera(Segment::udp(4000, 5000)).bytes();
    sctp[6] = 132;

    assert_eq!(home.exchange(&sctp).1.len(), 0);
}

#[test]
fn req_8_who_finds_no_room_is_told() {
    let refused = |limit: fn(&mut Limits)| {
        let mut home = Home::with(|config| limit(&mut config.limits));
        for host in 1..=6_u128 {
            let mut packet = to_camera(Segment::tcp(4000, 80, SYN));
            packet.src = Ipv6Addr::from(u128::from(REMOTE) + host).into();
            establish(&mut home, &packet);
        }
        let packet = to_camera(Segment::tcp(5000, 80, SYN));
        let (verdict, left) = home.exchange(&packet.bytes());
        let Verdict::Drop(reason) = verdict else {
            panic!("{verdict:?}")
        };
        let answers: Vec<_> = left.iter().map(|left| Error::parse(left)).collect();
        (reason, answers, packet)
    };
    for (limit, reason) in [
        (
            (|limits| limits.per_remote_64 = 6) as fn(&mut Limits),
            DropReason::RemoteFull,
        ),
        (|limits| limits.per_server = 6, DropReason::ServerFull),
        (|limits| limits.sessions = 6, DropReason::SessionsFull),
    ] {
        let (why, answers, packet) = refused(limit);
        assert_eq!(why, reason);
        let [answer] = &answers[..] else {
            panic!("{reason:?}: {answers:?}")
        };
        // RFC 6888 REQ-11 b has this code, which TCP may overcome, instead of 13
        assert_eq!((answer.kind, answer.code), (1, 3));
        assert_eq!(answer.src, IpAddr::from(nsp().embed(POOL)));
        assert_eq!(answer.dst, packet.src);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn req_4_error_there_names_what_was_sent_here(
        len in 0..1400_usize,
        cut in 28..1500_usize,
        interface: u64,
        port: u16,
        which in 0..3_usize,
    ) {
        let mut home = Home::new();
        let segment = match which {
            0 => Segment::udp(port, 5000),
            1 => Segment::tcp(port, 80, SYN),
            _ => Segment::ping(port),
        };
        let mut packet = to_camera(segment).with_payload(len);
        let src = 0x2001_0db8_aaaa_0000_u128 << 64 | u128::from(interface);
        packet.src = Ipv6Addr::from(src).into();
        let flow = Flow::new(&mut home, &packet);

        let left = home.error(&Error::about(&flow.arrived, 3, 1).cut(cut)).unwrap();

        let quoted = (cut.min(flow.arrived.len()) & !1).min(flow.arrived.len());
        let quoted = if cut >= flow.arrived.len() { flow.arrived.len() } else { quoted };
        prop_assert_eq!(left.dst, packet.src);
        flow.assert_quoted(&left.body, quoted + 20);
    }
}

/// Opens a connection, to which the camera answers.
fn establish(home: &mut Home, syn: &Packet) {
    let t = home.send(syn).unwrap().segment.ports().0;
    home.send(&from_camera(Segment::tcp(8080, t, SYN | ACK)))
        .unwrap();
    let mut ack = syn.clone();
    ack.segment = Segment::tcp(syn.segment.ports().0, 80, ACK);
    home.send(&ack).unwrap();
}

/// An ICMP type of errors in the family in which a packet arrived: destination unreachable.
fn kind(flow: &Flow) -> u8 {
    if flow.is_from_remote() { 3 } else { 1 }
}
