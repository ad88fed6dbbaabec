use std::time::Duration;

use mapping::{BootId, Core, LeaseRequest, Mac, Policy, PrefixRequest, Refusal, Site, Wall};
use proptest::prelude::*;

use super::*;
use crate::wire::{Body, Map, PcpOption, Peer, emit_option};

#[test]
fn queued_output_is_reported_as_due_now() {
    let (core, now) = home();
    let mut server = Server::new(Settings::default());
    assert_eq!(server.poll_timeout(), None);

    server.handle_datagram(&announce(20), client(20), core.snapshot(), now);
    assert_eq!(server.poll_timeout(), Some((now.mono, Timer::Drain)));
    assert!(server.poll_transmit().is_some());
    assert_eq!(server.poll_timeout(), None);

    for bytes in [map(20, 8080), vec![0, 1, 0, 0, 31, 144, 0, 0, 0, 0, 0, 60]] {
        server.handle_datagram(&bytes, client(20), core.snapshot(), now);
        assert_eq!(server.poll_timeout(), Some((now.mono, Timer::Drain)));
        assert!(server.poll_request().is_some());
        assert_eq!(server.poll_timeout(), None);
    }
}

#[test]
fn early_and_repeated_timeouts_change_nothing() {
    let (core, now) = home();
    let mut server = Server::new(serving(Dialects::Pcp));
    server.handle_snapshot(core.snapshot(), now);
    while server.poll_transmit().is_some() {}
    let next = server.poll_timeout();

    server.handle_timeout(core.snapshot(), now);
    server.handle_snapshot(core.snapshot(), now);

    assert_eq!(server.poll_transmit(), None);
    assert_eq!(server.poll_timeout(), next);
    assert_eq!(
        next,
        Some((now.mono + Duration::from_millis(250), Timer::Announce))
    );
}

#[test]
fn an_unknown_or_used_token_changes_nothing() {
    let (core, now) = home();
    let mut server = Server::new(Settings::default());
    let refused = Outcome::Refused(Refusal::Unavailable);

    let token = RequestToken(Owner::Pcp(9));
    server.handle_outcome(token, &refused, core.snapshot(), now);

    assert_eq!(server.poll_transmit(), None);
    assert_eq!(server.counters(), &Counters::ZERO);
}

proptest! {
    #[test]
    fn every_datagram_is_answered_or_counted(
        datagrams in prop::collection::vec((datagram(), 0..4_u8, any::<bool>()), 0..60),
        dialects in prop::sample::select(vec![Dialects::Both, Dialects::NatPmp, Dialects::Pcp]),
    ) {
        let (mut core, mut now) = home();
        let mut server = Server::new(Settings {
            limits: Limits { per_client: 3, total: 5, ..Limits::default() },
            ..serving(dialects)
        });
        let mut tokens = Vec::new();
        let mut sent = 0;
        for (bytes, host, answer) in &datagrams {
            now.mono += Duration::from_millis(10);
            server.handle_datagram(bytes, client(20 + host), core.snapshot(), now);
            while let Some(request) = server.poll_request() {
                tokens.push(request);
            }
            if *answer && let Some((token, request)) = tokens.pop() {
                let (outcome, _) = core.handle_request(&request, now);
                core.finish(now);
                server.handle_outcome(token, &outcome, core.snapshot(), now);
            }
            while let Some(transmit) = server.poll_transmit() {
                let bytes = transmit.bytes;
                let pcp = bytes[0] == 2;
                prop_assert!(!pcp || (bytes.len().is_multiple_of(4) && (24..=1100).contains(&bytes.len())));
                prop_assert!(pcp || bytes.len() >= 8);
                sent += 1;
            }
            prop_assert_eq!(server.poll_timeout(), None);
        }
        let responses: u64 = ResultCode::ALL.iter().map(|code| server.counters().responses(*code)).sum();
        let natpmp: u64 = natpmp::wire::ResultCode::ALL
            .iter()
            .map(|code| server.natpmp_counters().responses(*code))
            .sum();
        prop_assert_eq!(responses + natpmp, sent);
        let judged = server.counters().datagrams()
            + server.natpmp_counters().datagrams()
            + server.pending() as u64;
        prop_assert_eq!(judged, datagrams.len() as u64);
        prop_assert_eq!(tokens.len(), server.pending());
    }

    #[test]
    fn announcements_come_when_they_are_due_and_end(steps in prop::collection::vec(0..3_u8, 0..20)) {
        let (mut core, mut now) = home();
        let mut server = Server::new(Settings::default());
        let mut prefix = 0;
        server.handle_snapshot(core.snapshot(), now);
        for step in steps {
            if step == 0 {
                prefix += 1;
                now.mono += Duration::from_millis(700);
                renumber(&mut core, prefix, now);
                server.handle_snapshot(core.snapshot(), now);
            }
            while server.poll_transmit().is_some() {}
            if let Some((due, timer)) = server.poll_timeout() {
                prop_assert!(due > now.mono && timer == Timer::Announce);
                now.mono = due;
                server.handle_timeout(core.snapshot(), now);
                prop_assert_eq!(server.poll_timeout(), Some((due, Timer::Drain)));
            }
        }
        let sent = server.counters().announcements;
        prop_assert!(sent <= 10 * (1 + u64::from(prefix)));
    }
}

fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let port = || prop::sample::select(vec![0_u16, 80, 5351, 8080, 8081]);
    let options = prop::collection::vec(
        (
            prop::sample::select(vec![0_u8, 1, 2, 3, 4, 128, 129, 130, 200]),
            prop::sample::select(vec![0_usize, 1, 4, 5, 14, 16, 20]),
        ),
        0..3,
    );
    let map = (20..24_u8, 0..18_u8, port(), port(), 0..2_u32, options).prop_map(
        |(host, protocol, internal, external, lifetime, options)| {
            let mut bytes = Vec::new();
            for (code, len) in options {
                let data = vec![0; len];
                emit_option(PcpOption::Unknown { code, data: &data }, &mut bytes);
            }
            let map = Map {
                protocol,
                external_port: external,
                ..body(internal)
            };
            let peer = Peer {
                map,
                remote_port: external,
                remote_addr: "::ffff:192.0.2.9".parse().unwrap(),
            };
            Request {
                lifetime: lifetime * 60,
                client: in_ipv6(client(host).source.ip()),
                body: if host == 23 {
                    Body::Peer(peer)
                } else {
                    Body::Map(map)
                },
                options: &bytes,
            }
            .emit()
        },
    );
    let natpmp =
        (0..4_u8, port(), port(), 0..2_u8).prop_map(|(opcode, internal, external, life)| {
            let ([a, b], [c, d]) = (internal.to_be_bytes(), external.to_be_bytes());
            vec![0, opcode, 0, 0, a, b, c, d, 0, 0, 0, life]
        });
    let noise = (0..4_u8, prop::collection::vec(any::<u8>(), 0..80))
        .prop_map(|(version, rest)| [vec![version], rest].concat());
    prop_oneof![
        3 => map,
        1 => (20..24_u8).prop_map(announce),
        1 => natpmp,
        1 => noise,
        1 => prop::collection::vec(any::<u8>(), 0..1300),
    ]
}

fn announce(host: u8) -> Vec<u8> {
    let request = Request {
        lifetime: 0,
        client: in_ipv6(client(host).source.ip()),
        body: Body::Announce,
        options: &[],
    };
    request.emit()
}

fn map(host: u8, port: u16) -> Vec<u8> {
    let request = Request {
        lifetime: 3600,
        client: in_ipv6(client(host).source.ip()),
        body: Body::Map(body(port)),
        options: &[],
    };
    request.emit()
}

fn body(port: u16) -> Map {
    Map {
        nonce: mapping::MappingNonce([3; 12]),
        protocol: 6,
        internal_port: port,
        external_port: 0,
        external_addr: Ipv6Addr::UNSPECIFIED,
    }
}

fn home() -> (Core, Now) {
    let now = Now {
        mono: Instant::from_nanos(1_000),
        wall: Wall::from_secs(1_800_000_000),
    };
    let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
    let mut core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
    renumber(&mut core, 0, now);
    for host in [20, 21] {
        let lease = LeaseRequest {
            mac: Mac([2, 0, 0, 0, 0, host]),
            addr: [192, 168, 64, host].into(),
            lifetime: Duration::from_secs(3600),
            declared_name: None,
        };
        core.handle_request(&mapping::Request::Lease(lease), now);
    }
    core.finish(now);
    (core, now)
}

fn renumber(core: &mut Core, number: u16, now: Now) {
    let prefix = PrefixRequest {
        delegated: format!("2001:db8:{number:x}::/56").parse().unwrap(),
        nsp: None,
        old_valid: Duration::from_secs(60),
    };
    core.handle_request(&mapping::Request::Prefix(prefix), now);
    let newest = core.snapshot().to_prefer().unwrap().id;
    core.handle_request(&mapping::Request::Prefer(newest), now);
    core.finish(now);
}

fn client(host: u8) -> Caller {
    Caller {
        source: ([192, 168, 64, host], 50_000).into(),
        local: [192, 168, 64, 1].into(),
        mac: None,
        on_link: false,
    }
}

fn serving(dialects: Dialects) -> Settings {
    Settings {
        dialects,
        ..Settings::default()
    }
}
