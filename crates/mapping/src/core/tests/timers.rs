//! The timers of mappings, which renewals leave where they are.

use super::*;

#[test]
fn a_renewal_leaves_the_timer_and_the_mapping_lives_on() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let opened = home.open(pcp(camera, 554, 1)).unwrap().0;
    home.pass(HOUR / 2);
    let renewed = home.open(pcp(camera, 554, 1)).unwrap().0;
    assert!(renewed.expires > opened.expires);
    assert_eq!(timers(&home), [end(&opened)]);

    // too early: it is set anew, and nothing is to be stored
    home.now.mono += HOUR / 2;
    home.now.wall = home.now.wall + HOUR / 2;
    assert_eq!(home.now.mono, end(&opened));
    home.core.handle_timeout(home.now);
    assert_eq!(home.core.finish(home.now).delta, None);
    assert_eq!(timers(&home), [end(&renewed)]);
    assert_eq!(home.core.snapshot().mapping_count(), 1);

    home.pass(HOUR / 2 - Duration::from_nanos(1));
    assert_eq!(home.core.snapshot().mapping_count(), 1);
    home.pass(Duration::from_nanos(1));
    assert_eq!(home.core.snapshot().mapping_count(), 0);
    assert!(timers(&home).is_empty());
}

#[test]
fn a_shorter_life_moves_the_timer() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();
    let shorter = MapRequest {
        lifetime: Some(HOUR / 4),
        ..pcp(camera, 554, 1)
    };

    let shorter = home.open(shorter).unwrap().0;

    assert_eq!(timers(&home), [end(&shorter)]);
    home.pass(HOUR / 4);
    assert_eq!(home.core.snapshot().mapping_count(), 0);
}

#[test]
fn what_closes_leaves_no_timer_however_often_it_was_renewed() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    for round in 0..3 {
        home.open(pcp(camera, 554, 1)).unwrap();
        home.pass(HOUR / 3);
        home.open(pcp(camera, 554, 1)).unwrap();
        home.pass(HOUR);
        assert_eq!(home.core.snapshot().mapping_count(), 0, "round {round}");
        home.open(pcp(camera, 554, 1)).unwrap();
        home.pass(HOUR / 3);
        home.open(pcp(camera, 554, 1)).unwrap();
        let close = unmap(camera, Requester::Pcp, 554, Some(1));
        assert_eq!(home.close(close), Ok(1));
        assert!(timers(&home).is_empty());
    }
}

#[test]
fn a_mapping_that_becomes_static_has_no_timer() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 8080, 1)).unwrap();
    let forever = MapRequest {
        subject: Subject::Admin(CAMERA),
        requester: Requester::Cli,
        lifetime: None,
        nonce: None,
        ..pcp(camera, 8080, 1)
    };

    let mapping = home.open(forever).unwrap().0;

    assert_eq!(mapping.expires, None);
    assert!(timers(&home).is_empty());
    let stored = home.stored.last().unwrap();
    assert_eq!(stored.mappings.get(&mapping.id), Some(&Some(mapping)));
    assert!(stored.renewals.is_empty());
}

#[test]
fn a_restart_sets_the_timer_at_the_end() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();
    home.pass(HOUR / 2);
    let renewed = home.open(pcp(camera, 554, 1)).unwrap().0;

    home.core = home.restart(BOOT);

    assert_eq!(timers(&home), [end(&renewed)]);
}

#[test]
fn of_a_renewal_only_the_end_and_the_memo_are_stored() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let opened = home.open(pcp(camera, 554, 1)).unwrap().0;
    let stored = home.stored.last().unwrap();
    assert_eq!(stored.mappings.len(), 1);
    assert!(stored.renewals.is_empty());
    home.pass(HOUR / 2);

    // from another source port, as after a start of the client
    let moved = MapRequest {
        memo: Some([7; 32].into()),
        ..pcp(camera, 554, 1)
    };
    let renewed = home.open(moved.clone()).unwrap().0;
    let stored = home.stored.last().unwrap();
    assert!(stored.mappings.is_empty());
    assert_eq!(renewed.memo, moved.memo);
    assert_ne!(renewed.expires, opened.expires);
    let renewals: Vec<_> = stored.renewals.iter().collect();
    assert_eq!(renewals, [(&opened.id, &renewed)]);

    let described = MapRequest {
        description: Some("the door".to_owned()),
        ..pcp(camera, 554, 1)
    };
    let described = home.open(described).unwrap().0;
    let stored = home.stored.last().unwrap();
    assert_eq!(stored.mappings.get(&opened.id), Some(&Some(described)));
    assert!(stored.renewals.is_empty());
}

#[test]
fn a_batch_stores_a_row_with_the_last_end_that_it_gave_it() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let (first, now) = (Request::Map(pcp(camera, 554, 1)), home.now);
    home.core.handle_request(&first, now);
    let longer = MapRequest {
        lifetime: Some(HOUR * 2),
        ..pcp(camera, 554, 1)
    };
    home.core.handle_request(&Request::Map(longer), now);

    let delta = home.core.finish(now).delta.unwrap();

    let mapping = home.core.snapshot().mappings().next().unwrap();
    assert_eq!(mapping.expires.unwrap().at, now.mono + HOUR * 2);
    assert_eq!(
        delta.mappings.get(&mapping.id),
        Some(&Some(Arc::clone(mapping)))
    );
    assert!(delta.renewals.is_empty());

    // what is renewed and closed in one batch is gone
    let renewal = Request::Map(pcp(camera, 554, 1));
    home.core.handle_request(&renewal, now);
    let close = unmap(camera, Requester::Pcp, 554, Some(1));
    let id = mapping_id(&home);
    home.core.handle_request(&Request::Unmap(close), now);
    let delta = home.core.finish(now).delta.unwrap();
    assert_eq!(delta.mappings.get(&id), Some(&None));
    assert!(delta.renewals.is_empty());
}

fn mapping_id(home: &Home) -> MappingId {
    home.core.snapshot().mappings().next().unwrap().id
}

fn end(mapping: &Mapping) -> Instant {
    mapping.expires.unwrap().at
}

/// For when the timers of mappings are set.
fn timers(home: &Home) -> Vec<Instant> {
    let of_mapping = |(at, ends): &(Instant, Ends)| matches!(ends, Ends::Mapping(_)).then_some(*at);
    home.core.ends.iter().filter_map(of_mapping).collect()
}
