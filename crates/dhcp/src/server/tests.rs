use mapping::{BootId, Core, Policy, Refusal, Site, Wall};
use proptest::prelude::*;

use super::*;
use crate::wire::{Options, code};

#[test]
fn queued_output_is_reported_as_due_now() {
    let mut server = server();

    server.handle_datagram(&message(1, 1, &[]), BROADCAST, core().snapshot(), at(5));

    assert_eq!(server.poll_timeout(), Some((at(5).mono, Timer::Drain)));
    assert!(server.poll_transmit().is_some());
    let due = at(5).mono + OFFER_LIFETIME;
    assert_eq!(server.poll_timeout(), Some((due, Timer::Offer)));
}

#[test]
fn offers_are_bounded_and_a_known_host_still_gets_one() {
    let (mut server, mut core) = (server(), core());
    grant(&mut core, 9_999);
    for client in 0..300 {
        server.handle_datagram(&message(client, 1, &[]), BROADCAST, core.snapshot(), at(1));
    }
    // a /22 has more addresses than offers may stand
    assert_eq!(server.offers.len(), OFFERS);
    assert_eq!(
        server.counters().drops(DropReason::OffersFull),
        300 - OFFERS as u64
    );

    server.handle_datagram(&message(9_999, 1, &[]), BROADCAST, core.snapshot(), at(1));

    assert_eq!(server.counters().answers(Answer::Offer), OFFERS as u64 + 1);
    server.handle_datagram(
        &message(400, 1, &[]),
        BROADCAST,
        core.snapshot(),
        at(11_001),
    );
    assert_eq!(server.offers.len(), 1, "all others expired");
}

#[test]
fn requests_that_wait_are_bounded() {
    let (mut server, mut core) = (server(), core());
    for client in 0..300 {
        let addr = grant(&mut core, client);
        let renew = renewal(client, addr);
        server.handle_datagram(&renew, UNICAST, core.snapshot(), at(1));
    }

    assert_eq!(server.pending.len(), PENDING);
    assert_eq!(
        server.counters().drops(DropReason::Busy),
        300 - PENDING as u64
    );
}

#[test]
fn a_repeated_request_waits_for_the_first_ones_answer() {
    let (mut server, mut core) = (server(), core());
    let addr = grant(&mut core, 1);
    let renew = renewal(1, addr);
    server.handle_datagram(&renew, UNICAST, core.snapshot(), at(1));
    server.handle_datagram(&renew, UNICAST, core.snapshot(), at(2));
    let (token, request) = server.poll_request().unwrap();

    assert_eq!(server.poll_request(), None);
    assert_eq!(server.counters().drops(DropReason::Duplicate), 1);
    let (outcome, _) = core.handle_request(&request, at(3));
    server.handle_outcome(token, &outcome, core.snapshot(), at(3));
    assert!(server.poll_transmit().is_some());
    server.handle_outcome(token, &outcome, core.snapshot(), at(3));
    assert_eq!(server.poll_transmit(), None, "an answer is given once");
}

#[test]
fn two_new_clients_are_never_offered_the_same_address() {
    let (mut server, core) = (server(), core());
    for client in 0..250 {
        server.handle_datagram(&message(client, 1, &[]), BROADCAST, core.snapshot(), at(1));
    }

    let addrs: BTreeSet<_> = server.offers.values().map(|offer| offer.addr).collect();
    assert_eq!(addrs.len(), 250);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_are_counted(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..5)
    ) {
        let (mut server, core) = (server(), core());
        for bytes in &datagrams {
            server.handle_datagram(bytes, BROADCAST, core.snapshot(), at(1));
        }
        prop_assert_eq!(server.counters().settled(), datagrams.len() as u64);
    }

    /// Whatever clients say, and however the writer answers: every datagram is answered,
    /// counted or waits.
    #[test]
    fn every_datagram_is_answered_or_counted(
        steps in prop::collection::vec(
            (0..4_u64, 0..4_u64, 0..10_u8, any::<[u8; 3]>(), any::<bool>(), 0..3_u8, 0..8_000_u64),
            1..60
        )
    ) {
        let (mut server, mut core) = (server(), core());
        let mut now = 0;
        for (client, frame, kind, addrs, unicast, writer, later) in steps {
            now += later;
            let some = |byte: u8| {
                let own = core.snapshot().host(mac(client)).map(|host| host.addr);
                own.filter(|_| byte.is_multiple_of(2)).unwrap_or(Ipv4Addr::new(10, 0, 0, byte))
            };
            let [requested, server_id, ciaddr] = addrs;
            let mut options = Vec::new();
            if requested > 80 {
                options.push((code::REQUESTED_ADDRESS, some(requested).octets()));
            }
            if server_id > 128 {
                let last = if server_id > 200 { 2 } else { 1 };
                options.push((code::SERVER_ID, [10, 0, 0, last]));
            }
            let mut bytes = message(client, kind, &options);
            if ciaddr > 128 {
                bytes[12..16].copy_from_slice(&some(ciaddr).octets());
            }
            let source = if ciaddr > 128 { some(ciaddr) } else { Ipv4Addr::UNSPECIFIED };
            let meta = Meta { source, mac: mac(frame), unicast };
            server.handle_datagram(&bytes, meta, core.snapshot(), at(now));
            while let Some((token, request)) = server.poll_request() {
                let outcome = match writer {
                    0 => Outcome::Refused(Refusal::Unavailable),
                    _ => core.handle_request(&request, at(now)).0,
                };
                server.handle_outcome(token, &outcome, core.snapshot(), at(now));
            }
            while server.poll_transmit().is_some() {}
            if let Some((due, _)) = server.poll_timeout() {
                prop_assert!(due > at(now).mono);
            }
        }
        let counters = server.counters();
        prop_assert_eq!(counters.settled(), counters.received);
        prop_assert!(server.pending.is_empty());
    }
}

fn server() -> Server {
    let mut server = Server::new(Config::default(), at(0));
    server.set_offering(true);
    server
}

fn core() -> Core {
    let site = Site::new(Ipv4Addr::new(10, 0, 0, 1), 22, "home.example".to_owned()).unwrap();
    Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), at(0))
}

fn grant(core: &mut Core, client: u64) -> Ipv4Addr {
    let addr = core
        .snapshot()
        .lease_candidate(mac(client), |_| false)
        .unwrap();
    let lifetime = Duration::from_secs(3600);
    let request = LeaseRequest {
        mac: mac(client),
        addr,
        lifetime,
        declared_name: None,
    };
    let (outcome, _) = core.handle_request(&Request::Lease(request), at(0));
    assert!(matches!(outcome, Outcome::Granted(_)));
    addr
}

fn mac(client: u64) -> Mac {
    let [.., a, b] = client.to_be_bytes();
    Mac([2, 0, 0, 0, a, b])
}

fn message(client: u64, kind: u8, options: &[(u8, [u8; 4])]) -> Vec<u8> {
    let mut all = Options::default();
    all.set(code::MESSAGE_TYPE, [kind]);
    for (code, value) in options {
        all.set(*code, *value);
    }
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&mac(client).0);
    let zero = Ipv4Addr::UNSPECIFIED;
    let message = Message {
        op: Op::BootRequest,
        htype: 1,
        hlen: 6,
        xid: 1,
        flags: 0,
        ciaddr: zero,
        yiaddr: zero,
        giaddr: zero,
        chaddr,
        options: all,
    };
    message.emit(&[], 548)
}

fn renewal(client: u64, addr: Ipv4Addr) -> Vec<u8> {
    let mut bytes = message(client, 3, &[]);
    bytes[12..16].copy_from_slice(&addr.octets());
    bytes
}

fn at(millis: u64) -> Now {
    Now {
        mono: Instant::from_nanos(millis * 1_000_000),
        wall: Wall::from_secs(1_800_000_000),
    }
}

const BROADCAST: Meta = Meta {
    source: Ipv4Addr::UNSPECIFIED,
    mac: Mac([2, 0, 0, 0, 0, 1]),
    unicast: false,
};

const UNICAST: Meta = Meta {
    source: Ipv4Addr::new(10, 0, 0, 9),
    mac: Mac([2, 0, 0, 0, 0, 1]),
    unicast: true,
};
