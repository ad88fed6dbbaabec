//! Updates to NAT behaviour (RFC 7857), by its sections.

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::time::Duration;

use home::{ACK, FIN, Home, NAS, Packet, RST, SYN, Segment, from_camera, to_camera};
use translator::{Lifetimes, TcpState};

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
