//! The machine of UDP 5351 with the real core behind it: datagrams of any bytes from anywhere,
//! answers late or never, renumbering and time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a scenario stops at the first surprise"
)]

use std::time::Duration;

use mapping::{
    BootId, Carriers, Core, Instant, LeaseRequest, Mac, Now, Policy, PrefixRequest, Request, Site,
    Wall,
};
use natpmp::Caller;
use pcp::{RequestToken, Server, Settings};

/// Steps of a kind, a length and so many bytes.
pub fn run(mut input: &[u8]) {
    let mut home = Home::new();
    for _ in 0..32 {
        let Some((&[kind, len], rest)) = input.split_first_chunk() else {
            break;
        };
        let len = usize::from(len).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        input = rest;
        home.step(kind, bytes);
        home.drain();
    }
}

struct Home {
    core: Core,
    server: Server,
    now: Now,
    waiting: Vec<(RequestToken, Request)>,
}

impl Home {
    fn new() -> Self {
        let now = Now {
            mono: Instant::from_nanos(1_000_000_000),
            wall: Wall::from_secs(1_800_000_000),
        };
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
        let core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
        let server = Server::new(Settings {
            third_party: true,
            ..Settings::default()
        });
        let mut home = Self {
            core,
            server,
            now,
            waiting: Vec::new(),
        };
        for host in [20, 21] {
            home.decide(&Request::Lease(LeaseRequest {
                mac: Mac([2, 0, 0, 0, 0, host]),
                addr: [192, 168, 64, host].into(),
                lifetime: Duration::from_secs(3600),
                declared_name: None,
            }));
        }
        home.renumber(0);
        home
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        let snapshot = self.core.snapshot();
        match kind % 8 {
            0..=3 => {
                let caller = caller(kind / 8);
                self.server
                    .handle_datagram(bytes, caller, snapshot, self.now);
            }
            4 => {
                let at = usize::from(kind / 8) % self.waiting.len().max(1);
                if at < self.waiting.len() {
                    let (token, request) = self.waiting.swap_remove(at);
                    let outcome = self.decide(&request);
                    let snapshot = self.core.snapshot();
                    self.server
                        .handle_outcome(token, &outcome, snapshot, self.now);
                }
            }
            5 => self.renumber(u16::from(kind / 8)),
            6 => {
                let carriers = Carriers {
                    ipv4: (kind & 64 != 0).then(|| [203, 0, 113, 7].into()),
                    pinholes: kind & 128 != 0,
                };
                self.decide(&Request::Carriers(carriers));
            }
            _ => {
                self.now.mono += Duration::from_millis(u64::from(kind) * 16);
                self.core.handle_timeout(self.now);
                self.core.finish(self.now);
            }
        }
        self.server.handle_snapshot(self.core.snapshot(), self.now);
    }

    fn drain(&mut self) {
        while let Some((token, claim)) = self.server.poll_claim() {
            // the camera is at one of the two addresses
            let is_true = !claim.addr.is_unicast_link_local();
            let snapshot = self.core.snapshot();
            self.server.handle_claim(token, is_true, snapshot, self.now);
        }
        assert_eq!(self.server.doubted(), 0);
        while let Some(request) = self.server.poll_request() {
            self.waiting.push(request);
        }
        assert_eq!(self.waiting.len(), self.server.pending());
        while let Some(transmit) = self.server.poll_transmit() {
            let bytes = transmit.bytes;
            let fits = (24..=1100).contains(&bytes.len()) && bytes.len().is_multiple_of(4);
            assert!(bytes[0] == 0 || fits);
        }
    }

    fn renumber(&mut self, number: u16) {
        self.decide(&Request::Prefix(PrefixRequest {
            delegated: format!("2001:db8:{number:x}::/56").parse().unwrap(),
            nsp: None,
            old_valid: Duration::from_secs(60),
        }));
        if let Some(newest) = self.core.snapshot().to_prefer().map(|newest| newest.id) {
            self.decide(&Request::Prefer(newest));
        }
    }

    fn decide(&mut self, request: &Request) -> mapping::Outcome {
        let (outcome, _) = self.core.handle_request(request, self.now);
        self.core.finish(self.now);
        outcome
    }
}

/// Two hosts by IPv4 and one by IPv6, and others.
fn caller(who: u8) -> Caller {
    let sources = [
        "192.168.64.20:5000",
        "192.168.64.21:5000",
        "[2001:db8:64::20]:5000",
        "[fe80::20]:5000",
        "203.0.113.9:5000",
    ];
    let at = usize::from(who) % sources.len();
    let source: std::net::SocketAddr = sources[at].parse().unwrap();
    Caller {
        source,
        local: [192, 168, 64, 1].into(),
        mac: (at != 1).then_some(Mac([2, 0, 0, 0, 0, 20])),
        on_link: who & 16 == 0,
    }
}
