//! What is read again after a failure goes on from what followers have seen.

use std::sync::Arc;
use std::time::Duration;

use crate::*;

#[test]
fn reading_again_goes_on_from_what_followers_have_seen() {
    let (mut core, mut image) = home();
    core.handle_request(&Request::WanAddresses(vec![WAN]), NOW);
    core.finish(NOW);
    let shown = core.snapshot().clone();
    image.meta.revision = Revision(1);
    image.meta.counters.serial = 1;
    image.meta.counters.system_update_id = 0;

    let mut again = core.reread(image, NOW).unwrap();
    again.finish(NOW);

    let after = again.snapshot();
    assert!(after.revision() > shown.revision());
    assert!(after.counters().serial >= shown.counters().serial);
    assert_eq!(
        after.counters().system_update_id,
        shown.counters().system_update_id
    );
    assert_eq!(after.wan_addresses(), [WAN]);
    // nobody has applied what was read: a renewal must wait for it
    let read = after.mappings().next().unwrap();
    assert_eq!(read.changed_in, after.revision());
    assert_eq!(after.packets_revision(), after.revision());
}

#[test]
fn reading_again_counts_on_from_what_the_store_holds() {
    let (core, mut image) = home();
    image.meta.revision = Revision(100);
    image.meta.counters.serial = 50;
    image.meta.counters.system_update_id = u32::MAX;

    let mut again = core.reread(image, NOW).unwrap();
    again.finish(NOW);

    assert_eq!(again.snapshot().revision(), Revision(101));
    assert_eq!(again.snapshot().counters().serial, 50);
    // 0 comes after the largest number (RFC 1982 §3.2)
    let id = again.snapshot().counters().system_update_id;
    assert_eq!(id, core.snapshot().counters().system_update_id);
}

#[test]
fn declined_addresses_are_still_declined_after_reading_again() {
    let (mut core, _) = home();
    let decline = DeclineRequest {
        mac: MAC,
        addr: ADDR,
    };
    core.handle_request(&Request::Decline(decline), NOW);
    core.finish(NOW);

    let mut again = core.reread(image_of(&core), NOW).unwrap();

    assert!(again.snapshot().is_declined(ADDR));
    again.handle_timeout(later(3601));
    assert!(!again.snapshot().is_declined(ADDR));
}

#[test]
fn facts_are_forgotten_when_nobody_knows_what_was_missed() {
    let (core, image) = home();
    let seen = core.snapshot().revision();
    assert_eq!(core.snapshot().changes_since(seen), Some(Vec::new()));

    let mut again = core.reread(image.clone(), NOW).unwrap();
    again.finish(NOW);
    assert_eq!(again.snapshot().changes_since(seen), None);
    let newest = again.snapshot().revision();
    again.handle_request(&map(8081), NOW);
    again.finish(NOW);
    let facts = again.snapshot().changes_since(newest).unwrap();
    assert!(matches!(&facts[..], [(_, Change::MappingOpened(_))]));

    let mut restarted = Core::restore(site(), image, BOOT, NOW).unwrap();
    restarted.finish(NOW);
    assert_eq!(restarted.snapshot().changes_since(seen), None);
}

#[test]
fn facts_are_forgotten_oldest_first() {
    let (mut core, _) = home();
    let mut revisions = Vec::new();
    for _ in 0..1100 {
        core.handle_request(&map(8080), NOW);
        core.finish(NOW);
        revisions.push(core.snapshot().revision());
    }

    let kept = |revision: &Revision| {
        let facts = core.snapshot().changes_since(*revision);
        facts.map(|facts| facts.len())
    };
    assert_eq!(kept(&revisions[74]), None);
    assert_eq!(kept(&revisions[75]), Some(1024));
    assert_eq!(kept(&revisions[1098]), Some(1));
}

#[test]
fn what_is_replaced_is_no_closing() {
    let (mut core, _) = home();
    let Request::Map(mut request) = map(9090) else {
        unreachable!()
    };
    request.requester = Requester::Upnp;
    request.external = External::Exact(ExternalPort::new(8080).unwrap());
    core.handle_request(&Request::Map(request), NOW);

    let batch = core.finish(NOW);

    let delta = batch.delta.unwrap();
    assert_eq!(
        delta.mappings.values().filter(|row| row.is_none()).count(),
        1
    );
    assert!(batch.closings.is_empty(), "{:?}", batch.closings);
}

#[test]
fn a_prefix_that_comes_back_is_no_closing() {
    let (mut core, _) = home();
    core.handle_request(&prefix("2001:db8:65::/56"), NOW);
    core.finish(NOW);
    core.handle_request(&prefix("2001:db8:64::/56"), NOW);

    let batch = core.finish(NOW);

    let delta = batch.delta.unwrap();
    assert!(delta.generations.values().any(Option::is_none));
    assert!(batch.closings.is_empty(), "{:?}", batch.closings);
}

/// A host with a port and a prefix, and what the store holds of it.
fn home() -> (Core, Image) {
    let mut core = Core::new(site(), Policy::default(), [7; 16], BOOT, NOW);
    let lease = LeaseRequest {
        mac: MAC,
        addr: ADDR,
        lifetime: Duration::from_secs(86_400),
        declared_name: None,
    };
    for request in [
        prefix("2001:db8:64::/56"),
        Request::Prefer(GenerationId(1)),
        Request::Lease(lease),
        map(8080),
    ] {
        let (outcome, _) = core.handle_request(&request, NOW);
        assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
        core.finish(NOW);
    }
    let image = image_of(&core);
    (core, image)
}

fn image_of(core: &Core) -> Image {
    let snapshot = core.snapshot();
    let mut stopped = core.clone();
    stopped.handle_stop();
    let meta = stopped.finish(NOW).delta.unwrap().meta;
    Image {
        hosts: snapshot.hosts().map(|host| Host::clone(host)).collect(),
        mappings: snapshot.mappings().map(Arc::as_ref).cloned().collect(),
        generations: snapshot.generations().copied().collect(),
        permissions: snapshot.permissions().copied().collect(),
        pinholes: snapshot.pinholes().map(|it| Pinhole::clone(it)).collect(),
        waiting: snapshot.waiting().map(|it| Waiting::clone(it)).collect(),
        meta: Meta {
            revision: snapshot.revision(),
            ..meta
        },
        anchors: vec![meta.anchor],
        policy: Policy::default(),
        key: core.key(),
    }
}

fn map(port: u16) -> Request {
    Request::Map(MapRequest {
        subject: Subject::Client(Client {
            addr: ADDR.into(),
            mac: None,
        }),
        requester: Requester::NatPmp,
        protocol: Protocol::Tcp,
        internal_port: InternalPort::new(port).unwrap(),
        external: External::Suggested(None),
        lifetime: Some(Duration::from_secs(3600)),
        nonce: None,
        via: Via::Both,
        peer: false,
        filters: FilterChange::default(),
        description: None,
        memo: None,
    })
}

fn prefix(delegated: &str) -> Request {
    Request::Prefix(PrefixRequest {
        delegated: delegated.parse().unwrap(),
        nsp: None,
        old_valid: Duration::from_secs(30),
    })
}

fn site() -> Site {
    Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap()
}

fn later(secs: u64) -> Now {
    let after = Duration::from_secs(secs);
    Now {
        mono: NOW.mono + after,
        wall: NOW.wall + after,
    }
}

const NOW: Now = Now {
    mono: Instant::from_nanos(1_000_000_000),
    wall: Wall::from_secs(1_800_000_000),
};

const BOOT: BootId = BootId([1; 16]);

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

const ADDR: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 64, 11);

const WAN: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
