//! RFC 6887 (PCP), requirement by requirement, at machine level: the real core decides.

use std::time::Duration;

use home::{
    CAMERA, CAMERA_IPV6, Home, NAS, NONCE, TCP, UDP, announce, caller, error, filter, map, nsp,
    option, peer, request, request_of, success,
};
use mapping::{Access, Grant, InvalidPrefix, Outcome, Policy, PortClass, Refusal};
use natpmp::{Announcer, DropReason};
use pcp::wire::{Body, Map, Response, ResultCode};
use pcp::{Dialects, Settings};

#[test]
fn p_1_reserved_bits_are_ignored_and_zero_in_answers() {
    let mut home = Home::new();
    let mut bytes = request(CAMERA, 3600, &map(TCP, 8080, 0));
    for reserved in [2, 3, 37, 38, 39] {
        bytes[reserved] = 0xff;
    }

    let answer = home.ask(CAMERA, &bytes);

    assert_eq!(success(&answer).external_port, 8080);
    assert_eq!(answer[2], 0);
    assert_eq!(answer[12..24], [0; 12]);
    assert_eq!(answer[37..40], [0; 3]);
}

#[test]
fn p_1_all_96_bits_before_an_ipv4_address_count() {
    let mut home = Home::new();
    for octet in 8..20 {
        let mut bytes = announce(CAMERA);
        bytes[octet] ^= 1;
        assert_eq!(
            error(&home.ask(CAMERA, &bytes)),
            (ResultCode::AddressMismatch, 1800)
        );
    }
}

#[test]
fn p_2_less_than_two_octets_and_responses_are_dropped() {
    let mut home = Home::new();
    let mut response = announce(CAMERA);
    response[1] |= 0x80;

    for bytes in [&[][..], &[2], &response, &[3, 0x81], &[1, 0xff, 0, 0]] {
        assert!(home.ask_all(CAMERA, bytes).is_empty());
    }

    assert_eq!(home.server.counters().drops(DropReason::Malformed), 2);
    assert_eq!(home.server.counters().drops(DropReason::Response), 3);
}

#[test]
fn p_2_another_version_is_told_version_2() {
    let mut home = Home::new();
    home.wait(5);
    for version in [1, 3, 255] {
        let mut bytes = request(CAMERA, 3600, &map(TCP, 8080, 0));
        bytes[0] = version;

        let answer = home.ask(CAMERA, &bytes);

        // the golden bytes of RFC 6887 §7.2: version 2, R and opcode, result 1, 30 minutes
        assert_eq!(answer[..12], [2, 0x81, 0, 1, 0, 0, 7, 8, 0, 0, 0, 5]);
        assert_eq!(answer[12..], bytes[12..]);
    }
    assert!(home.open().is_empty());
}

#[test]
fn p_2_the_version_is_judged_before_the_length() {
    let mut home = Home::new();

    let answer = home.ask(CAMERA, &[9, 1]);

    assert_eq!(answer[..8], [2, 0x81, 0, 1, 0, 0, 7, 8]);
    assert_eq!(answer.len(), 24);
}

#[test]
fn p_2_less_than_a_header_is_dropped() {
    let mut home = Home::new();
    for len in 2..24 {
        assert!(home.ask_all(CAMERA, &announce(CAMERA)[..len]).is_empty());
    }
    assert_eq!(home.server.counters().drops(DropReason::Malformed), 22);
}

#[test]
fn p_2_an_unknown_opcode_is_unsupported_and_its_payload_comes_back() {
    let mut home = Home::new();
    for opcode in [3, 4, 0x7f] {
        // judged before the length and the address, and not interpreted
        let mut bytes = announce(NAS);
        bytes[1] = opcode;
        bytes.extend([1, 2, 3, 4, 5]);

        let answer = home.ask(CAMERA, &bytes);

        assert_eq!(answer[..8], [2, 0x80 | opcode, 0, 4, 0, 0, 7, 8]);
        assert_eq!(answer[24..], [1, 2, 3, 4, 5, 0, 0, 0]);
    }
}

#[test]
fn p_2_version_0_is_natpmp() {
    let mut home = Home::new();
    assert_eq!(home.ask(CAMERA, &[0, 0])[..4], [0, 128, 0, 0]);

    let natpmp = [0, 2, 0, 0, 0x1f, 0x90, 0x1f, 0x90, 0, 0, 0, 60];
    assert_eq!(home.ask(CAMERA, &natpmp)[..4], [0, 130, 0, 0]);
    assert_eq!(home.open(), ["camera tcp 8080->8080 nat-pmp"]);
}

#[test]
fn p_2_without_natpmp_version_0_is_told_version_2() {
    let mut home = Home::serving(Dialects::Pcp);

    let answer = home.ask(CAMERA, &[0, 0]);

    assert_eq!(answer[..8], [2, 0x80, 0, 1, 0, 0, 7, 8]);
}

#[test]
fn m_12_without_pcp_its_clients_are_told_version_0() {
    let mut home = Home::serving(Dialects::NatPmp);

    let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0)));

    assert_eq!(answer, [0, 0, 0, 1, 0, 0, 0, 0]);
    assert!(home.announcements().iter().all(|(_, bytes)| bytes[0] == 0));
}

#[test]
fn m_12_peer_is_unsupported() {
    let mut home = Home::new();
    let mut bytes = request(CAMERA, 3600, &map(TCP, 8080, 0));
    bytes[1] = 2;
    bytes.extend([0; 20]);

    let answer = home.ask(CAMERA, &bytes);

    assert_eq!(answer[..4], [2, 0x82, 0, 4]);
    assert_eq!(answer[24..], bytes[24..]);
}

#[test]
fn p_3_a_length_that_is_no_multiple_of_four_is_malformed_and_padded() {
    let mut home = Home::new();
    let mut bytes = request(CAMERA, 3600, &map(TCP, 8080, 0));
    bytes.extend([0xaa; 3]);

    let answer = home.ask(CAMERA, &bytes);

    assert_eq!(answer[..8], [2, 0x81, 0, 3, 0, 0, 7, 8]);
    assert_eq!(answer[24..63], bytes[24..]);
    assert_eq!(answer[63..], [0]);
    // RFC 6887 §7.2: unparsed, so the last 96 bits of the client's address stay
    assert_eq!(answer[12..24], bytes[12..24]);
}

#[test]
fn p_3_more_than_1100_octets_are_malformed_and_cut() {
    let mut home = Home::new();
    let mut bytes = request(CAMERA, 3600, &map(TCP, 8080, 0));
    bytes.resize(1100, 0);
    // an option of 1036 octets and its header fill the message up to the limit
    bytes[60..64].copy_from_slice(&[200, 0, 0x04, 0x0c]);
    assert_eq!(success(&home.ask(CAMERA, &bytes)).external_port, 8080);

    bytes.resize(1104, 7);
    let answer = home.ask(CAMERA, &bytes);

    assert_eq!(answer.len(), 1100);
    assert_eq!(answer[..4], [2, 0x81, 0, 3]);
    assert_eq!(answer[24..], bytes[24..1100]);
}

#[test]
fn p_3_too_short_for_map_is_malformed() {
    let mut home = Home::new();
    let bytes = request(CAMERA, 3600, &map(TCP, 8080, 0));
    for len in (24..60).step_by(4) {
        let answer = home.ask(CAMERA, &bytes[..len]);
        assert_eq!(error(&answer), (ResultCode::MalformedRequest, 1800));
        assert_eq!(answer[24..], bytes[24..len]);
    }
}

#[test]
fn p_3_success_has_the_golden_bytes_of_the_rfc() {
    let mut home = Home::new();
    home.wait(258);

    let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8081)));

    let mut expected = vec![2, 0x81, 0, 0, 0, 0, 0x0e, 0x10, 0, 0, 1, 2];
    expected.extend([0; 12]);
    expected.extend(NONCE);
    expected.extend([6, 0, 0, 0, 0x1f, 0x90, 0x1f, 0x91]);
    expected.extend(nsp(CAMERA).octets());
    assert_eq!(answer, expected);
}

#[test]
fn p_4_another_client_address_is_a_mismatch() {
    let mut home = Home::new();
    let bytes = request(NAS, 3600, &map(TCP, 8080, 0));

    let answer = home.ask(CAMERA, &bytes);

    assert_eq!(error(&answer), (ResultCode::AddressMismatch, 1800));
    assert_eq!(answer[24..], bytes[24..]);
    // it was parsed, so the reserved field is zero
    assert_eq!(answer[12..24], [0; 12]);
    assert!(home.open().is_empty());
}

#[test]
fn p_4_the_length_is_judged_before_the_address() {
    let mut home = Home::new();
    let mut bytes = request(NAS, 3600, &map(TCP, 8080, 0));
    bytes.push(0);

    assert_eq!(
        error(&home.ask(CAMERA, &bytes)).0,
        ResultCode::MalformedRequest
    );
}

#[test]
fn p_4_a_source_outside_the_lan_gets_no_answer() {
    let mut home = Home::new();
    for source in [
        [192, 0, 2, 7],
        [192, 168, 65, 20],
        [192, 168, 64, 255],
        [0, 0, 0, 0],
    ] {
        assert!(home.ask_all(source, &announce(source)).is_empty());
    }
    assert_eq!(home.server.counters().drops(DropReason::Source), 4);
}

#[test]
fn p_5_an_error_returns_the_whole_request_and_changes_nothing() {
    let mut home = Home::new();
    // a good option, then one that is not understood
    let options = [option(200, &[1, 2, 3]), option(100, &[9])].concat();
    let bytes = [request(CAMERA, 3600, &map(TCP, 8080, 0)), options].concat();

    let answer = home.ask(CAMERA, &bytes);

    assert_eq!(answer[..8], [2, 0x81, 0, 5, 0, 0, 7, 8]);
    assert_eq!(answer[24..], bytes[24..]);
    assert!(home.open().is_empty());
}

#[test]
fn p_5_the_first_error_in_the_order_of_the_options_counts() {
    let mut home = Home::new();
    let own = option(1, &CAMERA_MAPPED);
    let unknown = option(100, &[]);
    let base = request(CAMERA, 3600, &map(TCP, 8080, 0));

    let answer = home.ask(CAMERA, &[&base[..], &own, &unknown].concat());
    assert_eq!(error(&answer).0, ResultCode::MalformedRequest);
    let answer = home.ask(CAMERA, &[&base[..], &unknown, &own].concat());
    assert_eq!(error(&answer).0, ResultCode::UnsuppOption);
}

#[test]
fn p_6_a_repeated_option_is_malformed() {
    let mut home = Home::new();
    let options = option(2, &[]).repeat(2);
    let bytes = [request(CAMERA, 3600, &map(TCP, 8080, 8080)), options].concat();

    assert_eq!(
        error(&home.ask(CAMERA, &bytes)),
        (ResultCode::MalformedOption, 1800)
    );
    assert!(home.open().is_empty());
}

#[test]
fn p_6_options_that_do_not_fit_are_malformed_whatever_stands_before_them() {
    let mut home = Home::new();
    let base = request(CAMERA, 3600, &map(TCP, 8080, 0));
    let unknown = option(100, &[]);

    for broken in [[200, 0, 0, 1], [200, 0, 0xff, 0xff], [100, 0, 0, 5]] {
        let answer = home.ask(CAMERA, &[&base[..], &unknown, &broken].concat());
        assert_eq!(error(&answer).0, ResultCode::MalformedOption);
    }
    let announce = [announce(CAMERA), vec![200, 0, 0, 1]].concat();
    assert_eq!(
        error(&home.ask(CAMERA, &announce)).0,
        ResultCode::MalformedOption
    );
}

#[test]
fn p_6_unknown_mandatory_options_are_unsupported() {
    let mut home = Home::new();
    for code in [0, 4, 13, 127] {
        let bytes = [
            request(CAMERA, 3600, &map(TCP, 8080, 0)),
            option(code, &[1]),
        ]
        .concat();
        assert_eq!(
            error(&home.ask(CAMERA, &bytes)),
            (ResultCode::UnsuppOption, 1800)
        );
        let bytes = [announce(CAMERA), option(code, &[1])].concat();
        assert_eq!(error(&home.ask(CAMERA, &bytes)).0, ResultCode::UnsuppOption);
    }
    assert!(home.open().is_empty());
}

#[test]
fn p_6_unknown_optional_options_are_ignored_also_twice() {
    let mut home = Home::new();
    for code in [131, 200, 255] {
        let options = option(code, b"camera").repeat(2);
        let bytes = [request(CAMERA, 3600, &map(TCP, 8080, 0)), options.clone()].concat();
        assert_eq!(success(&home.ask(CAMERA, &bytes)).external_port, 8080);
        let bytes = [announce(CAMERA), options].concat();
        assert_eq!(home.ask(CAMERA, &bytes)[3], 0);
    }
}

#[test]
fn p_6_options_that_make_no_sense_with_a_deletion_are_malformed() {
    let mut home = Home::new();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8080)));
    for option in [option(2, &[]), filter(0, "::", 0)] {
        let bytes = [request(CAMERA, 0, &map(TCP, 8080, 8080)), option].concat();
        assert_eq!(
            error(&home.ask(CAMERA, &bytes)).0,
            ResultCode::MalformedOption
        );
    }
    assert_eq!(home.open().len(), 1);
}

#[test]
fn p_7_a_success_carries_the_processed_options_and_no_others() {
    let mut home = Home::new();
    let options = [option(200, &[1]), option(2, &[]), option(191, &[])].concat();
    let bytes = [request(CAMERA, 3600, &map(TCP, 8080, 8080)), options].concat();

    let answer = home.ask(CAMERA, &bytes);

    assert_eq!(success(&answer).external_port, 8080);
    assert_eq!(answer[60..], option(2, &[]));
}

#[test]
fn p_7_only_an_answer_that_would_be_too_long_is_malformed() {
    let mut home = Home::new();
    let question = option(129, &[0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let fill = |used: usize, code| option(code, &vec![b'x'; 1100 - used - 4]);
    let base = request(CAMERA, 3600, &map(TCP, 8080, 0));

    // what is passed over takes no room in the answer
    let passed = [&base[..], &question, &fill(60 + 20, 200)].concat();
    assert_eq!(passed.len(), 1100);
    assert_eq!(home.ask(CAMERA, &passed).len(), 60 + 28);
    let announced = [announce(CAMERA), question.clone(), fill(24 + 20, 200)].concat();
    assert_eq!(home.ask(CAMERA, &announced).len(), 24 + 28);
    // what is processed does: 8 octets too much, and just enough
    let long = [&base[..], &question, &fill(60 + 20, 128)].concat();
    assert_eq!(
        error(&home.ask(CAMERA, &long)),
        (ResultCode::MalformedRequest, 1800)
    );
    let fits = [&base[..], &question, &fill(60 + 28, 128)].concat();
    assert_eq!(home.ask(CAMERA, &fits).len(), 1100);
    // a second prefix has no room, wherever the question stands
    home.renumber("2001:db8:65::/56");
    assert_eq!(home.ask(CAMERA, &fits).len(), 1100);
    // without a prefix the answer is not longer than the question
    let mut bare = Home::without_prefix();
    let announced = [announce(CAMERA), question].concat();
    assert_eq!(bare.ask(CAMERA, &announced).len(), 24);
}

#[test]
fn p_8_overload_is_silent_and_counted() {
    let mut home = Home::new();
    for port in 1..=65 {
        home.hear(CAMERA, &request(CAMERA, 3600, &map(TCP, 8000 + port, 0)));
    }
    home.hear(NAS, &request(NAS, 3600, &map(TCP, 8000, 0)));

    let answers = home.answers();

    assert_eq!(home.server.counters().drops(DropReason::Overload), 1);
    assert_eq!(answers.len(), 65);
}

#[test]
fn p_9_the_epoch_counts_seconds_in_every_answer() {
    let mut home = Home::new();
    home.wait(1000);
    let mapped = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0)));
    let failed = home.ask(CAMERA, &request(NAS, 3600, &map(TCP, 8080, 0)));
    home.wait(1);
    let announced = home.ask(CAMERA, &announce(CAMERA));

    assert_eq!(mapped[8..12], [0, 0, 3, 0xe8]);
    assert_eq!(failed[8..12], [0, 0, 3, 0xe8]);
    assert_eq!(announced[8..12], [0, 0, 3, 0xe9]);
}

#[test]
fn p_9_a_new_prefix_resets_the_epoch() {
    let mut home = Home::new();
    home.wait(1000);

    home.renumber("2001:db8:65::/56");

    assert_eq!(home.ask(CAMERA, &announce(CAMERA))[8..12], [0; 4]);
    let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0)));
    let addr: std::net::Ipv6Addr = "2001:db8:65:1::c0a8:4014".parse().unwrap();
    assert_eq!(success(&answer).external_addr, addr);
}

#[test]
fn m_1_protocol_zero_with_a_port_is_malformed() {
    let mut home = Home::new();
    for lifetime in [0, 3600] {
        let answer = home.ask(CAMERA, &request(CAMERA, lifetime, &map(0, 8080, 0)));
        assert_eq!(error(&answer), (ResultCode::MalformedRequest, 1800));
    }
}

#[test]
fn m_1_all_protocols_all_ports_and_other_protocols_are_unsupported() {
    let mut home = Home::new();
    for (protocol, port) in [(0, 0), (TCP, 0), (UDP, 0), (132, 5000), (1, 0), (255, 1)] {
        let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(protocol, port, 0)));
        assert_eq!(error(&answer), (ResultCode::UnsuppProtocol, 1800));
    }
    assert!(home.open().is_empty());
}

#[test]
fn m_2_nonce_mismatch_is_not_authorized_for_as_long_as_the_mapping_lives() {
    let mut home = Home::new();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0)));
    home.wait(600);
    let mut other = map(TCP, 8080, 0);
    other.nonce.0[11] ^= 1;

    for lifetime in [7200, 0] {
        let answer = home.ask(CAMERA, &request(CAMERA, lifetime, &other));
        assert_eq!(error(&answer), (ResultCode::NotAuthorized, 3000));
    }

    assert_eq!(home.open().len(), 1);
    let own = home.ask(CAMERA, &request(CAMERA, 7200, &map(TCP, 8080, 0)));
    assert_eq!(success(&own).external_port, 8080);
}

#[test]
fn m_2_the_nonce_is_judged_before_what_prefer_failure_wants() {
    let mut home = Home::new();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8080)));
    let mut other = map(TCP, 8080, 9090);
    other.nonce.0[0] ^= 1;

    let answer = home.ask_exactly(CAMERA, &other);

    assert_eq!(error(&answer), (ResultCode::NotAuthorized, 3600));
}

#[test]
fn m_3_a_renewal_keeps_the_external_port_and_prolongs() {
    let mut home = Home::new();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8081)));
    home.wait(1800);

    let answer = home.ask(CAMERA, &request(CAMERA, 5400, &map(TCP, 8080, 9999)));

    assert_eq!(success(&answer).external_port, 8081);
    assert_eq!(answer[4..8], 5400_u32.to_be_bytes());
    assert_eq!(home.open().len(), 1);
}

#[test]
fn m_3_a_static_mapping_is_given_for_ever() {
    let mut home = Home::new();
    home.open_static(8080);

    let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8081)));

    assert_eq!(success(&answer).external_port, 8080);
    assert_eq!(answer[4..8], [0xff; 4]);
    assert_eq!(success(&answer).nonce.0, NONCE);
}

#[test]
fn m_3_prefer_failure_and_another_port_than_the_existing_is_error_11() {
    let mut home = Home::new();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8080)));

    let answer = home.ask_exactly(CAMERA, &map(TCP, 8080, 8081));

    assert_eq!(error(&answer), (ResultCode::CannotProvideExternal, 30));
    assert_eq!(home.open(), ["camera tcp 8080->8080 pcp"]);
}

#[test]
fn m_4_the_suggested_port_is_honoured_or_another_one_is_given() {
    let mut home = Home::new();

    let first = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 9000)));
    let second = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8081, 9000)));
    let third = home.ask(NAS, &request(NAS, 3600, &map(TCP, 8081, 9000)));

    assert_eq!(success(&first).external_port, 9000);
    assert_eq!(success(&second).external_port, 8081);
    // each server has its own address, and so its own ports
    assert_eq!(success(&third).external_port, 9000);
    assert_eq!(success(&third).external_addr, nsp(NAS));
}

#[test]
fn m_4_a_poor_suggestion_does_no_harm() {
    let mut home = Home::new();
    for (port, addr) in [
        (5351, "::"),
        (23, "2001:db8::1"),
        (8080, "::ffff:192.0.2.1"),
    ] {
        let mut body = map(UDP, 8080, port);
        body.external_addr = addr.parse().unwrap();
        let answer = home.ask(CAMERA, &request(CAMERA, 3600, &body));
        assert_eq!(success(&answer).external_port, 8080);
        assert_eq!(success(&answer).external_addr, nsp(CAMERA));
    }
}

#[test]
fn m_4_only_the_asked_protocol_is_opened() {
    let mut home = Home::new();

    home.ask(CAMERA, &request(CAMERA, 3600, &map(UDP, 8080, 0)));

    assert_eq!(home.open(), ["camera udp 8080->8080 pcp"]);
}

#[test]
fn m_5_a_deletion_copies_the_suggestion_and_succeeds_twice() {
    let mut home = Home::new();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8081)));
    let mut body = map(TCP, 8080, 7);
    body.external_addr = "2001:db8::7".parse().unwrap();

    for _ in 0..2 {
        let answer = home.ask(CAMERA, &request(CAMERA, 0, &body));
        assert_eq!(success(&answer), body);
        assert_eq!(answer[4..8], [0; 4]);
        assert!(home.open().is_empty());
    }
}

#[test]
fn m_5_deleting_what_cannot_exist_succeeds() {
    let mut home = Home::new();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8081)));

    for (protocol, port) in [(0, 0), (TCP, 0), (132, 5000)] {
        let body = map(protocol, port, 0);
        let answer = home.ask(CAMERA, &request(CAMERA, 0, &body));
        assert_eq!(success(&answer), body);
    }

    assert_eq!(home.open().len(), 1);
}

#[test]
fn m_5_who_has_no_lease_deletes_nothing_and_that_succeeds() {
    let mut home = Home::new();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0)));
    let stranger = [192, 168, 64, 77];

    let answer = home.ask(stranger, &request(stranger, 3600, &map(TCP, 8080, 0)));
    assert_eq!(error(&answer).0, ResultCode::NotAuthorized);
    let answer = home.ask(stranger, &request(stranger, 0, &map(TCP, 8080, 0)));
    assert_eq!((answer[3], &answer[4..8]), (0, &[0; 4][..]));
    assert_eq!(home.open().len(), 1);
}

#[test]
fn m_5_deleting_a_static_mapping_is_not_authorized() {
    let mut home = Home::new();
    home.open_static(8080);

    let answer = home.ask(CAMERA, &request(CAMERA, 0, &map(TCP, 8080, 0)));

    assert_eq!(error(&answer), (ResultCode::NotAuthorized, 1800));
    assert_eq!(home.open().len(), 1);
}

#[test]
fn m_5_deleting_what_peer_made_is_not_authorized() {
    let mut home = Home::new();
    home.carry();
    let outbound = peer(map(TCP, 50_000, 0), "::ffff:192.0.2.9", 443);
    home.ask(CAMERA, &request_of(CAMERA_MAPPED.into(), 3600, outbound));
    let delete = request(CAMERA, 0, &map(TCP, 50_000, 0));

    let answer = home.ask(CAMERA, &delete);
    assert_eq!(error(&answer), (ResultCode::NotAuthorized, 1800));

    // the inbound one beside it can be deleted, and the outbound one goes on
    home.ask(CAMERA, &at_ipv4(CAMERA, 3600, map(TCP, 50_000, 0)));
    assert_eq!(home.open().len(), 2);
    assert_eq!(home.ask(CAMERA, &delete)[3], 0);
    assert_eq!(home.open().len(), 1);
    assert!(home.core.snapshot().mappings().all(|it| it.peer));
}

#[test]
fn m_5_and_m_8_a_deleted_port_of_the_shared_address_is_no_other_hosts_for_a_while() {
    for (protocol, idle) in [(UDP, 120), (TCP, 124 * 60)] {
        let mut home = Home::new();
        home.carry();
        let open = |home: &mut Home, client| {
            let answer = home.ask(client, &at_ipv4(client, 36_000, map(protocol, 8080, 8080)));
            success(&answer).external_port
        };
        assert_eq!(open(&mut home, CAMERA), 8080);
        let delete = request(CAMERA, 0, &map(protocol, 8080, 0));
        assert_eq!(home.ask(CAMERA, &delete)[4..8], [0; 4]);
        home.wait(idle - 1);

        assert_ne!(open(&mut home, NAS), 8080);
        let exact = at_ipv4(NAS, 36_000, map(protocol, 9090, 8080));
        let exact = home.ask(NAS, &[exact, option(2, &[])].concat());
        assert_eq!(error(&exact).0, ResultCode::CannotProvideExternal);
        // its own host may have it back, also for another internal port
        let again = at_ipv4(CAMERA, 36_000, map(protocol, 8081, 8080));
        assert_eq!(success(&home.ask(CAMERA, &again)).external_port, 8080);

        home.ask(CAMERA, &request(CAMERA, 0, &map(protocol, 8081, 0)));
        home.ask(NAS, &request(NAS, 0, &map(protocol, 8080, 0)));
        home.wait(idle);
        assert_eq!(open(&mut home, NAS), 8080);
    }
}

#[test]
fn m_8_the_port_of_a_mapping_that_ended_is_kept_too() {
    let mut home = Home::new();
    home.carry();
    home.ask(CAMERA, &at_ipv4(CAMERA, 120, map(TCP, 8080, 8080)));
    home.wait(120);
    assert!(home.open().is_empty());

    let other = home.ask(NAS, &at_ipv4(NAS, 3600, map(TCP, 8080, 8080)));

    assert_ne!(success(&other).external_port, 8080);
    // at the servers' own addresses there is nobody to keep it from
    let own = home.ask(NAS, &request(NAS, 3600, &map(TCP, 9090, 8080)));
    assert_eq!(success(&own).external_port, 8080);
}

#[test]
fn m_6_the_lifetime_is_at_least_120_s_and_at_most_the_policys() {
    let mut home = Home::new();
    for (asked, granted) in [(1, 120), (119, 120), (121, 121), (u32::MAX, 7 * 24 * 3600)] {
        let answer = home.ask(CAMERA, &request(CAMERA, asked, &map(TCP, 8080, 0)));
        success(&answer);
        assert_eq!(answer[4..8], u32::to_be_bytes(granted), "{asked}");
    }
}

#[test]
fn m_6_least_and_most_are_the_policys_for_map_and_peer() {
    let mut home = Home::new();
    home.carry();
    home.rule_all(Policy {
        min_lease: Duration::from_secs(300),
        max_lease: Duration::from_secs(600),
        ..Policy::default()
    });
    for (asked, granted) in [(1, 300), (299, 300), (301, 301), (601, 600)] {
        let answer = home.ask(CAMERA, &request(CAMERA, asked, &map(TCP, 8080, 0)));
        success(&answer);
        assert_eq!(answer[4..8], u32::to_be_bytes(granted), "{asked}");
    }
    let outbound = peer(map(TCP, 50_000, 0), "::ffff:192.0.2.9", 443);
    let answer = home.ask(CAMERA, &request_of(CAMERA_MAPPED.into(), 1, outbound));
    assert_eq!(answer[4..8], 300_u32.to_be_bytes());
}

#[test]
fn m_7_the_end_of_the_lease_closes_the_mappings() {
    let mut home = Home::new();
    home.ask(CAMERA, &request(CAMERA, 100_000, &map(TCP, 8080, 0)));

    home.wait(36_001);

    assert!(home.open().is_empty());
    let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0)));
    assert_eq!(error(&answer), (ResultCode::NotAuthorized, 1800));
}

#[test]
fn m_11_the_quota_of_a_host_is_kept() {
    let mut home = Home::new();
    for port in 8000..8032 {
        success(&home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, port, 0))));
    }

    let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 9000, 0)));

    assert_eq!(error(&answer), (ResultCode::UserExQuota, 30));
    success(&home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8000, 0))));
    success(&home.ask(NAS, &request(NAS, 3600, &map(TCP, 9000, 0))));
}

#[test]
fn o_1_third_party_is_unsupported() {
    let mut home = Home::new();
    let nas = std::net::Ipv4Addr::from(NAS).to_ipv6_mapped().octets();
    let bytes = [request(CAMERA, 3600, &map(TCP, 8080, 0)), option(1, &nas)].concat();

    assert_eq!(
        error(&home.ask(CAMERA, &bytes)),
        (ResultCode::UnsuppOption, 1800)
    );
    assert!(home.open().is_empty());
}

#[test]
fn o_1_third_party_with_ones_own_address_is_malformed() {
    let mut home = Home::new();
    let base = request(CAMERA, 3600, &map(TCP, 8080, 0));

    let own = [&base[..], &option(1, &CAMERA_MAPPED)].concat();
    assert_eq!(
        error(&home.ask(CAMERA, &own)),
        (ResultCode::MalformedRequest, 1800)
    );
    let short = [&base[..], &option(1, &CAMERA_MAPPED[..15])].concat();
    assert_eq!(
        error(&home.ask(CAMERA, &short)),
        (ResultCode::MalformedOption, 1800)
    );
}

#[test]
fn o_2_prefer_failure_gives_the_suggested_port_or_none() {
    let mut home = Home::new();

    let answer = home.ask_exactly(CAMERA, &map(TCP, 8080, 9000));
    assert_eq!(success(&answer).external_port, 9000);

    let taken = home.ask_exactly(CAMERA, &map(TCP, 8081, 9000));
    assert_eq!(error(&taken), (ResultCode::CannotProvideExternal, 30));
    let denied = home.ask_exactly(CAMERA, &map(TCP, 8081, 23));
    assert_eq!(error(&denied), (ResultCode::CannotProvideExternal, 1800));
    assert_eq!(home.open(), ["camera tcp 9000->8080 pcp"]);
}

#[test]
fn o_2_prefer_failure_counts_the_address_too() {
    let mut home = Home::new();
    for (addr, is_ours) in [
        ("::", true),
        ("::ffff:0.0.0.0", true),
        ("2001:db8:64:1::c0a8:4014", true),
        ("2001:db8:64:1::c0a8:4015", false),
        ("2001:db8:99:1::c0a8:4014", false),
        ("::ffff:192.0.2.1", false),
    ] {
        let mut body = map(TCP, 8080, 8080);
        body.external_addr = addr.parse().unwrap();
        let answer = home.ask_exactly(CAMERA, &body);
        if is_ours {
            assert_eq!(success(&answer).external_addr, nsp(CAMERA));
        } else {
            assert_eq!(
                error(&answer),
                (ResultCode::CannotProvideExternal, 30),
                "{addr}"
            );
        }
    }
}

#[test]
fn o_2_prefer_failure_without_a_port_or_with_data_is_malformed() {
    let mut home = Home::new();

    let answer = home.ask_exactly(CAMERA, &map(TCP, 8080, 0));
    assert_eq!(error(&answer), (ResultCode::MalformedOption, 1800));

    let bytes = [
        request(CAMERA, 3600, &map(TCP, 8080, 8080)),
        option(2, &[1]),
    ]
    .concat();
    assert_eq!(
        error(&home.ask(CAMERA, &bytes)).0,
        ResultCode::MalformedOption
    );
    assert!(home.open().is_empty());
}

#[test]
fn o_3_filters_of_ipv6_remotes_add_up_come_back_and_are_cleared() {
    let mut home = Home::new();
    let base = request(CAMERA, 3600, &map(TCP, 8080, 8080));
    let filters = |home: &Home| {
        let snapshot = home.core.snapshot();
        let mapping = snapshot.mappings().next().unwrap();
        let all = mapping.filters.iter().map(ToString::to_string);
        all.collect::<Vec<_>>()
    };

    let one = filter(48, "2001:db8:1::", 0);
    let answer = home.ask(CAMERA, &[&base[..], &one].concat());
    assert_eq!(success(&answer).external_port, 8080);
    assert_eq!(answer[60..], one);
    // host bits do not count
    home.ask(
        CAMERA,
        &[&base[..], &filter(64, "2001:db8:2::7", 443)].concat(),
    );
    assert_eq!(
        filters(&home),
        ["2001:db8:1::/48", "2001:db8:2::/64 port 443"]
    );
    // a renewal without FILTER changes nothing
    home.ask(CAMERA, &base);
    assert_eq!(filters(&home).len(), 2);

    let exchange = [
        filter(48, "2001:db8:9::", 0),
        filter(0, "::", 0),
        filter(128, "2001:db8:3::1", 0),
    ];
    home.ask(CAMERA, &[&base[..], &exchange.concat()].concat());
    assert_eq!(filters(&home), ["2001:db8:3::1/128"]);
    home.ask(CAMERA, &[&base[..], &filter(0, "::", 0)].concat());
    assert!(filters(&home).is_empty());
}

#[test]
fn o_3_prefix_lengths_outside_the_family_are_malformed() {
    let mut home = Home::new();
    let base = request(CAMERA, 3600, &map(TCP, 8080, 8080));
    for (len, addr) in [
        (1, "::ffff:192.0.2.0"),
        (95, "::ffff:192.0.2.0"),
        (129, "::ffff:192.0.2.0"),
        (129, "2001:db8::"),
        (200, "2001:db8::"),
    ] {
        let answer = home.ask(CAMERA, &[&base[..], &filter(len, addr, 0)].concat());
        assert_eq!(error(&answer), (ResultCode::MalformedOption, 1800), "{len}");
    }
    assert!(home.open().is_empty());
}

#[test]
fn o_3_an_ipv4_filter_needs_a_carried_ipv4() {
    let mut home = Home::new();
    let base = request(CAMERA, 3600, &map(TCP, 8080, 8080));
    let bytes = [&base[..], &filter(120, "::ffff:192.0.2.0", 0)].concat();

    let answer = home.ask(CAMERA, &bytes);
    assert_eq!(error(&answer), (ResultCode::ExcessiveRemotePeers, 1800));
    assert!(home.open().is_empty());

    home.carry();
    assert_eq!(success(&home.ask(CAMERA, &bytes)).external_port, 8080);
}

#[test]
fn o_3_more_filters_than_a_mapping_may_have_are_excessive_and_change_nothing() {
    let mut home = Home::new();
    let base = request(CAMERA, 3600, &map(TCP, 8080, 8080));
    let many: Vec<u8> = (0..17)
        .flat_map(|n| filter(48, &format!("2001:db8:{n:x}::"), 0))
        .collect();

    let answer = home.ask(CAMERA, &[&base[..], &many].concat());

    assert_eq!(error(&answer), (ResultCode::ExcessiveRemotePeers, 1800));
    assert_eq!(answer[24..], [&base[24..], &many].concat());
    assert!(home.open().is_empty());
    let answer = home.ask(CAMERA, &[&base[..], &many[..24 * 16]].concat());
    assert_eq!(success(&answer).external_port, 8080);
}

#[test]
fn o_1_third_party_opens_and_closes_for_another_host_where_it_is_permitted() {
    let mut home = Home::new();
    home.server = pcp::Server::new(Settings {
        third_party: true,
        ..Settings::default()
    });
    let nas = option(1, &std::net::Ipv4Addr::from(NAS).to_ipv6_mapped().octets());
    let ask = |lifetime| [request(CAMERA, lifetime, &map(TCP, 8080, 0)), nas.clone()].concat();

    let answer = home.ask(CAMERA, &ask(3600));
    assert_eq!(success(&answer).external_addr, nsp(NAS));
    assert_eq!(answer[60..], nas);
    assert_eq!(home.open(), ["nas tcp 8080->8080 pcp"]);

    home.ask(CAMERA, &ask(0));
    assert!(home.open().is_empty());
    let twice = [ask(3600), nas.clone()].concat();
    assert_eq!(
        error(&home.ask(CAMERA, &twice)).0,
        ResultCode::MalformedOption
    );
    let own = [
        request(CAMERA, 3600, &map(TCP, 8080, 0)),
        option(1, &CAMERA_MAPPED),
    ];
    assert_eq!(
        error(&home.ask(CAMERA, &own.concat())).0,
        ResultCode::MalformedRequest
    );
}

#[test]
fn s10_an_ipv4_suggestion_is_mapped_at_the_carried_ipv4_and_any_other_at_ipv6() {
    let mut home = Home::new();
    home.carry();
    let shared: std::net::Ipv6Addr = "::ffff:203.0.113.7".parse().unwrap();
    let ask = |home: &mut Home, addr: &str| {
        let mut body = map(TCP, 8080, 8080);
        body.external_addr = addr.parse().unwrap();
        success(&home.ask(CAMERA, &request(CAMERA, 3600, &body))).external_addr
    };

    assert_eq!(ask(&mut home, "::ffff:0.0.0.0"), shared);
    assert_eq!(ask(&mut home, "::"), nsp(CAMERA));
    assert_eq!(home.open().len(), 2);
    // a renewal finds its own of the two
    assert_eq!(ask(&mut home, "::ffff:203.0.113.7"), shared);
    assert_eq!(home.open().len(), 2);
}

#[test]
fn s11_3_map_after_peer_gets_the_port_of_the_outbound_mapping() {
    let mut home = Home::new();
    home.carry();
    home.ask(NAS, &at_ipv4(NAS, 3600, map(TCP, 50_000, 50_000)));
    let outbound = peer(map(TCP, 50_000, 0), "::ffff:192.0.2.9", 443);
    let answer = home.ask(CAMERA, &request_of(CAMERA_MAPPED.into(), 3600, outbound));
    let port = success(&answer).external_port;
    assert_ne!(port, 50_000);

    let elsewhere = at_ipv4(CAMERA, 3600, map(TCP, 50_000, 40_000));
    let exact = home.ask(CAMERA, &[&elsewhere[..], &option(2, &[])].concat());
    assert_eq!(error(&exact), (ResultCode::CannotProvideExternal, 30));
    let inbound = home.ask(CAMERA, &elsewhere);

    assert_eq!(success(&inbound).external_port, port);
    assert_eq!(home.open().len(), 3);
    // who asks for the outbound one again learns of the inbound one
    let again = home.ask(CAMERA, &request_of(CAMERA_MAPPED.into(), 7200, outbound));
    assert_eq!(success(&again).external_port, port);
    assert_eq!(again[4..8], 7200_u32.to_be_bytes());
}

#[test]
fn m_4_another_hosts_port_of_the_shared_ipv4_becomes_another_one() {
    let mut home = Home::new();
    home.carry();
    let mut body = map(TCP, 8080, 8080);
    body.external_addr = "::ffff:0.0.0.0".parse().unwrap();

    let first = home.ask(CAMERA, &request(CAMERA, 3600, &body));
    let second = home.ask(NAS, &request(NAS, 3600, &body));
    let exact = [request(NAS, 3600, &map(UDP, 8081, 8080)), option(2, &[])].concat();

    assert_eq!(success(&first).external_port, 8080);
    assert_ne!(success(&second).external_port, 8080);
    // on IPv6 every server has all ports
    assert_eq!(success(&home.ask(NAS, &exact)).external_port, 8080);
}

#[test]
fn e_1_peer_needs_protocol_ports_and_a_remote_of_its_family() {
    let mut home = Home::new();
    home.carry();
    let remote = "::ffff:192.0.2.9";
    for (body, code) in [
        (peer(map(0, 50_000, 0), remote, 443), 3),
        (peer(map(TCP, 0, 0), remote, 443), 3),
        (peer(map(TCP, 50_000, 0), remote, 0), 3),
        (peer(map(TCP, 50_000, 0), "::ffff:127.0.0.1", 443), 3),
        (peer(map(TCP, 50_000, 0), "::ffff:224.0.0.1", 443), 3),
        (peer(map(TCP, 50_000, 0), "2001:db8::9", 443), 3),
        (peer(map(132, 50_000, 0), remote, 443), 9),
    ] {
        let bytes = request_of(CAMERA_MAPPED.into(), 3600, body);
        assert_eq!(home.ask(CAMERA, &bytes)[3], code, "{body:?}");
    }
    let good = request_of(
        CAMERA_MAPPED.into(),
        3600,
        peer(map(TCP, 50_000, 0), remote, 443),
    );
    let exact = [&good[..], &option(2, &[])].concat();
    assert_eq!(
        error(&home.ask(CAMERA, &exact)).0,
        ResultCode::MalformedRequest
    );
    let filtered = [&good[..], &filter(120, "::ffff:192.0.2.0", 0)].concat();
    assert_eq!(
        error(&home.ask(CAMERA, &filtered)).0,
        ResultCode::MalformedOption
    );
    assert!(home.open().is_empty());
}

#[test]
fn e_1_peer_keeps_an_outbound_mapping_and_never_cuts_it_short() {
    let mut home = Home::new();
    home.carry();
    let ask = |home: &mut Home, lifetime, external| {
        let body = peer(map(TCP, 50_000, external), "::ffff:192.0.2.9", 443);
        home.ask(CAMERA, &request_of(CAMERA_MAPPED.into(), lifetime, body))
    };

    let first = ask(&mut home, 3600, 0);
    assert_eq!(first[..4], [2, 0x82, 0, 0]);
    assert_eq!(
        success(&first).external_addr.to_string(),
        "::ffff:203.0.113.7"
    );
    let port = success(&first).external_port;
    // what is not set by the server comes back
    assert_eq!(first[60..62], 443_u16.to_be_bytes());
    for lifetime in [0, 1] {
        let query = ask(&mut home, lifetime, port);
        assert_eq!(query[4..8], 3600_u32.to_be_bytes());
    }
    assert_eq!(ask(&mut home, 7200, port)[4..8], 7200_u32.to_be_bytes());
    assert_eq!(
        error(&ask(&mut home, 7200, 1234)).0,
        ResultCode::CannotProvideExternal
    );
    assert_eq!(home.open().len(), 1);
    assert!(home.core.snapshot().mappings().all(|it| it.peer));
}

#[test]
fn e_1_a_17th_remote_of_one_port_finds_no_resources_and_the_others_are_kept() {
    let mut home = Home::new();
    home.carry();
    let ask = |home: &mut Home, port, remote: u16| {
        let addr = format!("::ffff:192.0.2.{remote}");
        let body = peer(map(UDP, port, 0), &addr, 3478);
        home.ask(CAMERA, &request_of(CAMERA_MAPPED.into(), 3600, body))
    };

    for remote in 1..=16 {
        assert_eq!(ask(&mut home, 50_000, remote)[3], 0, "{remote}");
    }
    let answer = ask(&mut home, 50_000, 17);
    assert_eq!(error(&answer), (ResultCode::NoResources, 30));
    assert_eq!(ask(&mut home, 50_000, 1)[3], 0);
    assert_eq!(ask(&mut home, 50_001, 17)[3], 0, "from another port");
}

#[test]
fn e_1_peer_learns_of_what_map_made_whatever_it_suggests() {
    let mut home = Home::new();
    home.carry();
    let mapped = home.ask(CAMERA, &at_ipv4(CAMERA, 3600, map(TCP, 50_000, 40_000)));
    let mut wanted = map(TCP, 50_000, 1234);
    wanted.external_addr = "::ffff:198.51.100.1".parse().unwrap();

    let body = peer(wanted, "::ffff:192.0.2.9", 443);
    let answer = home.ask(CAMERA, &request_of(CAMERA_MAPPED.into(), 7200, body));

    assert_eq!(success(&answer), success(&mapped));
    assert_eq!(answer[4..8], 7200_u32.to_be_bytes());
    assert_eq!(home.open().len(), 1);
}

#[test]
fn m_2_a_peer_with_another_nonce_is_not_authorized() {
    let mut home = Home::new();
    home.carry();
    let mut body = map(TCP, 50_000, 0);
    let ask = |home: &mut Home, map| {
        let body = peer(map, "::ffff:192.0.2.9", 443);
        home.ask(CAMERA, &request_of(CAMERA_MAPPED.into(), 3600, body))
    };
    success(&ask(&mut home, body));

    body.nonce.0[0] ^= 1;
    assert_eq!(
        error(&ask(&mut home, body)),
        (ResultCode::NotAuthorized, 3600)
    );
}

#[test]
fn m_12_map_and_peer_can_each_be_switched_off() {
    let mut home = Home::new();
    home.carry();
    home.server = pcp::Server::new(Settings {
        map: false,
        peer: false,
        ..Settings::default()
    });

    let bytes = request(CAMERA, 3600, &map(TCP, 8080, 0));
    for len in [24, 59, 60] {
        assert_eq!(
            error(&home.ask(CAMERA, &bytes[..len])).0,
            ResultCode::UnsuppOpcode
        );
    }
    let body = peer(map(TCP, 50_000, 0), "::ffff:192.0.2.9", 443);
    let bytes = request_of(CAMERA_MAPPED.into(), 3600, body);
    assert_eq!(error(&home.ask(CAMERA, &bytes)).0, ResultCode::UnsuppOpcode);
    assert_eq!(home.ask(CAMERA, &announce(CAMERA))[3], 0);
}

#[test]
fn s10_an_ipv6_client_gets_a_pinhole_where_they_are_carried() {
    let mut home = Home::new();
    let own = caller(CAMERA_IPV6.into());
    let ask = |home: &mut Home, lifetime, map| {
        home.ask_from(own, &request_of(CAMERA_IPV6, lifetime, Body::Map(map)))
    };
    // as shipped
    let answer = ask(&mut home, 3600, map(TCP, 8080, 0));
    assert_eq!(error(&answer), (ResultCode::NoResources, 30));
    assert_eq!(ask(&mut home, 0, map(TCP, 8080, 0))[3], 0);
    let outbound = request_of(
        CAMERA_IPV6,
        3600,
        peer(map(TCP, 50_000, 0), "2001:db8::9", 443),
    );
    assert_eq!(
        error(&home.ask_from(own, &outbound)).0,
        ResultCode::UnsuppOpcode
    );

    home.carry();
    let answer = success(&ask(&mut home, 3600, map(TCP, 8080, 9999)));
    assert_eq!(
        (answer.external_port, answer.external_addr),
        (8080, CAMERA_IPV6)
    );
    assert_eq!(home.core.snapshot().pinholes().count(), 1);
    let mut foreign = map(TCP, 8080, 0);
    foreign.nonce.0[0] ^= 1;
    for lifetime in [3600, 0] {
        let answer = ask(&mut home, lifetime, foreign);
        assert_eq!(error(&answer), (ResultCode::NotAuthorized, 3600));
    }
    assert_eq!(home.ask_from(own, &outbound)[3], 0);
    assert_eq!(home.core.snapshot().pinholes().count(), 2);
    assert_eq!(ask(&mut home, 0, map(TCP, 8080, 0))[3], 0);
    assert_eq!(home.core.snapshot().pinholes().count(), 1);
}

#[test]
fn s10_an_address_that_no_remote_reaches_gets_no_pinhole() {
    let mut home = Home::new();
    home.carry();
    for addr in ["fe80::20", "fd00::20"] {
        let addr: std::net::Ipv6Addr = addr.parse().unwrap();
        let bytes = request_of(addr, 3600, Body::Map(map(TCP, 8080, 0)));
        let answer = home.ask_from(caller(addr.into()), &bytes);
        assert_eq!(error(&answer), (ResultCode::NotAuthorized, 1800));
    }
}

#[test]
fn p_4_an_ipv6_source_that_is_not_on_link_gets_no_answer() {
    let mut home = Home::new();
    let mut elsewhere = caller(CAMERA_IPV6.into());
    elsewhere.on_link = false;

    home.hear_from(elsewhere, &request_of(CAMERA_IPV6, 0, Body::Announce));

    assert!(home.answers().is_empty());
    assert_eq!(home.server.counters().drops(DropReason::Source), 1);
}

#[test]
fn p_4_a_frame_of_another_host_than_its_source_gets_no_answer() {
    let mut home = Home::new();
    let mut forged = caller(std::net::Ipv4Addr::from(NAS).into());
    forged.mac = caller(CAMERA_IPV6.into()).mac;

    home.hear_from(forged, &request(NAS, 3600, &map(TCP, 8080, 0)));

    assert!(home.answers().is_empty());
    assert_eq!(home.server.counters().drops(DropReason::Forged), 1);
}

#[test]
fn p_4_a_host_at_an_ipv6_address_that_the_link_does_not_lead_to_gets_no_answer() {
    let mut home = Home::new();
    home.carry();
    let claimed = caller(CAMERA_IPV6.into());
    let bytes = request_of(CAMERA_IPV6, 3600, Body::Map(map(TCP, 8080, 0)));

    home.hear_on_a_link(false, claimed, &bytes);
    home.hear_on_a_link(false, claimed, &request_of(CAMERA_IPV6, 0, Body::Announce));

    assert!(home.answers().is_empty());
    assert_eq!(home.server.counters().drops(DropReason::Forged), 2);
    assert_eq!(home.core.snapshot().pinholes().count(), 0);
    assert_eq!(home.ask_from(claimed, &bytes)[3], 0);
    assert_eq!(home.core.snapshot().pinholes().count(), 1);
}

#[test]
fn p_8_who_makes_ipv6_addresses_up_keeps_few_lookups_busy_and_no_other_host_out() {
    let mut home = Home::new();
    let hear = |home: &mut Home, mac: Option<mapping::Mac>, last: u16| {
        let addr = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last);
        let mut caller = caller(addr.into());
        caller.mac = mac.or(caller.mac);
        let announce = request_of(addr, 0, Body::Announce);
        let (snapshot, now) = (home.core.snapshot(), home.now);
        home.server
            .handle_datagram(&announce, caller, snapshot, now);
    };
    for ghost in 0..100 {
        hear(&mut home, None, ghost);
    }
    assert_eq!(home.server.doubted(), 16);
    assert_eq!(home.server.counters().drops(DropReason::Overload), 84);

    let nas = home.core.snapshot().host_by_addr(NAS.into()).unwrap().mac;
    hear(&mut home, Some(nas), 0x21);
    assert_eq!(home.server.doubted(), 17);
    // who has no lease has no rights, and claims none
    hear(&mut home, Some(mapping::Mac([2, 9, 9, 9, 9, 9])), 0x22);
    assert_eq!(home.answers().len(), 1);
}

#[test]
fn p_8_who_asks_without_end_is_answered_at_a_rate_and_the_others_at_once() {
    let mut home = Home::new();
    for _ in 0..1000 {
        home.hear(CAMERA, &announce(CAMERA));
    }
    let answered = home.answers().len();

    assert_eq!(answered, 513);
    assert_eq!(home.server.counters().drops(DropReason::Rate), 487);
    assert_eq!(home.ask(NAS, &announce(NAS))[3], 0);
    home.wait(1);
    assert_eq!(home.ask(CAMERA, &announce(CAMERA))[3], 0);
}

#[test]
fn s7_4_a_waiting_request_is_told_to_ask_again_soon() {
    let mut home = Home::new();

    let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 22, 22)));

    assert_eq!(error(&answer), (ResultCode::NotAuthorized, 30));
}

#[test]
fn a_3_renumbering_is_told_three_times_with_the_new_address() {
    let mut home = Home::serving(Dialects::Pcp);
    home.updates();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8081)));
    home.wait(10);
    home.renumber("2001:db8:65::/56");

    let sent = home.updates();

    let at: Vec<u128> = sent.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(at, [0, 250, 750]);
    for (_, bytes) in &sent {
        let told = success(bytes);
        let addr: std::net::Ipv6Addr = "2001:db8:65:1::c0a8:4014".parse().unwrap();
        assert_eq!((told.external_port, told.external_addr), (8081, addr));
        assert_eq!((told.internal_port, told.nonce.0), (8080, NONCE));
        assert_eq!(bytes[8..12], [0; 4]);
    }
    assert_eq!(sent[0].1[4..8], 3590_u32.to_be_bytes());
    assert_eq!(home.server.updates(), 3);
}

#[test]
fn a_3_a_client_that_asks_again_is_told_no_more() {
    let mut home = Home::serving(Dialects::Pcp);
    home.updates();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8080)));
    home.renumber("2001:db8:65::/56");
    home.server.handle_snapshot(home.core.snapshot(), home.now);

    // an update and the announcements wait already
    let sent = home.ask_all(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8080)));
    assert!(sent.len() > 1);

    assert_eq!(home.updates(), []);
    assert_eq!(home.server.updates(), 1);
}

#[test]
fn a_3_updates_bear_the_mandatory_options_and_exact_wishes_fail() {
    let mut home = Home::serving(Dialects::Pcp);
    home.updates();
    let described = [filter(48, "2001:db8:1::", 0), option(128, b"camera")].concat();
    let bytes = [request(CAMERA, 3600, &map(TCP, 8080, 8080)), described].concat();
    home.ask(CAMERA, &bytes);
    let mut exact = map(TCP, 9090, 9090);
    exact.external_addr = nsp(CAMERA);
    success(&home.ask_exactly(CAMERA, &exact));
    home.renumber("2001:db8:65::/56");

    let sent = home.updates();

    assert_eq!(sent.len(), 6);
    assert_eq!(sent[0].1[60..], filter(48, "2001:db8:1::", 0));
    assert_eq!(error(&sent[1].1), (ResultCode::CannotProvideExternal, 30));
    assert_eq!(sent[1].1[44..60], nsp(CAMERA).octets());
}

#[test]
fn a_3_a_client_whose_mapping_moved_around_a_restart_is_told_afterwards() {
    let mut home = Home::serving(Dialects::Pcp);
    home.updates();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8081)));
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 9090, 9090)));
    let set = option(130, &[0, 3, 0, 0, 0]);
    home.ask(
        CAMERA,
        &[request(CAMERA, 3600, &map(TCP, 7000, 0)), set].concat(),
    );
    home.renumber("2001:db8:65::/56");
    home.wait(Announcer::SERIES.as_secs());
    // the program has ended before it told anybody; one client has asked since
    home.restart(Dialects::Pcp);
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 9090, 9090)));

    let sent = home.updates();

    let at: Vec<u128> = sent.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(at, [0, 0, 250, 250, 750, 750]);
    for pair in sent.chunks(2) {
        let addr: std::net::Ipv6Addr = "2001:db8:65:1::c0a8:4014".parse().unwrap();
        let (one, set) = (success(&pair[0].1), success(&pair[1].1));
        assert_eq!((one.internal_port, one.external_port), (8080, 8081));
        assert_eq!((one.external_addr, one.nonce.0), (addr, NONCE));
        assert_eq!((set.internal_port, set.external_addr), (7000, addr));
        assert_eq!(pair[0].1.len(), 60);
        // the whole set is one mapping to its client (RFC 7753)
        assert_eq!(pair[1].1[60..], option(130, &[0, 3, 0x1b, 0x58, 0]));
    }
    // what was told need not be told again, and what is asked for is known to be known
    assert_eq!(home.updates(), []);
    for port in [8080, 7000] {
        home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, port, 0)));
    }
    home.restart(Dialects::Pcp);
    assert_eq!(home.updates(), []);
}

#[test]
fn a_3_updates_after_a_restart_bear_what_the_request_had() {
    let mut home = Home::new();
    home.server = pcp::Server::new(Settings {
        dialects: Dialects::Pcp,
        third_party: true,
        ..Settings::default()
    });
    let nas = option(1, &std::net::Ipv4Addr::from(NAS).to_ipv6_mapped().octets());
    let filter = filter(48, "2001:db8:1::", 443);
    let bytes = [
        request(CAMERA, 3600, &map(TCP, 8080, 8080)),
        nas.clone(),
        filter.clone(),
    ];
    success(&home.ask(CAMERA, &bytes.concat()));
    let mut exact = map(UDP, 9090, 9090);
    exact.external_addr = nsp(CAMERA);
    success(&home.ask_exactly(CAMERA, &exact));
    home.open_static(7070);
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 7070, 0)));
    home.renumber("2001:db8:65::/56");
    home.wait(Announcer::SERIES.as_secs());

    home.restart(Dialects::Pcp);
    let sent = home.updates();

    assert_eq!(sent.len(), 9);
    assert_eq!(sent[0].1[60..], [nas, filter].concat());
    assert_eq!(success(&sent[0].1).external_addr.octets()[15], NAS[3]);
    // whom only the old address serves is told so
    assert_eq!(error(&sent[1].1), (ResultCode::CannotProvideExternal, 30));
    assert_eq!(sent[1].1[44..60], nsp(CAMERA).octets());
    assert_eq!(sent[1].1[60..], option(2, &[]));
    // a static mapping moves too
    assert_eq!(success(&sent[2].1).internal_port, 7070);
    assert_eq!(sent[2].1[4..8], [0xff; 4]);
}

#[test]
fn a_1_and_a_2_a_start_with_nothing_is_announced() {
    // an empty store: whatever clients had is lost
    let mut home = Home::without_prefix();
    home.server = pcp::Server::new(Settings {
        dialects: Dialects::Pcp,
        ..Settings::default()
    });

    let sent = home.announcements();

    assert_eq!(sent.len(), 10);
    assert_eq!(sent[0].1[..12], [2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn sec_1_the_nonce_guards_what_no_authentication_does() {
    let mut home = Home::new();
    home.carry();
    let own = caller(CAMERA_IPV6.into());
    success(&home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0))));
    let pinhole = |nonce: u8, lifetime| {
        let mut body = map(TCP, 8080, 0);
        body.nonce.0[0] ^= nonce;
        request_of(CAMERA_IPV6, lifetime, Body::Map(body))
    };
    assert_eq!(home.ask_from(own, &pinhole(0, 3600))[3], 0);
    let before = home.open();

    let mut foreign = map(TCP, 8080, 0);
    foreign.nonce.0[0] ^= 1;
    for lifetime in [0, 3600] {
        let answer = home.ask(CAMERA, &request(CAMERA, lifetime, &foreign));
        assert_eq!(error(&answer), (ResultCode::NotAuthorized, 3600));
        let answer = home.ask_from(own, &pinhole(1, lifetime));
        assert_eq!(error(&answer), (ResultCode::NotAuthorized, 3600));
    }

    // RFC 7652 is not spoken: its opcode and its options are unknown
    let mut authentication = announce(CAMERA);
    authentication[1] = 3;
    assert_eq!(home.ask(CAMERA, &authentication)[3], 4);
    for code in 4..=12 {
        let bytes = [
            request(CAMERA, 3600, &map(TCP, 8080, 0)),
            option(code, &[0; 4]),
        ];
        assert_eq!(
            error(&home.ask(CAMERA, &bytes.concat())).0,
            ResultCode::UnsuppOption
        );
    }
    assert_eq!(home.open(), before);
}

#[test]
fn a_3_an_address_that_stays_is_not_told() {
    let mut home = Home::serving(Dialects::Pcp);
    home.updates();
    home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 8080)));

    home.carry(); // an IPv4 address more: the epoch begins anew, the IPv6 one stays

    assert_eq!(home.updates(), []);
    assert_eq!(home.ask(CAMERA, &announce(CAMERA))[3], 0);
}

#[test]
fn a_2_a_new_epoch_is_announced_ten_times_with_doubling_gaps() {
    let mut home = Home::serving(Dialects::Pcp);

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
    for (at, bytes) in &sent {
        let response = Response::parse(bytes).unwrap();
        assert_eq!(response.body, Body::Announce);
        assert_eq!(
            (response.result, response.lifetime),
            (ResultCode::Success, 0)
        );
        assert_eq!(u64::from(response.epoch), at.as_secs());
        assert_eq!(bytes.len(), 24);
    }
}

#[test]
fn a_2_announcements_go_to_all_hosts_on_5350() {
    let mut home = Home::new();
    home.server.handle_snapshot(home.core.snapshot(), home.now);

    let mut sent = Vec::new();
    while let Some(transmit) = home.server.poll_transmit() {
        sent.push((transmit.to.to_string(), transmit.bytes[0]));
    }
    sent.sort();
    // a pair of PCP's, one for each family; NAT-PMP is of IPv4
    let expected = [
        ("224.0.0.1:5350", 0),
        ("224.0.0.1:5350", 2),
        ("[ff02::1]:5350", 2),
    ];
    assert_eq!(sent, expected.map(|(to, version)| (to.to_owned(), version)));
    assert_eq!(home.server.counters().announcements, 1);
    assert_eq!(home.server.natpmp_counters().announcements, 1);
}

#[test]
fn a_2_a_start_that_lost_nothing_announces_nothing() {
    let mut home = Home::serving(Dialects::Pcp);
    home.wait(Announcer::SERIES.as_secs());

    assert_eq!(home.announcements().len(), 0);
}

#[test]
fn a_2_renumbering_is_announced_with_the_new_epoch() {
    let mut home = Home::serving(Dialects::Pcp);
    home.announcements();
    home.wait(1000);
    assert_eq!(home.announcements().len(), 0);

    home.renumber("2001:db8:65::/56");

    let sent = home.announcements();
    assert_eq!(sent.len(), 10);
    assert_eq!(sent[0].0, Duration::ZERO);
    assert_eq!(sent[0].1[8..12], [0; 4]);
}

#[test]
fn a_4_a_unicast_announce_is_answered_with_the_epoch() {
    let mut home = Home::new();
    home.wait(77);
    let mut bytes = announce(CAMERA);
    bytes[7] = 9; // a lifetime is ignored

    let answer = home.ask(CAMERA, &bytes);

    let mut expected = vec![2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 77];
    expected.extend([0; 12]);
    assert_eq!(answer, expected);
}

#[test]
fn a_4_options_of_map_make_no_sense_with_announce() {
    let mut home = Home::new();
    for option in [option(1, &[0; 16]), option(2, &[]), filter(0, "::", 0)] {
        let bytes = [announce(CAMERA), option].concat();
        assert_eq!(
            error(&home.ask(CAMERA, &bytes)).0,
            ResultCode::MalformedOption
        );
    }
}

#[test]
fn s7_4_a_port_that_the_policy_denies_is_not_authorized() {
    let mut home = Home::new();
    for port in [23, 445, 5351] {
        let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, port, 8080)));
        assert_eq!(error(&answer), (ResultCode::NotAuthorized, 1800));
        let answer = home.ask_exactly(CAMERA, &map(TCP, port, 8080));
        assert_eq!(error(&answer), (ResultCode::NotAuthorized, 1800));
    }
    assert!(!PortClass::WebAndHigh.contains(23));
}

#[test]
fn s7_4_which_of_the_two_ports_a_hosts_policy_denies_makes_the_code() {
    let mut home = Home::new();
    home.rule(Access::Allow, Some(PortClass::High));
    for (internal, external, exact_code) in [
        (8080, 443, ResultCode::CannotProvideExternal),
        (8080, 23, ResultCode::CannotProvideExternal),
        (443, 8443, ResultCode::NotAuthorized),
    ] {
        let answer = home.ask_exactly(CAMERA, &map(TCP, internal, external));
        assert_eq!(error(&answer).0, exact_code, "{internal} {external}");
    }
    // a hint does no harm
    let hint = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 443)));
    assert_eq!(success(&hint).external_port, 8080);

    home.rule(Access::Deny, None);
    let answer = home.ask_exactly(CAMERA, &map(TCP, 8080, 443));
    assert_eq!(error(&answer), (ResultCode::NotAuthorized, 1800));
}

#[test]
fn s7_4_without_a_prefix_the_network_failed() {
    let mut home = Home::without_prefix();

    let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0)));
    assert_eq!(error(&answer), (ResultCode::NetworkFailure, 30));
    let answer = home.ask_exactly(CAMERA, &map(TCP, 8080, 8080));
    assert_eq!(error(&answer), (ResultCode::NetworkFailure, 30));
}

#[test]
fn s7_4_every_refusal_has_its_code_and_lifetime() {
    let left = Some(Duration::from_secs(77));
    // the code without and with PREFER_FAILURE, and the lifetime of the error
    let table = [
        (Refusal::AddressNotFree, 8, 8, 30),
        (Refusal::ExternalPortDenied, 2, 11, 1800),
        (Refusal::ExternalPortTaken, 8, 11, 30),
        (Refusal::ForeignMapping { remaining: left }, 2, 2, 77),
        (Refusal::ForeignMapping { remaining: None }, 2, 2, 1800),
        (Refusal::NameNotFree, 8, 8, 30),
        (Refusal::NoPrefix, 7, 7, 30),
        (Refusal::NoLease, 2, 2, 1800),
        (Refusal::NotCarried, 8, 8, 30),
        (Refusal::NotFound, 8, 8, 30),
        (Refusal::OutboundMapping, 2, 2, 1800),
        (Refusal::PortDenied, 2, 2, 1800),
        (Refusal::PrefixInvalid(InvalidPrefix::Length), 7, 7, 30),
        (Refusal::QuotaExceeded, 10, 10, 30),
        (Refusal::StaticMapping, 2, 2, 1800),
        // code 13 is for requests with FILTER alone, see o_3
        (Refusal::TooManyFilters, 8, 8, 30),
        (Refusal::Unavailable, 8, 8, 30),
        (Refusal::Waiting, 2, 2, 30),
    ];
    let mut home = Home::new();
    println!("{:<45} PCP  PREFER_FAILURE  lifetime", "refusal");
    for (refusal, code, exact_code, lifetime) in table {
        println!(
            "{:<45} {code:>3}  {exact_code:>14}  {lifetime:>8}",
            refusal.to_string()
        );
        let plain = request(CAMERA, 3600, &map(TCP, 8080, 8081));
        let exact = [plain.clone(), option(2, &[])].concat();
        for (bytes, code) in [(plain, code), (exact, exact_code)] {
            let answer = home.ask_answering(CAMERA, &bytes, &Outcome::Refused(refusal));
            assert_eq!(answer[..4], [2, 0x81, 0, code], "{refusal}");
            assert_eq!(answer[4..8], u32::to_be_bytes(lifetime), "{refusal}");
            assert_eq!(answer[24..], bytes[24..], "{refusal}");
        }
    }
}

#[test]
fn s7_4_a_grant_that_fits_no_question_is_no_success() {
    let mut home = Home::new();
    let bytes = request(CAMERA, 3600, &map(TCP, 8080, 8080));

    let answer = home.ask_answering(CAMERA, &bytes, &Outcome::Granted(Grant::Done));

    assert_eq!(error(&answer), (ResultCode::NoResources, 30));
}

#[test]
fn s8_1_1_a_retransmission_that_overtakes_the_answer_is_answered_once() {
    let mut home = Home::new();
    let bytes = request(CAMERA, 3600, &map(TCP, 8080, 0));

    home.hear(CAMERA, &bytes);
    home.hear(CAMERA, &bytes);

    assert_eq!(home.answers().len(), 1);
    assert_eq!(home.server.counters().repeats, 1);
    assert_eq!(home.ask_all(CAMERA, &bytes).len(), 1);
}

#[test]
fn s11_3_requests_reach_the_writer_in_their_order() {
    let mut home = Home::new();

    home.hear(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0)));
    home.hear(CAMERA, &request(CAMERA, 0, &map(TCP, 8080, 0)));
    home.answers();

    assert!(home.open().is_empty());
}

/// Asks to be reached by IPv4.
fn at_ipv4(client: [u8; 4], lifetime: u32, map: Map) -> Vec<u8> {
    let map = Map {
        external_addr: std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(),
        ..map
    };
    request(client, lifetime, &map)
}

const CAMERA_MAPPED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 64, 20];

#[path = "support/pcp_home.rs"]
#[cfg(test)]
mod home;
