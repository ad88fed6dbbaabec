//! The behaviour of a NAT towards UDP (RFC 4787), by its requirement numbers: mapping, pool
//! addresses and ports. Its timers and filtering are those of RFC 6146, see `rfc6146.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use home::{CAMERA, Home, NAS, Packet, Segment, new_nsp, nsp};
use mapping::Protocol;
use translator::{Config, DropReason, PoolRange, Transport};

#[test]
fn req_1_mapping_is_the_same_for_every_server_and_port() {
    let mut home = homes(26);
    let bound: BTreeSet<_> = [(CAMERA, 5000), (CAMERA, 5001), (NAS, 5000)]
        .map(|(server, port)| knock(&mut home, remote(1), server, Segment::udp(4000, port)))
        .into_iter()
        .collect();
    assert_eq!(bound.len(), 1);
}

#[test]
fn req_2_remote_keeps_one_address_for_all_ports_and_protocols() {
    for len in [26, 30, 32] {
        let mut home = homes(len);
        for host in 2..100 {
            knock(&mut home, remote(host), CAMERA, Segment::udp(7, 5000));
        }
        let addrs: BTreeSet<_> = (0..50)
            .flat_map(|port| {
                [
                    Segment::udp(4000 + port, 5000),
                    Segment::tcp(4000 + port, 80, home::SYN),
                    Segment::ping(4000 + port),
                ]
            })
            .map(|segment| knock(&mut home, remote(1), CAMERA, segment).0)
            .collect();
        assert_eq!(addrs.len(), 1, "a pool of /{len}");
    }
}

#[test]
fn req_2_each_remote_has_an_address_of_its_own_while_they_last_and_keeps_its_ports() {
    let mut home = homes(26);
    let bound: BTreeSet<_> = (0..61)
        .map(|host| knock(&mut home, remote(host), CAMERA, Segment::udp(4000, 5000)))
        .collect();
    assert!(bound.iter().all(|(_, port)| *port == 4000));
    let addrs: BTreeSet<_> = bound.into_iter().map(|(addr, _)| addr).collect();
    assert_eq!(addrs.len(), 61);
    assert!(!addrs.contains(&Ipv4Addr::new(192, 168, 64, 192)));
    assert!(!addrs.contains(&Ipv4Addr::new(192, 168, 64, 255)));

    let (late, port) = knock(&mut home, remote(99), CAMERA, Segment::udp(4000, 5000));
    assert!(addrs.contains(&late), "who comes late shares");
    assert_ne!(port, 4000);
}

#[test]
fn req_2_address_of_a_remote_that_has_gone_is_given_to_another_one() {
    let mut home = homes(31);
    let first = knock(&mut home, remote(1), CAMERA, Segment::udp(4000, 5000));
    home.pass(Duration::from_secs(301));
    let second = knock(&mut home, remote(2), CAMERA, Segment::udp(4000, 5000));
    assert_eq!(first, second);
}

#[test]
fn req_3_no_two_remotes_have_one_port_of_a_protocol() {
    for len in [26, 30, 32] {
        let mut home = homes(len);
        for host in 0..200 {
            for segment in [Segment::udp(4000, 5000), Segment::ping(4000)] {
                knock(&mut home, remote(host), CAMERA, segment.clone());
                knock(&mut home, remote(host), NAS, segment);
            }
        }
        let mut owners = std::collections::BTreeMap::new();
        for (_, session) in home.translator.sessions(0..u32::MAX, home.now) {
            let owner = owners.entry((session.transport, session.pool));
            assert_eq!(*owner.or_insert(session.remote), session.remote);
        }
        assert_eq!(owners.len(), 400);
    }
}

#[test]
fn req_3_well_known_port_stays_well_known_and_no_other_becomes_it() {
    let mut home = homes(32);
    for host in 0..60 {
        for port in [53, 54, 4000, 4001] {
            let (_, bound) = knock(&mut home, remote(host), CAMERA, Segment::udp(port, 5000));
            assert_eq!(bound < 1024, port < 1024, "{port} became {bound}");
        }
    }
}

#[test]
fn req_4_parity_is_kept() {
    let mut home = homes(32);
    for host in 0..200 {
        for port in [4000, 4001] {
            let (_, bound) = knock(&mut home, remote(host), CAMERA, Segment::udp(port, 5000));
            assert_eq!(bound % 2, port % 2);
        }
    }
}

#[test]
fn req_4_port_that_cannot_be_kept_is_not_the_next_one() {
    let mut home = homes(32);
    let bound: Vec<u16> = (0..32)
        .map(|host| knock(&mut home, remote(host), CAMERA, Segment::udp(4000, 5000)).1)
        .collect();
    let near = bound
        .iter()
        .skip(1)
        .filter(|port| port.abs_diff(4000) < 200);
    assert!(near.count() < 4, "{bound:?}");
}

#[test]
fn req_7_remote_in_two_prefixes_of_the_home_has_two_ports() {
    let mut home = homes(26);
    home.translator.handle_nsps(&[nsp(), new_nsp()], home.now);
    let bound = [nsp(), new_nsp()].map(|prefix| {
        let dst = prefix.embed(CAMERA).into();
        let packet = Packet::new(remote(1).into(), dst, Segment::udp(4000, 5000));
        let left = home.send(&packet).unwrap();
        (left.src, left.segment.ports().0)
    });
    assert_eq!(bound[0].0, bound[1].0, "one address");
    assert_ne!(bound[0].1, bound[1].1, "in IPv4 the destination is one");
}

#[test]
fn req_3_pool_that_is_used_up_takes_the_place_of_what_may_be_forged_and_recovers() {
    let mut home = Home::with(|config| {
        pool(config, 32);
        config.limits.sessions = 70_000;
    });
    let mut refused = 0;
    for host in 0..66_000 {
        let dst = nsp().embed(CAMERA).into();
        let packet = Packet::new(remote(host).into(), dst, Segment::udp(4000, 5000));
        match home.send(&packet) {
            Ok(_) => {}
            Err(reason) => {
                assert_eq!(reason, DropReason::PoolExhausted);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 0, "the oldest half-open session gives its port");
    assert_eq!(home.translator.counters().sessions.udp, 65_535);
    assert_eq!(home.translator.counters().bindings, 65_535);

    home.pass(Duration::from_secs(301));

    assert_eq!(home.translator.counters().bindings, 0);
    let (_, port) = knock(&mut home, remote(1), CAMERA, Segment::udp(4000, 5000));
    assert_eq!(port, 4000);
}

fn homes(len: u8) -> Home {
    let mut home = Home::with(|config| pool(config, len));
    home.open(CAMERA, Protocol::Udp, 5001, 5002);
    home.open(NAS, Protocol::Udp, 5000, 5000);
    home
}

fn pool(config: &mut Config, len: u8) {
    config.pool = vec![PoolRange::new([192, 168, 64, 192].into(), len).unwrap()];
}

fn remote(host: u32) -> Ipv6Addr {
    (0x2001_0db8_aaaa_u128 << 80 | u128::from(host + 1)).into()
}

/// Sends a first packet and returns where the server sees it come from.
#[track_caller]
fn knock(home: &mut Home, from: Ipv6Addr, server: Ipv4Addr, segment: Segment) -> (Ipv4Addr, u16) {
    let packet = Packet::new(from.into(), nsp().embed(server).into(), segment.clone());
    let left = home.send(&packet).unwrap();
    let port = match segment {
        Segment::Echo { .. } => home
            .translator
            .sessions(0..u32::MAX, home.now)
            .filter(|(_, it)| it.transport == Transport::IcmpQuery && it.remote.0 == from)
            .map(|(_, it)| it.pool.1)
            .last()
            .unwrap(),
        _ => left.segment.ports().0,
    };
    match left.src {
        IpAddr::V4(addr) => (addr, port),
        IpAddr::V6(_) => panic!("not translated"),
    }
}
