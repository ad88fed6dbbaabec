//! A disk that fails: nothing answered is lost, nothing closed opens again.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_changes_nothing() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    home.disk.fate(&[Fate::FailBefore], Fate::Good);
    let before = home.handle.snapshot();

    let refused = home.map(1, 9090).await;

    assert_eq!(refused, Outcome::Refused(Refusal::Unavailable));
    assert_eq!(home.open_ports(), [8080]);
    assert_eq!(home.count("commit_failures_total", "").await, 1);
    assert!(matches!(home.map(1, 9090).await, Outcome::Granted(_)));
    assert_eq!(home.disk.ports(), [8080, 9090]);
    let after = home.handle.snapshot();
    assert!(after.revision() > before.revision());
    assert_eq!(
        after.changes_since(before.revision()),
        None,
        "followers look at everything"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_that_reached_the_disk_is_the_truth() {
    let home = Home::new().await;
    home.disk.fate(&[Fate::FailAfter], Fate::Good);

    let refused = home.map(1, 8080).await;
    tokio::time::sleep(Duration::from_millis(5)).await;

    assert_eq!(refused, Outcome::Refused(Refusal::Unavailable));
    assert_eq!(home.open_ports(), [8080], "it is read again and published");
    assert!(matches!(home.map(1, 8080).await, Outcome::Granted(_)));
    assert_eq!(home.disk.ports(), [8080]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_followers_that_have_not_seen_what_was_read_again() {
    let home = Home::new().await;
    let packets = home.follower(Gate::Packets);
    home.disk.fate(&[Fate::FailAfter], Fate::Good);
    home.map(1, 8080).await;
    tokio::time::sleep(Duration::from_millis(5)).await;

    assert_eq!(
        home.map(1, 8080).await,
        Outcome::Refused(Refusal::Unavailable)
    );
    packets.applied(home.handle.snapshot().revision());
    assert!(matches!(home.map(1, 8080).await, Outcome::Granted(_)));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_keeps_nobody_waiting_and_nothing_open() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    home.map(1, 9090).await;
    home.disk.fate(&[], Fate::Hang);

    let closing = home.unmap(1, 8080).await;

    let unavailable = Outcome::Refused(Refusal::Unavailable);
    assert_eq!(closing, unavailable);
    assert_eq!(home.open_ports(), [9090]);
    for port in 7000..7020 {
        let asked = tokio::time::Instant::now();
        assert_eq!(home.map(1, port).await, unavailable);
        assert!(asked.elapsed() <= Duration::from_secs(16));
    }
    // leases end while nothing can be stored
    tokio::time::sleep(DAY + Duration::from_secs(10)).await;
    assert_eq!(home.open_ports(), NONE);
    assert!(home.count("disk_timeouts_total", "").await > 2);

    home.disk.fate(&[], Fate::Good);
    // one reading may still be waited for
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(matches!(home.lease(1, DAY).await, Outcome::Granted(_)));
    assert!(matches!(home.map(1, 7000).await, Outcome::Granted(_)));
    assert_eq!(home.disk.ports(), [7000]);
    home.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_at_the_end_does_not_keep_the_program() {
    let home = Home::new().await;
    home.disk.fate(&[], Fate::Hang);
    let begun = tokio::time::Instant::now();

    let stopped = home.stop().await;

    assert!(stopped.is_ok(), "nothing closed that is not stored");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_no_follower() {
    let home = Home::new().await;
    let _packets = home.follower(Gate::Packets);
    home.disk.fate(&[Fate::FailBefore], Fate::Good);

    let begun = tokio::time::Instant::now();
    let refused = home.map(1, 8080).await;

    assert_eq!(refused, Outcome::Refused(Refusal::Unavailable));
    assert!(begun.elapsed() < Duration::from_millis(10));
    assert_eq!(home.count("follower_timeouts_total", "").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_delete_closes_at_once_though_the_disk_fails() {
    for fate in [Fate::FailBefore, Fate::FailAfter] {
        let home = Home::new().await;
        home.map(1, 8080).await;
        home.disk.fate(&[], fate);

        assert_eq!(
            home.unmap(1, 8080).await,
            Outcome::Refused(Refusal::Unavailable)
        );
        assert_eq!(home.open_ports(), NONE);
        // also while the store cannot even be read
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(
            home.unmap(1, 8080).await,
            Outcome::Refused(Refusal::Unavailable)
        );
        assert_eq!(home.open_ports(), NONE);

        home.disk.fate(&[], Fate::Good);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(home.disk.ports(), NONE, "stored without any request");
        assert_eq!(home.open_ports(), NONE);
        assert_eq!(
            home.unmap(1, 8080).await,
            Outcome::Granted(Grant::Unmapped(0))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_expires_closes_though_the_disk_fails() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    home.disk.fate(&[], Fate::FailBefore);

    tokio::time::sleep(Duration::from_secs(3601)).await;

    assert_eq!(home.open_ports(), NONE);
    assert_eq!(home.disk.ports(), [8080]);
    home.disk.fate(&[], Fate::Good);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(home.disk.ports(), NONE);
}

#[tokio::test(start_paused = true)]
async fn what_would_have_been_replaced_stays_open_if_the_disk_fails() {
    let home = Home::new().await;
    let exact = |internal| {
        let Request::Map(mut map) = map_request(addr(1), internal) else {
            unreachable!()
        };
        map.requester = Requester::Upnp;
        map.external = External::Exact(ExternalPort::new(8080).unwrap());
        Request::Map(map)
    };
    home.handle.request(exact(8080)).await;
    home.disk.fate(&[Fate::FailBefore], Fate::Good);

    let refused = home.handle.request(exact(9090)).await;

    assert_eq!(refused, Outcome::Refused(Refusal::Unavailable));
    assert_eq!(home.open_ports(), [8080]);
    assert_eq!(home.disk.ports(), [8080]);
}

#[tokio::test(start_paused = true)]
async fn the_wan_addresses_survive_a_reading_of_the_store() {
    let home = Home::new().await;
    let wan = vec!["2001:db8::1".parse().unwrap()];
    home.handle
        .request(Request::WanAddresses(wan.clone()))
        .await;
    home.disk.fate(&[Fate::FailBefore], Fate::Good);
    let serial = home.handle.snapshot().counters().serial;

    home.map(1, 8080).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    assert_eq!(home.handle.snapshot().wan_addresses(), wan);
    assert!(home.handle.snapshot().counters().serial >= serial);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_never_comes_back_is_said_at_the_end() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    home.disk.fate(&[], Fate::FailBefore);
    home.unmap(1, 8080).await;

    let error = home.stop().await.unwrap_err();

    assert_eq!(
        error.to_string(),
        "cannot store what was closed before the end"
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_comes_back_for_the_end_is_used() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    home.disk.fate(&[], Fate::FailBefore);
    home.unmap(1, 8080).await;
    let disk = home.disk.clone();
    disk.fate(&[], Fate::Good);

    home.stop().await.unwrap();

    assert_eq!(disk.ports(), NONE);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A sequence of wishes and of failures, against a model that knows only the answers.
    #[test]
    fn nothing_answered_is_lost_and_nothing_closed_opens_again(
        steps in prop::collection::vec((step(), fates()), 1..25),
        later in fate(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(steps, later));
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Map(u8, u16),
    Unmap(u8, u16),
    Release(u8),
    Lease(u8),
    Sleep(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let port = || (1..=3_u8, 9000..9004_u16);
    prop_oneof![
        4 => port().prop_map(|(n, port)| Step::Map(n, port)),
        3 => port().prop_map(|(n, port)| Step::Unmap(n, port)),
        1 => (1..=3_u8).prop_map(Step::Release),
        1 => (1..=3_u8).prop_map(Step::Lease),
        2 => prop_oneof![0..3_u16, 200..4000_u16].prop_map(Step::Sleep),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![3 => Just(Fate::Good), 1 => Just(Fate::FailBefore), 1 => Just(Fate::FailAfter)]
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    prop::collection::vec(fate(), 0..4)
}

/// What the answers promise.
#[derive(Default)]
struct Model {
    /// Granted, and not closed since; with the end.
    granted: BTreeMap<(u8, u16), Instant>,
    /// Refused as unavailable: it may be open or not.
    unknown: BTreeSet<(u8, u16)>,
}

async fn play(steps: Vec<(Step, Vec<Fate>)>, later: Fate) {
    let mut home = Home::new().await;
    let mut model = Model::default();
    let mut seen = home.handle.snapshot();
    for (step, fates) in steps {
        home.disk.fate(&fates, Fate::Good);
        act(&home, &mut model, step).await;
        let snapshot = home.handle.snapshot();
        assert!(
            snapshot.revision() >= seen.revision(),
            "revisions only rise"
        );
        assert!(
            snapshot.counters().serial >= seen.counters().serial,
            "serials only rise"
        );
        seen = snapshot;
        check(&home, &mut model, step);
    }
    home.disk.fate(&[later], Fate::Good);
    tokio::time::sleep(Duration::from_secs(20)).await;
    check(&home, &mut model, Step::Sleep(20));
    let on_disk = |home: &Home| -> BTreeSet<_> {
        home.disk
            .image()
            .mappings
            .iter()
            .map(|mapping| mapping.id)
            .collect()
    };
    let shown: BTreeSet<_> = home
        .handle
        .snapshot()
        .mappings()
        .map(|mapping| mapping.id)
        .collect();
    assert_eq!(
        on_disk(&home),
        shown,
        "the disk works, so it holds what is shown"
    );

    let (disk, time) = (home.disk.clone(), home.time.clone());
    home.stop().await.unwrap();
    home = Home::again(disk, time, BootId([1; 16])).await;
    check(&home, &mut model, Step::Sleep(0));
}

async fn act(home: &Home, model: &mut Model, step: Step) {
    match step {
        Step::Map(n, port) => match home.map(n, port).await {
            Outcome::Granted(Grant::Mapped { lifetime, .. }) => {
                let end = home.time.now().mono + lifetime.unwrap();
                model.granted.insert((n, port), end);
                model.unknown.remove(&(n, port));
                assert!(home.on_disk(n, port), "granted before it was stored");
            }
            // a renewal, too, leaves a mapping with one of two ends
            Outcome::Refused(Refusal::Unavailable) => {
                model.unknown.insert((n, port));
            }
            Outcome::Refused(Refusal::NoLease) => {}
            outcome => panic!("{outcome:?}"),
        },
        Step::Unmap(n, port) => {
            let here = home
                .handle
                .snapshot()
                .host(mac(n))
                .is_some_and(|host| host.lease.is_some());
            let outcome = home.unmap(n, port).await;
            if matches!(outcome, Outcome::Granted(_)) {
                assert!(!home.on_disk(n, port), "deleted before it was stored");
            }
            let granted = matches!(outcome, Outcome::Granted(_));
            // what nobody was told of may be on the disk, and is closed when that is read
            let known = here && model.granted.contains_key(&(n, port));
            if granted || known {
                model.granted.remove(&(n, port));
                model.unknown.remove(&(n, port));
            }
        }
        Step::Release(n) => {
            let release = mapping::ReleaseRequest {
                mac: mac(n),
                addr: addr(n),
            };
            home.handle.request(Request::Release(release)).await;
            model.granted.retain(|(host, _), _| *host != n);
        }
        Step::Lease(n) => {
            home.lease(n, DAY).await;
        }
        Step::Sleep(secs) => tokio::time::sleep(Duration::from_secs(u64::from(secs))).await,
    }
}

fn check(home: &Home, model: &mut Model, step: Step) {
    let snapshot = home.handle.snapshot();
    let now = home.time.now().mono;
    // wakes are as exact as the runtime's timers
    model
        .granted
        .retain(|_, end| *end > now + Duration::from_millis(5));
    for (n, port) in model.granted.keys() {
        let external = ExternalPort::new(*port).unwrap();
        let open = snapshot.admission(addr(*n), Protocol::Tcp, external);
        assert!(
            open.is_some(),
            "{n}:{port} was granted and is lost after {step:?}"
        );
        assert!(
            home.on_disk(*n, *port),
            "{n}:{port} was granted and is not on the disk"
        );
    }
    for (server, _, external, _) in snapshot.admissions() {
        let key = (server.octets()[3] - 10, external.get());
        let mapping = snapshot
            .mapping_by_external(server, Protocol::Tcp, external)
            .unwrap();
        let late = now - mapping.expires.unwrap().at;
        assert!(
            late < Duration::from_millis(5),
            "{key:?} is open after its end"
        );
        let known = model.granted.contains_key(&key) || model.unknown.contains(&key);
        let ending = mapping.expires.unwrap().at - now < Duration::from_millis(6);
        assert!(known || ending, "{key:?} opened by itself after {step:?}");
    }
}

impl Home {
    fn on_disk(&self, n: u8, port: u16) -> bool {
        let image = self.disk.image();
        let mut mappings = image.mappings.iter();
        mappings.any(|mapping| mapping.host == mac(n) && mapping.external_port.get() == port)
    }
}
