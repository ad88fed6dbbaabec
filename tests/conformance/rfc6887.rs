//! RFC 6887 (PCP), requirement by requirement, at machine level: the real core decides.

use std::time::Duration;

use home::{
    CAMERA, Home, NAS, NONCE, TCP, UDP, announce, error, map, nsp, option, request, success,
};
use mapping::{Grant, InvalidPrefix, Outcome, PortClass, Refusal};
use natpmp::Announcer;
use pcp::wire::{Body, Response, ResultCode};
use pcp::{Dialects, DropReason};

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

    assert_eq!(home.server.counters().drops(DropReason::Short), 2);
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
    assert_eq!(home.server.counters().drops(DropReason::Short), 22);
}

#[test]
fn p_2_an_unknown_opcode_is_unsupported_and_its_payload_comes_back() {
    let mut home = Home::new();
    for opcode in [2, 3, 4, 0x7f] {
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
    for code in [128, 130, 255] {
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
    for option in [option(2, &[]), option(3, &[0; 20])] {
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
    let options = [option(200, &[1]), option(2, &[]), option(129, &[])].concat();
    let bytes = [request(CAMERA, 3600, &map(TCP, 8080, 8080)), options].concat();

    let answer = home.ask(CAMERA, &bytes);

    assert_eq!(success(&answer).external_port, 8080);
    assert_eq!(answer[60..], option(2, &[]));
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
fn m_5_deleting_a_static_mapping_is_not_authorized() {
    let mut home = Home::new();
    home.open_static(8080);

    let answer = home.ask(CAMERA, &request(CAMERA, 0, &map(TCP, 8080, 0)));

    assert_eq!(error(&answer), (ResultCode::NotAuthorized, 1800));
    assert_eq!(home.open().len(), 1);
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
    assert_eq!(error(&denied), (ResultCode::CannotProvideExternal, 30));
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
fn o_3_filter_is_unsupported() {
    let mut home = Home::new();
    let filter = option(3, &[0; 20]);
    let bytes = [request(CAMERA, 3600, &map(TCP, 8080, 8080)), filter].concat();

    assert_eq!(
        error(&home.ask(CAMERA, &bytes)),
        (ResultCode::UnsuppOption, 1800)
    );
    assert!(home.open().is_empty());
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

    while let Some(transmit) = home.server.poll_transmit() {
        assert_eq!(transmit.to.to_string(), "224.0.0.1:5350");
    }
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
    for option in [option(1, &[0; 16]), option(2, &[]), option(3, &[0; 20])] {
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
    for port in [22, 445, 5351] {
        let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, port, 8080)));
        assert_eq!(error(&answer), (ResultCode::NotAuthorized, 1800));
        let answer = home.ask_exactly(CAMERA, &map(TCP, port, 8080));
        assert_eq!(error(&answer), (ResultCode::NotAuthorized, 1800));
    }
    assert!(!PortClass::WebAndHigh.contains(22));
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
        (Refusal::ExternalPortTaken, 8, 11, 30),
        (Refusal::ForeignMapping { remaining: left }, 2, 2, 77),
        (Refusal::ForeignMapping { remaining: None }, 2, 2, 1800),
        (Refusal::NameNotFree, 8, 8, 30),
        (Refusal::NoPrefix, 7, 7, 30),
        (Refusal::NoLease, 2, 2, 1800),
        (Refusal::NotFound, 8, 8, 30),
        (Refusal::PrefixInvalid(InvalidPrefix::Length), 7, 7, 30),
        (Refusal::QuotaExceeded, 10, 10, 30),
        (Refusal::StaticMapping, 2, 2, 1800),
        (Refusal::Unavailable, 8, 8, 30),
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
    // this one's code depends on which of the two ports is denied
    for (internal, exact_code) in [(8080, 11), (22, 2)] {
        let plain = request(CAMERA, 3600, &map(TCP, internal, 8081));
        let exact = [plain.clone(), option(2, &[])].concat();
        for (bytes, code) in [(plain, 2), (exact, exact_code)] {
            let refused = Outcome::Refused(Refusal::PortDenied);
            assert_eq!(home.ask_answering(CAMERA, &bytes, &refused)[3], code);
        }
        println!(
            "{:<45} {:>3}  {exact_code:>14}",
            Refusal::PortDenied.to_string(),
            2
        );
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

const CAMERA_MAPPED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 64, 20];

#[cfg(test)]
mod home {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
    use std::time::Duration;

    use mapping::{
        BootId, Core, External, ExternalPort, Instant, InternalPort, LeaseRequest, Mac, MapRequest,
        MappingNonce, Now, Outcome, Policy, PrefixRequest, Protocol, Request, Requester, Site,
        Subject, Wall,
    };
    use natpmp::Limits;
    use pcp::wire::{Body, Map, PcpOption, Response, ResultCode, emit_option};
    use pcp::{Dialects, RequestToken, Server};

    pub const CAMERA: [u8; 4] = [192, 168, 64, 20];
    pub const NAS: [u8; 4] = [192, 168, 64, 21];
    pub const NONCE: [u8; 12] = *b"nonce-nonce!";
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;

    /// A gateway with a camera and a NAS: the machine, and the real core behind it.
    pub struct Home {
        pub core: Core,
        pub server: Server,
        pub now: Now,
        waiting: Vec<(RequestToken, Request)>,
    }

    impl Home {
        pub fn new() -> Self {
            Self::serving(Dialects::Both)
        }

        pub fn serving(dialects: Dialects) -> Self {
            let mut home = Self::without_prefix();
            home.server = Server::new(dialects, Limits::default());
            home.renumber("2001:db8:64::/56");
            home
        }

        pub fn without_prefix() -> Self {
            let now = Now {
                mono: Instant::from_nanos(5_000_000_000),
                wall: Wall::from_secs(1_800_000_000),
            };
            let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned());
            let policy = Policy::default();
            let core = Core::new(site.unwrap(), policy, [7; 16], BootId([1; 16]), now);
            let mut home = Self {
                core,
                server: Server::new(Dialects::Both, Limits::default()),
                now,
                waiting: Vec::new(),
            };
            for (addr, name) in [(CAMERA, "camera"), (NAS, "nas")] {
                home.decide(&Request::Lease(LeaseRequest {
                    mac: mac(addr),
                    addr: addr.into(),
                    lifetime: Duration::from_secs(36_000),
                    declared_name: Some(name.to_owned()),
                }));
            }
            home
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
                description: String::new(),
            }));
            assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
        }

        pub fn hear(&mut self, source: [u8; 4], bytes: &[u8]) {
            let source = SocketAddrV4::new(source.into(), 50_000);
            self.server
                .handle_datagram(bytes, source, self.core.snapshot(), self.now);
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

        /// Asks for an hour with `PREFER_FAILURE`.
        #[track_caller]
        pub fn ask_exactly(&mut self, source: [u8; 4], map: &Map) -> Vec<u8> {
            let bytes = [request(source, 3600, map), option(2, &[])].concat();
            self.ask(source, &bytes)
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

        /// What is open: who, protocol, external and internal port, and who asked.
        pub fn open(&self) -> Vec<String> {
            let snapshot = self.core.snapshot();
            let line = |mapping: &mapping::Mapping| {
                let host = snapshot.host(mapping.host).unwrap();
                let (external, internal) = (mapping.external_port, mapping.internal_port);
                let requester = mapping.requester.as_str();
                let protocol = mapping.protocol;
                format!(
                    "{} {protocol} {external}->{internal} {requester}",
                    host.name
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

    pub const fn map(protocol: u8, internal_port: u16, external_port: u16) -> Map {
        Map {
            nonce: MappingNonce(NONCE),
            protocol,
            internal_port,
            external_port,
            external_addr: Ipv6Addr::UNSPECIFIED,
        }
    }

    pub fn request(client: [u8; 4], lifetime: u32, map: &Map) -> Vec<u8> {
        emit(client, lifetime, Body::Map(*map))
    }

    pub fn announce(client: [u8; 4]) -> Vec<u8> {
        emit(client, 0, Body::Announce)
    }

    pub fn option(code: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        emit_option(PcpOption::Unknown { code, data }, &mut bytes);
        bytes
    }

    /// Where remotes reach a host.
    pub fn nsp(addr: [u8; 4]) -> Ipv6Addr {
        let prefix: Ipv6Addr = "2001:db8:64:1::".parse().unwrap();
        Ipv6Addr::from(u128::from(prefix) | u128::from(u32::from(Ipv4Addr::from(addr))))
    }

    #[track_caller]
    pub fn success(bytes: &[u8]) -> Map {
        let response = Response::parse(bytes).unwrap();
        assert_eq!(response.result, ResultCode::Success);
        match response.body {
            Body::Map(map) => map,
            Body::Announce => panic!("not a mapping: {response:?}"),
        }
    }

    /// The code and the lifetime of an error.
    #[track_caller]
    pub fn error(bytes: &[u8]) -> (ResultCode, u32) {
        let [_, _, _, code, l0, l1, l2, l3, ..] = *bytes else {
            panic!("too short: {bytes:?}");
        };
        assert_ne!(code, 0, "a success: {bytes:?}");
        (
            ResultCode::from_number(code),
            u32::from_be_bytes([l0, l1, l2, l3]),
        )
    }

    fn emit(client: [u8; 4], lifetime: u32, body: Body) -> Vec<u8> {
        let request = pcp::wire::Request {
            lifetime,
            client: Ipv4Addr::from(client).to_ipv6_mapped(),
            body,
            options: &[],
        };
        request.emit()
    }

    fn mac(addr: [u8; 4]) -> Mac {
        let [a, b, c, d] = addr;
        Mac([2, 0, a, b, c, d])
    }
}
