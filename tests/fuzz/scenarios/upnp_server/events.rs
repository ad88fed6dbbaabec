//! Subscribers that say anything, and whatever becomes of their events.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a scenario stops at the first surprise"
)]

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use mapping::{Client, Core, Now};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use upnp::server::{
    Connection, Delivery, Gena, MAX_IN_FLIGHT, MAX_SUBSCRIPTIONS, Peer, Situation, Step, Web,
};
use upnp::wire::gena::{self, Sid};
use upnp::{Counters, Edition, Identity, Resource, ServiceKind};

/// Two bytes say who asks what and what becomes of the events; the rest are headers.
pub fn run(input: &[u8]) {
    let Some(([who, what], headers)) = input.split_first_chunk::<2>() else {
        return;
    };
    let _status = gena::status(headers);
    if let Ok(text) = std::str::from_utf8(headers) {
        let _parsed = (Sid::parse(text), gena::timeout(text), gena::callbacks(text));
    }
    HOME.with_borrow_mut(|home| home.ask(*who, *what, headers));
}

thread_local! {
    static HOME: RefCell<Home> = RefCell::new(Home::new());
}

struct Home {
    core: Core,
    web: Web,
    gena: Gena<StdRng>,
    path: String,
    counters: Counters,
    in_flight: Vec<Sid>,
    now: Now,
    served: u32,
}

impl Home {
    fn new() -> Self {
        let (core, now) = super::new_home();
        let (identity, counters) = (Identity::new([7; 16]), Counters::new());
        let rng = StdRng::seed_from_u64(1);
        Self {
            core,
            web: Web::new(&identity, counters.clone()),
            gena: Gena::new(&identity, counters.clone(), rng, now.mono),
            path: Resource::Events(Edition::V2, ServiceKind::WanIpConnection).path(&identity),
            counters,
            in_flight: Vec::new(),
            now,
            served: 0,
        }
    }

    fn ask(&mut self, who: u8, what: u8, headers: &[u8]) {
        let source: IpAddr = SOURCES[usize::from(who) % SOURCES.len()].parse().unwrap();
        let local = LOCALS[usize::from(who) % SOURCES.len()];
        let method = if what & 1 == 0 {
            "SUBSCRIBE"
        } else {
            "UNSUBSCRIBE"
        };
        let head = format!("{method} {} HTTP/1.1\r\nHost: {local}\r\n", self.path);
        let mut connection = Connection::new(self.counters.clone(), self.now);
        connection.handle_bytes(head.as_bytes(), self.now.mono);
        connection.handle_bytes(headers, self.now.mono);
        connection.handle_bytes(b"\r\n\r\n", self.now.mono);
        let peer = Peer {
            client: Client {
                addr: source,
                mac: None,
            },
            scope: 3,
            local: local.parse().unwrap(),
        };
        if let Some(request) = connection.poll_request() {
            let snapshot = self.core.snapshot();
            let step = self.web.handle_request(&request, peer, snapshot, self.now);
            if let Step::Subscribe(subscribe) = step {
                let answer = self
                    .gena
                    .handle_request(&subscribe, snapshot, self.now.mono);
                if let (_, Some(sid)) = answer {
                    self.gena.handle_answered(sid, self.now.mono);
                }
            }
        }
        self.deliver(what);
    }

    fn deliver(&mut self, what: u8) {
        self.now.mono += Duration::from_millis(u64::from(what) * 50);
        let situation = Situation {
            snapshot: self.core.snapshot(),
            link_up: what & 2 == 0,
        };
        self.gena.handle_change(self.now.mono);
        self.gena.handle_timeout(situation, self.now.mono);
        while let Some(event) = self.gena.poll_notification() {
            for callback in event.callbacks.iter() {
                let addr = callback.addr.ip().to_string();
                assert!(SOURCES.contains(&addr.as_str()), "{addr}");
                assert!(event.emit(callback).starts_with(b"NOTIFY /"));
            }
            self.in_flight.push(event.sid);
        }
        assert!(self.in_flight.len() <= MAX_IN_FLIGHT && self.gena.len() <= MAX_SUBSCRIPTIONS);
        if what & 12 != 0 {
            let delivery = match what & 12 {
                4 => Delivery::Delivered,
                8 => Delivery::Failed,
                _ => Delivery::Unknown,
            };
            for sid in std::mem::take(&mut self.in_flight) {
                self.gena.handle_delivery(sid, delivery, self.now.mono);
            }
        }
        self.served += 1;
        if self.served > 20_000 {
            *self = Self::new();
        }
    }
}

const SOURCES: [&str; 3] = ["192.168.64.20", "fe80::20", "fd00:64::20"];
const LOCALS: [&str; 3] = ["192.168.64.1:5000", "[fe80::1]:5000", "[fd00:64::1]:5000"];
