//! Stateful NAT64 (RFC 6146) where no gateway says what is open, by the requirement ids N6-* and
//! X-A3, and those of RFC 4787 and RFC 5382 for filtering and hairpinning.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use home::{ACK, FIN, Home, OTHER, Packet, RST, SYN, Segment, sum16};
use mapping::{Instant, Protocol};
use translator::{
    AddressMaps, Alone, Binding, Config, DropReason, Filtering, PoolRange, Pref64, TcpState,
    Translator, Verdict,
};

const SECOND: Duration = Duration::from_secs(1);

/// A host in IPv6.
const HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 1);
/// Two in IPv4.
const PEER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);
/// The pool.
const T: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

#[test]
fn n6_1_everything_behind_the_prefix_is_open() {
    let mut world = world(Alone::default());

    for (there, back) in [
        (
            Segment::tcp(4000, 80, SYN),
            Segment::tcp(80, 4000, SYN | ACK),
        ),
        (Segment::udp(4000, 53), Segment::udp(53, 4000)),
        (Segment::ping(4000), Segment::pong(4000)),
    ] {
        let arrived = world.send(&six(there)).unwrap();
        assert_eq!(
            (arrived.src, arrived.dst),
            (IpAddr::from(T), IpAddr::from(PEER))
        );
        let answer = world.send(&four(back)).unwrap();
        assert_eq!(answer.src, IpAddr::from(prefix().embed(PEER)));
        assert_eq!(answer.dst, IpAddr::from(HOST));
    }
}

#[test]
fn n6_1_hosts_of_one_network_share_no_limit_but_the_last() {
    let mut world = world(Alone::default());
    for port in 1024..5024 {
        world.send(&six(Segment::tcp(port, 80, SYN))).unwrap();
    }
    assert_eq!(world.live(), 4000);
}

#[test]
fn n6_1_addresses_of_no_host_stay_closed() {
    let mut world = world(Alone::default());

    for addr in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        let mut packet = six(Segment::udp(4000, 53));
        packet.dst = prefix().embed(addr.parse().unwrap()).into();
        assert_eq!(world.send(&packet), Err(DropReason::Closed), "{addr}");
    }
    assert_eq!(
        world.send(&six(Segment::udp(4000, 0))),
        Err(DropReason::Closed)
    );
}

#[test]
fn n6_1_restricted_translator_opens_what_it_is_told() {
    let mut world = world(Alone {
        restricted: true,
        ..Alone::default()
    });
    world.open(PEER, Protocol::Tcp, 80, 8080);

    let arrived = world.send(&six(Segment::tcp(4000, 80, SYN))).unwrap();

    assert_eq!(arrived.segment.ports(), (4000, 8080));
    assert_eq!(
        world.send(&six(Segment::tcp(4000, 81, SYN))),
        Err(DropReason::Closed)
    );
    assert_eq!(
        world.send(&six(Segment::udp(4000, 80))),
        Err(DropReason::Closed)
    );
}

#[test]
fn x_a3_well_known_prefix_with_a_private_address_is_dropped() {
    let mut world = world_behind(Pref64::WELL_KNOWN, Alone::default());
    let mut private = six(Segment::udp(4000, 53));
    private.dst = Pref64::WELL_KNOWN
        .embed(Ipv4Addr::new(192, 168, 1, 20))
        .into();
    let mut global = private.clone();
    global.dst = Pref64::WELL_KNOWN.embed(Ipv4Addr::new(8, 8, 8, 8)).into();

    assert_eq!(world.send(&private), Err(DropReason::NotGlobal));
    assert_eq!(world.dropped(DropReason::NotGlobal), 1);
    assert!(world.send(&global).is_ok());
}

#[test]
fn x_a3_private_source_never_stands_behind_the_well_known_prefix() {
    let mut world = world_behind(Pref64::WELL_KNOWN, bound());
    let mut private = four(Segment::tcp(80, 8080, SYN));
    private.src = Ipv4Addr::new(10, 0, 0, 1).into();

    assert_eq!(world.send(&private), Err(DropReason::NotGlobal));
}

#[test]
fn n6_2_static_binding_lets_ipv4_begin() {
    let mut world = world(bound());

    let syn = world.send(&four(Segment::tcp(5555, 8080, SYN))).unwrap();
    assert_eq!(
        (syn.src, syn.dst),
        (prefix().embed(PEER).into(), HOST.into())
    );
    assert_eq!(syn.segment.ports(), (5555, 80));
    assert_eq!(state(&world), Some(TcpState::V4Init));

    let answer = world.send(&six(Segment::tcp(80, 5555, SYN | ACK))).unwrap();
    assert_eq!((answer.src, answer.dst), (T.into(), PEER.into()));
    assert_eq!(answer.segment.ports(), (8080, 5555));
    assert_eq!(state(&world), Some(TcpState::Established));

    let datagram = world.send(&four(Segment::udp(5555, 53))).unwrap();
    assert_eq!(datagram.segment.ports(), (5555, 5353));
    let echo = world.send(&four(Segment::ping(7))).unwrap();
    assert_eq!(echo.segment, Segment::ping(70));
    let reply = world.send(&six(Segment::pong(70))).unwrap();
    assert_eq!(reply.segment, Segment::pong(7));
}

#[test]
fn n6_2_static_binding_is_what_the_host_sends_from() {
    let mut world = world(bound());

    let syn = world.send(&six(Segment::tcp(80, 9999, SYN))).unwrap();

    assert_eq!(
        (syn.src, syn.segment.ports()),
        (IpAddr::from(T), (8080, 9999))
    );
}

#[test]
fn n6_2_static_binding_outlives_its_sessions_and_nobody_else_gets_its_port() {
    let mut world = world(bound());
    world.send(&four(Segment::udp(5555, 53))).unwrap();
    world.pass(400 * SECOND);
    assert_eq!(world.live(), 0);

    let mut other = six(Segment::udp(53, 9999));
    other.src = OTHER.into();
    let arrived = world.send(&other).unwrap();
    let again = world.send(&four(Segment::udp(5555, 53))).unwrap();

    assert_ne!(arrived.segment.ports().0, 53);
    assert_eq!(again.dst, IpAddr::from(HOST));
}

#[test]
fn n6_2_bindings_that_cannot_be_are_refused() {
    let pool = vec![PoolRange::new(T, 32).unwrap()];
    for bindings in [
        vec!["tcp,[2001:db8::1]:80,192.0.2.1:80"],
        vec![
            "tcp,[2001:db8::1]:80,203.0.113.1:80",
            "tcp,[2001:db8::2]:80,203.0.113.1:80",
        ],
        vec![
            "tcp,[2001:db8::1]:80,203.0.113.1:80",
            "tcp,[2001:db8::1]:80,203.0.113.1:81",
        ],
    ] {
        let alone = with_bindings(&bindings);
        assert!(Config::alone(pool.clone(), alone).is_err(), "{bindings:?}");
    }
    let mut mapped = bound();
    let map = "192.0.2.10=2001:db8:aaaa::1".parse().unwrap();
    mapped.maps = AddressMaps::new(vec![map]).unwrap();
    assert!(Config::alone(pool.clone(), mapped).is_err(), "two answers");
    let fine = [
        "tcp,[2001:db8::1]:80,203.0.113.1:80",
        "udp,[2001:db8::1]:80,203.0.113.1:80",
    ];
    assert!(Config::alone(pool, with_bindings(&fine)).is_ok());
}

#[test]
fn n6_3_source_in_the_prefix_is_dropped() {
    let mut world = world(Alone::default());
    let mut packet = six(Segment::udp(4000, 53));
    packet.src = prefix().embed(STRANGER).into();

    assert_eq!(world.send(&packet), Err(DropReason::SourceInPref64));
}

#[test]
fn n6_3_source_of_the_pool_is_dropped_from_ipv4() {
    let mut open = bound();
    open.filtering = Filtering::EndpointIndependent;
    let maps = vec!["198.51.100.16/28=2001:db8:ffff::/124".parse().unwrap()];
    open.maps = AddressMaps::new(maps).unwrap();
    for hairpin in [false, true] {
        let mut world = world(Alone {
            hairpin,
            ..open.clone()
        });
        for segment in [
            Segment::tcp(8080, 8080, SYN),
            Segment::udp(53, 53),
            Segment::ping(7),
        ] {
            for dst in [T, Ipv4Addr::new(198, 51, 100, 20)] {
                let forged = Packet::new(T.into(), dst.into(), segment.clone());
                assert_eq!(world.send(&forged), Err(DropReason::IllegalSource));
            }
        }
        assert_eq!(world.live(), 0);
    }
}

#[test]
fn n6_3_packet_to_its_own_source_is_dropped() {
    for hairpin in [false, true] {
        let mut world = world(Alone { hairpin, ..bound() });
        let own = prefix().embed(T).into();
        for segment in [Segment::tcp(80, 80, SYN), Segment::udp(5353, 53)] {
            let land = Packet::new(own, own, segment);
            assert_eq!(world.send(&land), Err(DropReason::SourceInPref64));
        }
    }
}

#[test]
fn n6_12_what_is_for_its_link_only_is_dropped_without_a_word() {
    let mut world = world(Alone::default());
    world.send(&six(Segment::udp(4000, 53))).unwrap();
    // RFC 7915 §4.2: IGMP; RFC 8200 §4.7: no next header
    for (packet, at, protocol, answers) in [
        (four(Segment::udp(53, 4000)).bytes(), 9, 2, 0),
        (six(Segment::udp(4000, 53)).bytes(), 6, 59, 0),
        (four(Segment::udp(53, 4000)).bytes(), 9, 132, 1),
        (six(Segment::udp(4000, 53)).bytes(), 6, 132, 1),
    ] {
        let mut packet = packet;
        packet[at] = protocol;
        if at == 9 {
            home::seal_ipv4(&mut packet);
        }

        let (verdict, left) = world.exchange(&packet);

        assert_eq!(verdict, Verdict::Drop(DropReason::UnsupportedProtocol));
        assert_eq!(left.len(), answers, "{protocol}");
    }
}

#[test]
fn n6_5_and_4787_req_8_filtering_is_by_address_unless_it_is_switched_off() {
    for filtering in [Filtering::AddressDependent, Filtering::EndpointIndependent] {
        let mut world = world(Alone {
            filtering,
            ..Alone::default()
        });
        world.send(&six(Segment::udp(4000, 53))).unwrap();
        let mut stranger = four(Segment::udp(53, 4000));
        stranger.src = STRANGER.into();
        let unbound = four(Segment::udp(53, 4001));

        // another port of the same address
        let other_port = world.send(&four(Segment::udp(54, 4000))).unwrap();
        assert_eq!(other_port.dst, IpAddr::from(HOST));
        assert_eq!(other_port.segment.ports(), (54, 4000));
        match filtering {
            Filtering::AddressDependent => {
                assert_eq!(world.send(&stranger), Err(DropReason::NoSession));
            }
            Filtering::EndpointIndependent => {
                let arrived = world.send(&stranger).unwrap();
                assert_eq!(arrived.src, IpAddr::from(prefix().embed(STRANGER)));
            }
        }
        assert_eq!(world.send(&unbound), Err(DropReason::NoSession));
    }
}

#[test]
fn n6_5_permission_ends_with_the_last_session_to_that_address() {
    let mut world = world(Alone::default());
    world.send(&six(Segment::udp(4000, 53))).unwrap();
    world.pass(200 * SECOND);
    let mut other = six(Segment::udp(4000, 53));
    other.dst = prefix().embed(STRANGER).into();
    world.send(&other).unwrap();
    world.pass(101 * SECOND + SECOND);

    assert_eq!(
        world.send(&four(Segment::udp(54, 4000))),
        Err(DropReason::NoSession)
    );
    let mut stranger = four(Segment::udp(54, 4000));
    stranger.src = STRANGER.into();
    assert!(world.send(&stranger).is_ok());
}

#[test]
fn n6_5_echo_request_follows_the_same_filter() {
    let mut world = world(Alone::default());
    world.send(&six(Segment::ping(4000))).unwrap();
    let mut stranger = four(Segment::ping(4000));
    stranger.src = STRANGER.into();

    let back = world.send(&four(Segment::ping(4000))).unwrap();

    assert_eq!((back.dst, back.segment), (HOST.into(), Segment::ping(4000)));
    assert_eq!(world.send(&stranger), Err(DropReason::NoSession));
    assert_eq!(
        world.send(&four(Segment::pong(9))),
        Err(DropReason::NoSession)
    );
}

#[test]
fn n6_8_syn_that_the_filter_admits_starts_v4_init() {
    let mut world = world(Alone {
        filtering: Filtering::EndpointIndependent,
        ..Alone::default()
    });
    world.send(&six(Segment::tcp(4000, 80, SYN))).unwrap();
    let mut stranger = four(Segment::tcp(7777, 4000, SYN));
    stranger.src = STRANGER.into();

    let arrived = world.send(&stranger).unwrap();

    assert_eq!(arrived.segment.ports(), (7777, 4000));
    let states: Vec<_> = world
        .translator
        .sessions(0..u32::MAX, world.now)
        .filter_map(|(_, session)| session.tcp)
        .collect();
    assert!(states.contains(&TcpState::V4Init) && states.contains(&TcpState::V6Init));
}

#[test]
fn n6_8_v4_init_lives_four_minutes_and_only_a_v6_syn_establishes_it() {
    let mut world = world(bound());
    world.send(&four(Segment::tcp(5555, 8080, SYN))).unwrap();

    for flags in [ACK, FIN | ACK, RST | ACK] {
        assert!(world.send(&six(Segment::tcp(80, 5555, flags))).is_ok());
        assert_eq!(state(&world), Some(TcpState::V4Init));
    }
    world.pass(240 * SECOND);
    assert_eq!(world.live(), 1);
    world.pass(2 * SECOND);
    assert_eq!(world.live(), 0);
}

#[test]
fn n6_8_connection_from_ipv4_begins_anew_when_both_have_finished() {
    let mut world = world(bound());
    world.send(&four(Segment::tcp(5555, 8080, SYN))).unwrap();
    world.send(&six(Segment::tcp(80, 5555, SYN | ACK))).unwrap();
    world
        .send(&four(Segment::tcp(5555, 8080, FIN | ACK)))
        .unwrap();
    world.send(&six(Segment::tcp(80, 5555, FIN | ACK))).unwrap();
    world.send(&four(Segment::tcp(5555, 8080, ACK))).unwrap();
    assert_eq!(state(&world), Some(TcpState::V4FinV6FinRcv));
    world.pass(200 * SECOND);

    world.send(&four(Segment::tcp(5555, 8080, SYN))).unwrap();
    assert_eq!(state(&world), Some(TcpState::V4Init));
    world.send(&six(Segment::tcp(80, 5555, SYN | ACK))).unwrap();
    world.send(&four(Segment::tcp(5555, 8080, ACK))).unwrap();

    assert_eq!(state(&world), Some(TcpState::Established));
    assert_eq!(world.live(), 1);
    world.pass(3600 * SECOND);
    assert!(world.send(&four(Segment::tcp(5555, 8080, ACK))).is_ok());
}

#[test]
fn n6_8_finished_connection_of_a_binding_that_is_not_static_lets_all_pass() {
    let mut world = world(Alone::default());
    world.send(&six(Segment::tcp(4000, 80, SYN))).unwrap();
    world
        .send(&four(Segment::tcp(80, 4000, SYN | ACK)))
        .unwrap();
    world.send(&six(Segment::tcp(4000, 80, FIN | ACK))).unwrap();
    world
        .send(&four(Segment::tcp(80, 4000, FIN | ACK)))
        .unwrap();

    assert!(world.send(&four(Segment::tcp(80, 4000, SYN))).is_ok());
    assert_eq!(state(&world), Some(TcpState::V4FinV6FinRcv));
}

#[test]
fn n6_8_unsolicited_syn_is_refused_after_six_seconds_and_not_before() {
    let mut world = world(Alone::default());
    let syn = four(Segment::tcp(5555, 4000, SYN));

    assert_eq!(world.exchange(&syn.bytes()), (Verdict::Hold, vec![]));
    world.pass(6 * SECOND - Duration::from_millis(1));
    assert!(world.transmitted().is_empty());
    // a retransmission does not put it off
    assert_eq!(world.exchange(&syn.bytes()), (Verdict::Hold, vec![]));
    let [refusal] = refusals(&mut world, Duration::from_millis(1))
        .try_into()
        .unwrap();

    let (header, message) = refusal.split_at(20);
    assert_eq!(sum16(header), 0xffff, "IPv4 header checksum");
    assert_eq!(sum16(message), 0xffff, "ICMP checksum");
    assert_eq!(header[12..20], [T.octets(), PEER.octets()].concat());
    assert_eq!(header[9], 1);
    assert_eq!(message[..2], [3, 3]);
    assert_eq!(message[8..], syn.bytes());
    assert_eq!(world.dropped(DropReason::Unsolicited), 1);
    assert!(refusals(&mut world, 20 * SECOND).is_empty());
}

#[test]
fn n6_8_simultaneous_open_is_established_and_nothing_is_refused() {
    let mut world = world(Alone::default());
    let mut other = six(Segment::udp(1, 53));
    other.src = OTHER.into();
    world.send(&other).unwrap();

    let (verdict, _) = world.exchange(&four(Segment::tcp(5555, 4000, SYN)).bytes());
    assert_eq!(verdict, Verdict::Hold);
    world.pass(5 * SECOND);
    let syn = world.send(&six(Segment::tcp(4000, 5555, SYN))).unwrap();

    assert_eq!(syn.segment.ports(), (4000, 5555));
    let tcp = world
        .translator
        .sessions(0..u32::MAX, world.now)
        .find_map(|(_, session)| session.tcp);
    assert_eq!(tcp, Some(TcpState::Established));
    assert!(refusals(&mut world, 10 * SECOND).is_empty());
    assert!(
        world
            .send(&four(Segment::tcp(5555, 4000, SYN | ACK)))
            .is_ok()
    );
}

#[test]
fn n6_8_syns_that_wait_are_bounded() {
    let mut world = world(Alone::default());
    let mut held = 0;
    for port in 1..3000 {
        match world
            .exchange(&four(Segment::tcp(port, 4000, SYN)).bytes())
            .0
        {
            Verdict::Hold => held += 1,
            verdict => assert_eq!(verdict, Verdict::Drop(DropReason::Unsolicited)),
        }
    }
    assert_eq!(held, 1024);
    assert_eq!(refusals(&mut world, 6 * SECOND).len(), 1024);
    let again = world.exchange(&four(Segment::tcp(9, 4000, SYN)).bytes()).0;
    assert_eq!(again, Verdict::Hold);
}

#[test]
fn n6_8_other_segments_from_ipv4_start_nothing() {
    let mut world = world(bound());
    for flags in [ACK, SYN | ACK, RST, FIN | ACK] {
        assert_eq!(
            world.send(&four(Segment::tcp(5555, 8080, flags))),
            Err(DropReason::NoSession)
        );
    }
    assert_eq!(world.live(), 0);
}

#[test]
fn n6_13_hairpinning_is_off_unless_asked_for() {
    let mut world = world(bound());
    let mut packet = six(Segment::udp(4000, 53));
    packet.src = OTHER.into();
    packet.dst = prefix().embed(T).into();

    assert_eq!(world.send(&packet), Err(DropReason::Hairpin));
}

#[test]
fn n6_13_and_4787_req_9_hairpin_shows_the_external_source() {
    let mut world = world(Alone {
        hairpin: true,
        ..bound()
    });
    let external = prefix().embed(T);
    for (there, arrived, back, returned) in [
        (
            Segment::udp(4000, 53),
            Segment::udp(4000, 5353),
            Segment::udp(5353, 4000),
            Segment::udp(53, 4000),
        ),
        (
            Segment::tcp(4000, 8080, SYN),
            Segment::tcp(4000, 80, SYN),
            Segment::tcp(80, 4000, SYN | ACK),
            Segment::tcp(8080, 4000, SYN | ACK),
        ),
    ] {
        let out = Packet::new(OTHER.into(), external.into(), there);
        let got = world.send(&out).unwrap();
        assert_eq!((got.src, got.dst), (external.into(), HOST.into()));
        assert_eq!(got.segment, arrived);
        assert_eq!(got.payload, out.payload);

        let answer = world
            .send(&Packet::new(HOST.into(), external.into(), back))
            .unwrap();
        assert_eq!((answer.src, answer.dst), (external.into(), OTHER.into()));
        assert_eq!(answer.segment, returned);
    }
}

#[test]
fn n6_13_hairpinned_packet_meets_the_same_filter() {
    let mut world = world(Alone {
        hairpin: true,
        ..Alone::default()
    });
    world.send(&six(Segment::udp(4000, 53))).unwrap();
    let external = prefix().embed(T);
    let out = Packet::new(OTHER.into(), external.into(), Segment::udp(4001, 4000));

    assert_eq!(world.send(&out), Err(DropReason::NoSession));

    // the bound host has sent to the other's address: both have one
    let back = Packet::new(HOST.into(), external.into(), Segment::udp(4000, 4001));
    assert!(world.send(&back).is_ok());
    assert!(world.send(&out).is_ok());
}

fn refusals(world: &mut Home, time: Duration) -> Vec<Vec<u8>> {
    let end = world.now + time;
    let mut left = Vec::new();
    while let Some((due, _)) = world
        .translator
        .poll_timeout()
        .filter(|(due, _)| *due <= end)
    {
        world.now = world.now.max(due);
        world.translator.handle_timeout(world.now);
        left.extend(world.transmitted());
        while world.translator.poll_event().is_some() {}
    }
    world.now = end;
    left
}

fn state(world: &Home) -> Option<TcpState> {
    let mut sessions = world.translator.sessions(0..u32::MAX, world.now);
    sessions.next().and_then(|(_, session)| session.tcp)
}

fn bound() -> Alone {
    with_bindings(&[
        "tcp,[2001:db8:aaaa::1]:80,203.0.113.1:8080",
        "udp,[2001:db8:aaaa::1]:5353,203.0.113.1:53",
        "icmp,[2001:db8:aaaa::1]:70,203.0.113.1:7",
    ])
}

fn with_bindings(bindings: &[&str]) -> Alone {
    Alone {
        bindings: bindings
            .iter()
            .map(|text| text.parse::<Binding>().unwrap())
            .collect(),
        ..Alone::default()
    }
}

fn prefix() -> Pref64 {
    "64:ff9b:1::/96".parse().unwrap()
}

fn world(alone: Alone) -> Home {
    world_behind(prefix(), alone)
}

fn world_behind(prefix: Pref64, alone: Alone) -> Home {
    let pool = vec![PoolRange::new(T, 32).unwrap()];
    let config = Config::alone(pool, alone).unwrap();
    let now = Instant::from_nanos(1_000_000_000);
    let mut translator = Translator::new(config, [7; 16], now);
    translator.handle_pref64s(&[prefix], now);
    Home { translator, now }
}

fn six(segment: Segment) -> Packet {
    Packet::new(HOST.into(), prefix().embed(PEER).into(), segment)
}

fn four(segment: Segment) -> Packet {
    Packet::new(PEER.into(), T.into(), segment)
}
