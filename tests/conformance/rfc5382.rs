//! NAT behaviour for TCP (RFC 5382), by its requirements.

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use home::icmp::{Error, Flow, ready};
use home::{
    ACK, CAMERA, FIN, Home, NAS, OTHER, Packet, REMOTE, RST, SYN, Segment, from_camera, nsp,
    to_camera,
};
use mapping::Protocol;
use translator::{Closed, DropReason, Lifetimes, TcpState, Timer};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn req_1_one_socket_is_one_transport_address_to_every_server() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Tcp, 80, 80);
    let mut to_nas = to_camera(Segment::tcp(4000, 80, SYN));
    to_nas.dst = nsp().embed(NAS).into();

    let first = home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    let second = home.send(&to_nas).unwrap();

    assert_eq!(first.src, second.src);
    assert_eq!(first.segment.ports().0, second.segment.ports().0);
}

#[test]
fn req_2_half_closed_connection_carries_data_and_acknowledgments() {
    let mut home = Home::new();
    let t = home.connect(4000);

    for (from_server, flags) in [
        (false, ACK),
        (false, FIN | ACK),
        (true, ACK),
        (true, ACK),
        (false, ACK),
        (true, FIN | ACK),
        (false, ACK),
        // retransmissions after both have finished
        (true, FIN | ACK),
        (false, ACK),
    ] {
        let packet = if from_server {
            from_camera(Segment::tcp(8080, t, flags))
        } else {
            to_camera(Segment::tcp(4000, 80, flags))
        };
        assert!(home.send(&packet).is_ok(), "{packet:?}");
    }
}

#[test]
fn req_2_a_both_sides_may_open_at_once() {
    let mut home = Home::new();
    let syn = home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    let t = syn.segment.ports().0;

    for packet in [
        from_camera(Segment::tcp(8080, t, SYN)),
        to_camera(Segment::tcp(4000, 80, SYN | ACK)),
        from_camera(Segment::tcp(8080, t, SYN | ACK)),
        to_camera(Segment::tcp(4000, 80, ACK)),
    ] {
        assert!(home.send(&packet).is_ok(), "{packet:?}");
    }
    assert_eq!(state(&home), Some(TcpState::Established));
}

#[test]
fn req_3_filtering_depends_on_address_and_port_of_the_server() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Tcp, 80, 8080);
    let t = home.connect(4000);
    let mut neighbour = from_camera(Segment::tcp(8080, t, ACK));
    neighbour.src = NAS.into();

    for packet in [neighbour, from_camera(Segment::tcp(8081, t, ACK))] {
        assert!(home.send(&packet).is_err(), "{packet:?}");
    }
    assert!(home.send(&from_camera(Segment::tcp(8080, t, ACK))).is_ok());
}

#[test]
fn req_4_syn_to_a_closed_port_is_answered_after_six_seconds_and_no_sooner() {
    let mut home = Home::with(|config| config.closed = Closed::Prohibited);
    let syn = to_camera(Segment::tcp(4000, 81, SYN));
    assert_eq!(home.send(&syn), Err(DropReason::Closed));
    // it is sent again, and means the same
    home.now += SECOND;
    assert_eq!(home.send(&syn), Err(DropReason::Closed));
    assert!(home.transmitted().is_empty());

    let (due, timer) = home.translator.poll_timeout().unwrap();
    assert_eq!((due, timer), (home.now + 5 * SECOND, Timer::ClosedSyn));
    home.now = due;
    home.translator
        .handle_timeout(due - Duration::from_nanos(1));
    assert!(home.transmitted().is_empty());
    home.translator.handle_timeout(due);
    home.translator.handle_timeout(due);

    let [error] = &home.transmitted()[..] else {
        panic!("one answer")
    };
    // ICMPv6 1/1 with the SYN in it
    assert_eq!((error[6], error[40], error[41]), (58, 1, 1));
    assert_eq!(error[24..40], REMOTE.octets());
    assert_eq!(error[48..], syn.bytes());
    let length = u8::try_from(error.len() - 40).unwrap();
    let pseudo = [&error[8..40], &[0, 0, 0, length, 0, 0, 0, 58]].concat();
    assert_eq!(home::sum16(&[&pseudo, &error[40..]].concat()), 0xffff);
    assert_eq!(home.translator.poll_timeout(), None);
}

#[test]
fn req_4_syn_that_is_welcome_meanwhile_is_not_refused() {
    let mut home = Home::with(|config| config.closed = Closed::Prohibited);
    let syn = to_camera(Segment::tcp(4000, 81, SYN));
    assert_eq!(home.send(&syn), Err(DropReason::Closed));

    home.open(CAMERA, Protocol::Tcp, 81, 81);
    home.now += 3 * SECOND;
    assert!(home.send(&syn).is_ok());
    home.events();
    home.now += 3 * SECOND;
    home.translator.handle_timeout(home.now);

    assert!(home.transmitted().is_empty());
}

#[test]
fn req_4_a_closed_port_is_silent_by_default() {
    let mut home = Home::new();
    for packet in [
        to_camera(Segment::tcp(4000, 81, SYN)),
        to_camera(Segment::tcp(4000, 81, ACK)),
        to_camera(Segment::udp(4000, 81)),
    ] {
        assert_eq!(home.send(&packet), Err(DropReason::Closed));
    }
    home.now += 10 * SECOND;
    home.translator.handle_timeout(home.now);

    assert!(home.transmitted().is_empty());
    assert_eq!(home.translator.poll_timeout(), None);
}

#[test]
fn req_4_other_packets_to_a_closed_port_are_answered_at_once() {
    let mut home = Home::with(|config| config.closed = Closed::Prohibited);
    let mut ping = to_camera(Segment::ping(1));
    ping.dst = nsp().embed(NAS).into();
    for packet in [
        to_camera(Segment::udp(4000, 81)),
        to_camera(Segment::tcp(4000, 81, ACK)),
        ping,
    ] {
        assert_eq!(home.send(&packet), Err(DropReason::Closed));
        let [error] = &home.transmitted()[..] else {
            panic!("one answer")
        };
        assert_eq!((error[6], error[40], error[41]), (58, 1, 1));
        assert_eq!(error[48..], packet.bytes());
    }
    let reset = to_camera(Segment::tcp(4000, 81, RST));
    assert_eq!(home.send(&reset), Err(DropReason::Closed));
    assert!(home.transmitted().is_empty(), "nothing answers a reset");
}

#[test]
fn req_4_flood_of_syns_to_closed_ports_is_answered_within_bounds() {
    let mut home = Home::with(|config| config.closed = Closed::Prohibited);
    for port in 1000..5000 {
        let syn = to_camera(Segment::tcp(port, 81, SYN));
        assert_eq!(home.send(&syn), Err(DropReason::Closed));
    }
    home.now += 6 * SECOND;
    home.translator.handle_timeout(home.now);

    let answers = home.transmitted().len();
    assert!((1..=256).contains(&answers), "{answers}");
    assert_eq!(home.translator.poll_timeout(), None);
}

#[test]
fn req_5_established_connection_lives_two_hours_and_four_minutes() {
    let mut home = Home::new();
    home.connect(4000);

    home.pass(2 * HOUR + 4 * MINUTE);
    assert_eq!(home.live(), 1);
    home.pass(2 * SECOND);

    assert_eq!(home.live(), 0);
}

#[test]
fn req_5_keepalive_of_either_side_keeps_the_connection() {
    for from_server in [false, true] {
        let mut home = Home::new();
        let t = home.connect(4000);
        for _ in 0..5 {
            home.pass(2 * HOUR);
            let keepalive = if from_server {
                from_camera(Segment::tcp(8080, t, ACK))
            } else {
                to_camera(Segment::tcp(4000, 80, ACK))
            };
            assert!(home.send(&keepalive).is_ok());
        }
    }
}

#[test]
fn req_5_transitory_connection_lives_four_minutes() {
    let opening: fn(&mut Home) = |home| {
        home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    };
    let closing: fn(&mut Home) = |home| {
        let t = home.connect(4000);
        for packet in [
            to_camera(Segment::tcp(4000, 80, FIN | ACK)),
            from_camera(Segment::tcp(8080, t, FIN | ACK)),
        ] {
            home.send(&packet).unwrap();
        }
    };
    for make in [opening, closing] {
        let mut home = Home::new();
        make(&mut home);
        home.pass(4 * MINUTE);
        assert_eq!(home.live(), 1);
        home.pass(2 * SECOND);
        assert_eq!(home.live(), 0);
    }
}

#[test]
fn req_5_half_closed_connection_lives_as_long_as_an_open_one() {
    let mut home = Home::new();
    home.connect(4000);
    home.send(&to_camera(Segment::tcp(4000, 80, FIN | ACK)))
        .unwrap();

    home.pass(2 * HOUR + 4 * MINUTE);
    assert_eq!(state(&home), Some(TcpState::V6FinRcv));
    home.pass(3 * SECOND);

    assert_eq!(home.live(), 0);
}

#[test]
fn req_5_a_timeouts_are_configurable_and_never_shorter() {
    let mut lifetimes = Lifetimes::default();
    assert!(
        lifetimes
            .set_tcp_established(2 * HOUR + 3 * MINUTE)
            .is_err()
    );
    assert!(lifetimes.set_tcp_opening(3 * MINUTE).is_err());
    assert!(lifetimes.set_tcp_closing(3 * MINUTE).is_err());

    lifetimes.set_tcp_established(5 * HOUR).unwrap();
    let mut home = Home::with(|config| config.lifetimes = lifetimes);
    home.connect(4000);
    home.pass(5 * HOUR);
    assert_eq!(home.live(), 1);
    home.pass(3 * SECOND);

    assert_eq!(home.live(), 0);
}

#[test]
fn req_6_no_payload_is_understood() {
    let mut home = Home::new();
    home.open(CAMERA, Protocol::Tcp, 21, 21);
    let payload = b"PORT 192,168,64,7,31,144\r\nEPRT |1|192.168.64.7|8080|\r\n";
    let syn = home.send(&to_camera(Segment::tcp(4000, 21, SYN))).unwrap();
    let t = syn.segment.ports().0;
    let mut packet = from_camera(Segment::tcp(21, t, SYN | ACK));
    packet.payload = payload.to_vec();

    assert_eq!(home.send(&packet).unwrap().payload, payload);
    let opened = to_camera(Segment::tcp(4001, 8080, SYN));
    assert_eq!(home.send(&opened), Err(DropReason::Closed));
}

#[test]
fn req_7_no_two_sockets_share_a_transport_address() {
    let mut home = Home::new();
    let mut used = BTreeSet::new();
    for host in 0..200 {
        let mut syn = to_camera(Segment::tcp(4000, 80, SYN));
        syn.src = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host).into();
        let arrived = home.send(&syn).unwrap();

        assert!(used.insert((arrived.src, arrived.segment.ports().0)));
    }
}

#[test]
fn req_8_deviation_remotes_do_not_reach_each_other() {
    let mut home = Home::new();
    let syn = home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    let IpAddr::V4(pool) = syn.src else {
        panic!("{syn:?}")
    };
    let mut hairpin = to_camera(Segment::tcp(5000, syn.segment.ports().0, SYN));
    hairpin.src = OTHER.into();
    hairpin.dst = nsp().embed(pool).into();

    assert_eq!(home.send(&hairpin), Err(DropReason::Hairpin));
}

#[test]
fn req_9_unreachable_is_translated_both_ways_with_what_it_quotes() {
    let mut home = ready();
    let t = to_camera(Segment::tcp(4000, 80, ACK));
    let back = from_camera(Segment::tcp(8080, 4000, ACK));
    for (packet, codes) in [
        (t, [(3, 0, 1, 0), (3, 1, 1, 0), (3, 3, 1, 4), (3, 13, 1, 1)]),
        (
            back,
            [(1, 0, 3, 1), (1, 3, 3, 1), (1, 4, 3, 3), (1, 1, 3, 10)],
        ),
    ] {
        let flow = Flow::new(&mut home, &packet);
        for (kind, code, new_kind, new_code) in codes {
            let error = Error::about(&flow.arrived, kind, code);

            let left = home.error(&error).unwrap();

            assert_eq!((left.kind, left.code), (new_kind, new_code));
            assert_eq!((left.src, left.dst), (packet.dst, packet.src));
            flow.assert_quoted(&left.body, flow.sent.len());
        }
    }
}

#[test]
fn req_10_icmp_errors_end_no_connection() {
    let mut home = Home::new();
    let t = home.connect(4000);
    let syn = to_camera(Segment::tcp(4000, 80, ACK));
    let arrived = home.send(&syn).unwrap();
    let before: Vec<_> = home.translator.sessions(0..u32::MAX, home.now).collect();

    for code in 0..16 {
        let mut error = Packet::new(CAMERA.into(), arrived.src, Segment::ping(0));
        error.payload = arrived.bytes();
        let mut segment = error.sealed_segment();
        segment[..4].copy_from_slice(&[3, code, 0, 0]);
        let checksum = !home::sum16(&segment);
        segment[2..4].copy_from_slice(&checksum.to_be_bytes());
        // whether it passes is told elsewhere
        let (_verdict, _) = home.exchange(&error.with_header(&segment, &[]));
    }

    let after: Vec<_> = home.translator.sessions(0..u32::MAX, home.now).collect();
    assert_eq!(after, before);
    assert!(home.send(&from_camera(Segment::tcp(8080, t, ACK))).is_ok());
}

fn state(home: &Home) -> Option<TcpState> {
    let mut sessions = home.translator.sessions(0..u32::MAX, home.now);
    sessions.next().and_then(|(_, session)| session.tcp)
}
