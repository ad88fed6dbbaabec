//! The requirements D-* of DNS that are built, each by its id.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use dns::admission::{Admission, MOST, MOST_OF_SOURCE, NotAdmitted};
use dns::connection::{Closed, Connection, Timer};
use dns::counters::{Counter, Counters};
use dns::server::{PAYLOAD, Received, Server, Verdict};
use dns::tsig::{Key, ParseKeyError, Unverified};
use dns::wire::Transport;
use dns::zone::{View, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use mapping::{
    BootId, Core, Grant, Instant, LeaseRequest, Mac, Now, Outcome, Policy, PrefixRequest, Request,
    Site, Wall,
};

#[test]
fn d_a1_answers_from_the_zone_are_authoritative() {
    let home = Home::new();
    let answer = home.ask(View::Public, "camera.home.example.", RecordType::AAAA);

    assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert_eq!(addresses(&answer), [home.embedded()]);
}

#[test]
fn d_a1_missing_name_is_nxdomain_with_soa() {
    let answer = Home::new().ask(View::Public, "none.home.example.", RecordType::AAAA);

    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    negative(&answer);
}

#[test]
fn d_a1_missing_type_is_nodata_with_soa() {
    let answer = Home::new().ask(View::Public, "camera.home.example.", RecordType::MX);

    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    negative(&answer);
}

#[test]
fn d_a1_empty_non_terminal_is_nodata() {
    let home = Home::new();
    let pointer = reverse(home.embedded());
    let answer = home.ask(View::Public, pointer.get(4..).unwrap(), RecordType::PTR);

    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    negative(&answer);
}

#[test]
fn d_a1_wildcard_label_is_an_ordinary_missing_name() {
    let answer = Home::new().ask(View::Public, "*.home.example.", RecordType::AAAA);

    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn d_a1_unknown_type_is_nodata_and_not_an_error() {
    let answer = Home::new().ask(
        View::Public,
        "camera.home.example.",
        RecordType::from(65280),
    );

    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    negative(&answer);
}

#[test]
fn d_a1_any_is_minimal() {
    let answer = Home::new().ask(View::Lan, "camera.home.example.", RecordType::ANY);

    assert_eq!(answer.answers.len(), 1);
}

#[test]
fn d_a1_case_of_the_question_is_echoed() {
    let home = Home::new();
    let query = query("cAmErA.hOmE.example.", RecordType::AAAA);
    let answer = home.handle(View::Public, &query);

    assert!(answer.queries[0].name.eq_case(&query.queries[0].name));
    assert_eq!(addresses(&answer), [home.embedded()]);
}

#[test]
fn d_a1_edns_version_above_zero_is_badvers() {
    let mut query = query("home.example.", RecordType::SOA);
    let mut edns = Edns::new();
    edns.set_version(1);
    query.set_edns(edns);
    let answer = Home::new().handle(View::Public, &query);

    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert!(answer.answers.is_empty() && answer.edns.is_some());
}

#[test]
fn d_a1_edns_payload_is_capped() {
    let mut query = query("home.example.", RecordType::SOA);
    let mut edns = Edns::new();
    edns.set_max_payload(65_535);
    query.set_edns(edns);
    let answer = Home::new().handle(View::Public, &query);

    assert_eq!(answer.edns.unwrap().max_payload(), PAYLOAD);
}

#[test]
fn d_a1_answer_without_edns_has_no_opt() {
    let answer = Home::new().ask(View::Public, "home.example.", RecordType::SOA);

    assert!(answer.edns.is_none());
}

#[test]
fn d_a1_pipelined_queries_are_answered_in_any_order() {
    let mut connection = Connection::new(now().mono);
    connection.handle_bytes(b"\0\x05first\0\x06second");

    assert_eq!(connection.poll_query().unwrap(), b"first");
    assert_eq!(connection.poll_query().unwrap(), b"second");
    connection.handle_answer(b"to second", now().mono);
    assert_eq!(connection.poll_transmit().unwrap(), b"\0\x09to second");
}

#[test]
fn d_a1_part_of_a_query_does_not_reset_the_idle_timeout() {
    let mut connection = Connection::new(now().mono);
    let (due, timer) = connection.poll_timeout().unwrap();
    assert_eq!(timer, Timer::Idle);

    connection.handle_bytes(b"\0\x05fir");
    assert_eq!(connection.poll_timeout(), Some((due, Timer::Idle)));
    connection.handle_timeout(due);
    assert_eq!(connection.poll_event(), Some(Closed::Slow));
}

#[test]
fn d_a1_answer_by_tcp_is_not_cut_to_the_payload_of_udp() {
    let mut home = Home::new();
    let many = (1..100_u16)
        .map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
        .collect();
    home.grant(Request::WanAddresses(many));
    let query = query("ns1.home.example.", RecordType::AAAA);

    assert!(home.handle(View::Public, &query).metadata.truncation);
    let answer = home.handle_by(Transport::Tcp, View::Public, &query);
    assert!(!answer.metadata.truncation);
    assert_eq!(answer.answers.len(), 99);
}

#[test]
fn d_a1_other_classes_are_refused() {
    let mut query = query("version.bind.", RecordType::TXT);
    query.queries[0].set_query_class(DNSClass::CH);
    let home = Home::new();

    assert_eq!(
        home.handle(View::Lan, &query).metadata.response_code,
        ResponseCode::Refused
    );
    assert_eq!(home.counters.value(Counter::Class), 1);
}

#[test]
fn d_a1_ttl_is_at_most_half_of_the_prefixs_remaining_life() {
    let mut home = Home::new();
    home.renumber("2001:db8:65::/56", Duration::from_secs(40));
    let answer = home.ask(View::Public, "camera.home.example.", RecordType::AAAA);

    assert_eq!(answer.answers[0].ttl, 20);
}

#[test]
fn t_14_nobody_takes_all_connections() {
    let mut admission = Admission::default();
    let host = |network: usize, host: usize| format!("2001:db8:0:{network:x}::{host:x}");
    let mut admit = |from: String| admission.admit(from.parse().unwrap(), now().mono);
    for index in 0..MOST_OF_SOURCE {
        admit(host(1, index)).unwrap();
    }

    assert_eq!(admit(host(1, 0xffff)), Err(NotAdmitted::Source));
    for index in MOST_OF_SOURCE..MOST {
        assert_eq!(admit(host(index, 1)).unwrap().evicted, None);
    }
    assert!(admit(host(MOST, 1)).unwrap().evicted.is_some());
    assert_eq!(admission.held(), MOST);
}

#[test]
fn d_p1_private_address_is_for_the_lan_only() {
    let home = Home::new();
    let private = |view| {
        home.ask(view, "camera.home.example.", RecordType::A)
            .answers
    };

    assert!(private(View::Public).is_empty());
    assert_eq!(private(View::Lan)[0].data, RData::A(home.camera.into()));
    let [a, b, c, d] = home.camera.octets();
    let pointer = format!("{d}.{c}.{b}.{a}.in-addr.arpa.");
    let public = home.ask(View::Public, &pointer, RecordType::PTR);
    assert_eq!(public.metadata.response_code, ResponseCode::Refused);
    assert_eq!(
        home.ask(View::Lan, &pointer, RecordType::PTR).answers.len(),
        1
    );
}

#[test]
fn d_p1_reverse_of_the_nsp_is_public() {
    let home = Home::new();
    let answer = home.ask(View::Public, &reverse(home.embedded()), RecordType::PTR);

    assert_eq!(answer.answers[0].data.to_string(), "camera.home.example.");
}

#[test]
fn d_a1_no_recursion_outside_the_lan() {
    let home = Home::new();
    let answer = home.ask(View::Public, "www.example.net.", RecordType::A);

    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn x_a7_prefix_is_not_told_to_who_looks_for_a_way_to_the_ipv4_internet() {
    let home = Home::new();
    let ipv4only = query("ipv4only.arpa.", RecordType::AAAA);

    let public = home.handle(View::Public, &ipv4only);
    assert_eq!(public.metadata.response_code, ResponseCode::Refused);
    let lan = home.verdict_on(Transport::Udp, View::Lan, &ipv4only);
    assert!(matches!(lan, Verdict::Forward(_)), "{lan:?}");
}

#[test]
fn d_x1_transfer_is_refused() {
    let home = Home::new();
    for view in [View::Lan, View::Public] {
        let answer = home.ask(view, "home.example.", RecordType::AXFR);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    }
    assert_eq!(home.counters.value(Counter::Transfer), 2);
}

#[test]
fn d_x2_incremental_transfer_is_refused() {
    let mut query = query("home.example.", RecordType::IXFR);
    let soa = Home::new().ask(View::Public, "home.example.", RecordType::SOA);
    query.add_authority(soa.answers[0].clone());
    let answer = Home::new().handle(View::Public, &query);

    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn d_u5_update_is_refused_by_policy() {
    let home = Home::new();
    let mut update = query("home.example.", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    let data = RData::AAAA("2001:db8::1".parse::<Ipv6Addr>().unwrap().into());
    let name = Name::from_ascii("camera.home.example.").unwrap();
    update.add_authority(Record::from_rdata(name, 60, data));
    let answer = home.handle(View::Lan, &update);

    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    assert_eq!(answer.metadata.op_code, OpCode::Update);
    assert_eq!(home.counters.value(Counter::Update), 1);
}

#[test]
fn d_n1_notify_is_not_implemented() {
    let home = Home::new();
    let mut notify = query("home.example.", RecordType::SOA);
    notify.metadata.op_code = OpCode::Notify;

    assert_eq!(
        home.handle(View::Lan, &notify).metadata.response_code,
        ResponseCode::NotImp
    );
    assert_eq!(home.counters.value(Counter::Notify), 1);
}

#[test]
fn d_u4_serial_goes_forward_with_every_change_of_the_zone() {
    let mut home = Home::new();
    let before = home.serial();
    home.renumber("2001:db8:65::/56", Duration::from_secs(40));
    let unchanged = home.serial();
    home.prefer();

    assert_eq!(unchanged, before);
    assert_eq!(home.serial(), before + 1);
}

#[test]
fn d_t1_d_t2_request_ends_in_a_tsig_of_hmac_sha256() {
    let signed = key()
        .sign(query("example.", RecordType::SOA), TIME)
        .unwrap();
    let message = Message::from_vec(&signed.bytes).unwrap();
    let last = message.additionals.last().unwrap();
    let RData::TSIG(tsig) = &last.data else {
        panic!("{last:?}")
    };

    assert_eq!((last.dns_class, last.ttl), (DNSClass::ANY, 0));
    assert_eq!(tsig.algorithm, TsigAlgorithm::HmacSha256);
    assert_eq!(
        (tsig.time, tsig.fudge, tsig.oid, tsig.mac.len()),
        (TIME, 300, 0x1234, 32)
    );
    assert_eq!(tsig.mac, signed.mac);
}

#[test]
fn d_t1_answer_that_is_not_authentic_is_not_believed() {
    let signed = key()
        .sign(query("example.", RecordType::SOA), TIME)
        .unwrap();
    let mut plain = query("example.", RecordType::SOA);
    plain.metadata.message_type = MessageType::Response;
    let plain = plain.to_vec().unwrap();

    assert_eq!(
        key().verify(&plain, &signed.mac, TIME),
        Err(Unverified::Unsigned)
    );
    // a request of ours, sent back, does not cover the request's MAC
    assert_eq!(
        key().verify(&signed.bytes, &signed.mac, TIME),
        Err(Unverified::BadSignature)
    );
}

#[test]
fn d_t2_other_algorithms_are_refused() {
    for algorithm in ["hmac-md5.sig-alg.reg.int", "hmac-sha1", "none"] {
        let text = format!("key k {{ algorithm {algorithm}; secret \"AQ==\"; }};");
        assert!(
            matches!(Key::parse(&text), Err(ParseKeyError::Algorithm(_))),
            "{algorithm}"
        );
    }
}

struct Home {
    core: Core,
    camera: Ipv4Addr,
    newest: mapping::GenerationId,
    counters: Counters,
}

impl Home {
    fn new() -> Self {
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
        let core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now());
        let (camera, newest) = (Ipv4Addr::UNSPECIFIED, mapping::GenerationId(0));
        let mut home = Self {
            core,
            camera,
            newest,
            counters: Counters::default(),
        };
        home.renumber("2001:db8:64::/56", Duration::ZERO);
        home.prefer();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let addr = home
            .core
            .snapshot()
            .lease_candidate(mac, |_| false)
            .unwrap();
        let lifetime = Duration::from_secs(3600);
        let declared_name = Some("camera".to_owned());
        home.grant(Request::Lease(LeaseRequest {
            mac,
            addr,
            lifetime,
            declared_name,
        }));
        home.camera = addr;
        home
    }

    fn renumber(&mut self, delegated: &str, old_valid: Duration) {
        let delegated = delegated.parse().unwrap();
        let request = PrefixRequest {
            delegated,
            nsp: None,
            old_valid,
        };
        let Grant::Prefixed(generation) = self.grant(Request::Prefix(request)) else {
            panic!("no generation");
        };
        self.newest = generation.id;
    }

    fn prefer(&mut self) {
        self.grant(Request::Prefer(self.newest));
    }

    fn grant(&mut self, request: Request) -> Grant {
        let (outcome, _) = self.core.handle_request(&request, now());
        self.core.finish(now());
        match outcome {
            Outcome::Granted(grant) => grant,
            Outcome::Refused(refusal) => panic!("{request:?}: {refusal}"),
        }
    }

    fn embedded(&self) -> Ipv6Addr {
        self.core
            .snapshot()
            .preferred()
            .unwrap()
            .nsp
            .embed(self.camera)
    }

    fn serial(&self) -> u32 {
        let answer = self.ask(View::Public, "home.example.", RecordType::SOA);
        match &answer.answers[0].data {
            RData::SOA(soa) => soa.serial,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&self, view: View, name: &str, kind: RecordType) -> Message {
        self.handle(view, &query(name, kind))
    }

    fn handle(&self, view: View, query: &Message) -> Message {
        self.handle_by(Transport::Udp, view, query)
    }

    fn handle_by(&self, transport: Transport, view: View, query: &Message) -> Message {
        match self.verdict_on(transport, view, query) {
            Verdict::Answer(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn verdict_on(&self, transport: Transport, view: View, query: &Message) -> Verdict {
        let server = Server::new(Zone::new(Duration::from_secs(60)));
        let bytes = query.to_vec().unwrap();
        let received = Received {
            bytes,
            from: "192.0.2.53:5353".parse().unwrap(),
            transport,
            view,
        };
        server.handle_message(received, self.core.snapshot(), now(), &self.counters)
    }
}

fn key() -> Key {
    Key::parse("key \"portico\" { algorithm hmac-sha256; secret \"AQIDBAUGBwg=\"; };").unwrap()
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// A negative answer has the SOA, whose TTL is not above its minimum (RFC 2308 §3).
fn negative(answer: &Message) {
    assert!(answer.answers.is_empty() && answer.metadata.authoritative);
    let [soa] = answer.authorities.as_slice() else {
        panic!("{answer:?}")
    };
    let RData::SOA(data) = &soa.data else {
        panic!("{soa:?}")
    };
    assert_eq!((soa.ttl, data.minimum), (60, 60));
}

fn addresses(answer: &Message) -> Vec<Ipv6Addr> {
    let address = |record: &Record| match &record.data {
        RData::AAAA(addr) => Some(addr.0),
        _ => None,
    };
    answer.answers.iter().filter_map(address).collect()
}

fn reverse(addr: Ipv6Addr) -> String {
    let digits: Vec<_> = format!("{:032x}", u128::from(addr)).chars().rev().collect();
    digits
        .iter()
        .map(|digit| format!("{digit}."))
        .collect::<String>()
        + "ip6.arpa."
}

fn now() -> Now {
    Now {
        mono: Instant::from_nanos(1_000_000_000),
        wall: Wall::from_secs(1_800_000_000),
    }
}

const TIME: u64 = 1_800_000_000;
