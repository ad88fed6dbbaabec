//! ICMP errors between IPv4 and IPv6 (RFC 7915 §4.2, §4.3, §5.2, §5.3), whole tables.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use home::icmp::{Error, Flow, ready, with_extension};
use home::{CAMERA, Home, NAS, OTHER, POOL, REMOTE, Segment, nsp, seal_ipv4};
use proptest::prelude::*;
use translator::DropReason;

/// RFC 7915 §4.2, apart from what follows from pointer and MTU: type and code of ICMP, and of
/// `ICMPv6`.
const FOUR_TO_SIX: [((u8, u8), (u8, u8)); 19] = [
    ((3, 0), (1, 0)),
    ((3, 1), (1, 0)),
    ((3, 2), (4, 1)),
    ((3, 3), (1, 4)),
    ((3, 4), (2, 0)),
    ((3, 5), (1, 0)),
    ((3, 6), (1, 0)),
    ((3, 7), (1, 0)),
    ((3, 8), (1, 0)),
    ((3, 9), (1, 1)),
    ((3, 10), (1, 1)),
    ((3, 11), (1, 0)),
    ((3, 12), (1, 0)),
    ((3, 13), (1, 1)),
    ((3, 15), (1, 1)),
    ((11, 0), (3, 0)),
    ((11, 1), (3, 1)),
    ((12, 0), (4, 0)),
    ((12, 2), (4, 0)),
];

/// RFC 7915 §5.2.
const SIX_TO_FOUR: [((u8, u8), (u8, u8)); 10] = [
    ((1, 0), (3, 1)),
    ((1, 1), (3, 10)),
    ((1, 2), (3, 1)),
    ((1, 3), (3, 1)),
    ((1, 4), (3, 3)),
    ((2, 0), (3, 4)),
    ((3, 0), (11, 0)),
    ((3, 1), (11, 1)),
    ((4, 0), (12, 0)),
    ((4, 1), (3, 2)),
];

/// RFC 7915 §4.2, Figure 3.
const POINTERS_FOUR_TO_SIX: [(u8, u32); 14] = [
    (0, 0),
    (1, 1),
    (2, 4),
    (3, 4),
    (8, 7),
    (9, 6),
    (12, 8),
    (13, 8),
    (14, 8),
    (15, 8),
    (16, 24),
    (17, 24),
    (18, 24),
    (19, 24),
];

#[test]
fn s4_2_every_icmpv4_type_and_code() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 20);
    for kind in 0..=255 {
        for code in 0..=255 {
            // a code that RFC 792 does not know stays what it is: "The Code is unchanged"
            if kind == 0 || kind == 8 || (kind == 11 && code > 1) {
                continue;
            }
            let expected = FOUR_TO_SIX
                .into_iter()
                .find(|(from, _)| *from == (kind, code))
                .map(|(_, to)| to)
                .ok_or(DropReason::IcmpUnsupported);

            let left = home.error(&Error::about(&flow.arrived, kind, code));

            let found = left.map(|error| (error.kind, error.code));
            assert_eq!(found, expected, "ICMP {kind}/{code}");
        }
    }
    let left = home.error(&Error::about(&flow.arrived, 11, 77)).unwrap();
    assert_eq!((left.kind, left.code), (3, 77));
}

#[test]
fn s5_2_every_icmpv6_type_and_code() {
    let mut home = ready();
    let flow = Flow::udp_from_camera(&mut home, 20);
    for kind in 0..=255 {
        for code in 0..=255 {
            // nobody looks at the code of a Packet Too Big (RFC 4443 §3.2)
            let unread = matches!(kind, 2 | 3) && code > u8::from(kind == 3);
            if kind == 128 || kind == 129 || unread {
                continue;
            }
            let expected = SIX_TO_FOUR
                .into_iter()
                .find(|(from, _)| *from == (kind, code))
                .map(|(_, to)| to)
                .ok_or(DropReason::IcmpUnsupported);

            let left = home.error(&Error::about(&flow.arrived, kind, code));

            let found = left.map(|error| (error.kind, error.code));
            assert_eq!(found, expected, "ICMPv6 {kind}/{code}");
        }
    }
    for (kind, code, expected) in [(2, 7, (3, 4)), (3, 77, (11, 77))] {
        let left = home
            .error(&Error::about(&flow.arrived, kind, code).word(1400))
            .unwrap();
        assert_eq!((left.kind, left.code), expected);
    }
}

#[test]
fn s4_2_every_pointer() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 20);
    for code in [0, 2] {
        for pointer in 0..=255_u8 {
            let expected = POINTERS_FOUR_TO_SIX
                .into_iter()
                .find(|(from, _)| *from == pointer)
                .map(|(_, to)| to)
                .ok_or(DropReason::IcmpUnsupported);
            let error = Error::about(&flow.arrived, 12, code).word(u32::from(pointer) << 24);

            let left = home.error(&error);

            assert_eq!(left.map(|error| error.word), expected, "pointer {pointer}");
        }
    }
}

#[test]
fn s5_2_every_pointer() {
    let mut home = ready();
    let flow = Flow::udp_from_camera(&mut home, 20);
    for pointer in (0..300).chain([0x100, 0x0600_0000, 0x8000_0007, u32::MAX]) {
        let expected: Result<u32, _> = match pointer {
            0 => Ok(0),
            1 => Ok(1),
            4 | 5 => Ok(2),
            6 => Ok(9),
            7 => Ok(8),
            8..=23 => Ok(12),
            24..=39 => Ok(16),
            _ => Err(DropReason::IcmpUnsupported),
        };

        let left = home.error(&Error::about(&flow.arrived, 4, 0).word(pointer));

        let expected = expected.map(|pointer| pointer << 24);
        assert_eq!(left.map(|error| error.word), expected, "pointer {pointer}");
    }
}

#[test]
fn s4_2_protocol_unreachable_points_at_the_next_header() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 20);

    let left = home
        .error(&Error::about(&flow.arrived, 3, 2).word(0x0900_0000))
        .unwrap();

    assert_eq!((left.kind, left.code, left.word), (4, 1, 6));
}

#[test]
fn s4_2_unused_words_are_zero() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 20);
    let back = Flow::udp_from_camera(&mut home, 20);
    for (kind, code) in [(3, 1), (3, 3), (3, 13), (11, 0)] {
        let error = Error::about(&flow.arrived, kind, code).word(0xdead_beef & 0xff00_ffff);
        assert_eq!(home.error(&error).unwrap().word, 0, "ICMP {kind}/{code}");
    }
    for (kind, code) in [(1, 0), (1, 4), (3, 0), (4, 1)] {
        let error = Error::about(&back.arrived, kind, code).word(0x00ad_beef);
        assert_eq!(home.error(&error).unwrap().word, 0, "ICMPv6 {kind}/{code}");
    }
}

#[test]
fn s4_3_outer_header_is_that_of_any_packet() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 20);
    let mut error = Error::about(&flow.arrived, 3, 3);
    (error.tos, error.ttl) = (0xb9, 33);

    let left = home.error(&error).unwrap();

    assert_eq!((left.tos, left.ttl), (0xb9, 33));
    assert_eq!(left.src, nsp().embed(CAMERA));
    assert_eq!(left.dst, REMOTE);
}

#[test]
fn s5_3_outer_header_is_that_of_any_packet() {
    let mut home = ready();
    let flow = Flow::udp_from_camera(&mut home, 20);
    let mut error = Error::about(&flow.arrived, 1, 4);
    (error.tos, error.ttl) = (0xb9, 33);

    let bytes = home.raw(&error.bytes()).unwrap();

    let left = Error::parse(&bytes);
    assert_eq!((left.tos, left.ttl), (0xb9, 33));
    assert_eq!(left.src, POOL);
    assert_eq!(left.dst, CAMERA);
    assert_eq!(
        bytes[6] & 0x40,
        0,
        "RFC 7915 §5.1: DF of what is that short"
    );
}

#[test]
fn s4_3_and_s5_3_quote_is_the_packet_that_was_sent() {
    for len in [0, 1, 20, 21, 300, 1000, 1400] {
        let mut home = ready();
        for flow in Flow::all(&mut home, len) {
            let (kind, code) = if flow.is_from_remote() {
                (3, 1)
            } else {
                (1, 0)
            };

            let left = home
                .error(&Error::about(&flow.arrived, kind, code))
                .unwrap();

            flow.assert_quoted(&left.body, flow.sent.len());
        }
    }
}

#[test]
fn s4_3_and_s5_3_quote_may_be_cut_anywhere_behind_the_ports() {
    let mut home = ready();
    for flow in Flow::all(&mut home, 40) {
        let (kind, code) = if flow.is_from_remote() {
            (3, 1)
        } else {
            (1, 0)
        };
        for len in 0..flow.arrived.len() {
            let error = Error::about(&flow.arrived, kind, code).cut(len);

            let left = home.error(&error);

            let header = if flow.is_from_remote() { 20 } else { 40 };
            match len.checked_sub(header) {
                Some(l4 @ 8..) => {
                    // half a word would be half of what it was
                    let l4 = if l4 + header == flow.arrived.len() {
                        l4
                    } else {
                        l4 & !1
                    };
                    flow.assert_quoted(&left.unwrap().body, flow.sent_header() + l4);
                }
                // an identifier stands behind the ports of others
                Some(4..) => {}
                Some(_) | None => {
                    assert_eq!(left, Err(DropReason::MalformedIcmp), "{len} bytes");
                }
            }
        }
    }
}

#[test]
fn s4_3_and_s5_3_error_about_an_error_is_dropped() {
    let mut home = ready();
    let flow = Flow::udp_from_camera(&mut home, 20);
    let nested = Error::about(&flow.sent, 3, 3).bytes();
    let twice = Error::about(&nested, 11, 0);
    let flow = Flow::udp_to_camera(&mut home, 20);
    let nested = Error::about(&flow.sent, 1, 4).bytes();
    let twice_six = Error::about(&nested, 3, 0);

    assert_eq!(home.error(&twice), Err(DropReason::IcmpNested));
    assert_eq!(home.error(&twice_six), Err(DropReason::IcmpNested));
    assert_eq!(home.dropped(DropReason::IcmpNested), 2);
}

#[test]
fn s4_3_options_of_the_quoted_packet_are_skipped() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 40);
    for options in [&[1, 148, 4, 0][..], &[131, 7, 4, 10, 0, 0, 1, 0], &[0; 40]] {
        let mut quote = flow.arrived[..20].to_vec();
        quote[0] = 0x45 + (options.len() / 4) as u8;
        let len = flow.arrived.len() + options.len();
        quote[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        quote.extend(options);
        seal_ipv4(&mut quote);
        quote.extend(&flow.arrived[20..]);

        let left = home.error(&Error::about(&quote, 3, 3)).unwrap();

        flow.assert_quoted(&left.body, flow.sent.len());
    }
}

#[test]
fn s5_3_extension_headers_of_the_quoted_packet_are_skipped() {
    let mut home = ready();
    for flow in Flow::all(&mut home, 40) {
        if flow.is_from_remote() {
            continue;
        }
        let protocol = flow.arrived[6];
        for header in [0, 43, 60] {
            for units in [0, 3] {
                let mut extension = vec![protocol, units];
                extension.resize(8 + usize::from(units) * 8, 0);
                let quote = with_extension(&flow.arrived, header, &extension);

                let left = home.error(&Error::about(&quote, 1, 4)).unwrap();

                flow.assert_quoted(&left.body, flow.sent.len());
            }
        }
        let endless = with_extension(&flow.arrived, 60, &[protocol, 255, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            home.error(&Error::about(&endless, 1, 4)),
            Err(DropReason::MalformedIcmp)
        );
    }
}

#[test]
fn s4_3_quoted_first_fragment_has_a_fragment_header() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 40);
    let mut quote = flow.arrived.clone();
    quote[4..8].copy_from_slice(&[0xab, 0xcd, 0x20, 0]);
    seal_ipv4(&mut quote);

    let left = home.error(&Error::about(&quote, 11, 1)).unwrap();

    assert_eq!(left.body[6], 44);
    assert_eq!(left.body[40..48], [17, 0, 0, 1, 0, 0, 0xab, 0xcd]);
    let payload = u16::from_be_bytes([left.body[4], left.body[5]]);
    assert_eq!(usize::from(payload), flow.sent.len() - 40 + 8);
    assert_eq!(left.body[48..], flow.sent[40..]);
}

#[test]
fn s5_3_quoted_first_fragment_is_one_in_ipv4() {
    let mut home = ready();
    let flow = Flow::udp_from_camera(&mut home, 40);
    let header = [17, 0, 0, 1, 0x12, 0x34, 0xab, 0xcd];
    let quote = with_extension(&flow.arrived, 44, &header);

    let left = home.error(&Error::about(&quote, 3, 1)).unwrap();

    assert_eq!(left.body[4..8], [0xab, 0xcd, 0x20, 0]);
    let len = u16::from_be_bytes([left.body[2], left.body[3]]);
    assert_eq!(usize::from(len), flow.sent.len());
    assert_eq!(left.body[20..], flow.sent[20..]);
}

#[test]
fn s4_3_and_s5_3_quoted_later_fragment_belongs_to_no_session() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 40);
    let mut quote = flow.arrived.clone();
    quote[6..8].copy_from_slice(&[0, 1]);
    seal_ipv4(&mut quote);
    let flow = Flow::udp_from_camera(&mut home, 40);
    let six = with_extension(&flow.arrived, 44, &[17, 0, 0, 8, 0, 0, 0, 1]);

    for error in [Error::about(&quote, 11, 1), Error::about(&six, 3, 1)] {
        assert_eq!(home.error(&error), Err(DropReason::IcmpError));
    }
}

#[test]
fn s4_3_quoted_datagram_without_a_checksum_gets_one_if_all_of_it_is_there() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 40);
    let mut quote = flow.arrived.clone();
    quote[26..28].copy_from_slice(&[0, 0]);

    let whole = home.error(&Error::about(&quote, 3, 3)).unwrap();
    let part = home.error(&Error::about(&quote, 3, 3).cut(60)).unwrap();

    assert_eq!(whole.body, flow.sent);
    let mut sent = flow.sent[..80].to_vec();
    sent[46..48].copy_from_slice(&[0, 0]);
    assert_eq!(part.body, sent);
}

#[test]
fn s4_3_and_s5_3_length_fields_are_those_of_the_whole_packet() {
    let mut home = ready();
    for flow in Flow::all(&mut home, 1400) {
        let (kind, code) = if flow.is_from_remote() {
            (3, 1)
        } else {
            (1, 0)
        };
        let left = home
            .error(&Error::about(&flow.arrived, kind, code).cut(100))
            .unwrap();

        let at = if flow.is_from_remote() { 4 } else { 2 };
        assert_eq!(left.body[at..at + 2], flow.sent[at..at + 2]);
        assert!(left.body.len() < 150);
    }
}

#[test]
fn s4_3_and_s5_3_what_follows_the_quoted_packet_is_left_away() {
    let mut home = ready();
    for flow in Flow::all(&mut home, 10) {
        let (kind, code) = if flow.is_from_remote() {
            (3, 1)
        } else {
            (1, 0)
        };
        let mut error = Error::about(&flow.arrived, kind, code);
        error.body.extend([0x55; 30]);

        let left = home.error(&error).unwrap();

        flow.assert_quoted(&left.body, flow.sent.len());
    }
}

#[test]
fn s4_2_error_to_somebody_else_than_the_sender_is_dropped() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 20);
    let mut four = Error::about(&flow.arrived, 3, 3);
    four.dst = NAS.into();
    let flow = Flow::udp_from_camera(&mut home, 20);
    let mut six = Error::about(&flow.arrived, 1, 4);
    six.dst = nsp().embed(NAS).into();
    let mut elsewhere = six.clone();
    elsewhere.dst = OTHER.into();

    assert_eq!(home.error(&four), Err(DropReason::NotOurs));
    assert_eq!(home.error(&six), Err(DropReason::IcmpError));
    assert_eq!(home.error(&elsewhere), Err(DropReason::NotOurs));
}

#[test]
fn s4_1_illegal_sources_of_errors_are_translated_for_who_looks_for_trouble() {
    let mut home = ready();
    let flow = Flow::udp_to_camera(&mut home, 20);
    for src in ["0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1"] {
        let src: std::net::Ipv4Addr = src.parse().unwrap();
        let left = home
            .error(&Error::about(&flow.arrived, 3, 1).from(src))
            .unwrap();
        assert_eq!(left.src, nsp().embed(src));
        flow.assert_quoted(&left.body, flow.sent.len());
    }
    // nobody else is a remote
    let forged = Error::about(&flow.arrived, 3, 1).from(POOL);
    assert_eq!(home.error(&forged), Err(DropReason::IllegalSource));
}

#[test]
fn s5_1_illegal_sources_of_errors_are_dropped() {
    let mut home = ready();
    let flow = Flow::udp_from_camera(&mut home, 20);
    for src in ["::", "::1", "ff02::1", "fe80::1", "::ffff:10.0.0.1"] {
        let src: std::net::Ipv6Addr = src.parse().unwrap();
        let error = Error::about(&flow.arrived, 1, 0).from(src);
        assert_eq!(home.error(&error), Err(DropReason::IllegalSource), "{src}");
    }
    let inside = Error::about(&flow.arrived, 1, 0).from(nsp().embed(NAS));
    assert_eq!(home.error(&inside), Err(DropReason::SourceInPref64));
}

#[test]
fn s4_2_golden_bytes_of_a_port_unreachable() {
    let mut home = Home::new();
    home.raw(&home::to_camera(Segment::udp(4000, 5000)).bytes())
        .unwrap();

    let left = home.raw(&PORT_UNREACHABLE_V4).unwrap();

    assert_eq!(left, PORT_UNREACHABLE_V6);
}

#[test]
fn s5_2_golden_bytes_of_a_packet_too_big() {
    let mut home = Home::new();
    home.raw(&home::to_camera(Segment::udp(4000, 5000)).bytes())
        .unwrap();

    let mut left = home.raw(&PACKET_TOO_BIG).unwrap();

    // an identification is any number
    left[4..6].copy_from_slice(&[0, 0]);
    seal_ipv4(&mut left);
    assert_eq!(left, FRAGMENTATION_NEEDED);
}

proptest! {
    #[test]
    fn s4_3_and_s5_3_mutated_errors_never_panic_and_what_leaves_is_whole(
        which in 0..6_usize,
        len in 0..1400_usize,
        kind in prop_oneof![Just(3_u8), Just(11), Just(12), Just(1), Just(2), Just(4), any::<u8>()],
        code in 0..16_u8,
        word: u32,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        junk in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut home = ready();
        let flow = Flow::all(&mut home, len).remove(which);
        let mut error = Error::about(&flow.arrived, kind, code).word(word);
        for (at, value) in changes {
            let at = at.index(error.body.len().min(80));
            error.body[at] = value;
        }
        if let Some(cut) = cut {
            let len = cut.index(error.body.len());
            error = error.cut(len);
        }
        error.body.extend(junk);
        if error.body.len() >= 60 && error.body[0] >> 4 == 4 {
            seal_ipv4(&mut error.body);
        }

        if let Ok(left) = home.raw(&error.bytes()) {
            // parsing checks all lengths and checksums of what left
            let left = Error::parse(&left);
            prop_assert_ne!(left.src.is_ipv4(), error.src.is_ipv4());
        }
    }

    #[test]
    fn s4_3_and_s5_3_arbitrary_errors_never_panic(
        four: bool,
        kind: u8,
        code: u8,
        word: u32,
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut home = ready();
        let error = Error {
            src: if four { CAMERA.into() } else { REMOTE.into() },
            dst: if four { POOL.into() } else { nsp().embed(CAMERA).into() },
            tos: 0,
            ttl: 3,
            kind: if matches!(kind, 0 | 8 | 128 | 129) { 3 } else { kind },
            code,
            word,
            body,
        };
        prop_assert!(home.raw(&error.bytes()).is_err());
    }
}

/// From the camera, about a datagram of the remote of 15 bytes from port 4000 to port 5001, of
/// which 8 are quoted.
const PORT_UNREACHABLE_V4: [u8; 56] = [
    0x45, 0x00, 0x00, 0x38, 0x12, 0x34, 0x00, 0x00, 0x3d, 0x01, 0x69, 0x78, 0xc0, 0xa8, 0x40, 0x07,
    0xc0, 0xa8, 0x40, 0xc1, 0x03, 0x03, 0xbc, 0x66, 0x00, 0x00, 0x00, 0x00, 0x45, 0x00, 0x00, 0x23,
    0x00, 0x00, 0x00, 0x00, 0x3d, 0x11, 0x7b, 0xb1, 0xc0, 0xa8, 0x40, 0xc1, 0xc0, 0xa8, 0x40, 0x07,
    0x0f, 0xa0, 0x13, 0x89, 0x00, 0x0f, 0x1d, 0x5e,
];

/// The same in IPv6, where the datagram was to go to port 5000.
const PORT_UNREACHABLE_V6: [u8; 96] = [
    0x60, 0x00, 0x00, 0x00, 0x00, 0x38, 0x3a, 0x3d, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x64, 0x00, 0x01,
    0x00, 0x00, 0x00, 0x00, 0xc0, 0xa8, 0x40, 0x07, 0x20, 0x01, 0x0d, 0xb8, 0xaa, 0xaa, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x01, 0x04, 0x43, 0x5a, 0x00, 0x00, 0x00, 0x00,
    0x60, 0x00, 0x00, 0x00, 0x00, 0x0f, 0x11, 0x3d, 0x20, 0x01, 0x0d, 0xb8, 0xaa, 0xaa, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x64, 0x00, 0x01,
    0x00, 0x00, 0x00, 0x00, 0xc0, 0xa8, 0x40, 0x07, 0x0f, 0xa0, 0x13, 0x88, 0x00, 0x0f, 0x18, 0x46,
];
/// From the remote, about a datagram of the camera to port 4000 that was 1440 bytes long: 1400 fit.
const PACKET_TOO_BIG: [u8; 96] = [
    0x60, 0x00, 0x00, 0x00, 0x00, 0x38, 0x3a, 0x3d, 0x20, 0x01, 0x0d, 0xb8, 0xaa, 0xaa, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x64, 0x00, 0x01,
    0x00, 0x00, 0x00, 0x00, 0xc0, 0xa8, 0x40, 0x07, 0x02, 0x00, 0x37, 0x7d, 0x00, 0x00, 0x05, 0x78,
    0x60, 0x00, 0x00, 0x00, 0x05, 0x78, 0x11, 0x3d, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x64, 0x00, 0x01,
    0x00, 0x00, 0x00, 0x00, 0xc0, 0xa8, 0x40, 0x07, 0x20, 0x01, 0x0d, 0xb8, 0xaa, 0xaa, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x13, 0x88, 0x0f, 0xa0, 0x00, 0x0f, 0x18, 0x46,
];

/// The same in IPv4, where 1380 fit.
const FRAGMENTATION_NEEDED: [u8; 56] = [
    0x45, 0x00, 0x00, 0x38, 0x00, 0x00, 0x00, 0x00, 0x3d, 0x01, 0x7b, 0xac, 0xc0, 0xa8, 0x40, 0xc1,
    0xc0, 0xa8, 0x40, 0x07, 0x03, 0x04, 0xb7, 0x01, 0x00, 0x00, 0x05, 0x64, 0x45, 0x00, 0x05, 0x8c,
    0x00, 0x00, 0x40, 0x00, 0x3d, 0x11, 0x36, 0x48, 0xc0, 0xa8, 0x40, 0x07, 0xc0, 0xa8, 0x40, 0xc1,
    0x13, 0x89, 0x0f, 0xa0, 0x00, 0x0f, 0x1d, 0x5e,
];
