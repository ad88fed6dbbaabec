//! What people decide, over a disk that fails: no answer is lost, nothing denied stays open.

use mapping::{Access, DecideRequest, Decision, HostPolicyRequest};
use proptest::prelude::*;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_denial_closes_at_once_though_the_disk_fails() {
    for fate in [Fate::FailBefore, Fate::FailAfter] {
        let home = Home::new().await;
        home.map(1, 8080).await;
        home.disk.fate(&[fate], Fate::FailBefore);

        let outcome = home.decide(1, 8080, Decision::Deny).await;

        assert_eq!(outcome, Some(Outcome::Refused(Refusal::Unavailable)));
        assert_eq!(home.open_ports(), NONE);
        home.disk.fate(&[], Fate::Good);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(home.disk.ports(), NONE);
    }
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_is_not_stored_opens_nothing_and_waits_on() {
    let home = Home::new().await;
    assert_eq!(home.map(1, 22).await, Outcome::Refused(Refusal::Waiting));
    home.disk.fate(&[Fate::FailBefore], Fate::Good);

    let outcome = home.decide(1, 22, Decision::Allow(None)).await;

    assert_eq!(outcome, Some(Outcome::Refused(Refusal::Unavailable)));
    assert_eq!(home.open_ports(), NONE);
    assert_eq!(home.handle.snapshot().waiting().count(), 1);
    let outcome = home.decide(1, 22, Decision::Allow(None)).await.unwrap();
    assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
    assert_eq!(home.open_ports(), [22]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_decision_that_was_answered_is_lost(
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
    Ask(u8, u16),
    Decide(u8, u16, bool),
    Forget(u8, u16),
    Rule(u8, Option<Access>),
    Sleep(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let port = || (1..=2_u8, prop::sample::select(vec![22_u16, 25, 8080]));
    let access = prop::sample::select(Access::ALL.to_vec());
    prop_oneof![
        4 => port().prop_map(|(n, port)| Step::Ask(n, port)),
        4 => (port(), any::<bool>()).prop_map(|((n, port), allow)| Step::Decide(n, port, allow)),
        1 => port().prop_map(|(n, port)| Step::Forget(n, port)),
        1 => (1..=2_u8, proptest::option::of(access)).prop_map(|(n, access)| Step::Rule(n, access)),
        1 => (0..8_u64).prop_map(Step::Sleep),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![3 => Just(Fate::Good), 1 => Just(Fate::FailBefore), 1 => Just(Fate::FailAfter)]
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    prop::collection::vec(fate(), 0..4)
}

/// What the answers promise; what was refused as unavailable may be so or not.
#[derive(Debug, Default)]
struct Promised {
    /// What people said about ports; `None` is nothing.
    ports: BTreeMap<(u8, u16), Option<bool>>,
    rules: BTreeMap<u8, Option<Access>>,
    /// What waits, as its client was told.
    waiting: BTreeMap<(u8, u16), ()>,
}

async fn play(steps: Vec<(Step, Vec<Fate>)>, later: Fate) {
    let home = Home::new().await;
    let mut promised = Promised::default();
    for (step, fates) in steps {
        home.disk.fate(&fates, Fate::Good);
        act(&home, &mut promised, step).await;
        check(&home, &promised, step);
    }
    home.disk.fate(&[later], Fate::Good);
    tokio::time::sleep(Duration::from_secs(20)).await;
    check(&home, &promised, Step::Sleep(20));
    let (disk, time) = (home.disk.clone(), home.time.clone());
    home.stop().await.unwrap();

    let home = Home::again(disk, time, BootId([1; 16])).await;
    check(&home, &promised, Step::Sleep(0));
}

async fn act(home: &Home, promised: &mut Promised, step: Step) {
    match step {
        Step::Ask(n, port) => {
            if home.map(n, port).await == Outcome::Refused(Refusal::Waiting) {
                promised.waiting.insert((n, port), ());
            }
        }
        Step::Decide(n, port, allow) => {
            let decision = match allow {
                true => Decision::Allow(None),
                false => Decision::Deny,
            };
            let known = home.is_open(n, port);
            match home.decide(n, port, decision).await {
                Some(Outcome::Granted(_)) => {
                    promised.ports.insert((n, port), Some(allow));
                    assert_eq!(home.is_open(n, port), allow, "{step:?}");
                    promised.waiting.remove(&(n, port));
                }
                Some(Outcome::Refused(Refusal::Unavailable)) => {
                    promised.ports.remove(&(n, port));
                    promised.waiting.remove(&(n, port));
                    assert!(allow || !known || !home.is_open(n, port), "{step:?}");
                }
                Some(outcome) => assert_eq!(outcome, Outcome::Refused(Refusal::NotFound)),
                None => {}
            }
        }
        Step::Forget(n, port) => {
            let forget = Request::ForgetPermission {
                host: mac(n),
                protocol: Protocol::Tcp,
                internal_port: InternalPort::new(port).unwrap(),
                requester: Requester::Cli,
            };
            match home.handle.request(forget).await {
                Outcome::Granted(_) => promised.ports.insert((n, port), None),
                _ => promised.ports.remove(&(n, port)),
            };
        }
        Step::Rule(n, access) => {
            let rule = HostPolicyRequest {
                host: mac(n),
                requester: Requester::Cli,
                access,
                ports: None,
                quota: None,
                lasts: None,
            };
            let known = home.open_of(n);
            let outcome = home.handle.request(Request::HostPolicy(rule)).await;
            match outcome {
                Outcome::Granted(_) => promised.rules.insert(n, access),
                _ => promised.rules.remove(&n),
            };
            promised.waiting.retain(|(host, _), ()| *host != n);
            if access == Some(Access::Deny) {
                let open = home.open_of(n);
                let stays = known.iter().any(|port| open.contains(port));
                assert!(!stays, "{known:?} {open:?} {outcome:?}");
            }
        }
        Step::Sleep(secs) => tokio::time::sleep(Duration::from_secs(secs)).await,
    }
}

fn check(home: &Home, promised: &Promised, step: Step) {
    let (snapshot, image) = (home.handle.snapshot(), home.disk.image());
    let about = |it: &Permission, n, port| it.host == mac(n) && it.internal_port.get() == port;
    for (&(n, port), expected) in &promised.ports {
        let mut shown = snapshot.permissions();
        let shown = shown.find(|it| about(it, n, port)).map(|it| it.allow);
        let mut stored = image.permissions.iter();
        let stored = stored.find(|it| about(it, n, port)).map(|it| it.allow);
        assert_eq!(
            (shown, stored),
            (*expected, *expected),
            "{n}:{port} {step:?}"
        );
        let is_denied = *expected == Some(false);
        assert!(!(is_denied && home.is_open(n, port)), "{n}:{port} {step:?}");
    }
    for (n, expected) in &promised.rules {
        let shown = snapshot.host(mac(*n)).unwrap().policy.map(|it| it.access);
        let stored = image.hosts.iter().find(|host| host.mac == mac(*n));
        let stored = stored.unwrap().policy.map(|it| it.access);
        assert_eq!((shown, stored), (*expected, *expected), "{n} {step:?}");
        assert!(*expected != Some(Access::Deny) || home.open_of(*n).is_empty());
    }
    for (n, port) in promised.waiting.keys() {
        let about = |it: &Waiting| it.host == mac(*n) && it.internal_port.get() == *port;
        let shown = snapshot.waiting().any(|it| about(it));
        assert!(
            shown && image.waiting.iter().any(about),
            "{n}:{port} {step:?}"
        );
    }
}

impl Home {
    /// Decides about what waits or is open, if anything.
    async fn decide(&self, n: u8, port: u16, decision: Decision) -> Option<Outcome> {
        let snapshot = self.handle.snapshot();
        let waiting = snapshot.waiting_of(mac(n));
        let waiting = waiting.filter(|it| it.internal_port.get() == port);
        let open = snapshot.mappings_of(addr(n));
        let open = open.filter(|it| it.internal_port.get() == port);
        let id = waiting.map(|it| it.id).chain(open.map(|it| it.id)).next()?;
        let request = DecideRequest {
            id,
            requester: Requester::Cli,
            decision,
        };
        Some(self.handle.request(Request::Decide(request)).await)
    }

    fn is_open(&self, n: u8, port: u16) -> bool {
        self.open_of(n).contains(&port)
    }

    fn open_of(&self, n: u8) -> Vec<u16> {
        let snapshot = self.handle.snapshot();
        let open = snapshot
            .admissions()
            .filter(|(server, ..)| *server == addr(n));
        open.map(|(.., rule)| rule.internal.get()).collect()
    }
}
