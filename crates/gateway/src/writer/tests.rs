//! The writer over a disk that fails on purpose, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mapping::{
    Anchor, BootId, BootNumber, Client, Core, Delta, External, ExternalPort, Gate, Generation,
    GenerationId, Grant, Host, Image, Instant, InternalPort, LeaseRequest, Mac, MapRequest,
    Mapping, MappingId, Meta, Now, Outcome, Permission, Pinhole, PinholeId, Policy, PrefixRequest,
    Protocol, Refusal, Request, Requester, Revision, Site, Snapshot, Subject, UnmapRequest,
    UnmapTarget, Waiting, Wall,
};
use store::{AuditReader, Store};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::disk::{Disk, DiskError};
use super::scribe::Time;
use super::{Engine, WriterError};
use crate::start::assemble;
use crate::{Follower, Handle};

mod carriers;
mod clock;
mod crash;
mod decisions;
mod failures;
mod followers;
mod power;

#[tokio::test(start_paused = true)]
async fn what_is_granted_is_on_the_disk() {
    let home = Home::new().await;

    let granted = home.map(1, 8080).await;

    assert!(
        matches!(granted, Outcome::Granted(Grant::Mapped { .. })),
        "{granted:?}"
    );
    assert_eq!(home.disk.ports(), [8080]);
    assert_eq!(home.open_ports(), [8080]);
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_together_are_one_commit() {
    let home = Home::new().await;
    let before = home.disk.commits();

    let requests = (0..20).map(|n| home.map(1, 9000 + n));
    let outcomes = join_all(requests).await;

    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Granted(_)))
    );
    assert_eq!(home.disk.commits() - before, 1);
    assert_eq!(home.count("batched_requests_total", "").await, 25);
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_is_answered_without_a_commit() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    home.unmap(1, 8080).await;
    let before = home.disk.commits();

    let again = home.unmap(1, 8080).await;
    let refused = home.map(1, 445).await;

    assert_eq!(again, Outcome::Granted(Grant::Unmapped(0)));
    assert_eq!(refused, Outcome::Refused(Refusal::PortDenied));
    assert_eq!(home.disk.commits(), before);
    assert_eq!(home.count("requests_total", "port-denied").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_said_at_once() {
    let home = Home::new().await;

    // nothing runs between these polls, so the writer takes none of them
    let outcomes = join_all((0..1100).map(|_| home.map(1, 445))).await;

    let unavailable = Outcome::Refused(Refusal::Unavailable);
    let refused = outcomes
        .iter()
        .filter(|outcome| **outcome == unavailable)
        .count();
    assert_eq!(refused, 1100 - 1024);
    assert_eq!(home.count("queue_full_total", "").await, 76);
}

#[tokio::test(start_paused = true)]
async fn the_end_answers_what_waits_and_writes_the_clocks() {
    let home = Home::new().await;
    let pending = tokio::spawn({
        let handle = home.handle.clone();
        async move { handle.request(map_request(addr(1), 8080)).await }
    });
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let now = home.time.now();

    let disk = home.disk.clone();
    let handle = home.handle.clone();
    home.stop().await.unwrap();

    assert!(matches!(pending.await.unwrap(), Outcome::Granted(_)));
    assert_eq!(disk.image().meta.anchor.mono, now.mono);
    assert_eq!(
        handle.request(map_request(addr(1), 8081)).await,
        Outcome::Refused(Refusal::Unavailable)
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_counts_and_keeps_the_rest() {
    let home = Home::new().await;
    home.map(1, 8080).await;
    let before = home.handle.snapshot();
    let (disk, time) = (home.disk.clone(), home.time.clone());
    home.stop().await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;

    let home = Home::again(disk, time, BootId([1; 16])).await;

    let after = home.handle.snapshot();
    assert_eq!(home.open_ports(), [8080]);
    assert!(after.revision() > before.revision());
    assert_eq!(
        after.counters().upnp_boot_id,
        before.counters().upnp_boot_id + 1
    );
    assert!(after.pcp_epoch(home.time.now()) >= 20);
}

/// A gateway with three hosts and a prefix, on a disk of its own.
struct Home {
    handle: Handle,
    disk: FakeDisk,
    time: FakeTime,
    cancel: CancellationToken,
    running: JoinHandle<Result<(), WriterError>>,
}

impl Home {
    async fn new() -> Self {
        let time = FakeTime::new();
        let core = Core::new(
            site(),
            Policy::default(),
            [7; 16],
            BootId([1; 16]),
            time.now(),
        );
        let home = Self::of(FakeDisk::new(core.key()), core, time).await;
        let delegated = "2001:db8:64::/56".parse().unwrap();
        let prefix = PrefixRequest {
            delegated,
            nsp: None,
            old_valid: Duration::from_secs(30),
        };
        let granted = home.handle.request(Request::Prefix(prefix)).await;
        assert!(matches!(granted, Outcome::Granted(_)), "{granted:?}");
        let leases = join_all((1..=3).map(|n| home.lease(n, DAY))).await;
        assert!(
            leases
                .iter()
                .all(|outcome| matches!(outcome, Outcome::Granted(_))),
            "{leases:?}"
        );
        home
    }

    /// The same home after a restart.
    async fn again(disk: FakeDisk, time: FakeTime, boot_id: BootId) -> Self {
        let mut core = Core::restore(site(), disk.image(), boot_id, time.now()).unwrap();
        core.handle_start();
        Self::of(disk, core, time).await
    }

    async fn of(disk: FakeDisk, core: Core, time: FakeTime) -> Self {
        let (handle, engine) = engine(disk.clone(), core, &time).await;
        let cancel = CancellationToken::new();
        let running = tokio::spawn(engine.run(cancel.clone()));
        Self {
            handle,
            disk,
            time,
            cancel,
            running,
        }
    }

    async fn stop(self) -> Result<(), WriterError> {
        self.cancel.cancel();
        self.running.await.unwrap()
    }

    async fn map(&self, n: u8, port: u16) -> Outcome {
        self.handle.request(map_request(addr(n), port)).await
    }

    async fn unmap(&self, n: u8, port: u16) -> Outcome {
        let port = InternalPort::new(port).unwrap();
        let request = UnmapRequest {
            subject: Subject::Client(Client {
                addr: addr(n).into(),
                mac: None,
            }),
            requester: Requester::NatPmp,
            target: UnmapTarget::Internal(Protocol::Tcp, port, None),
        };
        self.handle.request(Request::Unmap(request)).await
    }

    async fn lease(&self, n: u8, lifetime: Duration) -> Outcome {
        let lease = LeaseRequest {
            mac: mac(n),
            addr: addr(n),
            lifetime,
            declared_name: None,
        };
        self.handle.request(Request::Lease(lease)).await
    }

    fn open_ports(&self) -> Vec<u16> {
        ports(&self.handle.snapshot())
    }

    async fn count(&self, name: &str, reason: &str) -> u64 {
        let counts = self.handle.observer().counters().await;
        let found = counts
            .iter()
            .find(|count| count.name == name && count.reason == reason);
        found.unwrap().value
    }

    /// Registers a follower that applies everything at once.
    fn quick_follower(&self, gate: Gate) -> JoinHandle<()> {
        let mut follower = self.handle.follower("quick", gate);
        tokio::spawn(async move {
            while let Some(snapshot) = follower.changed().await {
                follower.applied(snapshot.revision());
            }
        })
    }

    fn follower(&self, gate: Gate) -> Follower {
        let follower = self.handle.follower("slow", gate);
        follower.applied(self.handle.snapshot().revision());
        follower
    }
}

async fn engine(disk: FakeDisk, core: Core, time: &FakeTime) -> (Handle, Engine<FakeDisk>) {
    let audit = AUDIT.get_or_init(no_audit).await.clone();
    let telling = time.clone();
    let time = Time {
        now: Box::new(move || telling.now()),
        nap: Box::new(|time| Box::pin(tokio::time::sleep(time))),
    };
    assemble(disk, core, audit, net::Clock::new(), time).await
}

/// A reader that nobody reads from.
async fn no_audit() -> AuditReader {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path()).await.unwrap().audit()
}

static AUDIT: OnceCell<AuditReader> = OnceCell::const_new();

/// Virtual clocks: both run with tokio's, and can be set.
#[derive(Clone)]
struct FakeTime {
    begun: tokio::time::Instant,
    /// What the boot's clock showed at the beginning, and the wall clock.
    shown: Arc<Mutex<(u64, u64)>>,
}

impl FakeTime {
    fn new() -> Self {
        let shown = Arc::new(Mutex::new((100 * SECOND, 1_800_000_000 * SECOND)));
        Self {
            begun: tokio::time::Instant::now(),
            shown,
        }
    }

    fn now(&self) -> Now {
        let run = u64::try_from(self.begun.elapsed().as_nanos()).unwrap();
        let (mono, wall) = *self.shown.lock().unwrap();
        Now {
            mono: Instant::from_nanos(mono + run),
            wall: Wall::from_nanos(wall + run),
        }
    }

    /// The machine boots: its clock begins anew, the wall clock shows `wall`.
    fn boot(&self, wall: u64) {
        let run = u64::try_from(self.begun.elapsed().as_nanos()).unwrap();
        // the boot's clock may not be below zero at the beginning of the test
        *self.shown.lock().unwrap() = (SECOND, wall.saturating_mul(SECOND).saturating_sub(run));
    }

    fn set_wall(&self, wall: u64) {
        let run = u64::try_from(self.begun.elapsed().as_nanos()).unwrap();
        self.shown.lock().unwrap().1 = wall.saturating_mul(SECOND).saturating_sub(run);
    }
}

/// What becomes of a commit or a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// An error; nothing reached the disk.
    FailBefore,
    /// An error; everything reached the disk.
    FailAfter,
    /// No answer, for ever.
    Hang,
}

/// A disk in memory.
#[derive(Clone)]
struct FakeDisk(Arc<Mutex<FakeState>>);

struct FakeState {
    hosts: BTreeMap<Mac, Host>,
    mappings: BTreeMap<MappingId, Mapping>,
    generations: BTreeMap<GenerationId, Generation>,
    permissions: BTreeMap<(Mac, Protocol, InternalPort), Permission>,
    pinholes: BTreeMap<PinholeId, Pinhole>,
    waiting: BTreeMap<MappingId, Waiting>,
    anchors: BTreeMap<BootNumber, Anchor>,
    meta: Option<Meta>,
    key: [u8; 16],
    commits: usize,
    /// What becomes of the next ones; afterwards `later`.
    fates: VecDeque<Fate>,
    later: Fate,
    delay: Duration,
}

impl FakeDisk {
    fn new(key: [u8; 16]) -> Self {
        Self(Arc::new(Mutex::new(FakeState {
            hosts: BTreeMap::new(),
            mappings: BTreeMap::new(),
            generations: BTreeMap::new(),
            permissions: BTreeMap::new(),
            pinholes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            anchors: BTreeMap::new(),
            meta: None,
            key,
            commits: 0,
            fates: VecDeque::new(),
            later: Fate::Good,
            delay: Duration::from_micros(500),
        })))
    }

    fn fate(&self, fates: &[Fate], later: Fate) {
        let mut state = self.0.lock().unwrap();
        state.fates = fates.iter().copied().collect();
        state.later = later;
    }

    fn commits(&self) -> usize {
        self.0.lock().unwrap().commits
    }

    fn ports(&self) -> Vec<u16> {
        let state = self.0.lock().unwrap();
        state
            .mappings
            .values()
            .map(|mapping| mapping.external_port.get())
            .collect()
    }

    fn image(&self) -> Image {
        let state = self.0.lock().unwrap();
        Image {
            hosts: state.hosts.values().cloned().collect(),
            mappings: state.mappings.values().cloned().collect(),
            generations: state.generations.values().copied().collect(),
            permissions: state.permissions.values().copied().collect(),
            pinholes: state.pinholes.values().cloned().collect(),
            waiting: state.waiting.values().cloned().collect(),
            meta: state.meta.unwrap(),
            anchors: state.anchors.values().copied().collect(),
            policy: Policy::default(),
            key: state.key,
        }
    }

    /// Takes time and returns what happens.
    async fn next(&self) -> Fate {
        let delay = self.0.lock().unwrap().delay;
        tokio::time::sleep(delay).await;
        let fate = {
            let mut state = self.0.lock().unwrap();
            let later = state.later;
            state.fates.pop_front().unwrap_or(later)
        };
        if fate == Fate::Hang {
            std::future::pending::<()>().await;
        }
        fate
    }
}

impl FakeState {
    fn apply(&mut self, delta: &Delta) {
        let changed_in = Revision(0);
        for (mac, host) in &delta.hosts {
            self.hosts.remove(mac);
            self.hosts.extend(host.iter().map(|host| {
                (
                    *mac,
                    Host {
                        changed_in,
                        ..Host::clone(host)
                    },
                )
            }));
        }
        for (id, mapping) in &delta.mappings {
            self.mappings.remove(id);
            self.mappings.extend(mapping.iter().map(|row| {
                (
                    *id,
                    Mapping {
                        changed_in,
                        ..Mapping::clone(row)
                    },
                )
            }));
        }
        for (id, renewed) in &delta.renewals {
            let row = self.mappings.get_mut(id).unwrap();
            row.expires = renewed.expires;
            row.memo.clone_from(&renewed.memo);
        }
        for (id, pinhole) in &delta.pinholes {
            self.pinholes.remove(id);
            self.pinholes.extend(pinhole.iter().map(|row| {
                let row = Pinhole {
                    changed_in,
                    ..Pinhole::clone(row)
                };
                (*id, row)
            }));
        }
        put(&mut self.generations, &delta.generations, |row| *row);
        put(&mut self.permissions, &delta.permissions, |row| *row);
        put(&mut self.waiting, &delta.waiting, |row| Waiting::clone(row));
        self.anchors
            .insert(delta.meta.anchor.boot, delta.meta.anchor);
        self.meta = Some(delta.meta);
        self.commits += 1;
    }
}

fn put<K: Ord + Copy, T, V>(
    rows: &mut BTreeMap<K, V>,
    changes: &BTreeMap<K, Option<T>>,
    row: impl Fn(&T) -> V,
) {
    for (key, change) in changes {
        rows.remove(key);
        rows.extend(change.iter().map(|change| (*key, row(change))));
    }
}

impl Disk for FakeDisk {
    async fn commit(&mut self, delta: &Delta) -> Result<(), DiskError> {
        let fate = self.next().await;
        if fate != Fate::FailBefore {
            self.0.lock().unwrap().apply(delta);
        }
        if fate == Fate::Good {
            Ok(())
        } else {
            Err("no space left on the fake disk".into())
        }
    }

    async fn reread(&mut self) -> Result<Image, DiskError> {
        match self.next().await {
            Fate::Good => Ok(self.image()),
            Fate::FailBefore | Fate::FailAfter | Fate::Hang => {
                Err("the fake disk cannot be read".into())
            }
        }
    }

    fn wants_pause(&self) -> bool {
        false
    }

    async fn pause(&mut self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn close(self) -> Result<(), DiskError> {
        Ok(())
    }
}

async fn join_all(futures: impl Iterator<Item = impl Future<Output = Outcome>>) -> Vec<Outcome> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut outcomes: Vec<Option<Outcome>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, outcome) in waiting.iter_mut().zip(&mut outcomes) {
            if outcome.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *outcome = Some(ready);
            }
        }
        match outcomes.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    outcomes.into_iter().flatten().collect()
}

fn map_request(addr: Ipv4Addr, port: u16) -> Request {
    Request::Map(MapRequest {
        subject: Subject::Client(Client {
            addr: addr.into(),
            mac: None,
        }),
        requester: Requester::NatPmp,
        protocol: Protocol::Tcp,
        internal_port: InternalPort::new(port).unwrap(),
        external: External::Required(ExternalPort::new(port).unwrap()),
        lifetime: Some(Duration::from_secs(3600)),
        nonce: None,
        via: mapping::Via::Both,
        peer: false,
        filters: mapping::FilterChange::default(),
        description: None,
        memo: None,
    })
}

fn ports(snapshot: &Snapshot) -> Vec<u16> {
    snapshot
        .admissions()
        .map(|(_, _, external, _)| external.get())
        .collect()
}

fn site() -> Site {
    Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap()
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn addr(n: u8) -> Ipv4Addr {
    [192, 168, 64, 10 + n].into()
}

const NONE: [u16; 0] = [];

const SECOND: u64 = 1_000_000_000;

const DAY: Duration = Duration::from_secs(86_400);
