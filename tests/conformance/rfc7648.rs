//! RFC 7648 (the client that faces the gateway in front of us), with the client's side of RFC
//! 6887 and 6886, requirement by requirement, at machine level.

use std::net::SocketAddr;
use std::time::Duration;

use bench::{Bench, CAMERA, OWN_V6, camera, ip, parse, remotes, shared};
use natpmp::wire as natpmp_wire;
use pcp::wire::ResultCode;
use upstream::{DropReason, Mode, PortState, Reach, Refused};

#[test]
fn s3_3_firewall_is_asked_with_a_third_party_option_that_names_the_servers_address() {
    let mut bench = Bench::over_v6();
    bench.open(camera(554));

    let request = bench.only_map();

    assert_eq!(request.client.to_string(), OWN_V6, "the source address");
    assert_eq!(request.third_party.unwrap().to_string(), CAMERA);
    assert_eq!((request.map.protocol, request.map.internal_port), (6, 554));
    assert_eq!(request.map.external_port, 554, "the same port is suggested");
    assert_eq!(request.lifetime, 7200);
}

#[test]
fn s3_3_nat_is_asked_from_our_own_address_without_third_party() {
    // RFC 6887 §13.1 forbids the option there
    let mut bench = Bench::over_v4(Mode::Pcp);
    bench.open(shared(8080));

    let request = bench.only_map();

    assert_eq!(request.third_party, None);
    assert_eq!(request.client.to_string(), "::ffff:192.168.0.7");
}

#[test]
fn s3_2_recursion_ends_at_a_public_ipv4_address_of_our_own() {
    let mut bench = Bench::new(Mode::Auto);
    bench.link_v4("203.0.113.1", "203.0.113.9");

    bench.run(Duration::from_hours(3));

    assert_eq!(bench.sent, [], "nobody is asked");
    assert_eq!(bench.machine.chain(), []);
}

#[test]
fn s3_2_router_that_says_nothing_is_told_of_no_port() {
    let mut bench = Bench::new(Mode::Auto);
    bench.link_v6();
    for port in 1000..1100 {
        bench.open(camera(port));
    }

    bench.run(Duration::from_hours(24));

    let sent = bench.take();
    assert!(sent.len() < 100, "{} datagrams in a day", sent.len());
    assert!(sent.iter().all(|it| it.1[..2] == [2, 0]), "ANNOUNCE alone");
    let states: Vec<_> = bench.machine.ports().map(|it| it.2).collect();
    assert_eq!(states, [PortState::Waiting; 100]);
}

#[test]
fn s3_5_announcement_of_a_restart_renews_the_mappings_and_one_of_nothing_does_not() {
    let mut bench = Bench::over_v6();
    bench.open_and_grant(camera(554), 7200);
    bench.run(Duration::from_secs(600));
    bench.take();

    bench.announce(700);
    bench.run(Duration::from_secs(6));
    assert_eq!(bench.take(), [], "the epoch is as expected");
    bench.announce(0);
    bench.run(Duration::from_secs(6));

    let request = bench.only_map();
    assert_eq!(request.map.external_port, 554);
    let addr = request.map.external_addr.to_string();
    assert_eq!(addr, CAMERA, "what was assigned is suggested");
}

#[test]
fn s3_6_mappings_go_to_the_new_router_with_other_nonces_when_the_router_changes() {
    let mut bench = Bench::over_v6();
    bench.open(camera(554));
    let before = bench.only_map();

    bench.link("fe80::9", OWN_V6);
    bench.server = "fe80::9".parse().unwrap();
    bench.take();
    bench.announce(5);
    let after = bench.only_map();

    assert_ne!(before.map.nonce, after.map.nonce, "RFC 6887 §11.2");
    assert_eq!(before.map.internal_port, after.map.internal_port);
}

#[test]
fn c_1_unanswered_request_is_repeated_after_3_s_doubling_to_1024_s_for_ever() {
    let mut bench = Bench::over_v6();
    bench.open(camera(554));

    bench.run(Duration::from_hours(20));

    let sent = bench.take();
    let requests: Vec<_> = sent.iter().map(|(at, bytes)| (*at, parse(bytes))).collect();
    let mut expected = 3.0;
    for pair in requests.windows(2) {
        let gap = pair[1].0.since(pair[0].0).as_secs_f64();
        assert!((expected * 0.89..=expected * 1.11).contains(&gap), "{gap}");
        expected = f64::min(gap * 2.0, 1024.0);
        assert_eq!(pair[0].1, pair[1].1, "the same request, and the same nonce");
    }
    assert!(requests.len() > 70, "{} in twenty hours", requests.len());
}

#[test]
fn c_1_renewals_come_at_half_the_life_and_then_closer_but_never_within_4_s() {
    let mut bench = Bench::over_v6();
    bench.open_and_grant(camera(554), 7200);
    let granted = bench.now;

    bench.run(Duration::from_secs(7300));

    let sent = bench.take();
    let at: Vec<_> = sent
        .iter()
        .map(|it| it.0.since(granted).as_secs())
        .collect();
    assert!((3600..=4500).contains(&at[0]), "{at:?}");
    assert!((5400..=5850).contains(&at[1]), "{at:?}");
    assert!((6300..=6525).contains(&at[2]), "{at:?}");
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 3), "{at:?}");
    assert!(at.len() < 25, "no flood: {at:?}");
    let last = parse(&sent[0].1);
    assert_eq!(last.map.external_addr.to_string(), CAMERA);
}

#[test]
fn c_1_mapping_that_ran_out_is_asked_for_as_if_it_were_new() {
    let mut bench = Bench::over_v6();
    bench.open_and_grant(camera(554), 7200);

    bench.run(Duration::from_secs(7190));
    assert!(matches!(bench.state(camera(554)), PortState::Open(_)));
    bench.run(Duration::from_secs(20));

    assert_eq!(bench.state(camera(554)), PortState::Asking);
    let request = parse(&bench.take().last().unwrap().1);
    bench.grant(&request, 7200);
    assert!(matches!(bench.state(camera(554)), PortState::Open(_)));
}

#[test]
fn c_1_absurd_lifetime_is_taken_for_a_day() {
    let mut bench = Bench::over_v6();
    bench.open(camera(554));
    let request = bench.only_map();

    bench.grant(&request, u32::MAX);

    let PortState::Open(granted) = bench.state(camera(554)) else {
        panic!("not open");
    };
    assert_eq!(granted.lifetime, Duration::from_hours(24));
}

#[test]
fn p_10_lost_epoch_recreates_every_mapping_within_five_seconds_of_chance() {
    let mut firsts = Vec::new();
    for seed in 0..40 {
        let mut bench = Bench::seeded(Mode::Auto, seed);
        bench.link_v6();
        bench.announce(100);
        bench.take();
        for port in [80, 443, 554] {
            bench.open_and_grant(camera(port), 7200);
        }
        bench.run(Duration::from_secs(10));
        let lost = bench.now;

        bench.announce(3);
        bench.run(Duration::from_secs(6));

        let sent = bench.take();
        let mut ports: Vec<_> = sent
            .iter()
            .map(|it| parse(&it.1).map.internal_port)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports, [80, 443, 554], "seed {seed}");
        let first = sent[0].0.since(lost).as_secs_f64();
        assert!(first <= 5.0, "seed {seed}: {first}");
        firsts.push(first);
        assert_eq!(bench.machine.counters().losses, 1);
    }
    let spread = firsts.iter().copied().fold(0.0, f64::max);
    assert!(
        spread > 3.0 && firsts.iter().any(|it| *it < 2.0),
        "{firsts:?}"
    );
}

#[test]
fn p_10_answer_that_reveals_the_loss_is_not_asked_for_again() {
    let mut bench = Bench::over_v6();
    bench.open_and_grant(camera(80), 7200);
    bench.run(Duration::from_secs(60));
    bench.open(camera(81));
    let request = bench.only_map();

    bench.epoch_zero();
    bench.grant(&request, 7200);
    bench.run(Duration::from_secs(6));

    let asked = bench.take();
    assert!(!asked.is_empty(), "the other one is recreated");
    assert!(
        asked.iter().all(|it| parse(&it.1).map.internal_port == 80),
        "{asked:?}"
    );
}

#[test]
fn p_10_gateway_that_announces_nothing_is_looked_at_every_five_minutes() {
    for mode in [Mode::Pcp, Mode::NatPmp] {
        let mut bench = Bench::over_v4(mode);
        bench.open(shared(80));
        if mode == Mode::Pcp {
            let request = bench.only_map();
            bench.grant(&request, 7200);
        } else {
            bench.natpmp_grant();
        }
        let (at, _) = bench.machine.poll_timeout().unwrap();
        assert_eq!(at.since(bench.now), Duration::from_mins(5), "{mode:?}");

        bench.now = at;
        bench.machine.handle_timeout(at);

        let sent = bench.take();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(
            matches!(sent[0].1[..], [2, 0, ..] | [0, 0]),
            "it leaves no state"
        );
    }
}

#[test]
fn p_10_epoch_of_a_response_that_matches_nothing_tells_nothing() {
    let mut bench = Bench::over_v6();
    bench.open(camera(80));
    let mut request = bench.only_map();
    bench.grant(&request, 7200);

    bench.epoch_zero();
    request.map.nonce.0[0] ^= 1;
    bench.grant(&request, 7200);

    assert_eq!(bench.machine.counters().losses, 0);
    assert_eq!(bench.machine.counters().dropped(DropReason::Unasked), 1);
}

#[test]
fn rfc_6887_s14_2_mapping_update_changes_what_is_known_without_being_asked() {
    let mut bench = Bench::over_v4(Mode::Pcp);
    bench.open(shared(8080));
    let request = bench.only_map();
    bench.answer(&request, ResultCode::Success, 7200, "203.0.113.9", 8080);
    bench.run(Duration::from_secs(60));

    bench.answer(&request, ResultCode::Success, 7200, "203.0.113.50", 9090);

    let PortState::Open(granted) = bench.state(shared(8080)) else {
        panic!("not open");
    };
    assert_eq!((granted.addr, granted.port), (ip("203.0.113.50"), 9090));
    assert_eq!(bench.chain().external, ip("203.0.113.50"));
}

#[test]
fn rfc_6887_s8_3_refused_request_is_not_repeated_within_the_life_of_the_error() {
    let mut bench = Bench::over_v6();
    bench.open(camera(554));
    let request = bench.only_map();

    bench.refuse(&request, ResultCode::NotAuthorized, 1800);
    let refused = Refused::Pcp(ResultCode::NotAuthorized);
    let until = bench.now + Duration::from_secs(1800);
    let why = refused;
    assert_eq!(bench.state(camera(554)), PortState::Refused { why, until });
    bench.run(Duration::from_secs(1799));
    assert_eq!(bench.take(), []);
    bench.run(Duration::from_secs(2));

    assert_eq!(bench.only_map(), request);
}

#[test]
fn rfc_6887_s8_3_nobody_but_the_server_is_heard() {
    let mut bench = Bench::over_v6();
    bench.open(camera(554));
    let request = bench.only_map();
    let bytes = request.response(ResultCode::Success, 7200, 1, CAMERA, 554);

    for stranger in ["[fe80::2]:5351", "[fe80::1]:5352", "192.168.0.1:5351"] {
        let stranger: SocketAddr = stranger.parse().unwrap();
        bench.machine.handle_datagram(&bytes, stranger, bench.now);
    }

    assert_eq!(bench.state(camera(554)), PortState::Asking);
    assert_eq!(bench.machine.counters().dropped(DropReason::Stranger), 3);
}

#[test]
fn rfc_6887_s8_3_what_cannot_be_read_is_ignored() {
    let mut bench = Bench::over_v6();
    bench.open(camera(554));
    bench.only_map();

    for bytes in [
        &b""[..],
        b"\x02",
        b"\x02\x81\0\0",
        &[2; 25],
        &[9; 24],
        &[2; 1104],
    ] {
        bench.hear(bytes);
    }

    assert_eq!(bench.machine.counters().dropped(DropReason::Malformed), 6);
    assert_eq!(bench.state(camera(554)), PortState::Asking);
}

#[test]
fn rfc_6887_s11_4_no_resources_holds_new_mappings_and_not_renewals() {
    let mut bench = Bench::over_v6();
    bench.open_and_grant(camera(80), 600);
    bench.open(camera(81));
    let request = bench.only_map();

    bench.refuse(&request, ResultCode::NoResources, 400);
    bench.open(camera(82));
    bench.run(Duration::from_secs(399));

    let asked: Vec<_> = bench
        .take()
        .iter()
        .map(|it| parse(&it.1).map.internal_port)
        .collect();
    assert_eq!(asked, [80], "the renewal alone");
    bench.run(Duration::from_secs(2));
    let mut asked: Vec<_> = bench
        .take()
        .iter()
        .map(|it| parse(&it.1).map.internal_port)
        .collect();
    asked.sort_unstable();
    assert_eq!(asked, [81, 82]);
}

#[test]
fn rfc_6887_s11_4_no_resources_for_a_deletion_holds_everything() {
    let mut bench = Bench::over_v6();
    bench.open_and_grant(camera(80), 600);
    bench.open_and_grant(camera(81), 600);
    bench.close(camera(80));
    let deletion = bench.only_map();

    bench.refuse(&deletion, ResultCode::NoResources, 450);
    bench.run(Duration::from_secs(449));
    assert_eq!(bench.take(), []);

    bench.run(Duration::from_secs(60));
    assert!(bench.take().iter().any(|it| parse(&it.1).lifetime == 0));
}

#[test]
fn rfc_6887_s15_1_deletion_asks_for_no_life_and_suggests_nothing() {
    let mut bench = Bench::over_v6();
    bench.open_and_grant(camera(554), 7200);

    bench.close(camera(554));

    let request = bench.only_map();
    assert_eq!((request.lifetime, request.map.external_port), (0, 0));
    assert!(request.map.external_addr.is_unspecified());
    assert_eq!(bench.state(camera(554)), PortState::Closing);
    bench.grant(&request, 0);
    assert_eq!(bench.machine.ports().count(), 0, "nothing is remembered");
}

#[test]
fn rfc_6887_s15_1_deletion_that_is_not_answered_ends_by_itself() {
    let mut bench = Bench::over_v6();
    bench.open_and_grant(camera(554), 7200);
    bench.close(camera(554));

    bench.run(Duration::from_mins(5));

    assert_eq!(bench.take().len(), 4);
    assert_eq!(bench.machine.ports().count(), 0);
}

#[test]
fn rfc_6887_s15_1_port_that_opens_again_while_it_is_deleted_is_asked_for() {
    let mut bench = Bench::over_v6();
    bench.open_and_grant(camera(554), 7200);
    bench.close(camera(554));
    let deletion = bench.only_map();

    bench.open(camera(554));
    let again = bench.only_map();
    bench.grant(&deletion, 0);

    assert_eq!(again.lifetime, 7200);
    assert_eq!(
        bench.state(camera(554)),
        PortState::Asking,
        "the late answer is none"
    );
    bench.grant(&again, 7200);
    assert!(matches!(bench.state(camera(554)), PortState::Open(_)));
}

#[test]
fn rfc_6887_s13_1_server_without_third_party_is_not_asked_for_every_port() {
    let mut bench = Bench::over_v6();
    bench.open(camera(80));
    let request = bench.only_map();

    bench.refuse(&request, ResultCode::UnsuppOption, 1800);
    for port in 81..90 {
        bench.open(camera(port));
    }

    assert_eq!(bench.take(), []);
    let why = Refused::Pcp(ResultCode::UnsuppOption);
    let refused = |it: PortState| matches!(it, PortState::Refused { why: w, .. } if w == why);
    assert!(bench.machine.ports().all(|it| refused(it.2)));
}

#[test]
fn rfc_6887_s9_server_of_version_0_is_asked_by_nat_pmp_and_by_pcp_once_it_speaks_that() {
    let mut bench = Bench::new(Mode::Auto);
    bench.link_v4("192.168.0.1", "192.168.0.7");
    bench.open(shared(8080));
    assert_eq!(bench.take()[0].1[..2], [2, 0], "PCP first");

    bench.hear(&[0, 128, 0, 1, 0, 0, 0, 9]);
    assert_eq!(bench.take()[0].1, [0, 0], "the external address");
    assert_eq!(bench.chain().kind, Some("nat-pmp"));
    bench.address(10, "203.0.113.9");
    assert_eq!(bench.take()[0].1[..2], [0, 2], "the port");

    bench.epoch = Some((1, bench.now));
    bench.announce_here();
    assert_eq!(bench.take()[0].1[..2], [2, 0], "and back");
    bench.announce_here();
    assert_eq!(bench.chain().kind, Some("pcp"));
    assert!(bench.take().iter().any(|it| it.1[..2] == [2, 1]));
}

#[test]
fn rfc_6887_s9_server_of_another_version_is_tried_again_after_half_an_hour() {
    let mut bench = Bench::new(Mode::Auto);
    bench.link_v6();
    bench.open(camera(80));
    bench.take();

    bench.hear(&[3, 0x80, 0, 1, 0, 0, 7, 8, 0, 0, 0, 0]);
    bench.run(Duration::from_secs(1799));
    assert_eq!(bench.take(), []);
    assert_eq!(bench.chain().kind, None);
    bench.run(Duration::from_secs(2));

    assert_eq!(bench.take()[0].1[..2], [2, 0]);
}

#[test]
fn rfc_6887_s9_nat_pmp_is_not_spoken_over_ipv6_or_against_the_configuration() {
    let mut over_v6 = Bench::new(Mode::Auto);
    over_v6.link_v6();
    let mut pcp_only = Bench::new(Mode::Pcp);
    pcp_only.link_v4("192.168.0.1", "192.168.0.7");

    for bench in [&mut over_v6, &mut pcp_only] {
        bench.take();
        bench.hear(&[0, 128, 0, 1, 0, 0, 0, 9]);
        bench.run(Duration::from_secs(60));

        assert_eq!(bench.take(), []);
        assert_eq!(bench.chain().kind, None);
    }
}

#[test]
fn rfc_6887_s11_2_nonces_are_the_same_after_a_restart_so_that_mappings_can_be_renewed() {
    let nonce = |seed| {
        let mut bench = Bench::seeded(Mode::Auto, seed);
        bench.link_v6();
        bench.announce(100);
        bench.take();
        bench.open(camera(554));
        bench.only_map().map.nonce
    };

    assert_eq!(nonce(1), nonce(2));
}

#[test]
fn np_10_lost_state_recreates_the_mappings_one_at_a_time_within_five_seconds() {
    let mut bench = Bench::over_v4(Mode::NatPmp);
    for port in [80, 81, 82] {
        bench.open(shared(port));
        bench.natpmp_grant();
    }
    bench.run(Duration::from_secs(100));
    assert_eq!(bench.take(), []);
    let lost = bench.now;

    bench.epoch = Some((2, bench.now));
    bench.address_here("203.0.113.9");
    bench.run(Duration::from_millis(5100));

    let first = bench.take();
    assert!(first[0].0.since(lost) <= Duration::from_secs(5));
    let mut seen = vec![first[0].1[5]];
    for _ in 0..2 {
        bench.natpmp_answer(&first[0].1.clone());
        let next = bench.natpmp_grant();
        seen.push(next[5]);
    }
    assert!(seen.len() == 3, "{seen:?}");
    assert_eq!(bench.machine.counters().losses, 1);
}

#[test]
fn np_10_plausible_seconds_recreate_nothing() {
    let mut bench = Bench::over_v4(Mode::NatPmp);
    bench.open(shared(80));
    bench.natpmp_grant();
    bench.run(Duration::from_secs(800));

    let (told, at) = bench.epoch.unwrap();
    bench.epoch = Some((told + 700, at + Duration::from_secs(800)));
    bench.address_here("203.0.113.9");
    bench.run(Duration::from_secs(6));

    assert_eq!(bench.take(), []);
    assert_eq!(bench.machine.counters().losses, 0);
}

#[test]
fn rfc_6886_s3_1_requests_are_made_one_at_a_time() {
    let mut bench = Bench::over_v4(Mode::NatPmp);
    for port in 80..90 {
        bench.open(shared(port));
    }

    for left in (0..10).rev() {
        let sent = bench.take();
        assert_eq!(sent.len(), 1, "{left} are left");
        bench.natpmp_answer(&sent[0].1);
    }

    assert_eq!(bench.take(), []);
    assert!(
        bench
            .machine
            .ports()
            .all(|it| matches!(it.2, PortState::Open(_)))
    );
}

#[test]
fn rfc_6886_s3_1_gateway_that_is_silent_nine_times_speaks_it_no_more() {
    let mut bench = Bench::over_v4(Mode::NatPmp);
    bench.open(shared(80));

    bench.run(Duration::from_millis(127_700));
    let sent = bench.take();
    let maps = sent.iter().filter(|it| it.1[..2] == [0, 2]).count();
    assert_eq!(maps, 9);
    assert_eq!(sent[1].0.since(sent[0].0), Duration::from_millis(250));
    assert_eq!(bench.chain().kind, Some("nat-pmp"));
    bench.run(Duration::from_secs(2));

    assert_eq!(bench.chain().kind, None);
}

#[test]
fn rfc_6886_s3_3_renewal_begins_at_half_the_life_and_suggests_what_was_mapped() {
    let mut bench = Bench::over_v4(Mode::NatPmp);
    bench.open(shared(80));
    let request = bench.take().remove(0).1;
    bench.natpmp_answer_with(&request, 0, 4080, 7200);
    let granted = bench.now;

    bench.run(Duration::from_secs(4501));

    let renewal = &bench.take()[0];
    let after = renewal.0.since(granted).as_secs();
    assert!((3600..=4500).contains(&after), "{after}");
    assert_eq!(renewal.1[4..8], [0, 80, 0x0f, 0xf0], "port 4080");
}

#[test]
fn rfc_6886_s3_4_deletion_has_no_life_and_no_external_port() {
    let mut bench = Bench::over_v4(Mode::NatPmp);
    bench.open(shared(80));
    bench.natpmp_grant();

    bench.close(shared(80));

    let request = bench.take().remove(0).1;
    assert_eq!(request, [0, 2, 0, 0, 0, 80, 0, 0, 0, 0, 0, 0]);
    bench.natpmp_answer_with(&request, 0, 0, 0);
    assert_eq!(bench.machine.ports().count(), 0);
}

#[test]
fn rfc_6886_s3_5_refusal_is_not_repeated_for_half_an_hour() {
    let mut bench = Bench::over_v4(Mode::NatPmp);
    bench.open(shared(80));
    let request = bench.take().remove(0).1;

    bench.natpmp_answer_with(&request, 2, 0, 0);
    bench.run(Duration::from_secs(1799));

    assert_eq!(bench.take(), []);
    let why = Refused::NatPmp(natpmp_wire::ResultCode::Refused);
    let state = bench.state(shared(80));
    assert!(
        matches!(state, PortState::Refused { why: w, .. } if w == why),
        "{state:?}"
    );
}

#[test]
fn rfc_6886_s3_2_1_announcement_changes_the_external_address() {
    let mut bench = Bench::over_v4(Mode::NatPmp);
    assert_eq!(bench.chain().external, ip("203.0.113.9"));

    bench.epoch_goes_on();
    bench.address_here("100.64.7.7");

    assert_eq!(bench.chain().external, ip("100.64.7.7"));
    assert_eq!(bench.chain().reach(), Reach::CarrierNat);
}

#[test]
fn s3_2_carrier_nat_is_told_by_the_addresses() {
    for (own, external, carrier, reach) in [
        ("100.64.0.7", None, true, Reach::CarrierNat),
        ("192.0.0.2", None, true, Reach::CarrierNat),
        ("192.168.0.7", None, false, Reach::Private),
        ("192.168.0.7", Some("203.0.113.9"), false, Reach::Public),
        ("192.168.0.7", Some("100.64.3.2"), true, Reach::CarrierNat),
        ("192.168.0.7", Some("10.4.4.4"), true, Reach::Private),
        ("100.64.0.7", Some("203.0.113.9"), true, Reach::CarrierNat),
    ] {
        let mut bench = Bench::new(Mode::NatPmp);
        bench.link_v4("192.168.0.1", own);
        if let Some(external) = external {
            bench.address(10, external);
        }

        let chain = bench.chain();
        assert_eq!(
            (chain.is_carrier_nat(), chain.reach()),
            (carrier, reach),
            "{own} {external:?}"
        );
    }
}

#[test]
fn rfc_6887_s13_3_filters_are_passed_on_and_replace_those_from_before() {
    let mut bench = Bench::over_v6();
    bench.open(camera(554));
    let request = bench.only_map();
    assert_eq!(request.filters, [], "whoever has none says nothing");
    bench.grant(&request, 7200);

    let office = remotes("2001:db8:0f1c::/48", Some(4000));
    bench.open_to(camera(554), &[office]);
    let request = bench.only_map();
    let narrowed = [
        (0, 0, "::".to_owned()),
        (48, 4000, "2001:db8:f1c::".to_owned()),
    ];
    assert_eq!(request.filters, narrowed);
    assert_eq!(request.map.external_port, 554);
    bench.grant(&request, 7200);
    assert!(matches!(bench.state(camera(554)), PortState::Open(_)));
    bench.run(Duration::from_secs(4600));
    let renewal = parse(&bench.take()[0].1);
    assert_eq!(renewal.filters, narrowed, "a renewal says the same");

    bench.open(camera(554));
    let request = bench.only_map();
    assert_eq!(
        request.filters,
        [(0, 0, "::".to_owned())],
        "everybody again"
    );
    bench.grant(&request, 7200);
    bench.close(camera(554));
    assert_eq!(
        bench.only_map().filters,
        [],
        "RFC 6887 §13.3: not with a deletion"
    );
}

#[test]
fn rfc_6887_s13_3_filters_are_of_the_family_of_the_port() {
    let mut bench = Bench::over_v4(Mode::Pcp);
    let both = [
        remotes("2001:db8:0f1c::/48", None),
        remotes("::ffff:192.0.2.0/120", None),
    ];
    bench.open_to(shared(80), &both);

    let none = "::ffff:0.0.0.0".to_owned();
    let filters = [(0, 0, none), (120, 0, "::ffff:192.0.2.0".to_owned())];
    assert_eq!(bench.only_map().filters, filters);
}

#[test]
fn rfc_6887_s13_3_gateway_that_cannot_filter_opens_the_port_to_everybody() {
    let office = remotes("2001:db8:0f1c::/48", None);
    for code in [ResultCode::UnsuppOption, ResultCode::MalformedOption] {
        let mut bench = Bench::over_v6();
        bench.open_to(camera(80), &[office]);
        let request = bench.only_map();

        bench.refuse(&request, code, 1800);
        let again = bench.only_map();
        assert_eq!(again.filters, [], "{code:?}");
        assert_eq!(again.third_party, request.third_party);
        bench.grant(&again, 7200);
        assert!(matches!(bench.state(camera(80)), PortState::Open(_)));

        bench.open_to(camera(81), &[office]);
        assert_eq!(bench.only_map().filters, [], "the others neither");
    }
}

#[test]
fn rfc_6887_s13_3_gateway_that_takes_fewer_filters_is_asked_for_the_others_as_before() {
    let mut bench = Bench::over_v6();
    let some: Vec<_> = (0..5)
        .map(|n| remotes(&format!("2001:db8:{n}::/48"), None))
        .collect();
    bench.open_to(camera(80), &some[..1]);
    let request = bench.only_map();
    bench.grant(&request, 7200);

    bench.open_to(camera(80), &some);
    let request = bench.only_map();
    assert_eq!(request.filters.len(), 6);
    bench.refuse(&request, ResultCode::ExcessiveRemotePeers, 1800);
    let again = bench.only_map();
    assert_eq!(again.filters, [(0, 0, "::".to_owned())]);
    bench.grant(&again, 7200);

    bench.open_to(camera(81), &some[..1]);
    assert_eq!(bench.only_map().filters.len(), 2);
}

#[test]
fn s5_life_is_what_is_left_of_the_mapping_between_two_minutes_and_two_hours() {
    for (life, asked) in [(120, 120), (600, 600), (86_400, 7200)] {
        let mut bench = Bench::over_v6();
        bench.follow(554, life);

        let request = bench.only_map();
        assert_eq!(request.lifetime, asked, "of {life}");
    }
}

#[test]
fn s5_renewal_asks_for_no_more_than_is_left_and_for_more_once_the_mapping_was_renewed() {
    let mut bench = Bench::over_v6();
    bench.follow(554, 1200);
    let request = bench.only_map();
    bench.grant(&request, 1200);

    bench.run(Duration::from_secs(751));
    let renewal = parse(&bench.take()[0].1);
    assert!((450..=600).contains(&renewal.lifetime), "{renewal:?}");
    bench.grant(&renewal, renewal.lifetime);

    bench.follow(554, 86_400);
    bench.run(Duration::from_secs(400));
    assert_eq!(parse(&bench.take()[0].1).lifetime, 7200);
}

#[test]
fn c_1_server_that_is_overwhelmed_gets_no_more_than_sixteen_requests_at_once() {
    let mut bench = Bench::over_v6();
    for port in 1000..2000 {
        bench.open(camera(port));
    }

    let mut granted = 0;
    let mut burst = bench.take();
    while !burst.is_empty() {
        assert!(burst.len() <= 16, "{}", burst.len());
        for (_, bytes) in burst {
            let request = parse(&bytes);
            bench.grant(&request, 7200);
            granted += 1;
        }
        burst = bench.take();
    }

    assert_eq!(granted, 1000);
}

#[test]
fn c_1_requests_that_the_server_drops_do_not_hold_up_the_others() {
    let mut bench = Bench::over_v6();
    for port in 1000..1100 {
        bench.open(camera(port));
    }

    // ports below 1040 are never answered
    for _ in 0..4000 {
        for (_, bytes) in bench.take() {
            let request = parse(&bytes);
            if request.map.internal_port >= 1040 {
                bench.grant(&request, 7200);
            }
        }
        bench.run(Duration::from_millis(500));
    }

    let open = bench
        .machine
        .ports()
        .filter(|it| matches!(it.2, PortState::Open(_)));
    assert_eq!(open.count(), 60);
}

#[test]
fn s3_2_switched_off_it_asks_nobody_and_remembers_nothing() {
    let mut bench = Bench::new(Mode::Off);
    bench.link_v6();
    bench.link_v4("192.168.0.1", "192.168.0.7");

    bench.run(Duration::from_hours(1));

    assert_eq!(bench.take(), []);
    assert_eq!(bench.machine.poll_timeout(), None);
    assert_eq!(bench.machine.poll_action(bench.now), None);
    assert_eq!(bench.machine.chain(), []);
}

#[cfg(test)]
mod bench {
    use std::net::{IpAddr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    use mapping::{
        BootId, Client, Core, External, ExternalPort, FilterChange, Instant, InternalPort,
        LeaseRequest, Mac, MapRequest, Now, Outcome, Policy, PrefixRequest, Protocol, RemoteFilter,
        Requester, Site, Subject, Via, Wall,
    };
    use natpmp::wire as natpmp_wire;
    use pcp::wire::{Body, Map, PcpOption, Request, Response, ResultCode};
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use upstream::{Chain, Link, Mode, PortKey, PortState, Upstreams, Wish};

    pub const ROUTER_V6: &str = "fe80::1";
    pub const OWN_V6: &str = "2001:db8:0:12::7f";
    pub const CAMERA: &str = "2001:db8:64:1::c0a8:400a";

    pub fn camera(port: u16) -> PortKey {
        key(CAMERA, port)
    }

    pub fn shared(port: u16) -> PortKey {
        key("192.168.0.7", port)
    }

    pub fn key(addr: &str, port: u16) -> PortKey {
        PortKey {
            addr: addr.parse().unwrap(),
            protocol: Protocol::Tcp,
            port: ExternalPort::new(port).unwrap(),
        }
    }

    pub fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// A request that was sent, read again.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Asked {
        pub lifetime: u32,
        pub client: std::net::Ipv6Addr,
        pub map: Map,
        pub third_party: Option<std::net::Ipv6Addr>,
        /// Prefix length, port and address of each filter.
        pub filters: Vec<(u8, u16, String)>,
        pub options: Vec<u8>,
    }

    pub fn parse(bytes: &[u8]) -> Asked {
        let request = Request::parse(bytes).unwrap();
        let Body::Map(map) = request.body else {
            panic!("no MAP: {request:?}");
        };
        let third = request.options().find_map(|option| match option.unwrap() {
            PcpOption::ThirdParty(addr) => Some(addr),
            _ => None,
        });
        let filters = request
            .options()
            .filter_map(|option| match option.unwrap() {
                PcpOption::Filter(it) => {
                    Some((it.prefix_len, it.remote_port, it.remote_addr.to_string()))
                }
                _ => None,
            });
        Asked {
            filters: filters.collect(),
            lifetime: request.lifetime,
            client: request.client,
            map,
            third_party: third,
            options: request.options.to_vec(),
        }
    }

    impl Asked {
        pub fn response(
            &self,
            result: ResultCode,
            lifetime: u32,
            epoch: u32,
            addr: &str,
            port: u16,
        ) -> Vec<u8> {
            let addr = match addr.parse().unwrap() {
                IpAddr::V4(addr) => addr.to_ipv6_mapped(),
                IpAddr::V6(addr) => addr,
            };
            let map = Map {
                external_port: port,
                external_addr: addr,
                ..self.map
            };
            Response {
                result,
                lifetime,
                epoch,
                body: Body::Map(map),
                options: &self.options,
            }
            .emit()
        }
    }

    pub fn remotes(prefix: &str, port: Option<u16>) -> RemoteFilter {
        RemoteFilter {
            prefix: prefix.parse().unwrap(),
            port: port.and_then(std::num::NonZeroU16::new),
        }
    }

    fn core(port: u16, life: u64, mono: Instant) -> Core {
        let now = Now {
            mono,
            wall: Wall::from_secs(1_800_000_000),
        };
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
        let mut core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
        let camera = [192, 168, 64, 10].into();
        let requests = [
            mapping::Request::Prefix(PrefixRequest {
                delegated: "2001:db8:64::/56".parse().unwrap(),
                nsp: None,
                old_valid: Duration::ZERO,
            }),
            mapping::Request::Lease(LeaseRequest {
                mac: Mac([2, 0, 0, 0, 0, 10]),
                addr: camera,
                lifetime: Duration::from_hours(48),
                declared_name: None,
            }),
            mapping::Request::Map(MapRequest {
                subject: Subject::Client(Client {
                    addr: camera.into(),
                    mac: None,
                }),
                requester: Requester::Pcp,
                protocol: Protocol::Tcp,
                internal_port: InternalPort::new(port).unwrap(),
                external: External::Suggested(None),
                lifetime: Some(Duration::from_secs(life)),
                nonce: None,
                via: Via::Both,
                peer: false,
                filters: FilterChange::default(),
                description: None,
                memo: None,
            }),
        ];
        for request in requests {
            let (outcome, _) = core.handle_request(&request, now);
            assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
            core.finish(now);
        }
        core
    }

    /// The machine before a gateway whose part the test plays.
    pub struct Bench {
        pub machine: Upstreams<StdRng>,
        pub now: Instant,
        pub server: IpAddr,
        pub sent: Vec<(Instant, Vec<u8>)>,
        /// The server's epoch at an instant.
        pub epoch: Option<(u32, Instant)>,
    }

    impl Bench {
        pub fn new(mode: Mode) -> Self {
            Self::seeded(mode, 7)
        }

        pub fn seeded(mode: Mode, seed: u64) -> Self {
            Self {
                machine: Upstreams::new(mode, [9; 16], StdRng::seed_from_u64(seed)),
                now: Instant::default() + Duration::from_secs(50_000),
                server: ROUTER_V6.parse().unwrap(),
                sent: Vec::new(),
                epoch: None,
            }
        }

        /// Before a firewall that speaks PCP.
        pub fn over_v6() -> Self {
            let mut bench = Self::new(Mode::Auto);
            bench.link_v6();
            bench.announce(100);
            bench.take();
            bench
        }

        /// Before a NAT that speaks `mode`.
        pub fn over_v4(mode: Mode) -> Self {
            let mut bench = Self::new(mode);
            bench.link_v4("192.168.0.1", "192.168.0.7");
            match mode {
                Mode::NatPmp => bench.address(100, "203.0.113.9"),
                _ => bench.announce(100),
            }
            bench.take();
            bench
        }

        pub fn link_v6(&mut self) {
            self.link(ROUTER_V6, OWN_V6);
        }

        pub fn link_v4(&mut self, server: &str, local: &str) {
            self.link(server, local);
        }

        pub fn link(&mut self, server: &str, local: &str) {
            self.server = server.parse().unwrap();
            let link = Some(Link {
                server: self.server,
                local: local.parse().unwrap(),
            });
            if self.server.is_ipv4() {
                self.machine.handle_links(link, None, self.now);
            } else {
                self.machine.handle_links(None, link, self.now);
            }
            self.drain();
        }

        pub fn open(&mut self, key: PortKey) {
            self.open_to(key, &[]);
        }

        pub fn open_to(&mut self, key: PortKey, filters: &[RemoteFilter]) {
            let wish = Wish {
                key,
                server: "192.168.64.10".parse().unwrap(),
                filters: filters.into(),
            };
            self.machine.open(wish, self.now);
            self.drain();
        }

        /// Follows a core in which the camera's port is open for so many seconds.
        pub fn follow(&mut self, port: u16, life: u64) {
            let snapshot = core(port, life, self.now).snapshot().clone();
            self.machine.handle_snapshot(&Arc::new(snapshot), self.now);
            self.drain();
        }

        pub fn close(&mut self, key: PortKey) {
            self.machine.close(key, self.now);
            self.drain();
        }

        pub fn open_and_grant(&mut self, key: PortKey, lifetime: u32) {
            self.open(key);
            let request = self.only_map();
            self.grant(&request, lifetime);
        }

        /// Lets time pass, timer by timer.
        pub fn run(&mut self, duration: Duration) {
            let end = self.now + duration;
            self.drain();
            while let Some((at, _)) = self.machine.poll_timeout().filter(|(at, _)| *at <= end) {
                assert!(at >= self.now, "a deadline in the past");
                self.now = at;
                self.machine.handle_timeout(at);
                self.drain_but_looks();
                let next = self.machine.poll_timeout().map(|(at, _)| at);
                assert_ne!(next, Some(at), "what is due is done");
            }
            self.now = end;
        }

        pub fn drain(&mut self) {
            while let Some(transmit) = self.machine.poll_transmit() {
                self.sent.push((self.now, transmit.bytes));
            }
        }

        /// Lets the questions go by that only look whether the gateway is the same.
        fn drain_but_looks(&mut self) {
            let known = self
                .machine
                .chain()
                .first()
                .is_some_and(|it| it.kind.is_some());
            while let Some(transmit) = self.machine.poll_transmit() {
                let looks = matches!(transmit.bytes[..], [2, 0, ..] | [0, 0]);
                if !(known && looks) {
                    self.sent.push((self.now, transmit.bytes));
                }
            }
        }

        pub fn take(&mut self) -> Vec<(Instant, Vec<u8>)> {
            self.drain();
            std::mem::take(&mut self.sent)
        }

        #[track_caller]
        pub fn only_map(&mut self) -> Asked {
            let sent = self.take();
            assert_eq!(sent.len(), 1, "{sent:?}");
            parse(&sent[0].1)
        }

        pub fn state(&self, key: PortKey) -> PortState {
            let found = self.machine.ports().find(|it| it.0 == key);
            found.expect("the port is known").2
        }

        pub fn chain(&self) -> Chain {
            self.machine.chain()[0]
        }

        pub fn hear(&mut self, bytes: &[u8]) {
            let source = SocketAddr::new(self.server, 5351);
            self.machine.handle_datagram(bytes, source, self.now);
            self.drain();
        }

        /// What the server's clock says.
        pub fn seconds(&self) -> u32 {
            let (told, at) = self.epoch.unwrap_or((100, self.now));
            told + u32::try_from(self.now.since(at).as_secs()).unwrap()
        }

        pub fn epoch_zero(&mut self) {
            self.epoch = Some((0, self.now));
        }

        pub fn epoch_goes_on(&mut self) {
            self.epoch = Some((self.seconds(), self.now));
        }

        pub fn announce(&mut self, epoch: u32) {
            self.epoch = Some((epoch, self.now));
            self.announce_here();
        }

        pub fn announce_here(&mut self) {
            let response = Response {
                result: ResultCode::Success,
                lifetime: 0,
                epoch: self.seconds(),
                body: Body::Announce,
                options: &[],
            };
            self.hear(&response.emit());
        }

        pub fn answer(
            &mut self,
            asked: &Asked,
            result: ResultCode,
            life: u32,
            addr: &str,
            port: u16,
        ) {
            let bytes = asked.response(result, life, self.seconds(), addr, port);
            self.hear(&bytes);
        }

        pub fn grant(&mut self, asked: &Asked, lifetime: u32) {
            let addr = asked.third_party.unwrap_or(asked.client).to_string();
            let port = asked.map.external_port;
            self.answer(asked, ResultCode::Success, lifetime, &addr, port);
        }

        pub fn refuse(&mut self, asked: &Asked, result: ResultCode, lifetime: u32) {
            self.answer(asked, result, lifetime, "::", 0);
        }

        pub fn address(&mut self, epoch: u32, addr: &str) {
            self.epoch = Some((epoch, self.now));
            self.address_here(addr);
        }

        pub fn address_here(&mut self, addr: &str) {
            let response = natpmp_wire::Response::ExternalAddress {
                result: natpmp_wire::ResultCode::Success,
                epoch: self.seconds(),
                addr: addr.parse().unwrap(),
            };
            self.hear(&response.emit());
        }

        /// Answers the one request that was sent.
        pub fn natpmp_grant(&mut self) -> Vec<u8> {
            let sent = self.take();
            assert_eq!(sent.len(), 1, "{sent:?}");
            self.natpmp_answer(&sent[0].1);
            sent[0].1.clone()
        }

        pub fn natpmp_answer(&mut self, request: &[u8]) {
            let port = u16::from_be_bytes([request[6], request[7]]);
            self.natpmp_answer_with(request, 0, port, 7200);
        }

        pub fn natpmp_answer_with(
            &mut self,
            request: &[u8],
            result: u16,
            external: u16,
            life: u32,
        ) {
            let request = natpmp_wire::Request::parse(request).unwrap();
            let natpmp_wire::Request::Map(map) = request else {
                panic!("no mapping: {request:?}");
            };
            let response = natpmp_wire::Response::Map {
                result: natpmp_wire::ResultCode::from_number(result).unwrap(),
                epoch: self.seconds(),
                map: natpmp_wire::Map {
                    external_port: external,
                    lifetime: life,
                    ..map
                },
            };
            self.hear(&response.emit());
        }
    }
}
