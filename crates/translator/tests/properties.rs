//! What holds for every packet and every history.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

#[path = "support/home.rs"]
mod home;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use home::{
    ACK, CAMERA, FIN, Home, NAS, POOL, Packet, RST, Rules, SYN, Segment, admits, new_nsp, nsp,
    to_camera,
};
use mapping::{Protocol, RemoteFilter};
use proptest::prelude::*;
use translator::{DropReason, Limits, PoolRange, TcpState, Transport};

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        offload: [u8; 10],
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut home = Home::new();
        prop_assert!(home.offloaded(&offload, &bytes).is_err());
        prop_assert_eq!(home.translator.counters().drops.total(), 1);
    }

    #[test]
    fn mutated_packets_never_panic_and_leave_whole(
        packet in packet(),
        back: bool,
        partial: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut home = Home::new();
        let there = home.send(&packet).unwrap();
        let packet = if back { reflect(&there) } else { packet };
        let mut bytes = if partial { packet.partial_bytes() } else { packet.bytes() };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let v4 = bytes.first().is_some_and(|first| first >> 4 == 4);
        if v4 && bytes.len() > 60 {
            home::seal_ipv4(&mut bytes);
        }

        for left in home.exchange(&bytes).1 {
            let len = usize::from(u16::from_be_bytes([left[2], left[3]]));
            let payload = usize::from(u16::from_be_bytes([left[4], left[5]]));
            prop_assert_eq!(left[0] >> 4, if v4 { 6 } else { 4 });
            prop_assert_eq!(left.len(), if v4 { payload + 40 } else { len });
        }
    }

    #[test]
    fn translating_there_and_back_is_the_identity(packet in packet()) {
        let mut home = Home::new();

        // parsing checks all lengths and checksums of what left
        let there = home.send(&packet).unwrap();
        let back = home.send(&reflect(&there)).unwrap();

        prop_assert_eq!(there.src, IpAddr::from(POOL));
        let mut expected = reflect(&packet);
        expected.dont_fragment = back.dont_fragment;
        prop_assert_eq!(back, expected);
    }

    #[test]
    fn no_history_breaks_the_tables(
        steps in prop::collection::vec(step(), 1..120),
        pool in prop::sample::select(vec![26_u8, 30, 31, 32]),
        (per_remote_64, per_server, half_open_per_64) in (2..40_u32, 2..40_u32, 1..40_u32),
    ) {
        let mut home = Home::with(|config| {
            config.pool = vec![PoolRange::new([192, 168, 64, 192].into(), pool).unwrap()];
            config.limits = Limits {
                sessions: 40,
                per_remote_64,
                per_server,
                half_open_per_64,
                ..Limits::default()
            };
        });
        let mut last = (POOL, 4000);
        let mut rules = Rules::from([
            ((CAMERA, Protocol::Tcp, 80), (8080, Vec::new())),
            ((CAMERA, Protocol::Udp, 5000), (5001, Vec::new())),
        ]);
        for step in steps {
            note(&mut rules, &step);
            let sent = act(&mut home, step, last);
            if let Some(Ok(packet)) = &sent
                && let IpAddr::V4(src) = packet.src
            {
                last = (src, packet.segment.ports().0);
            }
            home.transmitted();
            home.events();
            check(&home);
            for (_, session) in home.translator.sessions(0..u32::MAX, home.now) {
                prop_assert!(admits(&rules, &session), "{:?} by {:?}", session, rules);
            }
        }
    }
}

const SERVERS: [Ipv4Addr; 2] = [CAMERA, NAS];

fn note(rules: &mut Rules, step: &Step) {
    match step {
        Step::Close {
            server,
            port,
            protocol,
        } => {
            rules.remove(&(SERVERS[*server], *protocol, *port));
        }
        Step::Open {
            server,
            port,
            protocol,
            to,
            filters,
        } => {
            let rule = (*to, filters.clone());
            rules.insert((SERVERS[*server], *protocol, *port), rule);
        }
        Step::FromRemote { .. } | Step::FromServer { .. } | Step::Nsps(..) | Step::Pass(_) => {}
    }
}

#[derive(Debug, Clone)]
enum Step {
    Close {
        server: usize,
        port: u16,
        protocol: Protocol,
    },
    FromRemote {
        remote: u16,
        server: usize,
        old: bool,
        segment: Segment,
    },
    FromServer {
        server: usize,
        kind: u8,
        port: u16,
        flags: u8,
    },
    Nsps(bool, bool),
    Open {
        server: usize,
        port: u16,
        protocol: Protocol,
        to: u16,
        filters: Vec<RemoteFilter>,
    },
    Pass(u32),
}

fn act(
    home: &mut Home,
    step: Step,
    (pool, pool_port): (Ipv4Addr, u16),
) -> Option<Result<Packet, DropReason>> {
    let servers = SERVERS;
    match step {
        Step::Close {
            server,
            port,
            protocol,
        } => home.close(servers[server], protocol, port),
        Step::Open {
            server,
            port,
            protocol,
            to,
            filters,
        } => home.open_to(servers[server], protocol, port, to, &filters),
        Step::Nsps(old, new) => {
            let nsps = [old.then(nsp), new.then(new_nsp)];
            let nsps: Vec<_> = nsps.into_iter().flatten().collect();
            home.translator.handle_nsps(&nsps, home.now);
        }
        Step::Pass(secs) => home.pass(Duration::from_secs(u64::from(secs))),
        Step::FromRemote {
            remote,
            server,
            old,
            segment,
        } => {
            let prefix = if old { nsp() } else { new_nsp() };
            let src = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, remote % 2, 0, 0, 0, remote);
            let packet = Packet::new(src.into(), prefix.embed(servers[server]).into(), segment);
            return Some(home.send(&packet));
        }
        Step::FromServer {
            server,
            kind,
            port,
            flags,
        } => {
            let segment = match kind {
                0 => Segment::tcp(port, pool_port, flags),
                1 => Segment::udp(port, pool_port),
                _ => Segment::pong(pool_port),
            };
            let packet = Packet::new(servers[server].into(), pool.into(), segment);
            return Some(home.send(&packet));
        }
    }
    None
}

#[track_caller]
fn check(home: &Home) {
    let (mut six, mut four, mut bound) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut remotes = BTreeSet::new();
    let (mut nets, mut servers) = (BTreeMap::new(), BTreeMap::new());
    let mut live = 0;
    for (_, session) in home.translator.sessions(0..u32::MAX, home.now) {
        live += 1;
        // one that its server has reset takes no share either
        if !matches!(session.tcp, Some(TcpState::Trans | TcpState::V4FinV6FinRcv)) {
            *nets.entry(u128::from(session.remote.0) >> 64).or_insert(0) += 1;
            *servers.entry(session.server.0).or_insert(0) += 1;
        }
        let kind = session.transport;
        assert!(
            six.insert((kind, session.remote, session.external)),
            "IPv6 5-tuple is shared"
        );
        assert!(
            four.insert((kind, session.pool, session.server)),
            "IPv4 5-tuple is shared"
        );
        let prefix = u128::from(session.external.0) >> 32;
        bound.insert((kind, session.pool));
        remotes.insert((kind, session.remote, prefix));
        assert_eq!(session.tcp.is_some(), kind == Transport::Tcp);
    }
    assert_eq!(
        bound.len(),
        remotes.len(),
        "each pool port stands for one remote"
    );
    let limits = home.translator.config().limits;
    assert!(live <= 40);
    assert!(
        nets.values()
            .all(|sessions| *sessions <= limits.per_remote_64)
    );
    assert!(
        servers
            .values()
            .all(|sessions| *sessions <= limits.per_server)
    );
    assert_eq!(home.translator.counters().bindings as usize, bound.len());
    let gauge = home.translator.counters().sessions;
    assert_eq!(gauge.icmp + gauge.tcp + gauge.udp, live);
    assert_eq!(home.translator.poll_timeout().is_some(), live > 0);
    let counters = home.translator.counters();
    let gone: u64 = counters.sessions_ended.iter().sum();
    assert_eq!(counters.sessions_opened - gone, u64::from(live));
}

fn step() -> impl Strategy<Value = Step> {
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
    let port = prop::sample::select(vec![80_u16, 81, 5000]);
    let flags = prop::sample::select(vec![SYN, ACK, SYN | ACK, FIN | ACK, RST]);
    let segment = (0..3_u8, 4000..4003_u16, port.clone(), flags.clone()).prop_map(
        |(kind, from, to, flags)| match kind {
            0 => Segment::tcp(from, to, flags),
            1 => Segment::udp(from, to),
            _ => Segment::ping(from),
        },
    );
    let to = prop::sample::select(vec![8080_u16, 8081, 5001]);
    prop_oneof![
        1 => (0..2_usize, port.clone(), protocol.clone())
            .prop_map(|(server, port, protocol)| Step::Close { server, port, protocol }),
        4 => (0..2_usize, port.clone(), protocol, to.clone(), filters())
            .prop_map(|(server, port, protocol, to, filters)| {
                Step::Open { server, port, protocol, to, filters }
            }),
        12 => (0..6_u16, 0..2_usize, any::<bool>(), segment)
            .prop_map(|(remote, server, old, segment)| {
                Step::FromRemote { remote, server, old, segment }
            }),
        6 => (0..2_usize, 0..3_u8, to, flags)
            .prop_map(|(server, kind, port, flags)| Step::FromServer { server, kind, port, flags }),
        1 => any::<(bool, bool)>().prop_map(|(old, new)| Step::Nsps(old, new)),
        1 => prop_oneof![0..3_u32, 50..400_u32, 7000..8000_u32].prop_map(Step::Pass),
    ]
}

/// Filters that part the remotes of [`step`]; often none.
fn filters() -> impl Strategy<Value = Vec<RemoteFilter>> {
    let prefix = prop::sample::select(vec![
        "2001:db8:aaaa::/64",
        "2001:db8:aaaa:1::/64",
        "2001:db8:aaaa::/48",
        "2001:db8:aaaa::2/128",
        "::ffff:192.0.2.0/120",
    ]);
    let port = prop::option::of(4000..4003_u16);
    let filter = (prefix, port).prop_map(|(prefix, port)| home::remotes(prefix, port));
    prop_oneof![Just(Vec::new()), prop::collection::vec(filter, 0..3)]
}

/// A packet from a remote that a new home lets in.
fn packet() -> impl Strategy<Value = Packet> {
    let options = prop::sample::select(vec![
        Vec::new(),
        Segment::mss(1220),
        vec![1, 2, 4, 0x04, 0xc4, 1, 1, 0],
        vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
    ]);
    let tcp = (
        any::<u16>(),
        any::<u32>(),
        any::<u32>(),
        any::<u16>(),
        options,
    )
        .prop_map(|(src, sequence, ack, window, options)| Segment::Tcp {
            src,
            dst: 80,
            sequence,
            ack,
            flags: SYN,
            window,
            options,
        });
    let udp = any::<u16>().prop_map(|src| Segment::udp(src, 5000));
    let echo = any::<(u16, u16)>().prop_map(|(id, sequence)| Segment::Echo {
        request: true,
        id,
        sequence,
    });
    let segment = prop_oneof![tcp, udp, echo];
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        prop::collection::vec(any::<u8>(), 1200..1428),
    ];
    (segment, payload, any::<u8>(), 1..=255_u8, any::<u64>()).prop_map(
        |(segment, payload, tos, ttl, interface)| {
            let mut packet = to_camera(segment);
            let src = 0x2001_0db8_aaaa_0000_u128 << 64 | u128::from(interface);
            packet.src = Ipv6Addr::from(src).into();
            packet.payload = payload;
            packet.tos = tos;
            packet.ttl = ttl;
            packet
        },
    )
}

/// What the receiver would answer if it sent everything back.
fn reflect(packet: &Packet) -> Packet {
    let mut packet = packet.clone();
    std::mem::swap(&mut packet.src, &mut packet.dst);
    match &mut packet.segment {
        Segment::Echo { request, .. } => *request = false,
        Segment::Tcp { src, dst, .. } | Segment::Udp { src, dst } => std::mem::swap(src, dst),
    }
    packet
}
