//! Real clients against the real sockets, each home in namespaces of its own.

use std::sync::mpsc;

use igd_next::PortMappingProtocol;
use mapping::{
    BootId, Core, ExternalPort, LeaseRequest, Mac, Mapping, Policy, PrefixRequest, Protocol, Site,
};
use net::namespace;
use net::netlink::{Netlink, NewLink, Route, Target};
use net::packet::{Hears, PacketSocket};
use net::udp::Socket;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::*;
use crate::server::{GROUP, LINK_GROUP, PORT};
use crate::{Edition, Resource, ServiceKind};

mod hostile;

#[test]
fn igd_next_finds_us_and_opens_and_closes_ports() {
    home(|home| async move {
        let mut options = igd_next::SearchOptions::default();
        options.bind_addr = SocketAddr::from((home.camera, 0));
        let gateway = igd_next::aio::tokio::search_gateway(options).await.unwrap();
        let camera = SocketAddr::from((home.camera, 8080));

        let external = gateway.get_external_ip().await.unwrap();
        let begun = Clock::new().mono();
        gateway
            .add_port(PortMappingProtocol::TCP, 443, camera, 600, "<camera>")
            .await
            .unwrap();
        let any = gateway
            .add_any_port(PortMappingProtocol::UDP, camera, 0, "x")
            .await
            .unwrap();
        let entry = gateway.get_generic_port_mapping_entry(0).await.unwrap();

        assert_eq!(external, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert_eq!(
            home.mapping(Protocol::Tcp, 443).unwrap().description,
            "<camera>"
        );
        assert!(home.mapping(Protocol::Udp, any).is_some());
        assert_eq!((entry.external_port, entry.internal_port), (443, 8080));
        assert_eq!(entry.port_mapping_description, "<camera>");
        let left = Duration::from_secs(entry.lease_duration.into());
        let took = Clock::new().mono() - begun;
        assert!((LEASE - took - SECOND..=LEASE).contains(&left), "{left:?}");

        gateway
            .remove_port(PortMappingProtocol::TCP, 443)
            .await
            .unwrap();
        assert!(home.mapping(Protocol::Tcp, 443).is_none());
        assert!(
            gateway
                .remove_port(PortMappingProtocol::TCP, 443)
                .await
                .is_err()
        );
    });
}

#[test]
fn upnpc_opens_lists_and_closes_a_port() {
    home(|home| async move {
        let added = upnpc(&["-e", "heat & pump", "-a", "@", "8080", "4433", "TCP", "900"]).await;
        assert!(
            added.contains("external 0.0.0.0:4433 TCP is redirected to internal"),
            "{added}"
        );
        let mapping = home.mapping(Protocol::Tcp, 4433).unwrap();
        assert_eq!(
            (mapping.internal_port.get(), mapping.description.as_str()),
            (8080, "heat & pump")
        );

        // it searches for two seconds, which once is enough
        let url = |edition| {
            let path = Resource::Description(edition).path(&Identity::new([7; 16]));
            format!("http://{}{path}", home.endpoint)
        };
        let (first, second) = (url(Edition::V1), url(Edition::V2));
        let status = upnpc(&["-u", &first, "-s"]).await;
        assert!(status.contains("Status : Connected, uptime="), "{status}");
        assert!(status.contains("Connection Type : IP_Routed"), "{status}");
        assert!(status.contains("ExternalIPAddress = 0.0.0.0"), "{status}");

        // it shows text as it came
        let list = upnpc(&["-u", &first, "-l"]).await;
        let line = format!("TCP  4433->{}:8080  'heat &amp; pump' ''", home.camera);
        assert!(list.contains(&line), "{list}");

        // it searches for version 1 only
        let any = upnpc(&["-u", &second, "-n", "@", "9000", "9000", "TCP", "900"]).await;
        assert!(any.contains("is redirected to internal"), "{any}");
        assert!(home.mapping(Protocol::Tcp, 9000).is_some());
        assert_eq!(home.count(), 2, "{any}");

        let deleted = upnpc(&["-u", &first, "-d", "4433", "TCP"]).await;
        assert!(
            deleted.contains("UPNP_DeletePortMapping() returned : 0"),
            "{deleted}"
        );
        assert!(home.mapping(Protocol::Tcp, 4433).is_none());

        let foreign = upnpc(&["-u", &second, "-a", "192.168.64.1", "8080", "8080", "TCP"]).await;
        assert!(foreign.contains("failed with code 606"), "{foreign}");
    });
}

#[test]
fn u_2_the_first_word_and_the_last_is_byebye() {
    home(|home| async move {
        let mut first = home.hear().await;
        assert!(first.contains("NTS: ssdp:byebye"), "{first}");
        while !first.contains("NTS: ssdp:alive") {
            first = home.hear().await;
        }
        home.cancel.cancel();
        let mut last = first;
        while !last.contains("NTS: ssdp:byebye") {
            last = home.hear().await;
        }
    });
}

#[test]
fn u_13_camera_that_speaks_ipv6_is_known_by_its_mac() {
    home(|home| async move {
        let net = Netlink::open().unwrap();
        let lan = net.index("eth0").await.unwrap();
        let (to, authority) = endpoint_v6(lan).await;

        let urn = ServiceKind::WanIpConnection.urn(2);
        let mapping = "<NewRemoteHost/><NewExternalPort>443</NewExternalPort>\
            <NewProtocol>TCP</NewProtocol><NewInternalPort>8080</NewInternalPort>\
            <NewInternalClient>camera</NewInternalClient><NewEnabled>1</NewEnabled>\
            <NewPortMappingDescription/><NewLeaseDuration>60</NewLeaseDuration>";
        let body = format!(
            "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>\
             <u:AddPortMapping xmlns:u='{urn}'>{mapping}</u:AddPortMapping></s:Body></s:Envelope>"
        );
        let control = Resource::Control(Edition::V2, ServiceKind::WanIpConnection);
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: text/xml\r\n\
             SOAPAction: \"{urn}#AddPortMapping\"\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            control.path(&Identity::new([7; 16])),
            body.len(),
        );
        let answer = exchange(to.into(), &request).await;

        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(home.mapping(Protocol::Tcp, 443).is_some());
    });
}

#[test]
fn u_12_subscriber_hears_of_what_changes() {
    home(|home| async move {
        let ears = TcpListener::bind((home.camera, 0)).await.unwrap();
        let at = ears.local_addr().unwrap();
        let subscribe = |callback: &str| {
            let events = Resource::Events(Edition::V2, ServiceKind::WanIpConnection);
            let path = events.path(&Identity::new([7; 16]));
            format!(
                "SUBSCRIBE {path} HTTP/1.1\r\nHost: {}\r\nCALLBACK: <http://{callback}/x>\r\n\
                 NT: upnp:event\r\nConnection: close\r\n\r\n",
                home.endpoint
            )
        };
        let foreign = home.http(&subscribe("192.168.64.1:80")).await;
        assert!(foreign.starts_with("HTTP/1.1 412 "), "{foreign}");
        let answer = home.http(&subscribe(&at.to_string())).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

        let first = take_event(&ears).await;
        assert!(first.contains("\r\nSEQ: 0\r\n"), "{first}");
        assert!(first.contains("<PortMappingNumberOfEntries>0<"), "{first}");
        upnpc(&["-a", "@", "8080", "4433", "TCP", "900"]).await;
        let second = take_event(&ears).await;
        assert!(second.contains("\r\nSEQ: 1\r\n"), "{second}");
        assert!(
            second.contains("<PortMappingNumberOfEntries>1<"),
            "{second}"
        );
        assert!(second.contains("<SystemUpdateID>"), "{second}");
        while home.counters.value(Event::NotifyDelivered) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn t_3_events_follow_no_redirection() {
    home(|home| async move {
        let ears = TcpListener::bind((home.camera, 0)).await.unwrap();
        let elsewhere = TcpListener::bind((home.camera, 0)).await.unwrap();
        let at = ears.local_addr().unwrap();
        let events = Resource::Events(Edition::V1, ServiceKind::WanIpConnection);
        let subscribe = format!(
            "SUBSCRIBE {} HTTP/1.1\r\nHost: {}\r\nCALLBACK: <http://{at}/x>\r\n\
             NT: upnp:event\r\nConnection: close\r\n\r\n",
            events.path(&Identity::new([7; 16])),
            home.endpoint
        );
        let answer = home.http(&subscribe).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

        let (mut stream, from) = ears.accept().await.unwrap();
        assert_eq!(from.ip(), IpAddr::V4(GATEWAY));
        let to = elsewhere.local_addr().unwrap();
        let moved = format!("HTTP/1.1 301 Moved\r\nLocation: http://{to}/\r\n\r\n");
        stream.write_all(moved.as_bytes()).await.unwrap();
        while home.counters.value(Event::NotifyFailed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let nobody = timeout(Duration::from_millis(300), elsewhere.accept()).await;
        assert!(nobody.is_err(), "{nobody:?}");
    });
}

#[test]
fn u_4_counters_are_those_of_the_interface() {
    home(|home| async move {
        let bytes = async || {
            let status = upnpc(&["-s"]).await;
            let line = status.lines().find(|line| line.starts_with("Bytes:"));
            let line = line.unwrap_or_else(|| panic!("{status}"));
            let words: Vec<u64> = line
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            assert_eq!(words.len(), 2, "{line}");
            words
        };
        let (before, after) = (bytes().await, bytes().await);
        assert!(
            after[0] > before[0] && after[1] > before[1],
            "{before:?} {after:?}"
        );
        drop(home);
    });
}

#[test]
fn interface_without_ipv6_is_served_on_ipv4() {
    let served = in_namespace(|| async {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let net = Netlink::open().unwrap();
        let here = namespace::current().unwrap();
        net.add_veth(NewLink::new("lan0"), NewLink::new("eth0"), &here)
            .await
            .unwrap();
        let lan = net.index("lan0").await.unwrap();
        net.add_address(lan, GATEWAY.into(), 24).await.unwrap();
        net.set_up(lan).await.unwrap();
        let server = bind(&options(lan), StdRng::seed_from_u64(1)).unwrap();
        assert_eq!(*server.endpoint().ip(), GATEWAY);
    });
    served.join().unwrap();
}

/// Searches over IPv6 until we are found: where actions go, as an address and as a text.
async fn endpoint_v6(lan: u32) -> (std::net::SocketAddrV6, String) {
    let options = net::udp::Options::new().multicast_interface(lan);
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let socket = Socket::bind(any, &options).unwrap();
    let group = SocketAddr::V6(std::net::SocketAddrV6::new(LINK_GROUP, PORT, 0, lan));
    let search = b"M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
        ST: urn:schemas-upnp-org:device:InternetGatewayDevice:2\r\n\r\n";
    let mut buf = [0; 2048];
    let heard = loop {
        let _not_yet = socket.send_to(search, group, None).await;
        let answer = timeout(Duration::from_millis(1500), socket.recv(&mut buf)).await;
        if let Ok(answer) = answer {
            break answer.unwrap();
        }
    };
    let answer = std::str::from_utf8(&buf[..heard.len]).unwrap();
    let location = answer.split("LOCATION: http://").nth(1).unwrap();
    let (authority, _) = location.split_once('/').unwrap();
    assert!(authority.starts_with("[fe80::"), "{answer}");
    let SocketAddr::V6(mut to) = authority.parse().unwrap() else {
        panic!("{authority}")
    };
    to.set_scope_id(lan);
    (to, authority.to_owned())
}

/// What a client in the home sees.
struct Home {
    camera: Ipv4Addr,
    endpoint: SocketAddrV4,
    core: Truth,
    counters: Counters,
    ears: Socket,
    cancel: CancellationToken,
}

impl Home {
    fn mapping(&self, protocol: Protocol, port: u16) -> Option<Arc<Mapping>> {
        let port = ExternalPort::new(port).unwrap();
        self.core
            .snapshot()
            .mapping_by_external(self.camera, protocol, port)
            .cloned()
    }

    fn count(&self) -> usize {
        self.core.snapshot().mapping_count()
    }

    async fn hear(&self) -> String {
        let mut buf = [0; 2048];
        let heard = self.ears.recv(&mut buf).await.unwrap();
        String::from_utf8(buf[..heard.len].to_vec()).unwrap()
    }

    async fn http(&self, request: &str) -> String {
        exchange(self.endpoint.into(), request).await
    }
}

async fn exchange(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut answer = Vec::new();
    // the server may have said no before everything is sent
    let _early = stream.write_all(request.as_bytes()).await;
    let _reset = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn take_event(ears: &TcpListener) -> String {
    let (mut stream, _) = ears.accept().await.unwrap();
    let mut event = Vec::new();
    while !event.ends_with(b"</e:propertyset>") {
        assert_ne!(stream.read_buf(&mut event).await.unwrap(), 0);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    String::from_utf8(event).unwrap()
}

/// The core without a store.
#[derive(Clone)]
struct Truth(Arc<Mutex<Core>>, Arc<watch::Sender<Arc<Snapshot>>>);

impl Truth {
    fn decide(&self, request: &Request) -> Outcome {
        let mut core = self.0.lock().unwrap();
        let now = self.now();
        core.handle_timeout(now);
        let (outcome, _) = core.handle_request(request, now);
        core.finish(now);
        self.1.send_replace(Arc::new(core.snapshot().clone()));
        outcome
    }

    fn grant(&self, request: &Request) {
        let outcome = self.decide(request);
        assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
    }
}

impl Writer for Truth {
    fn now(&self) -> Now {
        Clock::new().now()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.0.lock().unwrap().snapshot().clone())
    }

    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.1.subscribe()
    }

    fn request(&self, request: Request) -> impl Future<Output = Outcome> + Send {
        std::future::ready(self.decide(&request))
    }
}

/// Runs `client` in a namespace on the LAN of a gateway in another one.
#[track_caller]
fn home<F: Future<Output = ()>>(client: impl FnOnce(Home) -> F + Send + 'static) {
    home_where(|| (), client);
}

/// As [`home`]; `prepare` runs on the gateway before anything else.
#[track_caller]
fn home_where<F: Future<Output = ()>>(
    prepare: impl FnOnce() + Send + 'static,
    client: impl FnOnce(Home) -> F + Send + 'static,
) {
    let site = Site::new(GATEWAY, 24, "home.example".to_owned()).unwrap();
    let now = Clock::new().now();
    let core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
    let published = watch::Sender::new(Arc::new(core.snapshot().clone()));
    let core = Truth(Arc::new(Mutex::new(core)), Arc::new(published));
    let camera = join(&core);
    let (far, near) = mpsc::channel();
    let (tell_ears, ears) = mpsc::channel();
    let (bound, wait_bound) = mpsc::channel();
    let cancel = CancellationToken::new();
    let client = {
        let (core, cancel) = (core.clone(), cancel.clone());
        move || async move {
            far.send(namespace::current().unwrap()).unwrap();
            let (endpoint, counters): (SocketAddrV4, Counters) = wait_bound.recv().unwrap();
            let net = Netlink::open().unwrap();
            let lan = net.index("eth0").await.unwrap();
            net.add_address(lan, camera.into(), 24).await.unwrap();
            net.set_up(lan).await.unwrap();
            net.wait_ready(lan, LONG).await.unwrap();
            let route = Route::new("239.0.0.0".parse().unwrap(), 8, Target::Device(lan));
            net.add_route(route).await.unwrap();
            let options = net::udp::Options::new()
                .reuse_addr()
                .join(IpAddr::V4(GROUP), lan);
            let group = Socket::bind(SocketAddr::from((GROUP, PORT)), &options).unwrap();
            tell_ears.send(()).unwrap();
            let home = Home {
                camera,
                endpoint,
                core,
                counters,
                ears: group,
                cancel: cancel.clone(),
            };
            client(home).await;
            cancel.cancel();
        }
    };
    let gateway = move || async move {
        prepare();
        let net = Netlink::open().unwrap();
        let there = near.recv().unwrap();
        net.add_veth(
            NewLink::new("lan0"),
            NewLink::new("eth0").mac(CAMERA),
            &there,
        )
        .await
        .unwrap();
        let lan = net.index("lan0").await.unwrap();
        net.add_address(lan, GATEWAY.into(), 24).await.unwrap();
        net.set_up(lan).await.unwrap();
        let server = bind(&options(lan), StdRng::seed_from_u64(1)).unwrap();
        bound
            .send((server.endpoint(), server.counters.clone()))
            .unwrap();
        ears.recv().unwrap();
        // until then answers are dropped
        net.wait_ready(lan, LONG).await.unwrap();
        server.serve_with(core, cancel).await.unwrap();
    };
    let threads = [in_namespace(client), in_namespace(gateway)];
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn options(ifindex: u32) -> Options {
    Options {
        lan: "lan0".to_owned(),
        ifindex,
        wan: "lan0".to_owned(),
        pinholes: None,
        address: GATEWAY,
        http_port: 0,
        identity: Identity::new([7; 16]),
    }
}

fn in_namespace<F: Future<Output = ()>>(
    run: impl FnOnce() -> F + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(|| {
        namespace::unshare_network().unwrap();
        // nobody else is there whose address could be a duplicate
        net::sysctl::write("ipv6/conf/default/accept_dad", "0").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            timeout(Duration::from_secs(170), run())
                .await
                .expect("in time");
        });
    })
}

fn join(truth: &Truth) -> Ipv4Addr {
    let addr = lease(truth, CAMERA, "camera");
    let prefix = PrefixRequest {
        delegated: "2001:db8:64::/56".parse().unwrap(),
        nsp: None,
        old_valid: Duration::ZERO,
    };
    truth.grant(&Request::Prefix(prefix));
    addr
}

fn lease(truth: &Truth, mac: Mac, name: &str) -> Ipv4Addr {
    let addr = truth.snapshot().lease_candidate(mac, |_| false).unwrap();
    truth.grant(&Request::Lease(LeaseRequest {
        mac,
        addr,
        lifetime: Duration::from_secs(3600),
        declared_name: Some(name.to_owned()),
    }));
    addr
}

async fn upnpc(arguments: &[&str]) -> String {
    // -i: go on though the external address is not a public IPv4 address
    let output = Command::new("upnpc")
        .arg("-i")
        .args(arguments)
        .output()
        .await;
    let output = output.expect("upnpc, of Debian's package miniupnpc");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).unwrap()
}

const LEASE: Duration = Duration::from_secs(600);
/// What is left is told in whole seconds.
const SECOND: Duration = Duration::from_secs(1);

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

const CAMERA: Mac = Mac([2, 0, 0, 0, 0, 1]);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
