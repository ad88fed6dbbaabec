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
    assert_eq!(options, [Ok(PcpOption::PreferFailure { len: 0 })]);
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
    assert_eq!(
        read(&fits),
        [Ok(unknown), Ok(PcpOption::PreferFailure { len: 0 })]
    );
    let malformed = Err(Malformed::new(Field::Options, 24));
    for bytes in [&too_long[..], &without_padding, &half] {
        assert_eq!(read(bytes), [malformed]);
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
    fn known_options_can_be_read_again(addr in any::<Ipv6Addr>(), data in any::<[u8; 20]>()) {
        let options = [
            PcpOption::ThirdParty(Some(addr)),
            PcpOption::PreferFailure { len: 0 },
            PcpOption::Filter(&data),
        ];
        let mut bytes = Vec::new();
        for option in options {
            emit_option(option, &mut bytes);
        }
        let read: Vec<_> = Options::new(&bytes, 60).collect();
        prop_assert_eq!(read, options.map(Ok));
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
    prop_oneof![Just(Body::Announce), map]
}
