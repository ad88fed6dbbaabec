//! RFC 7753 (PCP's `PORT_SET`), section by section, at machine level: the real core decides.

use home::{CAMERA, Home, NONCE, UDP, map, option, request, success};

#[test]
fn s4_2_a_set_is_opened_whole_and_its_first_port_and_size_are_told() {
    let mut home = Home::new();

    let answer = home.ask(CAMERA, &asks(3600, 50_000, 10, 0));

    let told = success(&answer);
    assert_eq!((told.internal_port, told.external_port), (50_000, 50_000));
    assert_eq!(answer[60..], set(50_000, 10, 0));
    assert_eq!(home.open().len(), 10);
}

#[test]
fn s4_2_never_more_than_asked_and_as_many_as_the_quota_leaves() {
    let mut home = Home::new();

    let answer = home.ask(CAMERA, &asks(3600, 50_000, 100, 0));

    assert_eq!(answer[60..], set(50_000, 32, 0));
    assert_eq!(home.open().len(), 32);
}

#[test]
fn s4_2_a_single_port_is_told_without_the_option() {
    let mut home = Home::new();

    let answer = home.ask(CAMERA, &asks(3600, 50_000, 1, 0));
    assert_eq!(answer.len(), 60);
    // the last port there is
    let answer = home.ask(CAMERA, &asks(3600, 65_535, 5, 0));
    assert_eq!((success(&answer).external_port, answer.len()), (65_535, 60));
    assert_eq!(home.open().len(), 2);
}

#[test]
fn s4_2_no_ports_two_sets_and_prefer_failure_are_malformed() {
    let mut home = Home::new();
    let base = request(CAMERA, 3600, &map(UDP, 50_000, 50_000));
    let two = set(50_000, 2, 0);
    for options in [
        set(50_000, 0, 0),
        two.repeat(2),
        [option(2, &[]), two.clone()].concat(),
        [two.clone(), option(2, &[])].concat(),
        option(PORT_SET, &[0, 2, 0]),
    ] {
        assert_eq!(home.ask(CAMERA, &[&base[..], &options].concat())[3], 6);
    }
    assert!(home.open().is_empty());
}

#[test]
fn s4_2_parity_is_preserved() {
    let mut home = Home::new();
    let bytes = [
        request(CAMERA, 3600, &map(UDP, 50_000, 40_001)),
        set(50_000, 2, 1),
    ];

    let answer = home.ask(CAMERA, &bytes.concat());

    assert_eq!(success(&answer).external_port % 2, 0);
    assert_eq!(answer[60..], set(50_000, 2, 1));
}

#[test]
fn s4_4_a_set_is_renewed_and_deleted_as_one() {
    let mut home = Home::new();
    home.ask(CAMERA, &asks(3600, 50_000, 4, 0));
    home.wait(1000);

    let renewed = home.ask(CAMERA, &asks(3600, 50_000, 4, 0));
    assert_eq!(renewed[4..8], 3600_u32.to_be_bytes());
    assert_eq!(renewed[60..], set(50_000, 4, 0));
    assert_eq!(home.open().len(), 4);

    let deleted = home.ask(CAMERA, &asks(0, 50_000, 4, 0));
    assert_eq!((deleted[3], &deleted[4..8]), (0, &[0; 4][..]));
    assert!(home.open().is_empty());
}

// DEVIATION RFC 7753 §4.4: each port of a set is a mapping of its own, so that a request without
// PORT_SET renews or deletes the port that it names and not the whole set.
#[test]
fn s4_4_without_the_option_a_single_port_of_a_set_is_deleted() {
    let mut home = Home::new();
    home.ask(CAMERA, &asks(3600, 50_000, 4, 0));

    home.ask(CAMERA, &request(CAMERA, 0, &map(UDP, 50_001, 0)));

    assert_eq!(home.open().len(), 3);
}

#[test]
fn s7_another_nonce_has_no_say_over_a_set() {
    let mut home = Home::new();
    home.ask(CAMERA, &asks(3600, 50_000, 4, 0));
    let mut foreign = asks(0, 50_000, 4, 0);
    assert_eq!(foreign[24..36], NONCE);
    foreign[24] ^= 1;

    assert_eq!(home.ask(CAMERA, &foreign)[3], 2);
    assert_eq!(home.open().len(), 4);
}

fn asks(lifetime: u32, port: u16, size: u16, flags: u8) -> Vec<u8> {
    let base = request(CAMERA, lifetime, &map(UDP, port, 0));
    [base, set(port, size, flags)].concat()
}

fn set(first: u16, size: u16, flags: u8) -> Vec<u8> {
    let ([s0, s1], [f0, f1]) = (size.to_be_bytes(), first.to_be_bytes());
    option(PORT_SET, &[s0, s1, f0, f1, flags])
}

const PORT_SET: u8 = 130;

#[path = "support/pcp_home.rs"]
#[allow(dead_code, reason = "each suite needs a part of it")]
#[cfg(test)]
mod home;
