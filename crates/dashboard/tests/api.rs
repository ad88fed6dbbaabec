//! The API over its real sockets, with a real writer and store behind it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dashboard::model::{Approval, NewMapping, NewPrefix, PolicyPatch};
use dashboard::{Client, ClientError, Context, Dashboard, Listeners, RoomState, Rooms};
use gateway::{Config, Handle, Observe};
use mapping::{
    BootId, External, FilterChange, Grant, InternalPort, LeaseRequest, Mac, MapRequest, Outcome,
    Policy, Protocol, Refusal, Request, Requester, Site, Subject, Via,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

#[path = "api/decisions.rs"]
mod decisions;
#[path = "api/sessions.rs"]
mod sessions;
#[path = "api/upstream.rs"]
mod upstream;

#[tokio::test]
async fn command_line_opens_lists_and_closes_a_port() {
    let home = Home::start().await;
    home.join("camera").await;
    let client = home.client();
    let wish = NewMapping {
        host: "camera.home.example".to_owned(),
        protocol: "tcp".to_owned(),
        internal_port: 443,
        external_port: Some(8443),
        for_s: Some(3600),
        description: "<script>alert(1)</script>".to_owned(),
    };

    let opened = client.open(&wish).await.unwrap();

    assert_eq!(
        (opened.name.as_str(), opened.external_port),
        ("camera", 8443)
    );
    assert!(
        opened
            .expires_in_s
            .is_some_and(|left| (3599..=3600).contains(&left))
    );
    assert_eq!(client.mappings().await.unwrap().len(), 1);
    let host = client.host(CAMERA).await.unwrap();
    assert_eq!(host.mappings.len(), 1);
    let audit = client.audit(100).await.unwrap();
    assert!(
        audit
            .iter()
            .any(|line| line.action == "mapping.opened" && line.actor == "cli")
    );

    client.close(opened.id).await.unwrap();
    assert_eq!(client.mappings().await.unwrap(), []);
    problem(client.close(opened.id).await, 404, "not-found");
}

#[tokio::test]
async fn prefix_moves_every_name() {
    let home = Home::start().await;
    home.join("camera").await;
    let client = home.client();
    let delegate = |text: &str, old_valid_s| NewPrefix {
        delegated: text.to_owned(),
        old_valid_s,
    };
    let address = async || {
        client
            .host("camera")
            .await
            .unwrap()
            .ipv6
            .map(|it| it.to_string())
    };

    let first = client
        .set_prefix(&delegate("2001:db8:64::/56", 0))
        .await
        .unwrap();
    assert!(first.preferred && first.nsp == "2001:db8:64:1::/96");
    assert!(address().await.unwrap().starts_with("2001:db8:64:1::"));
    client
        .set_prefix(&delegate("2001:db8:65::/56", 30))
        .await
        .unwrap();

    assert!(address().await.unwrap().starts_with("2001:db8:65:1::"));
    let prefixes = client.prefixes().await.unwrap();
    assert_eq!(prefixes.len(), 2);
    assert!(
        prefixes
            .iter()
            .any(|it| !it.preferred && it.valid_for_s.is_some())
    );
    problem(
        client.set_prefix(&delegate("fd00::/56", 0)).await,
        422,
        "prefix-invalid",
    );
    problem(
        client.set_prefix(&delegate("nonsense", 0)).await,
        422,
        "body-invalid",
    );
}

#[tokio::test]
async fn wrong_wishes_are_told_so() {
    let home = Home::start().await;
    home.join("camera").await;
    let client = home.client();
    let wish = |host: &str, protocol: &str, internal_port| NewMapping {
        host: host.to_owned(),
        protocol: protocol.to_owned(),
        internal_port,
        external_port: None,
        for_s: None,
        description: String::new(),
    };

    problem(
        client.open(&wish("nobody", "tcp", 443)).await,
        404,
        "not-found",
    );
    problem(
        client.open(&wish("camera", "sctp", 443)).await,
        422,
        "body-invalid",
    );
    problem(
        client.open(&wish("camera", "tcp", 0)).await,
        422,
        "body-invalid",
    );
    problem(
        client.open(&wish("camera", "tcp", 445)).await,
        403,
        "port-denied",
    );
    let no_time = NewMapping {
        for_s: Some(0),
        ..wish("camera", "tcp", 443)
    };
    problem(client.open(&no_time).await, 422, "body-invalid");
    problem(client.rename("camera", "wpad").await, 409, "name-not-free");
    assert_eq!(
        client.rename("camera", "front").await.unwrap().fqdn,
        "front.home.example"
    );
    problem(client.host("camera").await, 404, "not-found");
}

#[tokio::test]
async fn loopback_reads_and_never_writes() {
    let home = Home::start().await;
    let host = format!("Host: {}", home.tcp);

    let page = home.http(&format!("GET / HTTP/1.1\r\n{host}\r\n")).await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );
    for path in [
        "/app.js",
        "/style.css",
        "/icon.svg",
        "/api/v1/status",
        "/api/v1/counters",
    ] {
        let answer = home
            .http(&format!("GET {path} HTTP/1.1\r\n{host}\r\n"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    for (head, status) in [
        (
            format!("POST /api/v1/prefixes HTTP/1.1\r\n{host}\r\nContent-Length: 0\r\n"),
            403,
        ),
        (
            format!("DELETE /api/v1/mappings/1 HTTP/1.1\r\n{host}\r\n"),
            403,
        ),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n".to_owned(), 403),
        (
            format!("GET / HTTP/1.1\r\n{host}\r\nOrigin: https://evil.example\r\n"),
            403,
        ),
        (format!("GET /../Cargo.toml HTTP/1.1\r\n{host}\r\n"), 404),
        (format!("GET /nothing HTTP/1.1\r\n{host}\r\n"), 404),
        (
            format!("GET /api/v1/sessions?cursor=x HTTP/1.1\r\n{host}\r\n"),
            400,
        ),
    ] {
        let answer = home.http(&head).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head}: {answer}"
        );
    }
    let denied = home.client().counters().await.unwrap();
    let denied = denied
        .iter()
        .filter(|it| it.room == "dashboard" && it.name == "denied_total");
    assert_eq!(denied.map(|it| it.value).sum::<u64>(), 4);
}

#[tokio::test]
async fn events_arrive_as_they_happen_and_again_after_a_break() {
    let home = Home::start().await;
    let mut live = home.events(None).await;
    home.join("camera").await;

    let (id, name, data) = live.next().await;
    assert_eq!(name, "host.appeared");
    assert!(data.contains("\"fqdn\":\"camera.home.example\""), "{data}");
    home.join("camera").await;
    home.client()
        .set_prefix(&NewPrefix {
            delegated: "2001:db8:64::/56".into(),
            old_valid_s: 0,
        })
        .await
        .unwrap();
    let mut again = home.events(Some(&id)).await;
    assert_eq!(again.next().await.1, "prefix.changed");
    let mut lost = home.events(Some("nonsense")).await;
    assert_eq!(lost.next().await.1, "resync");
}

#[tokio::test]
async fn path_that_does_not_fit_is_a_problem() {
    let home = Home::start().await;
    for path in ["/api/v1/mappings/x", "/api/v1/hosts/%ff", "/%ff.js"] {
        let answer = home
            .http(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", home.tcp))
            .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
        assert!(
            answer.contains("urn:portico:problem:path-invalid"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn whoever_says_and_reads_nothing_does_not_hold_up_the_end() {
    let mut home = Home::start().await;
    let mut slow = TcpStream::connect(home.tcp).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let _events = home.events(None).await;
    home.client().status().await.unwrap();

    home.cancel.cancel();

    // who says nothing is given up after five seconds by itself
    let patience = Duration::from_secs(4);
    let ended = tokio::time::timeout(patience, &mut home.served).await;
    assert!(ended.is_ok(), "the dashboard still serves");
}

#[tokio::test]
async fn body_that_is_too_long_is_refused() {
    let home = Home::start().await;
    let description = "x".repeat(20_000);
    let wish = NewMapping {
        host: "camera".to_owned(),
        protocol: "tcp".to_owned(),
        internal_port: 443,
        external_port: None,
        for_s: None,
        description,
    };

    problem(home.client().open(&wish).await, 413, "body-invalid");
}

#[tokio::test]
async fn nobody_there_is_said_with_the_path() {
    let error = Client::new(&PathBuf::from("/nonexistent/api.sock"))
        .status()
        .await
        .unwrap_err();

    assert_eq!(
        error.to_string(),
        "no daemon answers at /nonexistent/api.sock"
    );
}

struct Home {
    handle: Handle,
    cancel: CancellationToken,
    folder: tempfile::TempDir,
    tcp: SocketAddr,
    served: tokio::task::JoinHandle<()>,
}

impl Home {
    async fn start() -> Self {
        Self::observed(Vec::new()).await
    }

    async fn observed(observers: Vec<Arc<dyn Observe>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
        let config = Config {
            site,
            state: folder.path().join("state"),
            boot_id: BootId([1; 16]),
            policy: Policy::default(),
            key: None,
        };
        let (handle, writer) = gateway::start(config, net::Clock::new()).await.unwrap();
        let cancel = CancellationToken::new();
        tokio::spawn(writer.run(cancel.clone()));
        let rooms = Rooms::default();
        rooms.set("pcp", RoomState::Serving);
        let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let addr = tcp.local_addr().unwrap();
        let unix = net::listen::unix(&folder.path().join("api.sock"), 0o600).unwrap();
        let context = Context {
            handle: handle.clone(),
            observers,
            rooms,
            version: "0",
            started: handle.now().mono,
            lan_interface: None,
            wan_interface: None,
            pool: vec!["192.168.64.192/26".to_owned()],
        };
        let listeners = Listeners {
            unix,
            tcp: vec![tcp],
        };
        let dashboard = Dashboard::new(context, listeners, cancel.clone()).unwrap();
        let served = tokio::spawn(dashboard.serve());
        Self {
            handle,
            cancel,
            folder,
            tcp: addr,
            served,
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.folder.path().join("api.sock"))
    }

    async fn join(&self, name: &str) {
        let mac: Mac = CAMERA.parse().unwrap();
        let addr = self
            .handle
            .snapshot()
            .lease_candidate(mac, |_| false)
            .unwrap();
        let lifetime = Duration::from_secs(3600);
        let declared_name = Some(name.to_owned());
        let lease = LeaseRequest {
            mac,
            addr,
            lifetime,
            declared_name,
        };
        let outcome = self.handle.request(Request::Lease(lease)).await;
        assert!(
            matches!(outcome, Outcome::Granted(Grant::Leased(_))),
            "{outcome:?}"
        );
    }

    /// Asks for a port as the camera does by PCP.
    async fn ask(&self, port: u16) -> Outcome {
        let mac: Mac = CAMERA.parse().unwrap();
        let addr = self.handle.snapshot().host(mac).unwrap().addr;
        let request = MapRequest {
            subject: Subject::Client(mapping::Client {
                addr: addr.into(),
                mac: None,
            }),
            requester: Requester::Pcp,
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(port).unwrap(),
            external: External::Suggested(None),
            lifetime: Some(Duration::from_secs(600)),
            nonce: None,
            via: Via::Both,
            peer: false,
            filters: FilterChange::default(),
            description: None,
            memo: None,
        };
        self.handle.request(Request::Map(request)).await
    }

    async fn http(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        stream
            .write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn events(&self, last: Option<&str>) -> Events {
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let head = format!(
            "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n{last}\r\n",
            self.tcp
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).await.unwrap();
        }
        Events(reader)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

struct Events(BufReader<TcpStream>);

impl Events {
    async fn next(&mut self) -> (String, String, String) {
        let (mut id, mut name) = Default::default();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(60), self.0.read_line(&mut line));
            assert_ne!(read.await.unwrap().unwrap(), 0, "the stream ended");
            let take = |field: &str| line.strip_prefix(field).map(|it| it.trim().to_owned());
            if let Some(value) = take("id: ") {
                id = value;
            } else if let Some(value) = take("event: ") {
                name = value;
            } else if let Some(data) = take("data: ") {
                return (id, name, data);
            }
        }
    }
}

#[track_caller]
fn problem<T: std::fmt::Debug>(result: Result<T, ClientError>, status: u16, slug: &str) {
    match result {
        Err(ClientError::Problem(problem)) => {
            assert_eq!(problem.status, status, "{problem:?}");
            assert!(problem.kind.ends_with(slug), "{problem:?}");
        }
        other => panic!("{other:?}"),
    }
}

fn delegation() -> NewPrefix {
    NewPrefix {
        delegated: "2001:db8:64::/56".to_owned(),
        old_valid_s: 0,
    }
}

const CAMERA: &str = "02:00:00:00:00:01";
