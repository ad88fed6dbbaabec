//! RFC 6886 (NAT-PMP), requirement by requirement, at machine level: the real core decides.
#![expect(clippy::panic, reason = "a helper of tests")]

use std::time::Duration;

use home::{CAMERA, Home, NAS};
use mapping::{Carriers, Grant, InvalidPrefix, Outcome, Policy, Refusal, Request};
use natpmp::wire::{Map, Response, ResultCode};
use natpmp::{Announcer, DropReason};
use pcp::Dialects;

#[test]
fn np_1_another_version_is_unsupported() {
    let mut home = home();
    home.wait(7);

    // the golden bytes of RFC 6886 §3.5: version 0, opcode 0, result 1, epoch
    assert_eq!(home.ask(CAMERA, &[1, 1, 0, 0]), [0, 0, 0, 1, 0, 0, 0, 7]);
    assert_eq!(home.ask(CAMERA, &[3, 0]), [0, 0, 0, 1, 0, 0, 0, 7]);
}

#[test]
fn np_2_external_address_is_zero_with_success_where_the_wan_has_no_ipv4() {
    let mut home = home();
    home.wait(260);

    let answer = home.ask(CAMERA, &[0, 0]);

    assert_eq!(answer, [0, 128, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0]);
}

#[test]
fn np_2_the_external_address_is_the_carried_ipv4_and_its_change_is_announced() {
    let mut home = home();
    home.announcements();
    home.wait(260);

    carry(&mut home, [192, 0, 2, 7]);

    // NP-10: the epoch began anew
    let answer = home.ask(CAMERA, &[0, 0]);
    assert_eq!(answer, [0, 128, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7]);
    let sent = home.announcements();
    assert_eq!(sent.len(), 10);
    assert_eq!(sent[0].1, answer);
}

#[test]
fn np_2_external_address_needs_no_prefix_and_no_lease() {
    let mut home = Home::without_prefix();

    let stranger = [192, 168, 64, 99];
    assert_eq!(home.ask(stranger, &[0, 0])[..4], [0, 128, 0, 0]);
}

#[test]
fn np_3_udp_and_tcp_are_opened_and_answered_with_the_same_opcode() {
    let mut home = home();

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
        [
            "camera udp 5000->5000 nat-pmp",
            "camera tcp 8081->8080 nat-pmp"
        ]
    );
}

#[test]
fn np_3_an_unsupported_opcode_returns_the_whole_request() {
    let mut home = home();

    let answer = home.ask(CAMERA, &[0, 3, 9, 9, 1, 2, 3, 4, 5, 6, 7]);

    assert_eq!(answer, [0, 131, 0, 5, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn np_3_responses_are_ignored() {
    let mut home = home();

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

    assert_eq!(
        home.server.natpmp_counters().drops(DropReason::Response),
        10
    );
}

#[test]
fn np_3_a_datagram_that_ends_too_early_is_dropped() {
    let mut home = home();

    for bytes in [
        &[][..],
        &[0],
        &[0, 1],
        &[0, 2, 0, 0, 0x1f, 0x90, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(home.ask_all(CAMERA, bytes), Vec::<Vec<u8>>::new());
    }

    assert_eq!(
        home.server.natpmp_counters().drops(DropReason::Malformed),
        4
    );
}

#[test]
fn np_4_the_source_address_is_the_internal_address() {
    let mut home = home();

    home.ask(NAS, &map(TCP, 8080, 0, 60));

    assert_eq!(home.open(), ["nas tcp 8080->8080 nat-pmp"]);
}

#[test]
fn np_4_a_source_outside_the_lan_gets_no_answer() {
    let mut home = home();

    assert_eq!(home.ask_all([192, 0, 2, 7], &[0, 0]), Vec::<Vec<u8>>::new());
    assert_eq!(home.server.natpmp_counters().drops(DropReason::Source), 1);
}

#[test]
fn np_5_only_the_asked_protocol_is_opened_and_the_companion_stays_ones_own() {
    let mut home = home();

    home.ask(CAMERA, &map(TCP, 8080, 8080, 60));
    assert_eq!(home.open(), ["camera tcp 8080->8080 nat-pmp"]);

    // ports are per server: what another client takes leaves the companion free
    home.ask(NAS, &map(UDP, 8080, 8080, 60));
    let companion = home.ask(CAMERA, &map(UDP, 8080, 8080, 60));
    assert_eq!(map_response(&companion).1.external_port, 8080);
}

#[test]
fn np_5_on_the_shared_ipv4_the_companion_port_is_reserved() {
    let mut home = home();
    carry(&mut home, [192, 0, 2, 7]);
    home.ask(CAMERA, &map(TCP, 8080, 8080, 60));

    let (_, other) = map_response(&home.ask(NAS, &map(UDP, 8080, 8080, 60)));
    assert_ne!(other.external_port, 8080);
    let (_, companion) = map_response(&home.ask(CAMERA, &map(UDP, 8080, 8080, 60)));
    assert_eq!(companion.external_port, 8080);
}

#[test]
fn np_6_on_the_shared_ipv4_another_clients_port_becomes_another_one() {
    let mut home = home();
    carry(&mut home, [192, 0, 2, 7]);
    home.ask(CAMERA, &map(TCP, 8080, 8080, 60));

    let (result, other) = map_response(&home.ask(NAS, &map(TCP, 8080, 8080, 60)));

    assert_eq!(result, ResultCode::Success);
    assert_ne!(other.external_port, 8080);
}

#[test]
fn np_6_a_port_that_is_taken_becomes_another_one() {
    let mut home = home();
    home.ask(CAMERA, &map(TCP, 8080, 8080, 60));

    let other = home.ask(CAMERA, &map(TCP, 8090, 8080, 60));

    let (result, other) = map_response(&other);
    assert_eq!(result, ResultCode::Success);
    assert_eq!((other.internal_port, other.external_port), (8090, 8090));
}

#[test]
fn np_6_a_mapping_that_exists_is_returned_whatever_is_suggested() {
    let mut home = home();
    home.ask(CAMERA, &map(TCP, 8080, 8081, 60));

    let again = home.ask(CAMERA, &map(TCP, 8080, 9000, 600));

    let (_, again) = map_response(&again);
    assert_eq!((again.external_port, again.lifetime), (8081, 600));
    assert_eq!(home.open().len(), 1);
}

#[test]
fn np_7_the_lifetime_is_never_longer_than_asked() {
    let mut home = home();

    let short = home.ask(CAMERA, &map(TCP, 8080, 0, 1));
    let long = home.ask(CAMERA, &map(TCP, 8081, 0, u32::MAX));

    assert_eq!(map_response(&short).1.lifetime, 1);
    assert_eq!(map_response(&long).1.lifetime, 7 * 24 * 3600);
}

#[test]
fn np_7_a_static_mapping_is_given_for_the_time_asked() {
    let mut home = home();
    home.open_static(8080);

    let answer = home.ask(CAMERA, &map(TCP, 8080, 0, 7200));

    let (result, answer) = map_response(&answer);
    assert_eq!((result, answer.lifetime), (ResultCode::Success, 7200));
}

#[test]
fn np_8_deletion_answers_with_zeroes_also_when_there_is_nothing() {
    let mut home = home();
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
fn np_8_who_has_no_lease_deletes_nothing_and_that_succeeds() {
    let mut home = home();
    home.ask(CAMERA, &map(TCP, 8080, 0, 60));
    let stranger = [192, 168, 64, 77];

    assert_eq!(home.ask(stranger, &map(TCP, 8080, 0, 60))[3], 2);
    for port in [8080, 0] {
        let answer = home.ask(stranger, &map(TCP, port, 0, 0));
        assert_eq!(answer[..4], [0, 130, 0, 0]);
    }
    assert_eq!(home.open().len(), 1);
}

#[test]
fn np_8_deleting_all_deletes_one_protocol_of_one_client() {
    let mut home = home();
    home.ask(CAMERA, &map(TCP, 8080, 0, 60));
    home.ask(CAMERA, &map(TCP, 8081, 0, 60));
    home.ask(CAMERA, &map(UDP, 8080, 0, 60));
    home.ask(NAS, &map(TCP, 8080, 0, 60));

    let answer = home.ask(CAMERA, &map(TCP, 0, 0, 0));

    assert_eq!(answer, [0, 130, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        home.open(),
        [
            "camera udp 8080->8080 nat-pmp",
            "nas tcp 8080->8080 nat-pmp"
        ]
    );
}

#[test]
fn np_8_deleting_all_deletes_what_it_may_and_tells_of_the_rest() {
    let mut home = home();
    home.open_static(8443);
    home.ask(CAMERA, &map(TCP, 8080, 0, 60));

    let answer = home.ask(CAMERA, &map(TCP, 0, 0, 0));

    assert_eq!(answer, [0, 130, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(home.open(), ["camera tcp 8443->8443 cli"]);
}

#[test]
fn np_8_deleting_a_static_mapping_is_refused() {
    let mut home = home();
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
    let mut home = home();
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
    let mut home = home();

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
    let mut home = home();
    home.announcements();

    home.renumber("2001:db8:65::/56");

    assert_eq!(home.announcements().len(), 0);
    assert_ne!(home.ask(CAMERA, &[0, 0])[4..8], [0, 0, 0, 0]);
}

#[test]
fn np_7_a_mapping_lives_no_longer_than_asked() {
    let mut home = home();
    home.rule_all(Policy {
        min_lease: Duration::from_secs(300),
        ..Policy::default()
    });

    let answer = home.ask(CAMERA, &map(TCP, 8080, 0, 60));

    assert_eq!(map_response(&answer).1.lifetime, 60);
    home.wait(59);
    assert_eq!(home.open().len(), 1);
    home.wait(1);
    assert!(home.open().is_empty());
}

#[test]
fn np_8_deleting_leaves_what_a_pcp_client_sends_by() {
    let mut home = Home::new();
    home.carry();
    let outbound = home::peer(home::map(6, 50_000, 0), "::ffff:192.0.2.9", 443);
    let own = std::net::Ipv4Addr::from(CAMERA).to_ipv6_mapped();
    home.ask(CAMERA, &home::request_of(own, 3600, outbound));

    for all in [map(TCP, 50_000, 0, 0), map(TCP, 0, 0, 0)] {
        assert_eq!(map_response(&home.ask(CAMERA, &all)).0, ResultCode::Success);
    }

    assert_eq!(home.open(), ["camera tcp 50000->50000 pcp"]);
}

#[test]
fn np_13_switched_off_it_opens_answers_and_announces_nothing() {
    let mut home = Home::serving(Dialects::Pcp);

    for bytes in [&[0, 0][..], &map(TCP, 8080, 0, 60), &map(TCP, 0, 0, 0)] {
        // RFC 6887 appendix A: whoever speaks version 0 is told of version 2
        assert_eq!(home.ask(CAMERA, bytes)[..4], [2, 0x80 | bytes[1], 0, 1]);
    }

    assert!(home.open().is_empty());
    assert_eq!(home.server.natpmp_counters().datagrams(), 0);
    let sent = home.announcements();
    assert!(sent.iter().all(|(_, bytes)| bytes[0] == 2), "{sent:?}");
}

#[test]
fn np_14_the_end_of_the_lease_deletes_the_mappings() {
    let mut home = home();
    home.ask(CAMERA, &map(TCP, 8080, 0, 100_000));

    home.wait(36_001);

    assert!(home.open().is_empty());
    let (result, _) = map_response(&home.ask(CAMERA, &map(TCP, 8080, 0, 60)));
    assert_eq!(result, ResultCode::Refused);
}

#[test]
fn s3_1_a_retransmission_that_overtakes_the_answer_is_answered_once() {
    let mut home = home();
    let request = map(TCP, 8080, 0, 60);

    home.hear(CAMERA, &request);
    home.hear(CAMERA, &request);

    assert_eq!(home.answers().len(), 1);
    assert_eq!(home.server.natpmp_counters().repeats, 1);
    assert_eq!(home.ask_all(CAMERA, &request).len(), 1);
}

#[test]
fn s3_5_port_zero_cannot_be_opened() {
    let mut home = home();

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
        (Refusal::ExternalPortDenied, 2),
        (Refusal::ExternalPortTaken, 4),
        (Refusal::ForeignMapping { remaining: None }, 2),
        (Refusal::NameNotFree, 4),
        (Refusal::NoPrefix, 3),
        (Refusal::NoLease, 2),
        (Refusal::NotCarried, 4),
        (Refusal::NotFound, 4),
        (Refusal::OutboundMapping, 2),
        (Refusal::PortDenied, 2),
        (Refusal::PrefixInvalid(InvalidPrefix::Length), 3),
        (Refusal::QuotaExceeded, 4),
        (Refusal::StaticMapping, 2),
        (Refusal::TooManyFilters, 4),
        (Refusal::Unavailable, 4),
        (Refusal::Waiting, 2),
    ];
    let mut home = home();
    println!("{:<45} NAT-PMP", "refusal");
    for (refusal, code) in table {
        let answer = home.ask_answering(
            CAMERA,
            &map(TCP, 8080, 8080, 60),
            &Outcome::Refused(refusal),
        );
        println!("{:<45} {}", refusal.to_string(), answer[3]);
        // the internal port is told, external port and lifetime are zero
        let expected = [0, 130, 0, code, 0, 0, 0, 0, 0x1f, 0x90, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer, expected, "{refusal}");
    }
}

#[test]
fn s3_5_a_grant_that_fits_no_question_is_no_success() {
    let mut home = home();

    let answer = home.ask_answering(
        CAMERA,
        &map(TCP, 8080, 8080, 60),
        &Outcome::Granted(Grant::Done),
    );

    assert_eq!(map_response(&answer).0, ResultCode::OutOfResources);
}

/// A gateway that speaks NAT-PMP alone.
fn home() -> Home {
    Home::serving(Dialects::NatPmp)
}

/// The WAN gets an IPv4 address, and forwards from it are carried.
fn carry(home: &mut Home, ipv4: [u8; 4]) {
    home.decide(&Request::Carriers(Carriers {
        ipv4: Some(ipv4.into()),
        pinholes: false,
    }));
}

fn map(opcode: u8, internal: u16, external: u16, lifetime: u32) -> Vec<u8> {
    let mut bytes = vec![0, opcode, 0, 0];
    bytes.extend(internal.to_be_bytes());
    bytes.extend(external.to_be_bytes());
    bytes.extend(lifetime.to_be_bytes());
    bytes
}

#[track_caller]
fn map_response(bytes: &[u8]) -> (ResultCode, Map) {
    match Response::parse(bytes) {
        Ok(Response::Map { result, map, .. }) => (result, map),
        other => panic!("not a mapping response: {other:?}"),
    }
}

/// The opcodes that open ports.
const UDP: u8 = 1;
const TCP: u8 = 2;

#[path = "support/pcp_home.rs"]
#[allow(dead_code, reason = "each suite needs a part of it")]
#[cfg(test)]
mod home;
