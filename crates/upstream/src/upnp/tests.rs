//! The machine, action by action.

use mapping::ExternalPort;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

#[test]
fn gateway_is_searched_for_at_the_router_and_then_in_the_group_ever_more_rarely() {
    let mut upnp = Bench::new();
    let mut searches = Vec::new();
    for _ in 0..8 {
        let Some(Action::Search {
            multicast, router, ..
        }) = upnp.poll()
        else {
            panic!("no search");
        };
        assert_eq!(router, ROUTER);
        searches.push(multicast);
        upnp.answer(Answer::Failed(Failure::Unreachable));
        assert_eq!(upnp.poll(), None, "not at once");
        upnp.wait();
    }

    assert_eq!(
        searches,
        [false, true, false, true, false, true, false, true]
    );
    let passed = upnp.now.since(Instant::default());
    assert!(passed > Duration::from_mins(60), "{passed:?}");
}

#[test]
fn ports_are_added_one_at_a_time_and_renewed_before_their_lease_ends() {
    let mut upnp = Bench::found();
    upnp.open(80);
    upnp.open(81);

    assert_eq!(upnp.poll(), Some(add(80, 80, HOUR, false)));
    assert_eq!(upnp.poll(), None, "one at a time");
    upnp.answer(Answer::Added { external: 80 });
    assert_eq!(upnp.poll(), Some(add(81, 81, HOUR, false)));
    upnp.answer(Answer::Added { external: 81 });
    assert_eq!(upnp.poll(), None);
    let opened = upnp.now;

    let renewal = upnp.next_but_looks();

    assert!(matches!(
        renewal,
        Action::Add {
            external: 80 | 81,
            any: false,
            ..
        }
    ));
    let after = upnp.now.since(opened).as_secs();
    assert!((1800..=2250).contains(&after), "{after}");
}

#[test]
fn rfc_6970_s5_6_2_another_port_is_asked_for_where_the_port_is_taken_and_kept_from_then_on() {
    let mut upnp = Bench::found();
    upnp.open(80);
    upnp.poll();

    let next = upnp.answer(Answer::Failed(Failure::Conflict));
    assert_eq!(next, Some(add(80, 80, HOUR, true)));
    upnp.answer(Answer::Added { external: 40_000 });
    assert!(matches!(upnp.state(80), PortState::Open(it) if it.port == 40_000));

    assert_eq!(upnp.next_but_looks(), add(80, 40_000, HOUR, false));
    upnp.answer(Answer::Added { external: 40_000 });
    upnp.upnp.handle_close(key(80));
    let removal = Action::Remove {
        external: 40_000,
        protocol: Protocol::Tcp,
    };
    assert_eq!(upnp.poll(), Some(removal));
    upnp.answer(Answer::Removed);
    assert_eq!(upnp.upnp.ports().count(), 0);
}

#[test]
fn leases_are_for_ever_where_the_gateway_knows_no_other() {
    let mut upnp = Bench::found();
    upnp.open(80);
    upnp.poll();

    let next = upnp.answer(Answer::Failed(Failure::OnlyPermanent));
    assert_eq!(next, Some(add(80, 80, 0, false)));
    assert_eq!(upnp.answer(Answer::Failed(Failure::OnlyPermanent)), None);

    assert!(matches!(upnp.state(80), PortState::Refused { .. }));
}

#[test]
fn what_is_refused_is_asked_for_again_after_half_an_hour() {
    let mut upnp = Bench::found();
    upnp.open(80);
    upnp.poll();
    upnp.answer(Answer::Failed(Failure::Refused("not_authorized")));
    let refused = upnp.now;
    let PortState::Refused { why, .. } = upnp.state(80) else {
        panic!("not refused");
    };
    assert_eq!(why.as_str(), "not_authorized");

    assert_eq!(upnp.next_but_looks(), add(80, 80, HOUR, false));

    assert_eq!(upnp.now.since(refused), REFUSED_FOR);
}

#[test]
fn gateway_that_is_gone_is_searched_for_at_once_and_its_address_forgotten() {
    let mut upnp = Bench::found();
    assert!(upnp.upnp.external().is_some());
    upnp.open(80);
    upnp.poll();

    upnp.answer(Answer::Failed(Failure::Unreachable));

    assert!(!upnp.upnp.is_ready());
    assert_eq!(upnp.upnp.external(), None);
    assert!(matches!(upnp.poll(), Some(Action::Search { .. })));
}

#[test]
fn port_that_closes_while_it_is_added_is_removed_again() {
    let mut upnp = Bench::found();
    upnp.open(80);
    upnp.poll();
    upnp.upnp.handle_close(key(80));

    upnp.answer(Answer::Added { external: 80 });

    assert!(matches!(
        upnp.poll(),
        Some(Action::Remove { external: 80, .. })
    ));
}

#[test]
fn answer_to_what_was_begun_before_the_link_changed_counts_for_nothing() {
    let mut upnp = Bench::found();
    upnp.open(80);
    upnp.poll();
    let other = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    upnp.upnp.handle_link(Some(other), upnp.now);
    assert_eq!(upnp.poll(), None, "the action is still under way");

    upnp.answer(Answer::Added { external: 80 });

    assert_eq!(upnp.upnp.ports().count(), 0);
    assert!(matches!(upnp.poll(), Some(Action::Search { router, .. }) if router == other.0));
}

const HOUR: u32 = 3600;
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 7);

struct Bench {
    upnp: Upnp<StdRng>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let mut upnp = Upnp::new(StdRng::seed_from_u64(3));
        let now = Instant::default();
        upnp.handle_link(Some((ROUTER, LOCAL)), now);
        Self { upnp, now }
    }

    fn found() -> Self {
        let mut bench = Self::new();
        bench.poll();
        bench.answer(Answer::Found);
        assert_eq!(bench.poll(), Some(Action::ExternalAddress));
        let addr = "203.0.113.9".parse().unwrap();
        bench.answer(Answer::ExternalAddress(Some(addr)));
        bench
    }

    fn open(&mut self, port: u16) {
        let server = Ipv4Addr::new(192, 168, 64, 10);
        self.upnp.handle_open(key(port), server);
    }

    fn poll(&mut self) -> Option<Action> {
        self.upnp.poll_action(self.now)
    }

    fn answer(&mut self, answer: Answer) -> Option<Action> {
        self.upnp.handle_answer(answer, self.now)
    }

    fn wait(&mut self) {
        self.now = self.upnp.poll_timeout().expect("something is due");
        self.upnp.handle_timeout(self.now);
    }

    /// The next action, past the looks for the external address.
    fn next_but_looks(&mut self) -> Action {
        loop {
            match self.poll() {
                Some(Action::ExternalAddress) => {
                    self.answer(Answer::ExternalAddress(None));
                }
                Some(action) => return action,
                None => self.wait(),
            }
        }
    }

    fn state(&self, port: u16) -> PortState {
        let found = self.upnp.ports().find(|it| it.0 == key(port));
        found.expect("the port is known").2
    }
}

fn add(port: u16, external: u16, lease: u32, any: bool) -> Action {
    Action::Add {
        external,
        internal: SocketAddrV4::new(LOCAL, port),
        protocol: Protocol::Tcp,
        lease,
        any,
    }
}

fn key(port: u16) -> PortKey {
    PortKey {
        addr: LOCAL.into(),
        protocol: Protocol::Tcp,
        port: ExternalPort::new(port).unwrap(),
    }
}
