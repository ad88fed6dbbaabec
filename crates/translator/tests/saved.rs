//! Sessions that outlive the process: what was saved goes on as it was, and nothing else comes
//! back.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/home.rs"]
mod home;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use home::{
    ACK, CAMERA, FIN, Home, NAS, POOL, Packet, REMOTE, RST, SYN, Segment, from_camera, new_nsp,
    nsp, to_camera,
};
use mapping::Protocol;
use proptest::prelude::*;
use translator::{NotRestored, Saved, Session, Transport};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

proptest! {
    #[test]
    fn restored_sessions_translate_the_same_packets_the_same(
        exchanges in prop::collection::vec(exchange(), 1..12),
        idle in 0..200_u32,
    ) {
        let mut home = Home::new();
        home.translator.handle_nsps(&[nsp(), new_nsp()], home.now);
        for exchange in &exchanges {
            exchange.make(&mut home);
        }
        home.pass(idle * SECOND);
        let mut back = Home::new();
        back.translator.handle_nsps(&[new_nsp(), nsp()], back.now);
        // another boot: its clock has begun again
        back.pass(3 * SECOND);

        let mut saved = records(&home);
        saved.sort_by_key(|saved| std::cmp::Reverse(saved.idle()));
        for saved in saved {
            back.translator.restore(&saved, back.now).unwrap();
        }

        prop_assert_eq!(proven(&back), proven(&home));
        for session in proven(&home) {
            for packet in both_ways(&session) {
                prop_assert_eq!(back.send(&packet), home.send(&packet));
            }
        }
        prop_assert_eq!(proven(&back), proven(&home));
        let silence = Duration::from_secs(3 * 3600);
        for home in [&mut home, &mut back] {
            home.pass(silence);
        }
        prop_assert_eq!(proven(&back), proven(&home));
    }
}

#[test]
fn only_sessions_that_their_remote_has_proven_are_saved() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::tcp(4000, 80, SYN))).unwrap();
    home.send(&from_camera(Segment::tcp(8080, 4000, SYN | ACK)))
        .unwrap();
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    home.send(&to_camera(Segment::ping(4000))).unwrap();
    assert!(records(&home).is_empty());

    home.connect(4001);

    assert_eq!(records(&home).len(), 1);
}

#[test]
fn restored_session_ends_when_it_would_have_ended() {
    let mut home = Home::new();
    exchange_udp(&mut home, 4000);
    let [saved] = records(&home)[..] else {
        panic!("one session");
    };
    let mut back = Home::new();

    let late = back.translator.restore(&saved.aged(302 * SECOND), back.now);
    assert_eq!(late, Err(NotRestored::Expired));
    back.translator
        .restore(&saved.aged(290 * SECOND), back.now)
        .unwrap();
    back.pass(10 * SECOND);
    assert_eq!(back.live(), 1);
    back.pass(SECOND);
    assert_eq!(back.live(), 0);
}

#[test]
fn connection_that_was_silent_for_long_is_probed_after_a_restart() {
    let mut home = Home::new();
    home.connect(4000);
    let [saved] = records(&home)[..] else {
        panic!("one session");
    };
    let mut back = Home::new();

    back.translator
        .restore(&saved.aged(2 * HOUR + MINUTE), back.now)
        .unwrap();
    back.translator.handle_timeout(back.now);

    assert_eq!(back.transmitted().len(), 2);
    let late = saved.aged(2 * HOUR + 5 * MINUTE);
    let again = Home::new().translator.restore(&late, back.now);
    assert_eq!(again, Err(NotRestored::Expired));
}

#[test]
fn both_ends_of_a_connection_whose_port_closed_meanwhile_hear_of_it() {
    let mut home = Home::new();
    let t = home.connect(4000);
    let [saved] = records(&home)[..] else {
        panic!("one session");
    };
    let mut back = Home::new();
    back.close(CAMERA, Protocol::Tcp, 80);
    let restored = back.translator.restore(&saved, back.now);
    assert_eq!(restored, Err(NotRestored::NotAdmitted));

    for packet in [
        to_camera(Segment::tcp(4000, 80, ACK)),
        from_camera(Segment::tcp(8080, t, ACK)),
    ] {
        assert!(back.send(&packet).is_err(), "{packet:?}");
        let [reset] = &back.transmitted()[..] else {
            panic!("one reset answers {packet:?}")
        };
        let reset = Packet::parse(reset);
        assert_eq!((reset.src, reset.dst), (packet.dst, packet.src));
    }
}

#[test]
fn what_would_not_be_let_in_now_does_not_come_back() {
    let mut home = Home::new();
    home.connect(4000);
    let [saved] = records(&home)[..] else {
        panic!("one session");
    };
    let cases: [(NotRestored, Change); 6] = [
        (NotRestored::NotAdmitted, |home| {
            home.close(CAMERA, Protocol::Tcp, 80);
        }),
        (NotRestored::NotAdmitted, |home| {
            home.open(CAMERA, Protocol::Tcp, 80, 9090);
        }),
        (NotRestored::NotInPref64, |home| {
            home.translator.handle_nsps(&[new_nsp()], home.now);
        }),
        (NotRestored::InUse, |home| {
            home.connect(4000);
        }),
        // somebody else has the port of the pool
        (NotRestored::InUse, |home| {
            let mut syn = to_camera(Segment::tcp(4000, 80, SYN));
            syn.src = home::OTHER.into();
            home.send(&syn).unwrap();
        }),
        (NotRestored::Full, |home| {
            for port in 5000..6000 {
                home.connect(port);
            }
        }),
    ];
    for (expected, change) in cases {
        let mut back = Home::new();
        change(&mut back);
        let before = back.live();

        let restored = back.translator.restore(&saved, back.now);

        assert_eq!(restored, Err(expected));
        assert_eq!(back.live(), before);
    }
    let mut elsewhere = Home::with(|config| {
        let pool = translator::PoolRange::new([192, 168, 65, 192].into(), 26);
        config.pool = vec![pool.unwrap()];
    });
    let restored = elsewhere.translator.restore(&saved, elsewhere.now);
    assert_eq!(restored, Err(NotRestored::NotInPool));
}

#[test]
fn second_session_of_a_socket_comes_back_to_the_same_binding() {
    let mut home = Home::new();
    home.open(NAS, Protocol::Udp, 5000, 5000);
    exchange_udp(&mut home, 4000);
    let mut to_nas = to_camera(Segment::udp(4000, 5000));
    to_nas.dst = nsp().embed(NAS).into();
    let from_nas = Packet::new(NAS.into(), POOL.into(), Segment::udp(5000, 4000));
    for packet in [&to_nas, &from_nas, &to_nas] {
        home.send(packet).unwrap();
    }
    let mut back = Home::new();
    back.open(NAS, Protocol::Udp, 5000, 5000);

    for saved in records(&home) {
        back.translator.restore(&saved, back.now).unwrap();
    }

    assert_eq!(back.send(&from_nas), home.send(&from_nas));
    let from_camera = from_camera(Segment::udp(5001, 4000));
    assert_eq!(back.send(&from_camera), home.send(&from_camera));
    assert!(back.events().is_empty(), "nothing has begun");
}

type Change = fn(&mut Home);

/// An exchange between a remote and the camera.
#[derive(Debug, Clone)]
struct Exchange {
    kind: Transport,
    host: u16,
    port: u16,
    old_prefix: bool,
    closing: Vec<(bool, u8)>,
    then: u32,
}

impl Exchange {
    fn make(&self, home: &mut Home) {
        let (opens, answers, goes_on): (Segment, fn(u16) -> Segment, Segment) = match self.kind {
            Transport::IcmpQuery => (
                Segment::ping(self.port),
                Segment::pong,
                Segment::ping(self.port),
            ),
            Transport::Tcp => (
                Segment::tcp(self.port, 80, SYN),
                |t| Segment::tcp(8080, t, SYN | ACK),
                Segment::tcp(self.port, 80, ACK),
            ),
            Transport::Udp => (
                Segment::udp(self.port, 5000),
                |t| Segment::udp(5001, t),
                Segment::udp(self.port, 5000),
            ),
        };
        let Ok(arrived) = home.send(&self.asks(opens)) else {
            return;
        };
        let t = arrived.segment.ports().0;
        // the socket may have been used before
        home.send(&from_camera(answers(t))).unwrap();
        home.send(&self.asks(goes_on)).unwrap();
        if self.kind == Transport::Tcp {
            for (from_remote, flags) in &self.closing {
                let packet = if *from_remote {
                    self.asks(Segment::tcp(self.port, 80, *flags))
                } else {
                    from_camera(Segment::tcp(8080, t, *flags))
                };
                home.send(&packet).unwrap();
            }
        }
        home.pass(self.then * SECOND);
    }

    fn asks(&self, segment: Segment) -> Packet {
        let prefix = if self.old_prefix { nsp() } else { new_nsp() };
        let src = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, self.host);
        Packet::new(src.into(), prefix.embed(CAMERA).into(), segment)
    }
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let flags = prop::sample::select(vec![ACK, FIN | ACK, RST]);
    (
        prop::sample::select(Transport::ALL.to_vec()),
        1..4_u16,
        4000..4003_u16,
        any::<bool>(),
        prop::collection::vec((any::<bool>(), flags), 0..4),
        0..40_u32,
    )
        .prop_map(|(kind, host, port, old_prefix, closing, then)| Exchange {
            kind,
            host,
            port,
            old_prefix,
            closing,
            then,
        })
}

/// A packet of a session from either side.
fn both_ways(session: &Session) -> [Packet; 2] {
    let (remote, external) = (session.remote, session.external);
    let (pool, server) = (session.pool, session.server);
    let [there, back] = match session.transport {
        Transport::IcmpQuery => [Segment::ping(remote.1), Segment::pong(pool.1)],
        Transport::Tcp => [
            Segment::tcp(remote.1, external.1, ACK),
            Segment::tcp(server.1, pool.1, ACK),
        ],
        Transport::Udp => [
            Segment::udp(remote.1, external.1),
            Segment::udp(server.1, pool.1),
        ],
    };
    [
        Packet::new(IpAddr::from(remote.0), external.0.into(), there),
        Packet::new(IpAddr::from(server.0), pool.0.into(), back),
    ]
}

fn exchange_udp(home: &mut Home, port: u16) {
    for packet in [
        to_camera(Segment::udp(port, 5000)),
        from_camera(Segment::udp(5001, port)),
        to_camera(Segment::udp(port, 5000)),
    ] {
        home.send(&packet).unwrap();
    }
    assert_eq!(packet_source(home), IpAddr::from(REMOTE));
}

fn packet_source(home: &Home) -> IpAddr {
    let first = home.translator.sessions(0..u32::MAX, home.now).next();
    first.unwrap().1.remote.0.into()
}

/// What is kept, as it would be read from a disk.
fn records(home: &Home) -> Vec<Saved> {
    home.translator
        .saved(0..u32::MAX, home.now)
        .map(|(_, saved)| Saved::decode(&saved.encode()).unwrap())
        .collect()
}

/// The sessions that are proven, in the order of their tuples.
fn proven(home: &Home) -> Vec<Session> {
    let mut proven: Vec<_> = home
        .translator
        .sessions(0..u32::MAX, home.now)
        .map(|(_, session)| session)
        .filter(|session| session.proven)
        .collect();
    proven.sort_by_key(|session| (session.transport, session.pool, session.remote));
    proven
}
