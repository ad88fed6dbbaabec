use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use mapping::{BootId, Core, LeaseRequest, Mac, Policy, PrefixRequest, Site};
use net::namespace;
use net::netlink::{Netlink, NewLink};
use net::packet::UdpFrame;

use net::udp::Socket;

use super::*;
use crate::server::Dialects;
use crate::wire::{Body, Map, Response, ResultCode};

mod forged;

#[test]
fn clients_are_answered_over_the_cable_and_restarts_are_announced() {
    in_home(|home| async move {
        let client = home.client(CAMERA, 0);
        let listener = home.client(Ipv4Addr::new(224, 0, 0, 1), 5350);
        listener
            .join(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)), home.far)
            .unwrap();
        let cancel = CancellationToken::new();
        let serving = home.serve(cancel.clone());

        let exchange = async {
            // the restart: PCP's and NAT-PMP's announcement, from the port that is asked
            let mut announced = [hear(&listener).await, hear(&listener).await];
            announced.sort();
            assert_eq!(announced[0][..4], [0, 128, 0, 0]);
            assert_eq!(announced[1][..4], [2, 128, 0, 0]);

            say(&client, &[0, 0]).await;
            assert_eq!(hear(&client).await[..4], [0, 128, 0, 0]);

            say(&client, &map_request(8080)).await;
            let answer = hear(&client).await;
            let answer = Response::parse(&answer).unwrap();
            assert_eq!(answer.result, ResultCode::Success);
            assert_eq!(answer.lifetime, 3600);
            let Body::Map(map) = answer.body else {
                panic!("not a mapping: {answer:?}");
            };
            let expected: Ipv6Addr = "2001:db8:64:1::c0a8:4014".parse().unwrap();
            assert_eq!((map.external_port, map.external_addr), (8080, expected));
            cancel.cancel();
        };
        let (served, ()) = tokio::join!(serving, exchange);
        served.unwrap();
    });
}

#[test]
fn clients_with_ipv6_addresses_are_answered_from_the_asked_one_and_hear_of_restarts() {
    in_home(|home| async move {
        namespace::enter(&home.camera).unwrap();
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5350));
        let options = Options::new().join(ALL_NODES.into(), home.far);
        let listener = Socket::bind(any, &options).unwrap();
        let client = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let client = Socket::bind(client, &Options::new()).unwrap();
        let cancel = CancellationToken::new();
        let serving = home.serve(cancel.clone());

        let exchange = async {
            let mut buf = vec![0; 2000];
            let announced = listener.recv(&mut buf).await.unwrap();
            assert_eq!(buf[..4], [2, 128, 0, 0]);
            let SocketAddr::V6(gateway) = announced.source else {
                panic!("not by IPv6: {announced:?}");
            };
            assert_eq!(gateway.port(), PORT);
            assert!(gateway.ip().is_unicast_link_local());

            // its own link-local address is what the camera sends from
            namespace::enter(&home.camera).unwrap();
            let ours = Netlink::open().unwrap();
            let addrs = ours.addresses(home.far).await.unwrap();
            let own = addrs.iter().find_map(|it| match it.addr {
                IpAddr::V6(addr) => Some(addr),
                IpAddr::V4(_) => None,
            });
            let by_ipv4 = map_request(8080);
            let request = crate::wire::Request {
                client: own.unwrap(),
                ..crate::wire::Request::parse(&by_ipv4).unwrap()
            };
            client
                .send_to(&request.emit(), gateway.into(), None)
                .await
                .unwrap();
            let answer = client.recv(&mut buf).await.unwrap();
            assert_eq!(answer.source.ip(), IpAddr::V6(*gateway.ip()));
            let answer = Response::parse(&buf[..answer.len]).unwrap();
            // nothing carries pinholes
            assert_eq!(answer.result, ResultCode::NoResources);
            assert_eq!(answer.lifetime, 30);
            cancel.cancel();
        };
        let (served, ()) = tokio::join!(serving, exchange);
        served.unwrap();
    });
}

#[test]
fn renumbering_is_told_to_the_client_of_a_mapping() {
    in_home(|home| async move {
        let client = home.client(CAMERA, 0);
        let cancel = CancellationToken::new();
        let (shell, snapshots) = home.shell(Dialects::Pcp);
        let decide = async |request: Request| {
            let now = home.clock.now();
            let mut core = home.core.borrow_mut();
            let (outcome, _) = core.handle_request(&request, now);
            core.finish(now);
            snapshots.send_replace(Arc::new(core.snapshot().clone()));
            outcome
        };
        let serving = shell.serve(decide, cancel.clone());

        let exchange = async {
            say(&client, &map_request(8080)).await;
            let first = hear(&client).await;
            assert_eq!(first[..4], [2, 129, 0, 0]);

            let prefix = PrefixRequest {
                delegated: "2001:db8:65::/56".parse().unwrap(),
                nsp: None,
                old_valid: Duration::from_secs(60),
            };
            decide(Request::Prefix(prefix)).await;
            let newest = home.core.borrow().snapshot().to_prefer().unwrap().id;
            decide(Request::Prefer(newest)).await;

            let expected: Ipv6Addr = "2001:db8:65:1::c0a8:4014".parse().unwrap();
            for _ in 0..3 {
                let update = hear(&client).await;
                let update = Response::parse(&update).unwrap();
                assert_eq!(update.result, ResultCode::Success);
                let Body::Map(map) = update.body else {
                    panic!("not a mapping: {update:?}");
                };
                assert_eq!((map.external_port, map.external_addr), (8080, expected));
            }
            cancel.cancel();
        };
        let (served, ()) = tokio::join!(serving, exchange);
        served.unwrap();
    });
}

#[test]
fn many_requests_are_under_way_at_once_and_the_end_waits_for_them() {
    in_home(|home| async move {
        let client = home.client(CAMERA, 0);
        let cancel = CancellationToken::new();
        let gate = Rc::new(tokio::sync::Semaphore::new(0));
        let serving = home.serve_when(Dialects::Both, cancel.clone(), Rc::clone(&gate));
        let observer = serving.1.clone();

        let exchange = async {
            for port in 8000..8016 {
                say(&client, &map_request(port)).await;
            }
            // all sixteen have asked before the first is answered
            while home.asked.borrow().len() < 16 {
                tokio::task::yield_now().await;
            }
            assert!(home.asked.borrow().is_sorted());
            cancel.cancel();
            gate.add_permits(16);
            let mut ports = std::collections::BTreeSet::new();
            for _ in 0..16 {
                let answer = hear(&client).await;
                let answer = Response::parse(&answer).unwrap();
                assert_eq!(answer.result, ResultCode::Success);
                if let Body::Map(map) = answer.body {
                    ports.insert(map.external_port);
                }
            }
            assert_eq!(ports, (8000..8016).collect());
        };
        let (served, ()) = tokio::join!(serving.0, exchange);
        served.unwrap();

        let counts = observer.counters().await;
        let success = counts.iter().find(|count| count.reason == "success");
        assert_eq!(success.map(|count| count.value), Some(16));
        assert_eq!(observer.room(), "pcp");
    });
}

#[test]
fn a_foreign_client_opens_renews_and_closes_by_pcp_and_falls_back_to_natpmp() {
    for dialects in [Dialects::Both, Dialects::NatPmp] {
        in_home(move |home| async move {
            let cancel = CancellationToken::new();
            let gate = Rc::new(tokio::sync::Semaphore::new(100));
            let serving = home.serve_when(dialects, cancel.clone(), gate).0;
            // the client binds its socket where the thread is
            namespace::enter(&home.camera).unwrap();

            let exchange = async {
                let mut mapping = crab_nat::PortMapping::new(
                    GATEWAY.into(),
                    CAMERA.into(),
                    crab_nat::InternetProtocol::Tcp,
                    8080.try_into().unwrap(),
                    crab_nat::PortMappingOptions::default(),
                )
                .await
                .unwrap();
                assert_eq!(mapping.external_port().get(), 8080);
                let by_pcp = matches!(
                    mapping.mapping_type(),
                    crab_nat::PortMappingType::Pcp { .. }
                );
                assert_eq!(by_pcp, dialects == Dialects::Both);
                assert_eq!(home.core.borrow().snapshot().mapping_count(), 1);

                mapping.renew().await.unwrap();
                assert_eq!(home.core.borrow().snapshot().mapping_count(), 1);

                mapping.try_drop().await.unwrap();
                assert_eq!(home.core.borrow().snapshot().mapping_count(), 0);
                cancel.cancel();
            };
            let (served, ()) = tokio::join!(serving, exchange);
            served.unwrap();
        });
    }
}

#[test]
fn np_12_where_nobody_serves_the_port_a_client_hears_so_at_once() {
    in_home(|home| async move {
        let cancel = CancellationToken::new();
        cancel.cancel();
        Box::pin(home.serve(cancel)).await.unwrap();

        namespace::enter(&home.camera).unwrap();
        let client = std::net::UdpSocket::bind((CAMERA, 0)).unwrap();
        client.connect((GATEWAY, PORT)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        client.send(&[0, 0]).unwrap();
        let error = client.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn the_end_of_the_writer_is_an_error_and_a_taken_port_names_its_owner() {
    in_home(|home| async move {
        let (shell, snapshots) = home.shell(Dialects::Both);
        let error = home.bind_again(&snapshots).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("cannot bind UDP 192.168.64.1:5351 on lan, which "),
            "{text}"
        );

        drop(snapshots);
        let never = |_| std::future::pending::<Outcome>();
        let ended = shell.serve(never, CancellationToken::new()).await;

        assert!(matches!(ended, Err(ServeError::WriterEnded)), "{ended:?}");
    });
}

/// A gateway and a camera, each in a namespace, with a cable between them.
struct Home {
    core: RefCell<Core>,
    clock: Clock,
    gateway: OwnedFd,
    camera: OwnedFd,
    /// The index of the camera's end of the cable.
    far: u32,
    /// The internal ports that the writer was asked for, in its order.
    asked: RefCell<Vec<u16>>,
}

type Snapshots = watch::Sender<Arc<Snapshot>>;

impl Home {
    async fn build() -> Self {
        let gateway = unshare();
        let ours = Netlink::open().unwrap();
        let camera = unshare();
        let theirs = Netlink::open().unwrap();
        namespace::enter(&gateway).unwrap();
        let (near, far) = (NewLink::new("lan"), NewLink::new("eth0").mac(CAMERA_MAC));
        ours.add_veth(near, far, &camera).await.unwrap();
        // both ends stand before either can get ready
        let near = plug(&gateway, &ours, "lan", GATEWAY).await;
        let far = plug(&camera, &theirs, "eth0", CAMERA).await;
        ready(&gateway, &ours, near).await;
        ready(&camera, &theirs, far).await;
        Self {
            core: RefCell::new(core(Clock::new())),
            clock: Clock::new(),
            gateway,
            camera,
            far,
            asked: RefCell::default(),
        }
    }

    /// A socket in the camera's namespace.
    fn client(&self, addr: Ipv4Addr, port: u16) -> Socket {
        namespace::enter(&self.camera).unwrap();
        let local = SocketAddr::from((addr, port));
        Socket::bind(local, &Options::new().reuse_addr()).unwrap()
    }

    /// What sends any frame from the camera's place, and the address of the gateway's interface.
    fn forger(&self) -> (PacketSocket, Mac) {
        namespace::enter(&self.gateway).unwrap();
        let gateway = PacketSocket::open("lan", Hears::Nothing).unwrap().mac();
        namespace::enter(&self.camera).unwrap();
        (PacketSocket::open("eth0", Hears::Nothing).unwrap(), gateway)
    }

    fn shell(&self, dialects: Dialects) -> (Shell, Snapshots) {
        let snapshot = self.core.borrow().snapshot().clone();
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
        namespace::enter(&self.gateway).unwrap();
        (
            Shell::bind(&config(dialects), self.clock, receiver).unwrap(),
            snapshots,
        )
    }

    fn bind_again(&self, snapshots: &Snapshots) -> Result<Shell, StartError> {
        namespace::enter(&self.gateway).unwrap();
        Shell::bind(&config(Dialects::Both), self.clock, snapshots.subscribe())
    }

    async fn serve(&self, cancel: CancellationToken) -> Result<(), ServeError> {
        let gate = Rc::new(tokio::sync::Semaphore::new(100));
        self.serve_when(Dialects::Both, cancel, gate).0.await
    }

    /// Serves with a writer that answers when the gate lets it.
    fn serve_when(
        &self,
        dialects: Dialects,
        cancel: CancellationToken,
        gate: Rc<tokio::sync::Semaphore>,
    ) -> (impl Future<Output = Result<(), ServeError>>, Observer) {
        let (shell, snapshots) = self.shell(dialects);
        let room = Room::Pcp;
        let tally = shell.tally.subscribe();
        let decide = move |request: Request| {
            let now = self.clock.now();
            let mut core = self.core.borrow_mut();
            let (outcome, _) = core.handle_request(&request, now);
            core.finish(now);
            snapshots.send_replace(Arc::new(core.snapshot().clone()));
            outcome
        };
        let decide = Rc::new(decide);
        let ask = move |request| {
            let (decide, gate) = (Rc::clone(&decide), Rc::clone(&gate));
            async move {
                if let Request::Map(map) = &request {
                    self.asked.borrow_mut().push(map.internal_port.get());
                }
                gate.acquire().await.unwrap().forget();
                decide(request)
            }
        };
        let serving = async move { shell.serve(ask, cancel).await };
        (serving, Observer { room, tally })
    }
}

fn in_home<F: Future<Output = ()>>(test: impl FnOnce(Rc<Home>) -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let test = async { test(Rc::new(Home::build().await)).await };
        runtime.block_on(async {
            let in_time = tokio::time::timeout(Duration::from_secs(170), test).await;
            in_time.expect("in time");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn unshare() -> OwnedFd {
    if let Err(error) = namespace::unshare_network() {
        panic!("{error}");
    }
    // nobody else is there whose address could be a duplicate
    net::sysctl::write("ipv6/conf/default/accept_dad", "0").unwrap();
    namespace::current().unwrap()
}

async fn plug(namespace: &OwnedFd, net: &Netlink, name: &str, addr: Ipv4Addr) -> u32 {
    namespace::enter(namespace).unwrap();
    let index = net.index(name).await.unwrap();
    net.add_address(index, addr.into(), 24).await.unwrap();
    net.set_up(index).await.unwrap();
    index
}

async fn ready(namespace: &OwnedFd, net: &Netlink, index: u32) {
    namespace::enter(namespace).unwrap();
    net.wait_ready(index, Duration::from_secs(60))
        .await
        .unwrap();
}

fn config(dialects: Dialects) -> Config {
    Config {
        interface: "lan".to_owned(),
        settings: Settings {
            dialects,
            ..Settings::default()
        },
    }
}

fn core(clock: Clock) -> Core {
    let now = clock.now();
    let site = Site::new(GATEWAY, 24, "home.example".to_owned()).unwrap();
    let mut core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
    let prefix = PrefixRequest {
        delegated: "2001:db8:64::/56".parse().unwrap(),
        nsp: None,
        old_valid: Duration::from_secs(60),
    };
    core.handle_request(&Request::Prefix(prefix), now);
    for (mac, addr) in [(CAMERA_MAC, CAMERA), (NEIGHBOUR_MAC, NEIGHBOUR)] {
        let lease = LeaseRequest {
            mac,
            addr,
            lifetime: Duration::from_secs(3600),
            declared_name: None,
        };
        core.handle_request(&Request::Lease(lease), now);
    }
    core.finish(now);
    core
}

fn map_request(port: u16) -> Vec<u8> {
    let map = Map {
        nonce: mapping::MappingNonce([1; 12]),
        protocol: 6,
        internal_port: port,
        external_port: 0,
        external_addr: Ipv6Addr::UNSPECIFIED,
    };
    let request = crate::wire::Request {
        lifetime: 3600,
        client: CAMERA.to_ipv6_mapped(),
        body: Body::Map(map),
        options: &[],
    };
    request.emit()
}

/// RFC 6886 §3.3, for TCP.
fn natpmp_request(port: u16, lifetime: u32) -> Vec<u8> {
    let (port, lifetime) = (port.to_be_bytes(), lifetime.to_be_bytes());
    [&[0, 2, 0, 0], &port[..], &[0, 0], &lifetime[..]].concat()
}

async fn say(socket: &Socket, bytes: &[u8]) {
    let to = SocketAddr::from((GATEWAY, 5351));
    socket.send_to(bytes, to, None).await.unwrap();
}

/// Hears what comes from the port that is asked, and from nowhere else.
async fn hear(socket: &Socket) -> Vec<u8> {
    let mut buf = vec![0; 2000];
    let datagram = socket.recv(&mut buf).await.unwrap();
    assert_eq!(datagram.source, SocketAddr::from((GATEWAY, 5351)));
    buf.truncate(datagram.len);
    buf
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
const CAMERA: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 20);
const CAMERA_MAC: Mac = Mac([2, 0, 0, 0, 0, 20]);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 21);
const NEIGHBOUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 21]);
