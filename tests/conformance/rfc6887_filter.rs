//! Mappings and their filters of remotes (RFC 6887 §13.3 and §15), as packets meet them.

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::net::Ipv6Addr;
use std::time::Duration;

use home::icmp::{Error, Flow};
use home::{
    ACK, CAMERA, FIN, Home, NAS, OTHER, Packet, REMOTE, RST, SYN, Segment, from_camera, nsp,
    remotes, to_camera,
};
use mapping::{Protocol, RemoteFilter};
use translator::{Closed, DropReason, EndReason, Event, Timer};

/// Of [`REMOTE`].
const HERE: &str = "2001:db8:aaaa::/64";

/// Of [`OTHER`].
const THERE: &str = "2001:db8:bbbb::/64";

#[test]
fn m_9_resets_and_fins_end_connections_and_never_their_mapping() {
    for flags in [RST, RST | ACK, FIN | ACK] {
        let mut home = Home::new();
        let t = home.connect(4000);
        for packet in [
            to_camera(Segment::tcp(4000, 80, flags)),
            from_camera(Segment::tcp(8080, t, flags)),
        ] {
            home.send(&packet).unwrap();
        }
        home.pass(Duration::from_secs(300));
        assert_eq!(home.live(), 0, "{flags:#x}");

        for port in [4000, 4001] {
            let again = home.send(&to_camera(Segment::tcp(port, 80, SYN)));
            assert!(again.is_ok(), "{flags:#x}");
        }
    }
}

#[test]
fn m_10_icmp_errors_pass_both_ways_for_as_long_as_their_mapping_is_there() {
    let mut home = Home::new();
    let flow = Flow::new(&mut home, &to_camera(Segment::udp(4000, 5000)));
    let t = Packet::parse(&flow.arrived).segment.ports().0;
    let unreachable = Error::about(&flow.arrived, 3, 3);
    let answer = home
        .raw(&from_camera(Segment::udp(5001, t)).bytes())
        .unwrap();
    let too_big = Error::about(&answer, 2, 0).word(1280);
    for error in [&unreachable, &too_big] {
        assert!(home.error(error).is_ok(), "{error:?}");
    }

    home.close(CAMERA, Protocol::Udp, 5000);

    for error in [&unreachable, &too_big] {
        assert!(home.error(error).is_err(), "{error:?}");
    }
}

#[test]
fn rfc_6886_np_9_connections_end_on_both_sides_with_their_mapping() {
    let mut home = Home::new();
    let t = home.connect(4000);

    home.close(CAMERA, Protocol::Tcp, 80);

    assert_eq!(home.live(), 0);
    for packet in [
        to_camera(Segment::tcp(4000, 80, ACK)),
        from_camera(Segment::tcp(8080, t, ACK)),
    ] {
        assert!(home.send(&packet).is_err(), "{packet:?}");
        let [reset] = &home.transmitted()[..] else {
            panic!("one reset answers {packet:?}")
        };
        let reset = Packet::parse(reset);
        assert_eq!((reset.src, reset.dst), (packet.dst, packet.src));
        assert!(matches!(reset.segment, Segment::Tcp { flags, .. } if flags & RST != 0));
    }
}

#[test]
fn rfc_6886_np_9_who_had_no_connection_learns_nothing_of_a_closed_port() {
    let mut home = Home::new();
    home.connect(4000);
    home.close(CAMERA, Protocol::Tcp, 80);

    for (port, flags) in [(4001, ACK), (4000, SYN), (4000, RST)] {
        let segment = to_camera(Segment::tcp(port, 80, flags));
        assert_eq!(home.send(&segment), Err(DropReason::Closed));
    }
    home.pass(Duration::from_secs(240));
    let late = to_camera(Segment::tcp(4000, 80, ACK));
    assert_eq!(home.send(&late), Err(DropReason::Closed));
    assert!(home.transmitted().is_empty());
}

#[test]
fn rfc_6886_np_9_no_reset_tells_of_a_connection_that_nobody_has_proven() {
    let mut home = Home::new();
    let syn = home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    home.close(CAMERA, Protocol::Tcp, 80);

    let ack = to_camera(Segment::tcp(4000, 80, ACK));
    assert_eq!(home.send(&ack), Err(DropReason::Closed));
    let from = from_camera(Segment::tcp(8080, syn.segment.ports().0, SYN | ACK));
    assert_eq!(home.send(&from), Err(DropReason::NoSession));
    assert!(home.transmitted().is_empty());
}

#[test]
fn o_3_only_remotes_that_a_filter_admits_start_sessions() {
    let mut home = Home::new();
    filter(&mut home, &[remotes(HERE, None)]);

    for segment in [Segment::tcp(4000, 80, SYN), Segment::udp(4000, 5000)] {
        assert!(home.send(&to_camera(segment.clone())).is_ok());
        assert_eq!(home.send(&from_other(segment)), Err(DropReason::Filtered));
    }
    assert_eq!(home.live(), 2);
    assert_eq!(home.dropped(DropReason::Filtered), 2);
}

#[test]
fn o_3_several_filters_are_a_union() {
    let mut home = Home::new();
    filter(&mut home, &[remotes(HERE, None), remotes(THERE, None)]);
    let mut stranger = to_camera(Segment::udp(4000, 5000));
    stranger.src = Ipv6Addr::new(0x2001, 0xdb8, 0xcccc, 0, 0, 0, 0, 3).into();

    assert!(home.send(&to_camera(Segment::udp(4000, 5000))).is_ok());
    assert!(home.send(&from_other(Segment::udp(4000, 5000))).is_ok());
    assert_eq!(home.send(&stranger), Err(DropReason::Filtered));
}

#[test]
fn o_3_port_of_a_filter_is_the_remotes_own() {
    let mut home = Home::new();
    filter(&mut home, &[remotes(HERE, Some(4000))]);

    for (port, admitted) in [(4000, true), (4001, false), (80, false)] {
        let sent = home.send(&to_camera(Segment::tcp(port, 80, SYN)));
        assert_eq!(sent.is_ok(), admitted, "{port}");
    }
}

#[test]
fn o_3_filter_of_ipv4_admits_nobody_in_ipv6() {
    let mut home = Home::new();
    filter(&mut home, &[remotes("::ffff:0:0/96", None)]);

    let sent = home.send(&to_camera(Segment::udp(4000, 5000)));
    assert_eq!(sent, Err(DropReason::Filtered));
}

#[test]
fn o_3_echo_passes_where_the_prefix_of_any_open_port_admits() {
    let mut home = Home::new();
    filter(&mut home, &[remotes(HERE, Some(4000))]);
    assert!(home.send(&to_camera(Segment::ping(7))).is_ok());
    assert_eq!(
        home.send(&from_other(Segment::ping(7))),
        Err(DropReason::Filtered)
    );

    home.open(CAMERA, Protocol::Tcp, 81, 81);
    assert!(home.send(&from_other(Segment::ping(7))).is_ok());
    assert_eq!(home.live(), 2);

    // and no longer when that one closes
    home.close(CAMERA, Protocol::Tcp, 81);
    assert_eq!(home.live(), 1);
    assert_eq!(
        home.send(&from_other(Segment::ping(7))),
        Err(DropReason::Filtered)
    );
    assert!(home.send(&to_camera(Segment::ping(7))).is_ok());
}

#[test]
fn o_3_sessions_of_remotes_that_are_no_longer_admitted_end() {
    let mut home = Home::new();
    let t = home.connect(4000);
    let other = home.send(&from_other(Segment::tcp(4000, 80, SYN))).unwrap();
    home.events();

    filter(&mut home, &[remotes(THERE, None)]);

    let ended: Vec<_> = home
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Ended { session, why } => Some((session.remote.0, why)),
            Event::Began(_) => None,
        })
        .collect();
    assert_eq!(ended, [(REMOTE, EndReason::Closed)]);
    for packet in [
        from_camera(Segment::tcp(8080, t, ACK)),
        to_camera(Segment::tcp(4000, 80, ACK)),
    ] {
        assert!(home.send(&packet).is_err(), "{packet:?}");
    }
    let mut back = from_camera(Segment::tcp(8080, other.segment.ports().0, SYN | ACK));
    back.dst = other.src;
    assert!(home.send(&back).is_ok());
}

#[test]
fn o_3_other_ports_of_the_server_and_other_servers_keep_their_sessions() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Tcp, 80, 80);
    home.connect(4000);
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    let mut to_nas = to_camera(Segment::tcp(4000, 80, SYN));
    to_nas.dst = nsp().embed(NAS).into();
    home.send(&to_nas).unwrap();

    home.open_to(CAMERA, Protocol::Tcp, 80, 8080, &[remotes(THERE, None)]);

    let left: Vec<_> = home
        .translator
        .sessions(0..u32::MAX, home.now)
        .map(|(_, session)| (session.server.0, session.external.1))
        .collect();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&(CAMERA, 5000)) && left.contains(&(NAS, 80)));
}

#[test]
fn o_3_more_filters_and_none_end_nothing() {
    let mut home = Home::new();
    filter(&mut home, &[remotes(HERE, None)]);
    let t = home.connect(4000);

    filter(&mut home, &[remotes(THERE, None), remotes(HERE, None)]);
    filter(&mut home, &[]);

    assert!(home.send(&from_camera(Segment::tcp(8080, t, ACK))).is_ok());
    assert!(home.send(&from_other(Segment::udp(4000, 5000))).is_ok());
    assert_eq!(home.live(), 2);
}

#[test]
fn o_3_sessions_go_on_after_the_filters_where_that_is_configured() {
    let mut home = Home::with(|config| config.end_on_close = false);
    let t = home.connect(4000);
    filter(&mut home, &[remotes(THERE, None)]);

    assert!(home.send(&from_camera(Segment::tcp(8080, t, ACK))).is_ok());
    assert!(home.send(&to_camera(Segment::tcp(4000, 80, ACK))).is_ok());
    let new = home.send(&to_camera(Segment::tcp(4001, 80, SYN)));
    assert_eq!(new, Err(DropReason::Filtered));
}

#[test]
fn o_3_ten_thousand_sessions_end_in_steps_and_none_passes_meanwhile() {
    let mut home = Home::with(|config| config.limits.sessions = 20_000);
    for port in 10_000..15_000 {
        home.send(&to_camera(Segment::udp(port, 5000))).unwrap();
        home.send(&from_other(Segment::udp(port, 5000))).unwrap();
    }
    home.events();

    filter(&mut home, &[remotes(THERE, None)]);

    // nothing but the first step was done, and yet all have ended
    assert!(matches!(
        home.translator.poll_timeout(),
        Some((_, Timer::Drain | Timer::Ending))
    ));
    assert_eq!(home.live(), 5000);
    let late = home.send(&to_camera(Segment::udp(14_999, 5000)));
    assert_eq!(late, Err(DropReason::Filtered));
    // who begins while the others are compared is not ended with them
    home.send(&from_other(Segment::udp(20_000, 5000))).unwrap();
    // narrowed again before the first comparison is over
    home.open_to(
        CAMERA,
        Protocol::Udp,
        5000,
        5001,
        &[remotes(THERE, Some(20_000)), remotes(THERE, Some(10_000))],
    );
    let mut steps = 0;
    loop {
        home.events();
        let Some((_, Timer::Ending)) = home.translator.poll_timeout() else {
            break;
        };
        home.translator.handle_timeout(home.now);
        steps += 1;
        assert!(steps < 100, "it never ends");
    }
    assert!(steps > 3, "{steps} steps are not bounded ones");
    assert_eq!(home.live(), 2);
    let counters = home.translator.counters();
    assert_eq!(counters.sessions.udp, 2);
    assert_eq!(counters.bindings, 2);
}

#[test]
fn o_3_saved_session_does_not_come_back_to_who_is_no_longer_admitted() {
    let mut home = Home::new();
    home.connect(4000);
    let saved: Vec<_> = home
        .translator
        .saved(0..u32::MAX, home.now)
        .map(|(_, saved)| saved)
        .collect();
    assert_eq!(saved.len(), 1);

    for (filters, comes_back) in [
        (vec![remotes(THERE, None)], false),
        (vec![remotes(HERE, Some(4001))], false),
        (vec![remotes(HERE, Some(4000))], true),
    ] {
        let mut back = Home::new();
        filter(&mut back, &filters);
        let result = back.translator.restore(&saved[0], back.now);
        assert_eq!(result.is_ok(), comes_back, "{filters:?}");
    }
}

#[test]
fn o_3_who_is_not_admitted_hears_what_is_heard_of_a_closed_port() {
    let mut home = Home::new();
    filter(&mut home, &[remotes(THERE, None)]);
    for segment in [Segment::udp(4000, 5000), Segment::tcp(4000, 80, SYN)] {
        let (_, left) = home.exchange(&to_camera(segment).bytes());
        assert!(left.is_empty(), "silent by default");
    }

    let mut home = Home::with(|config| config.closed = Closed::Prohibited);
    filter(&mut home, &[remotes(THERE, None)]);
    let (_, left) = home.exchange(&to_camera(Segment::udp(4000, 5000)).bytes());
    assert_eq!(left.len(), 1);
    assert_eq!(left[0][40..42], [1, 1]);
    // a SYN hears it after six seconds, unless it is admitted by then (RFC 5382 REQ-4)
    for (port, admitted) in [(4001, false), (4002, true)] {
        filter(&mut home, &[remotes(THERE, None)]);
        let syn = to_camera(Segment::tcp(port, 80, SYN)).bytes();
        assert!(home.exchange(&syn).1.is_empty());
        if admitted {
            filter(&mut home, &[remotes(HERE, None)]);
        }
        home.now += Duration::from_secs(6);
        home.translator.handle_timeout(home.now);
        assert_eq!(home.transmitted().len(), usize::from(!admitted));
    }
}

#[test]
fn o_3_no_fragment_is_kept_of_who_is_not_admitted() {
    let mut home = Home::new();
    filter(&mut home, &[remotes(THERE, None)]);
    // a Fragment Header that says more is to come
    let whole = to_camera(Segment::udp(4000, 5000)).with_payload(64);
    let first = whole.bytes_with(&[17, 0, 0, 1, 0, 0, 0, 9]);
    let mut first = first;
    first[6] = 44;

    let (verdict, _) = home.exchange(&first);

    assert_eq!(verdict, translator::Verdict::Drop(DropReason::Filtered));
}

/// Opens both ports of the camera for these remotes only.
fn filter(home: &mut Home, filters: &[RemoteFilter]) {
    home.open_to(CAMERA, Protocol::Tcp, 80, 8080, filters);
    home.open_to(CAMERA, Protocol::Udp, 5000, 5001, filters);
}

fn from_other(segment: Segment) -> Packet {
    let mut packet = to_camera(segment);
    packet.src = OTHER.into();
    packet
}
