use dhcproto::v4::{self, DhcpOption, OptionCode};
use dhcproto::{Decodable as _, Encodable as _};
use proptest::prelude::*;

use super::*;

#[test]
fn golden_discover_of_udhcpc_is_read() {
    // captured from udhcpc 1.35.0, -x hostname:camera
    let bytes = captured(
        0xb5b3_e84a,
        "3501013902024037070103060c0f1c2a0c0663616d6572613c0c756468637020312e33352e30\
         3d0701020000000001ff",
    );

    let received = Received::new(&Message::parse(&bytes).unwrap()).unwrap();

    assert_eq!(
        received,
        Received {
            kind: MessageType::Discover,
            xid: 0xb5b3_e84a,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            mac: mapping::Mac([2, 0, 0, 0, 0, 1]),
            requested: None,
            server_id: None,
            lease_time: None,
            max_size: Some(576),
            parameters: Some(vec![1, 3, 6, 12, 15, 28, 42]),
            client_id: Some(vec![1, 2, 0, 0, 0, 0, 1]),
            name: Some("camera".to_owned()),
            fqdn: None,
        }
    );
}

#[test]
fn golden_init_reboot_of_dhclient_is_read() {
    // captured from ISC dhclient 4.4 with a lease file, send host-name "nas"
    let bytes = captured(
        0x262b_1666,
        "3501033204c0a8408c0c036e61733707011c02030f060cff",
    );

    let received = Received::new(&Message::parse(&bytes).unwrap()).unwrap();

    assert_eq!(received.kind, MessageType::Request);
    assert_eq!(received.requested, Some(Ipv4Addr::new(192, 168, 64, 140)));
    assert_eq!(received.server_id, None);
    assert_eq!(received.parameters, Some(vec![1, 28, 2, 3, 15, 6, 12]));
    assert_eq!(received.name.as_deref(), Some("nas"));
}

#[test]
fn options_in_file_and_sname_are_read_after_the_others() {
    let mut bytes = discover().emit(&[], 548);
    let mut place = |at: usize, option: &[u8]| {
        bytes[at..at + option.len()].copy_from_slice(option);
    };
    place(FILE.start, &[12, 3, b'c', b'a', b'm', 255]);
    place(SNAME.start, &[12, 3, b'e', b'r', b'a', 255]);

    for (overload, name) in [
        (0, None),
        (1, Some("cam")),
        (2, Some("era")),
        (3, Some("camera")),
    ] {
        bytes[243..246].copy_from_slice(&[52, 1, overload]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            message.options.get(code::HOST_NAME),
            name.map(str::as_bytes),
            "{overload}"
        );
    }
    bytes[243..246].copy_from_slice(&[52, 1, 77]);
    assert!(
        Message::parse(&bytes).is_ok(),
        "an unknown overload is ignored"
    );
}

#[test]
fn what_is_cut_or_no_dhcp_says_where() {
    let good = discover().emit(&[], 548);
    let at = |field, offset| Err(Malformed { field, offset });

    assert_eq!(Message::parse(&[]), at(Field::Header, 0));
    assert_eq!(Message::parse(&good[..239]), at(Field::Header, 239));
    let mut bootp = good.clone();
    bootp[236] = 0;
    assert_eq!(Message::parse(&bootp), at(Field::Cookie, 236));
    assert_eq!(Message::parse(&good[..242]), at(Field::Option, 240));
    assert_eq!(Message::parse(&good[..241]), at(Field::Option, 240));
    assert!(
        Message::parse(&good[..243]).is_ok(),
        "a missing end is forgiven"
    );
}

#[test]
fn only_unicast_ethernet_clients_are_known() {
    let field = |change: fn(&mut Message)| {
        let mut message = discover();
        change(&mut message);
        Received::new(&message)
            .map(|received| received.mac)
            .map_err(|malformed| malformed.field)
    };

    assert_eq!(field(|_| {}), Ok(mapping::Mac([2, 0, 0, 0, 0, 7])));
    assert_eq!(field(|message| message.htype = 32), Err(Field::Chaddr));
    assert_eq!(field(|message| message.hlen = 255), Err(Field::Chaddr));
    assert_eq!(
        field(|message| message.chaddr = [0; 16]),
        Err(Field::Chaddr)
    );
    assert_eq!(field(|message| message.chaddr[0] |= 1), Err(Field::Chaddr));
    assert_eq!(
        field(|message| message.options = Options::default()),
        Err(Field::MessageType)
    );
    assert_eq!(
        field(|message| message.options.set(50, [1, 2, 3])),
        Err(Field::Value)
    );
    assert_eq!(
        field(|message| message.options.set(54, [])),
        Err(Field::Value)
    );
}

#[test]
fn the_name_of_option_81_wins_and_only_its_first_label_counts() {
    let name = |options: &[(u8, &[u8])]| {
        let mut message = discover();
        for (code, value) in options {
            message.options.set(*code, *value);
        }
        Received::new(&message).unwrap().name
    };

    assert_eq!(name(&[(12, b"nas\0\0")]).as_deref(), Some("nas"));
    assert_eq!(name(&[(12, b"  \0")]), None);
    assert_eq!(
        name(&[(12, b"a"), (81, b"\x05\0\0\x03cam\x04home\0")]).as_deref(),
        Some("cam")
    );
    assert_eq!(
        name(&[(12, b"a"), (81, b"\x01\0\0cam.home")]).as_deref(),
        Some("cam")
    );
    assert_eq!(name(&[(12, b"a"), (81, b"\x05\0\0\xffcam")]), None);
    assert_eq!(
        name(&[(12, b"a"), (81, b"\x05\0")]).as_deref(),
        Some("a"),
        "cut: not there"
    );
    assert_eq!(
        name(&[(12, &[b'x'; 300])]).map(|name| name.len()),
        Some(255)
    );
    let long = "\u{e9}".repeat(200);
    assert_eq!(
        name(&[(12, long.as_bytes())]).map(|name| name.len()),
        Some(254)
    );
}

#[test]
fn what_does_not_fit_is_left_out_from_the_end() {
    let mut message = discover();
    message.options.set(61, vec![7; 200]);
    message.options.set(15, vec![b'x'; 200]);
    message.options.set(6, [192, 168, 64, 1]);

    let bytes = message.emit(&[53, 61, 15, 6], 548);
    let read = Message::parse(&bytes).unwrap();

    assert!(bytes.len() <= 548);
    assert_eq!(read.options.codes().collect::<Vec<_>>(), [6, 53, 61]);
}

#[test]
fn the_crate_of_the_field_panics_where_we_do_not() {
    let mut bytes = discover().emit(&[], 548);
    bytes[2] = 255;
    let theirs = v4::Message::from_bytes(&bytes).unwrap();

    assert!(std::panic::catch_unwind(|| theirs.chaddr().len()).is_err());
    assert!(Received::new(&Message::parse(&bytes).unwrap()).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        let read = Message::parse(&bytes).and_then(|message| Received::new(&message));
        prop_assert!(read.is_ok() || read.is_err_and(|malformed| malformed.offset <= 1500));
    }

    #[test]
    fn arbitrary_options_never_panic(tail in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = discover().emit(&[], 548);
        bytes.truncate(240);
        bytes.extend(tail);
        let read = Message::parse(&bytes).and_then(|message| Received::new(&message));
        prop_assert!(read.is_ok() || read.is_err_and(|malformed| malformed.offset <= 1500));
    }

    #[test]
    fn what_is_emitted_is_parsed(message in messages()) {
        let bytes = message.emit(&[53, 54], 65_000);
        prop_assert_eq!(Message::parse(&bytes), Ok(message));
    }

    #[test]
    fn emitted_messages_keep_to_the_limit(message in messages(), limit in 300..1472_usize) {
        prop_assert!(message.emit(&[53, 54], limit).len() <= limit);
    }

    #[test]
    fn another_codec_reads_what_we_write(message in messages()) {
        let theirs = v4::Message::from_bytes(&message.emit(&[], 65_000)).unwrap();
        prop_assert_eq!(theirs.xid(), message.xid);
        prop_assert_eq!(theirs.yiaddr(), message.yiaddr);
        prop_assert_eq!(theirs.ciaddr(), message.ciaddr);
        prop_assert_eq!(u16::from(theirs.flags()), message.flags);
        let id = theirs.opts().get(OptionCode::ClientIdentifier);
        let ours = message.options.get(61).map(|id| DhcpOption::ClientIdentifier(id.to_vec()));
        prop_assert_eq!(id, ours.as_ref());
    }

    #[test]
    fn we_read_what_another_codec_writes(
        xid: u32, addr: [u8; 4], mac: [u8; 6], id in prop::collection::vec(any::<u8>(), 1..600)
    ) {
        let zero = Ipv4Addr::UNSPECIFIED;
        let mut theirs = v4::Message::new_with_id(xid, zero, zero, zero, zero, &mac);
        theirs.opts_mut().insert(DhcpOption::MessageType(v4::MessageType::Request));
        theirs.opts_mut().insert(DhcpOption::RequestedIpAddress(addr.into()));
        theirs.opts_mut().insert(DhcpOption::ClientIdentifier(id.clone()));
        let message = Message::parse(&theirs.to_vec().unwrap()).unwrap();
        prop_assert_eq!(message.xid, xid);
        prop_assert_eq!(message.kind(), Some(MessageType::Request));
        prop_assert_eq!(message.options.addr(50), Ok(Some(addr.into())));
        prop_assert_eq!(message.options.get(61), Some(id.as_slice()));
    }
}

/// A message from 02:00:00:00:00:01 with zero addresses and these options in hexadecimal.
fn captured(xid: u32, options: &str) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0];
    bytes.extend(xid.to_be_bytes());
    bytes.resize(28, 0);
    bytes.extend([2, 0, 0, 0, 0, 1]);
    bytes.resize(236, 0);
    bytes.extend(COOKIE);
    let digits: Vec<char> = options.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    bytes.extend(digits.chunks(2).map(byte));
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

fn discover() -> Message {
    let mut options = Options::default();
    options.set(code::MESSAGE_TYPE, [1]);
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
    Message {
        op: Op::BootRequest,
        htype: 1,
        hlen: 6,
        xid: 7,
        flags: 0,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr,
        options,
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let options = prop::collection::btree_map(
        // 52 would send the reader to other fields, and those that the oracle types are few
        prop_oneof![Just(53_u8), Just(61), Just(43), Just(224)],
        prop::collection::vec(any::<u8>(), 1..300),
        0..4,
    );
    (any::<(u32, u16, [u8; 4], [u8; 4])>(), options).prop_map(|(head, options)| {
        let (xid, flags, ciaddr, yiaddr) = head;
        let mut message = discover();
        (message.xid, message.flags) = (xid, flags);
        (message.ciaddr, message.yiaddr) = (ciaddr.into(), yiaddr.into());
        message.options = Options::default();
        for (code, value) in options {
            message.options.set(code, value);
        }
        message
    })
}
