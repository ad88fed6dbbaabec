//! Power loss: the files as they are at the moment of an answer hold that answer.

use std::fs;
use std::path::Path;

use mapping::PortClass;

use super::crash::{config, delegate};
use super::*;
use crate::start;

#[tokio::test]
async fn the_files_copied_after_each_answer_hold_that_answer() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let (handle, writer) = start(config(&state), net::Clock::new()).await.unwrap();
    let cancel = CancellationToken::new();
    let running = tokio::spawn(writer.run(cancel.clone()));
    delegate(&handle).await;
    for n in 1..=2 {
        let declared_name = None;
        let lease = LeaseRequest {
            mac: mac(n),
            addr: addr(n),
            lifetime: DAY,
            declared_name,
        };
        let granted = handle.request(Request::Lease(lease)).await;
        assert!(matches!(granted, Outcome::Granted(_)), "{granted:?}");
    }
    for step in 0..60_u16 {
        let n = u8::try_from(step % 2).unwrap() + 1;
        let port = 9000 + step % 20;
        let request = match step % 5 {
            4 => Request::Unmap(UnmapRequest {
                subject: Subject::Client(Client {
                    addr: addr(n).into(),
                    mac: None,
                }),
                requester: Requester::NatPmp,
                target: UnmapTarget::All(Protocol::Tcp),
            }),
            _ => map_request(addr(n), port),
        };
        let granted = handle.request(request).await;
        let copy = tempfile::tempdir().unwrap();
        copy_files(&state, copy.path());
        assert!(matches!(granted, Outcome::Granted(_)), "{granted:?}");

        let mut store = Store::open(copy.path()).await.unwrap();
        store.check().await.unwrap();
        let image = store.load().await.unwrap().unwrap();
        let stored: Vec<_> = image.mappings.iter().map(|mapping| mapping.id).collect();
        let shown: Vec<_> = handle
            .snapshot()
            .mappings()
            .map(|mapping| mapping.id)
            .collect();
        assert_eq!(stored, shown, "step {step}");
    }
    cancel.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_audit_log_tells_who_opened_and_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, writer) = start(config(folder.path()), net::Clock::new())
        .await
        .unwrap();
    let cancel = CancellationToken::new();
    let running = tokio::spawn(writer.run(cancel.clone()));
    delegate(&handle).await;
    let lease = LeaseRequest {
        mac: mac(1),
        addr: addr(1),
        lifetime: DAY,
        declared_name: None,
    };
    handle.request(Request::Lease(lease)).await;
    handle.request(map_request(addr(1), 8080)).await;
    handle.request(map_request(addr(1), 8080)).await;

    let page = handle.audit(None, 2).await.unwrap();

    let lines: Vec<_> = page
        .lines
        .iter()
        .map(|line| (line.entry.action.as_str(), &*line.entry.target))
        .collect();
    assert_eq!(
        lines,
        [
            (
                "mapping.opened",
                "02:00:00:00:00:01 192.168.64.11 tcp 8080->8080"
            ),
            (
                "host.appeared",
                "02:00:00:00:00:01 192.168.64.11 device-000001"
            ),
        ],
        "a renewal is no line"
    );
    let older = handle.audit(page.next, 10).await.unwrap();
    assert!(
        older
            .lines
            .iter()
            .all(|line| line.entry.action.as_str() == "prefix.changed")
    );
    cancel.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_key_stays_that_of_the_store_and_the_policy_is_the_configurations() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |auto_allow| {
        let mut config = config(folder.path());
        config.policy.auto_allow = auto_allow;
        config.key = None;
        let (handle, writer) = start(config, net::Clock::new()).await.unwrap();
        let cancel = CancellationToken::new();
        let running = tokio::spawn(writer.run(cancel.clone()));
        (handle, running, cancel)
    };
    let (handle, running, cancel) = run(PortClass::WebAndHigh).await;
    delegate(&handle).await;
    let lease = LeaseRequest {
        mac: mac(1),
        addr: addr(1),
        lifetime: DAY,
        declared_name: None,
    };
    handle.request(Request::Lease(lease)).await;
    // the key is random, so it may choose what the host above has
    let chosen = handle.snapshot().lease_candidate(mac(9), |_| false);
    for port in [443, 8080] {
        let opened = handle.request(map_request(addr(1), port)).await;
        assert!(matches!(opened, Outcome::Granted(_)), "{opened:?}");
    }
    cancel.cancel();
    running.await.unwrap().unwrap();

    // 443 is outside now; the second start finds what the first one stored
    for start in 1..=2 {
        let (handle, running, cancel) = run(PortClass::High).await;
        let snapshot = handle.snapshot();
        assert_eq!(snapshot.policy().auto_allow, PortClass::High);
        assert_eq!(ports(&snapshot), [8080], "start {start}");
        assert_eq!(snapshot.lease_candidate(mac(9), |_| false), chosen);
        let page = handle.audit(None, 100).await.unwrap();
        let changes = page.lines.iter();
        let changes = changes.filter(|line| line.entry.action.as_str() == "policy.changed");
        assert_eq!(changes.count(), 1, "start {start}");
        cancel.cancel();
        running.await.unwrap().unwrap();
    }
}

fn copy_files(from: &Path, to: &Path) {
    for name in ["portico.db", "portico.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}
