//! What is kept of sessions.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use gateway::{LogCursor, LogPage, LogQuery, Observe as _, SessionFilter};
use mapping::{BootId, Outcome, Protocol, Request};

use super::home::*;
use crate::run::*;

#[test]
fn log_knows_who_was_behind_a_pool_address() {
    in_namespaces(async {
        let folder = tempfile::tempdir().unwrap();
        let collector = UnixDatagram::bind(folder.path().join("collector")).unwrap();
        collector.set_nonblocking(true).unwrap();
        let mut house = House::build(folder.path()).await;
        house.start();
        let (remote, pool) = house.knock().await;
        let now = Clock::new().now().wall;
        let who = query(pool, now);

        let page = house.observer.log(who).await.unwrap();

        assert_eq!(page.entries.len(), 1, "{page:?}");
        let entry = page.entries[0];
        assert_eq!(entry.ends.remote, remote);
        assert_eq!(entry.ended, None);
        assert!(entry.began <= now && page.since.unwrap() <= now);
        let other = LogQuery {
            filter: SessionFilter {
                pool_port: Some(!pool.1),
                ..who.filter
            },
            ..who
        };
        assert_eq!(house.observer.log(other).await.unwrap().entries, []);
        let all = SessionFilter::default();
        assert_eq!(house.observer.end_sessions(all).await.unwrap().count, 1);
        let page = house.observer.log(who).await.unwrap();
        let end = page.entries[0].ended.unwrap();
        assert_eq!(end.why, gateway::EndReason::Requested);
        assert!(end.at >= now && page.entries[0].traffic.packets_in > 0);

        house.stop().await;
        let mut buf = [0; 2048];
        for message in [" SADD - proto=UDP ", " SDEL - proto=UDP "] {
            let len = collector.recv(&mut buf).unwrap();
            let text = std::str::from_utf8(&buf[..len]).unwrap();
            assert!(text.contains(message), "{text}");
            assert!(text.contains(&format!("remote=[{REMOTE}]:{} ", remote.1)));
        }
    });
}

#[test]
fn without_a_folder_nothing_is_kept() {
    in_namespaces(async {
        let folder = tempfile::tempdir().unwrap();
        let mut house = House::build(folder.path()).await;
        house.keep = Keep::default();
        house.start();
        let (_, pool) = house.knock().await;

        let page = house
            .observer
            .log(query(pool, Clock::new().now().wall))
            .await;

        assert_eq!(page, Ok(LogPage::default()));
        house.stop().await;
    });
}

/// A gateway whose translator can be started again.
struct House {
    wires: Wires,
    handle: Handle,
    writing: CancellationToken,
    keep: Keep,
    observer: Observer,
    running: Option<(
        CancellationToken,
        tokio::task::JoinHandle<Result<(), RunError>>,
    )>,
}

impl House {
    async fn build(folder: &Path) -> Self {
        let config = gateway::Config {
            site: site(),
            state: folder.to_owned(),
            boot_id: BootId([1; 16]),
            seed: gateway::Seed {
                key: Some([7; 16]),
                ..gateway::Seed::default()
            },
        };
        let (handle, writer) = gateway::start(config, Clock::new()).await.unwrap();
        let server = handle
            .snapshot()
            .lease_candidate(CAMERA, |_| false)
            .unwrap();
        let writing = CancellationToken::new();
        tokio::spawn(writer.run(writing.clone()));
        Self {
            wires: Wires::build(server).await,
            handle,
            writing,
            keep: Keep {
                state: Some(folder.to_owned()),
                log: LogLimits::default(),
                syslog: Some(Syslog::Local(folder.join("collector"))),
            },
            observer: Observer::new().0,
            running: None,
        }
    }

    fn start(&mut self) {
        let (observer, inbox) = Observer::new();
        let cancel = CancellationToken::new();
        let settings = Settings {
            keep: self.keep.clone(),
            ..settings()
        };
        let task = tokio::spawn(run(settings, &self.handle, inbox, cancel.clone()));
        self.observer = observer;
        self.running = Some((cancel, task));
    }

    async fn stop(&mut self) {
        let (cancel, task) = self.running.take().unwrap();
        cancel.cancel();
        task.await.unwrap().unwrap();
    }

    async fn grant(&self, request: Request) {
        let outcome = self.handle.request(request).await;
        assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
    }

    /// Opens a port, and speaks to it both ways and once more; returns from where the remote spoke
    /// and as whom the server saw it.
    async fn knock(&self) -> ((Ipv6Addr, u16), (Ipv4Addr, u16)) {
        self.grant(prefix("2001:db8:64::/56", Duration::ZERO)).await;
        self.grant(lease(self.wires.server)).await;
        self.grant(map(Protocol::Udp, 5000, 5001)).await;
        let echo = self
            .wires
            .at(Place::Server, || udp((self.wires.server, 5001)));
        let socket = self.wires.at(Place::Remote, || udp((REMOTE, 0)));
        let nsp = newest_nsp(&self.handle.snapshot());
        let to = SocketAddr::from((nsp.embed(self.wires.server), 5000));
        let mut buf = [0; 9];
        let mut seen = None;
        for _ in 0..2 {
            socket.send_to(b"ping", to).await.unwrap();
            let (len, from) = echo.recv_from(&mut buf).await.unwrap();
            echo.send_to(&buf[..len], from).await.unwrap();
            socket.recv_from(&mut buf).await.unwrap();
            seen = Some(from);
        }
        let SocketAddr::V4(pool) = seen.unwrap() else {
            panic!("the server sees IPv4");
        };
        let port = socket.local_addr().unwrap().port();
        ((REMOTE, port), (*pool.ip(), pool.port()))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.writing.cancel();
    }
}

fn query(pool: (Ipv4Addr, u16), at: mapping::Wall) -> LogQuery {
    LogQuery {
        filter: SessionFilter {
            pool: Some(pool.0),
            pool_port: Some(pool.1),
            ..SessionFilter::default()
        },
        from: at,
        until: at,
        limit: 10,
        cursor: LogCursor(0),
    }
}
