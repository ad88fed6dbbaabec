//! The core against a model that is too simple to be wrong: lists instead of indexes, one rule
//! after the other.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use mapping::{
    Access, Anchor, BootId, BootNumber, Carriers, Client, ClosePinholeRequest, Core, DecideRequest,
    Decision, Delta, External, ExternalPort, FilterChange, Gates, Generation, GenerationId, Grant,
    Host, HostPolicyRequest, Image, Instant, InternalPort, LeaseRequest, Mac, MapRequest,
    MapSetRequest, Mapping, MappingId, MappingNonce, Meta, Now, Outcome, Permission, Pinhole,
    PinholeId, PinholeRequest, PinholeTarget, PinholeTuple, Policy, PortClass, PrefixRequest,
    Protocol, Refusal, ReleaseRequest, RemoteFilter, Request, Requester, Revision, Site, Subject,
    UnmapRequest, UnmapTarget, Via, Waiting, Wall,
};
use proptest::prelude::*;

use reference::{Filters, HostPolicy, LEAST, MOST, Model, No, QUOTA, Wanted, Wish};
use step::{Step, step};

#[path = "model/compare.rs"]
mod compare;
#[path = "model/reference.rs"]
mod reference;
#[path = "model/step.rs"]
mod step;

proptest! {
    #[test]
    fn core_agrees_with_the_model(steps in proptest::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in steps {
            run.take(&step);
        }
    }

    #[test]
    fn same_steps_give_the_same_state(steps in proptest::collection::vec(step(), 1..40)) {
        let transcript = |steps: &[Step]| {
            let mut run = Run::new();
            steps.iter().for_each(|step| run.take(step));
            format!("{:?}", run.core.snapshot())
        };

        prop_assert_eq!(transcript(&steps), transcript(&steps));
    }
}

/// What a store holds.
#[derive(Default)]
struct Stored {
    hosts: BTreeMap<Mac, Arc<Host>>,
    mappings: BTreeMap<MappingId, Arc<Mapping>>,
    generations: BTreeMap<GenerationId, Generation>,
    permissions: BTreeMap<(Mac, Protocol, InternalPort), Permission>,
    pinholes: BTreeMap<PinholeId, Arc<Pinhole>>,
    waiting: BTreeMap<MappingId, Arc<Waiting>>,
    anchors: BTreeMap<BootNumber, Anchor>,
    meta: Option<Meta>,
}

impl Stored {
    fn apply(&mut self, delta: &Delta) {
        put(&mut self.hosts, &delta.hosts);
        put(&mut self.mappings, &delta.mappings);
        for (id, renewed) in &delta.renewals {
            let row = self.mappings.get_mut(id).unwrap();
            *row = Arc::new(Mapping {
                expires: renewed.expires,
                memo: renewed.memo.clone(),
                ..Mapping::clone(row)
            });
        }
        put(&mut self.generations, &delta.generations);
        put(&mut self.permissions, &delta.permissions);
        put(&mut self.pinholes, &delta.pinholes);
        put(&mut self.waiting, &delta.waiting);
        self.anchors
            .insert(delta.meta.anchor.boot, delta.meta.anchor);
        self.meta = Some(delta.meta);
    }

    fn image(&self) -> Image {
        Image {
            hosts: self.hosts.values().map(|it| Host::clone(it)).collect(),
            mappings: self
                .mappings
                .values()
                .map(|it| Mapping::clone(it))
                .collect(),
            generations: self.generations.values().copied().collect(),
            permissions: self.permissions.values().copied().collect(),
            pinholes: self
                .pinholes
                .values()
                .map(|it| Pinhole::clone(it))
                .collect(),
            waiting: self.waiting.values().map(|it| Waiting::clone(it)).collect(),
            meta: self.meta.unwrap(),
            anchors: self.anchors.values().copied().collect(),
            policy: policy(),
            key: [3; 16],
        }
    }
}

fn put<K: Ord + Copy, V: Clone>(rows: &mut BTreeMap<K, V>, changes: &BTreeMap<K, Option<V>>) {
    for (key, row) in changes {
        rows.remove(key);
        rows.extend(row.iter().map(|row| (*key, row.clone())));
    }
}

struct Run {
    core: Core,
    model: Model,
    stored: Stored,
    start: Now,
}

impl Run {
    fn new() -> Self {
        let start = Now {
            mono: Instant::from_nanos(5),
            wall: Wall::from_secs(1_800_000_000),
        };
        let mut run = Self {
            core: Core::new(site(), policy(), [3; 16], BootId([1; 16]), start),
            model: Model::default(),
            stored: Stored::default(),
            start,
        };
        run.finish();
        run
    }

    fn take(&mut self, step: &Step) {
        let before = self.core.snapshot().clone();
        match step {
            Step::Carry(ipv4, pinholes) => self.carry(*ipv4, *pinholes),
            Step::Close { host, port, nonce } => self.close(*host, *port, *nonce),
            Step::Decide(at, what) => self.decide(*at, *what),
            Step::Delegate(number) => self.delegate(*number),
            Step::Forget { host, port } => self.forget(*host, *port),
            Step::Join(host) => self.join(*host),
            Step::Leave(host) => self.leave(*host),
            Step::Open(wish) => self.open(wish),
            Step::OpenSet(wish, size) => self.open_set(wish, *size),
            Step::Pass(seconds) => {
                self.model.pass(*seconds);
                self.core.handle_timeout(self.now());
            }
            Step::Pierce(wish) => self.pierce(wish),
            Step::Restart => self.restart(),
            Step::Rule(host, policy) => self.rule(*host, *policy),
            Step::Unpierce { host, port, nonce } => self.unpierce(*host, *port, *nonce),
        }
        let (gates, stored) = self.finish();
        self.compare();
        if !matches!(step, Step::Restart) {
            self.check_batch(&before, gates, stored);
        }
    }

    fn finish(&mut self) -> (Gates, bool) {
        let batch = self.core.finish(self.now());
        if let Some(delta) = &batch.delta {
            self.stored.apply(delta);
        }
        (batch.gates, batch.delta.is_some())
    }

    fn join(&mut self, host: u8) {
        let lease = LeaseRequest {
            mac: mac(host),
            addr: self.addr(host),
            lifetime: Duration::from_secs(LEASE),
            declared_name: Some("box".to_owned()),
        };
        let outcome = self.request(&Request::Lease(lease));
        assert!(matches!(outcome, Outcome::Granted(Grant::Leased(_))));
        self.model.leases.insert(host, self.model.now + LEASE);
        self.model.known.insert(host);
    }

    fn leave(&mut self, host: u8) {
        let release = ReleaseRequest {
            mac: mac(host),
            addr: self.addr(host),
        };
        let here = self.model.leave(host);
        let outcome = self.request(&Request::Release(release));
        assert_eq!(outcome == Outcome::Granted(Grant::Done), here);
    }

    fn open(&mut self, wish: &Wish) {
        let expected = self.model.map(wish).map(|open| open.id);
        let got = match self.request(&Request::Map(self.map_request(wish))) {
            Outcome::Granted(Grant::Mapped { mapping, .. }) => Ok(mapping.id.0),
            outcome => Err(no(&outcome)),
        };
        assert_eq!(got, expected);
    }

    fn open_set(&mut self, wish: &Wish, size: u16) {
        let expected = self.model.map_set(wish, size);
        let request = Request::MapSet(MapSetRequest {
            first: self.map_request(wish),
            size: NonZeroU16::new(size).unwrap(),
            parity: false,
        });
        let got = match self.request(&request) {
            Outcome::Granted(Grant::MappedSet { first, size, .. }) => Ok((first.id.0, size.get())),
            outcome => Err(no(&outcome)),
        };
        assert_eq!(got, expected.map(|(first, size)| (first.id, size)));
    }

    fn map_request(&self, wish: &Wish) -> MapRequest {
        let external = |port| ExternalPort::new(port).unwrap();
        MapRequest {
            subject: self.client(wish.host),
            requester: requester(wish.nonce, Requester::Upnp),
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(wish.internal).unwrap(),
            external: match wish.wanted {
                Wanted::Any(port) => External::Any(external(port)),
                Wanted::Exact(port) => External::Exact(external(port)),
                Wanted::Required(port) => External::Required(external(port)),
                Wanted::Suggested(port) => External::Suggested(port.map(external)),
            },
            lifetime: wish.seconds.map(Duration::from_secs),
            nonce: nonce_of(wish.nonce),
            via: wish.via,
            peer: false,
            filters: FilterChange {
                clear: wish.filters.clear,
                add: filters(&wish.filters.add),
            },
            description: None,
            memo: None,
        }
    }

    fn close(&mut self, host: u8, port: u16, nonce: Option<u8>) {
        let port = InternalPort::new(port).unwrap();
        let request = UnmapRequest {
            subject: self.client(host),
            requester: requester(nonce, Requester::NatPmp),
            target: UnmapTarget::Internal(Protocol::Tcp, port, nonce_of(nonce)),
        };
        let expected = self.model.unmap(host, port.get(), nonce);
        let outcome = self.request(&Request::Unmap(request));
        assert_eq!(matches!(outcome, Outcome::Granted(_)), expected);
    }

    fn decide(&mut self, at: usize, what: Option<Option<u64>>) {
        let waiting = self.model.waiting.iter().map(|waiting| waiting.id);
        let open = self.model.open.iter().map(|open| open.id);
        let ids: Vec<u64> = waiting.chain(open).chain([9999]).collect();
        let id = ids[at % ids.len()];
        let decision = match what {
            Some(lasts) => Decision::Allow(lasts.map(Duration::from_secs)),
            None => Decision::Deny,
        };
        let expected = match what {
            Some(lasts) => self.model.allow(id, lasts).is_ok(),
            None => self.model.deny(id),
        };
        let outcome = self.request(&Request::Decide(DecideRequest {
            id: MappingId(id),
            requester: Requester::Cli,
            decision,
        }));
        assert_eq!(matches!(outcome, Outcome::Granted(_)), expected);
    }

    fn forget(&mut self, host: u8, port: u16) {
        let expected = self.model.forget(host, port);
        let outcome = self.request(&Request::ForgetPermission {
            host: mac(host),
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(port).unwrap(),
            requester: Requester::Cli,
        });
        assert_eq!(outcome == Outcome::Granted(Grant::Done), expected);
    }

    fn rule(&mut self, host: u8, policy: Option<HostPolicy>) {
        let now = self.model.now;
        let own = policy.map(|policy| HostPolicy {
            until: policy.until.map(|lasts| now + lasts),
            ..policy
        });
        let expected = self.model.rule(host, own);
        let outcome = self.request(&Request::HostPolicy(HostPolicyRequest {
            host: mac(host),
            requester: Requester::Cli,
            access: policy.map(|policy| policy.access),
            ports: policy.and_then(|policy| policy.ports),
            quota: policy.and_then(|policy| policy.quota),
            lasts: policy.and_then(|policy| policy.until.map(Duration::from_secs)),
        }));
        assert_eq!(outcome == Outcome::Granted(Grant::Done), expected);
    }

    fn pierce(&mut self, wish: &Wish) {
        let expected = self.model.pierce(wish);
        let request = PinholeRequest {
            subject: by_ipv6(wish.host),
            requester: requester(wish.nonce, Requester::Upnp),
            tuple: tuple(wish.host, wish.internal),
            filters: FilterChange {
                clear: wish.filters.clear,
                add: filters(&wish.filters.add),
            },
            lifetime: Duration::from_secs(wish.seconds.unwrap()),
            nonce: nonce_of(wish.nonce),
            description: None,
        };
        let got = match self.request(&Request::Pinhole(request)) {
            Outcome::Granted(Grant::Pinholed { pinhole, .. }) => Ok(pinhole.id.0),
            outcome => Err(no(&outcome)),
        };
        assert_eq!(got, expected);
    }

    fn unpierce(&mut self, host: u8, port: u16, nonce: Option<u8>) {
        let expected = self.model.unpierce(host, port, nonce);
        let outcome = self.request(&Request::ClosePinhole(ClosePinholeRequest {
            subject: by_ipv6(host),
            requester: requester(nonce, Requester::Upnp),
            target: PinholeTarget::Tuple(tuple(host, port), nonce_of(nonce)),
        }));
        assert_eq!(matches!(outcome, Outcome::Granted(_)), expected);
    }

    fn carry(&mut self, ipv4: bool, pinholes: bool) {
        self.model.carried = ipv4;
        self.model.pierced = pinholes;
        self.request(&Request::Carriers(Carriers {
            ipv4: ipv4.then_some(Ipv4Addr::new(203, 0, 113, 5)),
            pinholes,
        }));
    }

    /// The program ends and finds what is stored.
    fn restart(&mut self) {
        let boot = BootId([1; 16]);
        self.core = Core::restore(site(), self.stored.image(), boot, self.now()).unwrap();
        self.model.carried = false;
        self.model.pierced = false;
        self.model.kept.clear();
    }

    fn delegate(&mut self, number: u8) {
        let prefix = PrefixRequest {
            delegated: format!("2001:db8:{number}00::/56").parse().unwrap(),
            nsp: None,
            old_valid: Duration::from_secs(100),
        };
        self.request(&Request::Prefix(prefix));
        if let Some(id) = self.core.snapshot().to_prefer().map(|newest| newest.id) {
            self.request(&Request::Prefer(id));
        }
        self.model.delegated = true;
    }

    fn request(&mut self, request: &Request) -> Outcome {
        self.core.handle_request(request, self.now()).0
    }

    fn client(&self, host: u8) -> Subject {
        Subject::Client(Client {
            addr: self.addr(host).into(),
            mac: None,
        })
    }

    fn addr(&self, host: u8) -> Ipv4Addr {
        self.core
            .snapshot()
            .lease_candidate(mac(host), |_| false)
            .unwrap()
    }

    fn now(&self) -> Now {
        let run = Duration::from_secs(self.model.now);
        Now {
            mono: self.start.mono + run,
            wall: self.start.wall + run,
        }
    }
}

fn no(outcome: &Outcome) -> No {
    match outcome {
        Outcome::Refused(Refusal::Waiting) => No::Waits,
        Outcome::Refused(Refusal::Unavailable) | Outcome::Granted(_) => panic!("{outcome:?}"),
        Outcome::Refused(_) => No::Refused,
    }
}

const fn requester(nonce: Option<u8>, other: Requester) -> Requester {
    match nonce {
        Some(_) => Requester::Pcp,
        None => other,
    }
}

fn nonce_of(nonce: Option<u8>) -> Option<MappingNonce> {
    nonce.map(|nonce| MappingNonce([nonce; 12]))
}

fn filters(numbers: &[u8]) -> Vec<RemoteFilter> {
    let filter = |number: &u8| RemoteFilter {
        prefix: format!("2001:db8:{number}::/48").parse().unwrap(),
        port: None,
    };
    numbers.iter().map(filter).collect()
}

fn site() -> Site {
    Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap()
}

fn policy() -> Policy {
    Policy {
        min_lease: Duration::from_secs(LEAST),
        max_lease: Duration::from_secs(MOST),
        max_per_device: QUOTA,
        ..Policy::default()
    }
}

fn tuple(host: u8, port: u16) -> PinholeTuple {
    PinholeTuple {
        addr: own(host),
        protocol: Protocol::Tcp,
        port: InternalPort::new(port).unwrap(),
        remote: None,
    }
}

fn by_ipv6(host: u8) -> Subject {
    Subject::Client(Client {
        addr: own(host).into(),
        mac: Some(mac(host)),
    })
}

fn own(host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, host.into())
}

const fn mac(host: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, host])
}

const fn number(mac: Mac) -> u8 {
    mac.0[5]
}

const LEASE: u64 = 1000;
