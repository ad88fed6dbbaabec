//! Updates to NAT behaviour (RFC 7857), by its sections.

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use home::icmp::Error;
use home::{
    ACK, CAMERA, FIN, Home, NAS, OTHER, Packet, RST, SYN, Segment, from_camera, nsp, to_camera,
};
use mapping::Protocol;
use translator::{DropReason, Lifetimes, PoolRange, TcpState, Translator};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn s2_connection_is_tracked_through_every_state() {
    use TcpState::*;
    let mut home = Home::new();
    let syn = home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    assert_eq!(state(&home), Some(V6Init));
    let t = syn.segment.ports().0;
    let server = |flags| from_camera(Segment::tcp(8080, t, flags));
    let remote = |flags| to_camera(Segment::tcp(4000, 80, flags));

    for (packet, expected) in [
        (server(SYN | ACK), Established),
        (remote(ACK), Established),
        (remote(RST), Trans),
        (remote(RST), Trans),
        (server(ACK), Established),
        (server(RST), Trans),
        (remote(ACK), Established),
        (remote(FIN | ACK), V6FinRcv),
        (server(ACK), V6FinRcv),
        (server(FIN | ACK), V4FinV6FinRcv),
        (remote(ACK), V4FinV6FinRcv),
    ] {
        home.send(&packet).unwrap();
        assert_eq!(state(&home), Some(expected), "{packet:?}");
    }
}

#[test]
fn s2_1_opening_and_closing_connections_have_their_own_timeouts() {
    let mut lifetimes = Lifetimes::default();
    lifetimes.set_tcp_opening(6 * MINUTE).unwrap();
    lifetimes.set_tcp_closing(9 * MINUTE).unwrap();
    let mut home = Home::with(|config| config.lifetimes = lifetimes);

    home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    home.pass(6 * MINUTE);
    assert_eq!(home.live(), 1);
    home.pass(2 * SECOND);
    assert_eq!(home.live(), 0);

    let t = home.connect(4000);
    home.send(&to_camera(Segment::tcp(4000, 80, FIN | ACK)))
        .unwrap();
    home.send(&from_camera(Segment::tcp(8080, t, FIN | ACK)))
        .unwrap();
    home.pass(9 * MINUTE);
    assert_eq!(home.live(), 1);
    home.pass(2 * SECOND);
    assert_eq!(home.live(), 0);
}

#[test]
fn s2_2_reset_is_translated_and_leaves_four_minutes() {
    for from_server in [false, true] {
        let mut home = Home::new();
        let t = home.connect(4000);
        let reset = if from_server {
            from_camera(Segment::tcp(8080, t, RST))
        } else {
            to_camera(Segment::tcp(4000, 80, RST))
        };

        home.send(&reset).unwrap();
        home.pass(4 * MINUTE);
        assert_eq!(home.live(), 1);
        home.pass(12 * SECOND);

        assert_eq!(home.live(), 0);
    }
}

#[test]
fn s2_2_server_is_asked_whether_the_reset_of_a_remote_was_real() {
    let mut home = Home::new();
    let t = home.connect(4000);
    // anybody may have forged it
    let reset = home.send(&to_camera(Segment::tcp(4000, 80, RST))).unwrap();

    home.events();
    let (due, _) = home.translator.poll_timeout().unwrap();
    home.now = due;
    home.translator.handle_timeout(home.now);
    let [probe] = &home.transmitted()[..] else {
        panic!("one probe")
    };
    let probe = Packet::parse(probe);
    assert_eq!((probe.src, probe.dst), (reset.src, reset.dst));
    assert_eq!(probe.segment.ports(), (t, 8080));
    // who has ignored the reset answers with what it expects
    home.send(&from_camera(Segment::tcp(8080, t, ACK))).unwrap();

    assert_eq!(state(&home), Some(TcpState::Established));
    home.pass(2 * HOUR);
    assert_eq!(home.live(), 1);
}

#[test]
fn s2_2_second_reset_does_not_prolong_the_wait() {
    let mut home = Home::new();
    let t = home.connect(4000);
    home.send(&from_camera(Segment::tcp(8080, t, RST))).unwrap();
    home.pass(3 * MINUTE);
    home.send(&from_camera(Segment::tcp(8080, t, RST))).unwrap();
    home.send(&to_camera(Segment::tcp(4000, 80, RST))).unwrap();

    home.pass(MINUTE + 2 * SECOND);

    assert_eq!(home.live(), 0);
}

#[test]
fn s7_packets_that_do_not_pass_refresh_nothing() {
    let mut home = Home::new();
    let udp = home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    let t = udp.segment.ports().0;
    home.pass(4 * MINUTE);
    let mut neighbour = from_camera(Segment::udp(5001, t));
    neighbour.src = NAS.into();

    for packet in [neighbour, from_camera(Segment::udp(5002, t))] {
        assert!(home.send(&packet).is_err());
    }
    home.pass(MINUTE + 2 * SECOND);

    assert_eq!(home.live(), 0);
}

#[test]
fn s3_no_two_remotes_share_a_port_whatever_their_servers_are() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Tcp, 80, 80);
    let mut to_nas = to_camera(Segment::tcp(4000, 80, SYN));
    to_nas.src = OTHER.into();
    to_nas.dst = nsp().embed(NAS).into();

    let first = home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    let second = home.send(&to_nas).unwrap();

    assert_eq!(first.src, second.src, "the only address");
    assert_ne!(first.segment.ports().0, second.segment.ports().0);
}

#[test]
fn s4_remote_has_one_address_for_all_its_sessions() {
    let mut home = Home::with(|config| {
        config.pool = vec![PoolRange::new([192, 168, 64, 192].into(), 26).unwrap()];
    });
    let seen: BTreeSet<_> = (0..300)
        .flat_map(|port| {
            [
                Segment::tcp(4000 + port, 80, SYN),
                Segment::udp(4000 + port, 5000),
                Segment::ping(4000 + port),
            ]
        })
        .map(|segment| home.send(&to_camera(segment)).unwrap().src)
        .collect();
    assert_eq!(seen.len(), 1);
}

#[test]
fn s5_mapping_is_endpoint_independent_for_every_protocol() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Tcp, 80, 80);
    home.open(NAS, Protocol::Udp, 5000, 5000);
    for segment in [
        Segment::tcp(4000, 80, SYN),
        Segment::udp(4000, 5000),
        Segment::ping(4000),
    ] {
        let mut to_nas = to_camera(segment.clone());
        to_nas.dst = nsp().embed(NAS).into();
        let first = home.send(&to_camera(segment)).unwrap();
        let second = home.send(&to_nas).unwrap();
        assert_eq!(first.src, second.src);
        assert_eq!(first.segment.ports().0, second.segment.ports().0);
    }
}

#[test]
fn s6_filtering_is_the_same_for_every_protocol() {
    let mut home = Home::new();
    home.connect(4000);
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    home.send(&to_camera(Segment::ping(4000))).unwrap();
    for segment in [
        Segment::tcp(8080, 4000, ACK),
        Segment::udp(5001, 4000),
        Segment::pong(4000),
    ] {
        let mut neighbour = from_camera(segment.clone());
        neighbour.src = NAS.into();
        assert_eq!(home.send(&neighbour), Err(DropReason::NoSession));
        assert!(home.send(&from_camera(segment)).is_ok());
    }
}

#[test]
fn s7_errors_and_resets_refresh_nothing() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    let t = home.connect(4000);
    let udp = to_camera(Segment::udp(4000, 5000));
    let arrived = home.send(&udp).unwrap().bytes();
    home.send(&from_camera(Segment::tcp(8080, t, RST))).unwrap();
    for _ in 0..3 {
        home.pass(MINUTE);
        home.error(&Error::about(&arrived, 3, 3)).unwrap();
        home.send(&from_camera(Segment::tcp(8080, t, RST))).unwrap();
    }
    home.pass(MINUTE + 2 * SECOND);
    assert_eq!(state(&home), None, "four minutes from the first reset");
    home.pass(MINUTE);

    assert_eq!(home.live(), 0, "five minutes from the last datagram");
}

#[test]
fn s8_parity_is_kept_for_datagrams_where_the_port_is_not() {
    let mut home = Home::new();
    for host in 1..=100_u16 {
        for port in [4000, 4001] {
            let mut packet = to_camera(Segment::udp(port, 5000));
            packet.src = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host).into();
            let bound = home.send(&packet).unwrap().segment.ports().0;
            assert_eq!(bound % 2, port % 2);
        }
    }
}

#[test]
fn s9_port_that_cannot_be_kept_is_random() {
    let ports = |key: u8| -> Vec<u16> {
        let mut home = Home::new();
        let config = home.translator.config().clone();
        home.translator = Translator::new(config, [key; 16], home.now);
        home.translator.handle_nsps(&[nsp()], home.now);
        home.open(CAMERA, Protocol::Tcp, 80, 8080);
        let knocks = (1..=100_u16).map(|host| {
            let mut syn = to_camera(Segment::tcp(4000, 80, SYN));
            syn.src = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host).into();
            home.send(&syn).unwrap().segment.ports().0
        });
        knocks.skip(1).collect()
    };
    let (one, other) = (ports(1), ports(2));
    let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!(same < 5, "another start, other ports");
    let neighbours = one.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 64);
    assert!(neighbours.count() < 5, "{one:?}");
    // RFC 6056 §3.2: the whole range is used
    assert!(one.iter().any(|port| *port < 20_000) && one.iter().any(|port| *port > 50_000));
}

#[test]
fn s10_packets_that_may_be_cut_have_different_identifications() {
    let mut home = Home::new();
    let udp = to_camera(Segment::udp(4000, 5000));
    let ids: BTreeSet<_> = (0..1000)
        .map(|_| home.raw(&udp.bytes()).unwrap()[4..6].to_vec())
        .collect();
    assert_eq!(ids.len(), 1000);
}

#[test]
fn s11_mapping_of_a_query_ends_with_its_last_session() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::ping(7))).unwrap();
    let pong = from_camera(Segment::pong(7));
    assert!(home.send(&pong).is_ok());

    home.pass(62 * SECOND);

    assert!(home.send(&pong).is_err());
}

fn state(home: &Home) -> Option<TcpState> {
    let mut sessions = home.translator.sessions(0..u32::MAX, home.now);
    sessions.next().and_then(|(_, session)| session.tcp)
}
