//! Power loss: the files as they are at the moment of an answer hold that answer.

use std::fs;
use std::path::Path;

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
async fn a_seed_goes_into_an_empty_store_only() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |max_per_device| {
        let mut config = config(folder.path());
        config.seed.policy.max_per_device = max_per_device;
        config.seed.key = None;
        let (handle, _writer) = start(config, net::Clock::new()).await.unwrap();
        let snapshot = handle.snapshot();
        let key = snapshot.lease_candidate(mac(9), |_| false);
        (snapshot.policy().max_per_device, key)
    };

    let first = run(5).await;
    let second = run(6).await;

    assert_eq!(first, second, "the key, too, is kept");
    assert_eq!(first.0, 5);
}

fn copy_files(from: &Path, to: &Path) {
    for name in ["portico.db", "portico.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}
