//! Extensions of ICMP errors (RFC 4884) through translation (RFC 7915 §4.2, §5.2).
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use home::icmp::{Error, Flow, ready};
use home::sum16;
use proptest::prelude::*;

#[test]
fn s4_length_counts_words_of_32_bits_in_ipv4_and_of_64_bits_in_ipv6() {
    for len in [0, 1, 60, 99, 100, 101, 104, 107, 300, 400] {
        for kind in [3, 11] {
            let mut home = ready();
            let flow = Flow::udp_to_camera(&mut home, len);
            let error = with_extensions(&flow, kind, 1, &mpls());

            let left = home.error(&error).unwrap();

            let said = (left.word >> 24) as usize * 8;
            assert_eq!(left.word & 0x00ff_ffff, 0);
            assert_eq!(said % 8, 0);
            assert!(said >= 128);
            assert_eq!(left.body[said..], mpls(), "{len} bytes, ICMP {kind}");
            let quoted = flow.sent.len().min(said);
            flow.assert_quoted(&left.body[..quoted], quoted);
            assert!(left.body[quoted..said].iter().all(|byte| *byte == 0));
            assert!(
                said - quoted < 8 || said == 128,
                "no more zeros than needed"
            );
        }
    }
}

#[test]
fn s4_and_back() {
    for len in [0, 1, 60, 99, 100, 101, 104, 300, 380, 1200] {
        for kind in [1, 3] {
            let mut home = ready();
            let flow = Flow::udp_from_camera(&mut home, len);
            let error = with_extensions(&flow, kind, 0, &mpls());

            let left = home.error(&error).unwrap();

            let said = (left.word >> 16) as usize * 4;
            assert_eq!(left.word & 0xff00_ffff, 0);
            assert!(said >= 128);
            assert_eq!(left.body[said..], mpls(), "{len} bytes, ICMPv6 {kind}");
            let quoted = flow.sent.len().min(said);
            flow.assert_quoted(&left.body[..quoted], quoted);
            assert!(left.body[quoted..said].iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn s4_6_what_cannot_carry_extensions_loses_them() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 200);
    // to Packet Too Big and to Parameter Problem
    for (kind, code) in [(3, 4), (3, 2), (12, 0)] {
        let mut error = with_extensions(&flow, kind, code, &mpls());
        if code == 4 {
            error.word |= 1400;
        }

        let left = home.error(&error).unwrap();

        flow.assert_quoted(&left.body, flow.sent.len());
        let expected = match (kind, code) {
            (3, 4) => 1420,
            (3, 2) => 6,
            _ => 0,
        };
        assert_eq!(left.word, expected, "ICMP {kind}/{code}");
    }
}

#[test]
fn s4_error_without_extensions_has_no_length() {
    let mut home = ready();
    for flow in Flow::all(&mut home, 300) {
        let kind = if flow.is_from_remote() { 11 } else { 3 };
        let left = home.error(&Error::about(&flow.arrived, kind, 0)).unwrap();
        assert_eq!(left.word, 0);
        flow.assert_quoted(&left.body, flow.sent.len());
    }
}

#[test]
fn s5_length_that_cannot_be_is_no_length() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 300);
    for length in [1_u32, 31, 83, 255] {
        let error = Error::about(&flow.arrived, 11, 0).word(length << 16);

        let left = home.error(&error).unwrap();

        assert_eq!(left.word, 0);
        flow.assert_quoted(&left.body, flow.sent.len());
    }
}

#[test]
fn rfc_7915_s4_2_quote_makes_room_for_extensions_within_1280_bytes() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 1400);
    let mut error = with_extensions(&flow, 11, 0, &mpls());
    // 255 words of 4 bytes is the most that can be quoted before extensions in IPv4
    error.body.truncate(1020);
    error.body.extend([0x20, 0, 0xdf, 0xff].repeat(80));
    error.word = 255 << 16;

    let left = home.error(&error).unwrap();

    let said = (left.word >> 24) as usize * 8;
    assert_eq!(said + 320, 1232);
    assert_eq!(left.body.len(), 1232);
    assert_eq!(left.body[said..], [0x20, 0, 0xdf, 0xff].repeat(80));
    flow.assert_quoted(&left.body[..said], said);
}

#[test]
fn rfc_7915_s5_2_error_in_ipv4_fits_576_bytes() {
    let mut home = ready();
    let flow = Flow::udp_from_camera(&mut home, 1100);
    let plain = home.error(&Error::about(&flow.arrived, 3, 0)).unwrap();
    assert_eq!(plain.body.len(), 548);

    let left = home.error(&with_extensions(&flow, 3, 0, &mpls())).unwrap();
    let said = (left.word >> 16) as usize * 4;
    assert_eq!(left.body.len(), 548);
    assert_eq!(left.body[said..], mpls());
    flow.assert_quoted(&left.body[..said], said);
}

#[test]
fn rfc_7915_extensions_that_do_not_fit_are_left_away() {
    let mut home = ready();
    let flow = Flow::udp_from_camera(&mut home, 300);
    let error = with_extensions(&flow, 3, 0, &[0x20; 424]);

    let left = home.error(&error).unwrap();

    assert_eq!(left.word, 0);
    flow.assert_quoted(&left.body, flow.sent.len());
}

proptest! {
    #[test]
    fn s4_extensions_arrive_whole_or_not_at_all(
        which in 0..6_usize,
        len in 0..1400_usize,
        quoted in 28..1200_usize,
        extensions in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let mut home = ready();
        let flow = Flow::all(&mut home, len).remove(which);
        let unit = if flow.is_from_remote() { 4 } else { 8 };
        let mut error = Error::about(&flow.arrived, if unit == 4 { 11 } else { 3 }, 0)
            .cut(quoted.max(60).min(255 * unit));
        let field = error.body.len().max(128).next_multiple_of(unit);
        prop_assume!(field / unit < 256);
        error.body.resize(field, 0);
        error.body.extend(&extensions);
        error.word = ((field / unit) as u32) << if unit == 4 { 16 } else { 24 };

        let left = home.error(&error).unwrap();

        let said = match unit {
            4 => (left.word >> 24) as usize * 8,
            _ => (left.word >> 16) as usize * 4,
        };
        if said != 0 {
            prop_assert!(said >= 128);
            prop_assert_eq!(&left.body[said..], &extensions[..]);
        } else {
            prop_assert!(left.body.len() <= flow.sent.len());
            let room = if unit == 4 { 1232 } else { 548 };
            prop_assert!(extensions.is_empty() || extensions.len() + 128 + unit > room);
        }
    }
}

/// An error that quotes a packet, padded, before extensions.
fn with_extensions(flow: &Flow, kind: u8, code: u8, extensions: &[u8]) -> Error {
    let mut error = Error::about(&flow.arrived, kind, code);
    let unit = if flow.is_from_remote() { 4 } else { 8 };
    let field = error.body.len().max(128).next_multiple_of(unit);
    error.body.resize(field, 0);
    error.body.extend(extensions);
    let length = ((field / unit) as u32) & 0xff;
    error.word = length << if unit == 4 { 16 } else { 24 };
    error
}

/// An extension structure with an MPLS label stack (RFC 4950).
fn mpls() -> Vec<u8> {
    let mut bytes = vec![0x20, 0, 0, 0, 0, 8, 1, 1, 0x12, 0x34, 0x51, 0x01];
    let sum = !sum16(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}
