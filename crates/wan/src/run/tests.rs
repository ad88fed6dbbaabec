//! The room against a kernel and the real writer, in a namespace of its own.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use mapping::{BootId, Site};
use net::namespace;
use net::netlink::{NewLink, Route};
use tempfile::TempDir;

use super::*;

#[test]
fn the_wan_addresses_reach_the_snapshot_and_follow_the_interface() {
    in_namespace(async {
        let (net, wan) = interface().await;
        let home = Home::start(None).await;
        home.wait("no address", |snapshot| snapshot.wan_addresses().is_empty())
            .await;

        add(&net, wan, "2001:db8:ff::1").await;
        add(&net, wan, "fd00::1").await;
        home.wait("the first", |snapshot| is(snapshot, &["2001:db8:ff::1"]))
            .await;
        add(&net, wan, "2001:db8:fe::1").await;
        home.wait("both", |snapshot| {
            is(snapshot, &["2001:db8:fe::1", "2001:db8:ff::1"])
        })
        .await;

        net.remove_address(wan, ip("2001:db8:ff::1"), 64)
            .await
            .unwrap();
        home.wait("the second", |snapshot| is(snapshot, &["2001:db8:fe::1"]))
            .await;
        home.stop().await;
    });
}

#[test]
fn a_deprecated_address_steps_back() {
    in_namespace(async {
        let (net, wan) = interface().await;
        add(&net, wan, "2001:db8:ff::1").await;
        let home = Home::start(None).await;
        home.wait("the first", |snapshot| is(snapshot, &["2001:db8:ff::1"]))
            .await;

        add(&net, wan, "2001:db8:fe::1").await;
        let preferred = Some(Duration::ZERO);
        let old = net::netlink::Lifetimes {
            preferred,
            valid: Some(Duration::from_secs(600)),
        };
        net.add_address_for(wan, ip("2001:db8:ff::1"), 64, old)
            .await
            .unwrap();

        home.wait("the new one only", |snapshot| {
            is(snapshot, &["2001:db8:fe::1"])
        })
        .await;
        home.stop().await;
    });
}

#[test]
fn an_interface_that_appears_later_is_found() {
    in_namespace(async {
        let home = Home::start(None).await;
        home.wait("a start", |snapshot| snapshot.wan_addresses().is_empty())
            .await;

        let (net, wan) = interface().await;
        add(&net, wan, "2001:db8:ff::1").await;

        home.wait("its address", |snapshot| is(snapshot, &["2001:db8:ff::1"]))
            .await;
        home.stop().await;
    });
}

#[test]
fn wpd_5_null_routes_follow_the_delegations() {
    in_namespace(async {
        let (net, _) = interface().await;
        let stale = null_routes::route(prefix("2001:db8:63::/56"));
        net.add_route(stale).await.unwrap();
        let home = Home::start(Some("2001:db8:64::/56")).await;
        wait_routes(&net, &["2001:db8:64::"]).await;

        home.renumber("2001:db8:65::/56", Duration::from_secs(5))
            .await;
        wait_routes(&net, &["2001:db8:64::", "2001:db8:65::"]).await;
        wait_routes(&net, &["2001:db8:65::"]).await;

        home.stop().await;
        wait_routes(&net, &["2001:db8:65::"]).await;
    });
}

#[test]
fn a_null_route_that_somebody_removes_comes_back() {
    in_namespace(async {
        let (net, _) = interface().await;
        let home = Home::start(Some("2001:db8:64::/56")).await;
        wait_routes(&net, &["2001:db8:64::"]).await;

        net.remove_route(null_routes::route(prefix("2001:db8:64::/56")))
            .await
            .unwrap();

        wait_routes(&net, &["2001:db8:64::"]).await;
        assert_eq!(home.count("null_routes_total", "added"), 2);
        home.stop().await;
    });
}

#[test]
fn the_configured_prefix_fills_an_empty_store_only() {
    in_namespace(async {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::start_in(folder.path(), Some("2001:db8:64::/56")).await;
        home.wait("the prefix", |snapshot| {
            delegations(snapshot) == ["2001:db8:64::/56"]
        })
        .await;
        home.renumber("2001:db8:65::/56", Duration::ZERO).await;
        home.wait("the next", |snapshot| {
            delegations(snapshot) == ["2001:db8:65::/56"]
        })
        .await;
        home.stop().await;

        let (net, wan) = interface().await;
        add(&net, wan, "2001:db8:ff::1").await;
        let home = Home::start_in(folder.path(), Some("2001:db8:64::/56")).await;

        home.wait("a whole round", |snapshot| {
            is(snapshot, &["2001:db8:ff::1"])
        })
        .await;
        assert_eq!(delegations(&home.handle.snapshot()), ["2001:db8:65::/56"]);
        home.stop().await;
    });
}

#[test]
fn a_prefix_that_cannot_be_published_is_refused_at_the_start() {
    in_namespace(async {
        let error = bind(&options(Some("fd00::/56"))).unwrap_err();

        assert_eq!(
            error.to_string(),
            "cannot use the delegated prefix fd00::/56"
        );
    });
}

#[test]
fn forwarding_that_is_off_is_counted() {
    in_namespace(async {
        for (value, off) in [("0", 2), ("1", 0)] {
            for switch in SWITCHES {
                net::sysctl::write(switch.key, value).unwrap();
            }
            let bound = bind(&options(None)).unwrap();
            let counts = bound.observe().counters().await;
            let found = counts
                .iter()
                .find(|count| count.name == "forwarding_switches_off");
            assert_eq!(found.unwrap().value, off);
        }
    });
}

/// The writer and the room.
struct Home {
    handle: Handle,
    observe: Arc<dyn Observe>,
    cancel: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), ServeError>>,
    writing: tokio::task::JoinHandle<Result<(), gateway::WriterError>>,
    _folder: Option<TempDir>,
}

impl Home {
    async fn start(prefix: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Self::start_in(folder.path(), prefix).await;
        home._folder = Some(folder);
        home
    }

    async fn start_in(folder: &Path, prefix: Option<&str>) -> Self {
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
        let config = gateway::Config {
            site,
            state: folder.join("state"),
            boot_id: BootId([1; 16]),
            policy: mapping::Policy::default(),
            key: None,
        };
        let (handle, writer) = gateway::start(config, Clock::new()).await.unwrap();
        let cancel = CancellationToken::new();
        let bound = bind(&options(prefix)).unwrap();
        let observe = bound.observe();
        let writing = tokio::spawn(writer.run(cancel.clone()));
        let serving = tokio::spawn(bound.serve(handle.clone(), cancel.clone()));
        Self {
            handle,
            observe,
            cancel,
            serving,
            writing,
            _folder: None,
        }
    }

    async fn renumber(&self, delegated: &str, old_valid: Duration) {
        let request = PrefixRequest {
            delegated: prefix(delegated),
            nsp: None,
            old_valid,
        };
        let outcome = self.handle.request(Request::Prefix(request)).await;
        assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
    }

    async fn wait(&self, what: &str, done: impl Fn(&Snapshot) -> bool) {
        let mut snapshots = self.handle.subscribe();
        let fits = snapshots.wait_for(|snapshot| done(snapshot));
        let waited = tokio::time::timeout(Duration::from_secs(60), fits).await;
        assert!(waited.is_ok(), "waited in vain for {what}");
    }

    fn count(&self, name: &str, reason: &str) -> u64 {
        let counts = futures_now(self.observe.counters());
        let found = counts
            .iter()
            .find(|count| count.name == name && count.reason == reason);
        found.unwrap().value
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.serving.await.unwrap().unwrap();
        self.writing.await.unwrap().unwrap();
    }
}

/// The counters are there without waiting.
fn futures_now<T>(mut future: ObserveFuture<'_, T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the counters take their time"),
    }
}

fn options(delegated: Option<&str>) -> Options {
    let prefix = delegated.map(|delegated| (prefix(delegated), None));
    Options {
        wan: "wan0".to_owned(),
        prefix,
    }
}

async fn interface() -> (Netlink, u32) {
    let net = Netlink::open().unwrap();
    let here = namespace::current().unwrap();
    net.add_veth(NewLink::new("wan0"), NewLink::new("isp0"), &here)
        .await
        .unwrap();
    for name in ["isp0", "wan0"] {
        net.set_up(net.index(name).await.unwrap()).await.unwrap();
    }
    let wan = net.index("wan0").await.unwrap();
    (net, wan)
}

async fn add(net: &Netlink, ifindex: u32, addr: &str) {
    net.add_address(ifindex, ip(addr), 64).await.unwrap();
}

/// Waits until our null routes are those to `wanted`.
async fn wait_routes(net: &Netlink, wanted: &[&str]) {
    let mut watch = Watch::open().unwrap();
    let wanted: Vec<IpAddr> = wanted.iter().map(|addr| ip(addr)).collect();
    let there = async {
        loop {
            let routes = net.routes().await.unwrap();
            let metric = null_routes::route(prefix("2001:db8::/56")).metric;
            let ours = |route: &&Route| route.metric == metric;
            let mut found: Vec<IpAddr> = routes
                .iter()
                .filter(ours)
                .map(|route| route.destination)
                .collect();
            found.sort();
            if found == wanted {
                return;
            }
            watch.next().await.unwrap();
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), there).await;
    assert!(
        waited.is_ok(),
        "waited in vain for null routes to {wanted:?}"
    );
}

fn is(snapshot: &Snapshot, addrs: &[&str]) -> bool {
    let addrs: Vec<Ipv6Addr> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
    snapshot.wan_addresses() == addrs
}

fn delegations(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .generations()
        .map(|generation| generation.delegated.to_string())
        .collect()
}

fn prefix(text: &str) -> Prefix6 {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs `test` on a thread with a network namespace of its own; fails in one line without.
#[track_caller]
fn in_namespace(test: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(|| {
        if let Err(error) = namespace::unshare_network() {
            panic!("{error}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(170), test)
                .await
                .expect("in time");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
