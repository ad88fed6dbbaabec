//! What holds for a translator that stands alone, whatever comes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "support/home.rs"]
mod home;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use home::{ACK, FIN, Home, Packet, RST, SYN, Segment};
use mapping::Instant;
use proptest::prelude::*;
use translator::{AddressMaps, Alone, Config, Filtering, PoolRange, Pref64, Translator, Verdict};

proptest! {
    #[test]
    fn scripts_of_packets_keep_the_invariants(
        steps in prop::collection::vec(any::<[u8; 5]>(), 1..120),
        endpoint_independent: bool,
        hairpin: bool,
    ) {
        let mut world = world(endpoint_independent, hairpin);
        for step in steps {
            if step[0] >= 240 {
                pass(&mut world, Duration::from_secs(u64::from(step[1]) * 8));
                continue;
            }
            let packet = packet(step);
            let (verdict, left) = world.exchange(&packet.bytes());
            while world.translator.poll_event().is_some() {}
            if verdict == Verdict::Forward {
                // `parse` checks every length and checksum
                let left = Packet::parse(&left[0]);
                prop_assert!(left.src != packet.src, "{left:?}");
                prop_assert!(left.dst != packet.dst, "{left:?}");
                prop_assert_eq!(&left.payload, &packet.payload);
            }
            let mut tuples = BTreeSet::new();
            for (_, session) in world.translator.sessions(0..u32::MAX, world.now) {
                let four = (session.transport, session.pool, session.server);
                prop_assert!(tuples.insert(four), "{session:?}");
            }
        }
        // in the end nobody is left who may send to a pool port that is not bound for ever
        pass(&mut world, Duration::from_secs(16_000));
        prop_assert_eq!(world.live(), 0);
        // whoever comes now may get the place of a binding that has ended, but not its port
        for port in 5000..5008 {
            let first = Packet::new(
                HOSTS[1].into(),
                prefix().embed(Ipv4Addr::new(198, 51, 100, 99)).into(),
                Segment::udp(port, 53),
            );
            prop_assert!(world.send(&first).is_ok());
        }
        for port in [4000, 4001, 53] {
            for peer in PEERS {
                let late = Packet::new(peer.into(), T.into(), Segment::udp(53, port));
                prop_assert!(world.send(&late).is_err());
            }
        }
    }

    #[test]
    fn packets_of_any_protocol_between_mapped_hosts_leave_well_formed(
        (protocol, tos, ttl) in any::<(u8, u8, u8)>(),
        fragment in prop::option::of((any::<bool>(), 0..8192_u16, any::<u32>())),
        (dont_fragment, to_mapped, hairpin) in any::<(bool, bool, bool)>(),
        len in 0..3000_usize,
        six: bool,
    ) {
        let mut world = world(false, hairpin);
        let mapped = Ipv4Addr::new(192, 0, 2, 10);
        let data = vec![0xa5; len];
        let packet = if six {
            let peer = if to_mapped { mapped } else { PEERS[0] };
            six_packet((HOSTS[2], prefix().embed(peer)), (protocol, tos, ttl), fragment, &data)
        } else {
            let header = (protocol, tos, ttl);
            four_packet((PEERS[0], mapped), header, fragment, dont_fragment, &data)
        };

        let (verdict, left) = world.exchange(&packet);

        for packet in &left {
            is_well_formed(packet);
        }
        if matches!(verdict, Verdict::Forward) && ![0, 1, 6, 17, 43, 44, 58, 60].contains(&protocol) {
            prop_assert!(left[0].ends_with(&data));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..20),
        six: bool,
    ) {
        let mut world = world(true, true);
        for mut bytes in packets {
            if let Some(first) = bytes.first_mut() {
                *first = if six { 0x60 } else { 0x45 };
            }
            let _verdict = world.exchange(&bytes);
        }
    }
}

/// A packet between the few hosts and ports that there are.
fn packet([way, host, peer, ports, kind]: [u8; 5]) -> Packet {
    let host = HOSTS[usize::from(host) % HOSTS.len()];
    let peer = PEERS[usize::from(peer) % PEERS.len()];
    let (here, there) = (4000 + u16::from(ports & 1), 53 + u16::from(ports >> 1 & 1));
    let outward = way < 120;
    let (src, dst) = if outward {
        (here, there)
    } else {
        (there, here)
    };
    let flags = [SYN, SYN | ACK, ACK, FIN | ACK, RST][usize::from(kind / 4) % 5];
    let segment = match kind % 4 {
        0 => Segment::udp(src, dst),
        1 => Segment::ping(here),
        2 => Segment::pong(here),
        _ => Segment::tcp(src, dst, flags),
    };
    let to_self = way % 8 == 0;
    match (outward, to_self) {
        (true, false) => Packet::new(host.into(), prefix().embed(peer).into(), segment),
        (true, true) => Packet::new(host.into(), prefix().embed(T).into(), segment),
        (false, false) => Packet::new(peer.into(), T.into(), segment),
        (false, true) => {
            let mapped: IpAddr = Ipv4Addr::new(192, 0, 2, 10).into();
            Packet::new(peer.into(), mapped, segment)
        }
    }
}

type Fragment = Option<(bool, u16, u32)>;

fn four_packet(
    (src, dst): (Ipv4Addr, Ipv4Addr),
    (protocol, tos, ttl): (u8, u8, u8),
    fragment: Fragment,
    dont_fragment: bool,
    data: &[u8],
) -> Vec<u8> {
    let (more, offset, id) = fragment.unwrap_or_default();
    let place = offset | u16::from(more) << 13 | u16::from(dont_fragment) << 14;
    let [_, _, i0, i1] = id.to_be_bytes();
    let ([l0, l1], [p0, p1]) = (length(20 + data.len()), place.to_be_bytes());
    let mut packet = vec![0x45, tos, l0, l1, i0, i1, p0, p1, ttl, protocol, 0, 0];
    packet.extend(src.octets());
    packet.extend(dst.octets());
    home::seal_ipv4(&mut packet);
    packet.extend(data);
    packet
}

fn six_packet(
    (src, dst): (Ipv6Addr, Ipv6Addr),
    (protocol, tos, ttl): (u8, u8, u8),
    fragment: Fragment,
    data: &[u8],
) -> Vec<u8> {
    let (next, extra) = if fragment.is_some() {
        (44, 8)
    } else {
        (protocol, 0)
    };
    let [l0, l1] = length(extra + data.len());
    let mut packet = vec![0x60 | tos >> 4, tos << 4, 0, 0, l0, l1, next, ttl];
    packet.extend(src.octets());
    packet.extend(dst.octets());
    if let Some((more, offset, id)) = fragment {
        packet.extend([protocol, 0]);
        packet.extend((offset << 3 | u16::from(more)).to_be_bytes());
        packet.extend(id.to_be_bytes());
    }
    packet.extend(data);
    packet
}

fn length(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap().to_be_bytes()
}

/// Says what holds for every header that leaves, whatever stands behind it.
fn is_well_formed(packet: &[u8]) {
    if packet[0] >> 4 == 4 {
        assert_eq!(packet[0], 0x45, "no options");
        assert_eq!(packet[2..4], length(packet.len()));
        assert_eq!(home::sum16(&packet[..20]), 0xffff);
        return;
    }
    assert_eq!(packet[0] >> 4, 6);
    assert_eq!(packet[1] & 0xf, 0, "no flow label");
    assert_eq!(packet[2..6], [[0; 2], length(packet.len() - 40)].concat());
    assert!(
        ![0, 43, 60, 135, 139, 140].contains(&packet[6]),
        "extension"
    );
    if packet[6] == 44 {
        assert!(packet.len() <= 1500 && packet[43] & 6 == 0);
        let more = packet[43] & 1 == 1;
        assert!(!more || packet.len().is_multiple_of(8), "units of eight");
        assert_ne!(packet[42..44], [0, 0], "RFC 8021: not atomic");
    }
}

fn pass(world: &mut Home, time: Duration) {
    let end = world.now + time;
    while let Some((due, _)) = world
        .translator
        .poll_timeout()
        .filter(|(due, _)| *due <= end)
    {
        world.now = world.now.max(due);
        world.translator.handle_timeout(world.now);
        drop(world.transmitted());
        while world.translator.poll_event().is_some() {}
    }
    world.now = end;
}

fn world(endpoint_independent: bool, hairpin: bool) -> Home {
    let maps = ["192.0.2.10=2001:db8:aaaa::10"].map(|row| row.parse().unwrap());
    let alone = Alone {
        maps: AddressMaps::new(maps.to_vec()).unwrap(),
        bindings: vec![
            "tcp,[2001:db8:aaaa::1]:80,203.0.113.1:4001"
                .parse()
                .unwrap(),
        ],
        filtering: if endpoint_independent {
            Filtering::EndpointIndependent
        } else {
            Filtering::AddressDependent
        },
        hairpin,
        restricted: false,
    };
    let pool = vec![PoolRange::new(T, 32).unwrap()];
    let mut config = Config::alone(pool, alone).unwrap();
    config.limits.sessions = 16;
    let now = Instant::from_nanos(1_000_000_000);
    let mut translator = Translator::new(config, [7; 16], now);
    translator.handle_pref64s(&[prefix()], now);
    Home { translator, now }
}

fn prefix() -> Pref64 {
    "64:ff9b:1::/96".parse().unwrap()
}

/// The last one is mapped.
const HOSTS: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 0x10),
];

const PEERS: [Ipv4Addr; 2] = [
    Ipv4Addr::new(198, 51, 100, 7),
    Ipv4Addr::new(198, 51, 100, 8),
];

const T: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
