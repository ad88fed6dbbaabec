use mapping::{BootId, Core, Policy, PrefixRequest, Site, Wall};
use proptest::prelude::*;

use super::*;

#[test]
fn queued_output_is_reported_as_due_now() {
    let (core, now) = home();
    let mut server = Server::new(Limits::default());
    assert_eq!(server.poll_timeout(), None);

    server.handle_datagram(&[0, 0], client(20), core.snapshot(), now);
    assert_eq!(server.poll_timeout(), Some((now.mono, Timer::Drain)));
    assert!(server.poll_transmit().is_some());
    assert_eq!(server.poll_timeout(), None);

    let map = [0, 1, 0, 0, 0x1f, 0x90, 0, 0, 0, 0, 0, 60];
    server.handle_datagram(&map, client(20), core.snapshot(), now);
    assert_eq!(server.poll_timeout(), Some((now.mono, Timer::Drain)));
    assert!(server.poll_request().is_some());
    assert_eq!(server.poll_timeout(), None);
}

#[test]
fn an_unknown_or_used_token_changes_nothing() {
    let (core, now) = home();
    let mut server = Server::new(Limits::default());
    let refused = Outcome::Refused(Refusal::Unavailable);

    server.handle_outcome(RequestToken(9), &refused, core.snapshot(), now);

    assert_eq!(server.poll_transmit(), None);
    assert_eq!(server.counters(), &Counters::ZERO);
}

#[test]
fn too_many_waiting_requests_are_dropped_and_counted() {
    let (core, now) = home();
    let mut server = Server::new(Limits {
        per_client: 1,
        total: 2,
        ..Limits::default()
    });

    for (host, port) in [(20, 1), (20, 2), (21, 1), (22, 1)] {
        let map = [0, 1, 0, 0, 0x1f, port, 0, 0, 0, 0, 0, 60];
        server.handle_datagram(&map, client(host), core.snapshot(), now);
    }

    assert_eq!(server.counters().drops(DropReason::Overload), 2);
    assert_eq!(server.pending(), 2);
}

#[test]
fn sources_that_are_no_host_of_the_lan_get_no_answer() {
    let (core, now) = home();
    let mut server = Server::new(Limits::default());
    let from = |source: ([u8; 4], u16)| Caller {
        source: source.into(),
        ..client(20)
    };
    let elsewhere = from(([192, 0, 2, 1], 5000));
    let portless = from(([192, 168, 64, 20], 0));

    for source in [elsewhere, portless, client(0), client(255)] {
        server.handle_datagram(&[0, 0], source, core.snapshot(), now);
    }

    assert_eq!(server.poll_transmit(), None);
    assert_eq!(server.counters().drops(DropReason::Source), 4);
}

proptest! {
    #[test]
    fn every_datagram_is_answered_or_counted(
        datagrams in prop::collection::vec((datagram(), 0..4_u8, any::<bool>()), 0..60)
    ) {
        let (mut core, mut now) = home();
        let mut server = Server::new(Limits { per_client: 3, total: 5, ..Limits::default() });
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
                prop_assert!(Response::parse(&transmit.bytes).is_ok() || transmit.bytes[3] == 5);
                sent += 1;
            }
            prop_assert_eq!(server.poll_timeout(), None);
        }
        let answered: u64 = ResultCode::ALL.iter().map(|code| server.counters().responses(*code)).sum();
        prop_assert_eq!(answered, sent);
        let judged = server.counters().datagrams() + server.pending() as u64;
        prop_assert_eq!(judged, datagrams.len() as u64);
    }
}

fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let small = || prop::sample::select(vec![0_u8, 1, 80, 255]);
    let map = (0..4_u8, prop::collection::vec(small(), 10)).prop_map(|(opcode, body)| {
        let mut bytes = vec![0, opcode];
        bytes.extend(body);
        bytes
    });
    prop_oneof![map, prop::collection::vec(any::<u8>(), 0..40)]
}

fn home() -> (Core, Now) {
    let now = Now {
        mono: Instant::from_nanos(0),
        wall: Wall::from_secs(1_800_000_000),
    };
    let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
    let mut core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
    let prefix = PrefixRequest {
        delegated: "2001:db8:64::/56".parse().unwrap(),
        nsp: None,
        old_valid: Duration::from_secs(60),
    };
    core.handle_request(&mapping::Request::Prefix(prefix), now);
    core.finish(now);
    (core, now)
}

fn client(host: u8) -> Caller {
    Caller {
        source: ([192, 168, 64, host], 50_000).into(),
        local: [192, 168, 64, 1].into(),
        mac: None,
        on_link: false,
    }
}
