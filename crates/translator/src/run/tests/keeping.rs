//! What is kept of sessions.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use gateway::{LogCursor, LogPage, LogQuery, Observe as _, SessionFilter};
use mapping::{BootId, Outcome, Protocol, Request};
use tokio::net::UdpSocket;

use super::home::*;
use crate::pool::PoolRange;
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

#[test]
fn session_goes_on_when_the_translator_was_stopped_and_started() {
    in_namespaces(async {
        let folder = tempfile::tempdir().unwrap();
        let mut house = House::build(folder.path()).await;
        house.start();
        let talk = house.talk().await;
        house.stop().await;

        house.start();

        talk.server_says(b"still there").await;
        house.remembers("restored", 1).await;
        let now = Clock::new().now().wall;
        let page = house.observer.log(query(talk.pool, now)).await.unwrap();
        let ends: Vec<_> = page.entries.iter().map(|entry| entry.ended).collect();
        assert_eq!(ends, [None], "it began once and lives: {page:?}");
        // with another pool it cannot go on
        house.stop().await;
        house.pool = PoolRange::new([192, 168, 64, 248].into(), 29).unwrap();
        house.start();
        house.remembers("refused", 1).await;
        let page = house.observer.log(query(talk.pool, now)).await.unwrap();
        let end = page.entries[0].ended.unwrap();
        assert_eq!(end.why, gateway::EndReason::Lost);
        assert!(
            end.at >= now,
            "it was alive when the translator was stopped"
        );
        house.stop().await;
    });
}

#[test]
fn session_goes_on_when_the_translator_was_killed() {
    in_namespaces(async {
        let folder = tempfile::tempdir().unwrap();
        let mut house = House::build(folder.path()).await;
        house.start();
        // the first file comes with the start, and holds no session
        let file = folder.path().join("sessions");
        let none = longer(&file, 0).await;
        let talk = house.talk().await;
        longer(&file, none).await;
        // what a process leaves that is killed now
        let left = tempfile::tempdir().unwrap();
        std::fs::copy(&file, left.path().join("sessions")).unwrap();
        house.stop().await;
        house.keep.state = Some(left.path().to_owned());

        house.start();

        talk.server_says(b"still there").await;
        house.stop().await;
    });
}

#[test]
fn lost_sessions_stop_nothing_and_are_counted() {
    in_namespaces(async {
        let folder = tempfile::tempdir().unwrap();
        let mut house = House::build(folder.path()).await;
        house.start();
        let talk = house.talk().await;
        house.stop().await;
        let path = folder.path().join("sessions");
        let len = std::fs::metadata(&path).unwrap().len();
        std::fs::write(&path, vec![0xa5; usize::try_from(len).unwrap()]).unwrap();

        house.start();

        house.remembers("damaged", 1).await;
        house.remembers("restored", 0).await;
        talk.remote_says(b"new").await;
        house.stop().await;
    });
}

/// Waits until a file is longer, and returns how long it is.
async fn longer(file: &Path, than: u64) -> u64 {
    let grown = async {
        loop {
            match std::fs::metadata(file) {
                Ok(found) if found.len() > than => return found.len(),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, grown).await.unwrap()
}

/// A remote and a server that speak by UDP.
struct Talk {
    remote: UdpSocket,
    server: UdpSocket,
    to: SocketAddr,
    /// As whom the server sees the remote.
    pool: (Ipv4Addr, u16),
}

impl Talk {
    /// Returns as whom the server sees the remote.
    async fn remote_says(&self, words: &[u8]) -> SocketAddr {
        says(&self.remote, self.to, words, &self.server).await
    }

    async fn server_says(&self, words: &[u8]) {
        let from = says(&self.server, self.pool.into(), words, &self.remote).await;
        assert_eq!(from, self.to);
    }
}

/// Says something again and again until it is heard: what comes before somebody translates is
/// lost.
async fn says(mouth: &UdpSocket, to: SocketAddr, words: &[u8], ear: &UdpSocket) -> SocketAddr {
    let mut buf = [0; 64];
    let heard = async {
        loop {
            mouth.send_to(words, to).await.unwrap();
            let pause = Duration::from_millis(50);
            while let Ok(heard) = tokio::time::timeout(pause, ear.recv_from(&mut buf)).await {
                let (len, from) = heard.unwrap();
                if &buf[..len] == words {
                    return from;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap()
}

/// A gateway whose translator can be started again.
struct House {
    wires: Wires,
    handle: Handle,
    writing: CancellationToken,
    pool: PoolRange,
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
            policy: mapping::Policy::default(),
            key: Some([7; 16]),
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
            pool: settings().config.pool[0],
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
            config: Config::new(self.pool),
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
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut outcome = self.handle.request(request.clone()).await;
        // "ask again", while the translator is still starting
        while outcome == Outcome::Refused(mapping::Refusal::Unavailable)
            && tokio::time::Instant::now() < deadline
        {
            outcome = self.handle.request(request.clone()).await;
        }
        assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
    }

    /// Waits until so many sessions of before have this fate.
    async fn remembers(&self, fate: &str, wanted: u64) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let counters = self.observer.counters().await;
            let count = counters
                .iter()
                .find(|count| (count.name, count.reason) == ("sessions_restored_total", fate));
            let value = count.map(|count| count.value);
            if value == Some(wanted) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{fate}: {value:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Opens a port.
    async fn open(&self) {
        self.grant(prefix("2001:db8:64::/56", Duration::ZERO)).await;
        self.grant(lease(self.wires.server)).await;
        self.grant(map(Protocol::Udp, 5000, 5001)).await;
    }

    /// Opens a port, and lets a remote and the server speak until the remote is proven.
    async fn talk(&self) -> Talk {
        self.open().await;
        let nsp = newest_nsp(&self.handle.snapshot());
        let server = self.wires.server;
        let mut talk = Talk {
            remote: self.wires.at(Place::Remote, || udp((REMOTE, 0))),
            server: self.wires.at(Place::Server, || udp((server, 5001))),
            to: SocketAddr::from((nsp.embed(server), 5000)),
            pool: (Ipv4Addr::UNSPECIFIED, 0),
        };
        let SocketAddr::V4(pool) = talk.remote_says(b"hello").await else {
            panic!("the server sees IPv4");
        };
        talk.pool = (*pool.ip(), pool.port());
        talk.server_says(b"who is there?").await;
        talk.remote_says(b"it is me").await;
        talk
    }

    /// As [`Self::talk`]; returns from where the remote spoke and as whom the server saw it.
    async fn knock(&self) -> ((Ipv6Addr, u16), (Ipv4Addr, u16)) {
        let talk = self.talk().await;
        let port = talk.remote.local_addr().unwrap().port();
        ((REMOTE, port), talk.pool)
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
