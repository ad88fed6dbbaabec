use mapping::Wall;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::tsig::tests::{answer_signed, key};

#[test]
fn the_start_sends_the_delegation_and_an_authentic_answer_ends_it() {
    let mut updater = updater();
    updater.handle_addresses(&[addr(2), addr(1)], at(0));
    let sent = sent(&mut updater);

    let zone: Vec<_> = sent.queries.iter().map(ToString::to_string).collect();
    assert_eq!(zone, ["example. IN SOA"]);
    let updates: Vec<_> = sent
        .authorities
        .iter()
        .map(|record| {
            (
                record.name.to_ascii(),
                record.dns_class,
                record.ttl,
                record.record_type(),
            )
        })
        .collect();
    let expected = [
        ("home.example.", DNSClass::ANY, 0, RecordType::NS),
        ("home.example.", DNSClass::IN, 60, RecordType::NS),
        ("ns1.home.example.", DNSClass::ANY, 0, RecordType::AAAA),
        ("ns1.home.example.", DNSClass::IN, 60, RecordType::AAAA),
        ("ns1.home.example.", DNSClass::IN, 60, RecordType::AAAA),
    ];
    assert_eq!(
        updates,
        expected.map(|(name, class, ttl, kind)| (name.to_owned(), class, ttl, kind))
    );

    answer(&mut updater, &sent, ResponseCode::NoError, at(10));
    assert_eq!(updater.poll_event(), Some(Event::Updated));
    assert_eq!(
        (updater.poll_timeout(), updater.poll_transmit()),
        (None, None)
    );

    updater.handle_addresses(&[addr(1), addr(2)], at(20));
    assert_eq!(updater.poll_transmit(), None);
}

#[test]
fn silence_is_repeated_with_growing_pauses_until_it_succeeds() {
    let mut updater = updater();
    updater.handle_addresses(&[addr(1)], at(0));
    let mut pauses = Vec::new();
    let mut last = None;
    for _ in 0..12 {
        last = Some(sent(&mut updater));
        let (deadline, Timer::Answer) = updater.poll_timeout().unwrap() else {
            panic!("not waiting");
        };
        updater.handle_timeout(now(deadline));
        assert_eq!(updater.poll_event(), Some(Event::TimedOut));
        let (until, Timer::Retry) = updater.poll_timeout().unwrap() else {
            panic!("no pause")
        };
        pauses.push((until - deadline).as_secs());
        updater.handle_timeout(now(until));
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);

    let again = sent(&mut updater);
    assert_ne!(again.metadata.id, last.unwrap().metadata.id);
    let (deadline, _) = updater.poll_timeout().unwrap();
    answer(&mut updater, &again, ResponseCode::NoError, now(deadline));
    assert_eq!(updater.poll_event(), Some(Event::Updated));
}

#[test]
fn a_new_address_ends_a_pause_at_once() {
    let mut updater = updater();
    updater.handle_addresses(&[addr(1)], at(0));
    let first = sent(&mut updater);
    answer(&mut updater, &first, ResponseCode::Refused, at(1));
    assert_eq!(
        updater.poll_event(),
        Some(Event::Refused(ResponseCode::Refused))
    );
    assert_eq!(updater.poll_transmit(), None);

    updater.handle_addresses(&[addr(2)], at(2));

    assert_eq!(addresses(&sent(&mut updater)), [addr(2)]);
}

#[test]
fn an_address_that_changes_while_an_update_is_under_way_is_sent_after_it() {
    let mut updater = updater();
    updater.handle_addresses(&[addr(1)], at(0));
    let first = sent(&mut updater);
    updater.handle_addresses(&[addr(1), addr(2)], at(1));
    assert_eq!(updater.poll_transmit(), None);
    answer(&mut updater, &first, ResponseCode::NoError, at(2));

    assert_eq!(addresses(&sent(&mut updater)), [addr(1), addr(2)]);
}

#[test]
fn without_an_address_nothing_is_sent() {
    let mut updater = updater();
    updater.handle_addresses(&[], at(0));

    assert_eq!(
        (updater.poll_transmit(), updater.poll_timeout()),
        (None, None)
    );
}

#[test]
fn an_answer_that_is_not_authentic_changes_nothing() {
    let mut updater = updater();
    updater.handle_addresses(&[addr(1)], at(0));
    let sent = sent(&mut updater);
    let waiting = updater.poll_timeout();
    let mut forged = reply(&sent, ResponseCode::NoError);
    updater.handle_response(&forged.to_vec().unwrap(), at(1));
    assert_eq!(
        updater.poll_event(),
        Some(Event::Unverified(Unverified::Unsigned))
    );
    forged.metadata.id ^= 1;
    updater.handle_response(&forged.to_vec().unwrap(), at(1));
    assert_eq!(
        updater.poll_event(),
        Some(Event::Unverified(Unverified::Malformed))
    );

    assert_eq!(updater.poll_timeout(), waiting);
}

proptest! {
    #[test]
    fn arbitrary_answers_never_panic_and_never_convince(
        answers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..5),
    ) {
        let mut updater = updater();
        updater.handle_addresses(&[addr(1)], at(0));
        for bytes in answers {
            updater.handle_response(&bytes, at(1));
        }
        while let Some(event) = updater.poll_event() {
            prop_assert!(matches!(event, Event::Unverified(_)));
        }
    }
}

fn updater() -> Updater<StdRng> {
    let name = |text| Name::from_ascii(text).unwrap();
    let delegation = Delegation {
        parent: name("example."),
        child: name("home.example."),
        name_server: name("ns1.home.example."),
        ttl: Duration::from_secs(60),
        key: key(),
    };
    Updater::new(delegation, StdRng::seed_from_u64(1), at(0))
}

fn sent(updater: &mut Updater<StdRng>) -> Message {
    Message::from_vec(&updater.poll_transmit().unwrap()).unwrap()
}

fn addresses(message: &Message) -> Vec<Ipv6Addr> {
    let address = |record: &Record| match &record.data {
        RData::AAAA(addr) => Some(addr.0),
        _ => None,
    };
    message.authorities.iter().filter_map(address).collect()
}

fn answer(updater: &mut Updater<StdRng>, request: &Message, code: ResponseCode, now: Now) {
    let RData::TSIG(tsig) = &request.additionals.last().unwrap().data else {
        panic!("the update is not signed");
    };
    let bytes = answer_signed(&key(), reply(request, code), &tsig.mac, now.wall.as_secs());
    updater.handle_response(&bytes, now);
}

fn reply(request: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::new(request.metadata.id, MessageType::Response, OpCode::Update);
    reply.metadata.response_code = code;
    reply.add_queries(request.queries.clone());
    reply
}

fn addr(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

fn at(millis: u64) -> Now {
    now(Instant::from_nanos(millis * 1_000_000))
}

fn now(mono: Instant) -> Now {
    Now {
        mono,
        wall: Wall::from_secs(1_800_000_000 + mono.as_nanos() / 1_000_000_000),
    }
}
