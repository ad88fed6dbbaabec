//! The core against a model that is too simple to be wrong: lists instead of indexes, one rule
//! after the other.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use mapping::{
    BootId, Client, Core, External, ExternalPort, Gates, Grant, Instant, InternalPort,
    LeaseRequest, Mac, MapRequest, MappingNonce, Now, Outcome, Policy, PrefixRequest, Protocol,
    Refusal, ReleaseRequest, Request, Requester, Revision, Site, Subject, UnmapRequest,
    UnmapTarget, Wall,
};
use proptest::prelude::*;

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

#[derive(Debug, Clone)]
enum Step {
    Join(u8),
    Leave(u8),
    Open {
        host: u8,
        port: u16,
        wanted: Wanted,
        seconds: u64,
        nonce: Option<u8>,
    },
    Close {
        host: u8,
        port: u16,
        nonce: Option<u8>,
    },
    Pass(u64),
    Delegate(u8),
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Exact(u16),
    Nothing,
    Suggested(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let host = 0..4_u8;
    let port = prop_oneof![Just(443_u16), Just(22), Just(5351), 8000..8004_u16];
    let nonce = proptest::option::of(0..2_u8);
    let wanted = prop_oneof![
        Just(Wanted::Nothing),
        port.clone().prop_map(Wanted::Suggested),
        port.clone().prop_map(Wanted::Exact),
    ];
    prop_oneof![
        3 => host.clone().prop_map(Step::Join),
        1 => host.clone().prop_map(Step::Leave),
        8 => (host.clone(), port.clone(), wanted, 1..500_u64, nonce.clone()).prop_map(
            |(host, port, wanted, seconds, nonce)| Step::Open { host, port, wanted, seconds, nonce }
        ),
        3 => (host, port, nonce).prop_map(|(host, port, nonce)| Step::Close { host, port, nonce }),
        2 => (1..400_u64).prop_map(Step::Pass),
        1 => (0..3_u8).prop_map(Step::Delegate),
    ]
}

/// What the model knows of a mapping.
#[derive(Debug, Clone, PartialEq)]
struct Open {
    host: u8,
    internal: u16,
    external: u16,
    nonce: Option<u8>,
    ends: u64,
}

#[derive(Debug, Default)]
struct Model {
    /// When the lease of a host that is here ends.
    leases: BTreeMap<u8, u64>,
    open: Vec<Open>,
    delegated: bool,
    now: u64,
}

impl Model {
    fn allows(port: u16) -> bool {
        port == 443 || (port >= 1024 && port != 5351)
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        let now = self.now;
        self.leases.retain(|_, ends| *ends > now);
        self.open.retain(|open| open.ends > now);
        let here: BTreeSet<_> = self.leases.keys().copied().collect();
        self.open.retain(|open| here.contains(&open.host));
    }

    /// Returns the external port, or nothing if the request must be refused.
    fn open(&mut self, wish: Open, wanted: Wanted) -> Option<u16> {
        if !self.leases.contains_key(&wish.host) || !self.delegated || !Self::allows(wish.internal)
        {
            return None;
        }
        let mut same: Vec<_> = self
            .open
            .iter()
            .enumerate()
            .filter(|(_, open)| open.host == wish.host && open.internal == wish.internal)
            .filter(|(_, open)| match wanted {
                Wanted::Exact(port) => open.external == port,
                Wanted::Nothing | Wanted::Suggested(_) => true,
            })
            .map(|(index, open)| (index, open.clone()))
            .collect();
        let first = |open: &Open| match wanted {
            Wanted::Suggested(port) => (open.external != port, open.external != open.internal),
            Wanted::Nothing | Wanted::Exact(_) => (true, open.external != open.internal),
        };
        same.sort_by_key(|(_, open)| first(open));
        if let Some((index, old)) = same.first() {
            return self.renew(*index, old, &wish);
        }
        let holder = |opens: &[Open], port| {
            opens
                .iter()
                .position(|open| open.host == wish.host && open.external == port)
        };
        let external = match wanted {
            Wanted::Exact(port) => {
                if !Self::allows(port) {
                    return None;
                }
                if let Some(index) = holder(&self.open, port) {
                    let guard = self.open[index].nonce;
                    if guard.is_some() && guard != wish.nonce {
                        return None;
                    }
                    self.open.remove(index);
                }
                port
            }
            Wanted::Nothing => wish.internal,
            Wanted::Suggested(port) => port,
        };
        let free = |port: &u16| Self::allows(*port) && holder(&self.open, *port).is_none();
        let external = match wanted {
            Wanted::Exact(_) => external,
            Wanted::Nothing | Wanted::Suggested(_) => [external, wish.internal]
                .into_iter()
                .chain(external.max(1024)..=u16::MAX)
                .chain(1024..external)
                .find(free)?,
        };
        self.open.push(Open { external, ..wish });
        Some(external)
    }

    fn renew(&mut self, index: usize, old: &Open, wish: &Open) -> Option<u16> {
        if old.nonce.is_some() && wish.nonce.is_some() && old.nonce != wish.nonce {
            return None;
        }
        let guarded = old.nonce.is_some() && wish.nonce.is_none();
        let open = &mut self.open[index];
        open.ends = if guarded {
            old.ends.max(wish.ends)
        } else {
            wish.ends
        };
        if !guarded {
            open.nonce = wish.nonce;
        }
        Some(old.external)
    }

    /// Returns whether the deletion must be granted.
    fn close(&mut self, host: u8, port: u16, nonce: Option<u8>) -> bool {
        if !self.leases.contains_key(&host) {
            return false;
        }
        let mut all = true;
        self.open.retain(|open| {
            let hit = open.host == host && open.internal == port;
            let may = open.nonce.is_none() || open.nonce == nonce;
            all &= !hit || may;
            !(hit && may)
        });
        all
    }
}

struct Run {
    core: Core,
    model: Model,
    start: Now,
}

impl Run {
    fn new() -> Self {
        let start = Now {
            mono: Instant::from_nanos(5),
            wall: Wall::from_secs(1_800_000_000),
        };
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
        let core = Core::new(site, Policy::default(), [3; 16], BootId([1; 16]), start);
        Self {
            core,
            model: Model::default(),
            start,
        }
    }

    fn take(&mut self, step: &Step) {
        let before = self.core.snapshot().clone();
        match step {
            Step::Join(host) => self.join(*host),
            Step::Leave(host) => self.leave(*host),
            Step::Open {
                host,
                port,
                wanted,
                seconds,
                nonce,
            } => {
                self.open(*host, *port, *wanted, *seconds, *nonce);
            }
            Step::Close { host, port, nonce } => self.close(*host, *port, *nonce),
            Step::Pass(seconds) => {
                self.model.pass(*seconds);
                self.core.handle_timeout(self.now());
            }
            Step::Delegate(number) => self.delegate(*number),
        }
        let batch = self.core.finish(self.now());
        self.compare();
        self.check_batch(&before, batch.gates, batch.delta.is_some());
    }

    /// What the model and the core say is open is the same, and every index agrees.
    fn compare(&self) {
        let snapshot = self.core.snapshot();
        let expected: BTreeSet<_> = self
            .model
            .open
            .iter()
            .map(|open| (self.addr(open.host), open.external, open.internal))
            .collect();
        let admitted: BTreeSet<_> = snapshot
            .admissions()
            .map(|(server, _, external, rule)| (server, external.get(), rule.internal.get()))
            .collect();
        let listed: BTreeSet<_> = snapshot
            .mappings()
            .map(|open| {
                (
                    open.server,
                    open.external_port.get(),
                    open.internal_port.get(),
                )
            })
            .collect();
        assert_eq!(admitted, expected);
        assert_eq!(listed, expected);
        for mapping in snapshot.mappings() {
            let left = snapshot
                .remaining(mapping.expires.unwrap(), self.now())
                .as_secs();
            let open = self.model.open.iter().find(|open| {
                self.addr(open.host) == mapping.server
                    && open.external == mapping.external_port.get()
            });
            assert_eq!(open.unwrap().ends - self.model.now, left);
            let (server, protocol) = (mapping.server, mapping.protocol);
            let found = snapshot.mapping_by_external(server, protocol, mapping.external_port);
            assert_eq!(found.unwrap().id, mapping.id);
        }
        let names: BTreeSet<_> = snapshot.hosts().map(|host| host.name.clone()).collect();
        let addrs: BTreeSet<_> = snapshot.hosts().map(|host| host.addr).collect();
        assert_eq!(
            (names.len(), addrs.len()),
            (snapshot.hosts().count(), snapshot.hosts().count())
        );
        assert!(
            snapshot
                .generations()
                .filter(|generation| generation.preferred)
                .count()
                <= 1
        );
    }

    /// A revision is one step, and a gate is touched exactly if what it guards changed.
    fn check_batch(&self, before: &mapping::Snapshot, gates: Gates, stored: bool) {
        let after = self.core.snapshot();
        let step = Revision(before.revision().0 + u64::from(stored));
        assert_eq!(after.revision(), step);
        let moved = !after.admission_changes(before).is_empty();
        assert!(!moved || gates.packets);
        assert_eq!(
            gates.names,
            after.counters().serial != before.counters().serial
        );
    }

    fn join(&mut self, host: u8) {
        let addr = self.addr(host);
        let lease = LeaseRequest {
            mac: mac(host),
            addr,
            lifetime: Duration::from_secs(LEASE),
            declared_name: Some("box".to_owned()),
        };
        let outcome = self.request(&Request::Lease(lease));
        assert!(matches!(outcome, Outcome::Granted(Grant::Leased(_))));
        self.model.leases.insert(host, self.model.now + LEASE);
    }

    fn leave(&mut self, host: u8) {
        let release = ReleaseRequest {
            mac: mac(host),
            addr: self.addr(host),
        };
        let here = self.model.leases.remove(&host).is_some();
        self.model.open.retain(|open| open.host != host);
        let outcome = self.request(&Request::Release(release));
        assert_eq!(outcome == Outcome::Granted(Grant::Done), here);
    }

    fn open(&mut self, host: u8, port: u16, wanted: Wanted, seconds: u64, nonce: Option<u8>) {
        let external = |port| ExternalPort::new(port).unwrap();
        let request = MapRequest {
            subject: self.client(host),
            requester: if nonce.is_some() {
                Requester::Pcp
            } else {
                Requester::Upnp
            },
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(port).unwrap(),
            external: match wanted {
                Wanted::Exact(port) => External::Exact(external(port)),
                Wanted::Nothing => External::Suggested(None),
                Wanted::Suggested(port) => External::Suggested(Some(external(port))),
            },
            lifetime: Some(Duration::from_secs(seconds)),
            nonce: nonce.map(|nonce| MappingNonce([nonce; 12])),
            via: mapping::Via::Both,
            peer: false,
            filters: mapping::FilterChange::default(),
            description: None,
            memo: None,
        };
        let ends = self.model.now + seconds.max(LEAST);
        let wish = Open {
            host,
            internal: port,
            external: 0,
            nonce,
            ends,
        };
        let expected = self.model.open(wish, wanted);
        let got = match self.request(&Request::Map(request)) {
            Outcome::Granted(Grant::Mapped { mapping, .. }) => Some(mapping.external_port.get()),
            Outcome::Granted(_) => panic!("not a mapping"),
            Outcome::Refused(refusal) => {
                assert_ne!(refusal, Refusal::Unavailable);
                None
            }
        };
        assert_eq!(got, expected);
    }

    fn close(&mut self, host: u8, port: u16, nonce: Option<u8>) {
        let nonce_value = nonce.map(|nonce| MappingNonce([nonce; 12]));
        let request = UnmapRequest {
            subject: self.client(host),
            requester: if nonce.is_some() {
                Requester::Pcp
            } else {
                Requester::NatPmp
            },
            target: UnmapTarget::Internal(
                Protocol::Tcp,
                InternalPort::new(port).unwrap(),
                nonce_value,
            ),
        };
        let expected = self.model.close(host, port, nonce);
        let outcome = self.request(&Request::Unmap(request));
        assert_eq!(matches!(outcome, Outcome::Granted(_)), expected);
    }

    fn delegate(&mut self, number: u8) {
        let prefix = PrefixRequest {
            delegated: format!("2001:db8:{number}00::/56").parse().unwrap(),
            nsp: None,
            old_valid: Duration::from_secs(100),
        };
        self.request(&Request::Prefix(prefix));
        if let Some(id) = self
            .core
            .snapshot()
            .to_prefer()
            .map(|generation| generation.id)
        {
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

const fn mac(host: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, host])
}

const LEASE: u64 = 1000;

/// The policy's shortest lifetime.
const LEAST: u64 = 120;
