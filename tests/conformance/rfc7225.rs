//! RFC 7225 (PCP's PREFIX64), section by section, at machine level: the real core decides.

use home::{CAMERA, Home, TCP, announce, map, option, request, success};
use pcp::Dialects;

#[test]
fn s4_2_map_and_announce_learn_the_prefix_and_for_which_addresses_it_is() {
    let mut home = Home::new();
    for question in [
        question(),
        option(PREFIX64, &[0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let mapped = [request(CAMERA, 3600, &map(TCP, 8080, 0)), question.clone()].concat();
        let mapped = home.ask(CAMERA, &mapped);
        let announced = home.ask(CAMERA, &[announce(CAMERA), question].concat());

        assert_eq!(success(&mapped).external_port, 8080);
        assert_eq!(mapped[60..], answer(0x64));
        assert_eq!(announced[24..], answer(0x64));
    }
}

#[test]
fn s4_2_nobody_is_told_who_does_not_ask() {
    let mut home = Home::new();

    let mapped = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0)));

    assert_eq!(mapped.len(), 60);
    assert_eq!(home.ask(CAMERA, &announce(CAMERA)).len(), 24);
}

#[test]
fn s4_2_without_a_prefix_there_is_no_option() {
    let mut home = Home::without_prefix();

    let announced = home.ask(CAMERA, &[announce(CAMERA), question()].concat());

    assert_eq!((announced[3], announced.len()), (0, 24));
}

#[test]
fn s4_2_while_two_prefixes_are_valid_the_preferred_one_comes_first() {
    let mut home = Home::new();
    home.renumber("2001:db8:65::/56");

    let announced = home.ask(CAMERA, &[announce(CAMERA), question()].concat());

    assert_eq!(announced[24..], [answer(0x65), answer(0x64)].concat());
}

#[test]
fn s4_2_a_new_prefix_is_announced_with_the_option_and_a_start_without() {
    let mut home = Home::serving(Dialects::Pcp);
    let at_start = home.announcements();
    assert!(at_start.iter().all(|(_, bytes)| bytes.len() == 24));
    home.renumber("2001:db8:65::/56");

    let (_, first) = home.announcements().remove(0);

    assert_eq!(first[24..], [answer(0x65), answer(0x64)].concat());
}

#[test]
fn s4_1_a_question_that_comes_twice_or_makes_no_sense_is_malformed() {
    let mut home = Home::new();
    let base = request(CAMERA, 3600, &map(TCP, 8080, 0));
    for options in [
        question().repeat(2),
        option(PREFIX64, &[0, 12]),
        option(PREFIX64, &[0, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        assert_eq!(home.ask(CAMERA, &[&base[..], &options].concat())[3], 6);
    }
    assert!(home.open().is_empty());
}

fn question() -> Vec<u8> {
    option(PREFIX64, &[0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// `2001:db8:x:1::/96` for the LAN alone.
fn answer(x: u8) -> Vec<u8> {
    let prefix = [0x20, 1, 0x0d, 0xb8, 0, x, 0, 1, 0, 0, 0, 0];
    let ipv4 = [0, 1, 0, 24, 192, 168, 64, 0];
    option(PREFIX64, &[&[0, 12][..], &prefix, &ipv4].concat())
}

const PREFIX64: u8 = 129;

#[path = "support/pcp_home.rs"]
#[allow(dead_code, reason = "each suite needs a part of it")]
#[cfg(test)]
mod home;
