//! What is stored comes back, whatever happens to the files.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mapping::{
    Anchor, AuditAction, AuditEntry, BootId, BootNumber, Client, Core, Delta, Expiry, External,
    Host, Image, Instant, InternalPort, LeaseRequest, Mac, MapRequest, Mapping, MappingId,
    MappingNonce, Now, Outcome, Policy, PrefixRequest, Protocol, ReleaseRequest, Request,
    Requester, Revision, Site, Subject, Wall,
};
use proptest::prelude::*;
use sqlx::{Connection as _, Row as _};

use super::*;

mod access;
mod batches;
mod commits;
mod damage;
mod renewals;

#[tokio::test]
async fn audit_is_bounded_and_read_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    let entry = |n: u64| AuditEntry {
        at: Wall::from_secs(n),
        requester: Requester::Upnp,
        action: AuditAction::MappingOpened,
        target: format!("a \0 'target' {n}"),
    };
    for chunk in 0..6 {
        let mut delta = home.core.clone().finish_for_sure();
        delta.audit = (chunk * 2000..(chunk + 1) * 2000).map(entry).collect();
        home.store.commit(&delta).await.unwrap();
    }

    let reader = home.store.audit();
    let (mut cursor, mut lines) = (None, Vec::new());
    loop {
        let page = reader.page(cursor, 1000).await.unwrap();
        lines.extend(page.lines);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }

    assert_eq!(lines.len(), usize::try_from(rows::AUDIT_KEPT).unwrap());
    assert_eq!(lines[0].entry, entry(11_999));
    assert!(lines.windows(2).all(|pair| pair[0].id == pair[1].id + 1));
    assert_eq!(reader.page(None, 3).await.unwrap().lines, lines[..3]);
}

#[tokio::test]
async fn anchors_stay_as_long_as_something_refers_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.lease(1, "one").await;
    let anchor = |boot| Anchor {
        boot: BootNumber(boot),
        boot_id: BootId([7; 16]),
        mono: Instant::from_nanos(5),
        wall: Wall::from_secs(1),
    };
    let mut delta = home.core.clone().finish_for_sure();
    for boot in 1..5 {
        delta.meta.anchor = anchor(boot);
        home.store.commit(&delta).await.unwrap();
    }

    // the epochs and the lease belong to boot 0; nothing refers to 1, 2 and 3
    let anchors = home.store.load().await.unwrap().unwrap().anchors;
    assert_eq!(
        anchors
            .iter()
            .map(|anchor| anchor.boot.0)
            .collect::<Vec<_>>(),
        [0, 4]
    );

    delta.meta.counters.pcp_epoch.at.boot = BootNumber(4);
    delta.meta.counters.natpmp_epoch.at.boot = BootNumber(4);
    delta.hosts.insert(mac(1), None);
    // the batch that ends the last reference may leave the anchor to the next one
    home.store.commit(&delta).await.unwrap();
    home.store.commit(&delta).await.unwrap();
    let anchors = home.store.load().await.unwrap().unwrap().anchors;
    assert_eq!(anchors, [anchor(4)]);
}

#[tokio::test]
async fn a_mapping_without_its_host_is_never_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.lease(1, "one").await;
    home.map(1, 8080).await;
    let before = home.store.load().await.unwrap();
    let mut delta = home.core.clone().finish_for_sure();
    delta.hosts.insert(mac(1), None);

    assert!(home.store.commit(&delta).await.is_err());

    home.store.reopen().await.unwrap();
    assert_eq!(home.store.load().await.unwrap(), before);
}

#[tokio::test]
async fn a_store_of_an_earlier_version_keeps_what_it_holds() {
    of_earlier_version(2, EARLIER_MAPPINGS, None).await;
    of_earlier_version(3, EARLIER_MAPPINGS, None).await;
    of_earlier_version(4, EARLIER_MAPPINGS_AND_ENDS, Some(&[7, 7])).await;
}

async fn of_earlier_version(version: i64, mappings: &'static str, memo: Option<&[u8]>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("portico.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let earlier: Vec<_> = open::MIGRATOR
        .iter()
        .filter(|migration| migration.version <= version)
        .cloned()
        .collect();
    let earlier = sqlx::migrate::Migrator {
        migrations: earlier.into(),
        ..sqlx::migrate::Migrator::DEFAULT
    };
    earlier
        .run_direct(None, &mut connection, false)
        .await
        .unwrap();
    for rows in [EARLIER, mappings] {
        sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
    }
    sqlx::Connection::close(connection).await.unwrap();

    let mut store = Store::open(folder.path()).await.unwrap();
    let image = store.load().await.unwrap().unwrap();

    let mapping = &image.mappings[0];
    assert_eq!((mapping.id.0, mapping.external_port.get()), (7, 8081));
    let end = Expiry {
        boot: BootNumber(0),
        at: Instant::from_nanos(99),
    };
    assert_eq!(mapping.expires, Some(end));
    assert_eq!(
        (image.mappings[1].id.0, image.mappings[1].expires),
        (9, None)
    );
    assert_eq!((mapping.memo.as_deref(), mapping.peer), (memo, false));
    assert_eq!(mapping.filters.len(), 1);
    let waiting = &image.waiting[0];
    assert_eq!((waiting.id.0, waiting.internal_port.get()), (8, 22));
    assert_eq!(waiting.pinhole, None);
    let policy = &image.policy;
    assert_eq!(policy.new_device, mapping::Access::Allow);
    assert_eq!(policy.min_lease, Policy::default().min_lease);
    store.check().await.unwrap();
}

#[test]
fn policies_come_back() {
    let policy = Policy::default();

    assert_eq!(rows::policy_of(&rows::policy_text(&policy)), Some(policy));
    assert_eq!(rows::policy_of("{}"), None);
    // of the first shape of the store
    let text =
        r#"{"auto_allow":"high","always_reject":["23"],"max_lease_s":60,"max_per_device":3}"#;
    let policy = rows::policy_of(text).unwrap();
    assert_eq!(policy.new_device, mapping::Access::Allow);
    assert_eq!(policy.min_lease, Policy::default().min_lease);
}

/// A core and its store.
struct Home {
    core: Core,
    store: Store,
    clock: u64,
    folder: PathBuf,
    /// How long the WAL was after each commit, and what was stored then.
    commits: Vec<(usize, Image)>,
}

impl Home {
    async fn in_folder(folder: &Path) -> Self {
        let mut store = Store::open(folder).await.unwrap();
        assert_eq!(store.load().await.unwrap(), None);
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
        let mut core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), at(0));
        let delegated = "2001:db8:64::/56".parse().unwrap();
        let prefix = PrefixRequest {
            delegated,
            nsp: None,
            old_valid: Duration::from_secs(30),
        };
        core.handle_request(&Request::Prefix(prefix), at(0));
        let delta = core.finish(at(0)).delta.unwrap();
        store
            .initialise([7; 16], &Policy::default(), &delta)
            .await
            .unwrap();
        let mut home = Self {
            core,
            store,
            clock: 0,
            folder: folder.to_owned(),
            commits: vec![],
        };
        home.commits.push((wal_len(folder), home.image()));
        home
    }

    async fn commit(&mut self, requests: &[Request]) {
        self.clock += 1;
        let now = at(self.clock);
        self.core.handle_timeout(now);
        for request in requests {
            let (outcome, _) = self.core.handle_request(request, now);
            assert!(
                matches!(outcome, Outcome::Granted(_)),
                "{request:?} {outcome:?}"
            );
        }
        if let Some(delta) = self.core.finish(now).delta {
            self.store.commit(&delta).await.unwrap();
            self.commits
                .push((wal_len(self.folder.as_path()), self.image()));
        }
    }

    async fn lease(&mut self, n: u8, name: &str) {
        let mac = mac(n);
        let addr = self
            .core
            .snapshot()
            .lease_candidate(mac, |_| false)
            .unwrap();
        let lifetime = Duration::from_secs(3600);
        let declared_name = Some(name.to_owned());
        self.commit(&[Request::Lease(LeaseRequest {
            mac,
            addr,
            lifetime,
            declared_name,
        })])
        .await;
    }

    async fn map(&mut self, n: u8, port: u16) {
        let addr = self.core.snapshot().host(mac(n)).unwrap().addr;
        let request = MapRequest {
            subject: Subject::Client(Client {
                addr: addr.into(),
                mac: None,
            }),
            requester: Requester::Pcp,
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(port).unwrap(),
            external: External::Suggested(None),
            lifetime: Some(Duration::from_secs(u64::from(n) + 5)),
            nonce: Some(MappingNonce([n; 12])),
            via: mapping::Via::Both,
            peer: false,
            filters: mapping::FilterChange::default(),
            description: Some(format!("port {port}")),
            memo: None,
        };
        self.commit(&[Request::Map(request)]).await;
    }

    /// Something of everything: leases, ports, renewals, expiries, releases, renumbering.
    async fn step(&mut self, step: u16) {
        let n = u8::try_from(step % 7).unwrap() + 1;
        self.lease(n, &format!("camera {n}")).await;
        self.map(n, 8000 + step).await;
        self.map(n, 8000 + step).await;
        if step % 3 == 1 && step < 80 {
            self.decide(n, step).await;
            self.rule(n, step).await;
        }
        if step % 5 == 4 {
            let addr = self.core.snapshot().host(mac(n)).unwrap().addr;
            self.commit(&[Request::Release(ReleaseRequest { mac: mac(n), addr })])
                .await;
        }
        if step % 9 == 8 {
            let delegated = format!("2001:db8:{step:x}::/56").parse().unwrap();
            let old_valid = Duration::from_secs(40);
            self.commit(&[Request::Prefix(PrefixRequest {
                delegated,
                nsp: None,
                old_valid,
            })])
            .await;
        }
    }

    /// Asks for ports that a person decides about, decides, opens a pinhole and a filtered port.
    async fn decide(&mut self, n: u8, step: u16) {
        let carriers = mapping::Carriers {
            ipv4: Some([203, 0, 113, 5].into()),
            pinholes: true,
        };
        self.commit(&[Request::Carriers(carriers)]).await;
        let (subject, _, filters) = self.wish(n);
        let ask = |port: u16, external| MapRequest {
            subject,
            requester: Requester::Upnp,
            protocol: Protocol::Udp,
            internal_port: InternalPort::new(port).unwrap(),
            external,
            lifetime: Some(Duration::from_secs(50)),
            nonce: None,
            via: mapping::Via::Both,
            peer: false,
            filters: filters.clone(),
            description: Some("o'hara\0\"x".to_owned()),
            memo: Some([0, 1, 0xff].as_slice().into()),
        };
        let exact = |port| External::Exact(mapping::ExternalPort::new(port).unwrap());
        for (port, external) in [
            (600 + step, External::Suggested(None)),
            (700 + step, exact(700 + step)),
            (800 + step, exact(800 + step)),
            (
                900 + step,
                External::Any(mapping::ExternalPort::new(300).unwrap()),
            ),
        ] {
            self.ask(ask(port, external)).await;
        }
        self.commit(&[Request::Map(ask(9000 + step, exact(9000 + step)))])
            .await;
        let ids: Vec<_> = self
            .core
            .snapshot()
            .waiting_of(mac(n))
            .map(|it| it.id)
            .collect();
        let lasts = step.is_multiple_of(2).then_some(Duration::from_secs(9));
        for (id, decision) in ids.into_iter().zip([
            mapping::Decision::Allow(lasts),
            mapping::Decision::Deny,
            mapping::Decision::Allow(None),
        ]) {
            self.commit(&[Request::Decide(mapping::DecideRequest {
                id,
                requester: Requester::Cli,
                decision,
            })])
            .await;
        }
    }

    /// Gives a host a policy of its own, and opens a pinhole for it.
    async fn rule(&mut self, n: u8, step: u16) {
        let lasts = step.is_multiple_of(2).then_some(Duration::from_secs(9));
        let (subject, remote, filters) = self.wish(n);
        self.commit(&[
            Request::HostPolicy(mapping::HostPolicyRequest {
                host: mac(n),
                requester: Requester::Cli,
                access: (step % 4 < 3).then_some(mapping::Access::Ask),
                ports: step
                    .is_multiple_of(2)
                    .then_some(mapping::PortClass::WebAndHigh),
                quota: (step % 2 == 1).then_some(1000),
                lasts,
            }),
            Request::Pinhole(mapping::PinholeRequest {
                subject,
                requester: Requester::Upnp,
                tuple: mapping::PinholeTuple {
                    addr: "2001:db8:5::1".parse().unwrap(),
                    protocol: Protocol::Tcp,
                    port: InternalPort::new(2000 + step).unwrap(),
                    remote: step.is_multiple_of(2).then_some(remote),
                },
                filters: filters.clone(),
                lifetime: Duration::from_secs(20),
                nonce: Some(MappingNonce([n; 12])),
                description: Some("pinhole".to_owned()),
            }),
        ])
        .await;
    }

    /// A client, a remote, and filters that let it in.
    fn wish(&self, n: u8) -> (Subject, mapping::RemoteFilter, mapping::FilterChange) {
        let addr = self.core.snapshot().host(mac(n)).unwrap().addr;
        let remote = mapping::RemoteFilter {
            prefix: "2001:db8:9::/48".parse().unwrap(),
            port: std::num::NonZeroU16::new(4000),
        };
        let filters = mapping::FilterChange {
            clear: false,
            add: vec![remote],
        };
        let subject = Subject::Client(Client {
            addr: addr.into(),
            mac: Some(mac(n)),
        });
        (subject, remote, filters)
    }

    /// A request that must wait.
    async fn ask(&mut self, request: MapRequest) {
        self.clock += 1;
        let now = at(self.clock);
        self.core.handle_timeout(now);
        let (outcome, _) = self.core.handle_request(&Request::Map(request), now);
        assert_eq!(outcome, Outcome::Refused(mapping::Refusal::Waiting));
        let delta = self.core.finish(now).delta.unwrap();
        self.store.commit(&delta).await.unwrap();
        let wal = wal_len(self.folder.as_path());
        self.commits.push((wal, self.image()));
    }

    /// What the store must give back.
    fn image(&self) -> Image {
        let snapshot = self.core.snapshot();
        let meta = self.core.clone().finish_for_sure().meta;
        let anchor = Anchor {
            mono: at(self.clock).mono,
            wall: at(self.clock).wall,
            ..meta.anchor
        };
        let stored = mapping::Meta {
            revision: snapshot.revision(),
            anchor,
            ..meta
        };
        let changed_in = Revision(0);
        Image {
            hosts: snapshot
                .hosts()
                .map(|host| Host {
                    changed_in,
                    ..Host::clone(host)
                })
                .collect(),
            mappings: snapshot
                .mappings()
                .map(|mapping| Mapping {
                    changed_in,
                    ..Mapping::clone(mapping)
                })
                .collect(),
            generations: snapshot.generations().copied().collect(),
            permissions: snapshot.permissions().copied().collect(),
            pinholes: snapshot
                .pinholes()
                .map(|it| mapping::Pinhole {
                    changed_in,
                    ..mapping::Pinhole::clone(it)
                })
                .collect(),
            waiting: snapshot
                .waiting()
                .map(|it| mapping::Waiting::clone(it))
                .collect(),
            meta: stored,
            anchors: vec![anchor],
            policy: Policy::default(),
            key: [7; 16],
        }
    }
}

trait FinishForSure {
    fn finish_for_sure(self) -> Delta;
}

impl FinishForSure for Core {
    /// A batch that changes nothing but the counters' row.
    fn finish_for_sure(mut self) -> Delta {
        self.handle_stop();
        self.finish(at(0)).delta.unwrap()
    }
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn at(secs: u64) -> Now {
    let mono = Instant::from_nanos((100 + secs) * 1_000_000_000);
    Now {
        mono,
        wall: Wall::from_secs(1_800_000_000 + secs),
    }
}

fn wal_len(folder: &Path) -> usize {
    usize::try_from(fs::metadata(folder.join("portico.db-wal")).unwrap().len()).unwrap()
}

/// A host with two mappings and a request that waits, as version 2 of the store held them.
const EARLIER: &str = "
INSERT INTO meta (id, key, policy, revision, next_mapping, next_generation, pcp_epoch_boot,
    pcp_epoch_at, pcp_epoch_value, natpmp_epoch_boot, natpmp_epoch_at, natpmp_epoch_value,
    upnp_boot_id, system_update_id, serial)
VALUES (1, zeroblob(16), '{\"auto_allow\":\"high\",\"always_reject\":[\"23\"],\"max_lease_s\":3600,\"max_per_device\":3}',
    5, 10, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1);
INSERT INTO anchors (boot, boot_id, mono, wall) VALUES (0, zeroblob(16), 1, 2);
INSERT INTO hosts (mac, addr, name, name_pinned, lease_boot, lease_end, declared_name,
    first_seen, last_seen)
VALUES ('02:00:00:00:00:01', '192.168.64.20', 'camera', 0, 0, 99, NULL, 1, 2);
INSERT INTO waiting (id, host, server, protocol, internal_port, external_kind, external_port, via,
    filters, requester, nonce, description, first_asked, last_asked, expires_boot, expires_at)
VALUES (8, '02:00:00:00:00:01', '192.168.64.20', 'tcp', 22, 'suggested', NULL, 'ipv6', '[]',
    'upnp', NULL, 'ssh', 1, 2, 0, 99);
";

const EARLIER_MAPPINGS: &str = "
INSERT INTO mappings (id, host, server, protocol, internal_port, external_port, requester, nonce,
    description, expires_boot, expires_at, opened_at, filters)
VALUES (7, '02:00:00:00:00:01', '192.168.64.20', 'tcp', 8080, 8081, 'pcp', zeroblob(12), 'web',
    0, 99, 1, '[[\"2001:db8:1::/48\",0]]'),
    (9, '02:00:00:00:00:01', '192.168.64.20', 'tcp', 8082, 8082, 'cli', NULL, 'for ever', NULL,
    NULL, 1, '[]');
";

const EARLIER_MAPPINGS_AND_ENDS: &str = "
INSERT INTO mappings (id, host, server, protocol, internal_port, external_port, requester, nonce,
    description, opened_at, filters, memo)
VALUES (7, '02:00:00:00:00:01', '192.168.64.20', 'tcp', 8080, 8081, 'pcp', zeroblob(12), 'web',
    1, '[[\"2001:db8:1::/48\",0]]', x'0707'),
    (9, '02:00:00:00:00:01', '192.168.64.20', 'tcp', 8082, 8082, 'cli', NULL, 'for ever', 1, '[]',
    NULL);
INSERT INTO mapping_ends (mapping, expires_boot, expires_at) VALUES (7, 0, 99);
";
