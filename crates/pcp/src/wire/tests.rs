use proptest::prelude::*;

use super::*;

#[test]
fn a_map_request_has_the_golden_bytes_of_the_rfc() {
    let mut bytes = vec![2, 1, 0, 0, 0, 0, 0x0e, 0x10]; // MAP for an hour
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 64, 20]);
    bytes.extend(*b"nonce-nonce!");
    bytes.extend([6, 0, 0, 0, 0x1f, 0x90, 0x1f, 0x91]); // TCP 8080, 8081 suggested
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend([2, 0, 0, 0]); // PREFER_FAILURE

    let request = Request::parse(&bytes).unwrap();

    let map = Map {
        nonce: MappingNonce(*b"nonce-nonce!"),
        protocol: 6,
        internal_port: 8080,
        external_port: 8081,
        external_addr: "::ffff:0:0".parse().unwrap(),
    };
    assert_eq!(request.body, Body::Map(map));
    assert_eq!(request.lifetime, 3600);
    assert_eq!(
        request.client,
        Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0xc0a8, 0x4014])
    );
    let options: Vec<_> = request.options().collect();
    assert_eq!(options, [Ok(PcpOption::PreferFailure)]);
    assert_eq!(request.emit(), bytes);
}

#[test]
fn an_announcement_has_the_golden_bytes_of_the_rfc() {
    let response = Response {
        result: ResultCode::Success,
        lifetime: 0,
        epoch: 0x0102_0304,
        body: Body::Announce,
        options: &[],
    };

    let mut bytes = vec![2, 128, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    bytes.extend([0; 12]);
    assert_eq!(response.emit(), bytes);
}

#[test]
fn options_that_do_not_fit_say_where() {
    let fits = [200, 0, 0, 1, 7, 0, 0, 0, 2, 0, 0, 0];
    let too_long = [200, 0, 0, 9, 7, 0, 0, 0, 2, 0, 0, 0];
    let without_padding = [200, 0, 0, 1, 7];
    let half = [200, 0];

    let unknown = PcpOption::Unknown {
        code: 200,
        data: &[7],
    };
    assert_eq!(read(&fits), [Ok(unknown), Ok(PcpOption::PreferFailure)]);
    let malformed = Err(Malformed::new(Field::Options, 24));
    for bytes in [&too_long[..], &without_padding, &half] {
        assert_eq!(read(bytes), [malformed]);
    }
}

#[test]
fn a_peer_request_has_the_golden_bytes_of_the_rfc() {
    let mut bytes = vec![2, 2, 0, 0, 0, 0, 0x0e, 0x10];
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 64, 20]);
    bytes.extend(*b"nonce-nonce!");
    bytes.extend([17, 0, 0, 0, 0x1f, 0x90, 0, 0]);
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend([0x13, 0xc4, 0, 0]); // port 5060
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9]);

    let request = Request::parse(&bytes).unwrap();

    let Body::Peer(peer) = request.body else {
        panic!("not PEER: {request:?}");
    };
    assert_eq!((peer.remote_port, peer.map.internal_port), (5060, 8080));
    assert_eq!(
        peer.remote_addr.to_ipv4_mapped(),
        Some([192, 0, 2, 9].into())
    );
    assert_eq!(request.emit(), bytes);
}

#[test]
fn known_options_with_senseless_contents_are_invalid() {
    let mapped = |len: u8| {
        let mut filter = vec![3, 0, 0, 20, 0, len, 0, 0];
        filter.extend([0; 10]);
        filter.extend([0xff, 0xff, 192, 0, 2, 0]);
        filter
    };
    let native = |len: u8| {
        let mut filter = vec![3, 0, 0, 20, 0, len, 0, 0, 0x20, 1];
        filter.extend([0; 14]);
        filter
    };
    let prefix64 = |len: u8, rest: &[u8]| {
        let data = [&[0, len][..], &[0; 12], rest].concat();
        let mut bytes = vec![129, 0, 0, u8::try_from(data.len()).unwrap()];
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let set = |size: u8| vec![130, 0, 0, 5, 0, size, 0, 80, 0, 0, 0, 0];

    for bytes in [
        mapped(1),
        mapped(95),
        mapped(129),
        native(129),
        native(200),
        vec![1, 0, 0, 4, 1, 2, 3, 4],
        vec![2, 0, 0, 1, 0, 0, 0, 0],
        vec![3, 0, 0, 0],
        vec![128, 0, 0, 1, 0xff, 0, 0, 0],
        prefix64(11, &[]),
        prefix64(0, &[]),
        prefix64(12, &[0]),
        prefix64(12, &[0, 1]),
        prefix64(12, &[0, 1, 0, 33, 192, 0, 2, 0]),
        set(0),
        vec![130, 0, 0, 4, 0, 1, 0, 80],
    ] {
        let read = read(&bytes);
        let is_invalid =
            matches!(read[..], [Ok(PcpOption::Invalid { code, .. })] if code == bytes[0]);
        assert!(is_invalid, "{read:?}");
    }
    for bytes in [
        mapped(0),
        mapped(96),
        mapped(128),
        native(1),
        native(128),
        prefix64(12, &[0, 0]),
        prefix64(4, &[0, 1, 0, 24, 192, 0, 2, 0]),
        set(1),
    ] {
        let read = read(&bytes);
        let is_valid = matches!(
            read[..],
            [Ok(PcpOption::Filter(_)
                | PcpOption::Prefix64(_)
                | PcpOption::PortSet(_))]
        );
        assert!(is_valid, "{read:?}");
    }
}

#[test]
fn result_codes_stand_at_their_numbers() {
    for number in 0..=u8::MAX {
        assert_eq!(ResultCode::from_number(number).number(), number);
    }
    for opcode in 0..=u8::MAX {
        assert_eq!(Opcode::from_number(opcode).number(), opcode);
    }
}

fn read(bytes: &[u8]) -> Vec<Result<PcpOption<'_>, Malformed>> {
    Options::new(bytes, 24).collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in bytes()) {
        if let Ok(request) = Request::parse(&bytes) {
            let emitted = request.emit();
            prop_assert_eq!(Request::parse(&emitted), Ok(request));
            let options = request.options().count();
            prop_assert!(options <= bytes.len() / 4);
        }
        if let Ok(response) = Response::parse(&bytes) {
            let emitted = response.emit();
            prop_assert_eq!(Response::parse(&emitted), Ok(response));
        }
    }

    #[test]
    fn an_error_is_a_response_of_the_same_opcode(bytes in bytes(), number in 1..14_u8) {
        let error = emit_error(&bytes, ResultCode::from_number(number), 7, 9);

        prop_assert!(error.len().is_multiple_of(4) && (24..=1100).contains(&error.len()));
        prop_assert_eq!(&error[..4], &[2, 128 | bytes.get(1).copied().unwrap_or(0), 0, number]);
        prop_assert_eq!(&error[4..12], &[0, 0, 0, 7, 0, 0, 0, 9]);
        let copied = bytes.get(24..1100.min(bytes.len())).unwrap_or(&[]);
        prop_assert_eq!(&error[24..24 + copied.len()], copied);
        prop_assert!(error[24 + copied.len()..].iter().all(|octet| *octet == 0));
    }

    #[test]
    fn what_is_written_can_be_read(
        body in body(),
        number in any::<u8>(),
        (lifetime, epoch) in any::<(u32, u32)>(),
        client in any::<Ipv6Addr>(),
        data in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..4),
    ) {
        let mut options = Vec::new();
        for (code, data) in &data {
            emit_option(PcpOption::Unknown { code: *code, data }, &mut options);
        }
        let request = Request { lifetime, client, body, options: &options };
        let emitted = request.emit();
        prop_assert_eq!(Request::parse(&emitted), Ok(request));
        prop_assert_eq!(request.options().filter(Result::is_ok).count(), data.len());

        let result = ResultCode::from_number(number);
        let response = Response { result, lifetime, epoch, body, options: &options };
        let emitted = response.emit();
        prop_assert_eq!(Response::parse(&emitted), Ok(response));
    }

    #[test]
    fn known_options_can_be_read_again(
        addr in any::<Ipv6Addr>(),
        (prefix_len, remote_port) in (96..=128_u8, any::<u16>()),
        text in "\\PC{0,40}",
        octets in any::<[u8; 12]>(),
        (size, first_internal_port, parity) in (1..=u16::MAX, any::<u16>(), any::<bool>()),
        network in any::<std::net::Ipv4Addr>(),
    ) {
        let ipv4 = Ipv4Prefixes::bytes(network, 24);
        let options = [
            PcpOption::ThirdParty(addr),
            PcpOption::PreferFailure,
            PcpOption::Filter(Filter { prefix_len, remote_port, remote_addr: addr }),
            PcpOption::Description(&text),
            PcpOption::Prefix64(Prefix64 { prefix_len: 8, octets, ipv4: None }),
            PcpOption::Prefix64(Prefix64 {
                prefix_len: 12,
                octets,
                ipv4: Some(Ipv4Prefixes::one(&ipv4)),
            }),
            PcpOption::PortSet(PortSet { size, first_internal_port, parity }),
        ];
        let mut bytes = Vec::new();
        for option in options {
            emit_option(option, &mut bytes);
        }
        let read: Vec<_> = Options::new(&bytes, 60).collect();
        prop_assert_eq!(read, options.map(Ok));
        let listed: Vec<_> = Ipv4Prefixes::one(&ipv4).iter().collect();
        prop_assert_eq!(listed, [(network, 24)]);
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let header = (prop::sample::select(vec![0_u8, 1, 2, 3]), 0..5_u8);
    let tail = || prop::collection::vec(any::<u8>(), 0..120);
    let likely = (header, tail())
        .prop_map(|((version, opcode), tail)| [vec![version, opcode], tail].concat());
    let long = prop::collection::vec(any::<u8>(), 1000..1300);
    prop_oneof![4 => likely, 2 => tail(), 1 => long]
}

fn body() -> impl Strategy<Value = Body> {
    let map = any::<([u8; 12], u8, u16, u16, Ipv6Addr)>();
    let map = map.prop_map(
        |(nonce, protocol, internal_port, external_port, external_addr)| {
            Body::Map(Map {
                nonce: MappingNonce(nonce),
                protocol,
                internal_port,
                external_port,
                external_addr,
            })
        },
    );
    let map = map.boxed();
    let peer = (map.clone(), any::<(u16, Ipv6Addr)>()).prop_filter_map(
        "a map",
        |(map, (remote_port, remote_addr))| match map {
            Body::Map(map) => Some(Body::Peer(Peer {
                map,
                remote_port,
                remote_addr,
            })),
            Body::Announce | Body::Peer(_) => None,
        },
    );
    prop_oneof![Just(Body::Announce), map, peer]
}
