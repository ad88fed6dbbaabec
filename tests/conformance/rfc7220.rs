//! RFC 7220 (PCP's DESCRIPTION), section by section, at machine level: the real core decides.

use home::{CAMERA, Home, TCP, map, option, peer, request, request_of, success};

#[test]
fn s3_what_is_stored_of_a_text_comes_back_and_a_renewal_replaces_it() {
    let mut home = Home::new();
    for text in ["Camera", "caméra du jardin"] {
        let answer = home.ask(CAMERA, &described(text.as_bytes()));

        assert_eq!(success(&answer).external_port, 8080);
        assert_eq!(answer[60..], option(DESCRIPTION, text.as_bytes()));
        assert_eq!(stored(&home), text);
    }
}

#[test]
fn s3_without_a_text_none_is_answered_and_the_old_one_stays() {
    let mut home = Home::new();
    home.ask(CAMERA, &described(b"Camera"));

    let answer = home.ask(CAMERA, &request(CAMERA, 3600, &map(TCP, 8080, 0)));

    assert_eq!(answer.len(), 60);
    assert_eq!(stored(&home), "Camera");
}

#[test]
fn s3_an_empty_text_erases_the_old_one_and_comes_back() {
    let mut home = Home::new();
    home.ask(CAMERA, &described(b"Camera"));

    let answer = home.ask(CAMERA, &described(b""));

    assert_eq!(answer[60..], option(DESCRIPTION, b""));
    assert_eq!(stored(&home), "");
}

#[test]
fn s3_a_text_of_the_greatest_length_is_stored_whole() {
    let mut home = Home::new();
    let text = [b'x'; 1016];

    let answer = home.ask(CAMERA, &described(&text));

    assert_eq!(answer[60..], option(DESCRIPTION, &text));
}

#[test]
fn s3_what_is_no_text_is_passed_over() {
    let mut home = Home::new();
    for text in [&[0xff][..], b"cam\xc3", &[b'x'; 1017]] {
        let answer = home.ask(CAMERA, &described(text));

        assert_eq!(success(&answer).external_port, 8080);
        assert_eq!(answer.len(), 60);
        assert_eq!(stored(&home), "");
    }
}

#[test]
fn s2_a_second_text_is_malformed() {
    let mut home = Home::new();
    let bytes = [described(b"Camera"), option(DESCRIPTION, b"Webcam")].concat();

    assert_eq!(home.ask(CAMERA, &bytes)[3], 6);
    assert!(home.open().is_empty());
}

#[test]
fn s2_peer_takes_a_text_too() {
    let mut home = Home::new();
    home.carry();
    let body = peer(map(TCP, 50_000, 0), "::ffff:192.0.2.9", 443);
    let client = std::net::Ipv4Addr::from(CAMERA).to_ipv6_mapped();
    let text = option(DESCRIPTION, b"chat");
    let bytes = [request_of(client, 3600, body), text.clone()].concat();

    assert_eq!(home.ask(CAMERA, &bytes)[80..], text);
}

#[test]
fn s3_a_static_mappings_text_is_not_the_clients() {
    let mut home = Home::new();
    home.open_static(8080);

    let answer = home.ask(CAMERA, &described(b"Camera"));

    assert_eq!(success(&answer).external_port, 8080);
    assert_ne!(answer[60..], option(DESCRIPTION, b"Camera"));
}

fn described(text: &[u8]) -> Vec<u8> {
    let base = request(CAMERA, 3600, &map(TCP, 8080, 8080));
    [base, option(DESCRIPTION, text)].concat()
}

fn stored(home: &Home) -> String {
    let mapping = home.core.snapshot().mappings().next();
    mapping.map(|it| it.description.clone()).unwrap_or_default()
}

const DESCRIPTION: u8 = 128;

#[path = "support/pcp_home.rs"]
#[allow(dead_code, reason = "each suite needs a part of it")]
#[cfg(test)]
mod home;
