//! Addresses of translators (RFC 6052, RFC 8215), by the requirement ids X-A*.

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use home::{CAMERA, Home, OTHER, Packet, REMOTE, Segment, from_camera, nsp, to_camera};
use mapping::{Instant, InvalidPrefix, Nsp};
use translator::{AddressMaps, Alone, Config, InvalidPref64, Pref64, Translator};

/// RFC 6052 §2.4, tables 1 and 2: 192.0.2.33 behind prefixes of every length.
const VECTORS: [(&str, &str); 7] = [
    ("2001:db8::/32", "2001:db8:c000:221::"),
    ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
    ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
    ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
    ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
    ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
    ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
];

#[test]
fn x_a1_prefix_with_bits_64_to_71_set_is_refused() {
    let addr: Ipv6Addr = "2001:db8:64:1:100::".parse().unwrap();

    assert_eq!(Nsp::new(addr), Err(InvalidPrefix::UOctet));
    assert_eq!(Pref64::new(addr, 96), Err(InvalidPref64::UOctet));
}

#[test]
fn x_a1_only_six_lengths_are_prefixes() {
    for len in 0..=128 {
        let known = [32, 40, 48, 56, 64, 96].contains(&len);
        let prefix = Pref64::new("2001:db8::".parse().unwrap(), len);
        assert_eq!(prefix.is_ok(), known, "/{len}");
    }
    for (text, why) in [
        ("2001:db8::1/96", InvalidPref64::HostBits),
        ("2001:db8:1::/40", InvalidPref64::HostBits),
        ("64:ff9b::/64", InvalidPref64::WellKnown),
        ("64:ff9b::/32", InvalidPref64::WellKnown),
        ("::/96", InvalidPref64::NotUnicast),
        ("::ffff:0:0/96", InvalidPref64::NotUnicast),
        ("fe80::/64", InvalidPref64::NotUnicast),
        ("ff0e::/96", InvalidPref64::NotUnicast),
        ("2001:db8::", InvalidPref64::Text),
        ("192.0.2.0/96", InvalidPref64::Text),
    ] {
        assert_eq!(text.parse::<Pref64>(), Err(why), "{text}");
    }
}

#[test]
fn s2_4_examples_of_every_length() {
    let v4 = Ipv4Addr::new(192, 0, 2, 33);
    for (prefix, v6) in VECTORS {
        let (prefix, v6): (Pref64, Ipv6Addr) = (prefix.parse().unwrap(), v6.parse().unwrap());
        assert_eq!(prefix.embed(v4), v6, "{prefix}");
        assert_eq!(prefix.extract(v6), Some(v4), "{prefix}");
    }
}

#[test]
fn x_a2_suffix_is_ignored_on_receipt_and_zero_when_sent() {
    for (prefix, _) in VECTORS
        .into_iter()
        .filter(|(text, _)| !text.ends_with("/96"))
    {
        let prefix: Pref64 = prefix.parse().unwrap();
        let mut home = Home::new();
        home.translator.handle_pref64s(&[prefix], home.now);
        let server = prefix.embed(CAMERA);
        let with_suffix = Ipv6Addr::from(u128::from(server) | 0xbeef);
        let remote: Ipv6Addr = "2a00::1".parse().unwrap();
        let there = Packet::new(remote.into(), with_suffix.into(), Segment::udp(4000, 5000));

        let arrived = home.send(&there).unwrap();
        let answer = home.send(&from_camera(Segment::udp(5001, 4000))).unwrap();

        assert_eq!(arrived.dst, IpAddr::from(CAMERA), "{prefix}");
        assert_eq!(answer.src, IpAddr::from(server), "{prefix}");
    }
}

#[test]
fn x_a3_well_known_prefix_never_carries_private_addresses() {
    let addr: Ipv6Addr = "64:ff9b::".parse().unwrap();

    assert_eq!(Nsp::new(addr), Err(InvalidPrefix::NotGlobal));
    for private in ["10.0.0.1", "192.168.64.7", "172.31.0.1", "100.64.0.1"] {
        assert!(!Pref64::WELL_KNOWN.may_represent(private.parse().unwrap()));
    }
    assert!(Pref64::WELL_KNOWN.may_represent(Ipv4Addr::new(8, 8, 8, 8)));
}

#[test]
fn x_a4_prefix_of_a_home_is_one_of_its_provider() {
    for text in ["64:ff9b::", "64:ff9b:1::", "fd00:64::", "fe80::", "::"] {
        let addr: Ipv6Addr = text.parse().unwrap();
        assert_eq!(Nsp::new(addr), Err(InvalidPrefix::NotGlobal), "{text}");
    }
    assert!(Nsp::new("2001:db8:64:1::".parse().unwrap()).is_ok());
}

#[test]
fn x_a5_server_is_the_last_32_bits_behind_the_prefix() {
    let mut home = Home::new();
    let mut packet = to_camera(Segment::udp(4000, 5000));
    packet.dst = "2001:db8:64:1::c0a8:4007".parse().unwrap();

    let arrived = home.send(&packet).unwrap();
    let answer = home.send(&from_camera(Segment::udp(5001, 4000))).unwrap();

    assert_eq!(arrived.dst, IpAddr::from(CAMERA));
    assert_eq!(answer.src, packet.dst);
}

#[test]
fn x_a5_mapping_is_reversible() {
    assert_eq!(nsp().extract(nsp().embed(CAMERA)), Some(CAMERA));
}

#[test]
fn x_a5_several_prefixes_of_different_lengths_work_at_once() {
    let mut home = Home::new();
    let prefixes = ["2001:db8:64:1::/96", "64:ff9b:1::/48", "fd00:64::/32"]
        .map(|text| text.parse::<Pref64>().unwrap());
    home.translator.handle_pref64s(&prefixes, home.now);

    for (number, prefix) in (0..).zip(prefixes) {
        let dst = prefix.embed(CAMERA).into();
        let there = Packet::new(REMOTE.into(), dst, Segment::udp(4000 + number, 5000));
        let port = home.send(&there).unwrap().segment.ports().0;
        let answer = home.send(&from_camera(Segment::udp(5001, port))).unwrap();
        assert_eq!((answer.src, answer.dst), (there.dst, there.src));
    }
}

#[test]
fn x_a6_prefixes_of_rfc_8215_may_carry_private_addresses() {
    for text in ["64:ff9b:1::/48", "64:ff9b:1:fffe::/96", "64:ff9b:1:2::/64"] {
        let prefix: Pref64 = text.parse().unwrap();
        assert!(prefix.may_represent(CAMERA), "{text}");
    }
}

#[test]
fn x_a8_row_of_the_table_counts_before_the_prefix() {
    let prefix: Pref64 = "2001:db8:46::/96".parse().unwrap();
    let rows = ["192.0.2.10=2001:db8:aaaa::1", "192.0.2.20=2001:db8:bbbb::2"];
    let rows = rows.map(|row| row.parse().unwrap()).to_vec();
    let alone = Alone {
        maps: AddressMaps::new(rows).unwrap(),
        ..Alone::default()
    };
    let config = Config::alone(Vec::new(), alone).unwrap();
    let now = Instant::from_nanos(1_000_000_000);
    let mut translator = Translator::new(config, [7; 16], now);
    translator.handle_pref64s(&[prefix], now);
    let mut home = Home { translator, now };
    let v4 = |last| Ipv4Addr::new(192, 0, 2, last);

    for (from, seen) in [
        (v4(20), OTHER),
        (v4(30), prefix.embed(v4(30))),
        (
            Ipv4Addr::new(10, 0, 0, 1),
            prefix.embed([10, 0, 0, 1].into()),
        ),
    ] {
        let sent = Packet::new(from.into(), v4(10).into(), Segment::udp(1, 2));
        let arrived = home.send(&sent).unwrap();
        assert_eq!((arrived.src, arrived.dst), (seen.into(), REMOTE.into()));
        let back = Packet::new(REMOTE.into(), seen.into(), Segment::udp(2, 1));
        let back = home.send(&back).unwrap();
        assert_eq!((back.src, back.dst), (v4(10).into(), from.into()));
    }
}
