//! What RFC 6888 asks of a NAT that serves many, by its requirement numbers: limits, so that nobody
//! keeps the others out.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use home::{ACK, CAMERA, FIN, Home, NAS, Packet, RST, SYN, Segment, nsp};
use mapping::Protocol;
use translator::{Config, DropReason, EndReason, Limits, PoolRange};

#[test]
fn req_4_network_of_remotes_has_no_more_sessions_than_it_may_and_others_go_on() {
    let mut home = homes(|limits| limits.per_remote_64 = 10);
    for port in 0..10 {
        establish(&mut home, remote(1, 1), 4000 + port, CAMERA);
    }

    for host in [1, 2] {
        let refused = syn(&mut home, remote(1, host), 5000, CAMERA);
        assert_eq!(refused, Err(DropReason::RemoteFull), "the whole /64");
    }
    establish(&mut home, remote(2, 1), 4000, CAMERA);
    assert_eq!(home.dropped(DropReason::RemoteFull), 2);
    assert_eq!(home.translator.counters().ended(EndReason::Evicted), 0);
}

#[test]
fn req_4_limit_is_of_the_sessions_that_live() {
    let mut home = homes(|limits| limits.per_remote_64 = 1);
    establish(&mut home, remote(1, 1), 4000, CAMERA);
    assert!(syn(&mut home, remote(1, 1), 4001, CAMERA).is_err());

    home.close(CAMERA, Protocol::Tcp, 80);
    home.open(CAMERA, Protocol::Tcp, 80, 8080);
    home.pass(Duration::from_secs(1));

    establish(&mut home, remote(1, 1), 4001, CAMERA);
}

#[test]
fn req_4_connections_that_have_finished_are_no_share() {
    let mut home = homes(|limits| {
        (limits.sessions, limits.per_remote_64, limits.per_server) = (64, 2, 3);
    });
    establish(&mut home, remote(1, 1), 3999, CAMERA);
    for port in 4000..4200 {
        establish(&mut home, remote(1, 1), port, CAMERA);
        finish(&mut home, remote(1, 1), port);
    }
    assert_eq!(home.live(), 64, "what is finished makes room");
    assert!(data(&mut home, remote(1, 1), 3999, CAMERA).is_ok());

    // opened again it is one of the two
    establish(&mut home, remote(1, 1), 4199, CAMERA);
    for port in [4198, 4200] {
        let refused = syn(&mut home, remote(1, 1), port, CAMERA);
        assert_eq!(refused, Err(DropReason::RemoteFull), "{port}");
    }
    establish(&mut home, remote(2, 1), 4000, CAMERA);
    let refused = syn(&mut home, remote(3, 1), 4000, CAMERA);
    assert_eq!(refused, Err(DropReason::ServerFull));
}

#[test]
fn req_4_connections_that_their_server_has_reset_are_no_share() {
    let mut home = homes(|limits| {
        (limits.sessions, limits.per_remote_64, limits.per_server) = (64, 2, 3);
    });
    establish(&mut home, remote(1, 1), 3999, CAMERA);
    for port in 4000..4200 {
        establish(&mut home, remote(1, 1), port, CAMERA);
        server_says(&mut home, remote(1, 1), port, RST);
    }
    assert_eq!(home.live(), 64, "what is over makes room");
    assert!(data(&mut home, remote(1, 1), 3999, CAMERA).is_ok());

    // opened again it is one of the two
    establish(&mut home, remote(1, 1), 4199, CAMERA);
    for port in [4198, 4200] {
        let refused = syn(&mut home, remote(1, 1), port, CAMERA);
        assert_eq!(refused, Err(DropReason::RemoteFull), "{port}");
    }
}

#[test]
fn req_4_reset_of_a_remote_leaves_its_share_until_the_server_confirms_it() {
    let mut home = homes(|limits| limits.per_remote_64 = 1);
    establish(&mut home, remote(1, 1), 4000, CAMERA);
    // anybody may have sent it
    home.send(&from(remote(1, 1), 4000, CAMERA, RST)).unwrap();

    for seconds in [0, 11] {
        home.pass(Duration::from_secs(seconds));
        let refused = syn(&mut home, remote(1, 1), 4001, CAMERA);
        assert_eq!(refused, Err(DropReason::RemoteFull), "{seconds}");
    }
    server_says(&mut home, remote(1, 1), 4000, RST);

    establish(&mut home, remote(1, 1), 4001, CAMERA);
    home.pass(Duration::from_secs(242));
    assert_eq!(home.live(), 1, "four minutes, once more from then");
}

#[test]
fn req_4_reset_connections_come_to_life_again_up_to_the_limit_only() {
    let mut home = homes(|limits| limits.per_remote_64 = 2);
    for port in 4000..4020 {
        establish(&mut home, remote(1, 1), port, CAMERA);
        server_says(&mut home, remote(1, 1), port, RST);
    }

    for port in 4000..4020 {
        assert!(data(&mut home, remote(1, 1), port, CAMERA).is_ok());
        server_says(&mut home, remote(1, 1), port, ACK);
    }

    home.pass(Duration::from_secs(242));
    assert_eq!(home.live(), 2);
    assert!(data(&mut home, remote(1, 1), 4001, CAMERA).is_ok());
}

#[test]
fn req_4_network_over_a_limit_that_became_lower_keeps_what_it_has() {
    let mut home = homes(|_| {});
    for port in 4000..4010 {
        establish(&mut home, remote(1, 1), port, CAMERA);
    }
    let mut later = homes(|limits| limits.per_remote_64 = 4);
    for (_, saved) in home.translator.saved(0..u32::MAX, home.now) {
        later.translator.restore(&saved, later.now).unwrap();
    }

    let refused = syn(&mut later, remote(1, 2), 4000, CAMERA);

    assert_eq!(refused, Err(DropReason::RemoteFull));
    for port in 4000..4010 {
        assert!(data(&mut later, remote(1, 1), port, CAMERA).is_ok());
    }
    establish(&mut later, remote(2, 1), 4000, CAMERA);
}

#[test]
fn req_4_server_that_is_full_leaves_room_for_the_others() {
    let mut home = homes(|limits| limits.per_server = 10);
    for port in 0..10 {
        establish(&mut home, remote(port, 1), 4000, CAMERA);
    }

    let refused = syn(&mut home, remote(99, 1), 4000, CAMERA);

    assert_eq!(refused, Err(DropReason::ServerFull));
    establish(&mut home, remote(99, 1), 4000, NAS);
    assert_eq!(home.dropped(DropReason::ServerFull), 1);
}

#[test]
fn req_4_flooded_server_takes_what_it_has_from_its_own_flood() {
    let mut home = homes(|limits| limits.per_server = 50);
    establish(&mut home, remote(1, 1), 4000, CAMERA);
    syn(&mut home, remote(2, 1), 4000, NAS).unwrap();

    for net in 0..1000 {
        syn(&mut home, remote(1000 + net, 1), 4000, CAMERA).unwrap();
    }

    establish(&mut home, remote(3, 1), 4000, CAMERA);
    for net in [1, 3] {
        assert!(data(&mut home, remote(net, 1), 4000, CAMERA).is_ok());
    }
    answer(&mut home, remote(2, 1), 4000, NAS);
    assert!(data(&mut home, remote(2, 1), 4000, NAS).is_ok());
}

#[test]
fn req_4_flooded_server_takes_from_its_own_flood_behind_older_sessions_of_another() {
    let mut home = homes(|limits| limits.per_server = 50);
    for net in 0..49 {
        syn(&mut home, remote(net, 1), 4000, NAS).unwrap();
    }
    for net in 100..200 {
        syn(&mut home, remote(net, 1), 4000, CAMERA).unwrap();
    }

    establish(&mut home, remote(999, 1), 4000, CAMERA);

    assert_eq!(home.dropped(DropReason::ServerFull), 0);
    for net in 0..49 {
        answer(&mut home, remote(net, 1), 4000, NAS);
    }
}

#[test]
fn req_4_half_open_sessions_of_a_network_replace_each_other() {
    let mut home = homes(|limits| limits.half_open_per_64 = 20);
    establish(&mut home, remote(1, 1), 4000, CAMERA);
    syn(&mut home, remote(2, 1), 4000, CAMERA).unwrap();

    for host in 0..500 {
        syn(&mut home, remote(1, 1000 + host), 4000, CAMERA).unwrap();
    }

    let counters = home.translator.counters();
    assert_eq!(counters.half_open, 21);
    assert_eq!(counters.sessions.tcp, 22);
    assert_eq!(counters.ended(EndReason::Evicted), 480);
    answer(&mut home, remote(2, 1), 4000, CAMERA);
    for net in [1, 2] {
        assert!(data(&mut home, remote(net, 1), 4000, CAMERA).is_ok());
    }
}

#[test]
fn req_5_full_table_takes_from_the_network_that_floods() {
    let mut home = homes(|limits| limits.sessions = 100);
    for net in 0..20 {
        syn(&mut home, remote(net, 1), 4000, CAMERA).unwrap();
    }
    establish(&mut home, remote(50, 1), 4000, CAMERA);

    for host in 0..2000 {
        syn(&mut home, remote(77, host), 4000, CAMERA).unwrap();
    }

    for net in 0..20 {
        answer(&mut home, remote(net, 1), 4000, CAMERA);
    }
    for net in (0..20).chain([50]) {
        assert!(data(&mut home, remote(net, 1), 4000, CAMERA).is_ok());
    }
}

#[test]
fn req_5_flood_from_everywhere_ends_nothing_that_was_answered() {
    let mut home = homes(|limits| limits.sessions = 200);
    for net in 0..150 {
        establish(&mut home, remote(net, 1), 4000, CAMERA);
    }
    let udp = Packet::new(
        remote(5, 5).into(),
        nsp().embed(CAMERA).into(),
        Segment::udp(4000, 5000),
    );
    home.send(&udp).unwrap();
    let pool = home.translator.sessions(0..u32::MAX, home.now).last();
    let (addr, port) = pool.unwrap().1.pool;
    let back = Packet::new(CAMERA.into(), addr.into(), Segment::udp(5001, port));
    home.send(&back).unwrap();
    home.send(&udp).unwrap();

    for net in 0..3000 {
        syn(&mut home, remote(1000 + net, 1), 4000, CAMERA).unwrap();
        if net % 100 == 0 {
            // who is there still gets in
            establish(
                &mut home,
                remote(500, 1),
                4000 + u16::try_from(net).unwrap(),
                CAMERA,
            );
        }
    }

    for net in 0..150 {
        assert!(data(&mut home, remote(net, 1), 4000, CAMERA).is_ok());
    }
    assert!(home.send(&back).is_ok());
    assert_eq!(home.dropped(DropReason::SessionsFull), 0);
}

#[test]
fn req_5_forged_datagrams_never_end_an_exchange_that_is_not_idle() {
    let mut home = homes(|limits| limits.sessions = 20);
    let dst = nsp().embed(CAMERA).into();
    for host in 0..20 {
        let there = Packet::new(remote(1, host).into(), dst, Segment::udp(4000, 5000));
        home.send(&there).unwrap();
        let (addr, port) = pool_of(&home, remote(1, host), 4000);
        let back = Packet::new(CAMERA.into(), addr.into(), Segment::udp(5001, port));
        home.send(&back).unwrap();
        home.send(&there).unwrap();
    }

    let forged = Packet::new(remote(9, 9).into(), dst, Segment::udp(4000, 5000));
    assert_eq!(home.send(&forged), Err(DropReason::SessionsFull));
    home.pass(Duration::from_secs(122));
    assert!(home.send(&forged).is_ok(), "RFC 4787 REQ-5: two minutes");
    assert_eq!(home.live(), 20);
}

#[test]
fn req_5_connections_that_have_ended_make_room_before_those_that_begin() {
    let mut home = homes(|limits| limits.sessions = 30);
    for net in 0..28 {
        establish(&mut home, remote(net, 1), 4000, CAMERA);
        finish(&mut home, remote(net, 1), 4000);
    }
    for net in 100..102 {
        syn(&mut home, remote(net, 1), 4000, CAMERA).unwrap();
    }

    for net in 102..110 {
        syn(&mut home, remote(net, 1), 4000, CAMERA).unwrap();
    }

    for net in 100..110 {
        answer(&mut home, remote(net, 1), 4000, CAMERA);
        assert!(data(&mut home, remote(net, 1), 4000, CAMERA).is_ok());
    }
}

#[test]
fn req_5_b_network_of_remotes_begins_no_more_sessions_in_a_second_than_it_may() {
    let mut home = homes(|limits| limits.new_per_remote_64 = 10);
    let begin = |home: &mut Home, net, hosts: std::ops::Range<u32>| {
        let begun = hosts.map(|host| syn(home, remote(net, host), 4000, CAMERA));
        begun.filter(Result::is_ok).count()
    };

    assert_eq!(
        begin(&mut home, 1, 0..100),
        40,
        "four seconds' worth at once"
    );
    assert_eq!(home.dropped(DropReason::RemoteRate), 60);
    assert_eq!(begin(&mut home, 2, 0..30), 30, "others begin as before");
    answer(&mut home, remote(1, 7), 4000, CAMERA);
    assert!(data(&mut home, remote(1, 7), 4000, CAMERA).is_ok());

    home.now += Duration::from_secs(1);
    assert_eq!(begin(&mut home, 1, 200..300), 10);
    home.now += Duration::from_secs(60);
    assert_eq!(begin(&mut home, 1, 300..400), 40);
    assert_eq!(home.translator.counters().ended(EndReason::Evicted), 0);
}

#[test]
fn req_5_b_sessions_that_come_back_after_a_restart_do_not_begin() {
    let slow = |limits: &mut Limits| {
        (limits.new_per_remote_64, limits.new_per_server) = (1, 1);
    };
    let mut home = homes(|_| {});
    for port in 4000..4100 {
        establish(&mut home, remote(1, 1), port, CAMERA);
    }
    let mut later = homes(slow);
    for (_, saved) in home.translator.saved(0..u32::MAX, home.now) {
        later.translator.restore(&saved, later.now).unwrap();
    }

    for port in 5000..5003 {
        establish(&mut later, remote(1, 1), port, CAMERA);
    }
    let refused = syn(&mut later, remote(1, 1), 5003, CAMERA);
    assert_eq!(refused, Err(DropReason::RemoteRate));
}

#[test]
fn req_5_b_pace_of_a_network_outlives_most_of_its_sessions() {
    let mut home = homes(|limits| {
        (limits.new_per_remote_64, limits.half_open_per_64) = (2, 2);
    });
    // each takes the place of another one
    let begun = (0..100).filter(|port| syn(&mut home, remote(1, 1), 4000 + port, CAMERA).is_ok());

    assert_eq!(begun.count(), 8, "four seconds' worth");
}

#[test]
fn req_5_b_server_is_given_no_more_sessions_in_a_second_than_it_may() {
    let mut home = homes(|limits| limits.new_per_server = 10);
    let begin = |home: &mut Home, to| {
        let begun = (0..100).map(|net| syn(home, remote(net, 1), 4000, to));
        begun.filter(Result::is_ok).count()
    };

    assert_eq!(begin(&mut home, CAMERA), 40);
    assert_eq!(home.dropped(DropReason::ServerRate), 60);
    assert!(home.transmitted().is_empty(), "who is refused asks again");
    assert_eq!(begin(&mut home, NAS), 40, "another server has its own");
}

#[test]
fn req_5_a_limits_grow_with_the_table_or_are_configured() {
    let limits = Limits::of(1_000_000);
    assert_eq!(
        (limits.per_remote_64, limits.per_server),
        (250_000, 750_000)
    );
    assert_eq!(limits.half_open_per_64, 31_250);
    let limits = Limits::default();
    assert_eq!(
        (limits.new_per_remote_64, limits.new_per_server),
        (20_000, 65_536)
    );
    assert_eq!(limits.resting_ports, 4096);
}

#[test]
fn req_8_port_of_a_remote_that_has_gone_is_nobody_elses_for_two_minutes() {
    for (segment, lives) in [(Segment::udp(4000, 5000), 301), (Segment::ping(4000), 61)] {
        for (waits, same) in [(0, false), (119, false), (122, true)] {
            let mut home = Home::with(|_| {});
            let first = knock(&mut home, remote(1, 1), &segment);
            home.pass(Duration::from_secs(lives));
            assert_eq!(home.live(), 0);
            home.pass(Duration::from_secs(waits));

            let other = knock(&mut home, remote(2, 2), &segment);

            assert_eq!(first == other, same, "{segment:?} after {waits} s");
        }
    }
}

#[test]
fn req_8_remote_that_comes_back_has_the_port_that_it_had() {
    let mut home = Home::with(|_| {});
    knock(&mut home, remote(2, 2), &Segment::udp(4000, 5000));
    let first = knock(&mut home, remote(1, 1), &Segment::udp(4000, 5000));
    home.pass(Duration::from_secs(310));
    assert_eq!(home.live(), 0);

    let again = knock(&mut home, remote(1, 1), &Segment::udp(4000, 5000));

    assert_eq!(first, again);
}

#[test]
fn req_8_a_port_of_a_tracked_connection_is_given_out_at_once() {
    let mut home = Home::with(|_| {});
    let first = knock(&mut home, remote(1, 1), &Segment::tcp(4000, 80, SYN));
    home.pass(Duration::from_secs(242));
    assert_eq!(home.live(), 0);

    let other = knock(&mut home, remote(2, 2), &Segment::tcp(4000, 80, SYN));

    assert_eq!(first, other);
}

#[test]
fn req_8_time_and_number_are_configurable() {
    for configure in [
        (|config| config.limits.resting_ports = 0) as fn(&mut Config),
        |config| config.lifetimes.set_port_rest(Duration::ZERO),
    ] {
        let mut home = Home::with(configure);
        let first = knock(&mut home, remote(1, 1), &Segment::udp(4000, 5000));
        home.pass(Duration::from_secs(301));

        let other = knock(&mut home, remote(2, 2), &Segment::udp(4000, 5000));

        assert_eq!(first, other);
    }
}

#[test]
fn req_11_a_and_d_what_finds_no_room_is_dropped_and_nothing_answered_ends() {
    let mut home = homes(|limits| limits.sessions = 10);
    for net in 0..10 {
        establish(&mut home, remote(net, 1), 4000, CAMERA);
    }

    for net in 10..20 {
        let refused = syn(&mut home, remote(net, 1), 4000, CAMERA);
        assert_eq!(refused, Err(DropReason::SessionsFull));
    }

    for net in 0..10 {
        assert!(data(&mut home, remote(net, 1), 4000, CAMERA).is_ok());
    }
    assert_eq!(home.translator.counters().ended(EndReason::Evicted), 0);
}

/// Sends a first packet to the camera, and returns from which port or by which identifier it came
/// there.
fn knock(home: &mut Home, from: Ipv6Addr, segment: &Segment) -> u16 {
    let dst = nsp().embed(CAMERA).into();
    let left = home.send(&Packet::new(from.into(), dst, segment.clone()));
    left.unwrap().segment.ports().0
}

fn homes(limit: impl FnOnce(&mut Limits)) -> Home {
    let mut home = Home::with(|config| {
        config.pool = vec![PoolRange::new([192, 168, 64, 192].into(), 26).unwrap()];
        limit(&mut config.limits);
    });
    home.open(NAS, Protocol::Tcp, 80, 8080);
    home
}

fn remote(net: u32, host: u32) -> Ipv6Addr {
    (0x2001_0db8_aaaa_u128 << 80 | u128::from(net) << 64 | u128::from(host)).into()
}

fn from(remote: Ipv6Addr, port: u16, server: Ipv4Addr, flags: u8) -> Packet {
    let segment = Segment::tcp(port, 80, flags);
    Packet::new(remote.into(), nsp().embed(server).into(), segment)
}

fn syn(home: &mut Home, from_: Ipv6Addr, port: u16, to: Ipv4Addr) -> Result<Packet, DropReason> {
    home.send(&from(from_, port, to, SYN))
}

fn data(home: &mut Home, from_: Ipv6Addr, port: u16, to: Ipv4Addr) -> Result<Packet, DropReason> {
    home.send(&from(from_, port, to, ACK))
}

fn pool_of(home: &Home, remote: Ipv6Addr, port: u16) -> (Ipv4Addr, u16) {
    home.translator
        .sessions(0..u32::MAX, home.now)
        .find(|(_, session)| session.remote == (remote, port))
        .map(|(_, session)| session.pool)
        .unwrap()
}

/// The server answers a SYN, and the remote the server.
#[track_caller]
fn answer(home: &mut Home, remote: Ipv6Addr, port: u16, server: Ipv4Addr) {
    let (addr, to) = pool_of(home, remote, port);
    let segment = Segment::tcp(8080, to, SYN | ACK);
    home.send(&Packet::new(server.into(), addr.into(), segment))
        .unwrap();
    data(home, remote, port, server).unwrap();
}

#[track_caller]
fn establish(home: &mut Home, remote: Ipv6Addr, port: u16, server: Ipv4Addr) {
    syn(home, remote, port, server).unwrap();
    answer(home, remote, port, server);
}

/// The camera sends a segment of a connection.
#[track_caller]
fn server_says(home: &mut Home, remote: Ipv6Addr, port: u16, flags: u8) {
    let (addr, to) = pool_of(home, remote, port);
    let segment = Segment::tcp(8080, to, flags);
    home.send(&Packet::new(CAMERA.into(), addr.into(), segment))
        .unwrap();
}

#[track_caller]
fn finish(home: &mut Home, remote: Ipv6Addr, port: u16) {
    server_says(home, remote, port, FIN | ACK);
    home.send(&from(remote, port, CAMERA, FIN | ACK)).unwrap();
}
