//! The contract of the machine: what its callers may rely on, whenever they call.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/home.rs"]
mod home;

use std::time::Duration;

use home::{
    ACK, CAMERA, Home, NAS, OTHER, REMOTE, RST, SYN, Segment, from_camera, new_nsp, nsp, to_camera,
};
use mapping::Protocol;
use proptest::prelude::*;
use translator::{DropReason, EndReason, Event, Timer};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

proptest! {
    #[test]
    fn calls_that_are_early_or_repeated_change_nothing(
        histories in prop::collection::vec((0..5_u8, 0..400_u32), 1..40),
    ) {
        let mut punctual = Home::new();
        let mut nervous = Home::new();
        for (port, (kind, seconds)) in (4000_u16..).zip(histories) {
            for (home, is_nervous) in [(&mut punctual, false), (&mut nervous, true)] {
                begin(home, kind, port);
                let end = home.now + Duration::from_secs(seconds.into());
                while is_nervous && home.now < end {
                    for _ in 0..2 {
                        home.translator.handle_timeout(home.now);
                        home.transmitted();
                        home.events();
                    }
                    home.now = (home.now + 7 * SECOND).min(end);
                }
                home.pass(end - home.now);
                home.translator.handle_timeout(end);
                home.transmitted();
                home.events();
            }
            prop_assert_eq!(sessions(&punctual), sessions(&nervous));
            prop_assert_eq!(
                punctual.translator.poll_timeout(),
                nervous.translator.poll_timeout()
            );
        }
    }

    #[test]
    fn machine_rests_until_something_is_due(
        histories in prop::collection::vec((0..5_u8, 0..20_u32), 1..40),
    ) {
        let mut home = Home::new();
        for (port, (kind, seconds)) in (4000_u16..).zip(histories) {
            begin(&mut home, kind, port);
            home.pass(Duration::from_secs(seconds.into()));
        }
        home.transmitted();
        home.events();
        let mut wakes = 0;
        while let Some((due, _)) = home.translator.poll_timeout() {
            prop_assert!(due > home.now, "due at once though nothing is left to do");
            home.now = due;
            home.translator.handle_timeout(due);
            home.transmitted();
            home.events();
            wakes += 1;
        }
        prop_assert!(wakes <= 3 * 40, "{} wake-ups for at most 40 sessions", wakes);
        prop_assert_eq!(home.live(), 0);
    }
}

#[test]
fn late_wake_up_does_not_revive_what_has_ended() {
    let mut home = Home::new();
    let t = home
        .send(&to_camera(Segment::udp(4000, 5000)))
        .unwrap()
        .segment
        .ports()
        .0;
    // nobody calls the machine meanwhile
    home.now += 6 * MINUTE;

    let late = home.send(&from_camera(Segment::udp(5001, t)));

    assert_eq!(late, Err(DropReason::NoSession));
    assert_eq!(home.translator.counters().ended(EndReason::Expired), 1);
}

#[test]
fn queued_output_is_due_at_once_until_it_is_drained() {
    let mut home = Home::new();
    home.send(&to_camera(Segment::udp(4000, 5000))).unwrap();
    assert_eq!(
        home.translator.poll_timeout(),
        Some((home.now, Timer::Drain))
    );
    assert_eq!(home.events().len(), 1);
    let (due, timer) = home.translator.poll_timeout().unwrap();
    assert_eq!(timer, Timer::SessionExpiry);
    assert_eq!(due, home.now + 5 * MINUTE + SECOND);
}

#[test]
fn closing_a_port_with_many_sessions_is_done_in_steps_and_felt_at_once() {
    let mut home = Home::with(|config| config.limits.sessions = 20_000);
    for port in 10_000..15_000 {
        home.send(&to_camera(Segment::udp(port, 5000))).unwrap();
        home.events();
    }

    home.close(CAMERA, Protocol::Udp, 5000);

    assert_eq!(home.live(), 0);
    let late = home.send(&to_camera(Segment::udp(14_999, 5000)));
    assert_eq!(late, Err(DropReason::Closed));
    assert_eq!(drain_endings(&mut home), 5000);
    // what opens again has nothing of before
    home.open(CAMERA, Protocol::Udp, 5000, 5001);
    assert_eq!(home.live(), 0);
    assert!(home.send(&to_camera(Segment::udp(14_999, 5000))).is_ok());
}

#[test]
fn port_that_opens_again_before_all_has_ended_keeps_its_new_sessions_only() {
    let mut home = Home::with(|config| config.limits.sessions = 20_000);
    for port in 10_000..15_000 {
        home.send(&to_camera(Segment::udp(port, 5000))).unwrap();
        home.events();
    }
    home.close(CAMERA, Protocol::Udp, 5000);
    home.open(CAMERA, Protocol::Udp, 5000, 5001);

    // the same socket as before, and a new one
    for port in [14_999, 20_000] {
        assert!(home.send(&to_camera(Segment::udp(port, 5000))).is_ok());
    }
    drain_endings(&mut home);

    assert_eq!(home.live(), 2);
}

#[test]
fn ending_a_prefix_with_many_sessions_is_done_in_steps_and_felt_at_once() {
    let mut home = Home::with(|config| config.limits.sessions = 20_000);
    home.translator.handle_nsps(&[nsp(), new_nsp()], home.now);
    let mut t = 0;
    for port in 10_000..15_000 {
        let arrived = home.send(&to_camera(Segment::udp(port, 5000))).unwrap();
        t = arrived.segment.ports().0;
        home.events();
    }
    let mut to_new = to_camera(Segment::udp(4000, 5000));
    to_new.dst = new_nsp().embed(CAMERA).into();
    home.send(&to_new).unwrap();

    home.translator.handle_nsps(&[new_nsp()], home.now);

    assert_eq!(home.live(), 1);
    let from_server = home.send(&from_camera(Segment::udp(5001, t)));
    assert_eq!(from_server, Err(DropReason::NoSession));
    // back before all of the old ones are gone
    home.translator.handle_nsps(&[nsp(), new_nsp()], home.now);
    assert_eq!(home.live(), 1);
    assert!(home.send(&to_camera(Segment::udp(4000, 5000))).is_ok());
    drain_endings(&mut home);
    assert_eq!(home.live(), 2);
}

#[test]
fn sessions_go_on_after_their_port_has_closed_where_that_is_configured() {
    let mut home = Home::with(|config| config.end_on_close = false);
    let t = home.connect(4000);
    home.close(CAMERA, Protocol::Tcp, 80);

    for packet in [
        from_camera(Segment::tcp(8080, t, ACK)),
        to_camera(Segment::tcp(4000, 80, ACK)),
    ] {
        assert!(home.send(&packet).is_ok());
    }
    let new = home.send(&to_camera(Segment::tcp(4001, 80, SYN)));
    assert_eq!(new, Err(DropReason::Closed));
    home.send(&to_camera(Segment::tcp(4000, 80, RST))).unwrap();
    home.pass(5 * MINUTE);
    assert_eq!(home.live(), 0);
    // the rule's number is free again, and means something else
    home.open(NAS, Protocol::Tcp, 80, 80);
    home.close(NAS, Protocol::Tcp, 80);
    assert_eq!(home.live(), 0);
}

#[test]
fn every_session_is_told_of_once_when_it_begins_and_once_when_it_ends() {
    let mut home = Home::new();
    home.connect(4000);

    let [Event::Began(session)] = home.events()[..] else {
        panic!("one beginning")
    };
    assert_eq!(session.remote, (REMOTE, 4000));
    assert_eq!(session.server, (CAMERA, 8080));
    home.now += 10 * SECOND;
    let (number, _) = home
        .translator
        .sessions(0..u32::MAX, home.now)
        .next()
        .unwrap();
    assert!(home.translator.end_session(number, home.now));
    assert!(!home.translator.end_session(number, home.now));

    let [Event::Ended { session, why }] = home.events()[..] else {
        panic!("one end")
    };
    assert_eq!(why, EndReason::Requested);
    assert!(session.proven);
    assert_eq!(session.age, 10 * SECOND);
    assert_eq!(session.six_to_four.packets, 2);
}

#[test]
fn flood_of_forged_sources_does_not_wash_proven_sessions_out_of_the_log() {
    let mut home = Home::with(|config| config.limits.sessions = 10_000);
    home.flood(6000, |port| Segment::udp(port, 5000));
    let t = home.connect(4000);

    let began: Vec<_> = home
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Began(session) => Some(session),
            Event::Ended { .. } => None,
        })
        .collect();

    assert!(began.len() < 500, "{}", began.len());
    assert!(
        began
            .iter()
            .any(|session| session.pool.1 == t && session.proven)
    );
    assert_eq!(home.translator.counters().events_lost, 0);
}

#[test]
fn events_that_nobody_drains_are_bounded_and_counted() {
    let mut home = Home::with(|config| config.limits.sessions = 10_000);
    for port in 10_000..16_000 {
        let t = home.connect(port);
        assert_eq!(t, port);
    }

    let kept = home.events().len();

    let lost = home.translator.counters().events_lost;
    assert_eq!(u64::try_from(kept).unwrap() + lost, 6000);
    assert!(lost > 0);
}

#[test]
fn remote_of_another_home_learns_nothing_from_a_session() {
    let mut home = Home::new();
    home.connect(4000);
    let mut stranger = to_camera(Segment::tcp(4000, 80, ACK));
    stranger.src = OTHER.into();

    assert_eq!(home.send(&stranger), Err(DropReason::NotSyn));
}

/// Begins a session of one of five kinds.
fn begin(home: &mut Home, kind: u8, port: u16) {
    match kind {
        0 => _ = home.send(&to_camera(Segment::udp(port, 5000))).unwrap(),
        1 => _ = home.send(&to_camera(Segment::ping(port))).unwrap(),
        2 => _ = home.send(&to_camera(Segment::tcp(port, 80, SYN))).unwrap(),
        3 => _ = home.connect(port),
        _ => {
            home.connect(port);
            home.send(&to_camera(Segment::tcp(port, 80, RST))).unwrap();
        }
    }
}

fn sessions(home: &Home) -> Vec<(u32, translator::Session)> {
    home.translator.sessions(0..u32::MAX, home.now).collect()
}

/// Lets the machine give back all places, and returns how many sessions had closed.
fn drain_endings(home: &mut Home) -> u64 {
    home.events();
    let mut steps = 0;
    while let Some((due, Timer::Ending)) = home.translator.poll_timeout() {
        assert_eq!(due, home.now);
        let before = home.translator.counters().ended(EndReason::Closed);
        home.translator.handle_timeout(home.now);
        let after = home.translator.counters().ended(EndReason::Closed);
        assert!(after - before <= 2000, "a step that is not small");
        home.events();
        steps += 1;
    }
    assert!((1..100).contains(&steps), "{steps} steps");
    home.translator.counters().ended(EndReason::Closed)
}
