//! Fragments and IP headers: RFC 7915 §4.1, §5.1.1; RFC 8200 §4.5; RFC 5722; RFC 6946; RFC 7112;
//! RFC 6146 §3.4, §5.3; RFC 6864; RFC 7739.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;
#[path = "../../crates/translator/tests/support/pieces.rs"]
mod pieces;

use std::net::Ipv6Addr;
use std::time::Duration;

use home::{
    ACK, CAMERA, Home, NAS, OTHER, POOL, Packet, REMOTE, Segment, from_camera, nsp, seal_ipv4,
    to_camera,
};
use pieces::{cut, cut_evenly, fragment, hold, join, join_bytes, part, read, send_all};
use proptest::prelude::*;
use translator::{DropReason, Links, Timer, Verdict};

#[test]
fn n6_10_fragments_in_any_order_are_put_together_both_ways() {
    for packet in [
        udp_to_camera(4000),
        udp_from_camera(4000),
        tcp_to_camera(3000),
        tcp_from_camera(3000),
        to_camera(Segment::ping(4000)).with_payload(3000),
        from_camera(Segment::pong(4000)).with_payload(3000),
    ] {
        let mut home = ready();
        let whole = uncut(&mut home, &packet);
        let in_order = cut_evenly(&packet.bytes(), 7, 100);
        let reversed: Vec<_> = in_order.iter().rev().cloned().collect();
        let mut shuffled = in_order.clone();
        shuffled.rotate_left(2);
        shuffled.swap(0, 2);
        for parts in [in_order, reversed, shuffled] {
            let left = send_all(&mut home, &parts);

            assert!(left.len() > 1, "it leaves in parts too");
            assert_eq!(join(&left), whole);
        }
        assert_eq!(home.translator.counters().fragments.held, 0);
        assert_eq!(home.translator.counters().fragments.reassembled, 3);
    }
}

#[test]
fn n6_10_longest_datagrams_pass_both_ways() {
    // 65,507 bytes are the most that UDP in IPv4 carries
    for len in [60_000, 65_507] {
        for packet in [udp_to_camera(len), udp_from_camera(len)] {
            let mut home = ready();

            let left = send_all(&mut home, &cut_evenly(&packet.bytes(), 7, 1232 / 8));

            assert_eq!(join(&left).payload, packet.payload);
        }
    }
}

#[test]
fn n6_10_what_ipv4_cannot_carry_is_counted() {
    let mut home = ready();
    let parts = cut_evenly(&udp_to_camera(65_508).bytes(), 7, 1232 / 8);

    let verdicts: Vec<_> = parts.iter().map(|part| home.exchange(part).0).collect();

    assert_eq!(verdicts.last(), Some(&Verdict::Drop(DropReason::TooBig)));
}

#[test]
fn n6_11_checksum_is_computed_over_the_whole_datagram() {
    for len in [1, 1000, 3001, 60_000] {
        let mut home = ready();
        let packet = udp_from_camera(len);
        let mut bytes = packet.bytes();
        bytes[26..28].fill(0);

        for parts in [cut_evenly(&bytes, 7, 64), cut_evenly(&bytes, 7, 8000)] {
            let left = if parts.len() > 1 {
                send_all(&mut home, &parts)
            } else {
                home.exchange(&bytes).1
            };

            // `join` verifies the checksum and that there is one
            assert_eq!(join(&left).payload, packet.payload);
        }
    }
}

#[test]
fn n6_10_bad_checksum_stays_bad_through_fragments() {
    for packet in [udp_to_camera(3000), udp_from_camera(3000)] {
        let mut home = ready();
        let mut bytes = packet.bytes();
        let last = bytes.len() - 1;
        bytes[last] ^= 0x55;

        let left = send_all(&mut home, &cut_evenly(&bytes, 7, 100));

        let joined = join_bytes(&left);
        assert!(std::panic::catch_unwind(|| Packet::parse(&joined)).is_err());
    }
}

#[test]
fn n6_10_fragments_start_a_session() {
    let mut home = Home::new();

    let left = send_all(&mut home, &cut_evenly(&udp_to_camera(3000).bytes(), 7, 154));

    assert_eq!(join(&left).segment, Segment::udp(4000, 5001));
    assert_eq!(home.live(), 1);
}

#[test]
fn n6_10_fragments_wait_exactly_as_long_as_configured() {
    for wait in [2, 9] {
        let mut home = Home::with(|config| {
            config
                .lifetimes
                .set_fragment(Duration::from_secs(wait))
                .unwrap();
        });
        home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
        for packet in [udp_to_camera(3000), udp_from_camera(3000)] {
            let parts = cut_evenly(&packet.bytes(), 7, 150);
            let (last, others) = parts.split_last().unwrap();
            let nano = Duration::from_nanos(1);

            for (pause, completes) in [
                (wait * 1_000_000_000 - 1, true),
                (wait * 1_000_000_000, false),
            ] {
                let before = home.dropped(DropReason::FragmentTimeout);
                hold(&mut home, &others[0]);
                home.pass(nano * 500);
                let due = home.translator.poll_timeout();
                assert_eq!(due.map(|(_, timer)| timer), Some(Timer::FragmentExpiry));
                hold(&mut home, &others[1]);
                assert_eq!(
                    home.translator.poll_timeout(),
                    due,
                    "counted from the first part"
                );
                home.now += Duration::from_nanos(pause - 500);
                assert_eq!(home.exchange(last).1.is_empty(), !completes);
                home.pass(Duration::from_secs(wait));
                let late = home.dropped(DropReason::FragmentTimeout) - before;
                assert_eq!(late, if completes { 0 } else { 3 });
            }
        }
        assert_eq!(home.translator.counters().fragments.held_bytes, 0);
    }
}

#[test]
fn n6_14_lost_part_loses_the_datagram_only() {
    let mut home = ready();
    let parts = cut_evenly(&udp_to_camera(3000).bytes(), 7, 100);
    for part in &parts[1..] {
        hold(&mut home, part);
    }
    let other = cut_evenly(&udp_to_camera(3000).bytes(), 8, 100);
    assert_eq!(join(&send_all(&mut home, &other)).payload.len(), 3000);

    home.pass(Duration::from_secs(2));

    assert_eq!(
        home.dropped(DropReason::FragmentTimeout),
        parts.len() as u64 - 1
    );
    assert_eq!(home.translator.counters().fragments.held, 0);
}

#[test]
fn rfc_8200_s4_5_exact_duplicates_are_ignored() {
    for packet in [udp_to_camera(5000), udp_from_camera(5000)] {
        let mut home = ready();
        let parts = cut_evenly(&packet.bytes(), 7, 100);
        let (last, others) = parts.split_last().unwrap();
        for part in others {
            hold(&mut home, part);
        }
        for part in others {
            let ignored = Verdict::Drop(DropReason::FragmentDuplicate);
            assert_eq!(home.exchange(part).0, ignored);
        }
        assert_eq!(
            home.dropped(DropReason::FragmentDuplicate),
            others.len() as u64
        );

        let left = home.exchange(last).1;

        assert_eq!(join(&left).payload, packet.payload);
    }
}

#[test]
fn rfc_5722_overlap_drops_the_datagram_and_what_comes_later_of_it() {
    for packet in [udp_to_camera(2000), udp_from_camera(2000)] {
        let bytes = packet.bytes();
        let mut other = bytes.clone();
        let last = other.len() - 1;
        other[last - 1200] ^= 1;
        let overlaps = [
            // a part of a part, from its start, to its end and inside
            part(&bytes, 7, 800..1200),
            part(&bytes, 7, 1200..1600),
            part(&bytes, 7, 1000..1400),
            // more than a part
            part(&bytes, 7, 792..1600),
            part(&bytes, 7, 792..1608),
            part(&bytes, 7, 1000..1608),
            // as long, with other bytes
            part(&other, 7, 800..1600),
        ];
        for overlap in overlaps {
            let mut home = ready();
            hold(&mut home, &part(&bytes, 7, 0..800));
            hold(&mut home, &part(&bytes, 7, 800..1600));

            let dropped = Verdict::Drop(DropReason::FragmentOverlap);
            assert_eq!(home.exchange(&overlap).0, dropped);
            for part in cut_evenly(&bytes, 7, 100) {
                assert_eq!(home.exchange(&part), (dropped, Vec::new()));
            }
            assert_eq!(home.dropped(DropReason::FragmentOverlap), 3 + 3);

            // the identification is free again when time is up
            home.pass(Duration::from_secs(2));
            let left = send_all(&mut home, &cut_evenly(&bytes, 7, 100));
            assert_eq!(join(&left).payload, packet.payload);
        }
    }
}

#[test]
fn rfc_8200_s4_5_contradictory_ends_drop_the_datagram() {
    for packet in [udp_to_camera(2000), udp_from_camera(2000)] {
        let bytes = packet.bytes();
        let contradictions = [
            // another end
            (
                part(&bytes, 7, 1600..2008),
                fragment(&bytes, 7, 1000, false, &[0; 400]),
            ),
            (
                part(&bytes, 7, 1600..2008),
                fragment(&bytes, 7, 2008, false, &[0; 8]),
            ),
            // something behind the end
            (
                part(&bytes, 7, 1600..2008),
                fragment(&bytes, 7, 2008, true, &[0; 8]),
            ),
            (
                fragment(&bytes, 7, 2008, true, &[0; 8]),
                part(&bytes, 7, 1600..2008),
            ),
        ];
        for (first, second) in contradictions {
            let mut home = ready();
            assert_eq!(home.exchange(&first).0, Verdict::Hold);
            assert_eq!(
                home.exchange(&second).0,
                Verdict::Drop(DropReason::FragmentInconsistent)
            );
        }
    }
}

#[test]
fn rfc_8200_s4_5_impossible_fragments_are_dropped_alone() {
    for packet in [udp_to_camera(2000), udp_from_camera(2000)] {
        let bytes = packet.bytes();
        let mut home = ready();
        hold(&mut home, &part(&bytes, 7, 0..800));
        for impossible in [
            fragment(&bytes, 7, 800, true, &[0; 799]),
            fragment(&bytes, 7, 800, true, &[]),
            fragment(&bytes, 7, 800, false, &[]),
            fragment(&bytes, 7, 65_528, false, &[0; 8]),
            fragment(&bytes, 7, 65_000, true, &[0; 800]),
        ] {
            assert_eq!(
                home.exchange(&impossible).0,
                Verdict::Drop(DropReason::FragmentInconsistent)
            );
        }
        let left = send_all(&mut home, &[part(&bytes, 7, 800..2008)]);
        assert_eq!(join(&left).payload, packet.payload);
    }
}

#[test]
fn rfc_7112_first_fragment_holds_all_headers() {
    let mut options = to_camera(Segment::tcp(4000, 80, ACK)).with_payload(100);
    let Segment::Tcp { options: place, .. } = &mut options.segment else {
        unreachable!()
    };
    *place = vec![1; 12];
    for (packet, tiny, enough) in [
        (tcp_to_camera(100), 16, 24),
        (tcp_from_camera(100), 16, 24),
        (options, 24, 32),
    ] {
        let bytes = packet.bytes();
        let len = bytes.len() - if packet.src.is_ipv4() { 20 } else { 40 };
        let mut home = ready();
        let dropped = Verdict::Drop(DropReason::FragmentTiny);
        // RFC 1858 §4: what stands behind 8 bytes may rewrite the flags
        hold(&mut home, &part(&bytes, 7, tiny..len));
        assert_eq!(home.exchange(&part(&bytes, 7, 0..tiny)).0, dropped);
        assert_eq!(home.exchange(&part(&bytes, 7, tiny..len)).0, dropped);
        assert_eq!(home.dropped(DropReason::FragmentTiny), 3);

        let parts = [part(&bytes, 8, 0..enough), part(&bytes, 8, enough..len)];
        assert_eq!(join(&send_all(&mut home, &parts)).payload, packet.payload);
    }
}

#[test]
fn rfc_6946_atomic_fragment_is_a_whole_packet() {
    let mut home = ready();
    let packet = udp_to_camera(100);
    let atomic = fragment(
        &packet.bytes(),
        0x1234_5678,
        0,
        false,
        &packet.sealed_segment(),
    );
    // others with its identification are no part of it
    let other = fragment(&packet.bytes(), 0x1234_5678, 800, true, &[0; 8]);
    hold(&mut home, &other);

    let (verdict, left) = home.exchange(&atomic);

    assert_eq!(verdict, Verdict::Forward);
    let arrived = read(&left[0]);
    assert_eq!((arrived.id, arrived.dont_fragment), (0x5678, false));
    assert_eq!(Packet::parse(&left[0]).payload, packet.payload);
    assert_eq!(home.translator.counters().fragments.held, 1);
}

#[test]
fn s5_1_1_identification_is_kept_and_df_is_not_set() {
    let mut home = ready();

    let left = send_all(
        &mut home,
        &cut_evenly(&udp_to_camera(3000).bytes(), 0xabcd_1234, 154),
    );

    for part in left.iter().map(|packet| read(packet)) {
        assert_eq!((part.id, part.dont_fragment), (0x1234, false));
    }
}

#[test]
fn s4_1_identification_is_kept() {
    let mut home = ready();

    let left = send_all(
        &mut home,
        &cut_evenly(&udp_from_camera(3000).bytes(), 0xfedc, 185),
    );

    for part in left.iter().map(|packet| read(packet)) {
        assert_eq!(part.id, 0xfedc);
    }
}

#[test]
fn s5_1_1_parts_leave_no_larger_than_the_largest_that_came() {
    for (packet, header) in [(udp_to_camera(3000), 20), (udp_from_camera(3000), 48)] {
        let mut home = ready();

        let left = send_all(&mut home, &cut(&packet.bytes(), 7, &[10, 60]));

        // the largest is the last one: 3008 - 480 bytes, as many as fit in IPv6
        let largest = left.iter().map(|part| part.len()).max();
        let expected = if header == 20 { 1480 } else { 1232 };
        assert_eq!(largest, Some(header + expected));

        let left = send_all(&mut home, &cut_evenly(&packet.bytes(), 8, 25));
        assert_eq!(left.iter().map(|part| part.len()).max(), Some(header + 200));
        assert_eq!(left.len(), 3008_usize.div_ceil(200));
    }
}

#[test]
fn s4_1_and_s5_1_1_parts_leave_at_the_offsets_at_which_they_came() {
    for packet in [
        udp_to_camera(3000),
        udp_from_camera(3000),
        tcp_to_camera(3000),
        tcp_from_camera(3000),
    ] {
        for cuts in [&[3][..], &[10, 60], &[3, 6, 150], &[150, 151, 300]] {
            let mut home = ready();
            let parts = cut(&packet.bytes(), 7, cuts);
            let offsets: Vec<usize> = parts.iter().map(|part| read(part).offset).collect();
            let reversed: Vec<_> = parts.iter().rev().cloned().collect();
            for parts in [parts, reversed] {
                let left = send_all(&mut home, &parts);

                let found: Vec<usize> = left.iter().map(|part| read(part).offset).collect();
                assert!(
                    offsets.iter().all(|offset| found.contains(offset)),
                    "{offsets:?} {found:?}"
                );
                let room = if left[0][0] >> 4 == 4 { 1480 } else { 1232 };
                let too_long = offsets
                    .iter()
                    .zip(offsets.iter().skip(1).chain([&3020]))
                    .filter(|(start, end)| *end - *start > room)
                    .count();
                assert!(found.len() <= offsets.len() + 2 * too_long, "{found:?}");
                assert_eq!(join(&left).payload, packet.payload);
            }
        }
    }
}

#[test]
fn s5_1_1_few_bytes_in_two_parts_leave_in_two_parts() {
    for packet in [udp_to_camera(20), udp_from_camera(20)] {
        let mut home = ready();

        let left = send_all(&mut home, &cut(&packet.bytes(), 7, &[1]));

        let offsets: Vec<usize> = left.iter().map(|part| read(part).offset).collect();
        assert_eq!(offsets, [0, 8]);
        assert_eq!(join(&left).payload, packet.payload);
    }
}

#[test]
fn rfc_9868_bytes_behind_a_datagram_are_carried_in_parts() {
    for packet in [udp_to_camera(2000), udp_from_camera(2000)] {
        for unsummed in [false, packet.src.is_ipv4()] {
            let mut home = ready();
            let mut segment = packet.sealed_segment();
            if unsummed {
                segment[6..8].fill(0);
            }
            let whole = packet.with_header(&[segment, vec![7; 333]].concat(), &[]);

            let left = send_all(&mut home, &cut(&whole, 7, &[100, 200]));

            let mut joined = join_bytes(&left);
            assert!(joined.ends_with(&[7; 333]));
            joined.truncate(joined.len() - 333);
            let len = joined.len() as u16;
            if joined[0] >> 4 == 4 {
                joined[2..4].copy_from_slice(&len.to_be_bytes());
                seal_ipv4(&mut joined);
            } else {
                joined[4..6].copy_from_slice(&(len - 40).to_be_bytes());
            }
            assert_eq!(Packet::parse(&joined).payload, packet.payload);
        }
    }
}

#[test]
fn s5_1_1_crumbs_leave_as_what_every_link_carries() {
    for (packet, header) in [(udp_to_camera(60_000), 20), (udp_from_camera(60_000), 48)] {
        let mut home = ready();

        let left = send_all(&mut home, &cut_evenly(&packet.bytes(), 7, 1));

        assert_eq!(left.iter().map(|part| part.len()).max(), Some(header + 48));
        assert_eq!(join(&left).payload, packet.payload);
    }
}

#[test]
fn rfc_8021_no_atomic_fragment_is_made() {
    for packet in [udp_to_camera(30), udp_from_camera(30)] {
        let mut home = ready();

        let left = send_all(&mut home, &cut_evenly(&packet.bytes(), 7, 1));

        let mut parts = left.iter().map(|part| read(part));
        assert!(parts.all(|part| part.offset != 0 || part.more));
        assert_eq!(join(&left).payload, packet.payload);
    }
}

#[test]
fn s5_1_1_extension_header_behind_the_fragment_header_is_dropped() {
    let mut home = ready();
    let bytes = udp_to_camera(1000).bytes();
    for next in [0, 43, 44, 51, 60, 135, 139, 140] {
        for (offset, more) in [(0, true), (8, true), (8, false), (0, false)] {
            let mut fragment = fragment(&bytes, 7, offset, more, &[17, 0, 0, 0, 0, 0, 0, 0]);
            fragment[40] = next;
            let dropped = Verdict::Drop(DropReason::FragmentExtension);
            assert_eq!(home.exchange(&fragment).0, dropped, "{next}");
        }
    }
    let mut esp = fragment(&bytes, 7, 0, true, &[0; 64]);
    esp[40] = 50;
    assert_eq!(
        home.exchange(&esp).0,
        Verdict::Drop(DropReason::UnsupportedProtocol)
    );
    assert_eq!(home.translator.counters().fragments.held, 0);
}

#[test]
fn s5_1_1_headers_before_the_fragment_header_are_skipped() {
    let mut home = ready();
    let packet = udp_to_camera(2000);
    let parts = cut_evenly(&packet.bytes(), 7, 100)
        .into_iter()
        .map(|mut part| {
            // hop-by-hop, then a routing header with nothing left
            part.splice(40..40, [43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 4, 0, 0, 0, 0, 0]);
            part[6] = 0;
            let len = part.len() as u16 - 40;
            part[4..6].copy_from_slice(&len.to_be_bytes());
            part
        });

    let left = send_all(&mut home, &parts.collect::<Vec<_>>());

    assert_eq!(join(&left).payload, packet.payload);
}

#[test]
fn s5_1_only_the_first_fragment_says_the_protocol() {
    let mut home = ready();
    let packet = udp_to_camera(2000);
    let mut parts = cut_evenly(&packet.bytes(), 7, 100);
    parts[1][40] = 6;

    assert_eq!(join(&send_all(&mut home, &parts)).payload, packet.payload);
}

#[test]
fn s4_1_without_df_no_fragment_exceeds_the_lowest_ipv6_mtu() {
    for lowest in [0, 1280, 1400, 1403, 1500] {
        let mut home = ready_with(|config| config.lowest_ipv6_mtu = lowest);
        let lowest = usize::from(lowest.max(1280));
        for len in [1231, 1232, 1233, 1400, 1452, 1453, 1460, 3000, 60_000] {
            let packet = udp_from_camera(len);

            let (verdict, left) = home.exchange(&packet.bytes());

            assert_eq!(join(&left).payload, packet.payload);
            assert!(left.iter().all(|part| part.len() <= lowest));
            if 48 + len <= lowest {
                assert_eq!(
                    (verdict, left[0][6]),
                    (Verdict::Forward, 17),
                    "no Fragment Header"
                );
            } else {
                assert_eq!(verdict, Verdict::Hold);
                assert!(left.iter().all(|packet| read(packet).id == 0x1234));
                assert!(left[0].len() > lowest - 8, "as large as may be");
            }
        }
    }
}

#[test]
fn s4_1_with_df_nothing_is_cut() {
    let mut home = ready();
    for (len, passes) in [(1232, true), (1233, true), (1452, true), (1453, false)] {
        let mut packet = udp_from_camera(len);
        packet.dont_fragment = true;

        let (verdict, left) = home.exchange(&packet.bytes());

        if passes {
            assert_eq!((verdict, left[0][6]), (Verdict::Forward, 17));
        } else {
            assert_eq!(verdict, Verdict::Drop(DropReason::TooBig));
        }
    }
}

#[test]
fn s4_1_cut_packet_leaves_with_its_checksum_complete() {
    let mut home = ready();
    for packet in [
        udp_from_camera(3001),
        tcp_from_camera(2000),
        from_camera(Segment::pong(4000)).with_payload(2001),
    ] {
        let offload = offload(0, 0, 20, packet.checksum_at());

        let left = offloaded(&mut home, &offload, &packet.partial_bytes());

        assert!(left.len() > 1);
        assert_eq!(join(&left).payload, packet.payload);
    }
}

#[test]
fn s4_1_super_packet_of_datagrams_is_cut_in_datagrams_and_each_in_fragments() {
    let mut home = ready();
    for (len, size) in [(40_000, 1472), (14_000, 1400), (2600, 1300), (3000, 1233)] {
        let packet = udp_from_camera(len);
        let offload = offload(5, size, 20, 6);

        let left = offloaded(&mut home, &offload, &packet.partial_bytes());

        let mut payload = Vec::new();
        let mut datagram: Vec<Vec<u8>> = Vec::new();
        let mut id = 0x1234;
        for packet in left {
            assert!(packet.len() <= 1280);
            let part = read(&packet);
            if packet[6] == 44 {
                assert_eq!(part.id, id);
            }
            datagram.push(packet);
            if !part.more {
                let whole = join(&datagram);
                assert_eq!(whole.segment, Segment::udp(5000, 4000));
                assert!(whole.payload.len() <= usize::from(size));
                payload.extend(whole.payload);
                datagram.clear();
                id += 1;
            }
        }
        assert_eq!(payload, packet.payload);
        assert_eq!(id, 0x1234 + (len as u32).div_ceil(size.into()));
    }
}

#[test]
fn s4_1_super_packet_of_a_stream_without_df_gets_shorter_segments() {
    let mut home = ready();
    let packet = tcp_from_camera(30_000);

    let (left, bytes) = home
        .offloaded(&offload(1, 1440, 20, 16), &packet.partial_bytes())
        .unwrap();

    assert_eq!(left, offload(4, 1280 - 60, 40, 16));
    assert!(bytes.ends_with(&packet.payload));

    let mut packet = packet;
    packet.dont_fragment = true;
    let (left, _) = home
        .offloaded(&offload(1, 1440, 20, 16), &packet.partial_bytes())
        .unwrap();
    assert_eq!(left, offload(4, 1440, 40, 16));
}

#[test]
fn s4_1_fragment_with_offloads_is_dropped() {
    for packet in [udp_to_camera(2000), udp_from_camera(2000)] {
        let mut home = ready();
        let start = if packet.src.is_ipv4() { 20 } else { 48 };
        let first = part(&packet.bytes(), 7, 0..1200);
        for offload in [offload(0, 0, start, 6), offload(5, 500, start, 6)] {
            assert_eq!(
                home.offloaded(&offload, &first),
                Err(DropReason::MalformedOffload)
            );
        }
    }
}

#[test]
fn n6_14_nothing_is_kept_for_what_could_not_pass() {
    let mut home = ready();
    let data = [0; 64];
    let six = |src: Ipv6Addr, dst: Ipv6Addr| {
        let packet = Packet::new(src.into(), dst.into(), Segment::udp(4000, 5000));
        fragment(&packet.bytes(), 7, 0, true, &data)
    };
    let four = |src: [u8; 4], dst: [u8; 4]| {
        let packet = Packet::new(src.into(), dst.into(), Segment::udp(5001, 4000));
        fragment(&packet.bytes(), 7, 0, true, &data)
    };
    let camera = nsp().embed(CAMERA);
    let cases = [
        (six(camera, camera), DropReason::SourceInPref64),
        (six(REMOTE, OTHER), DropReason::NotOurs),
        (six(REMOTE, nsp().embed(NAS)), DropReason::Closed),
        (six(REMOTE, nsp().embed(POOL)), DropReason::Hairpin),
        (
            six("fe80::1".parse().unwrap(), camera),
            DropReason::IllegalSource,
        ),
        (
            six("::".parse().unwrap(), camera),
            DropReason::IllegalSource,
        ),
        (four(CAMERA.octets(), NAS.octets()), DropReason::NotOurs),
        (four(NAS.octets(), POOL.octets()), DropReason::NoSession),
        (
            four([127, 0, 0, 1], POOL.octets()),
            DropReason::IllegalSource,
        ),
        (four([0; 4], POOL.octets()), DropReason::IllegalSource),
    ];
    for (packet, reason) in cases {
        assert_eq!(home.exchange(&packet).0, Verdict::Drop(reason));
    }
    let unbound = Home::new()
        .exchange(&four(CAMERA.octets(), POOL.octets()))
        .0;
    assert_eq!(unbound, Verdict::Drop(DropReason::NoSession));
    assert_eq!(home.translator.counters().fragments.held, 0);
}

#[test]
fn n6_14_flood_from_one_source_leaves_room_for_others() {
    let mut home = ready();
    let honest = cut_evenly(&udp_to_camera(60_000).bytes(), 7, 154);
    let mut flood = to_camera(Segment::udp(4000, 5000)).with_payload(1200);
    flood.src = OTHER.into();
    let flood = flood.bytes();
    let mut id = 0;
    for part in &honest {
        // other addresses of its /64 are no other source
        for _ in 0..200 {
            let mut forged = fragment(&flood, id, 0, true, &flood[40..1240]);
            forged[16..24].copy_from_slice(&u64::from(id).to_be_bytes());
            hold(&mut home, &forged);
            id += 1;
        }
        if part == honest.last().unwrap() {
            assert_eq!(join(&home.exchange(part).1).payload.len(), 60_000);
        } else {
            hold(&mut home, part);
        }
    }
    let counters = home.translator.counters();
    assert!(counters.fragments.held_bytes <= 4 * 1024 * 1024 / 8);
    assert!(home.dropped(DropReason::FragmentEvicted) > 9000);
}

#[test]
fn n6_14_flood_from_many_sources_leaves_time_for_others() {
    let mut home = ready();
    let six = cut_evenly(&udp_to_camera(60_000).bytes(), 7, 154);
    let four = cut_evenly(&udp_from_camera(60_000).bytes(), 7, 185);
    let flood = udp_to_camera(1200).bytes();
    let mut source = 0_u64;
    let mut left = Vec::new();
    for at in 0..six.len().max(four.len()) {
        for _ in 0..400 {
            source += 1;
            let mut forged = fragment(&flood, 7, 0, true, &flood[40..1240]);
            forged[8..16].copy_from_slice(&(0x2001_0db9 << 32 | source).to_be_bytes());
            hold(&mut home, &forged);
        }
        for parts in [&six, &four] {
            if let Some(part) = parts.get(at) {
                left.push(home.exchange(part).1);
            }
        }
        let counters = home.translator.counters();
        assert!(counters.fragments.held_bytes <= 8 * 1024 * 1024);
    }
    left.retain(|left| !left.is_empty());
    assert_eq!(left.len(), 2);
    for left in left {
        assert_eq!(join(&left).payload.len(), 60_000);
    }
}

#[test]
fn s4_1_and_s5_1_type_of_service_can_be_overridden() {
    let mut home = ready_with(|config| {
        config.zero_traffic_class = true;
        config.tos = Some(0x20);
    });
    let mut six = to_camera(Segment::udp(4000, 5000));
    let mut four = from_camera(Segment::udp(5001, 4000));
    six.tos = 0xb9;
    four.tos = 0xb9;

    assert_eq!(home.send(&six).unwrap().tos, 0x20);
    assert_eq!(home.send(&four).unwrap().tos, 0);
}

#[test]
fn rfc_3168_s5_3_congestion_met_by_one_part_is_met_by_all() {
    for packet in [udp_to_camera(2000), udp_from_camera(2000)] {
        let with_class = |mut packet: Packet, tos| {
            packet.tos = tos;
            packet.bytes()
        };
        for (ecn, other, result) in [
            (2, 2, Some(2)),
            (2, 3, Some(3)),
            (1, 3, Some(3)),
            (0, 3, None),
        ] {
            let mut home = ready();
            let first = with_class(packet.clone(), 0xb8 | ecn);
            let second = with_class(packet.clone(), 0xb8 | other);
            hold(&mut home, &part(&first, 7, 0..1200));

            let (verdict, left) = home.exchange(&part(&second, 7, 1200..2008));

            match result {
                Some(ecn) => assert_eq!(join(&left).tos, 0xb8 | ecn),
                None => assert_eq!(verdict, Verdict::Drop(DropReason::FragmentInconsistent)),
            }
        }
    }
}

#[test]
fn s4_1_illegal_sources_are_dropped() {
    let mut home = ready();
    for src in [
        "0.0.0.0",
        "127.0.0.1",
        "169.254.3.4",
        "224.0.0.1",
        "240.1.1.1",
        "255.255.255.255",
    ] {
        let mut packet = from_camera(Segment::udp(5001, 4000));
        packet.src = src.parse().unwrap();
        assert_eq!(home.send(&packet), Err(DropReason::IllegalSource), "{src}");
    }
}

#[test]
fn s5_1_headers_that_cannot_be_translated_are_dropped() {
    let mut home = ready();
    // authentication, encapsulation, nothing, mobility, HIP, SCTP, DCCP, unknown
    for next in [51, 50, 59, 135, 139, 132, 33, 253] {
        let mut bytes = udp_to_camera(100).bytes();
        bytes[6] = next;
        assert_eq!(
            home.raw(&bytes),
            Err(DropReason::UnsupportedProtocol),
            "{next}"
        );
        let mut bytes = udp_from_camera(100).bytes();
        bytes[9] = next;
        seal_ipv4(&mut bytes);
        assert_eq!(
            home.raw(&bytes),
            Err(DropReason::UnsupportedProtocol),
            "{next}"
        );
    }
}

#[test]
fn s5_1_jumbo_payload_is_refused() {
    let mut home = ready();
    let mut bytes = udp_to_camera(100).bytes_with(&[17, 0, 0xc2, 4, 0, 1, 0, 0]);
    bytes[6] = 0;

    assert_eq!(home.raw(&bytes), Err(DropReason::MalformedIpv6));
}

#[test]
fn s5_1_chain_of_extension_headers_is_bounded() {
    let mut home = ready();
    for (headers, passes) in [(7, true), (8, false), (200, false)] {
        let mut extra = [60, 0, 1, 4, 0, 0, 0, 0].repeat(headers);
        let last = extra.len() - 8;
        extra[last] = 17;

        let sent = home.raw(&udp_to_camera(100).bytes_with(&extra));

        assert_eq!(sent.is_ok(), passes, "{headers}");
    }
}

#[test]
fn rfc_6864_identifications_of_a_pair_differ_and_those_of_others_tell_nothing() {
    let mut home = Home::new();
    home.open(NAS, mapping::Protocol::Udp, 5000, 5001);
    let id = |home: &mut Home, server| {
        let packet = Packet::new(
            REMOTE.into(),
            nsp().embed(server).into(),
            Segment::udp(4000, 5000),
        );
        read(&home.exchange(&packet.bytes()).1[0]).id
    };
    let camera: Vec<u32> = (0..100).map(|_| id(&mut home, CAMERA)).collect();
    let nas = id(&mut home, NAS);
    let more = id(&mut home, CAMERA);

    let distinct: std::collections::BTreeSet<_> = camera.iter().collect();
    assert_eq!(distinct.len(), 100);
    assert_eq!(
        more,
        (camera[99] + 1) & 0xffff,
        "another pair has moved nothing"
    );
    assert!(nas.abs_diff(more) > 200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn n6_10_any_cut_in_any_order_is_the_uncut_translation(
        kind in 0..6_usize,
        len in prop_oneof![8..200_usize, 200..4000_usize, 4000..65_400_usize],
        cuts in prop::collection::vec(4..8192_usize, 0..40),
        order in prop::collection::vec(any::<u32>(), 42),
        id: u32,
    ) {
        let packet = match kind {
            0 => udp_to_camera(len),
            1 => udp_from_camera(len),
            2 => tcp_to_camera(len),
            3 => tcp_from_camera(len),
            4 => to_camera(Segment::ping(4000)).with_payload(len),
            _ => from_camera(Segment::pong(4000)).with_payload(len),
        };
        let mut home = ready();
        let whole = uncut(&mut home, &packet);
        let cuts: Vec<usize> = cuts.into_iter().map(|cut| 4 + cut % (len / 8 + 2)).collect();
        let mut parts = cut(&packet.bytes(), id, &cuts);
        if parts.len() == 1 && packet.src.is_ipv4() {
            return Ok(());
        }
        let mut keys = order.into_iter();
        parts.sort_by_cached_key(|_| keys.next());

        let left = send_all(&mut home, &parts);

        let joined = join(&left);
        prop_assert_eq!(&joined.payload, &whole.payload);
        prop_assert_eq!(joined, whole);
        for part in left.iter().map(|packet| read(packet)) {
            let limit = if packet.src.is_ipv4() { 1280 } else { 1500 };
            prop_assert!(part.len <= limit || parts.len() == 1);
        }
        prop_assert_eq!(home.translator.counters().fragments.held_bytes, 0);
    }

    #[test]
    fn n6_14_memory_is_bounded_whatever_comes(
        limit in 0..300_000_u32,
        datagrams in 0..20_u32,
        packets in prop::collection::vec(
            (any::<bool>(), 0..4_u8, 0..4_u32, 0..300_usize, any::<bool>(), 0..2000_usize, 0..4000_u64),
            0..200,
        ),
    ) {
        let mut home = ready_with(|config| {
            config.limits.fragment_bytes = limit;
            config.limits.fragmented_datagrams = datagrams;
        });
        let (six, four) = (udp_to_camera(3000).bytes(), udp_from_camera(3000).bytes());
        let mut sent = 0;
        for (is_six, host, id, offset, more, len, pause) in packets {
            let mut packet = fragment(if is_six { &six } else { &four }, id, offset * 8, more, &vec![7; len]);
            if is_six {
                packet[15] = host;
            }
            home.pass(Duration::from_millis(pause / 10));
            sent += 1;
            prop_assert!(matches!(home.exchange(&packet).0, Verdict::Hold | Verdict::Drop(_)));
            let held = home.translator.counters().fragments;
            prop_assert!(held.held_bytes <= 2 * u64::from(limit));
            prop_assert!(held.held <= 2 * datagrams);
            prop_assert_eq!(held.held == 0, held.held_bytes == 0);
        }
        home.pass(Duration::from_secs(3));
        let counters = home.translator.counters();
        prop_assert_eq!(counters.fragments.held_bytes, 0);
        prop_assert_eq!(counters.drops.total(), sent, "each is counted once");
    }
}

/// Sends a packet whole, and returns it as it arrives.
fn uncut(home: &mut Home, packet: &Packet) -> Packet {
    let links = home.translator.config().links;
    home.translator.handle_links(Links {
        lan_mtu: u16::MAX,
        ..links
    });
    let (_, left) = home.exchange(&packet.bytes());
    home.translator.handle_links(links);
    let mut whole = join(&left);
    // what came in parts may be cut again
    whole.dont_fragment = false;
    whole
}

/// Sends a packet behind an offload header, and returns what leaves without one.
fn offloaded(home: &mut Home, offload: &[u8; 10], packet: &[u8]) -> Vec<Vec<u8>> {
    let mut frame = translator::Frame::new();
    frame.space()[..10].copy_from_slice(offload);
    frame.space()[10..10 + packet.len()].copy_from_slice(packet);
    frame.filled(10 + packet.len());
    assert_eq!(
        home.translator.handle_packet(&mut frame, home.now),
        Verdict::Hold
    );
    home.transmitted()
}

/// A home in which the remote has a session of each kind, all with port 4000.
fn ready() -> Home {
    ready_with(|_| {})
}

fn ready_with(configure: impl FnOnce(&mut translator::Config)) -> Home {
    let mut home = Home::with(configure);
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    home.send(&to_camera(Segment::ping(4000))).unwrap();
    home.connect(4000);
    home
}

fn udp_to_camera(len: usize) -> Packet {
    to_camera(Segment::udp(4000, 5000)).with_payload(len)
}

fn udp_from_camera(len: usize) -> Packet {
    from_camera(Segment::udp(5001, 4000)).with_payload(len)
}

fn tcp_to_camera(len: usize) -> Packet {
    to_camera(Segment::tcp(4000, 80, ACK)).with_payload(len)
}

fn tcp_from_camera(len: usize) -> Packet {
    from_camera(Segment::tcp(8080, 4000, ACK)).with_payload(len)
}

/// A `virtio_net_hdr` that asks for a checksum.
fn offload(gso: u8, size: u16, start: u16, offset: usize) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[0] = 1;
    bytes[1] = gso;
    bytes[4..6].copy_from_slice(&size.to_ne_bytes());
    bytes[6..8].copy_from_slice(&start.to_ne_bytes());
    bytes[8..10].copy_from_slice(&(offset as u16).to_ne_bytes());
    bytes
}
