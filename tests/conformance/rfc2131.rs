//! RFC 2131 and the options of RFC 2132, 4702, 6842 and 7291, by the ids of the requirements.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of these tests fail by panicking"
)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dhcp::wire::{BROADCAST, Message, MessageType, Op, Options, code};
use dhcp::{Answer, Config, Destination, DropReason, Meta, Reaction, Server, Transmit, reaction};
use mapping::{
    BootId, Core, Instant, InvalidPrefix, Mac, Now, Outcome, Policy, Refusal, Request, Site, Wall,
};

#[test]
fn h_1_the_mac_chooses_the_address_and_a_wish_does_not() {
    let mut home = Home::new();
    let wanted = Ipv4Addr::new(192, 168, 64, 77);
    let plain = home.offered(&client(1).kind(MessageType::Discover));

    let wish = client(1)
        .kind(MessageType::Discover)
        .addr(code::REQUESTED_ADDRESS, wanted);
    assert_eq!(home.offered(&wish), plain);
    let id = client(1)
        .kind(MessageType::Discover)
        .option(code::CLIENT_ID, b"another");
    assert_eq!(home.offered(&id), plain);
    assert_ne!(home.offered(&client(2).kind(MessageType::Discover)), plain);
}

#[test]
fn h_1_the_address_outlives_lease_release_and_the_clients_memory() {
    let mut home = Home::new();
    let addr = home.join(1);

    home.now += 25 * 3600;
    home.core.handle_timeout(home.at());
    assert!(home.core.snapshot().host(mac(1)).unwrap().lease.is_none());

    assert_eq!(home.join(1), addr);
}

#[test]
fn h_1_an_offer_holds_its_address_for_ten_seconds_only() {
    let mut home = Home::tiny();
    let free = home.core.snapshot().site().leasable_count();
    for other in 0..u64::from(free) {
        assert!(
            home.offered(&client(other).kind(MessageType::Discover))
                .is_some()
        );
    }

    let late = client(100).kind(MessageType::Discover);
    assert_eq!(home.offered(&late), None);
    assert_eq!(home.drops(DropReason::NoAddress), 1);
    home.now += 10;
    assert!(home.offered(&late).is_some());
}

#[test]
fn h_2_selecting_is_acknowledged_only_after_the_writer_granted() {
    let mut home = Home::new();
    let addr = home
        .offered(&client(1).kind(MessageType::Discover))
        .unwrap();

    let request = selecting(1, addr);
    home.deliver(&request, in_its_own_frame(&request));
    assert_eq!(home.server.poll_transmit(), None);
    assert!(home.core.snapshot().host(mac(1)).is_none());

    let answers = home.settle();
    assert_eq!(kinds(&answers), [MessageType::Ack]);
    assert_eq!(home.core.snapshot().host(mac(1)).unwrap().addr, addr);
}

#[test]
fn h_2_selecting_another_server_is_silent_and_frees_the_offer() {
    let mut home = Home::tiny();
    let addr = home
        .offered(&client(1).kind(MessageType::Discover))
        .unwrap();
    let other = client(1)
        .kind(MessageType::Request)
        .addr(code::REQUESTED_ADDRESS, addr)
        .addr(code::SERVER_ID, Ipv4Addr::new(192, 168, 64, 2));

    assert!(home.say(&other).is_empty());

    assert_eq!(home.drops(DropReason::OtherServer), 1);
    assert_eq!(home.server.poll_timeout(), None, "no offer stands");
}

#[test]
fn h_2_selecting_an_address_that_was_not_offered_is_denied() {
    let mut home = Home::new();
    let addr = home
        .offered(&client(1).kind(MessageType::Discover))
        .unwrap();
    let site = home.core.snapshot().site().clone();
    let wrong = (0..)
        .map(|n| site.leasable(n))
        .find(|other| *other != addr)
        .unwrap();

    assert_eq!(kinds(&home.say(&selecting(1, wrong))), [MessageType::Nak]);
    let pool = Ipv4Addr::new(192, 168, 64, 200);
    assert_eq!(kinds(&home.say(&selecting(1, pool))), [MessageType::Nak]);
}

#[test]
fn h_2_init_reboot_with_the_right_address_is_acknowledged() {
    let mut home = Home::new();
    let addr = home.join(1);

    assert_eq!(kinds(&home.say(&init_reboot(1, addr))), [MessageType::Ack]);
}

#[test]
fn h_2_init_reboot_on_the_wrong_network_or_with_the_wrong_address_is_denied() {
    let mut home = Home::new();
    let addr = home.join(1);
    let wrong = Ipv4Addr::from(u32::from(addr) ^ 1);

    assert_eq!(kinds(&home.say(&init_reboot(1, wrong))), [MessageType::Nak]);
    let elsewhere = Ipv4Addr::new(192, 168, 1, 20);
    assert_eq!(
        kinds(&home.say(&init_reboot(1, elsewhere))),
        [MessageType::Nak]
    );
    assert_eq!(
        kinds(&home.say(&init_reboot(9, elsewhere))),
        [MessageType::Nak]
    );
}

#[test]
fn h_2_init_reboot_without_a_record_is_silent() {
    let mut home = Home::new();

    assert!(
        home.say(&init_reboot(1, Ipv4Addr::new(192, 168, 64, 20)))
            .is_empty()
    );

    assert_eq!(home.drops(DropReason::NoRecord), 1);
}

#[test]
fn h_2_renewing_and_rebinding_prolong_the_lease() {
    let mut home = Home::new();
    let addr = home.join(1);
    let end = |home: &Home| {
        home.core
            .snapshot()
            .host(mac(1))
            .unwrap()
            .lease
            .unwrap()
            .expires
            .at
    };

    for unicast in [true, false] {
        let before = end(&home);
        home.now += 3600;
        let message = client(1).kind(MessageType::Request).ciaddr(addr);
        home.deliver(
            &message,
            Meta {
                source: addr,
                mac: mac(1),
                unicast,
            },
        );
        let answers = home.settle();
        assert_eq!(kinds(&answers), [MessageType::Ack]);
        assert_eq!(
            answers[0].destination,
            Destination::Udp(SocketAddrV4::new(addr, 68))
        );
        assert_eq!(read(&answers[0]).ciaddr, addr);
        assert_eq!(read(&answers[0]).yiaddr, addr);
        assert_eq!(end(&home) - before, Duration::from_secs(3600));
    }
}

#[test]
fn h_2_renewing_a_foreign_address_is_denied_and_rebinding_without_a_record_silent() {
    let mut home = Home::new();
    let addr = home.join(1);
    let foreign = client(2).kind(MessageType::Request).ciaddr(addr);
    let unicast = Meta {
        source: addr,
        mac: mac(2),
        unicast: true,
    };

    home.deliver(&foreign, unicast);
    assert_eq!(kinds(&home.settle()), [MessageType::Nak]);
    assert!(home.say(&foreign).is_empty());
    assert_eq!(home.drops(DropReason::NoRecord), 1);
    assert!(home.core.snapshot().host(mac(1)).unwrap().lease.is_some());
}

#[test]
fn h_2_a_request_that_names_no_address_is_dropped() {
    let mut home = Home::new();

    assert!(home.say(&client(1).kind(MessageType::Request)).is_empty());

    assert_eq!(home.drops(DropReason::Unaddressed), 1);
}

#[test]
fn h_2_the_writers_refusal_decides_between_nak_and_silence() {
    let mut home = Home::new();
    let addr = home
        .offered(&client(1).kind(MessageType::Discover))
        .unwrap();
    let refused = |home: &mut Home, refusal| {
        let request = selecting(1, addr);
        home.deliver(&request, in_its_own_frame(&request));
        let (token, _) = home.server.poll_request().unwrap();
        let (outcome, now) = (Outcome::Refused(refusal), home.at());
        home.server
            .handle_outcome(token, &outcome, home.core.snapshot(), now);
        kinds(&home.drain())
    };

    assert!(refused(&mut home, Refusal::Unavailable).is_empty());
    assert_eq!(home.drops(DropReason::Unavailable), 1);
    assert_eq!(
        refused(&mut home, Refusal::AddressNotFree),
        [MessageType::Nak]
    );
}

#[test]
fn h_2_every_refusal_has_its_reaction() {
    let refusals = [
        (Refusal::AddressNotFree, Reaction::Nak),
        (
            Refusal::ExternalPortDenied,
            Reaction::Silence(DropReason::Refused),
        ),
        (
            Refusal::ExternalPortTaken,
            Reaction::Silence(DropReason::Refused),
        ),
        (
            Refusal::ForeignMapping { remaining: None },
            Reaction::Silence(DropReason::Refused),
        ),
        (Refusal::NameNotFree, Reaction::Silence(DropReason::Refused)),
        (Refusal::NoPrefix, Reaction::Silence(DropReason::Refused)),
        (Refusal::NoLease, Reaction::Silence(DropReason::Refused)),
        (Refusal::NotFound, Reaction::Silence(DropReason::Refused)),
        (
            Refusal::OutboundMapping,
            Reaction::Silence(DropReason::Refused),
        ),
        (Refusal::PortDenied, Reaction::Silence(DropReason::Refused)),
        (
            Refusal::PrefixInvalid(InvalidPrefix::HostBits),
            Reaction::Silence(DropReason::Refused),
        ),
        (
            Refusal::QuotaExceeded,
            Reaction::Silence(DropReason::Refused),
        ),
        (
            Refusal::StaticMapping,
            Reaction::Silence(DropReason::Refused),
        ),
        (
            Refusal::Unavailable,
            Reaction::Silence(DropReason::Unavailable),
        ),
    ];
    for (refusal, expected) in refusals {
        println!("{refusal:<60} {:?}", reaction(refusal));
        assert_eq!(reaction(refusal), expected);
    }
}

#[test]
fn h_3_offer_and_ack_carry_lease_time_and_server_id() {
    let mut home = Home::new();
    let offer = home.say(&client(1).kind(MessageType::Discover));
    let addr = read(&offer[0]).yiaddr;
    let ack = home.say(&selecting(1, addr));

    for transmit in [&offer[0], &ack[0]] {
        let message = read(transmit);
        assert_eq!(message.op, Op::BootReply);
        assert_eq!(message.xid, 0x1234_5678);
        assert_eq!(message.options.addr(code::SERVER_ID), Ok(Some(GATEWAY)));
        assert_eq!(seconds(&message, code::LEASE_TIME), Some(86_400));
        for absent in [code::REQUESTED_ADDRESS, code::PARAMETERS, code::MAX_SIZE] {
            assert_eq!(message.options.get(absent), None);
        }
    }
}

#[test]
fn h_3_nak_carries_nothing_but_who_and_why() {
    let mut home = Home::new();
    let wrong = init_reboot(1, Ipv4Addr::new(10, 0, 0, 1)).option(code::CLIENT_ID, b"me");

    let message = read(&home.say(&wrong)[0]);

    let codes: Vec<u8> = message.options.codes().collect();
    assert_eq!(
        codes,
        [
            code::MESSAGE_TYPE,
            code::SERVER_ID,
            code::MESSAGE,
            code::CLIENT_ID
        ]
    );
    assert!(message.yiaddr.is_unspecified() && message.ciaddr.is_unspecified());
}

#[test]
fn h_3_a_shorter_lease_is_granted_and_a_longer_one_cut() {
    let mut home = Home::new();
    let granted = |home: &mut Home, secs: u32| {
        let message = client(1).kind(MessageType::Discover);
        let answers = home.say(&message.option(code::LEASE_TIME, &secs.to_be_bytes()));
        seconds(&read(&answers[0]), code::LEASE_TIME)
    };

    assert_eq!(granted(&mut home, 600), Some(600));
    assert_eq!(granted(&mut home, u32::MAX), Some(86_400));
    assert_eq!(granted(&mut home, 0), Some(120));
}

#[test]
fn h_4_the_broadcast_flag_decides_how_a_new_client_is_answered() {
    let mut home = Home::new();
    let quiet = home.say(&client(1).kind(MessageType::Discover));
    let addr = read(&quiet[0]).yiaddr;

    let to = Destination::UnicastMac(mac(1), SocketAddrV4::new(addr, 68));
    assert_eq!(quiet[0].destination, to);
    let loud = home.say(&client(1).kind(MessageType::Discover).broadcast());
    assert_eq!(loud[0].destination, Destination::Broadcast);
    assert_eq!(read(&loud[0]).flags, BROADCAST);
    assert_eq!(home.say(&selecting(1, addr))[0].destination, to);
    assert_eq!(
        home.say(&selecting(1, addr).broadcast())[0].destination,
        Destination::Broadcast
    );
}

#[test]
fn h_4_nak_is_broadcast_whatever_the_flag_says() {
    let mut home = Home::new();

    let answers = home.say(&init_reboot(1, Ipv4Addr::new(10, 0, 0, 1)));

    assert_eq!(answers[0].destination, Destination::Broadcast);
}

#[test]
fn h_4_a_relayed_message_is_dropped_and_counted() {
    let mut home = Home::new();
    let mut relayed = client(1).kind(MessageType::Discover);
    relayed.0.giaddr = Ipv4Addr::new(192, 168, 64, 3);

    assert!(home.say(&relayed).is_empty());

    assert_eq!(home.drops(DropReason::Relayed), 1);
}

#[test]
fn h_4_answers_keep_to_576_bytes_unless_the_client_takes_more() {
    let mut home = Home::new();
    let long = [7; 250];
    let wanted = [
        code::ROUTER,
        code::DNS,
        code::DOMAIN_NAME,
        code::BROADCAST,
        code::PCP_SERVER,
    ];
    let ask = |size: Option<u16>| {
        let message = client(1)
            .kind(MessageType::Discover)
            .option(code::CLIENT_ID, &long)
            .option(code::PARAMETERS, &wanted);
        match size {
            Some(size) => message.option(code::MAX_SIZE, &size.to_be_bytes()),
            None => message,
        }
    };

    for size in [None, Some(0), Some(576)] {
        let answer = home.say(&ask(size));
        assert!(answer[0].bytes.len() <= 576 - 28);
        let message = read(&answer[0]);
        assert_eq!(message.options.get(code::CLIENT_ID), Some(long.as_slice()));
        assert_eq!(message.options.get(code::PCP_SERVER), None);
    }
    let all = read(&home.say(&ask(Some(1500)))[0]);
    assert!(wanted.iter().all(|code| all.options.get(*code).is_some()));
}

#[test]
fn h_5_decline_moves_the_client_and_nobody_gets_the_address() {
    let mut home = Home::new();
    let addr = home.join(1);

    assert!(home.say(&decline(1, addr)).is_empty());

    assert_eq!(home.server.counters().declined, 1);
    assert!(home.core.snapshot().is_declined(addr));
    assert_ne!(home.join(1), addr);
}

#[test]
fn h_5_decline_is_believed_from_a_client_that_just_got_the_address_only() {
    let mut home = Home::new();
    let addr = home.join(1);

    assert!(home.say(&decline(2, addr)).is_empty());
    home.now += 61;
    assert!(home.say(&decline(1, addr)).is_empty());

    assert_eq!(home.drops(DropReason::ForeignDecline), 2);
    assert!(!home.core.snapshot().is_declined(addr));
    assert_eq!(home.core.snapshot().host(mac(1)).unwrap().addr, addr);
}

#[test]
fn h_5_release_ends_the_lease_and_keeps_the_binding() {
    let mut home = Home::new();
    let addr = home.join(1);

    home.deliver(
        &release(1, addr),
        Meta {
            source: addr,
            mac: mac(1),
            unicast: true,
        },
    );
    assert!(home.settle().is_empty());

    let host = home.core.snapshot().host(mac(1)).unwrap();
    assert!(host.lease.is_none() && host.addr == addr);
    assert_eq!(home.join(1), addr);
}

#[test]
fn h_5_release_by_somebody_else_is_dropped() {
    let mut home = Home::new();
    let addr = home.join(1);
    let thief = home.join(2);

    for (who, source) in [(1, thief), (2, addr), (1, Ipv4Addr::UNSPECIFIED)] {
        home.deliver(
            &release(who, addr),
            Meta {
                source,
                mac: mac(who),
                unicast: true,
            },
        );
        assert!(home.settle().is_empty());
    }

    assert_eq!(home.drops(DropReason::ForeignRelease), 3);
    assert!(home.core.snapshot().host(mac(1)).unwrap().lease.is_some());
}

#[test]
fn h_5_release_and_decline_in_another_hosts_frame_are_dropped() {
    let mut home = Home::new();
    let addr = home.join(1);
    let forged = |source| Meta {
        source,
        mac: mac(2),
        unicast: true,
    };

    home.deliver(&release(1, addr), forged(addr));
    home.deliver(&decline(1, addr), forged(Ipv4Addr::UNSPECIFIED));
    assert!(home.settle().is_empty());

    assert_eq!(home.drops(DropReason::ForeignRelease), 1);
    assert_eq!(home.drops(DropReason::ForeignDecline), 1);
    let host = home.core.snapshot().host(mac(1)).unwrap();
    assert!(host.lease.is_some() && host.addr == addr);
}

#[test]
fn h_6_request_in_another_hosts_frame_neither_shortens_a_lease_nor_renames() {
    let mut home = Home::new();
    let addr = home.join(1);
    let before = std::sync::Arc::clone(home.core.snapshot().host(mac(1)).unwrap());
    let forged = client(1)
        .kind(MessageType::Request)
        .ciaddr(addr)
        .option(code::LEASE_TIME, &120_u32.to_be_bytes())
        .option(code::HOST_NAME, b"stolen");

    home.deliver(
        &forged,
        Meta {
            source: addr,
            mac: mac(2),
            unicast: true,
        },
    );
    // behind a repeater that replaces MACs a client is served all the same
    assert_eq!(kinds(&home.settle()), [MessageType::Ack]);

    let after = home.core.snapshot().host(mac(1)).unwrap();
    assert_eq!(after.name, before.name);
    assert!(after.lease.unwrap().expires.at >= before.lease.unwrap().expires.at);
}

#[test]
fn h_5_inform_is_answered_without_a_lease() {
    let mut home = Home::new();
    let addr = Ipv4Addr::new(192, 168, 64, 9);
    let inform = client(1).kind(MessageType::Inform).ciaddr(addr);

    home.deliver(
        &inform,
        Meta {
            source: addr,
            mac: mac(1),
            unicast: true,
        },
    );
    let answers = home.settle();

    let message = read(&answers[0]);
    assert_eq!(message.kind(), Some(MessageType::Ack));
    assert_eq!(
        answers[0].destination,
        Destination::Udp(SocketAddrV4::new(addr, 68))
    );
    assert!(message.yiaddr.is_unspecified());
    for absent in [code::LEASE_TIME, code::RENEWAL, code::REBINDING] {
        assert_eq!(message.options.get(absent), None);
    }
    assert_eq!(message.options.addr(code::ROUTER), Ok(Some(GATEWAY)));
    assert!(home.core.snapshot().host(mac(1)).is_none());
}

#[test]
fn h_5_inform_from_elsewhere_is_dropped() {
    let mut home = Home::new();
    let inform = client(1)
        .kind(MessageType::Inform)
        .ciaddr(Ipv4Addr::new(8, 8, 8, 8));

    assert!(home.say(&inform).is_empty());

    assert_eq!(home.drops(DropReason::NotOnLan), 1);
}

#[test]
fn h_6_t1_is_half_and_t2_seven_eighths_of_the_lease() {
    let mut home = Home::new();

    let message = read(&home.say(&client(1).kind(MessageType::Discover))[0]);

    assert_eq!(seconds(&message, code::RENEWAL), Some(43_200));
    assert_eq!(seconds(&message, code::REBINDING), Some(75_600));
}

#[test]
fn h_7_a_client_gets_what_it_asks_for_and_no_more() {
    let mut home = Home::new();
    let wanted = [code::BROADCAST, code::DNS, 77, code::DNS, code::BROADCAST];
    let asked = client(1)
        .kind(MessageType::Discover)
        .option(code::PARAMETERS, &wanted);

    let message = read(&home.say(&asked)[0]);

    let codes: Vec<u8> = message.options.codes().collect();
    assert_eq!(codes, [1, 6, 28, 51, 53, 54, 58, 59]);
    assert_eq!(message.options.addr(code::DNS), Ok(Some(GATEWAY)));
    let broadcast = Ipv4Addr::new(192, 168, 64, 255);
    assert_eq!(message.options.addr(code::BROADCAST), Ok(Some(broadcast)));
}

#[test]
fn h_7_a_client_that_asks_for_nothing_gets_the_usual() {
    let mut home = Home::new();

    let message = read(&home.say(&client(1).kind(MessageType::Discover))[0]);

    assert_eq!(
        message.options.addr(code::SUBNET_MASK),
        Ok(Some([255, 255, 255, 0].into()))
    );
    assert_eq!(message.options.addr(code::ROUTER), Ok(Some(GATEWAY)));
    assert_eq!(message.options.addr(code::DNS), Ok(Some(GATEWAY)));
    assert_eq!(
        message.options.get(code::DOMAIN_NAME),
        Some(b"home.example".as_slice())
    );
}

#[test]
fn h_7_the_client_identifier_comes_back_in_every_answer() {
    let mut home = Home::new();
    let id = b"\x00my-id".as_slice();
    let offer = home.say(
        &client(1)
            .kind(MessageType::Discover)
            .option(code::CLIENT_ID, id),
    );
    let addr = read(&offer[0]).yiaddr;
    let ack = home.say(&selecting(1, addr).option(code::CLIENT_ID, id));
    let elsewhere = Ipv4Addr::new(10, 0, 0, 1);
    let nak = home.say(&init_reboot(1, elsewhere).option(code::CLIENT_ID, id));

    for answer in [&offer, &ack, &nak] {
        assert_eq!(read(&answer[0]).options.get(code::CLIENT_ID), Some(id));
    }
    let without = home.say(&client(1).kind(MessageType::Discover));
    assert_eq!(read(&without[0]).options.get(code::CLIENT_ID), None);
}

#[test]
fn h_8_another_client_identifier_does_not_change_the_address_of_a_mac() {
    let mut home = Home::new();
    let addr = home.join(1);

    for id in [b"one".as_slice(), b"two"] {
        let message = client(1)
            .kind(MessageType::Discover)
            .option(code::CLIENT_ID, id);
        assert_eq!(home.offered(&message), Some(addr));
    }
}

#[test]
fn h_10_ipv6_only_is_never_offered() {
    let mut home = Home::new();
    let asked = client(1)
        .kind(MessageType::Discover)
        .option(code::PARAMETERS, &[108]);

    assert_eq!(read(&home.say(&asked)[0]).options.get(108), None);
}

#[test]
fn h_11_the_name_of_option_81_becomes_ours_and_comes_back_as_ours() {
    let mut home = Home::new();
    let fqdn = b"\x04\x00\x00\x06Camera\x05local\x00";
    let offer = home
        .offered(&client(1).kind(MessageType::Discover))
        .unwrap();
    let ask = selecting(1, offer)
        .option(code::FQDN, fqdn)
        .option(code::HOST_NAME, b"other");

    let message = read(&home.say(&ask)[0]);

    let ours = b"\x07\xff\xff\x06camera\x04home\x07example\x00".as_slice();
    assert_eq!(message.options.get(code::FQDN), Some(ours));
    assert_eq!(
        home.core.snapshot().host(mac(1)).unwrap().name.as_str(),
        "camera"
    );
    let ascii = selecting(1, offer).option(code::FQDN, b"\x01\x00\x00camera");
    let message = read(&home.say(&ascii)[0]);
    assert_eq!(
        message.options.get(code::FQDN),
        Some(b"\x01\xff\xffcamera.home.example".as_slice())
    );
    assert_eq!(
        read(&home.say(&selecting(1, offer))[0])
            .options
            .get(code::FQDN),
        None
    );
}

#[test]
fn h_11_a_discover_names_nobody_and_a_name_that_is_not_repeated_stays() {
    let mut home = Home::new();
    let named = client(1)
        .kind(MessageType::Discover)
        .option(code::HOST_NAME, b"nas");
    let addr = home.offered(&named).unwrap();
    assert!(home.core.snapshot().host(mac(1)).is_none());

    home.say(&selecting(1, addr));
    home.say(&init_reboot(1, addr));

    assert_eq!(
        home.core.snapshot().host(mac(1)).unwrap().name.as_str(),
        "nas"
    );
}

#[test]
fn h_13_the_pcp_server_is_the_gateway_when_asked_for() {
    let mut home = Home::new();
    let asked = client(1)
        .kind(MessageType::Discover)
        .option(code::PARAMETERS, &[158]);

    let message = read(&home.say(&asked)[0]);

    assert_eq!(
        message.options.get(code::PCP_SERVER),
        Some([4, 192, 168, 64, 1].as_slice())
    );
    let plain = read(&home.say(&client(1).kind(MessageType::Discover))[0]);
    assert_eq!(plain.options.get(code::PCP_SERVER), None);
}

#[test]
fn s4_2_nobody_new_is_served_while_another_server_is_there() {
    let mut home = Home::new();
    let addr = home.join(1);
    home.server.set_offering(false);

    assert!(home.say(&client(1).kind(MessageType::Discover)).is_empty());
    assert!(
        home.say(&init_reboot(2, Ipv4Addr::new(10, 0, 0, 9)))
            .is_empty()
    );

    assert_eq!(home.drops(DropReason::ForeignServer), 2);
    assert_eq!(kinds(&home.say(&init_reboot(1, addr))), [MessageType::Ack]);
}

#[test]
fn s4_3_what_no_client_says_is_dropped_and_counted() {
    let mut home = Home::new();
    for kind in [
        MessageType::Offer,
        MessageType::Ack,
        MessageType::Nak,
        MessageType::Unknown(99),
    ] {
        assert!(home.say(&client(1).kind(kind)).is_empty());
    }
    let mut reply = client(1).kind(MessageType::Discover);
    reply.0.op = Op::BootReply;
    assert!(home.say(&reply).is_empty());

    assert_eq!(home.drops(DropReason::UnknownType), 4);
    assert_eq!(home.drops(DropReason::NotRequest), 1);
    assert_eq!(home.server.counters().answers(Answer::Offer), 0);
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);

/// A server, and a core in the place of the writer.
struct Home {
    server: Server,
    core: Core,
    now: u64,
}

impl Home {
    fn new() -> Self {
        Self::with(24)
    }

    fn tiny() -> Self {
        Self::with(28)
    }

    fn with(len: u8) -> Self {
        let now = 1000;
        let site = Site::new(GATEWAY, len, "home.example".to_owned()).unwrap();
        let core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), at(now));
        let mut server = Server::new(Config::default(), at(now));
        server.set_offering(true);
        Self { server, core, now }
    }

    fn at(&self) -> Now {
        at(self.now)
    }

    fn deliver(&mut self, client: &Client, meta: Meta) {
        let bytes = client.0.emit(&[code::MESSAGE_TYPE], 1500);
        let now = self.at();
        self.server
            .handle_datagram(&bytes, meta, self.core.snapshot(), now);
    }

    /// Lets the writer decide what waits, and returns every answer.
    fn settle(&mut self) -> Vec<Transmit> {
        let now = self.at();
        while let Some((token, request)) = self.server.poll_request() {
            let (outcome, _) = self.core.handle_request(&request, now);
            self.core.finish(now);
            self.server
                .handle_outcome(token, &outcome, self.core.snapshot(), now);
            assert!(!matches!(request, Request::Map(_)));
        }
        self.drain()
    }

    fn drain(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.server.poll_transmit()).collect()
    }

    /// Broadcasts a message and returns the answers.
    fn say(&mut self, client: &Client) -> Vec<Transmit> {
        self.deliver(client, in_its_own_frame(client));
        self.settle()
    }

    fn offered(&mut self, discover: &Client) -> Option<Ipv4Addr> {
        self.say(discover)
            .first()
            .map(|transmit| read(transmit).yiaddr)
    }

    /// Goes all the way from DISCOVER to ACK.
    #[track_caller]
    fn join(&mut self, n: u64) -> Ipv4Addr {
        let addr = self
            .offered(&client(n).kind(MessageType::Discover))
            .unwrap();
        assert_eq!(kinds(&self.say(&selecting(n, addr))), [MessageType::Ack]);
        addr
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.server.counters().drops(reason)
    }
}

/// A client's message under construction.
struct Client(Message);

impl Client {
    fn kind(self, kind: MessageType) -> Self {
        self.option(code::MESSAGE_TYPE, &[kind.into()])
    }

    fn addr(self, code: u8, addr: Ipv4Addr) -> Self {
        self.option(code, &addr.octets())
    }

    fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.0.options.set(code, value);
        self
    }

    fn ciaddr(mut self, addr: Ipv4Addr) -> Self {
        self.0.ciaddr = addr;
        self
    }

    fn broadcast(mut self) -> Self {
        self.0.flags = BROADCAST;
        self
    }
}

/// Broadcast, without an address yet.
fn in_its_own_frame(client: &Client) -> Meta {
    Meta {
        source: Ipv4Addr::UNSPECIFIED,
        mac: Mac(*client.0.chaddr.first_chunk().unwrap()),
        unicast: false,
    }
}

fn client(n: u64) -> Client {
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&mac(n).0);
    Client(Message {
        op: Op::BootRequest,
        htype: 1,
        hlen: 6,
        xid: 0x1234_5678,
        flags: 0,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr,
        options: Options::default(),
    })
}

fn selecting(n: u64, addr: Ipv4Addr) -> Client {
    init_reboot(n, addr).addr(code::SERVER_ID, GATEWAY)
}

fn init_reboot(n: u64, addr: Ipv4Addr) -> Client {
    client(n)
        .kind(MessageType::Request)
        .addr(code::REQUESTED_ADDRESS, addr)
}

fn decline(n: u64, addr: Ipv4Addr) -> Client {
    selecting(n, addr).kind(MessageType::Decline)
}

fn release(n: u64, addr: Ipv4Addr) -> Client {
    client(n)
        .kind(MessageType::Release)
        .ciaddr(addr)
        .addr(code::SERVER_ID, GATEWAY)
}

fn mac(n: u64) -> Mac {
    let [.., a, b] = n.to_be_bytes();
    Mac([2, 0, 0, 0, a, b])
}

fn read(transmit: &Transmit) -> Message {
    Message::parse(&transmit.bytes).unwrap()
}

fn kinds(transmits: &[Transmit]) -> Vec<MessageType> {
    transmits
        .iter()
        .filter_map(|transmit| read(transmit).kind())
        .collect()
}

fn seconds(message: &Message, code: u8) -> Option<u32> {
    message.options.array(code).unwrap().map(u32::from_be_bytes)
}

fn at(secs: u64) -> Now {
    Now {
        mono: Instant::from_nanos(secs * 1_000_000_000),
        wall: Wall::from_secs(1_800_000_000 + secs),
    }
}
