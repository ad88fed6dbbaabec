use hickory_proto::op::{Message, MessageType, Query, UpdateMessage as _};
use hickory_proto::rr::{Name, RData};
use mapping::Core;
use proptest::prelude::*;

use super::*;
use crate::zone::tests::{addr_of, home_with, now, nsp, reverse_v6};

#[test]
fn case_of_the_question_comes_back() {
    let (home, counters) = (home_with(&["camera"]), Counters::default());
    let query = query("CaMeRa.HoMe.ExAmPlE.", RecordType::AAAA);

    let bytes = bytes_of(handle(
        &home,
        View::Public,
        query.to_vec().unwrap(),
        &counters,
    ));

    assert_eq!(
        wire::question(&bytes).unwrap(),
        wire::question(&query.to_vec().unwrap()).unwrap()
    );
    let answer = Message::from_vec(&bytes).unwrap();
    assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
    let [record] = answer.answers.as_slice() else {
        panic!("{answer:?}")
    };
    assert!(record.name.eq_case(&query.queries[0].name));
    let expected = nsp(&home).embed(addr_of(&home, "camera"));
    assert_eq!(record.data, RData::AAAA(expected.into()));
    assert_eq!(counters.value(Counter::NoError), 1);
    assert_eq!(counters.value(Counter::FromPublic), 1);
}

#[test]
fn other_names_are_forwarded_for_the_lan_only() {
    let (home, counters) = (home_with(&[]), Counters::default());
    let query = query("www.example.net.", RecordType::A).to_vec().unwrap();

    let lan = handle(&home, View::Lan, query.clone(), &counters);
    assert!(matches!(lan, Verdict::Forward(_)), "{lan:?}");
    let public = answer_of(handle(&home, View::Public, query, &counters));
    assert_eq!(public.metadata.response_code, ResponseCode::Refused);
    assert!(!public.metadata.authoritative);
}

#[test]
fn edns_is_answered_in_kind_and_a_newer_version_with_badvers() {
    let (home, counters) = (home_with(&["camera"]), Counters::default());
    let mut query = query("camera.home.example.", RecordType::AAAA);
    assert!(
        answer_of(handle(
            &home,
            View::Public,
            query.to_vec().unwrap(),
            &counters
        ))
        .edns
        .is_none()
    );

    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    query.set_edns(edns.clone());
    let answer = answer_of(handle(
        &home,
        View::Public,
        query.to_vec().unwrap(),
        &counters,
    ));
    assert_eq!(answer.edns.unwrap().max_payload(), PAYLOAD);
    assert_eq!(answer.answers.len(), 1);

    edns.set_version(1);
    query.set_edns(edns);
    let answer = answer_of(handle(
        &home,
        View::Public,
        query.to_vec().unwrap(),
        &counters,
    ));
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert_eq!(answer.edns.unwrap().version(), 0);
    assert_eq!(counters.value(Counter::BadVers), 1);
}

#[test]
fn what_does_not_fit_is_cut_whole() {
    let (home, counters) = (home_with(&[]), Counters::default());
    let mut wide = home;
    let many = (1..100_u16)
        .map(|last| [0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into())
        .collect();
    crate::zone::tests::grant(&mut wide, mapping::Request::WanAddresses(many));
    let query = query("ns1.home.example.", RecordType::AAAA);

    let bytes = bytes_of(handle(
        &wide,
        View::Public,
        query.to_vec().unwrap(),
        &counters,
    ));

    let answer = Message::from_vec(&bytes).unwrap();
    assert!(bytes.len() <= SHORTEST_PAYLOAD && answer.metadata.truncation);
    assert!(answer.answers.is_empty());
    assert_eq!(counters.value(Counter::Truncated), 1);

    let query = query.to_vec().unwrap();
    let by_tcp = handle_from(&wide, "192.0.2.1:1024", Transport::Tcp, query, &counters);
    let by_tcp = answer_of(by_tcp);
    assert_eq!(
        (by_tcp.metadata.truncation, by_tcp.answers.len()),
        (false, 99)
    );
    assert_eq!(counters.value(Counter::Truncated), 1);
}

#[test]
fn answers_of_others_are_dropped() {
    let (home, counters) = (home_with(&[]), Counters::default());
    let mut message = query("home.example.", RecordType::SOA);
    message.metadata.message_type = MessageType::Response;

    let verdict = handle(&home, View::Public, message.to_vec().unwrap(), &counters);
    assert!(
        matches!(verdict, Verdict::Drop(DropReason::Response)),
        "{verdict:?}"
    );
    assert_eq!(counters.value(Counter::DroppedResponse), 1);

    let short = handle(&home, View::Public, vec![0; 11], &counters);
    assert!(
        matches!(short, Verdict::Drop(DropReason::Malformed(_))),
        "{short:?}"
    );
    assert_eq!(counters.value(Counter::MalformedHead), 1);
}

#[test]
fn sources_that_cannot_be_answered_are_dropped() {
    let (home, counters) = (home_with(&[]), Counters::default());
    let query = query("home.example.", RecordType::SOA).to_vec().unwrap();
    for source in [
        "192.0.2.1:0",
        "0.0.0.0:53",
        "255.255.255.255:53",
        "[ff02::1]:53",
        "[::]:53",
    ] {
        let verdict = handle_from(&home, source, Transport::Udp, query.clone(), &counters);
        assert!(
            matches!(verdict, Verdict::Drop(DropReason::Source)),
            "{source}: {verdict:?}"
        );
    }
    assert_eq!(counters.value(Counter::DroppedSource), 5);
}

#[test]
fn opcodes_classes_and_counts_that_are_not_served_are_rejected_and_counted() {
    let (home, counters) = (home_with(&[]), Counters::default());
    let soa = || query("home.example.", RecordType::SOA);
    let code = |message: &Message| {
        let verdict = handle(&home, View::Lan, message.to_vec().unwrap(), &counters);
        answer_of(verdict).metadata.response_code
    };

    let mut notify = soa();
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(code(&notify), ResponseCode::NotImp);
    let mut update = Message::new(7, MessageType::Query, OpCode::Update);
    update.add_zone(Query::query(
        Name::from_ascii("home.example.").unwrap(),
        RecordType::SOA,
    ));
    assert_eq!(code(&update), ResponseCode::Refused);
    let mut status = soa();
    status.metadata.op_code = OpCode::Status;
    assert_eq!(code(&status), ResponseCode::NotImp);
    let mut chaos = soa();
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&chaos), ResponseCode::Refused);
    let mut two = soa();
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&two), ResponseCode::FormErr);
    assert_eq!(
        code(&query("home.example.", RecordType::AXFR)),
        ResponseCode::Refused
    );
    assert_eq!(
        code(&query("home.example.", RecordType::IXFR)),
        ResponseCode::Refused
    );
    assert_eq!(
        code(&query("www.example.net.", RecordType::AXFR)),
        ResponseCode::Refused
    );

    for (counter, expected) in [
        (Counter::Notify, 1),
        (Counter::Update, 1),
        (Counter::OtherOpcode, 1),
        (Counter::Class, 1),
        (Counter::MalformedCounts, 1),
        (Counter::Transfer, 3),
    ] {
        assert_eq!(counters.value(counter), expected, "{counter:?}");
    }
}

#[test]
fn no_answer_is_five_times_its_question() {
    let (home, counters) = (home_with(&["camera"]), Counters::default());
    let reverse = reverse_v6(nsp(&home).embed(addr_of(&home, "camera")));
    let apex = reverse.get(16..).unwrap();
    let names = [
        "home.example.",
        "ns1.home.example.",
        "camera.home.example.",
        "x.home.example.",
        &reverse,
        apex,
        ".",
    ];
    for name in names {
        for kind in (0..=300).map(RecordType::from) {
            let query = query(name, kind).to_vec().unwrap();
            let length = query.len();
            let answer = bytes_of(handle(&home, View::Public, query, &counters));
            assert!(
                answer.len() < 5 * length,
                "{name} {kind}: {} to {length}",
                answer.len()
            );
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_answered_forwarded_or_dropped_and_counted(
        bytes in datagrams(),
        lan in any::<bool>(),
    ) {
        let (home, counters) = (home_with(&["camera"]), Counters::default());
        let view = if lan { View::Lan } else { View::Public };
        let head = Head::parse(&bytes);

        match handle(&home, view, bytes, &counters) {
            Verdict::Answer(answer) => {
                let answered = Head::parse(&answer).unwrap();
                prop_assert!(answered.is_response());
                prop_assert_eq!(answered.id, head.unwrap().id);
                prop_assert!(answer.len() <= usize::from(PAYLOAD));
            }
            Verdict::Drop(_) => {}
            Verdict::Forward(_) => prop_assert!(lan),
        }
        prop_assert!(counters.iter().any(|(_, _, value)| value > 0));
    }
}

/// Noise, and queries of ours with some bytes changed, which get further.
fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..300);
    let names = prop_oneof![Just("camera.home.example."), Just("a.b."), Just(".")];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let near = (names, any::<u16>(), changes).prop_map(|(name, kind, changes)| {
        let mut message = query(name, RecordType::from(kind));
        message.set_edns(Edns::new());
        let mut bytes = message.to_vec().unwrap();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes
    });
    prop_oneof![noise, near]
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn handle(home: &Core, view: View, bytes: Vec<u8>, counters: &Counters) -> Verdict {
    let received = Received {
        bytes,
        from: "192.168.64.9:5353".parse().unwrap(),
        transport: Transport::Udp,
        view,
    };
    server().handle_message(received, home.snapshot(), now(), counters)
}

fn handle_from(
    home: &Core,
    from: &str,
    transport: Transport,
    bytes: Vec<u8>,
    counters: &Counters,
) -> Verdict {
    let received = Received {
        bytes,
        from: from.parse().unwrap(),
        transport,
        view: View::Public,
    };
    server().handle_message(received, home.snapshot(), now(), counters)
}

fn server() -> Server {
    Server::new(Zone::new(std::time::Duration::from_secs(60)))
}

fn bytes_of(verdict: Verdict) -> Vec<u8> {
    match verdict {
        Verdict::Answer(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn answer_of(verdict: Verdict) -> Message {
    Message::from_vec(&bytes_of(verdict)).unwrap()
}
