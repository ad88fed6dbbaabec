//! What one durable MAP costs, beside the disk's own fdatasync: `cargo bench -p gateway`.
//!
//! A MAP opens a new port: it is decided, stored, published, applied by a follower and answered.
//! The disk's own figure is one append of as many bytes as a commit writes, and `fdatasync`.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first error, prints, and measures with the clock of std"
)]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use gateway::{Config, Handle};
use mapping::{
    BootId, Client, External, Gate, InternalPort, LeaseRequest, Mac, MapRequest, Outcome, Policy,
    PrefixRequest, Protocol, Request, Requester, Site, Subject,
};
use tokio_util::sync::CancellationToken;

fn main() {
    // a folder beside the build's output, so that it is a disk and not memory
    let target = std::env::current_exe().expect("the program has a path");
    let parent = target.parent().expect("a program lies in a folder");
    let folder = tempfile::tempdir_in(parent).expect("the build's folder can be written");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(measure(folder.path()));
}

async fn measure(folder: &Path) {
    let config = Config {
        site: Site::new([10, 0, 0, 1].into(), 16, "home.example".to_owned()).expect("valid"),
        state: folder.join("state"),
        boot_id: BootId([1; 16]),
        policy: Policy {
            max_per_device: u32::MAX,
            ..Policy::default()
        },
        key: Some([7; 16]),
    };
    let (handle, writer) = gateway::start(config, net::Clock::new())
        .await
        .expect("it starts");
    let mut follower = handle.follower("bench", Gate::Packets);
    let follower = tokio::spawn(async move {
        while let Some(snapshot) = follower.changed().await {
            follower.applied(snapshot.revision());
        }
    });
    let cancel = CancellationToken::new();
    let running = tokio::spawn(writer.run(cancel.clone()));
    let prefix = PrefixRequest {
        delegated: "2001:db8:64::/56".parse().expect("valid"),
        nsp: None,
        old_valid: Duration::from_secs(30),
    };
    granted(&handle, Request::Prefix(prefix)).await;
    for n in 0..CLIENTS {
        let lease = LeaseRequest {
            mac: Mac([2, 0, 0, 0, 0, n]),
            addr: addr(n),
            lifetime: Duration::from_secs(86_400),
            declared_name: None,
        };
        granted(&handle, Request::Lease(lease)).await;
    }
    alone(&handle, &folder.join("sync")).await;
    together(&handle).await;
    cancel.cancel();
    running
        .await
        .expect("the writer ends")
        .expect("without an error");
    follower.await.expect("the follower ends");
}

/// One client, one request at a time, in turns with the disk itself.
async fn alone(handle: &Handle, file: &Path) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .expect("a file");
    let bytes = vec![0x5a; COMMIT_BYTES];
    let (mut maps, mut syncs) = (Vec::new(), Vec::new());
    for n in 0..ALONE {
        let begun = Instant::now();
        granted(handle, map(0, 1024 + n)).await;
        maps.push(begun.elapsed());
        let begun = Instant::now();
        file.write_all(&bytes).expect("a write");
        file.sync_data().expect("a sync");
        syncs.push(begun.elapsed());
    }
    print("one durable MAP", maps);
    print("append and fdatasync", syncs);
}

/// Many clients, each with one request at a time.
async fn together(handle: &Handle) {
    let before = counts(handle).await;
    let begun = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                for n in 0..TOGETHER {
                    let begun = Instant::now();
                    granted(&handle, map(client, 20_000 + n)).await;
                    times.push(begun.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.expect("a client ends"));
    }
    let took = begun.elapsed();
    let after = counts(handle).await;
    let requests = f64::from(u32::from(CLIENTS) * u32::from(TOGETHER));
    println!(
        "{CLIENTS} clients at once: {:.0} requests/s",
        requests / took.as_secs_f64()
    );
    let mean = |sum: u64, count: u64| Duration::from_micros(sum / count.max(1));
    let [batches, batched, commits, micros] =
        [0, 1, 2, 3].map(|n: usize| after.get(n).zip(before.get(n)).map_or(0, |(a, b)| a - b));
    println!(
        "  mean batch {}.{}",
        batched / batches.max(1),
        batched * 10 / batches.max(1) % 10
    );
    println!("  mean commit {:?}", mean(micros, commits));
    print("  one of them", times);
}

async fn counts(handle: &Handle) -> Vec<u64> {
    let counts = handle.observer().counters().await;
    let names = [
        "batches_total",
        "batched_requests_total",
        "commits_total",
        "commit_microseconds_total",
    ];
    let value = |name| {
        counts
            .iter()
            .find(|count| count.name == name)
            .map_or(0, |c| c.value)
    };
    names.into_iter().map(value).collect()
}

async fn granted(handle: &Handle, request: Request) {
    let outcome = handle.request(request).await;
    assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
}

fn map(client: u8, port: u16) -> Request {
    Request::Map(MapRequest {
        subject: Subject::Client(Client {
            addr: addr(client).into(),
            mac: None,
        }),
        requester: Requester::Pcp,
        protocol: Protocol::Udp,
        internal_port: InternalPort::new(port).expect("not zero"),
        external: External::Suggested(None),
        lifetime: Some(Duration::from_secs(7200)),
        nonce: None,
        via: mapping::Via::Both,
        peer: false,
        filters: mapping::FilterChange::default(),
        description: None,
        memo: None,
    })
}

fn addr(client: u8) -> Ipv4Addr {
    [10, 0, 1, client].into()
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    println!("{what}: p50 {:?} p99 {:?}", at(50), at(99));
}

const CLIENTS: u8 = 16;

const ALONE: u16 = 2000;

const TOGETHER: u16 = 500;

/// Eight frames of the WAL: the pages that one MAP changes.
const COMMIT_BYTES: usize = 8 * 4120;
