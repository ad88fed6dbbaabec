//! The gateways in front of us, and the ports there.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway::{
    Busy, Count, Observe, ObserveFuture, UpstreamCursor, UpstreamGateway, UpstreamPage,
    UpstreamPort,
};
use mapping::Protocol;
use serde_json::{Value, json};

use super::{Home, problem};

#[tokio::test]
async fn chain_shows_who_is_in_front_of_us_and_the_carriers_translator() {
    let (home, _room) = home().await;

    let chain = get(&home, "upstream").await;

    let router = json!({
        "kind": "nat-pmp",
        "address": "192.168.0.1",
        "own_address": "192.168.0.7",
        "external_address": "100.64.3.2",
        "reach": "carrier-nat",
        "carrier_nat": true,
        "open": 3,
        "refused": 1,
        "waiting": 1,
    });
    let silent = json!({
        "kind": null,
        "address": "fe80::1",
        "own_address": "2001:db8::7",
        "external_address": null,
        "reach": "public",
        "carrier_nat": false,
        "open": 0,
        "refused": 0,
        "waiting": 0,
    });
    assert_eq!(
        chain,
        json!({ "mode": "auto", "gateways": [router, silent] })
    );
    let view = home.client().upstream().await.unwrap();
    assert_eq!(view.gateways.len(), 2, "the typed client reads the same");
}

#[tokio::test]
async fn ports_say_where_remotes_knock_or_why_they_cannot_page_by_page() {
    let (home, _room) = home().await;

    let first = get(&home, "upstream/ports?limit=2").await;

    let open = json!({
        "server": "192.168.64.10",
        "address": "192.168.0.7",
        "protocol": "tcp",
        "port": 8000,
        "state": "open",
        "why": null,
        "external_address": "100.64.3.2",
        "external_port": 9000,
        "ends_in_s": 7199,
    });
    assert_eq!(first["items"][0], open);
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let mut ports = Vec::new();
    let mut next = Some(String::new());
    while let Some(cursor) = next {
        let query = match cursor.as_str() {
            "" => "upstream/ports?limit=2".to_owned(),
            cursor => format!("upstream/ports?limit=2&cursor={cursor}"),
        };
        let page = get(&home, &query).await;
        ports.extend(page["items"].as_array().unwrap().clone());
        next = page["next"].as_str().map(str::to_owned);
    }
    let numbers: Vec<_> = ports
        .iter()
        .map(|it| it["port"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [8000, 8001, 8002, 8003, 8004]);
    assert_eq!(ports[3]["state"], "refused");
    assert_eq!(ports[3]["why"], "not_authorized");
    assert_eq!(ports[3]["external_port"], Value::Null);
    assert_eq!(ports[4]["ends_in_s"], Value::Null, "it waits");
}

#[tokio::test]
async fn parameters_are_checked_and_a_busy_room_says_so() {
    let (home, room) = home().await;

    for query in ["limit=x", "cursor=-1"] {
        let page = get(&home, &format!("upstream/ports?{query}")).await;
        assert_eq!(page["status"], 400, "{query}: {page}");
    }
    room.busy.store(true, Ordering::Relaxed);
    for noun in ["upstream", "upstream/ports"] {
        let page = get(&home, noun).await;
        assert_eq!(page["status"], 503, "{noun}: {page}");
    }
    problem(home.client().upstream().await, 503, "unavailable");
}

#[tokio::test]
async fn without_the_room_the_mode_is_off() {
    let home = Home::start().await;

    assert_eq!(
        get(&home, "upstream").await,
        json!({ "mode": "off", "gateways": [] })
    );
    let ports = get(&home, "upstream/ports").await;
    assert_eq!(ports, json!({ "items": [], "next": null }));
}

async fn get(home: &Home, noun: &str) -> Value {
    let head = format!("GET /api/v1/{noun} HTTP/1.1\r\nHost: {}\r\n", home.tcp);
    let answer = home.http(&head).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

async fn home() -> (Home, Arc<Room>) {
    let room = Arc::new(Room::default());
    let home = Home::observed(vec![Arc::clone(&room) as Arc<dyn Observe>]).await;
    (home, room)
}

/// A room between a router that speaks NAT-PMP and one that says nothing.
#[derive(Debug, Default)]
struct Room {
    busy: AtomicBool,
}

impl Observe for Room {
    fn room(&self) -> &'static str {
        "upstream"
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn upstream(
        &self,
        cursor: UpstreamCursor,
        limit: usize,
    ) -> ObserveFuture<'_, Result<Option<UpstreamPage>, Busy>> {
        if self.busy.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(Busy)));
        }
        let skipped = usize::try_from(cursor.0).unwrap();
        let ports: Vec<_> = (0..5).map(port).skip(skipped).take(limit).collect();
        let shown = skipped + ports.len();
        let page = UpstreamPage {
            mode: "auto",
            gateways: vec![router(), silent()],
            ports,
            next: (shown < 5).then_some(UpstreamCursor(shown as u64)),
        };
        Box::pin(std::future::ready(Ok(Some(page))))
    }
}

fn router() -> UpstreamGateway {
    UpstreamGateway {
        kind: Some("nat-pmp"),
        address: "192.168.0.1".parse().unwrap(),
        own: OWN.into(),
        external: Some(EXTERNAL.into()),
        reach: "carrier-nat",
        carrier_nat: true,
        open: 3,
        refused: 1,
        waiting: 1,
    }
}

fn silent() -> UpstreamGateway {
    UpstreamGateway {
        kind: None,
        address: "fe80::1".parse().unwrap(),
        own: "2001:db8::7".parse().unwrap(),
        external: None,
        reach: "public",
        carrier_nat: false,
        open: 0,
        refused: 0,
        waiting: 0,
    }
}

/// Three are open, one is refused, one waits.
fn port(number: u16) -> UpstreamPort {
    let (state, why) = match number {
        0..=2 => ("open", None),
        3 => ("refused", Some("not_authorized")),
        _ => ("waiting", None),
    };
    let open = state == "open";
    UpstreamPort {
        server: [192, 168, 64, 10].into(),
        address: OWN.into(),
        protocol: Protocol::Tcp,
        port: 8000 + number,
        state,
        why,
        external_address: open.then_some(IpAddr::V4(EXTERNAL)),
        external_port: open.then_some(9000 + number),
        ends_in: (state != "waiting").then_some(Duration::from_millis(7_199_900)),
    }
}

const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 7);

const EXTERNAL: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 2);
