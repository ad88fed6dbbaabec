//! Stateful NAT64 (RFC 6146), by the requirement ids N6-*.

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use home::icmp::{Error, Flow};
use home::{
    ACK, CAMERA, FIN, Home, NAS, OTHER, POOL, Packet, REMOTE, RST, SYN, Segment, from_camera,
    new_nsp, nsp, to_camera,
};
use mapping::Protocol;
use translator::{DropReason, EndReason, Lifetimes, TcpState, Timer, Transport};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn n6_1_tcp_udp_and_icmp_sessions_pass_both_ways() {
    let mut home = Home::new();

    for (there, back) in [
        (
            Segment::tcp(4000, 80, SYN),
            Segment::tcp(8080, 4000, SYN | ACK),
        ),
        (Segment::udp(4000, 5000), Segment::udp(5001, 4000)),
        (Segment::ping(4000), Segment::pong(4000)),
    ] {
        let arrived = home.send(&to_camera(there.clone())).unwrap();
        assert_eq!(
            (arrived.src, arrived.dst),
            (IpAddr::from(POOL), IpAddr::from(CAMERA))
        );

        let answer = home.send(&from_camera(back)).unwrap();
        assert_eq!(answer.src, IpAddr::from(nsp().embed(CAMERA)));
        assert_eq!(answer.dst, IpAddr::from(REMOTE));
        assert_eq!(answer.segment.ports().1, there.ports().0);
        assert_eq!(answer.segment.ports().0, there.ports().1);
    }
    let sessions = home.translator.counters().sessions;
    assert_eq!((sessions.tcp, sessions.udp, sessions.icmp), (1, 1, 1));
}

#[test]
fn n6_1_external_and_internal_port_are_exchanged_both_ways() {
    let mut home = Home::new();

    let syn = home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    let answer = home
        .send(&from_camera(Segment::tcp(8080, 4000, SYN | ACK)))
        .unwrap();

    assert_eq!(syn.segment.ports(), (4000, 8080));
    assert_eq!(answer.segment.ports(), (80, 4000));
}

#[test]
fn n6_3_source_in_a_valid_prefix_is_dropped() {
    let mut home = Home::new();
    home.translator.handle_nsps(&[nsp(), new_nsp()], home.now);

    for prefix in [nsp(), new_nsp()] {
        let mut packet = to_camera(Segment::udp(4000, 5000));
        packet.src = prefix.embed(NAS).into();
        assert_eq!(home.send(&packet), Err(DropReason::SourceInPref64));
    }
    assert_eq!(home.live(), 0);
}

#[test]
fn n6_3_destination_outside_prefix_or_pool_is_dropped() {
    let mut home = Home::new();
    let mut six = to_camera(Segment::udp(4000, 5000));
    six.dst = new_nsp().embed(CAMERA).into();
    let mut four = from_camera(Segment::udp(5001, 4000));
    four.dst = NAS.into();

    assert_eq!(home.send(&six), Err(DropReason::NotOurs));
    assert_eq!(home.send(&four), Err(DropReason::NotOurs));
}

#[test]
fn n6_3_packet_to_its_own_source_is_dropped() {
    let mut home = Home::new();
    home.connect(4000);
    let external = nsp().embed(CAMERA).into();
    let six = Packet::new(external, external, Segment::tcp(80, 80, SYN));
    assert_eq!(home.send(&six), Err(DropReason::SourceInPref64));
    for addr in [CAMERA, POOL] {
        let four = Packet::new(addr.into(), POOL.into(), Segment::tcp(4000, 4000, SYN));
        assert_eq!(home.send(&four), Err(DropReason::NoSession));
    }
    assert_eq!(home.live(), 1);
}

#[test]
fn n6_4_icmp_errors_change_no_session() {
    let mut home = Home::new();
    home.connect(4000);
    let from_remote = to_camera(Segment::tcp(4000, 80, ACK));
    let arrived = home.raw(&from_remote.bytes()).unwrap();
    let from_server = from_camera(Segment::tcp(8080, 4000, ACK));
    let answer = home.raw(&from_server.bytes()).unwrap();
    home.pass(SECOND * 5);
    let before: Vec<_> = home.translator.sessions(0..u32::MAX, home.now).collect();

    home.error(&Error::about(&arrived, 3, 3)).unwrap();
    home.error(&Error::about(&answer, 1, 4)).unwrap();

    assert_eq!(
        home.translator
            .sessions(0..u32::MAX, home.now)
            .collect::<Vec<_>>(),
        before
    );
}

#[test]
fn n6_5_binding_is_independent_of_the_endpoint() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Udp, 5000, 5000);
    let mut other_server = to_camera(Segment::udp(4000, 5000));
    other_server.dst = nsp().embed(NAS).into();

    let first = home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    let second = home.send(&other_server).unwrap();

    assert_eq!(first.src, second.src);
    assert_eq!(first.segment.ports().0, second.segment.ports().0);
    assert_eq!(home.live(), 2);
}

#[test]
fn n6_5_filtering_is_address_dependent() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Udp, 7000, 7000);
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();

    let mut foreign = from_camera(Segment::udp(5001, 4000));
    foreign.src = NAS.into();
    let other_port = from_camera(Segment::udp(5002, 4000));
    let other_binding = from_camera(Segment::udp(5001, 4001));

    for packet in [foreign, other_port, other_binding] {
        assert_eq!(home.send(&packet), Err(DropReason::NoSession));
    }
    assert!(home.send(&from_camera(Segment::udp(5001, 4000))).is_ok());
}

#[test]
fn n6_6_port_number_is_kept_and_never_shared_within_a_bib() {
    let mut home = Home::new();
    let mut used = BTreeSet::new();
    for host in 0..50 {
        let mut packet = to_camera(Segment::udp(4000, 5000));
        packet.src = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host).into();
        let arrived = home.send(&packet).unwrap();
        let port = arrived.segment.ports().0;

        assert_eq!(arrived.src, IpAddr::from(POOL));
        assert!(host != 0 || port == 4000);
        assert!(port >= 1024 && port.is_multiple_of(2), "class and parity");
        assert!(used.insert(port));
    }
    // another BIB may use the number again
    let arrived = home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    assert_eq!(arrived.segment.ports().0, 4000);
}

#[test]
fn n6_6_well_known_ports_stay_well_known() {
    let mut home = Home::new();
    for host in 0..20 {
        let mut packet = to_camera(Segment::udp(123, 5000));
        packet.src = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host).into();
        let port = home.send(&packet).unwrap().segment.ports().0;

        assert!(port < 1024 && port % 2 == 1, "{port}");
    }
}

#[test]
fn n6_7_udp_session_lives_five_minutes_from_its_last_packet() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    home.pass(5 * MINUTE - SECOND);
    home.send(&from_camera(Segment::udp(5001, 4000))).unwrap();
    home.pass(5 * MINUTE);
    assert_eq!(home.live(), 1);

    home.pass(2 * SECOND);

    assert_eq!(home.live(), 0);
    let late = home.send(&from_camera(Segment::udp(5001, 4000)));
    assert_eq!(late, Err(DropReason::NoSession));
    assert_eq!(home.translator.counters().ended(EndReason::Expired), 1);
}

#[test]
fn n6_8_connection_is_established_by_a_syn_from_each_side() {
    let mut home = Home::new();

    home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    assert_eq!(state(&home), Some(TcpState::V6Init));
    home.send(&from_camera(Segment::tcp(8080, 4000, SYN | ACK)))
        .unwrap();
    assert_eq!(state(&home), Some(TcpState::Established));
    home.send(&to_camera(Segment::tcp(4000, 80, ACK))).unwrap();
    home.pass(2 * 60 * MINUTE + 4 * MINUTE);
    assert_eq!(home.live(), 1);
    home.pass(2 * SECOND);
    assert_eq!(home.live(), 0);
}

#[test]
fn n6_8_connection_is_open_in_part_until_the_remote_acknowledges() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    home.send(&from_camera(Segment::tcp(8080, 4000, SYN | ACK)))
        .unwrap();
    // who forges a source does not see the number that is to be acknowledged
    let mut guess = Segment::tcp(4000, 80, ACK);
    if let Segment::Tcp { ack, .. } = &mut guess {
        *ack = 0x4000_0000;
    }
    home.send(&to_camera(guess)).unwrap();
    home.send(&to_camera(Segment::tcp(4000, 80, RST))).unwrap();

    home.pass(4 * MINUTE);
    assert_eq!(home.live(), 1);
    home.pass(2 * SECOND);

    assert_eq!(home.live(), 0);
}

#[test]
fn n6_8_both_sides_may_open_at_once() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    home.send(&from_camera(Segment::tcp(8080, 4000, SYN)))
        .unwrap();
    home.send(&to_camera(Segment::tcp(4000, 80, SYN | ACK)))
        .unwrap();
    home.send(&from_camera(Segment::tcp(8080, 4000, SYN | ACK)))
        .unwrap();

    home.pass(2 * 60 * MINUTE);

    assert_eq!(state(&home), Some(TcpState::Established));
}

#[test]
fn n6_8_unanswered_syn_is_forgotten_after_four_minutes() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();

    home.pass(4 * MINUTE);
    assert_eq!(home.live(), 1);
    home.pass(2 * SECOND);

    assert_eq!(home.live(), 0);
}

#[test]
fn n6_8_both_fins_leave_four_minutes() {
    let mut home = Home::new();
    home.connect(4000);

    home.send(&from_camera(Segment::tcp(8080, 4000, FIN | ACK)))
        .unwrap();
    assert_eq!(state(&home), Some(TcpState::V4FinRcv));
    home.pass(60 * MINUTE);
    home.send(&to_camera(Segment::tcp(4000, 80, FIN | ACK)))
        .unwrap();
    assert_eq!(state(&home), Some(TcpState::V4FinV6FinRcv));
    home.send(&from_camera(Segment::tcp(8080, 4000, ACK)))
        .unwrap();

    home.pass(4 * MINUTE + 2 * SECOND);
    assert_eq!(home.live(), 0);
}

#[test]
fn n6_8_reset_is_translated_and_a_packet_after_it_revives() {
    let mut home = Home::new();
    home.connect(4000);

    let reset = home.send(&to_camera(Segment::tcp(4000, 80, RST))).unwrap();
    assert_eq!(reset.dst, IpAddr::from(CAMERA));
    assert_eq!(state(&home), Some(TcpState::Trans));
    home.pass(3 * MINUTE);
    home.send(&from_camera(Segment::tcp(8080, 4000, ACK)))
        .unwrap();
    assert_eq!(state(&home), Some(TcpState::Established));

    home.send(&from_camera(Segment::tcp(8080, 4000, RST)))
        .unwrap();
    home.pass(4 * MINUTE + 2 * SECOND);
    assert_eq!(home.live(), 0);
}

#[test]
fn n6_8_after_the_reset_of_a_server_a_segment_revives_and_a_syn_opens_another_session() {
    for (segment, expected) in [
        (
            to_camera(Segment::tcp(4000, 80, ACK)),
            TcpState::Established,
        ),
        (
            from_camera(Segment::tcp(8080, 4000, ACK)),
            TcpState::Established,
        ),
        (to_camera(Segment::tcp(4000, 80, RST)), TcpState::Trans),
        // the remote has yet to answer to the server again
        (to_camera(Segment::tcp(4000, 80, SYN)), TcpState::V6Init),
    ] {
        let mut home = Home::new();
        home.connect(4000);
        home.send(&from_camera(Segment::tcp(8080, 4000, RST)))
            .unwrap();
        assert_eq!(state(&home), Some(TcpState::Trans));

        home.send(&segment).unwrap();

        assert_eq!(state(&home), Some(expected), "{segment:?}");
        home.pass(120 * MINUTE);
        let lives = expected == TcpState::Established;
        assert_eq!(home.live(), usize::from(lives), "{segment:?}");
    }
}

#[test]
fn n6_8_established_connection_that_falls_silent_is_asked_on_both_sides() {
    let mut home = Home::new();
    let t = home.connect(4000);
    let pool = home.send(&to_camera(Segment::tcp(4000, 80, ACK))).unwrap();
    home.events();
    let (due, timer) = home.translator.poll_timeout().unwrap();
    assert_eq!(
        (due, timer),
        (home.now + 120 * MINUTE + SECOND, Timer::SessionExpiry)
    );

    home.now = due;
    home.translator.handle_timeout(due);

    let probes: Vec<_> = home
        .transmitted()
        .iter()
        .map(|bytes| Packet::parse(bytes))
        .collect();
    let [to_server, to_remote] = &probes[..] else {
        panic!("{probes:?}")
    };
    assert_eq!((to_server.src, to_server.dst), (pool.src, CAMERA.into()));
    assert_eq!(to_server.segment.ports(), (t, 8080));
    assert_eq!(
        (to_remote.src, to_remote.dst),
        (nsp().embed(CAMERA).into(), IpAddr::from(REMOTE))
    );
    assert_eq!(to_remote.segment.ports(), (80, 4000));
    for probe in &probes {
        let Segment::Tcp {
            sequence,
            ack,
            flags,
            ..
        } = probe.segment
        else {
            panic!("{probe:?}")
        };
        assert_eq!((sequence, ack, flags), (0, 0, ACK));
        assert!(probe.payload.is_empty());
    }
    assert_eq!(state(&home), Some(TcpState::Trans));
    home.translator.handle_timeout(due);
    assert!(home.transmitted().is_empty(), "asked once");

    // an answer keeps it, silence ends it
    home.send(&from_camera(Segment::tcp(8080, t, ACK))).unwrap();
    assert_eq!(state(&home), Some(TcpState::Established));
    home.pass(120 * MINUTE + 4 * MINUTE + 2 * SECOND);
    assert_eq!(home.live(), 0);
}

#[test]
fn n6_8_half_closed_or_half_open_connections_are_not_probed() {
    for flags in [None, Some(FIN | ACK)] {
        let mut home = Home::new();
        match flags {
            None => {
                home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
            }
            Some(flags) => {
                home.connect(4000);
                home.send(&to_camera(Segment::tcp(4000, 80, flags)))
                    .unwrap();
            }
        }
        home.events();
        while let Some((due, _)) = home.translator.poll_timeout() {
            home.now = due;
            home.translator.handle_timeout(due);
            home.events();
            assert!(home.transmitted().is_empty());
        }
        assert_eq!(home.live(), 0);
    }
}

#[test]
fn n6_7_lifetime_of_udp_is_configurable_and_never_under_two_minutes() {
    let mut lifetimes = Lifetimes::default();
    assert!(lifetimes.set_udp(2 * MINUTE - SECOND).is_err());
    lifetimes.set_udp(2 * MINUTE).unwrap();
    let mut home = Home::with(|config| config.lifetimes = lifetimes);
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();

    home.pass(2 * MINUTE);
    assert_eq!(home.live(), 1);
    home.pass(2 * SECOND);

    assert_eq!(home.live(), 0);
}

#[test]
fn n6_7_remote_and_server_both_keep_a_udp_session() {
    let mut home = Home::new();
    let udp = home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    for packet in [
        to_camera(Segment::udp(4000, 5000)),
        from_camera(Segment::udp(5001, udp.segment.ports().0)),
    ] {
        home.pass(5 * MINUTE);
        home.send(&packet).unwrap();
    }
    home.pass(5 * MINUTE);

    assert_eq!(home.live(), 1);
}

#[test]
fn n6_9_lifetime_of_queries_is_configurable_and_never_under_a_minute() {
    let mut lifetimes = Lifetimes::default();
    assert!(lifetimes.set_icmp_query(MINUTE - SECOND).is_err());
    lifetimes.set_icmp_query(3 * MINUTE).unwrap();
    let mut home = Home::with(|config| config.lifetimes = lifetimes);
    home.send(&to_camera(Segment::ping(7))).unwrap();

    home.pass(3 * MINUTE);
    assert_eq!(home.live(), 1);
    home.pass(2 * SECOND);

    assert_eq!(home.live(), 0);
}

#[test]
fn n6_8_server_hears_of_a_connection_that_was_forgotten_only_what_a_session_says() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Udp, 80, 8080);
    let segment = |flags| from_camera(Segment::tcp(8080, 4000, flags));
    for flags in [ACK, FIN | ACK, SYN | ACK] {
        let dropped = home.send(&segment(flags));
        assert_eq!(dropped, Err(DropReason::UnknownConnection), "{flags:#x}");
    }
    let mut closed = segment(ACK);
    closed.src = NAS.into();
    let other_port = from_camera(Segment::tcp(80, 4000, ACK));
    for packet in [segment(SYN), segment(RST), closed, other_port] {
        assert_eq!(home.send(&packet), Err(DropReason::NoSession), "{packet:?}");
    }
}

#[test]
fn n6_8_both_ends_of_a_forgotten_connection_hear_of_it_at_once() {
    let mut home = Home::new();
    let numbered = |mut packet: Packet, new: (u32, u32)| {
        if let Segment::Tcp { sequence, ack, .. } = &mut packet.segment {
            (*sequence, *ack) = new;
        }
        packet
    };
    let remote = to_camera(Segment::tcp(4000, 80, ACK));
    let server = from_camera(Segment::tcp(8080, 4000, ACK));
    for packet in [remote, server] {
        let packet = numbered(packet, (1000, 2000));
        assert!(home.send(&packet).is_err());

        let [reset] = &home.transmitted()[..] else {
            panic!("one reset")
        };
        // RFC 9293 §3.10.7.1
        let reset = Packet::parse(reset);
        assert_eq!((reset.src, reset.dst), (packet.dst, packet.src));
        let (src, dst) = packet.segment.ports();
        assert_eq!(reset.segment.ports(), (dst, src));
        let Segment::Tcp {
            sequence, flags, ..
        } = reset.segment
        else {
            panic!("{reset:?}")
        };
        assert_eq!((sequence, flags), (2000, RST));
    }
    // a FIN without ACK, of 7 bytes
    let fin = numbered(to_camera(Segment::tcp(4000, 80, FIN)), (1000, 0));
    assert!(home.send(&fin).is_err());
    let reset = Packet::parse(&home.transmitted()[0]);
    let Segment::Tcp {
        sequence,
        ack,
        flags,
        ..
    } = reset.segment
    else {
        panic!("{reset:?}")
    };
    assert_eq!((sequence, ack, flags), (0, 1008, RST | ACK));
    assert_eq!(home.live(), 0);
}

#[test]
fn n6_8_nothing_but_a_forgotten_connection_of_an_open_port_is_reset() {
    let silent = [
        to_camera(Segment::tcp(4000, 80, RST)),
        to_camera(Segment::tcp(4000, 80, RST | ACK)),
        to_camera(Segment::tcp(4000, 81, ACK)),
        from_camera(Segment::tcp(8080, 4000, RST)),
        from_camera(Segment::tcp(8080, 4000, SYN)),
        from_camera(Segment::tcp(9999, 4000, ACK)),
    ];
    let mut home = Home::new();
    for packet in &silent {
        assert!(home.send(packet).is_err());
        assert!(home.transmitted().is_empty(), "{packet:?}");
    }
    let mut home = Home::with(|config| config.reset_unknown = false);
    let remote = to_camera(Segment::tcp(4000, 80, ACK));
    let server = from_camera(Segment::tcp(8080, 4000, ACK));
    for packet in [remote, server] {
        assert!(home.send(&packet).is_err());
        assert!(home.transmitted().is_empty());
    }
}

#[test]
fn n6_8_segment_without_session_opens_none() {
    let mut home = Home::new();

    for flags in [ACK, SYN | ACK, FIN, RST, SYN | RST, SYN | FIN, 0] {
        let packet = to_camera(Segment::tcp(4000, 80, flags));
        assert_eq!(home.send(&packet), Err(DropReason::NotSyn), "{flags:#x}");
    }
    assert_eq!(home.live(), 0);
}

#[test]
fn n6_8_no_session_starts_from_ipv4() {
    let mut home = Home::new();

    for segment in [
        Segment::tcp(8080, 4000, SYN),
        Segment::udp(5001, 4000),
        Segment::ping(4000),
    ] {
        assert_eq!(home.send(&from_camera(segment)), Err(DropReason::NoSession));
    }
    home.send(&to_camera(Segment::ping(4000))).unwrap();
    let request = home.send(&from_camera(Segment::ping(4000)));
    assert_eq!(request, Err(DropReason::NoSession));
}

#[test]
fn n6_9_icmp_query_session_lives_a_minute() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::ping(77))).unwrap();

    home.pass(MINUTE);
    home.send(&from_camera(Segment::pong(77))).unwrap();
    home.pass(MINUTE);
    assert_eq!(home.live(), 1);
    home.pass(2 * SECOND);

    assert_eq!(home.live(), 0);
}

#[test]
fn n6_11_missing_udp_checksum_is_computed() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    let packet = from_camera(Segment::udp(5001, 4000)).with_payload(301);
    let mut bytes = packet.bytes();
    bytes[26..28].copy_from_slice(&[0, 0]);

    // parsing checks the checksum that left
    let answer = Packet::parse(&home.raw(&bytes).unwrap());

    assert_eq!(answer.payload, packet.payload);
}

#[test]
fn n6_12_other_protocols_are_dropped() {
    let mut home = Home::new();
    for protocol in [2, 41, 47, 50, 51, 59, 132, 255] {
        let mut six = to_camera(Segment::udp(4000, 5000)).bytes();
        six[6] = protocol;
        let mut four = from_camera(Segment::udp(5001, 4000)).bytes();
        four[9] = protocol;
        home::seal_ipv4(&mut four);

        assert_eq!(
            home.raw(&six),
            Err(DropReason::UnsupportedProtocol),
            "{protocol}"
        );
        assert_eq!(
            home.raw(&four),
            Err(DropReason::UnsupportedProtocol),
            "{protocol}"
        );
    }
}

#[test]
fn n6_13_remotes_do_not_reach_each_other_through_the_pool() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    let mut packet = to_camera(Segment::udp(5000, 4000));
    packet.src = OTHER.into();
    packet.dst = nsp().embed(POOL).into();

    assert_eq!(home.send(&packet), Err(DropReason::Hairpin));
}

#[test]
fn n6_14_stranger_ends_and_disturbs_no_connection() {
    let mut home = Home::new();
    let t = home.connect(4000);
    let before: Vec<_> = home.translator.sessions(0..u32::MAX, home.now).collect();
    for flags in 0..=255_u8 {
        // another remote, another port of the remote, another server, another port of the server
        let port = 5000 + u16::from(flags);
        let mut other = to_camera(Segment::tcp(port, 80, flags));
        other.src = OTHER.into();
        let mut neighbour = from_camera(Segment::tcp(8080, t, flags));
        neighbour.src = NAS.into();
        for packet in [
            other,
            to_camera(Segment::tcp(port, 80, flags)),
            neighbour,
            from_camera(Segment::tcp(8081, t, flags)),
        ] {
            // a SYN starts a session of its own; nothing else does
            let opens = flags & (FIN | SYN | RST | ACK) == SYN;
            let is_remote = packet.src.is_ipv6();
            assert_eq!(home.send(&packet).is_ok(), opens && is_remote, "{packet:?}");
        }
    }
    let after = home.translator.sessions(0..u32::MAX, home.now);
    let after: Vec<_> = after
        .filter(|(_, session)| session.remote == (REMOTE, 4000))
        .collect();
    assert_eq!(before, after);
}

#[test]
fn n6_14_blind_reset_of_a_remote_that_the_server_ignores_ends_nothing() {
    let mut home = Home::new();
    let t = home.connect(4000);
    for turn in 0..100 {
        home.send(&to_camera(Segment::tcp(4000, 80, RST))).unwrap();
        home.pass(SECOND * 11);
        // the server was asked, and answers with what it expects (RFC 5961 §3)
        home.send(&from_camera(Segment::tcp(8080, t, ACK))).unwrap();
        assert_eq!(home.live(), 1, "{turn}");
    }
    assert!(home.send(&to_camera(Segment::tcp(4000, 80, ACK))).is_ok());
}

#[test]
fn n6_15_errors_name_what_each_side_knows() {
    let mut home = Home::new();
    home.open(CAMERA, Protocol::Udp, 6000, 6001);
    let there = Flow::new(&mut home, &to_camera(Segment::udp(4000, 6000)));
    let t = u16::from_be_bytes([there.arrived[20], there.arrived[21]]);
    let back = Flow::new(&mut home, &from_camera(Segment::udp(6001, t)));

    let left = home.error(&Error::about(&there.arrived, 3, 3)).unwrap();
    assert_eq!(
        (left.src, left.dst),
        (nsp().embed(CAMERA).into(), REMOTE.into())
    );
    there.assert_quoted(&left.body, there.sent.len());

    let left = home.error(&Error::about(&back.arrived, 1, 4)).unwrap();
    assert_eq!((left.src, left.dst), (POOL.into(), CAMERA.into()));
    back.assert_quoted(&left.body, back.sent.len());
}

#[test]
fn s3_5_admission_only_open_ports_of_servers_are_reached() {
    let mut home = Home::new();
    let closed = [
        (CAMERA, Segment::tcp(4000, 81, SYN)),
        (CAMERA, Segment::tcp(4000, 8080, SYN)),
        (CAMERA, Segment::tcp(4000, 5000, SYN)),
        (CAMERA, Segment::udp(4000, 80)),
        (CAMERA, Segment::udp(4000, 0)),
        (NAS, Segment::tcp(4000, 80, SYN)),
        (NAS, Segment::ping(4000)),
        ([192, 168, 64, 1].into(), Segment::tcp(4000, 80, SYN)),
        ([127, 0, 0, 1].into(), Segment::udp(4000, 5000)),
        ([224, 0, 0, 1].into(), Segment::udp(4000, 5000)),
        ([8, 8, 8, 8].into(), Segment::udp(4000, 5000)),
    ];
    for (server, segment) in closed {
        let mut packet = to_camera(segment);
        packet.dst = nsp().embed(server).into();
        assert_eq!(home.send(&packet), Err(DropReason::Closed), "{packet:?}");
    }
    assert_eq!(home.live(), 0);
}

#[test]
fn s3_5_admission_ping_passes_while_a_port_is_open() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::ping(1))).unwrap();
    home.close(CAMERA, Protocol::Tcp, 80);
    home.send(&to_camera(Segment::ping(1))).unwrap();

    home.close(CAMERA, Protocol::Udp, 5000);

    assert_eq!(
        home.send(&to_camera(Segment::ping(1))),
        Err(DropReason::Closed)
    );
    let late = home.send(&from_camera(Segment::pong(1)));
    assert_eq!(late, Err(DropReason::NoSession));
}

#[test]
fn s3_5_admission_closing_a_port_ends_its_sessions_and_no_other() {
    let mut home = Home::new();
    home.open(CAMERA, Protocol::Tcp, 443, 8443);
    home.connect(4000);
    home.send(&to_camera(Segment::tcp(4000, 443, SYN))).unwrap();
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();

    home.close(CAMERA, Protocol::Tcp, 80);

    let packet = to_camera(Segment::tcp(4000, 80, ACK));
    assert_eq!(home.send(&packet), Err(DropReason::Closed));
    let packet = from_camera(Segment::tcp(8080, 4000, ACK));
    assert_eq!(home.send(&packet), Err(DropReason::NoSession));
    assert!(
        home.send(&from_camera(Segment::tcp(8443, 4000, SYN | ACK)))
            .is_ok()
    );
    assert!(home.send(&from_camera(Segment::udp(5001, 4000))).is_ok());
    assert_eq!(home.translator.counters().ended(EndReason::Closed), 1);
}

#[test]
fn s3_5_admission_another_internal_port_ends_the_sessions_of_the_old_one() {
    let mut home = Home::new();
    home.connect(4000);

    home.open(CAMERA, Protocol::Tcp, 80, 9090);

    assert_eq!(home.live(), 0);
    let syn = home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    assert_eq!(syn.segment.ports(), (4000, 9090));
}

#[test]
fn s3_5_generations_live_side_by_side_and_end_with_their_sessions() {
    let mut home = Home::new();
    home.connect(4000);
    home.translator.handle_nsps(&[nsp(), new_nsp()], home.now);
    // the same socket of the remote speaks to both prefixes
    let mut syn = to_camera(Segment::tcp(4000, 80, SYN));
    syn.dst = new_nsp().embed(CAMERA).into();
    let new_port = home.send(&syn).unwrap().segment.ports().0;
    assert_ne!(new_port, 4000);

    let old = home
        .send(&from_camera(Segment::tcp(8080, 4000, ACK)))
        .unwrap();
    let new = home
        .send(&from_camera(Segment::tcp(8080, new_port, SYN | ACK)))
        .unwrap();
    assert_eq!(old.src, IpAddr::from(nsp().embed(CAMERA)));
    assert_eq!(new.src, IpAddr::from(new_nsp().embed(CAMERA)));

    home.translator.handle_nsps(&[new_nsp()], home.now);

    assert_eq!(home.live(), 1);
    let packet = to_camera(Segment::tcp(4000, 80, ACK));
    assert_eq!(home.send(&packet), Err(DropReason::NotOurs));
    let late = home.send(&from_camera(Segment::tcp(8080, 4000, ACK)));
    assert_eq!(late, Err(DropReason::UnknownConnection));
    assert!(
        home.send(&from_camera(Segment::tcp(8080, new_port, ACK)))
            .is_ok()
    );
}

#[test]
fn s3_5_two_external_ports_to_one_internal_port_never_share_a_tuple() {
    let mut home = Home::new();
    home.open(CAMERA, Protocol::Tcp, 81, 8080);
    home.connect(4000);

    let second = home.send(&to_camera(Segment::tcp(4000, 81, SYN)));

    assert_eq!(second, Err(DropReason::TupleInUse));
    assert_eq!(home.live(), 1);
    assert!(home.send(&to_camera(Segment::tcp(4001, 81, SYN))).is_ok());
}

#[test]
fn s3_5_table_is_bounded_and_full_table_keeps_what_it_has() {
    let mut home = Home::with(|config| config.limits.sessions = 2);
    home.connect(4000);
    home.connect(4001);

    let third = home.send(&to_camera(Segment::udp(4002, 5000)));

    assert_eq!(third, Err(DropReason::SessionsFull));
    assert!(home.send(&to_camera(Segment::tcp(4000, 80, ACK))).is_ok());
    assert_eq!(home.dropped(DropReason::SessionsFull), 1);
}

#[test]
fn s3_5_flood_of_forged_syns_ends_nothing_and_keeps_nobody_out() {
    let mut home = Home::with(|config| config.limits.sessions = 100);
    home.connect(4000);
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    home.send(&to_camera(Segment::ping(4000))).unwrap();

    home.flood(1000, |port| Segment::tcp(port, 80, SYN));
    // the server has answered; the last of the flood comes between SYN and ACK
    home.send(&to_camera(Segment::tcp(5000, 80, SYN))).unwrap();
    home.send(&from_camera(Segment::tcp(8080, 5000, SYN | ACK)))
        .unwrap();
    home.flood(90, |port| Segment::tcp(port, 80, SYN));
    home.send(&to_camera(Segment::tcp(5000, 80, ACK))).unwrap();
    home.flood(1000, |port| Segment::tcp(port, 80, SYN));

    assert!(home.live() <= 100);
    for packet in [
        from_camera(Segment::tcp(8080, 4000, ACK)),
        from_camera(Segment::tcp(8080, 5000, ACK)),
        from_camera(Segment::udp(5001, 4000)),
        from_camera(Segment::pong(4000)),
    ] {
        assert!(home.send(&packet).is_ok(), "{packet:?}");
    }
    let counters = home.translator.counters();
    assert_eq!(
        counters.ended(EndReason::Evicted),
        counters.sessions_opened - 100
    );
    assert_eq!(home.dropped(DropReason::SessionsFull), 0);
}

#[test]
fn s3_5_flood_of_datagrams_or_pings_keeps_nobody_out() {
    for ping in [false, true] {
        let mut home = Home::with(|config| config.limits.sessions = 100);
        home.connect(4000);
        // an exchange is worth more than a first packet
        home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
        home.send(&from_camera(Segment::udp(5001, 4000))).unwrap();
        home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();

        home.flood(1000, |port| {
            if ping {
                Segment::ping(port)
            } else {
                Segment::udp(port, 5000)
            }
        });

        assert!(home.send(&from_camera(Segment::udp(5001, 4000))).is_ok());
        home.connect(5000);
        assert!(
            home.send(&from_camera(Segment::tcp(8080, 4000, ACK)))
                .is_ok()
        );
    }
}

#[test]
fn s3_5_connections_that_have_ended_make_room() {
    let mut home = Home::with(|config| config.limits.sessions = 10);
    for port in 4000..4100 {
        home.connect(port);
        home.send(&from_camera(Segment::tcp(8080, port, FIN | ACK)))
            .unwrap();
        home.send(&to_camera(Segment::tcp(port, 80, FIN | ACK)))
            .unwrap();
    }
}

#[test]
fn s3_5_sources_that_nobody_may_have_start_nothing() {
    let mut home = Home::new();
    for source in [
        "::",
        "::1",
        "::192.168.64.1",
        "ff02::1",
        "fe80::1",
        "::ffff:192.0.2.1",
    ] {
        let mut packet = to_camera(Segment::udp(4000, 5000));
        packet.src = source.parse().unwrap();
        assert_eq!(
            home.send(&packet),
            Err(DropReason::IllegalSource),
            "{source}"
        );
    }
}

#[test]
fn s3_5_session_list_says_whose_a_pool_port_is() {
    let mut home = Home::new();
    home.connect(4000);
    home.pass(10 * SECOND);

    let (_, session) = home
        .translator
        .sessions(0..u32::MAX, home.now)
        .next()
        .unwrap();

    assert_eq!(session.transport, Transport::Tcp);
    assert_eq!(session.remote, (REMOTE, 4000));
    assert_eq!(session.external, (nsp().embed(CAMERA), 80));
    assert_eq!(session.pool, (POOL, 4000));
    assert_eq!(session.server, (CAMERA, 8080));
    assert_eq!(session.age, 10 * SECOND);
    assert_eq!(
        (session.six_to_four.packets, session.four_to_six.packets),
        (2, 1)
    );
}

fn state(home: &Home) -> Option<TcpState> {
    home.translator
        .sessions(0..u32::MAX, home.now)
        .next()
        .and_then(|(_, session)| session.tcp)
}
