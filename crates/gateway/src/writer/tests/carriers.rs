//! What carries IPv4 forwards and pinholes, played by a follower that gates as the translator does.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use mapping::{
    Access, Carriers, ClosePinholeRequest, DecideRequest, Decision, FilterChange,
    HostPolicyRequest, PinholeRequest, PinholeTarget, PinholeTuple, Via,
};
use tokio::sync::watch;

use super::*;

#[tokio::test(start_paused = true)]
async fn forwards_and_pinholes_are_granted_when_they_are_carried_and_gone_when_that_is_told() {
    let home = Home::new().await;
    let firewall = Firewall::join(&home).await;

    assert!(is_granted(&home.forward(1, 8080).await));
    assert_eq!(firewall.forwards(), [(8080, addr(1), 8080)]);
    assert!(is_granted(&home.pierce(443).await));
    assert_eq!(firewall.pinholes(), [443]);

    let closed = home.unmap(1, 8080).await;
    assert_eq!(closed, Outcome::Granted(Grant::Unmapped(1)));
    assert_eq!(firewall.forwards(), []);
    let close = ClosePinholeRequest {
        subject: camera(),
        requester: Requester::Upnp,
        target: PinholeTarget::Tuple(tuple(443), None),
    };
    let closed = home.handle.request(Request::ClosePinhole(close)).await;
    assert_eq!(closed, Outcome::Granted(Grant::Unmapped(1)));
    assert_eq!(firewall.pinholes(), NONE);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_the_carrier_has_applied_it() {
    let home = Home::new().await;
    let firewall = Firewall::join(&home).await;
    firewall.pause(true);
    let asking = tokio::spawn({
        let handle = home.handle.clone();
        async move { handle.request(forward_request(1, 8080)).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!asking.is_finished());
    assert_eq!(
        home.disk.ports(),
        [8080],
        "it is stored, and waits for packets"
    );

    firewall.pause(false);

    assert!(is_granted(&asking.await.unwrap()));
    assert_eq!(firewall.forwards(), [(8080, addr(1), 8080)]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_carrier_makes_answers_transient_and_retries_succeed() {
    let home = Home::new().await;
    let firewall = Firewall::join(&home).await;
    firewall.pause(true);

    let unavailable = Outcome::Refused(Refusal::Unavailable);
    assert_eq!(home.forward(1, 8080).await, unavailable);
    assert_eq!(home.pierce(443).await, unavailable);
    firewall.pause(false);

    assert!(is_granted(&home.forward(1, 8080).await));
    assert!(is_granted(&home.pierce(443).await));
    assert_eq!(firewall.forwards().len(), 1);
    assert_eq!(firewall.pinholes(), [443]);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_decides_is_carried_before_the_person_is_told() {
    let home = Home::new().await;
    let firewall = Firewall::join(&home).await;
    let waiting = Outcome::Refused(Refusal::Waiting);
    assert_eq!(home.forward(1, 22).await, waiting);
    assert_eq!(home.pierce(22).await, waiting);
    let id = home.handle.snapshot().waiting().next().unwrap().id;
    let decide = |decision| {
        home.handle.request(Request::Decide(DecideRequest {
            id,
            requester: Requester::Cli,
            decision,
        }))
    };

    // one answer for both
    assert!(is_granted(&decide(Decision::Allow(None)).await));
    assert_eq!(firewall.forwards(), [(22, addr(1), 22)]);
    assert_eq!(firewall.pinholes(), [22]);
    assert!(is_granted(&decide(Decision::Deny).await));
    assert_eq!(firewall.forwards(), []);
    assert_eq!(firewall.pinholes(), NONE);

    assert!(is_granted(&home.forward(1, 8080).await));
    let rule = HostPolicyRequest {
        host: mac(1),
        requester: Requester::Cli,
        access: Some(Access::Deny),
        ports: None,
        quota: None,
        lasts: None,
    };
    assert!(is_granted(
        &home.handle.request(Request::HostPolicy(rule)).await
    ));
    assert_eq!(firewall.forwards(), []);
}

#[tokio::test(start_paused = true)]
async fn a_carrier_that_goes_takes_what_it_carried_and_nothing_new_is_granted() {
    let home = Home::new().await;
    let firewall = Firewall::join(&home).await;
    home.forward(1, 8080).await;
    home.pierce(443).await;

    let none = Request::Carriers(Carriers::default());
    assert!(is_granted(&home.handle.request(none).await));

    assert_eq!(firewall.forwards(), []);
    let not_carried = Outcome::Refused(Refusal::NotCarried);
    assert_eq!(home.forward(1, 8081).await, not_carried);
    assert_eq!(home.pierce(444).await, not_carried);
    // what anybody may ask for is narrowed to what is carried
    assert!(is_granted(&home.map(1, 9090).await));
    assert_eq!(home.open_ports(), [9090]);
}

#[tokio::test(start_paused = true)]
async fn a_carrier_that_starts_later_finds_what_is_stored() {
    let home = Home::new().await;
    let firewall = Firewall::join(&home).await;
    home.forward(1, 8080).await;
    home.pierce(443).await;
    let (disk, time) = (home.disk.clone(), home.time.clone());
    home.stop().await.unwrap();
    drop(firewall);

    let home = Home::again(disk, time, BootId([1; 16])).await;
    let firewall = Firewall::join(&home).await;

    assert_eq!(firewall.forwards(), [(8080, addr(1), 8080)]);
    assert_eq!(firewall.pinholes(), [443]);
}

/// Applies what it would carry, unless it is told to pause.
struct Firewall {
    carried: Arc<Mutex<Carried>>,
    pause: watch::Sender<bool>,
    running: JoinHandle<()>,
}

#[derive(Default)]
struct Carried {
    forwards: BTreeSet<(u16, Ipv4Addr, u16)>,
    pinholes: BTreeSet<u16>,
}

impl Firewall {
    /// Follows, and says what it carries.
    async fn join(home: &Home) -> Self {
        let (pause, mut paused) = watch::channel(false);
        let carried = Arc::new(Mutex::new(Carried::default()));
        let mut follower = home.handle.follower("firewall", Gate::Packets);
        let applied = Arc::clone(&carried);
        let running = tokio::spawn(async move {
            while let Some(snapshot) = follower.changed().await {
                if paused.wait_for(|paused| !paused).await.is_err() {
                    return;
                }
                *applied.lock().unwrap() = Carried::by(&snapshot);
                follower.applied(snapshot.revision());
            }
        });
        let carriers = Carriers {
            ipv4: Some([203, 0, 113, 7].into()),
            pinholes: true,
        };
        let outcome = home.handle.request(Request::Carriers(carriers)).await;
        assert_eq!(outcome, Outcome::Granted(Grant::Done));
        Self {
            carried,
            pause,
            running,
        }
    }

    fn pause(&self, pauses: bool) {
        self.pause.send_replace(pauses);
    }

    fn forwards(&self) -> Vec<(u16, Ipv4Addr, u16)> {
        let carried = self.carried.lock().unwrap();
        carried.forwards.iter().copied().collect()
    }

    fn pinholes(&self) -> Vec<u16> {
        let carried = self.carried.lock().unwrap();
        carried.pinholes.iter().copied().collect()
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Carried {
    fn by(snapshot: &Snapshot) -> Self {
        let forward = |it: &Arc<Mapping>| {
            let ports = (it.external_port.get(), it.internal_port.get());
            (ports.0, it.server, ports.1)
        };
        let carries = snapshot.carriers().pinholes;
        let pinholes = snapshot.pinholes().filter(|_| carries);
        Self {
            forwards: snapshot.forwards().map(forward).collect(),
            pinholes: pinholes.map(|it| it.port.get()).collect(),
        }
    }
}

impl Home {
    async fn forward(&self, n: u8, port: u16) -> Outcome {
        self.handle.request(forward_request(n, port)).await
    }

    async fn pierce(&self, port: u16) -> Outcome {
        let request = PinholeRequest {
            subject: camera(),
            requester: Requester::Upnp,
            tuple: tuple(port),
            filters: FilterChange::default(),
            lifetime: Duration::from_secs(3600),
            nonce: None,
            description: None,
        };
        self.handle.request(Request::Pinhole(request)).await
    }
}

fn forward_request(n: u8, port: u16) -> Request {
    let Request::Map(map) = map_request(addr(n), port) else {
        unreachable!()
    };
    Request::Map(MapRequest {
        via: Via::Ipv4,
        ..map
    })
}

fn camera() -> Subject {
    Subject::Client(Client {
        addr: OWN.into(),
        mac: Some(mac(1)),
    })
}

fn tuple(port: u16) -> PinholeTuple {
    PinholeTuple {
        addr: OWN,
        protocol: Protocol::Tcp,
        port: InternalPort::new(port).unwrap(),
        remote: None,
    }
}

fn is_granted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Granted(_))
}

const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 1);
