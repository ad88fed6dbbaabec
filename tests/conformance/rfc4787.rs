//! The behaviour of a NAT towards UDP (RFC 4787), by its requirement numbers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;
#[path = "../../crates/translator/tests/support/pieces.rs"]
mod pieces;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::Duration;

use home::icmp::{Error, Flow, ready};
use home::{
    CAMERA, Home, NAS, OTHER, POOL, Packet, REMOTE, Segment, from_camera, new_nsp, nsp, to_camera,
};
use mapping::{Instant, Protocol};
use pieces::{cut, hold, join, send_all};
use translator::{
    Alone, AnswerKind, Config, DropReason, Filtering, Lifetimes, Links, PoolRange, Pref64,
    Translator, Transport,
};

#[test]
fn req_1_mapping_is_the_same_for_every_server_and_port() {
    let mut home = homes(26);
    let bound: BTreeSet<_> = [(CAMERA, 5000), (CAMERA, 5001), (NAS, 5000)]
        .map(|(server, port)| knock(&mut home, remote(1), server, Segment::udp(4000, port)))
        .into_iter()
        .collect();
    assert_eq!(bound.len(), 1);
}

#[test]
fn req_2_remote_keeps_one_address_for_all_ports_and_protocols() {
    for len in [26, 30, 32] {
        let mut home = homes(len);
        for host in 2..100 {
            knock(&mut home, remote(host), CAMERA, Segment::udp(7, 5000));
        }
        let addrs: BTreeSet<_> = (0..50)
            .flat_map(|port| {
                [
                    Segment::udp(4000 + port, 5000),
                    Segment::tcp(4000 + port, 80, home::SYN),
                    Segment::ping(4000 + port),
                ]
            })
            .map(|segment| knock(&mut home, remote(1), CAMERA, segment).0)
            .collect();
        assert_eq!(addrs.len(), 1, "a pool of /{len}");
    }
}

#[test]
fn req_2_each_remote_has_an_address_of_its_own_while_they_last_and_keeps_its_ports() {
    let mut home = homes(26);
    let bound: BTreeSet<_> = (0..61)
        .map(|host| knock(&mut home, remote(host), CAMERA, Segment::udp(4000, 5000)))
        .collect();
    assert!(bound.iter().all(|(_, port)| *port == 4000));
    let addrs: BTreeSet<_> = bound.into_iter().map(|(addr, _)| addr).collect();
    assert_eq!(addrs.len(), 61);
    assert!(!addrs.contains(&Ipv4Addr::new(192, 168, 64, 192)));
    assert!(!addrs.contains(&Ipv4Addr::new(192, 168, 64, 255)));

    let (late, port) = knock(&mut home, remote(99), CAMERA, Segment::udp(4000, 5000));
    assert!(addrs.contains(&late), "who comes late shares");
    assert_ne!(port, 4000);
}

#[test]
fn req_2_address_of_a_remote_that_has_gone_is_given_to_another_one() {
    let mut home = homes(31);
    let first = knock(&mut home, remote(1), CAMERA, Segment::udp(4000, 5000));
    // five minutes of life, and two of rest
    home.pass(Duration::from_secs(301 + 121));
    let second = knock(&mut home, remote(2), CAMERA, Segment::udp(4000, 5000));
    assert_eq!(first, second);
}

#[test]
fn req_3_no_two_remotes_have_one_port_of_a_protocol() {
    for len in [26, 30, 32] {
        let mut home = homes(len);
        for host in 0..200 {
            for segment in [Segment::udp(4000, 5000), Segment::ping(4000)] {
                knock(&mut home, remote(host), CAMERA, segment.clone());
                knock(&mut home, remote(host), NAS, segment);
            }
        }
        let mut owners = std::collections::BTreeMap::new();
        for (_, session) in home.translator.sessions(0..u32::MAX, home.now) {
            let owner = owners.entry((session.transport, session.pool));
            assert_eq!(*owner.or_insert(session.remote), session.remote);
        }
        assert_eq!(owners.len(), 400);
    }
}

#[test]
fn req_3_well_known_port_stays_well_known_and_no_other_becomes_it() {
    let mut home = homes(32);
    for host in 0..60 {
        for port in [53, 54, 4000, 4001] {
            let (_, bound) = knock(&mut home, remote(host), CAMERA, Segment::udp(port, 5000));
            assert_eq!(bound < 1024, port < 1024, "{port} became {bound}");
        }
    }
}

#[test]
fn req_4_parity_is_kept() {
    let mut home = homes(32);
    for host in 0..200 {
        for port in [4000, 4001] {
            let (_, bound) = knock(&mut home, remote(host), CAMERA, Segment::udp(port, 5000));
            assert_eq!(bound % 2, port % 2);
        }
    }
}

#[test]
fn req_4_port_that_cannot_be_kept_is_not_the_next_one() {
    let mut home = homes(32);
    let bound: Vec<u16> = (0..32)
        .map(|host| knock(&mut home, remote(host), CAMERA, Segment::udp(4000, 5000)).1)
        .collect();
    let near = bound
        .iter()
        .skip(1)
        .filter(|port| port.abs_diff(4000) < 200);
    assert!(near.count() < 4, "{bound:?}");
}

#[test]
fn req_7_remote_in_two_prefixes_of_the_home_has_two_ports() {
    let mut home = homes(26);
    home.translator.handle_nsps(&[nsp(), new_nsp()], home.now);
    let bound = [nsp(), new_nsp()].map(|prefix| {
        let dst = prefix.embed(CAMERA).into();
        let packet = Packet::new(remote(1).into(), dst, Segment::udp(4000, 5000));
        let left = home.send(&packet).unwrap();
        (left.src, left.segment.ports().0)
    });
    assert_eq!(bound[0].0, bound[1].0, "one address");
    assert_ne!(bound[0].1, bound[1].1, "in IPv4 the destination is one");
}

#[test]
fn req_3_pool_that_is_used_up_takes_the_place_of_what_may_be_forged_and_recovers() {
    let mut home = Home::with(|config| {
        pool(config, 32);
        config.limits.sessions = 70_000;
        config.limits.resting_ports = 0;
    });
    let mut refused = 0;
    for host in 0..66_000 {
        let dst = nsp().embed(CAMERA).into();
        let packet = Packet::new(remote(host).into(), dst, Segment::udp(4000, 5000));
        match home.send(&packet) {
            Ok(_) => {}
            Err(reason) => {
                assert_eq!(reason, DropReason::PoolExhausted);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 0, "the oldest half-open session gives its port");
    assert_eq!(home.translator.counters().sessions.udp, 65_535);
    assert_eq!(home.translator.counters().bindings, 65_535);

    home.pass(Duration::from_secs(301));

    assert_eq!(home.translator.counters().bindings, 0);
    let (_, port) = knock(&mut home, remote(1), CAMERA, Segment::udp(4000, 5000));
    assert_eq!(port, 4000);
}

#[test]
fn req_5_mapping_lives_five_minutes_and_by_configuration_never_under_two() {
    for (configured, lives) in [(None, 300), (Some(120), 120), (Some(1200), 1200)] {
        let mut home = Home::with(|config| {
            if let Some(time) = configured {
                config.lifetimes.set_udp(SECOND * time).unwrap();
            }
        });
        answered(&mut home);

        home.pass(SECOND * lives);
        assert_eq!(home.live(), 1, "after {lives} s");
        home.pass(SECOND * 2);
        assert_eq!(home.live(), 0, "after {lives} s and two");
    }
    assert!(Lifetimes::default().set_udp(SECOND * 119).is_err());
}

#[test]
fn req_6_packets_of_the_remote_and_of_its_server_refresh_the_mapping() {
    for from_server in [false, true] {
        let mut home = Home::new();
        answered(&mut home);
        for _ in 0..5 {
            home.pass(SECOND * 250);
            let packet = if from_server {
                from_camera(Segment::udp(5001, 4000))
            } else {
                to_camera(Segment::udp(4000, 5000))
            };
            assert!(home.send(&packet).is_ok());
        }
    }
}

#[test]
fn req_6_packets_that_are_filtered_refresh_nothing() {
    let mut home = Home::new();
    answered(&mut home);
    for _ in 0..4 {
        home.pass(SECOND * 74);
        for (server, port) in [(NAS, 5001), (CAMERA, 5009)] {
            let mut packet = from_camera(Segment::udp(port, 4000));
            packet.src = server.into();
            assert_eq!(home.send(&packet), Err(DropReason::NoSession));
        }
    }
    home.pass(SECOND * 6);

    assert_eq!(home.live(), 0);
}

#[test]
fn req_8_filtering_is_address_dependent_and_by_configuration_endpoint_independent() {
    for filtering in [Filtering::AddressDependent, Filtering::EndpointIndependent] {
        let mut home = alone(Alone {
            filtering,
            ..Alone::default()
        });
        let sent = Packet::new(
            REMOTE.into(),
            PREFIX.embed(CAMERA).into(),
            Segment::udp(4, 5),
        );
        home.send(&sent).unwrap();
        let from = |host, port| Packet::new(IpAddr::V4(host), POOL.into(), Segment::udp(port, 4));

        assert!(home.send(&from(CAMERA, 5)).is_ok());
        assert!(home.send(&from(CAMERA, 6)).is_ok(), "another port of its");
        let open = filtering == Filtering::EndpointIndependent;
        assert_eq!(home.send(&from(NAS, 5)).is_ok(), open, "{filtering:?}");
    }
}

#[test]
fn req_9_hairpinned_datagram_shows_the_external_source() {
    let mut home = alone(Alone {
        hairpin: true,
        ..Alone::default()
    });
    let to = |from: Ipv6Addr, to: Ipv4Addr, segment| {
        Packet::new(from.into(), PREFIX.embed(to).into(), segment)
    };
    let first = home.send(&to(OTHER, CAMERA, Segment::udp(7, 9))).unwrap();
    let second = home.send(&to(REMOTE, CAMERA, Segment::udp(7, 9))).unwrap();
    let (t1, t2) = (first.segment.ports().0, second.segment.ports().0);
    // the one has not yet sent to the other's address, who has then
    let filtered = home.send(&to(OTHER, POOL, Segment::udp(7, t2)));
    assert_eq!(filtered, Err(DropReason::NoSession));

    let arrived = home.send(&to(REMOTE, POOL, Segment::udp(7, t1))).unwrap();

    assert_eq!(arrived.dst, IpAddr::from(OTHER));
    assert_eq!(arrived.src, IpAddr::from(PREFIX.embed(POOL)));
    assert_eq!(arrived.segment, Segment::udp(t2, 7));
}

#[test]
fn req_9_deviation_remotes_of_a_home_do_not_reach_each_other() {
    let mut home = Home::new();
    let there = home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    let dst = nsp().embed(POOL).into();
    let hairpin = Segment::udp(4000, there.segment.ports().0);

    let sent = home.send(&Packet::new(OTHER.into(), dst, hairpin));

    assert_eq!(sent, Err(DropReason::Hairpin));
}

#[test]
fn req_10_no_datagram_is_understood() {
    for (port, payload) in [
        (
            5060,
            &b"SIP/2.0 200 OK\r\nContact: <sip:192.168.64.7:5001>\r\n"[..],
        ),
        (69, b"\0\x01file\0octet\0"),
        (
            554,
            b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP;server_port=6970-6971\r\n",
        ),
    ] {
        let mut home = Home::new();
        home.open(CAMERA, Protocol::Udp, port, port);
        let mut sent = to_camera(Segment::udp(4000, port));
        sent.payload = payload.to_vec();
        assert_eq!(home.send(&sent).unwrap().payload, payload);
        let mut back = from_camera(Segment::udp(port, 4000));
        back.payload = payload.to_vec();
        assert_eq!(home.send(&back).unwrap().payload, payload);

        for other in [5001, 6970, 6971] {
            let closed = home.send(&to_camera(Segment::udp(4000, other)));
            assert_eq!(closed, Err(DropReason::Closed), "nothing else opens");
        }
    }
}

#[test]
fn req_11_behaviour_does_not_change_when_ports_conflict() {
    let mut home = homes(32);
    for host in 0..500 {
        let first = knock(&mut home, remote(host), CAMERA, Segment::udp(4000, 5000));
        let second = knock(&mut home, remote(host), NAS, Segment::udp(4000, 5000));
        assert_eq!(first, second, "endpoint-independent, conflict or not");
        let foreign = Packet::new(NAS.into(), first.0.into(), Segment::udp(5001, first.1));
        assert!(home.send(&foreign).is_err(), "filtered, conflict or not");
        assert_eq!(first.1 % 2, 0);
    }
    let transcript = |key| {
        let mut home = homes(32);
        let config = home.translator.config().clone();
        home.translator = Translator::new(config, [key; 16], home.now);
        home.translator.handle_nsps(&[nsp()], home.now);
        home.open(CAMERA, Protocol::Udp, 5000, 5001);
        let knocks =
            (0..300).map(|host| knock(&mut home, remote(host), CAMERA, Segment::udp(4000, 5000)));
        knocks.collect::<Vec<_>>()
    };
    assert_eq!(transcript(1), transcript(1), "nothing is left to chance");
}

#[test]
fn req_12_no_icmp_error_ends_a_mapping() {
    let mut home = ready();
    let flows = [
        Flow::udp_to_camera(&mut home, 20),
        Flow::udp_from_camera(&mut home, 20),
    ];
    let before: Vec<_> = home.translator.sessions(0..u32::MAX, home.now).collect();

    for flow in &flows {
        for kind in 0..=20 {
            for code in 0..=16 {
                // whether it passes is told elsewhere
                let (_verdict, _) = home.exchange(&Error::about(&flow.arrived, kind, code).bytes());
            }
        }
    }

    let after: Vec<_> = home.translator.sessions(0..u32::MAX, home.now).collect();
    assert_eq!(before, after);
}

#[test]
fn req_13_datagram_with_df_that_does_not_fit_is_answered() {
    let mut home = ready();
    let (wan_mtu, lan_mtu) = (1400, 1500);
    home.translator.handle_links(Links { wan_mtu, lan_mtu });
    let mut large = from_camera(Segment::udp(5001, 4000)).with_payload(1400);
    large.dont_fragment = true;

    let (_, left) = home.exchange(&large.bytes());

    let [answer] = &left[..] else {
        panic!("{left:?}")
    };
    let answer = Error::parse(answer);
    assert_eq!((answer.kind, answer.code, answer.word), (3, 4, 1380));
    assert_eq!(answer.dst, IpAddr::from(CAMERA));
    let counters = home.translator.counters();
    assert_eq!(counters.answers.get(AnswerKind::TooBig), 1);
}

#[test]
fn req_14_fragments_in_any_order_pass_both_ways() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
        let mut home = Home::new();
        for packet in [
            to_camera(Segment::udp(4000, 5000)).with_payload(3000),
            from_camera(Segment::udp(5001, 4000)).with_payload(3000),
        ] {
            let parts = cut(&packet.bytes(), 77, &[125, 250]);
            let parts = order.map(|at| parts[at].clone());

            let whole = join(&send_all(&mut home, &parts));

            assert_eq!(whole.payload, packet.payload, "{order:?}");
        }
    }
}

#[test]
fn req_14_a_fragments_that_never_become_whole_take_bounded_memory() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    let packet = from_camera(Segment::udp(5001, 4000)).with_payload(3000);
    for id in 0..20_000 {
        let parts = cut(&packet.bytes(), id, &[125]);
        hold(&mut home, &parts[0]);
    }
    let held = home.translator.counters().fragments;
    assert!(held.held_bytes <= 4 << 20, "{held:?}");
    assert!(held.held > 0);

    home.pass(SECOND * 3);
    assert_eq!(home.translator.counters().fragments.held, 0);
}

/// A session to which both sides have sent.
fn answered(home: &mut Home) {
    for packet in [
        to_camera(Segment::udp(4000, 5000)),
        from_camera(Segment::udp(5001, 4000)),
        to_camera(Segment::udp(4000, 5000)),
    ] {
        home.send(&packet).unwrap();
    }
}

/// A translator that stands alone, behind [`PREFIX`].
fn alone(alone: Alone) -> Home {
    let now = Instant::from_nanos(1_000_000_000);
    let config = Config::alone(vec![PoolRange::new(POOL, 32).unwrap()], alone).unwrap();
    let mut translator = Translator::new(config, [7; 16], now);
    translator.handle_pref64s(&[*PREFIX], now);
    Home { translator, now }
}

fn homes(len: u8) -> Home {
    let mut home = Home::with(|config| pool(config, len));
    home.open(CAMERA, Protocol::Udp, 5001, 5002);
    home.open(NAS, Protocol::Udp, 5000, 5000);
    home
}

fn pool(config: &mut Config, len: u8) {
    config.pool = vec![PoolRange::new([192, 168, 64, 192].into(), len).unwrap()];
}

fn remote(host: u32) -> Ipv6Addr {
    (0x2001_0db8_aaaa_u128 << 80 | u128::from(host + 1)).into()
}

/// Sends a first packet and returns where the server sees it come from.
#[track_caller]
fn knock(home: &mut Home, from: Ipv6Addr, server: Ipv4Addr, segment: Segment) -> (Ipv4Addr, u16) {
    let packet = Packet::new(from.into(), nsp().embed(server).into(), segment.clone());
    let left = home.send(&packet).unwrap();
    let port = match segment {
        Segment::Echo { .. } => home
            .translator
            .sessions(0..u32::MAX, home.now)
            .filter(|(_, it)| it.transport == Transport::IcmpQuery && it.remote.0 == from)
            .map(|(_, it)| it.pool.1)
            .last()
            .unwrap(),
        _ => left.segment.ports().0,
    };
    match left.src {
        IpAddr::V4(addr) => (addr, port),
        IpAddr::V6(_) => panic!("not translated"),
    }
}

static PREFIX: LazyLock<Pref64> = LazyLock::new(|| "2001:db8:46::/96".parse().unwrap());

const SECOND: Duration = Duration::from_secs(1);
