use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

#[test]
fn an_answer_comes_back_with_the_clients_id() {
    let (_, mut exchange) = begin(&["192.0.2.1:53"]);
    let sent = exchange.poll_transmit().unwrap();

    assert_eq!(sent.transport, Transport::Udp);
    assert_eq!(sent.payload[2..], QUERY[2..]);
    let answer = reply(&sent.payload, 0x8180, b"answer");
    exchange.handle_response(sent.to, &answer, at(5)).unwrap();

    let Some(Outcome::Answered(bytes)) = exchange.poll_event() else {
        panic!("no answer")
    };
    assert_eq!(bytes[..2], QUERY[..2]);
    assert_eq!(bytes[2..], answer[2..]);
    assert_eq!(exchange.poll_timeout(), None);
}

#[test]
fn ids_are_not_the_clients_and_differ() {
    let (mut forwarder, _) = begin(&["192.0.2.1:53"]);
    let mut ids: Vec<_> = (0..50)
        .map(|_| {
            let mut exchange = forwarder
                .begin(QUERY, &resolvers(&["192.0.2.1:53"]), at(0))
                .unwrap();
            Head::parse(&exchange.poll_transmit().unwrap().payload)
                .unwrap()
                .id
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();

    assert!(ids.len() > 45, "{ids:?}");
}

#[test]
fn what_is_not_the_answer_is_ignored() {
    let (_, mut exchange) = begin(&["192.0.2.1:53"]);
    let sent = exchange.poll_transmit().unwrap();
    let good = reply(&sent.payload, 0x8180, b"");
    let other_id = wire::with_id(&good, Head::parse(&good).unwrap().id ^ 1);
    let mut other_question = good.clone();
    other_question[13] = b'y';
    let foreign = "192.0.2.9:53".parse().unwrap();

    for (from, bytes) in [
        (foreign, good.as_slice()),
        (sent.to, other_id.as_slice()),
        (sent.to, other_question.as_slice()),
        (sent.to, sent.payload.as_slice()),
    ] {
        assert_eq!(
            exchange.handle_response(from, bytes, at(1)),
            Err(Ignored::Foreign)
        );
    }
    assert!(exchange.handle_response(sent.to, b"", at(1)).is_err());
    assert_eq!(exchange.poll_event(), None);
    exchange.handle_response(sent.to, &good, at(1)).unwrap();
    assert!(exchange.poll_event().is_some());
}

#[test]
fn a_silent_resolver_is_followed_by_the_next_and_not_asked_first_again() {
    let addrs = ["192.0.2.1:53", "192.0.2.2:53"];
    let (mut forwarder, mut exchange) = begin(&addrs);
    let first = exchange.poll_transmit().unwrap();
    let (deadline, Timer::Attempt) = exchange.poll_timeout().unwrap();

    assert!(!exchange.handle_timeout(deadline - Duration::from_nanos(1)));
    assert!(exchange.handle_timeout(deadline));
    let second = exchange.poll_transmit().unwrap();
    assert_eq!([first.to, second.to].to_vec(), resolvers(&addrs));
    let late = reply(&first.payload, 0x8180, b"");
    assert_eq!(
        exchange.handle_response(first.to, &late, deadline),
        Err(Ignored::Foreign)
    );
    let answer = reply(&second.payload, 0x8180, b"");
    exchange
        .handle_response(second.to, &answer, deadline)
        .unwrap();
    forwarder.end(&exchange);

    let mut next = forwarder
        .begin(QUERY, &resolvers(&addrs), deadline)
        .unwrap();
    assert_eq!(next.poll_transmit().unwrap().to, second.to);
}

#[test]
fn silence_of_all_ends_within_five_seconds() {
    let (_, mut exchange) = begin(&["192.0.2.1:53", "192.0.2.2:53"]);
    let mut asked = 0;
    let mut now = at(0);
    while let Some((deadline, _)) = exchange.poll_timeout() {
        asked += usize::from(exchange.poll_transmit().is_some());
        now = deadline;
        exchange.handle_timeout(now);
    }

    assert_eq!(
        (asked, exchange.poll_event()),
        (ATTEMPTS, Some(Outcome::Failed))
    );
    assert!(now < at(5000));
}

#[test]
fn servfail_of_one_is_relayed_only_if_no_other_knows_better() {
    let (_, mut exchange) = begin(&["192.0.2.1:53", "192.0.2.2:53"]);
    let first = exchange.poll_transmit().unwrap();
    exchange
        .handle_response(first.to, &reply(&first.payload, 0x8182, b""), at(1))
        .unwrap();
    assert_eq!(exchange.poll_event(), None);
    let second = exchange.poll_transmit().unwrap();
    assert_ne!(first.to, second.to);
    while exchange.poll_timeout().is_some() {
        exchange.handle_unreachable(at(2));
    }

    let Some(Outcome::Answered(bytes)) = exchange.poll_event() else {
        panic!("no answer")
    };
    assert_eq!(Head::parse(&bytes).unwrap().rcode(), SERV_FAIL);
}

#[test]
fn a_cut_answer_is_asked_again_by_tcp() {
    let (_, mut exchange) = begin(&["192.0.2.1:53"]);
    let udp = exchange.poll_transmit().unwrap();
    exchange
        .handle_response(udp.to, &reply(&udp.payload, 0x8380, b""), at(1))
        .unwrap();
    let tcp = exchange.poll_transmit().unwrap();
    assert_eq!((tcp.to, tcp.transport), (udp.to, Transport::Tcp));
    let whole = reply(&tcp.payload, 0x8180, &[7; 2000]);
    exchange.handle_response(tcp.to, &whole, at(2)).unwrap();

    let Some(Outcome::Answered(bytes)) = exchange.poll_event() else {
        panic!("no answer")
    };
    assert_eq!(bytes.len(), whole.len());
}

#[test]
fn only_so_many_questions_are_under_way() {
    let mut forwarder = Forwarder::new(StdRng::seed_from_u64(1));
    assert_eq!(
        forwarder.begin(QUERY, &[], at(0)).unwrap_err(),
        NotForwarded::NoResolver
    );
    let to = resolvers(&["192.0.2.1:53"]);
    let exchanges: Vec<_> = (0..MOST_IN_FLIGHT)
        .map(|_| forwarder.begin(QUERY, &to, at(0)).unwrap())
        .collect();

    assert_eq!(
        forwarder.begin(QUERY, &to, at(0)).unwrap_err(),
        NotForwarded::Busy
    );
    forwarder.end(&exchanges[0]);
    assert!(forwarder.begin(QUERY, &to, at(0)).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_answers_never_panic_and_never_end_it(
        query in proptest::collection::vec(any::<u8>(), 0..60),
        answer in proptest::collection::vec(any::<u8>(), 0..200),
        steps in proptest::collection::vec(0..3_u8, 0..12),
    ) {
        let mut forwarder = Forwarder::new(StdRng::seed_from_u64(2));
        let to = resolvers(&["192.0.2.1:53", "192.0.2.2:53"]);
        drop(forwarder.begin(&query, &to, at(0)));
        let mut exchange = forwarder.begin(QUERY, &to, at(0)).unwrap();
        let mut now = at(0);
        for step in steps {
            now += Duration::from_millis(400);
            match step {
                0 => {
                    let before = exchange.poll_timeout();
                    if exchange.handle_response(to[0], &answer, now).is_err() {
                        prop_assert_eq!(exchange.poll_timeout(), before);
                    }
                }
                1 => { exchange.handle_timeout(now); }
                _ => { exchange.handle_unreachable(now); }
            }
            let _ = exchange.poll_transmit();
            if let Some(Outcome::Answered(_)) = exchange.poll_event() {
                // one chance in 65536, and then it has our question
                prop_assert_eq!(wire::question(&answer), wire::question(QUERY));
            }
        }
    }
}

fn begin(addrs: &[&str]) -> (Forwarder<StdRng>, Exchange) {
    let mut forwarder = Forwarder::new(StdRng::seed_from_u64(1));
    let exchange = forwarder.begin(QUERY, &resolvers(addrs), at(0)).unwrap();
    (forwarder, exchange)
}

fn resolvers(addrs: &[&str]) -> Vec<SocketAddr> {
    addrs.iter().map(|addr| addr.parse().unwrap()).collect()
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn reply(query: &[u8], flags: u16, tail: &[u8]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(tail);
    bytes
}

const QUERY: &[u8] = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x01x\x07example\0\0\x1c\0\x01";
