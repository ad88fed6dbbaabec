//! Sessions: listed, chosen, ended, looked up.

use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dashboard::model::SessionChoice;
use gateway::{
    Busy, Count, EndReason, Ended, LogCursor, LogEntry, LogPage, LogQuery, LoggedEnd, Observe,
    ObserveFuture, Session, SessionCursor, SessionEnds, SessionFilter, SessionId, SessionPage,
    SessionProtocol, SessionState, SessionTraffic,
};
use mapping::Wall;

use super::{Home, problem};

#[tokio::test]
async fn sessions_are_chosen_by_what_they_have() {
    let (home, _room) = home().await;
    home.join("camera").await;
    let client = home.client();
    let camera = client.host("camera").await.unwrap().ipv4.to_string();
    let count = async |choice: SessionChoice| client.sessions(&choice).await.unwrap().len();

    assert_eq!(count(SessionChoice::default()).await, SESSIONS);
    for (name, value, fit) in [
        ("server", SERVER, SESSIONS),
        ("server", camera.as_str(), 0),
        ("server", "camera", 0),
        ("remote", "2001:db8:f::1", 1),
        ("remote", "2001:db8:f::/64", SESSIONS),
        ("protocol", "udp", SESSIONS / 2),
        ("state", "trans", 0),
        ("external_port", "443", SESSIONS),
        ("pool", "192.168.64.193", SESSIONS),
        ("pool", "192.168.64.193:4003", 1),
        ("pool", "192.168.64.194", 0),
    ] {
        assert_eq!(count(choice(name, value)).await, fit, "{name}={value}");
    }
    for (name, value) in [
        ("remote", "2001:db8:f::1/64"),
        ("remote", "192.0.2.1"),
        ("protocol", "sctp"),
        ("state", "open"),
        ("pool", "192.168.64.193:x"),
    ] {
        let refused = client.sessions(&choice(name, value)).await;
        problem(refused, 400, "parameter-invalid");
    }
    let nobody = client.sessions(&choice("server", "nobody")).await;
    problem(nobody, 404, "not-found");
}

#[tokio::test]
async fn pages_hold_each_session_once_and_parameters_are_known() {
    let (home, _room) = home().await;
    let get = async |query: &str| {
        let head = format!(
            "GET /api/v1/sessions{query} HTTP/1.1\r\nHost: {}\r\n",
            home.tcp
        );
        let answer = home.http(&head).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<serde_json::Value>(body).unwrap()
    };

    let first = get("?limit=3").await;
    let next = first["next"].as_str().unwrap();
    let second = get(&format!("?limit=3&cursor={next}")).await;
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    assert_eq!(second["items"][0]["pool"]["port"], 4003, "{second}");
    assert_eq!(get("?limit=100").await["next"], serde_json::Value::Null);
    assert_eq!(get("?remotes=::1").await["status"], 400, "it is misspelt");
    let twice = get("?protocol=udp&protocol=tcp").await;
    assert_eq!(
        (&twice["status"], twice["type"].as_str().unwrap()),
        (&400.into(), "urn:portico:problem:parameter-invalid")
    );
    assert_eq!(twice["detail"], "there is more than one parameter protocol");
}

#[tokio::test]
async fn ended_sessions_are_gone_and_audited() {
    let (home, _room) = home().await;
    let client = home.client();
    let sessions = client.sessions(&SessionChoice::default()).await.unwrap();

    client.end_session(&sessions[0].id).await.unwrap();
    problem(client.end_session(&sessions[0].id).await, 404, "not-found");
    let next = SessionId { number: 1, tag: 0 };
    problem(
        client.end_session(&next.to_string()).await,
        404,
        "not-found",
    );
    problem(client.end_session("first").await, 400, "path-invalid");
    let udp = choice("protocol", "udp");
    let ended = client.end_sessions(&udp, false).await.unwrap().ended;

    assert_eq!(ended, SESSIONS as u64 / 2);
    let left = client.sessions(&SessionChoice::default()).await.unwrap();
    assert_eq!(left.len(), SESSIONS / 2 - 1);
    let audit = client.audit(100).await.unwrap();
    let ends = audit.iter().filter(|line| line.action == "session.ended");
    let ends: Vec<_> = ends.map(|line| line.target.as_str()).collect();
    assert_eq!(
        ends,
        [
            "5 sessions: protocol=udp",
            "tcp [2001:db8:f::]:4000 to 192.168.64.10:8443, seen as 192.168.64.193:4000",
        ]
    );
}

#[tokio::test]
async fn all_sessions_end_only_by_saying_so() {
    let (home, _room) = home().await;
    let client = home.client();
    let none = SessionChoice::default();
    let udp = choice("protocol", "udp");

    problem(
        client.end_sessions(&none, false).await,
        400,
        "parameter-invalid",
    );
    problem(
        client.end_sessions(&udp, true).await,
        400,
        "parameter-invalid",
    );
    let head = format!(
        "DELETE /api/v1/sessions?all=true HTTP/1.1\r\nHost: {}\r\n",
        home.tcp
    );
    assert!(home.http(&head).await.starts_with("HTTP/1.1 403"));
    assert_eq!(client.sessions(&none).await.unwrap().len(), SESSIONS);
    let ended = client.end_sessions(&none, true).await.unwrap().ended;

    assert_eq!(ended, SESSIONS as u64);
    assert_eq!(client.sessions(&none).await.unwrap(), []);
}

#[tokio::test]
async fn log_says_who_was_behind_a_pool_address() {
    let (home, _room) = home().await;
    let client = home.client();
    let who = choice("pool", "192.168.64.193:4000");
    let port = async |at| {
        let log = client.sessions_at(&who, at).await.unwrap();
        assert_eq!(log.since, Some(1000));
        log.items.first().map(|it| it.remote.port)
    };

    assert_eq!(port(1999).await, None);
    assert_eq!(port(2000).await, Some(1), "it began within the second");
    assert_eq!(port(2100).await, Some(1));
    assert_eq!(port(2101).await, None, "the first has ended");
    assert_eq!(port(9999).await, Some(2), "the second goes on");
    let stands = choice("state", "trans");
    problem(
        client.sessions_at(&stands, 0).await,
        400,
        "parameter-invalid",
    );
}

#[tokio::test]
async fn busy_room_is_no_empty_room() {
    let (home, room) = home().await;
    room.busy.store(true, Ordering::Relaxed);
    let client = home.client();
    let all = SessionChoice::default();

    problem(client.sessions(&all).await, 503, "unavailable");
    problem(client.end_sessions(&all, true).await, 503, "unavailable");
    problem(client.sessions_at(&all, 5).await, 503, "unavailable");
}

fn choice(name: &str, value: &str) -> SessionChoice {
    let mut choice = SessionChoice::default();
    let value = Some(value.to_owned());
    match name {
        "external_port" => choice.external_port = value.map(|port| port.parse().unwrap()),
        "pool" => choice.pool = value,
        "protocol" => choice.protocol = value,
        "remote" => choice.remote = value,
        "server" => choice.server = value,
        _ => choice.state = value,
    }
    choice
}

async fn home() -> (Home, Arc<Room>) {
    let room = Arc::new(Room::default());
    let home = Home::observed(vec![Arc::clone(&room) as Arc<dyn Observe>]).await;
    (home, room)
}

/// A room with a handful of sessions, two a page.
#[derive(Debug)]
struct Room {
    busy: AtomicBool,
    sessions: Mutex<Vec<Session>>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            busy: AtomicBool::new(false),
            sessions: Mutex::new((0..10).take(SESSIONS).map(session).collect()),
        }
    }
}

impl Room {
    fn answer<T>(&self, answer: impl FnOnce() -> T) -> Result<T, Busy> {
        if self.busy.load(Ordering::Relaxed) {
            return Err(Busy);
        }
        Ok(answer())
    }
}

impl Observe for Room {
    fn room(&self) -> &'static str {
        "translator"
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn sessions(
        &self,
        filter: SessionFilter,
        cursor: SessionCursor,
    ) -> ObserveFuture<'_, Result<SessionPage, Busy>> {
        let page = self.answer(|| {
            let sessions = self.sessions.lock().unwrap();
            let from = |it: &&Session| u64::from(it.id.number) >= cursor.0;
            let rest: Vec<_> = sessions.iter().filter(from).cloned().collect();
            let next = rest.get(2).map(|it| SessionCursor(it.id.number.into()));
            let page = rest.into_iter().take(2).filter(|it| filter.fits(it));
            SessionPage {
                sessions: page.collect(),
                next,
            }
        });
        Box::pin(std::future::ready(page))
    }

    fn end_sessions(&self, filter: SessionFilter) -> ObserveFuture<'_, Result<Ended, Busy>> {
        let ended = self.answer(|| {
            let mut sessions = self.sessions.lock().unwrap();
            let before = sessions.len();
            sessions.retain(|it| !filter.fits(it));
            Ended {
                count: (before - sessions.len()) as u64,
            }
        });
        Box::pin(std::future::ready(ended))
    }

    fn log(&self, query: LogQuery) -> ObserveFuture<'_, Result<LogPage, Busy>> {
        let ended = LoggedEnd {
            at: Wall::from_secs(2100),
            why: EndReason::Expired,
        };
        let known = [entry(1, 2000, Some(ended)), entry(2, 3000, None)];
        let at = usize::try_from(query.cursor.0).unwrap();
        let page = self.answer(|| LogPage {
            entries: known
                .iter()
                .skip(at)
                .take(1)
                .filter(|it| it.fits(&query))
                .copied()
                .collect(),
            next: (at == 0).then_some(LogCursor(1)),
            since: Some(Wall::from_secs(1000)),
        });
        Box::pin(std::future::ready(page))
    }
}

fn session(n: u16) -> Session {
    let even = n.is_multiple_of(2);
    let protocol = if even {
        SessionProtocol::Tcp
    } else {
        SessionProtocol::Udp
    };
    Session {
        id: SessionId {
            number: n.into(),
            tag: 7,
        },
        ends: SessionEnds {
            protocol,
            remote: (Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, n), 4000),
            external: ("2001:db8:64:1::c0a8:400a".parse().unwrap(), 443),
            pool: ([192, 168, 64, 193].into(), 4000 + n),
            server: (SERVER.parse().unwrap(), 8443),
        },
        state: SessionState::Established,
        age: Duration::from_secs(5),
        expires_in: Duration::from_secs(60),
        traffic: SessionTraffic::default(),
    }
}

fn entry(port: u16, began: u64, ended: Option<LoggedEnd>) -> LogEntry {
    let ends = session(0).ends;
    LogEntry {
        ends: SessionEnds {
            remote: (ends.remote.0, port),
            ..ends
        },
        // within the second
        began: Wall::from_nanos(Wall::from_secs(began).as_nanos() + 500_000_000),
        ended,
        traffic: SessionTraffic::default(),
    }
}

const SERVER: &str = "192.168.64.10";

const SESSIONS: usize = 10;
