use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;

use mapping::Core;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::*;
use crate::counters::Counter;
use crate::zone::tests::{addr_of, grant, home_with, nsp};

#[tokio::test]
async fn dig_gets_the_public_view_by_udp_and_tcp() {
    let home = home_with(&["camera"]);
    let expected = nsp(&home).embed(addr_of(&home, "camera")).to_string();
    let running = Running::start(&home, Vec::new(), None);

    for tcp in [false, true] {
        let wan = running.at(View::Public, tcp);
        let aaaa = dig(wan, tcp, "camera.home.example", "AAAA", &["+short"]).await;
        assert_eq!(aaaa.trim(), expected);
        let a = dig(wan, tcp, "camera.home.example", "A", &[]).await;
        assert!(
            a.contains("status: NOERROR") && a.contains("ANSWER: 0") && a.contains("SOA"),
            "{a}"
        );
        assert!(a.contains("flags: qr aa rd;"), "{a}");
        let other = dig(wan, tcp, "www.example.net", "A", &[]).await;
        assert!(other.contains("status: REFUSED"), "{other}");
    }
    let axfr = dig(
        running.at(View::Public, true),
        true,
        "home.example",
        "AXFR",
        &[],
    )
    .await;
    assert!(axfr.contains("Transfer failed"), "{axfr}");
}

#[tokio::test]
async fn dig_gets_the_lan_view_by_udp_and_tcp() {
    let home = home_with(&["camera"]);
    let addr = addr_of(&home, "camera");
    let running = Running::start(&home, Vec::new(), None);

    for tcp in [false, true] {
        let lan = running.at(View::Lan, tcp);
        let a = dig(lan, tcp, "Camera.home.example", "A", &["+short"]).await;
        assert_eq!(a.trim(), addr.to_string());
        let ptr = dig(lan, tcp, "-x", &addr.to_string(), &["+short"]).await;
        assert_eq!(ptr.trim(), "camera.home.example.");
        let other = dig(lan, tcp, "www.example.net", "A", &[]).await;
        assert!(
            other.contains("status: SERVFAIL") && other.contains("ra;"),
            "{other}"
        );
    }
    assert_eq!(running.room.counters.value(Counter::ForwardNoResolver), 2);
}

#[tokio::test]
async fn a_new_snapshot_is_answered_from_as_soon_as_it_is_applied() {
    let mut home = home_with(&["camera"]);
    let running = Running::start(&home, Vec::new(), None);
    let wan = running.at(View::Public, false);
    let delegated = "2001:db8:65::/56".parse().unwrap();
    let prefix = mapping::PrefixRequest {
        delegated,
        nsp: None,
        old_valid: Duration::from_secs(9),
    };
    let mapping::Grant::Prefixed(new) = grant(&mut home, mapping::Request::Prefix(prefix)) else {
        panic!("no generation");
    };
    grant(&mut home, mapping::Request::Prefer(new.id));

    running.room.apply(&Arc::new(home.snapshot().clone()));

    let aaaa = dig(wan, false, "camera.home.example", "AAAA", &["+short"]).await;
    assert_eq!(
        aaaa.trim(),
        new.nsp.embed(addr_of(&home, "camera")).to_string()
    );
}

#[tokio::test]
async fn a_lease_is_granted_only_when_its_name_resolves() {
    let folder = tempfile::tempdir().unwrap();
    let site = home_with(&[]).snapshot().site().clone();
    let state = folder.path().to_owned();
    let boot_id = mapping::BootId([1; 16]);
    let config = gateway::Config {
        site,
        state,
        boot_id,
        policy: mapping::Policy::default(),
        key: None,
    };
    let (handle, writer) = gateway::start(config, Clock::new()).await.unwrap();
    let cancel = CancellationToken::new();
    let writer = tokio::spawn(writer.run(cancel.clone()));
    let wan = Endpoint {
        addr: "[::1]:0".parse().unwrap(),
        device: None,
    };
    let dns = bind(Config {
        lan: Vec::new(),
        wan: vec![wan],
        ttl: Duration::from_secs(60),
        resolvers: watch::channel(Vec::new()).1,
        parent: None,
        seed: [7; 32],
    })
    .unwrap();
    let [(at, _)] = dns.addresses()[..] else {
        panic!("not one endpoint")
    };
    let stop = CancellationToken::new();
    let serving = tokio::spawn(dns.serve(&handle, stop.clone()));
    let delegated = "2001:db8:64::/56".parse().unwrap();
    let prefix = mapping::PrefixRequest {
        delegated,
        nsp: None,
        old_valid: Duration::ZERO,
    };
    handle.request(mapping::Request::Prefix(prefix)).await;
    let socket = tokio::net::UdpSocket::bind("[::1]:0").await.unwrap();
    let mut buf = [0; 512];

    for index in 0..30_u8 {
        let mac = mapping::Mac([2, 0, 0, 0, 1, index]);
        let lease = mapping::LeaseRequest {
            mac,
            addr: handle.snapshot().lease_candidate(mac, |_| false).unwrap(),
            lifetime: Duration::from_secs(3600),
            declared_name: Some(format!("camera{index}")),
        };
        let outcome = handle.request(mapping::Request::Lease(lease)).await;
        assert!(
            matches!(outcome, mapping::Outcome::Granted(_)),
            "{outcome:?}"
        );

        let label = format!("camera{index}");
        let mut query = b"\0\x01\0\0\0\x01\0\0\0\0\0\0".to_vec();
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
        query.extend_from_slice(b"\x04home\x07example\0\0\x1c\0\x01");
        socket.send_to(&query, at).await.unwrap();
        let received = tokio::time::timeout(Duration::from_secs(60), socket.recv(&mut buf));
        let len = received.await.unwrap().unwrap();
        let head = crate::wire::Head::parse(&buf[..len]).unwrap();
        assert_eq!((head.rcode(), head.counts), (0, [1, 1, 0, 0]), "{label}");
    }
    cancel.cancel();
    writer.await.unwrap().unwrap();
    assert!(!serving.is_finished());
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn answers_leave_from_the_address_that_was_asked() {
    let home = home_with(&["camera"]);
    let listener = Endpoint {
        addr: "0.0.0.0:0".parse().unwrap(),
        device: None,
    };
    let running = Running::start_at(&home, listener, Vec::new(), None);
    let port = running.at(View::Lan, false).port();

    // dig says so and fails if the answer comes from another address than it asked
    let aaaa = dig(
        SocketAddr::from(([127, 0, 0, 9], port)),
        false,
        "camera.home.example",
        "AAAA",
        &["+short"],
    )
    .await;
    assert_eq!(
        aaaa.trim(),
        nsp(&home).embed(addr_of(&home, "camera")).to_string()
    );
}

#[test]
fn one_listener_of_a_device_serves_addresses_that_come_later() {
    alone(|| async {
        let netlink = net::netlink::Netlink::open().unwrap();
        let lo = netlink.index("lo").await.unwrap();
        let wan = Endpoint {
            addr: "[::]:53".parse().unwrap(),
            device: Some("lo".to_owned()),
        };
        let home = home_with(&["camera"]);
        let running = Running::start_at(&home, wan, Vec::new(), None);
        let expected = nsp(&home).embed(addr_of(&home, "camera")).to_string();
        // with no packet information the answer would come from the client's own address
        for addr in [
            "2001:db8:0:12::7f",
            "2001:db8:0:13::7f",
            "2001:db8:0:14::7f",
        ] {
            let addr: IpAddr = addr.parse().unwrap();
            netlink.add_address(lo, addr, 128).await.unwrap();
            for tcp in [false, true] {
                let at = SocketAddr::new(addr, 53);
                let more = ["+short", "-b", "2001:db8:0:12::7f"];
                let answer = dig(at, tcp, "camera.home.example", "AAAA", &more).await;
                assert_eq!(answer.trim(), expected, "{at} {tcp}");
            }
        }
        assert_eq!(running.room.counters.value(Counter::FromPublic), 6);
    });
}

#[test]
fn other_names_are_forwarded_with_failover_and_by_tcp_when_cut() {
    alone(|| async {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream::start().await;
        let resolvers = vec![silent.local_addr().unwrap(), upstream.addr];
        let home = home_with(&[]);
        let running = Running::start(&home, resolvers, None);

        let small = dig(
            running.at(View::Lan, false),
            false,
            "small.test",
            "TXT",
            &["+short"],
        )
        .await;
        assert_eq!(small.trim(), "\"small\"");
        let big = dig(
            running.at(View::Lan, false),
            false,
            "big.test",
            "TXT",
            &["+bufsize=4096"],
        )
        .await;
        assert!(
            big.contains("MSG SIZE  rcvd: 25") && big.contains("(UDP)"),
            "{big}"
        );
        let cut = dig(
            running.at(View::Lan, false),
            false,
            "big.test",
            "TXT",
            &["+ignore", "+noedns"],
        )
        .await;
        assert!(cut.contains("flags: qr tc rd ra"), "{cut}");
        let tcp = dig(running.at(View::Lan, true), true, "big.test", "TXT", &[]).await;
        assert!(tcp.contains("ANSWER: 10"), "{tcp}");
        assert_eq!(running.room.counters.value(Counter::Forwarded), 4);
        assert!(running.room.counters.value(Counter::ForwardTimeout) >= 1);
        assert_eq!(running.room.forwarder.lock().unwrap().in_flight(), 0);
    });
}

#[test]
fn named_takes_the_delegation_and_every_change_of_it() {
    alone(|| async {
        let folder = tempfile::tempdir().unwrap();
        let named = Named::start(folder.path()).await;
        let home = home_with(&["camera"]);
        let key = load_key(&folder.path().join("portico.key")).unwrap();
        let parent = ParentConfig {
            server: named.addr,
            zone: Name::from_ascii("example.").unwrap(),
            name_server: None,
            key,
        };
        let mut running = Running::start(&home, Vec::new(), Some(parent));
        running.wait_for(Counter::ParentUpdated, 1).await;
        let glue = dig(
            named.addr,
            false,
            "ns1.home.example",
            "AAAA",
            &["+norecurse"],
        )
        .await;
        assert!(glue.contains("2001:db8:0:12::7f"), "{glue}");
        assert!(
            glue.contains("home.example.\t\t60\tIN\tNS\tns1.home.example."),
            "{glue}"
        );

        let mut moved = home;
        let wan = vec!["2001:db8:0:13::7f".parse().unwrap()];
        grant(&mut moved, mapping::Request::WanAddresses(wan));
        running
            .snapshots
            .send_replace(Arc::new(moved.snapshot().clone()));
        running.wait_for(Counter::ParentUpdated, 2).await;

        let glue = dig(
            named.addr,
            false,
            "ns1.home.example",
            "AAAA",
            &["+norecurse"],
        )
        .await;
        assert!(
            glue.contains("2001:db8:0:13::7f") && !glue.contains("2001:db8:0:12::7f"),
            "{glue}"
        );
        assert_eq!(running.room.counters.value(Counter::ParentUnverified), 0);
    });
}

#[test]
fn named_with_another_secret_is_not_believed() {
    alone(|| async {
        let folder = tempfile::tempdir().unwrap();
        let named = Named::start(folder.path()).await;
        let key = Key::new(Name::from_ascii("portico.").unwrap(), vec![9; 32]);
        let zone = Name::from_ascii("example.").unwrap();
        let parent = ParentConfig {
            server: named.addr,
            zone,
            name_server: None,
            key,
        };
        let mut running = Running::start(&home_with(&[]), Vec::new(), Some(parent));

        running.wait_for(Counter::ParentUnverified, 1).await;
        assert_eq!(running.room.counters.value(Counter::ParentUpdated), 0);
    });
}

#[test]
fn a_key_that_everybody_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, "key k { algorithm hmac-sha256; secret \"AQ==\"; };").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(load_key(&path), Err(LoadKeyError::Exposed { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(load_key(&path).is_ok());
    assert!(matches!(
        load_key(&folder.path().join("none")),
        Err(LoadKeyError::Read { .. })
    ));
}

/// Runs a test on a thread in a network namespace of its own, where every port is free.
fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        net::namespace::unshare_network().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let netlink = net::netlink::Netlink::open().unwrap();
            let lo = netlink.index("lo").await.unwrap();
            netlink.set_up(lo).await.unwrap();
            test().await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The room without a writer: the test applies snapshots itself.
pub(super) struct Running {
    pub(super) room: Arc<Room>,
    addresses: Vec<(SocketAddr, SocketAddr)>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    tasks: JoinSet<Result<(), ServeError>>,
}

impl Running {
    pub(super) fn start(
        home: &Core,
        resolvers: Vec<SocketAddr>,
        parent: Option<ParentConfig>,
    ) -> Self {
        let lan = Endpoint {
            addr: "127.0.0.1:0".parse().unwrap(),
            device: None,
        };
        Self::start_at(home, lan, resolvers, parent)
    }

    fn start_at(
        home: &Core,
        lan: Endpoint,
        resolvers: Vec<SocketAddr>,
        parent: Option<ParentConfig>,
    ) -> Self {
        let wan = Endpoint {
            addr: "[::1]:0".parse().unwrap(),
            device: None,
        };
        let dns = bind(Config {
            lan: vec![lan],
            wan: vec![wan],
            ttl: Duration::from_secs(60),
            resolvers: watch::channel(resolvers).1,
            parent,
            seed: [7; 32],
        })
        .unwrap();
        let addresses = dns
            .addresses()
            .into_iter()
            .map(|(udp, tcp)| (udp, tcp.unwrap()))
            .collect();
        let snapshot = Arc::new(home.snapshot().clone());
        let room = Arc::clone(&dns.room);
        room.apply(&snapshot);
        let (snapshots, receiver) = watch::channel(Arc::clone(&snapshot));
        let tasks = dns.start(&snapshot, receiver).unwrap();
        Self {
            room,
            addresses,
            snapshots,
            tasks,
        }
    }

    pub(super) fn at(&self, view: View, tcp: bool) -> SocketAddr {
        let index = usize::from(view == View::Public);
        let (udp_addr, tcp_addr) = self.addresses[index];
        if tcp { tcp_addr } else { udp_addr }
    }

    pub(super) async fn wait_for(&mut self, counter: Counter, at_least: u64) {
        let deadline = self.room.clock.mono() + Duration::from_secs(60);
        while self.room.counters.value(counter) < at_least {
            assert!(
                self.room.clock.mono() < deadline,
                "{counter:?} stays below {at_least}"
            );
            tokio::select! {
                ended = self.tasks.join_next() => panic!("a task ended: {ended:?}"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    }
}

pub(super) async fn dig(
    at: SocketAddr,
    tcp: bool,
    name: &str,
    kind: &str,
    more: &[&str],
) -> String {
    let transport = if tcp { "+tcp" } else { "+notcp" };
    let output = Command::new("dig")
        .arg(format!("@{}", at.ip()))
        .args([
            "-p",
            &at.port().to_string(),
            "+time=60",
            "+tries=1",
            transport,
        ])
        .args(more)
        .args([name, kind])
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A resolver that knows `small.test`, and `big.test` only by TCP.
struct Upstream {
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Upstream {
    async fn start() -> Self {
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(addr).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buf = [0; 4096];
            loop {
                let (len, from) = udp.recv_from(&mut buf).await.unwrap();
                udp.send_to(&resolve(&buf[..len], false), from)
                    .await
                    .unwrap();
            }
        });
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut query).await.unwrap();
                let answer = resolve(&query, true);
                stream
                    .write_u16(u16::try_from(answer.len()).unwrap())
                    .await
                    .unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Self {
            addr,
            _tasks: tasks,
        }
    }
}

fn resolve(query: &[u8], tcp: bool) -> Vec<u8> {
    use hickory_proto::op::{Message, MessageType};
    use hickory_proto::rr::rdata::TXT;
    use hickory_proto::rr::{RData, Record};

    let mut message = Message::from_vec(query).unwrap();
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    let name = message.queries[0].name.clone();
    let txt = |text: String| Record::from_rdata(name.clone(), 5, RData::TXT(TXT::new(vec![text])));
    if name.to_ascii() == "small.test." {
        message.add_answer(txt("small".to_owned()));
    } else if tcp {
        message.add_answers((0..10).map(|index| txt(format!("{index}").repeat(240))));
    } else {
        message.metadata.truncation = true;
    }
    message.to_vec().unwrap()
}

/// BIND as the primary of the zone above.
struct Named {
    addr: SocketAddr,
    _process: tokio::process::Child,
}

impl Named {
    async fn start(folder: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let secret = data_encoding::BASE64.encode(&[5; 32]);
        let key =
            format!("key \"portico\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{secret}\";\n}};\n");
        let port = 5300;
        let path = folder.display();
        let conf = format!(
            "include \"{path}/portico.key\";\ncontrols {{ }};\n\
             options {{ directory \"{path}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             pid-file none; session-keyfile none; recursion no; dnssec-validation no; }};\n\
             zone \"example\" {{ type primary; file \"example.zone\"; update-policy {{\n\
             grant portico name home.example. NS; grant portico name ns1.home.example. AAAA; }}; }};\n"
        );
        let zone = "$TTL 60\n@ SOA ns hostmaster 1 60 60 600 1\n@ NS ns\nns A 127.0.0.1\n\
                    home NS old.home\nold.home AAAA 2001:db8::dead\n";
        fs::write(folder.join("portico.key"), key).unwrap();
        fs::set_permissions(
            folder.join("portico.key"),
            fs::Permissions::from_mode(0o600),
        )
        .unwrap();
        fs::write(folder.join("named.conf"), conf).unwrap();
        fs::write(folder.join("example.zone"), zone).unwrap();
        let process = Command::new("/usr/sbin/named")
            .args(["-g", "-n", "1", "-c"])
            .arg(folder.join("named.conf"))
            .stderr(fs::File::create(folder.join("named.log")).unwrap())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let addr = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
        let deadline = Clock::new().mono() + Duration::from_secs(120);
        while !dig(addr, true, "example", "SOA", &["+short"])
            .await
            .contains("hostmaster")
        {
            let log = fs::read_to_string(folder.join("named.log")).unwrap();
            assert!(
                Clock::new().mono() < deadline,
                "named does not answer: {log}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            addr,
            _process: process,
        }
    }
}
