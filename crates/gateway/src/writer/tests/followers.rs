//! What waits for whom, and for how long.

use super::*;

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_the_followers_it_concerns_have_applied_it() {
    let home = Home::new().await;
    let mut packets = home.follower(Gate::Packets);
    let _names = home.follower(Gate::Names); // applies nothing more
    let asking = tokio::spawn({
        let handle = home.handle.clone();
        async move { handle.request(map_request(addr(1), 8080)).await }
    });
    packets.changed().await.unwrap();
    let snapshot = packets.changed().await.unwrap();
    assert_eq!(ports(&snapshot), [8080]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!asking.is_finished());

    packets.applied(snapshot.revision());

    assert!(matches!(asking.await.unwrap(), Outcome::Granted(_)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_follower_makes_the_answer_transient_and_the_retry_succeeds() {
    let home = Home::new().await;
    let packets = home.follower(Gate::Packets);

    let begun = tokio::time::Instant::now();
    let first = home.map(1, 8080).await;
    let waited = begun.elapsed();

    assert_eq!(first, Outcome::Refused(Refusal::Unavailable));
    assert!((1500..1600).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(
        home.disk.ports(),
        [8080],
        "what is committed is not withdrawn"
    );
    assert_eq!(home.count("follower_timeouts_total", "").await, 1);

    packets.applied(home.handle.snapshot().revision());

    let id = home.handle.snapshot().mappings().next().unwrap().id;
    match home.map(1, 8080).await {
        Outcome::Granted(Grant::Mapped { mapping, .. }) => assert_eq!(mapping.id, id),
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn renewals_go_on_while_a_follower_is_slow() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    let _packets = home.follower(Gate::Packets);
    let opening = tokio::spawn({
        let handle = home.handle.clone();
        async move { handle.request(map_request(addr(2), 9090)).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;

    let begun = tokio::time::Instant::now();
    let renewed = home.map(1, 8080).await;

    assert!(matches!(renewed, Outcome::Granted(_)), "{renewed:?}");
    assert!(
        begun.elapsed() < Duration::from_millis(10),
        "{:?}",
        begun.elapsed()
    );
    assert!(!opening.is_finished());
    assert_eq!(
        opening.await.unwrap(),
        Outcome::Refused(Refusal::Unavailable)
    );
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_was_not_applied_in_time_is_granted_when_it_is() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    let packets = home.follower(Gate::Packets);

    assert_eq!(
        home.unmap(1, 8080).await,
        Outcome::Refused(Refusal::Unavailable)
    );
    assert_eq!(
        home.unmap(1, 8080).await,
        Outcome::Refused(Refusal::Unavailable)
    );
    packets.applied(home.handle.snapshot().revision());

    assert_eq!(
        home.unmap(1, 8080).await,
        Outcome::Granted(Grant::Unmapped(0))
    );
    assert_eq!(
        home.unmap(1, 8080).await,
        Outcome::Granted(Grant::Unmapped(0))
    );
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_stuck_for_seconds_ends_the_writer() {
    let home = Home::new().await;
    let _packets = home.follower(Gate::Packets);
    let _quick = home.quick_follower(Gate::Packets);
    let begun = tokio::time::Instant::now();
    home.map(1, 8080).await;

    let error = home.running.await.unwrap().unwrap_err();

    assert_eq!(error.to_string(), "the follower slow is stuck");
    assert!(
        (4..7).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_starts_slowly_may_take_longer() {
    let home = Home::new().await;
    let starting = home.handle.follower("starting", Gate::Packets);
    home.map(1, 8080).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!home.running.is_finished());

    starting.applied(home.handle.snapshot().revision());
    tokio::time::sleep(Duration::from_secs(60)).await;

    assert!(!home.running.is_finished());
    assert!(matches!(home.map(1, 8080).await, Outcome::Granted(_)));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_behind_but_moves_is_not_stuck() {
    let home = Home::new().await;
    let packets = home.follower(Gate::Packets);
    let mut seen = VecDeque::new();
    for round in 0..40 {
        home.map(1, 9000 + round).await;
        seen.push_back(home.handle.snapshot().revision());
        // nearly five seconds behind, with the time that each answer takes
        tokio::time::sleep(Duration::from_millis(100)).await;
        if seen.len() > 2 {
            packets.applied(seen.pop_front().unwrap());
        }
    }

    assert!(!home.running.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_dropped_ends_the_writer() {
    let home = Home::new().await;
    let follower = home.follower(Gate::Names);

    drop(follower);

    let error = home.running.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the follower slow is gone");
}

#[tokio::test(start_paused = true)]
async fn followers_that_go_when_the_program_ends_are_no_error() {
    let home = Home::new().await;
    let follower = home.follower(Gate::Packets);
    home.cancel.cancel();

    drop(follower);

    home.running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn names_follow_a_new_prefix_only_when_packets_pass() {
    let home = Home::new().await;
    let packets = home.follower(Gate::Packets);
    let names = home.follower(Gate::Names);
    let asking = tokio::spawn(renumber(home.handle.clone()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let waiting = home.handle.snapshot();
    assert_eq!(waiting.preferred().unwrap().id, GenerationId(1));
    assert_eq!(waiting.to_prefer().unwrap().id, GenerationId(2));

    packets.applied(waiting.revision());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let preferring = home.handle.snapshot();
    assert_eq!(preferring.preferred().unwrap().id, GenerationId(2));
    assert!(!asking.is_finished());
    names.applied(preferring.revision());

    match asking.await.unwrap() {
        Outcome::Granted(Grant::Prefixed(generation)) => {
            assert_eq!(
                (generation.id, generation.preferred),
                (GenerationId(2), true)
            );
        }
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefix_that_packets_accept_late_is_preferred_all_the_same() {
    let home = Home::new().await;
    let packets = home.follower(Gate::Packets);

    assert_eq!(
        renumber(home.handle.clone()).await,
        Outcome::Refused(Refusal::Unavailable)
    );
    packets.applied(home.handle.snapshot().revision());
    tokio::time::sleep(Duration::from_millis(10)).await;

    assert_eq!(
        home.handle.snapshot().preferred().unwrap().id,
        GenerationId(2)
    );
    match renumber(home.handle.clone()).await {
        Outcome::Granted(Grant::Prefixed(generation)) => {
            assert_eq!(
                (generation.id, generation.preferred),
                (GenerationId(2), true)
            );
        }
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefix_that_waited_at_the_restart_is_preferred_afterwards() {
    let home = Home::new().await;
    let _packets = home.follower(Gate::Packets);
    renumber(home.handle.clone()).await;
    let (disk, time) = (home.disk.clone(), home.time.clone());
    home.stop().await.unwrap();

    let core = Core::restore(site(), disk.image(), BootId([1; 16]), time.now()).unwrap();
    let (handle, engine) = engine(disk, core, &time).await;
    let packets = handle.follower("packets", Gate::Packets);
    let running = tokio::spawn(engine.run(CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(handle.snapshot().preferred().unwrap().id, GenerationId(1));
    packets.applied(handle.snapshot().revision());
    tokio::time::sleep(Duration::from_secs(1)).await;

    assert_eq!(handle.snapshot().preferred().unwrap().id, GenerationId(2));
    assert!(!running.is_finished());
}

async fn renumber(handle: Handle) -> Outcome {
    let delegated = "2001:db8:65::/56".parse().unwrap();
    let old_valid = Duration::from_secs(30);
    handle
        .request(Request::Prefix(PrefixRequest {
            delegated,
            nsp: None,
            old_valid,
        }))
        .await
}
