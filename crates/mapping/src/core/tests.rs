//! One behaviour each; `tests/model.rs` compares the whole with a simple model.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::*;

mod clocks;
mod external_ports;
mod leases;
mod pinhole;
mod policy;
mod prefixes;
mod shared;
mod timers;

#[test]
fn port_of_a_leased_host_opens_at_its_external_address() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");

    let (mapping, lifetime) = home.open(pcp(camera, 554, 1)).unwrap();

    assert_eq!(mapping.external_port.get(), 554);
    assert_eq!(lifetime, Some(HOUR));
    let admitted: Vec<_> = home.core.snapshot().admissions().collect();
    assert_eq!(
        admitted,
        [(
            camera,
            Protocol::Tcp,
            external(554),
            &AdmissionRule::to(internal(554))
        )]
    );
}

#[test]
fn client_without_a_lease_is_refused() {
    let mut home = Home::with_prefix();
    let stranger = Ipv4Addr::new(192, 168, 64, 77);

    assert_eq!(home.open(pcp(stranger, 554, 1)), Err(Refusal::NoLease));
    assert_eq!(
        home.open(pcp(home.core.snapshot().site().gateway(), 554, 1)),
        Err(Refusal::NoLease)
    );
}

#[test]
fn frame_of_a_neighbour_is_refused() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let mut request = pcp(camera, 554, 1);
    request.subject = Subject::Client(Client {
        addr: camera.into(),
        mac: Some(NAS),
    });

    assert_eq!(home.open(request), Err(Refusal::NoLease));
}

#[test]
fn request_without_a_delegated_prefix_is_refused() {
    let mut home = Home::new();
    let camera = home.join(CAMERA, "camera");

    assert_eq!(home.open(pcp(camera, 554, 1)), Err(Refusal::NoPrefix));
}

#[test]
fn policy_holds_for_both_ports() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");

    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));
    assert_eq!(home.open(pcp(camera, 3389, 1)), Err(Refusal::PortDenied));
    let telnet = MapRequest {
        external: External::Exact(external(8023)),
        ..upnp(camera, 23)
    };
    assert_eq!(home.open(telnet), Err(Refusal::PortDenied));
    let outside = MapRequest {
        external: External::Exact(external(22)),
        ..upnp(camera, 8022)
    };
    assert_eq!(home.open(outside), Err(Refusal::Waiting));
    assert_eq!(home.core.snapshot().mapping_count(), 0);
}

#[test]
fn m_4_ports_of_port_control_never_open_whatever_the_policy_says() {
    let mut home = Home::with_policy(Policy {
        auto_allow: PortClass::All,
        always_reject: Vec::new(),
        ..Policy::default()
    });
    let camera = home.join(CAMERA, "camera");
    for port in [5350, 5351] {
        let udp = MapRequest {
            protocol: Protocol::Udp,
            ..upnp(camera, port)
        };
        assert_eq!(home.open(udp.clone()), Err(Refusal::ExternalPortDenied));
        let external = External::Suggested(None);
        let moved = home.open(MapRequest { external, ..udp }).unwrap().0;
        assert!(![5350, 5351].contains(&moved.external_port.get()));
        assert!(home.open(upnp(camera, port)).is_ok(), "TCP is nobody's");
    }
}

#[test]
fn renewal_keeps_the_port_and_prolongs() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let (first, _) = home.open(pcp(camera, 554, 1)).unwrap();
    home.pass(HOUR / 2);

    let again = MapRequest {
        external: External::Suggested(Some(external(9554))),
        ..pcp(camera, 554, 1)
    };
    let (second, lifetime) = home.open(again).unwrap();

    assert_eq!(
        (second.id, second.external_port),
        (first.id, first.external_port)
    );
    assert_eq!(lifetime, Some(HOUR));
    assert_eq!(second.changed_in, first.changed_in);
}

#[test]
fn wrong_nonce_neither_renews_nor_closes() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();
    home.pass(HOUR / 4);
    let foreign = Refusal::ForeignMapping {
        remaining: Some(HOUR * 3 / 4),
    };

    assert_eq!(home.open(pcp(camera, 554, 2)), Err(foreign));
    assert_eq!(
        home.close(unmap(camera, Requester::Pcp, 554, Some(2))),
        Err(foreign)
    );
    assert_eq!(
        home.close(unmap(camera, Requester::NatPmp, 554, None)),
        Err(foreign)
    );
    assert_eq!(
        home.close(unmap(camera, Requester::Pcp, 554, Some(1))),
        Ok(1)
    );
}

#[test]
fn another_dialect_of_the_same_host_keeps_a_port_open_but_never_cuts_it_short() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();
    let short = MapRequest {
        lifetime: Some(Duration::from_secs(60)),
        ..upnp(camera, 554)
    };

    let (mapping, lifetime) = home.open(short).unwrap();

    assert_eq!((mapping.requester, lifetime), (Requester::Pcp, Some(HOUR)));
    assert!(mapping.nonce.is_some());
}

#[test]
fn lifetime_is_cut_to_the_longest_lease() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.prolong(CAMERA, camera);
    let week = Policy::default().max_lease;
    let permanent = MapRequest {
        lifetime: None,
        ..pcp(camera, 554, 1)
    };
    let century = MapRequest {
        lifetime: Some(week * 5000),
        ..pcp(camera, 555, 1)
    };
    let century = MapRequest {
        internal_port: internal(8555),
        ..century
    };

    assert_eq!(home.open(permanent).unwrap().1, Some(week));
    assert_eq!(home.open(century).unwrap().1, Some(week));
}

#[test]
fn m_6_who_is_told_gets_the_least_lifetime_and_the_others_what_they_say() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let second = Some(Duration::from_secs(1));
    let least = Some(Policy::default().min_lease);
    let short = |request| MapRequest {
        lifetime: second,
        ..request
    };
    let natpmp = MapRequest {
        requester: Requester::NatPmp,
        nonce: None,
        ..pcp(camera, 8082, 0)
    };
    for (request, granted) in [
        (pcp(camera, 8080, 1), least),
        (upnp(camera, 8081), second),
        (natpmp, second),
    ] {
        let (mapping, lifetime) = home.open(short(request)).unwrap();
        assert_eq!(lifetime, granted, "{}", mapping.requester.as_str());
    }
    let by_admin = MapRequest {
        subject: Subject::Admin(CAMERA),
        requester: Requester::Cli,
        nonce: None,
        ..pcp(camera, 8083, 0)
    };
    assert_eq!(home.open(short(by_admin)).unwrap().1, second);
}

#[test]
fn mapping_closes_when_its_life_ends() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let (mapping, _) = home.open(pcp(camera, 554, 1)).unwrap();
    assert_eq!(
        home.core.poll_timeout(),
        Some((mapping.expires.unwrap().at, Timer::Expiry))
    );

    home.pass(HOUR - Duration::from_nanos(1));
    assert_eq!(home.core.snapshot().mapping_count(), 1);
    home.pass(Duration::from_nanos(1));

    assert_eq!(home.core.snapshot().mapping_count(), 0);
    assert_eq!(home.core.snapshot().admissions().count(), 0);
    let closed = home
        .core
        .snapshot()
        .recent_changes()
        .last()
        .cloned()
        .unwrap()
        .1;
    assert!(matches!(
        closed,
        Change::MappingClosed {
            reason: CloseReason::Expired,
            ..
        }
    ));
}

#[test]
fn ports_close_when_the_host_leaves() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();

    let release = Request::Release(ReleaseRequest {
        mac: CAMERA,
        addr: camera,
    });
    assert_eq!(home.request(release), Outcome::Granted(Grant::Done));

    assert_eq!(home.core.snapshot().mapping_count(), 0);
    assert_eq!(home.open(pcp(camera, 554, 1)), Err(Refusal::NoLease));
    assert_eq!(home.join(CAMERA, "camera"), camera, "the binding stays");
}

#[test]
fn static_mapping_waits_for_its_host() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let by_admin = MapRequest {
        subject: Subject::Admin(CAMERA),
        requester: Requester::Cli,
        lifetime: None,
        ..pcp(camera, 22, 1)
    };
    let (mapping, lifetime) = home.open(by_admin).unwrap();
    assert_eq!((mapping.external_port.get(), lifetime), (22, None));
    assert_eq!(
        home.close(unmap(camera, Requester::Pcp, 22, Some(1))),
        Err(Refusal::StaticMapping)
    );

    home.pass(LEASE);
    assert_eq!(home.core.snapshot().admissions().count(), 0);
    home.join(CAMERA, "camera");

    assert_eq!(home.core.snapshot().admissions().count(), 1);
}

#[test]
fn refusal_leaves_nothing_to_store() {
    let mut home = Home::with_prefix();

    home.core.handle_request(
        &Request::Map(pcp([192, 168, 64, 9].into(), 554, 1)),
        home.now,
    );

    assert!(home.core.finish(home.now).delta.is_none());
}

#[test]
fn closings_name_what_a_lost_batch_closed() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();
    let before = home.core.clone();
    home.core.handle_request(
        &Request::Unmap(unmap(camera, Requester::Pcp, 554, Some(1))),
        home.now,
    );
    let lost = home.core.finish(home.now);

    home.core = before;
    home.core.close(&lost.closings, home.now);

    assert_eq!(home.core.snapshot().admissions().count(), 0);
}

#[test]
fn facts_are_remembered_for_slow_readers() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let start = home.core.snapshot().revision();
    home.open(pcp(camera, 554, 1)).unwrap();
    let facts = home.core.snapshot().changes_since(start).unwrap();
    assert!(matches!(facts.as_slice(), [(_, Change::MappingOpened(_))]));

    for _ in 0..CHANGES_KEPT {
        home.open(pcp(camera, 554, 1)).unwrap();
    }

    assert_eq!(home.core.snapshot().changes_since(start), None);
    assert_eq!(
        home.core
            .snapshot()
            .changes_since(home.core.snapshot().revision()),
        Some(vec![])
    );
}

struct Home {
    core: Core,
    now: Now,
    /// What each request had stored.
    stored: Vec<Delta>,
}

impl Home {
    fn new() -> Self {
        Self::at(Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap())
    }

    fn with_policy(policy: Policy) -> Self {
        let mut home = Self::with_prefix();
        home.core.snapshot.policy = Arc::new(policy);
        home
    }

    fn at(site: Site) -> Self {
        let now = Now {
            mono: Instant::from_nanos(1_000_000_000_000),
            wall: Wall::from_secs(1_800_000_000),
        };
        let mut core = Core::new(site, Policy::default(), [7; 16], BOOT, now);
        core.finish(now);
        Self {
            core,
            now,
            stored: Vec::new(),
        }
    }

    fn with_prefix() -> Self {
        let mut home = Self::new();
        home.delegate("2001:db8:64::/56", Duration::ZERO);
        home.prefer();
        home
    }

    fn request(&mut self, request: Request) -> Outcome {
        self.core.handle_timeout(self.now);
        let (outcome, _) = self.core.handle_request(&request, self.now);
        self.stored.extend(self.core.finish(self.now).delta);
        outcome
    }

    fn join(&mut self, mac: Mac, name: &str) -> Ipv4Addr {
        let addr = self
            .core
            .snapshot()
            .lease_candidate(mac, |_| false)
            .unwrap();
        let declared_name = Some(name.to_owned());
        let request = LeaseRequest {
            mac,
            addr,
            lifetime: LEASE,
            declared_name,
        };
        let outcome = self.request(Request::Lease(request));
        assert!(
            matches!(outcome, Outcome::Granted(Grant::Leased(_))),
            "{outcome:?}"
        );
        addr
    }

    fn prolong(&mut self, mac: Mac, addr: Ipv4Addr) {
        let request = LeaseRequest {
            mac,
            addr,
            lifetime: LEASE * 1000,
            declared_name: Some("x".to_owned()),
        };
        self.request(Request::Lease(request));
    }

    #[track_caller]
    fn open(&mut self, request: MapRequest) -> Result<(Arc<Mapping>, Option<Duration>), Refusal> {
        match self.request(Request::Map(request)) {
            Outcome::Granted(Grant::Mapped {
                mapping, lifetime, ..
            }) => Ok((mapping, lifetime)),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn close(&mut self, request: UnmapRequest) -> Result<usize, Refusal> {
        match self.request(Request::Unmap(request)) {
            Outcome::Granted(Grant::Unmapped(count)) => Ok(count),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn delegate(&mut self, prefix: &str, old_valid: Duration) {
        let request = PrefixRequest {
            delegated: prefix.parse().unwrap(),
            nsp: None,
            old_valid,
        };
        let outcome = self.request(Request::Prefix(request));
        assert!(
            matches!(outcome, Outcome::Granted(Grant::Prefixed(_))),
            "{outcome:?}"
        );
    }

    fn prefer(&mut self) {
        let id = self.core.snapshot().to_prefer().unwrap().id;
        self.request(Request::Prefer(id));
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now {
            mono: self.now.mono + time,
            wall: self.now.wall + time,
        };
        self.core.handle_timeout(self.now);
        self.core.finish(self.now);
    }

    fn address(&self, server: Ipv4Addr) -> std::net::Ipv6Addr {
        self.core.snapshot().external_address(server).unwrap()
    }

    fn image(&self) -> Image {
        let snapshot = self.core.snapshot();
        let anchors: Vec<_> = snapshot.anchors.values().copied().collect();
        Image {
            hosts: snapshot.hosts().map(|host| Host::clone(host)).collect(),
            mappings: snapshot
                .mappings()
                .map(|mapping| Mapping::clone(mapping))
                .collect(),
            generations: snapshot.generations().copied().collect(),
            permissions: snapshot.permissions().copied().collect(),
            pinholes: snapshot.pinholes().map(|it| Pinhole::clone(it)).collect(),
            waiting: snapshot.waiting().map(|it| Waiting::clone(it)).collect(),
            meta: self.core.meta(anchors[0]),
            anchors,
            policy: snapshot.policy().clone(),
            key: self.core.key(),
        }
    }

    fn restart(&self, boot: BootId) -> Core {
        let site = self.core.snapshot().site().clone();
        Core::restore(site, self.image(), boot, self.now).unwrap()
    }
}

fn pcp(addr: Ipv4Addr, port: u16, nonce: u8) -> MapRequest {
    MapRequest {
        subject: Subject::Client(Client {
            addr: addr.into(),
            mac: None,
        }),
        requester: Requester::Pcp,
        protocol: Protocol::Tcp,
        internal_port: internal(port),
        external: External::Suggested(None),
        lifetime: Some(HOUR),
        nonce: Some(MappingNonce([nonce; 12])),
        via: Via::Both,
        peer: false,
        filters: FilterChange::default(),
        description: None,
        memo: None,
    }
}

fn upnp(addr: Ipv4Addr, port: u16) -> MapRequest {
    MapRequest {
        requester: Requester::Upnp,
        external: External::Exact(external(port)),
        nonce: None,
        ..pcp(addr, port, 0)
    }
}

fn unmap(addr: Ipv4Addr, requester: Requester, port: u16, nonce: Option<u8>) -> UnmapRequest {
    let nonce = nonce.map(|nonce| MappingNonce([nonce; 12]));
    UnmapRequest {
        subject: Subject::Client(Client {
            addr: addr.into(),
            mac: None,
        }),
        requester,
        target: UnmapTarget::Internal(Protocol::Tcp, internal(port), nonce),
    }
}

fn internal(port: u16) -> InternalPort {
    InternalPort::new(port).unwrap()
}

fn external(port: u16) -> ExternalPort {
    ExternalPort::new(port).unwrap()
}

const BOOT: BootId = BootId([1; 16]);
const CAMERA: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NAS: Mac = Mac([2, 0, 0, 0, 0, 2]);
const HOUR: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(86_400);
