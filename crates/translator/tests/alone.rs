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
