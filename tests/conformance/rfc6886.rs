//! RFC 6886 (NAT-PMP), requirement by requirement, at machine level: the real core decides.

use home::{CAMERA, Home, NAS, TCP, UDP, map, map_response};
use mapping::{Grant, InvalidPrefix, Outcome, Refusal};
use natpmp::wire::{Response, ResultCode};
use natpmp::{Announcer, DropReason};

#[test]
fn np_1_another_version_is_unsupported() {
    let mut home = Home::new();
    home.wait(7);

    // the golden bytes of RFC 6886 §3.5: version 0, opcode 0, result 1, epoch
    assert_eq!(home.ask(CAMERA, &[1, 1, 0, 0]), [0, 0, 0, 1, 0, 0, 0, 7]);
    assert_eq!(home.ask(CAMERA, &[3, 0]), [0, 0, 0, 1, 0, 0, 0, 7]);
}

#[test]
fn np_2_external_address_is_zero_with_success_where_the_wan_has_no_ipv4() {
    let mut home = Home::new();
    home.wait(260);

    let answer = home.ask(CAMERA, &[0, 0]);

    assert_eq!(answer, [0, 128, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0]);
}

#[test]
fn np_2_the_external_address_is_the_carried_ipv4_and_its_change_is_announced() {
    let mut home = Home::new();
    home.announcements();
    home.wait(260);

    home.carry([192, 0, 2, 7]);

    // NP-10: the epoch began anew
    let answer = home.ask(CAMERA, &[0, 0]);
    assert_eq!(answer, [0, 128, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7]);
    let sent = home.announcements();
    assert_eq!(sent.len(), 10);
    assert_eq!(sent[0].1, answer);
}

#[test]
fn np_2_external_address_needs_no_prefix_and_no_lease() {
    let mut home = Home::bare();

    assert_eq!(home.ask(NAS, &[0, 0])[..4], [0, 128, 0, 0]);
}

#[test]
fn np_3_udp_and_tcp_are_opened_and_answered_with_the_same_opcode() {
    let mut home = Home::new();

    // opcode 1: UDP 5000, no suggestion, 7200 s
    let udp = home.ask(CAMERA, &[0, 1, 0, 0, 0x13, 0x88, 0, 0, 0, 0, 0x1c, 0x20]);
    let tcp = home.ask(CAMERA, &[0, 2, 0, 0, 0x1f, 0x90, 0x1f, 0x91, 0, 0, 0, 0x3c]);

    let expected = [
        0, 129, 0, 0, 0, 0, 0, 0, 0x13, 0x88, 0x13, 0x88, 0, 0, 0x1c, 0x20,
    ];
    assert_eq!(udp, expected);
    let expected = [
        0, 130, 0, 0, 0, 0, 0, 0, 0x1f, 0x90, 0x1f, 0x91, 0, 0, 0, 0x3c,
    ];
    assert_eq!(tcp, expected);
    assert_eq!(
        home.open(),
        ["camera udp 5000->5000", "camera tcp 8081->8080"]
    );
}

#[test]
fn np_3_an_unsupported_opcode_returns_the_whole_request() {
    let mut home = Home::new();

    let answer = home.ask(CAMERA, &[0, 3, 9, 9, 1, 2, 3, 4, 5, 6, 7]);

    assert_eq!(answer, [0, 131, 0, 5, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn np_3_responses_are_ignored() {
    let mut home = Home::new();

    for opcode in [128, 129, 130, 200, 255] {
        assert_eq!(
            home.ask_all(CAMERA, &[0, opcode, 0, 0]),
            Vec::<Vec<u8>>::new()
        );
        assert_eq!(
            home.ask_all(CAMERA, &[9, opcode, 0, 0]),
            Vec::<Vec<u8>>::new()
        );
    }

    assert_eq!(home.server.counters().drops(DropReason::Response), 10);
}

#[test]
fn np_3_a_datagram_that_ends_too_early_is_dropped() {
    let mut home = Home::new();

    for bytes in [
        &[][..],
        &[0],
        &[0, 1],
        &[0, 2, 0, 0, 0x1f, 0x90, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(home.ask_all(CAMERA, bytes), Vec::<Vec<u8>>::new());
    }

    assert_eq!(home.server.counters().drops(DropReason::Malformed), 4);
}

#[test]
fn np_4_the_source_address_is_the_internal_address() {
    let mut home = Home::new();

    home.ask(NAS, &map(TCP, 8080, 0, 60));

    assert_eq!(home.open(), ["nas tcp 8080->8080"]);
}

#[test]
fn np_4_a_source_outside_the_lan_gets_no_answer() {
    let mut home = Home::new();

    assert_eq!(home.ask_all([192, 0, 2, 7], &[0, 0]), Vec::<Vec<u8>>::new());
    assert_eq!(home.server.counters().drops(DropReason::Source), 1);
}

#[test]
fn np_5_only_the_asked_protocol_is_opened_and_the_companion_stays_ones_own() {
    let mut home = Home::new();

    home.ask(CAMERA, &map(TCP, 8080, 8080, 60));
    assert_eq!(home.open(), ["camera tcp 8080->8080"]);

    // ports are per server: what another client takes leaves the companion free
    home.ask(NAS, &map(UDP, 8080, 8080, 60));
    let companion = home.ask(CAMERA, &map(UDP, 8080, 8080, 60));
    assert_eq!(map_response(&companion).1.external_port, 8080);
}

#[test]
fn np_5_on_the_shared_ipv4_the_companion_port_is_reserved() {
    let mut home = Home::new();
    home.carry([192, 0, 2, 7]);
    home.ask(CAMERA, &map(TCP, 8080, 8080, 60));

    let (_, other) = map_response(&home.ask(NAS, &map(UDP, 8080, 8080, 60)));
    assert_ne!(other.external_port, 8080);
    let (_, companion) = map_response(&home.ask(CAMERA, &map(UDP, 8080, 8080, 60)));
    assert_eq!(companion.external_port, 8080);
}

#[test]
fn np_6_on_the_shared_ipv4_another_clients_port_becomes_another_one() {
    let mut home = Home::new();
    home.carry([192, 0, 2, 7]);
    home.ask(CAMERA, &map(TCP, 8080, 8080, 60));

    let (result, other) = map_response(&home.ask(NAS, &map(TCP, 8080, 8080, 60)));

    assert_eq!(result, ResultCode::Success);
    assert_ne!(other.external_port, 8080);
}

#[test]
fn np_6_a_port_that_is_taken_becomes_another_one() {
    let mut home = Home::new();
    home.ask(CAMERA, &map(TCP, 8080, 8080, 60));

    let other = home.ask(CAMERA, &map(TCP, 8090, 8080, 60));

    let (result, other) = map_response(&other);
    assert_eq!(result, ResultCode::Success);
    assert_eq!((other.internal_port, other.external_port), (8090, 8090));
}

#[test]
fn np_6_a_mapping_that_exists_is_returned_whatever_is_suggested() {
    let mut home = Home::new();
    home.ask(CAMERA, &map(TCP, 8080, 8081, 60));

    let again = home.ask(CAMERA, &map(TCP, 8080, 9000, 600));

    let (_, again) = map_response(&again);
    assert_eq!((again.external_port, again.lifetime), (8081, 600));
    assert_eq!(home.open().len(), 1);
}

#[test]
fn np_7_the_lifetime_is_never_longer_than_asked() {
    let mut home = Home::new();

    let short = home.ask(CAMERA, &map(TCP, 8080, 0, 1));
    let long = home.ask(CAMERA, &map(TCP, 8081, 0, u32::MAX));

    assert_eq!(map_response(&short).1.lifetime, 1);
    assert_eq!(map_response(&long).1.lifetime, 7 * 24 * 3600);
}

#[test]
fn np_7_a_static_mapping_is_given_for_the_time_asked() {
    let mut home = Home::new();
    home.open_static(8080);

    let answer = home.ask(CAMERA, &map(TCP, 8080, 0, 7200));

    let (result, answer) = map_response(&answer);
    assert_eq!((result, answer.lifetime), (ResultCode::Success, 7200));
}

#[test]
fn np_8_deletion_answers_with_zeroes_also_when_there_is_nothing() {
    let mut home = Home::new();
    home.ask(CAMERA, &map(TCP, 8080, 8081, 60));

    for _ in 0..2 {
        // the external port of a deletion is ignored
        let answer = home.ask(CAMERA, &map(TCP, 8080, 4444, 0));
        let expected = [0, 130, 0, 0, 0, 0, 0, 0, 0x1f, 0x90, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer, expected);
        assert!(home.open().is_empty());
    }
}

#[test]
fn np_8_deleting_all_deletes_one_protocol_of_one_client() {
    let mut home = Home::new();
    home.ask(CAMERA, &map(TCP, 8080, 0, 60));
    home.ask(CAMERA, &map(TCP, 8081, 0, 60));
    home.ask(CAMERA, &map(UDP, 8080, 0, 60));
    home.ask(NAS, &map(TCP, 8080, 0, 60));

    let answer = home.ask(CAMERA, &map(TCP, 0, 0, 0));

    assert_eq!(answer, [0, 130, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(home.open(), ["camera udp 8080->8080", "nas tcp 8080->8080"]);
}

#[test]
fn np_8_deleting_all_deletes_what_it_may_and_tells_of_the_rest() {
    let mut home = Home::new();
    home.open_static(8443);
    home.ask(CAMERA, &map(TCP, 8080, 0, 60));

    let answer = home.ask(CAMERA, &map(TCP, 0, 0, 0));

    assert_eq!(answer, [0, 130, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(home.open(), ["camera tcp 8443->8443"]);
}

#[test]
fn np_8_deleting_a_static_mapping_is_refused() {
    let mut home = Home::new();
    home.open_static(8443);

    let answer = home.ask(CAMERA, &map(TCP, 8443, 0, 0));

    let (result, answer) = map_response(&answer);
    assert_eq!(result, ResultCode::Refused);
    assert_eq!(
        (answer.internal_port, answer.external_port, answer.lifetime),
        (8443, 0, 0)
    );
}

#[test]
fn np_10_the_epoch_counts_seconds_in_every_answer() {
    let mut home = Home::new();
    let epoch = |answer: &[u8]| answer[4..8].to_vec();

    home.wait(3);
    assert_eq!(epoch(&home.ask(CAMERA, &[0, 0])), [0, 0, 0, 3]);
    home.wait(1000);
    assert_eq!(
        epoch(&home.ask(CAMERA, &map(TCP, 8080, 0, 60))),
        [0, 0, 3, 0xeb]
    );
    assert_eq!(
        epoch(&home.ask(CAMERA, &map(TCP, 0, 0, 60))),
        [0, 0, 3, 0xeb]
    );
    assert_eq!(epoch(&home.ask(CAMERA, &[5, 0])), [0, 0, 3, 0xeb]);
}

#[test]
fn np_11_a_start_is_announced_ten_times_with_doubling_gaps() {
    let mut home = Home::new();

    let sent = home.announcements();

    assert_eq!(sent.len(), 10);
    let gaps: Vec<u128> = sent
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0).as_millis())
        .collect();
    assert_eq!(
        gaps,
        [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000]
    );
    assert_eq!(sent[0].1, [0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let (at, last) = &sent[9];
    assert_eq!(*at, Announcer::SERIES);
    let Ok(Response::ExternalAddress { epoch, .. }) = Response::parse(last) else {
        panic!("not an address response: {last:?}");
    };
    assert_eq!(u64::from(epoch), Announcer::SERIES.as_secs());
}

#[test]
fn np_11_a_new_ipv6_prefix_is_not_announced() {
    let mut home = Home::new();
    home.announcements();

    home.renumber("2001:db8:65::/56");

    assert_eq!(home.announcements().len(), 0);
    assert_ne!(home.ask(CAMERA, &[0, 0])[4..8], [0, 0, 0, 0]);
}

#[test]
fn np_14_the_end_of_the_lease_deletes_the_mappings() {
    let mut home = Home::new();
    home.ask(CAMERA, &map(TCP, 8080, 0, 36_000));

    home.wait(3601);

    assert!(home.open().is_empty());
    let (result, _) = map_response(&home.ask(CAMERA, &map(TCP, 8080, 0, 60)));
    assert_eq!(result, ResultCode::Refused);
}

#[test]
fn s3_1_a_retransmission_that_overtakes_the_answer_is_answered_once() {
    let mut home = Home::new();
    let request = map(TCP, 8080, 0, 60);

    home.hear(CAMERA, &request);
    home.hear(CAMERA, &request);

    assert_eq!(home.answers().len(), 1);
    assert_eq!(home.server.counters().repeats, 1);
    assert_eq!(home.ask_all(CAMERA, &request).len(), 1);
}

#[test]
fn s3_5_port_zero_cannot_be_opened() {
    let mut home = Home::new();

    let (result, answer) = map_response(&home.ask(CAMERA, &map(TCP, 0, 77, 60)));

    assert_eq!(result, ResultCode::Refused);
    assert_eq!(
        (answer.internal_port, answer.external_port, answer.lifetime),
        (0, 0, 0)
    );
}

#[test]
fn s3_5_every_refusal_has_its_code() {
    let table = [
        (Refusal::AddressNotFree, 4),
        (Refusal::ExternalPortTaken, 4),
        (Refusal::ForeignMapping { remaining: None }, 2),
        (Refusal::NameNotFree, 4),
        (Refusal::NoPrefix, 3),
        (Refusal::NoLease, 2),
        (Refusal::NotCarried, 4),
        (Refusal::NotFound, 4),
        (Refusal::PortDenied, 2),
        (Refusal::PrefixInvalid(InvalidPrefix::Length), 3),
        (Refusal::QuotaExceeded, 4),
        (Refusal::StaticMapping, 2),
        (Refusal::TooManyFilters, 4),
        (Refusal::Unavailable, 4),
        (Refusal::Waiting, 2),
    ];
    let mut home = Home::new();
    println!("{:<45} NAT-PMP", "refusal");
    for (refusal, code) in table {
        let answer = home.ask_refusing(CAMERA, &map(TCP, 8080, 8080, 60), refusal);
        println!("{:<45} {}", refusal.to_string(), answer[3]);
        // the internal port is told, external port and lifetime are zero
        let expected = [0, 130, 0, code, 0, 0, 0, 0, 0x1f, 0x90, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer, expected, "{refusal}");
    }
}

#[test]
fn s3_5_a_grant_that_fits_no_question_is_no_success() {
    let mut home = Home::new();

    let answer = home.ask_answering(
        CAMERA,
        &map(TCP, 8080, 8080, 60),
        &Outcome::Granted(Grant::Done),
    );

    assert_eq!(map_response(&answer).0, ResultCode::OutOfResources);
}

#[cfg(test)]
mod home {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use mapping::{
        BootId, Carriers, Core, External, ExternalPort, Instant, InternalPort, LeaseRequest, Mac,
        MapRequest, Now, Outcome, Policy, PrefixRequest, Protocol, Refusal, Request, Requester,
        Site, Subject, Wall,
    };
    use natpmp::wire::{Map, Response, ResultCode};
    use natpmp::{Caller, Limits, RequestToken, Server};

    pub const CAMERA: [u8; 4] = [192, 168, 64, 20];
    pub const NAS: [u8; 4] = [192, 168, 64, 21];
    pub const UDP: u8 = 1;
    pub const TCP: u8 = 2;

    /// A gateway with a camera and a NAS: the machine, and the real core behind it.
    pub struct Home {
        pub core: Core,
        pub server: Server,
        pub now: Now,
        waiting: Vec<(RequestToken, Request)>,
    }

    impl Home {
        pub fn new() -> Self {
            let mut home = Self::bare();
            home.renumber("2001:db8:64::/56");
            for (addr, name) in [(CAMERA, "camera"), (NAS, "nas")] {
                home.decide(&Request::Lease(LeaseRequest {
                    mac: mac(addr),
                    addr: addr.into(),
                    lifetime: Duration::from_secs(3600),
                    declared_name: Some(name.to_owned()),
                }));
            }
            home
        }

        pub fn bare() -> Self {
            let now = Now {
                mono: Instant::from_nanos(5_000_000_000),
                wall: Wall::from_secs(1_800_000_000),
            };
            let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned());
            let core = Core::new(
                site.unwrap(),
                Policy::default(),
                [7; 16],
                BootId([1; 16]),
                now,
            );
            Self {
                core,
                server: Server::new(Limits::default()),
                now,
                waiting: Vec::new(),
            }
        }

        pub fn wait(&mut self, secs: u64) {
            self.now.mono += Duration::from_secs(secs);
            self.now.wall = self.now.wall + Duration::from_secs(secs);
            self.core.handle_timeout(self.now);
            self.core.finish(self.now);
        }

        pub fn renumber(&mut self, delegated: &str) {
            self.decide(&Request::Prefix(PrefixRequest {
                delegated: delegated.parse().unwrap(),
                nsp: None,
                old_valid: Duration::from_secs(600),
            }));
            let newest = self.core.snapshot().to_prefer().unwrap().id;
            self.decide(&Request::Prefer(newest));
        }

        pub fn open_static(&mut self, port: u16) {
            let outcome = self.decide(&Request::Map(MapRequest {
                subject: Subject::Admin(mac(CAMERA)),
                requester: Requester::Cli,
                protocol: Protocol::Tcp,
                internal_port: InternalPort::new(port).unwrap(),
                external: External::Exact(ExternalPort::new(port).unwrap()),
                lifetime: None,
                nonce: None,
                via: mapping::Via::Both,
                peer: false,
                filters: mapping::FilterChange::default(),
                description: None,
            }));
            assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
        }

        pub fn hear(&mut self, source: [u8; 4], bytes: &[u8]) {
            let caller = Caller {
                source: (source, 50_000).into(),
                local: [192, 168, 64, 1].into(),
                mac: None,
                on_link: false,
            };
            self.server
                .handle_datagram(bytes, caller, self.core.snapshot(), self.now);
            while let Some(request) = self.server.poll_request() {
                self.waiting.push(request);
            }
        }

        /// Lets the core decide what waits, and returns what is sent.
        pub fn answers(&mut self) -> Vec<Vec<u8>> {
            for (token, request) in std::mem::take(&mut self.waiting) {
                let outcome = self.decide(&request);
                let snapshot = self.core.snapshot();
                self.server
                    .handle_outcome(token, &outcome, snapshot, self.now);
            }
            self.sent()
        }

        pub fn ask_all(&mut self, source: [u8; 4], bytes: &[u8]) -> Vec<Vec<u8>> {
            self.hear(source, bytes);
            self.answers()
        }

        #[track_caller]
        pub fn ask(&mut self, source: [u8; 4], bytes: &[u8]) -> Vec<u8> {
            let mut answers = self.ask_all(source, bytes);
            assert_eq!(answers.len(), 1, "{bytes:?}");
            answers.remove(0)
        }

        #[track_caller]
        pub fn ask_answering(
            &mut self,
            source: [u8; 4],
            bytes: &[u8],
            outcome: &Outcome,
        ) -> Vec<u8> {
            self.hear(source, bytes);
            let (token, _) = self.waiting.pop().unwrap();
            self.server
                .handle_outcome(token, outcome, self.core.snapshot(), self.now);
            self.sent().remove(0)
        }

        #[track_caller]
        pub fn ask_refusing(&mut self, source: [u8; 4], bytes: &[u8], refusal: Refusal) -> Vec<u8> {
            self.ask_answering(source, bytes, &Outcome::Refused(refusal))
        }

        /// Shows the snapshot and runs until nothing is due: what was announced, and when.
        pub fn announcements(&mut self) -> Vec<(Duration, Vec<u8>)> {
            let start = self.now.mono;
            let mut sent = Vec::new();
            self.server.handle_snapshot(self.core.snapshot(), self.now);
            loop {
                let at = self.now.mono - start;
                sent.extend(self.sent().into_iter().map(|bytes| (at, bytes)));
                let Some((due, _)) = self.server.poll_timeout() else {
                    return sent;
                };
                self.now.mono = due;
                self.server.handle_timeout(self.core.snapshot(), self.now);
            }
        }

        /// The WAN gets an IPv4 address, and forwards from it are carried.
        pub fn carry(&mut self, ipv4: [u8; 4]) {
            let carriers = Carriers {
                ipv4: Some(ipv4.into()),
                pinholes: false,
            };
            self.decide(&Request::Carriers(carriers));
        }

        /// What is open: who, protocol, external and internal port.
        pub fn open(&self) -> Vec<String> {
            let snapshot = self.core.snapshot();
            let line = |mapping: &mapping::Mapping| {
                let host = snapshot.host(mapping.host).unwrap();
                format!(
                    "{} {} {}->{}",
                    host.name, mapping.protocol, mapping.external_port, mapping.internal_port
                )
            };
            snapshot.mappings().map(|mapping| line(mapping)).collect()
        }

        fn decide(&mut self, request: &Request) -> Outcome {
            let (outcome, _) = self.core.handle_request(request, self.now);
            self.core.finish(self.now);
            outcome
        }

        fn sent(&mut self) -> Vec<Vec<u8>> {
            std::iter::from_fn(|| self.server.poll_transmit())
                .map(|transmit| transmit.bytes)
                .collect()
        }
    }

    pub fn map(opcode: u8, internal: u16, external: u16, lifetime: u32) -> Vec<u8> {
        let mut bytes = vec![0, opcode, 0, 0];
        bytes.extend(internal.to_be_bytes());
        bytes.extend(external.to_be_bytes());
        bytes.extend(lifetime.to_be_bytes());
        bytes
    }

    #[track_caller]
    pub fn map_response(bytes: &[u8]) -> (ResultCode, Map) {
        match Response::parse(bytes) {
            Ok(Response::Map { result, map, .. }) => (result, map),
            other => panic!("not a mapping response: {other:?}"),
        }
    }

    fn mac(addr: [u8; 4]) -> Mac {
        let [a, b, c, d] = Ipv4Addr::from(addr).octets();
        Mac([2, 0, a, b, c, d])
    }
}
