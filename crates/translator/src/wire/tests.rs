use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn arbitrary_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        parse_everything(&bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_plausible_start_are_parsed_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 40..120),
        first in prop::sample::select(vec![0x45_u8, 0x46, 0x4f, 0x60]),
        next in prop::sample::select(vec![0_u8, 43, 60, 44, 6, 17, 58]),
    ) {
        bytes[0] = first;
        bytes[4..6].copy_from_slice(&[0, 20]);
        bytes[6] = next;
        parse_everything(&bytes);
    }

    #[test]
    fn emitted_ipv4_is_parsed_back(
        tos: u8, id: u16, dont_fragment: bool, more_fragments: bool, fragment_offset in 0..0x2000_u16,
        ttl: u8, protocol: u8, src: [u8; 4], dst: [u8; 4],
    ) {
        let header = ipv4::Header {
            header_len: 20, tos, total_len: 20, id, dont_fragment, more_fragments, fragment_offset,
            ttl, protocol, src: src.into(), dst: dst.into(), source_routed: false,
        };
        let mut bytes = [0; ipv4::LEN];
        header.emit(&mut bytes);
        prop_assert_eq!(ipv4::Header::parse(&bytes), Ok(header));
    }

    #[test]
    fn emitted_ipv6_is_parsed_back(
        traffic_class: u8, next_header: u8, hop_limit: u8, src: [u8; 16], dst: [u8; 16],
    ) {
        let header = ipv6::Header {
            traffic_class, payload_len: 0, next_header, hop_limit, src: src.into(), dst: dst.into(),
        };
        let mut bytes = [0; ipv6::LEN];
        header.emit(&mut bytes);
        prop_assert_eq!(ipv6::Header::parse(&bytes), Ok(header));
    }

    #[test]
    fn parsed_offloads_are_emitted_alike(mut bytes: [u8; vnet::LEN]) {
        bytes[1] = [0, 1, 4, 5, 0x81, 0x84][usize::from(bytes[1] % 6)];
        if let Ok(header) = vnet::Header::parse(&bytes) {
            let mut again = [0; vnet::LEN];
            header.emit(&mut again);
            prop_assert_eq!(vnet::Header::parse(&again), Ok(header));
        }
    }
}

#[test]
fn golden_ipv4_header_goes_both_ways() {
    let mut packet = [0; 60];
    packet[..20].copy_from_slice(&[
        0x45, 0x00, 0x00, 0x3c, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x06, 0xb1, 0xe6, 0xac, 0x10, 0x0a,
        0x63, 0xac, 0x10, 0x0a, 0x0c,
    ]);

    let header = ipv4::Header::parse(&packet).unwrap();

    assert!(header.dont_fragment);
    assert_eq!((header.id, header.ttl, header.protocol), (0x1c46, 64, 6));
    assert_eq!(header.src.octets(), [172, 16, 10, 99]);
    let mut again = [0; 20];
    header.emit(&mut again);
    assert_eq!(again, packet[..20]);
}

fn parse_everything(bytes: &[u8]) {
    if let Ok(header) = ipv4::Header::parse(bytes) {
        assert!(usize::from(header.total_len) <= bytes.len());
    }
    if let Ok(header) = ipv6::Header::parse(bytes)
        && let Ok(ipv6::Upper::Transport { offset, .. }) = ipv6::upper(bytes, &header)
    {
        assert!(offset <= bytes.len());
    }
    if let Ok(header) = tcp::Header::parse(bytes)
        && let Some((at, _)) = tcp::max_segment_size(bytes, header.header_len)
    {
        assert!(at + 2 <= header.header_len);
    }
    assert!(vnet::Header::parse(bytes).is_err() || bytes.len() >= vnet::LEN);
    let long_enough = bytes.len() >= icmp::LEN;
    assert_eq!(icmp::Message::parse_v4(bytes).is_ok(), long_enough);
    assert_eq!(icmp::Message::parse_v6(bytes).is_ok(), long_enough);
    assert!(udp::Header::parse(bytes).is_err() || long_enough);
}
