//! The thread's parts between real network namespaces: a remote, the gateway and a server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use mapping::{
    BootId, Core, External, ExternalPort, Grant, InternalPort, LeaseRequest, Mac, MapRequest,
    Outcome, Policy, PrefixRequest, Protocol, Request, Requester, Site, Subject, UnmapRequest,
    UnmapTarget,
};
use net::namespace;
use net::netlink::NewLink;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use super::*;
use crate::pool::PoolRange;
use crate::verdict::DropReason;

const REMOTE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 1);
const WAN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
const POOL: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 193);
const CAMERA: Mac = Mac([2, 0, 0, 0, 0, 7]);

#[test]
fn server_without_default_route_talks_to_a_remote() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let server = home.wires.server;
        home.open(Protocol::Tcp, 80, 8080).await;
        home.open(Protocol::Udp, 5000, 5001).await;
        let listener = home.wires.at(Place::Server, || tcp((server, 8080)));
        let echo = home.wires.at(Place::Server, || udp((server, 5001)));
        let socket = home.wires.at(Place::Remote, || udp((REMOTE, 0)));
        let stream = home.wires.connect(home.nsp(), 80);
        let to = SocketAddr::from((home.nsp().embed(server), 5000));

        home.work_while(async {
            let (served, asked) = tokio::join!(serve(&listener), ask(stream.await.unwrap()));
            assert_eq!(
                served.ip(),
                IpAddr::from(POOL),
                "the remote appears as the pool"
            );
            assert_eq!(asked, sent());

            socket.send_to(b"ping", to).await.unwrap();
            let mut buf = [0; 9];
            let (len, from) = echo.recv_from(&mut buf).await.unwrap();
            assert_eq!(from.ip(), IpAddr::from(POOL));
            echo.send_to(&buf[..len], from).await.unwrap();
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            assert_eq!((&buf[..len], from), (&b"ping"[..], to));
        })
        .await;

        let counters = home.worker.translator.counters();
        assert_eq!((counters.sessions.tcp, counters.sessions.udp), (1, 1));
        let headers = counters.six_to_four.bytes - sent().len() as u64;
        assert!(
            headers < 20 * counters.six_to_four.packets,
            "super-packets come: {counters:?}"
        );
        assert_eq!(home.worker.write_errors, 0);
        let page = observer::page(
            &home.worker.translator,
            gateway::SessionFilter {
                server: Some(server),
                ..gateway::SessionFilter::default()
            },
            gateway::SessionCursor(0),
            home.worker.clock.mono(),
        );
        assert!(
            page.sessions
                .iter()
                .all(|session| session.ends.remote.0 == REMOTE)
        );
        assert_eq!((page.sessions.len(), page.next), (2, None));

        let udp = gateway::SessionFilter {
            protocol: Some(gateway::SessionProtocol::Udp),
            ..gateway::SessionFilter::default()
        };
        let now = home.worker.clock.mono();
        let first = gateway::SessionCursor(0);
        let ended = observer::end(&mut home.worker.translator, udp, first, now);
        assert_eq!((ended.count, ended.next), (1, None));
        let page = observer::page(&home.worker.translator, udp, first, now);
        assert_eq!(page.sessions, []);
        let counters = home.worker.translator.counters();
        assert_eq!((counters.sessions.tcp, counters.sessions_requested), (1, 1));
    });
}

#[test]
fn closed_port_does_not_answer_and_is_counted() {
    in_namespaces(async {
        let mut home = Home::build().await;
        home.open(Protocol::Tcp, 80, 8080).await;
        let stream = tokio::spawn(home.wires.connect(home.nsp(), 81));

        // that the remote asks again shows that nobody answered the first time
        home.work_until("two are dropped", |worker| {
            worker.translator.counters().drops.get(DropReason::Closed) >= 2
        })
        .await;

        assert!(!stream.is_finished());
    });
}

#[test]
fn routes_follow_the_valid_prefixes_and_a_fallback_stays_behind() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let old = home.nsp();
        home.request(prefix("2001:db8:65::/56", Duration::ZERO))
            .await;
        let new = home.nsp();
        assert_ne!(old, new);
        let netlink = Netlink::open().unwrap();

        let routes = netlink.routes().await.unwrap();
        let to = |nsp: mapping::Nsp| {
            let mut metrics: Vec<_> = routes
                .iter()
                .filter(|route| route.destination == IpAddr::from(nsp.prefix().addr()))
                .map(|route| route.target == net::netlink::Target::Blackhole)
                .collect();
            metrics.sort_unstable();
            metrics
        };
        assert_eq!(to(old), [] as [bool; 0]);
        assert_eq!(to(new), [false, true]);

        // a process that is killed leaves the fallback; the next one knows it for its own
        let settings = settings();
        let Home { worker, .. } = home;
        drop(worker);
        let mut next = Worker::open(&settings, Clock::new()).await.unwrap();
        next.routes.follow(&[old]).await.unwrap();
        let routes = netlink.routes().await.unwrap();
        let left = |nsp: mapping::Nsp| {
            let nsp = IpAddr::from(nsp.prefix().addr());
            routes
                .iter()
                .filter(|route| route.destination == nsp)
                .count()
        };
        assert_eq!((left(new), left(old)), (0, 2));
    });
}

#[test]
fn lan_that_was_off_is_answered_again() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let netlink = Netlink::open().unwrap();
        let lan = netlink.index("lan0").await.unwrap();
        netlink.set_down(lan).await.unwrap();
        assert_eq!(netlink.proxies(lan).await.unwrap(), [] as [IpAddr; 0]);

        netlink.set_up(lan).await.unwrap();

        home.work_while(async {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
            while netlink.proxies(lan).await.unwrap() != [IpAddr::from(POOL)] {
                assert!(tokio::time::Instant::now() < deadline);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    });
}

#[test]
fn what_fits_is_what_the_wan_carries_now() {
    in_namespaces(async {
        let mut home = Home::build().await;
        assert_eq!(home.worker.translator.config().mtu, 1500);
        let netlink = Netlink::open().unwrap();
        let wan = netlink.index("wan0").await.unwrap();

        for (mtu, fits) in [(1492, 1492), (1280, 1280), (9000, 1500)] {
            netlink.set_mtu(wan, mtu).await.unwrap();
            home.work_until("the MTU follows", |worker| {
                worker.translator.config().mtu == fits
            })
            .await;
        }
    });
}

fn tcp(addr: impl std::net::ToSocketAddrs) -> TcpListener {
    let listener = std::net::TcpListener::bind(addr).unwrap();
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

fn udp(addr: impl std::net::ToSocketAddrs) -> UdpSocket {
    let socket = std::net::UdpSocket::bind(addr).unwrap();
    socket.set_nonblocking(true).unwrap();
    UdpSocket::from_std(socket).unwrap()
}

#[test]
fn what_the_gateway_grants_passes_and_what_it_closes_ends() {
    in_namespaces(async {
        let folder = tempfile::tempdir().unwrap();
        let seed = gateway::Seed {
            key: Some([7; 16]),
            ..gateway::Seed::default()
        };
        let state = folder.path().to_owned();
        let config = gateway::Config {
            site: site(),
            state,
            boot_id: BootId([1; 16]),
            seed,
        };
        let (handle, writer) = gateway::start(config, Clock::new()).await.unwrap();
        let server = handle
            .snapshot()
            .lease_candidate(CAMERA, |_| false)
            .unwrap();
        let wires = Wires::build(server).await;
        let (observer, inbox) = Observer::new();
        let cancel = CancellationToken::new();
        let running = tokio::spawn(run(settings(), &handle, inbox, cancel.clone()));
        let writing = tokio::spawn(writer.run(cancel.clone()));
        let listener = wires.at(Place::Server, || tcp((server, 8080)));

        let granted = async |request| {
            let outcome = handle.request(request).await;
            assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
        };
        granted(prefix("2001:db8:64::/56", Duration::ZERO)).await;
        granted(lease(server)).await;
        granted(map(Protocol::Tcp, 80, 8080)).await;

        let nsp = newest_nsp(&handle.snapshot());
        let (served, asked) = tokio::join!(serve(&listener), async {
            ask(wires.connect(nsp, 80).await.unwrap()).await
        });
        assert_eq!((served.ip(), asked), (IpAddr::from(POOL), sent()));
        let all = gateway::SessionFilter::default();
        let page = sessions(&observer, all).await;
        assert_eq!(page.sessions.len(), 1);
        let gone = gateway::SessionFilter {
            id: page.sessions.first().map(|session| gateway::SessionId {
                tag: !session.id.tag,
                ..session.id
            }),
            ..all
        };
        let ended = gateway::Observe::end_sessions(&observer, gone).await;
        assert_eq!(ended, Ok(gateway::Ended { count: 0 }), "another session");

        let target = UnmapTarget::External(Protocol::Tcp, ExternalPort::new(80).unwrap());
        let subject = Subject::Admin(CAMERA);
        granted(Request::Unmap(UnmapRequest {
            subject,
            requester: Requester::Cli,
            target,
        }))
        .await;
        let page = sessions(&observer, all).await;
        assert_eq!(page.sessions, []);
        let counts = gateway::Observe::counters(&observer).await;
        let ended = counts
            .iter()
            .find(|count| count.reason == "closed" && count.value == 1);
        assert!(ended.is_some(), "{counts:?}");

        cancel.cancel();
        running.await.unwrap().unwrap();
        writing.await.unwrap().unwrap();
    });
}

async fn sessions(observer: &Observer, filter: gateway::SessionFilter) -> gateway::SessionPage {
    let first = gateway::SessionCursor(0);
    let page = gateway::Observe::sessions(observer, filter, first).await;
    page.unwrap()
}

/// Sends everything back, and returns from whom it came.
async fn serve(listener: &TcpListener) -> SocketAddr {
    let (mut stream, from) = listener.accept().await.unwrap();
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.shutdown().await.unwrap();
    from
}

async fn ask(stream: TcpStream) -> Vec<u8> {
    let (mut reader, mut writer) = stream.into_split();
    let sent = sent();
    let (written, read) = tokio::join!(
        async {
            writer.write_all(&sent).await?;
            writer.shutdown().await
        },
        async {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).await.map(|_| read)
        },
    );
    written.unwrap();
    read.unwrap()
}

fn sent() -> Vec<u8> {
    (0..5_000_000_u32)
        .map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
        .collect()
}

struct Home {
    worker: Worker,
    core: Core,
    wires: Wires,
}

impl Home {
    async fn build() -> Self {
        let now = Clock::new().now();
        let core = Core::new(site(), Policy::default(), [7; 16], BootId([1; 16]), now);
        let server = core.snapshot().lease_candidate(CAMERA, |_| false).unwrap();
        let wires = Wires::build(server).await;
        let worker = Worker::open(&settings(), Clock::new()).await.unwrap();
        let mut home = Self {
            worker,
            core,
            wires,
        };
        home.request(prefix("2001:db8:64::/56", Duration::ZERO))
            .await;
        home.request(lease(server)).await;
        home
    }

    /// Decides a request and lets the worker follow.
    async fn request(&mut self, request: Request) -> Grant {
        let now = self.worker.clock.now();
        let (outcome, _) = self.core.handle_request(&request, now);
        self.core.handle_timeout(now);
        self.core.finish(now);
        self.worker
            .follow(Arc::new(self.core.snapshot().clone()))
            .await
            .unwrap();
        match outcome {
            Outcome::Granted(grant) => grant,
            Outcome::Refused(refusal) => panic!("{request:?}: {refusal:?}"),
        }
    }

    async fn open(&mut self, protocol: Protocol, external: u16, internal: u16) {
        self.request(map(protocol, external, internal)).await;
    }

    fn nsp(&self) -> mapping::Nsp {
        newest_nsp(self.core.snapshot())
    }

    /// Works until something has come true; how long that takes is not the point.
    async fn work_until(&mut self, what: &str, mut is_so: impl FnMut(&Worker) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is_so(&self.worker) {
            assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
            turn(&mut self.worker).await;
        }
    }

    async fn work_while(&mut self, test: impl Future<Output = ()>) {
        let worker = &mut self.worker;
        let work = async {
            loop {
                turn(worker).await;
            }
        };
        tokio::select! {
            () = work => {}
            result = tokio::time::timeout(PATIENCE, test) => result.unwrap(),
        }
    }
}

/// One turn of what the thread does, without a gateway; ends in any case.
async fn turn(worker: &mut Worker) {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(5)) => {}
        change = worker.watch.next() => worker.interface(change.unwrap()).await,
        ready = worker.tun.readable() => {
            ready.unwrap();
            if worker.burst(worker.clock.mono()).unwrap() == Burst::SpentBudget {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Longer than any test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A remote, a gateway and a server, each in its own namespace; the thread is the gateway's.
struct Wires {
    server: Ipv4Addr,
    remote_ns: OwnedFd,
    gateway_ns: OwnedFd,
    server_ns: OwnedFd,
}

#[derive(Clone, Copy)]
enum Place {
    Remote,
    Server,
}

impl Wires {
    async fn build(server: Ipv4Addr) -> Self {
        let remote_ns = new_namespace();
        let remote = Netlink::open().unwrap();
        let server_ns = new_namespace();
        let camera = Netlink::open().unwrap();
        let gateway_ns = new_namespace();
        let gateway = Netlink::open().unwrap();
        for (near, far, there) in [("wan0", "r0", &remote_ns), ("lan0", "s0", &server_ns)] {
            gateway
                .add_veth(NewLink::new(near), NewLink::new(far), there)
                .await
                .unwrap();
        }
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            net::sysctl::write(key, "1").unwrap();
        }
        let ends = [
            (&gateway, "wan0", IpAddr::from(WAN), 64),
            (&gateway, "lan0", GATEWAY.into(), 24),
            (&remote, "r0", REMOTE.into(), 64),
            (&camera, "s0", server.into(), 24),
        ];
        for (netlink, name, addr, len) in ends {
            let index = netlink.index(name).await.unwrap();
            netlink.set_up(index).await.unwrap();
            netlink.add_address(index, addr, len).await.unwrap();
        }
        let default = net::netlink::Route::default_via(WAN.into(), None);
        remote.add_route(default).await.unwrap();
        Self {
            server,
            remote_ns,
            gateway_ns,
            server_ns,
        }
    }

    /// Makes something, such as a socket, in another namespace.
    fn at<T>(&self, place: Place, make: impl FnOnce() -> T) -> T {
        let there = match place {
            Place::Remote => &self.remote_ns,
            Place::Server => &self.server_ns,
        };
        namespace::enter(there).unwrap();
        let made = make();
        namespace::enter(&self.gateway_ns).unwrap();
        made
    }

    fn connect(
        &self,
        nsp: mapping::Nsp,
        port: u16,
    ) -> impl Future<Output = io::Result<TcpStream>> + use<> {
        let socket = self.at(Place::Remote, || TcpSocket::new_v6().unwrap());
        socket.connect(SocketAddr::from((nsp.embed(self.server), port)))
    }
}

fn newest_nsp(snapshot: &Snapshot) -> mapping::Nsp {
    snapshot.generations().last().unwrap().nsp
}

fn site() -> Site {
    Site::new(GATEWAY, 24, "home.example".to_owned()).unwrap()
}

fn lease(addr: Ipv4Addr) -> Request {
    let lifetime = Duration::from_secs(3600);
    Request::Lease(LeaseRequest {
        mac: CAMERA,
        addr,
        lifetime,
        declared_name: None,
    })
}

fn map(protocol: Protocol, external: u16, internal: u16) -> Request {
    Request::Map(MapRequest {
        subject: Subject::Admin(CAMERA),
        requester: Requester::Cli,
        protocol,
        internal_port: InternalPort::new(internal).unwrap(),
        external: External::Exact(ExternalPort::new(external).unwrap()),
        lifetime: None,
        nonce: None,
        description: String::new(),
    })
}

fn prefix(delegated: &str, old_valid: Duration) -> Request {
    let delegated = delegated.parse().unwrap();
    Request::Prefix(PrefixRequest {
        delegated,
        nsp: None,
        old_valid,
    })
}

fn settings() -> Settings {
    Settings {
        tun: "portico%d".to_owned(),
        lan: "lan0".to_owned(),
        wan: "wan0".to_owned(),
        config: Config::new(PoolRange::new([192, 168, 64, 192].into(), 26).unwrap()),
        key: [7; 16],
    }
}

fn new_namespace() -> OwnedFd {
    namespace::unshare_network().unwrap();
    // nobody else is there, so nobody need be asked for duplicates
    net::sysctl::write("ipv6/conf/default/dad_transmits", "0").unwrap();
    namespace::current().unwrap()
}

/// Runs a test on a thread of its own, which may change its namespace.
fn in_namespaces(test: impl Future<Output = ()> + Send + 'static) {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test);
    })
    .join()
    .unwrap();
}
