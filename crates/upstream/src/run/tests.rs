//! The room on a real WAN, before routers whose part the test plays.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway::{Config, UpstreamCursor, UpstreamPage};
use mapping::{
    Carriers, Client, External, FilterChange, InternalPort, LeaseRequest, Mac, MapRequest, Outcome,
    Policy, Protocol, Request, Requester, Site, Subject, UnmapRequest, UnmapTarget, Via,
};
use net::namespace;
use net::netlink::{NewLink, Route};
use pcp::wire::{Body, Map, Response, ResultCode};
use rand::SeedableRng as _;

use super::*;

#[test]
fn wan_that_comes_later_is_found_and_the_ports_follow_the_default_router() {
    in_home(|home| async move {
        home.open(8080).await;
        let page = home.page().await;
        assert_eq!(page.gateways, [], "there is no WAN");

        home.plug().await;
        home.route(ROUTER).await;
        home.until(|page| is_open_at(page, ROUTER)).await;
        assert_eq!(home.first.maps(), [(8080, 7200)]);

        home.route(OTHER).await;
        home.until(|page| is_open_at(page, OTHER)).await;
        assert_eq!(home.second.maps(), [(8080, 7200)]);
    });
}

#[test]
fn port_that_closes_is_closed_in_front_and_the_end_of_the_room_closes_none() {
    in_home(|home| async move {
        home.plug().await;
        home.route(ROUTER).await;
        home.open(8080).await;
        home.open(9090).await;
        home.until(|page| page.ports.iter().all(|it| it.state == "open") && page.ports.len() == 2)
            .await;

        home.close(8080).await;
        home.until(|page| page.ports.len() == 1).await;
        assert_eq!(home.first.maps()[2..], [(8080, 0)]);

        home.cancel.cancel();
        home.served.await.unwrap().unwrap();
        assert_eq!(home.first.maps().len(), 3, "nothing is said at the end");
    });
}

#[test]
fn router_that_says_nothing_holds_up_nobody_and_is_found_when_it_speaks() {
    in_home(|home| async move {
        home.first.silent.store(true, Ordering::Relaxed);
        home.plug().await;
        home.route(ROUTER).await;
        home.open(8080).await;
        home.until(|page| page.gateways.len() == 1).await;
        let page = home.page().await;
        assert_eq!((page.gateways[0].kind, page.gateways[0].waiting), (None, 1));

        home.first.silent.store(false, Ordering::Relaxed);
        home.until(|page| is_open_at(page, ROUTER)).await;
    });
}

#[test]
fn wan_that_goes_away_takes_the_router_with_it() {
    in_home(|home| async move {
        home.plug().await;
        home.route(ROUTER).await;
        home.open(8080).await;
        home.until(|page| is_open_at(page, ROUTER)).await;

        home.unplug().await;
        home.until(|page| page.gateways.is_empty()).await;
        assert!(!home.served.is_finished(), "it waits for another one");
    });
}

fn is_open_at(page: &UpstreamPage, router: Ipv4Addr) -> bool {
    let gateway = page.gateways.first();
    gateway.is_some_and(|it| it.address == router && it.kind == Some("pcp") && it.open == 1)
}

/// A gateway between a home and two routers, which are on one cable.
struct Home {
    handle: Handle,
    observer: Arc<dyn Observe>,
    net: Netlink,
    routers: std::os::fd::OwnedFd,
    routers_net: Netlink,
    first: Arc<Router>,
    second: Arc<Router>,
    cancel: CancellationToken,
    served: tokio::task::JoinHandle<Result<(), ServeError>>,
    _state: tempfile::TempDir,
}

impl Home {
    async fn start() -> Self {
        let (routers, routers_net) = unshare();
        routers_net.set_up(1).await.unwrap();
        // they hear at these addresses before there is a cable
        for addr in [ROUTER, OTHER] {
            routers_net.add_address(1, addr.into(), 32).await.unwrap();
        }
        let (first, second) = (Router::start(ROUTER), Router::start(OTHER));
        let (_gateway, net) = unshare();
        net.set_up(1).await.unwrap();
        let state = tempfile::tempdir().unwrap();
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
        let config = Config {
            site,
            state: state.path().join("state"),
            boot_id: net::boot_id().unwrap(),
            policy: Policy::default(),
            key: None,
        };
        let (handle, writer) = gateway::start(config, Clock::new()).await.unwrap();
        let cancel = CancellationToken::new();
        tokio::spawn(writer.run(CancellationToken::new()));
        let options = Options {
            wan: "wan0".to_owned(),
            mode: Mode::Pcp,
            secret: [3; 16],
        };
        let bound = bind(options, StdRng::seed_from_u64(1)).unwrap();
        let observer = bound.observe();
        let served = tokio::spawn(bound.serve(handle.clone(), cancel.clone()));
        let home = Self {
            handle,
            observer,
            net,
            routers,
            routers_net,
            first,
            second,
            cancel,
            served,
            _state: state,
        };
        home.decide(Request::Carriers(Carriers {
            ipv4: Some(OWN),
            pinholes: false,
        }))
        .await;
        home.decide(Request::Lease(LeaseRequest {
            mac: Mac([2, 0, 0, 0, 0, 20]),
            addr: CAMERA,
            lifetime: Duration::from_hours(24),
            declared_name: None,
        }))
        .await;
        home
    }

    async fn plug(&self) {
        let (near, far) = (NewLink::new("wan0"), NewLink::new("home0"));
        self.net.add_veth(near, far, &self.routers).await.unwrap();
        let far = self.routers_net.index("home0").await.unwrap();
        self.routers_net.set_up(far).await.unwrap();
        for addr in [ROUTER, OTHER] {
            let added = self.routers_net.add_address(far, addr.into(), 24).await;
            added.unwrap();
        }
        let near = self.net.index("wan0").await.unwrap();
        self.net.set_up(near).await.unwrap();
        self.net.add_address(near, OWN.into(), 24).await.unwrap();
        // until then what is sent is dropped, and would be sent again
        for (net, index) in [(&self.net, near), (&self.routers_net, far)] {
            while !net.link_at(index).await.unwrap().unwrap().running {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn unplug(&self) {
        let near = self.net.index("wan0").await.unwrap();
        self.net.remove_link(near).await.unwrap();
    }

    async fn route(&self, router: Ipv4Addr) {
        let route = Route::default_via(router.into(), None);
        self.net.add_route(route).await.unwrap();
    }

    async fn decide(&self, request: Request) {
        let outcome = self.handle.request(request).await;
        assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
    }

    async fn open(&self, port: u16) {
        let request = MapRequest {
            subject: client(),
            requester: Requester::Pcp,
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(port).unwrap(),
            external: External::Suggested(None),
            lifetime: Some(Duration::from_hours(12)),
            nonce: None,
            via: Via::Ipv4,
            peer: false,
            filters: FilterChange::default(),
            description: None,
            memo: None,
        };
        self.decide(Request::Map(request)).await;
    }

    async fn close(&self, port: u16) {
        let port = InternalPort::new(port).unwrap();
        let request = UnmapRequest {
            subject: client(),
            requester: Requester::Pcp,
            target: UnmapTarget::Internal(Protocol::Tcp, port, None),
        };
        self.decide(Request::Unmap(request)).await;
    }

    async fn page(&self) -> UpstreamPage {
        let page = self.observer.upstream(UpstreamCursor(0), 100).await;
        page.unwrap().unwrap()
    }

    async fn until(&self, wanted: impl Fn(&UpstreamPage) -> bool) {
        let look = async {
            while !wanted(&self.page().await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, look).await.is_err() {
            panic!("{:?}", self.page().await);
        }
    }
}

/// A router that speaks PCP.
#[derive(Debug)]
struct Router {
    silent: AtomicBool,
    /// Port and lifetime of each MAP.
    maps: Mutex<Vec<(u16, u32)>>,
}

impl Router {
    fn start(addr: Ipv4Addr) -> Arc<Self> {
        let options = net::udp::Options::new();
        let socket = net::udp::Socket::bind((addr, 5351).into(), &options).unwrap();
        let router = Arc::new(Self {
            silent: AtomicBool::new(false),
            maps: Mutex::default(),
        });
        let own = Arc::clone(&router);
        tokio::spawn(async move {
            let mut buf = [0; 1100];
            loop {
                let heard = socket.recv(&mut buf).await.unwrap();
                if let Some(answer) = own.answer(&buf[..heard.len]) {
                    socket.try_send_to(&answer, heard.source, None).unwrap();
                }
            }
        });
        router
    }

    fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.silent.load(Ordering::Relaxed) {
            return None;
        }
        let request = pcp::wire::Request::parse(bytes).unwrap();
        let body = match request.body {
            Body::Map(map) => {
                let asked = (map.internal_port, request.lifetime);
                self.maps.lock().unwrap().push(asked);
                Body::Map(Map {
                    external_addr: Ipv4Addr::new(203, 0, 113, 9).to_ipv6_mapped(),
                    external_port: map.internal_port,
                    ..map
                })
            }
            other => other,
        };
        let since = Clock::new().mono().since(Instant::default());
        let response = Response {
            result: ResultCode::Success,
            lifetime: request.lifetime,
            epoch: u32::try_from(since.as_secs()).unwrap(),
            body,
            options: &[],
        };
        Some(response.emit())
    }

    fn maps(&self) -> Vec<(u16, u32)> {
        self.maps.lock().unwrap().clone()
    }
}

#[track_caller]
fn in_home<F: Future<Output = ()>>(test: impl FnOnce(Home) -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let test = async { test(Home::start().await).await };
        runtime.block_on(async {
            let in_time = tokio::time::timeout(Duration::from_secs(270), test).await;
            in_time.expect("in time");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn unshare() -> (std::os::fd::OwnedFd, Netlink) {
    namespace::unshare_network().unwrap();
    (namespace::current().unwrap(), Netlink::open().unwrap())
}

const fn client() -> Subject {
    Subject::Client(Client {
        addr: std::net::IpAddr::V4(CAMERA),
        mac: None,
    })
}

const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 7);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);
const CAMERA: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 20);

/// Retransmissions of a silent router are 3, 6 and 12 seconds apart.
const DEADLINE: Duration = Duration::from_secs(60);
