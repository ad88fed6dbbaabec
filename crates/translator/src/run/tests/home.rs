//! A remote, the gateway and a server, each in a network namespace of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use mapping::{
    BootId, Core, External, ExternalPort, Grant, InternalPort, LeaseRequest, Mac, MapRequest,
    Outcome, Policy, PrefixRequest, Protocol, Request, Requester, Site, Subject,
};
use net::namespace;
use net::netlink::NewLink;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::pool::PoolRange;
use crate::run::*;

pub const REMOTE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 1);
pub const WAN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 2);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
/// The pool address of the remote, by the key of the settings.
pub const POOL: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 203);
pub const CAMERA: Mac = Mac([2, 0, 0, 0, 0, 7]);

pub struct Home {
    pub worker: Worker,
    pub watch: Watch,
    pub core: Core,
    pub wires: Wires,
}

impl Home {
    pub async fn build() -> Self {
        let now = Clock::new().now();
        let core = Core::new(site(), Policy::default(), [7; 16], BootId([1; 16]), now);
        let server = core.snapshot().lease_candidate(CAMERA, |_| false).unwrap();
        let wires = Wires::build(server).await;
        let (worker, watch) = Worker::open(&settings(), Clock::new()).await.unwrap();
        let mut home = Self {
            worker,
            watch,
            core,
            wires,
        };
        home.request(prefix("2001:db8:64::/56", Duration::ZERO))
            .await;
        home.request(lease(server)).await;
        home
    }

    /// Decides a request and lets the worker follow.
    pub async fn request(&mut self, request: Request) -> Grant {
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

    pub async fn open(&mut self, protocol: Protocol, external: u16, internal: u16) {
        self.request(map(protocol, external, internal)).await;
    }

    pub fn nsp(&self) -> mapping::Nsp {
        newest_nsp(self.core.snapshot())
    }

    /// Works until something has come true; how long that takes is not the point.
    pub async fn work_until(&mut self, what: &str, mut is_so: impl FnMut(&Worker) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is_so(&self.worker) {
            assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
            self.turn().await;
        }
    }

    /// One turn of what the thread does, without a gateway.
    pub async fn turn(&mut self) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
            change = self.watch.next() => self.worker.interface(change.unwrap()).await,
        }
        while work_off(&mut self.worker) {
            tokio::task::yield_now().await;
        }
    }

    pub async fn work_while(&mut self, test: impl Future<Output = ()>) {
        let work = async {
            loop {
                self.turn().await;
            }
        };
        tokio::select! {
            () = work => {}
            result = tokio::time::timeout(PATIENCE, test) => result.unwrap(),
        }
    }
}

/// Handles what waits in the device; tells whether there was anything.
fn work_off(worker: &mut Worker) -> bool {
    let now = worker.clock.mono();
    let mut parker = Parker::new(&worker.pump.tun).unwrap();
    let holds_packet = worker.pump.park(&mut parker, Some(now)).unwrap();
    worker.turn(now, true).unwrap() == Burst::SpentBudget || holds_packet
}

/// Longer than any test takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// A remote, a gateway and a server, each in its own namespace; the thread is the gateway's.
pub struct Wires {
    pub server: Ipv4Addr,
    pub remote_ns: OwnedFd,
    pub gateway_ns: OwnedFd,
    pub server_ns: OwnedFd,
    camera: Netlink,
}

#[derive(Clone, Copy)]
pub enum Place {
    Remote,
    Server,
}

impl Wires {
    pub async fn build(server: Ipv4Addr) -> Self {
        let remote_ns = new_namespace();
        let remote = Netlink::open().unwrap();
        let server_ns = new_namespace();
        let camera = Netlink::open().unwrap();
        let gateway_ns = new_namespace();
        let gateway = Netlink::open().unwrap();
        gateway
            .add_veth(NewLink::new("wan0"), NewLink::new("r0"), &remote_ns)
            .await
            .unwrap();
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            net::sysctl::write(key, "1").unwrap();
        }
        let wires = Self {
            server,
            remote_ns,
            gateway_ns,
            server_ns,
            camera,
        };
        for (netlink, name, addr) in [(&gateway, "wan0", WAN), (&remote, "r0", REMOTE)] {
            wires.address(netlink, name, addr.into(), 64).await;
        }
        wires.make_lan().await;
        let default = net::netlink::Route::default_via(WAN.into(), None);
        remote.add_route(default).await.unwrap();
        wires
    }

    /// Makes the cable between the gateway and the server.
    pub async fn make_lan(&self) {
        let gateway = Netlink::open().unwrap();
        gateway
            .add_veth(NewLink::new("lan0"), NewLink::new("s0"), &self.server_ns)
            .await
            .unwrap();
        self.address(&gateway, "lan0", GATEWAY.into(), 24).await;
        self.address(&self.camera, "s0", self.server.into(), 24)
            .await;
    }

    async fn address(&self, netlink: &Netlink, name: &str, addr: IpAddr, len: u8) {
        let index = netlink.index(name).await.unwrap();
        netlink.set_up(index).await.unwrap();
        netlink.add_address(index, addr, len).await.unwrap();
    }

    /// Makes something, such as a socket, in another namespace.
    pub fn at<T>(&self, place: Place, make: impl FnOnce() -> T) -> T {
        let there = match place {
            Place::Remote => &self.remote_ns,
            Place::Server => &self.server_ns,
        };
        namespace::enter(there).unwrap();
        let made = make();
        namespace::enter(&self.gateway_ns).unwrap();
        made
    }

    pub fn connect(
        &self,
        nsp: mapping::Nsp,
        port: u16,
    ) -> impl Future<Output = io::Result<TcpStream>> + use<> {
        let socket = self.at(Place::Remote, || TcpSocket::new_v6().unwrap());
        socket.connect(SocketAddr::from((nsp.embed(self.server), port)))
    }
}

pub fn newest_nsp(snapshot: &Snapshot) -> mapping::Nsp {
    snapshot.generations().last().unwrap().nsp
}

pub fn site() -> Site {
    Site::new(GATEWAY, 24, "home.example".to_owned()).unwrap()
}

pub fn lease(addr: Ipv4Addr) -> Request {
    let lifetime = Duration::from_secs(3600);
    Request::Lease(LeaseRequest {
        mac: CAMERA,
        addr,
        lifetime,
        declared_name: None,
    })
}

pub fn map(protocol: Protocol, external: u16, internal: u16) -> Request {
    Request::Map(MapRequest {
        subject: Subject::Admin(CAMERA),
        requester: Requester::Cli,
        protocol,
        internal_port: InternalPort::new(internal).unwrap(),
        external: External::Exact(ExternalPort::new(external).unwrap()),
        lifetime: None,
        nonce: None,
        via: mapping::Via::Both,
        peer: false,
        filters: mapping::FilterChange::default(),
        description: None,
        memo: None,
    })
}

pub fn prefix(delegated: &str, old_valid: Duration) -> Request {
    let delegated = delegated.parse().unwrap();
    Request::Prefix(PrefixRequest {
        delegated,
        nsp: None,
        old_valid,
    })
}

pub fn settings() -> Settings {
    Settings {
        tun: "portico%d".to_owned(),
        lan: "lan0".to_owned(),
        wan: "wan0".to_owned(),
        config: Config::new(PoolRange::new([192, 168, 64, 192].into(), 26).unwrap()),
        key: [7; 16],
        keep: Keep::default(),
    }
}

pub fn new_namespace() -> OwnedFd {
    namespace::unshare_network().unwrap();
    // nobody else is there, so nobody need be asked for duplicates
    net::sysctl::write("ipv6/conf/default/dad_transmits", "0").unwrap();
    namespace::current().unwrap()
}

/// Runs a test on a thread of its own, which may change its namespace.
pub fn in_namespaces(test: impl Future<Output = ()> + Send + 'static) {
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
pub fn tcp(addr: impl std::net::ToSocketAddrs) -> TcpListener {
    let listener = std::net::TcpListener::bind(addr).unwrap();
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

pub fn udp(addr: impl std::net::ToSocketAddrs) -> UdpSocket {
    let socket = std::net::UdpSocket::bind(addr).unwrap();
    socket.set_nonblocking(true).unwrap();
    UdpSocket::from_std(socket).unwrap()
}

/// Sends everything back, and returns from whom it came.
pub async fn serve(listener: &TcpListener) -> SocketAddr {
    let (mut stream, from) = listener.accept().await.unwrap();
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.shutdown().await.unwrap();
    from
}

pub async fn ask(stream: TcpStream) -> Vec<u8> {
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

pub fn sent() -> Vec<u8> {
    (0..5_000_000_u32)
        .map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
        .collect()
}
