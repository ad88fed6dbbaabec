//! Who carries the ports of IPv4.

use std::time::Duration;

use mapping::{ExternalPort, Protocol};
use rand::rngs::StdRng;

use super::*;
use crate::upnp::Failure;

#[test]
fn upnp_is_tried_once_the_router_was_asked_four_times_in_vain() {
    let mut bench = Bench::new(Mode::Auto);
    bench.open(80);
    assert_eq!(bench.machine.poll_action(bench.now), None);

    bench.run(Duration::from_secs(20));
    assert_eq!(bench.machine.poll_action(bench.now), None, "not yet");
    bench.run(Duration::from_secs(40));

    let action = bench.machine.poll_action(bench.now);
    assert!(matches!(action, Some(Action::Search { .. })), "{action:?}");
}

#[test]
fn port_is_at_one_of_the_two_and_goes_back_when_upnp_is_lost() {
    let mut bench = Bench::new(Mode::Auto);
    bench.open(80);
    bench.find();
    bench.machine.poll_action(bench.now);
    bench.answer(Answer::ExternalAddress(None));
    assert!(matches!(
        bench.machine.poll_action(bench.now),
        Some(Action::Add { external: 80, .. })
    ));
    bench.answer(Answer::Added { external: 80 });
    assert_eq!(bench.states(), ["open"]);
    assert_eq!(bench.machine.chain()[0].kind, Some("upnp"));

    // whoever answers by PCP now is not told of a port that UPnP holds
    bench.announce();
    while let Some(transmit) = bench.machine.poll_transmit() {
        assert_ne!(transmit.bytes[..2], [2, 1], "MAP");
    }
    bench.run(LOOK);
    assert_eq!(
        bench.machine.poll_action(bench.now),
        Some(Action::ExternalAddress)
    );
    bench.answer(Answer::Failed(Failure::Unreachable));

    assert_eq!(bench.machine.chain()[0].kind, Some("pcp"));
    assert_eq!(bench.states(), ["asking"]);
}

#[test]
fn port_that_closed_while_upnp_was_lost_is_not_opened_again() {
    let mut bench = Bench::new(Mode::Upnp);
    bench.open(80);
    bench.find();
    bench.machine.poll_action(bench.now);
    bench.answer(Answer::Failed(Failure::Unreachable));
    assert_eq!(bench.states(), ["waiting"]);

    bench.machine.close(key(80), bench.now);
    bench.find();

    assert_eq!(bench.states(), [""; 0]);
}

#[test]
fn configured_upnp_speaks_nothing_else() {
    let mut bench = Bench::new(Mode::Upnp);
    bench.open(80);

    bench.run(Duration::from_hours(1));

    assert_eq!(bench.machine.poll_transmit(), None);
    assert!(matches!(
        bench.machine.poll_action(bench.now),
        Some(Action::Search { .. })
    ));
}

const LOOK: Duration = Duration::from_secs(301);

struct Bench {
    machine: Upstreams<StdRng>,
    now: Instant,
}

impl Bench {
    fn new(mode: Mode) -> Self {
        let mut machine = Upstreams::new(mode, [9; 16], StdRng::seed_from_u64(1));
        let now = Instant::default() + Duration::from_secs(1000);
        let link = Link {
            server: Ipv4Addr::new(192, 168, 0, 1).into(),
            local: Ipv4Addr::new(192, 168, 0, 7).into(),
        };
        machine.handle_links(Some(link), None, now);
        Self { machine, now }
    }

    fn open(&mut self, port: u16) {
        let server = Ipv4Addr::new(192, 168, 64, 10);
        let wish = Wish {
            key: key(port),
            server,
            filters: Arc::from([]),
        };
        self.machine.open(wish, self.now);
    }

    /// Lets time pass; nobody answers a datagram.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some((at, _)) = self.machine.poll_timeout().filter(|(at, _)| *at <= end) {
            if at <= self.now && self.machine.poll_transmit().is_none() {
                break;
            }
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            while self.machine.poll_transmit().is_some() {}
        }
        self.now = end;
        self.machine.handle_timeout(end);
        while self.machine.poll_transmit().is_some() {}
    }

    fn find(&mut self) {
        loop {
            self.run(Duration::from_secs(60));
            if let Some(Action::Search { .. }) = self.machine.poll_action(self.now) {
                self.answer(Answer::Found);
                return;
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        assert_eq!(self.machine.handle_answer(answer, self.now), None);
    }

    fn announce(&mut self) {
        let response = pcp::wire::Response {
            result: pcp::wire::ResultCode::Success,
            lifetime: 0,
            epoch: 1,
            body: pcp::wire::Body::Announce,
            options: &[],
        };
        let source = "192.168.0.1:5351".parse().unwrap();
        self.machine
            .handle_datagram(&response.emit(), source, self.now);
    }

    fn states(&self) -> Vec<&'static str> {
        self.machine.ports().map(|it| it.2.as_str()).collect()
    }
}

fn key(port: u16) -> PortKey {
    PortKey {
        addr: Ipv4Addr::new(192, 168, 0, 7).into(),
        protocol: Protocol::Tcp,
        port: ExternalPort::new(port).unwrap(),
    }
}
