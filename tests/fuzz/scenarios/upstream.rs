//! Gateways in front of us that answer anything, while ports open and close and time passes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a scenario stops at the first surprise"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mapping::{ExternalPort, Instant, Protocol, RemoteFilter};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use upstream::{Answer, Failure, Link, Mode, PortKey, PortState, Upstreams, Wish};

/// A mode, and steps of a kind and a value, some with more bytes.
pub fn run(input: &[u8]) {
    let Some((mode, mut input)) = input.split_first() else {
        return;
    };
    let mut home = Home::new(*mode);
    for _ in 0..STEPS {
        let Some((&[kind, value], rest)) = input.split_first_chunk() else {
            break;
        };
        input = home.step(kind, value, rest);
        home.drain();
        home.check();
    }
}

struct Home {
    machine: Upstreams<StdRng>,
    now: Instant,
    wanted: BTreeSet<PortKey>,
    /// The last request to each family's gateway.
    asked: [Vec<u8>; 2],
    acting: bool,
    epoch: u32,
}

impl Home {
    fn new(mode: u8) -> Self {
        let modes = [Mode::Auto, Mode::Pcp, Mode::NatPmp, Mode::Upnp];
        let mode = modes[usize::from(mode) % modes.len()];
        let mut home = Self {
            machine: Upstreams::new(mode, [9; 16], StdRng::seed_from_u64(1)),
            now: Instant::from_nanos(1_000_000_000_000),
            wanted: BTreeSet::new(),
            asked: [Vec::new(), Vec::new()],
            acting: false,
            epoch: 100,
        };
        home.link(3);
        home.drain();
        home
    }

    fn step<'a>(&mut self, kind: u8, value: u8, rest: &'a [u8]) -> &'a [u8] {
        let family = usize::from(kind >> 7);
        match kind % 9 {
            0 => self.open(value),
            1 => {
                let key = key(value);
                self.wanted.remove(&key);
                self.machine.close(key, self.now);
            }
            2 => {
                let (bytes, rest) = rest.split_at(usize::from(value).min(rest.len()));
                self.hear(family, bytes);
                return rest;
            }
            3..=5 => {
                let (fields, rest) = rest.split_at(6.min(rest.len()));
                let mut bytes = echo(&self.asked[family], value, fields, self.epoch);
                if value & 128 != 0 && !bytes.is_empty() {
                    let at = usize::from(fields.first().copied().unwrap_or(0)) % bytes.len();
                    bytes[at] ^= 1 << (value % 8);
                }
                self.hear(family, &bytes);
                return rest;
            }
            6 => self.pass(SECONDS[usize::from(value) % SECONDS.len()]),
            7 => self.link(value),
            _ => self.act(value),
        }
        rest
    }

    fn open(&mut self, value: u8) {
        let filter = |prefix: &str| RemoteFilter {
            prefix: prefix.parse().unwrap(),
            port: None,
        };
        let filters: Arc<[RemoteFilter]> = match value >> 6 {
            0 | 1 => Arc::default(),
            2 => Arc::new([filter("2001:db8::/32"), filter("::ffff:192.0.2.0/120")]),
            _ => Arc::new([filter("2001:db8:1::/48")]),
        };
        self.wanted.insert(key(value));
        let wish = Wish {
            key: key(value),
            server: [192, 168, 64, 10].into(),
            filters,
        };
        self.machine.open(wish, self.now);
    }

    fn hear(&mut self, family: usize, bytes: &[u8]) {
        let source: IpAddr = ROUTERS[family].parse().unwrap();
        let source = SocketAddr::new(source, 5351);
        self.machine.handle_datagram(bytes, source, self.now);
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        for _ in 0..200 {
            let due = self.machine.poll_timeout().map(|(at, _)| at);
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.machine.handle_timeout(self.now);
            self.drain();
        }
        self.now = self.now.max(end);
        self.epoch = self.epoch.wrapping_add(u32::try_from(seconds).unwrap());
        self.machine.handle_timeout(self.now);
    }

    fn link(&mut self, value: u8) {
        let link = |at: usize, own: &str| Link {
            server: ROUTERS[at].parse().unwrap(),
            local: own.parse().unwrap(),
        };
        let v4 = (value & 1 != 0).then(|| link(0, OWN));
        let v6 = (value & 2 != 0).then(|| link(1, "2001:db8:0:12::7f"));
        self.machine.handle_links(v4, v6, self.now);
    }

    /// What becomes of something that UPnP is to do.
    fn act(&mut self, value: u8) {
        if !self.acting {
            self.acting = self.machine.poll_action(self.now).is_some();
            return;
        }
        let answer = match value % 8 {
            0 | 1 => Answer::Found,
            2 => Answer::Added {
                external: u16::from(value) * 256,
            },
            3 => Answer::ExternalAddress((value & 8 != 0).then(|| OWN.parse().unwrap())),
            4 => Answer::Removed,
            5 => Answer::Failed(Failure::Conflict),
            6 => Answer::Failed(Failure::OnlyPermanent),
            _ => Answer::Failed(Failure::Unreachable),
        };
        self.acting = self.machine.handle_answer(answer, self.now).is_some();
    }

    /// What is asked can be read.
    fn drain(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            let readable = match transmit.bytes[0] {
                0 => natpmp::wire::Request::parse(&transmit.bytes).is_ok(),
                _ => pcp::wire::Request::parse(&transmit.bytes).is_ok(),
            };
            assert!(readable, "{:?}", transmit.bytes);
            let family = usize::from(transmit.family == upstream::Family::V6);
            self.asked[family] = transmit.bytes;
        }
    }

    fn check(&mut self) {
        if let Some((at, _)) = self.machine.poll_timeout()
            && at <= self.now
            && !self.acting
        {
            self.machine.handle_timeout(self.now);
            self.drain();
            let mut acts = 0;
            while !self.acting && self.machine.poll_action(self.now).is_some() {
                self.acting = true;
                acts += 1;
            }
            let next = self.machine.poll_timeout().map(|(at, _)| at);
            let spins = next.is_some_and(|next| next <= self.now);
            assert!(!spins || acts > 0, "it spins");
        }
        let ports: Vec<_> = self.machine.ports().collect();
        let closing = |it: &PortState| *it == PortState::Closing;
        let open = ports.iter().filter(|it| !closing(&it.2));
        assert!(open.clone().all(|it| self.wanted.contains(&it.0)));
        // what closes is forgotten in the end, and no key is there twice in one family
        assert!(ports.len() <= 3 * KEYS);
    }
}

/// Half of them at our own IPv4 address, half at a server's in our prefix.
fn key(value: u8) -> PortKey {
    let addr = if value & 1 == 0 {
        OWN
    } else {
        "2001:db8:64:1::c0a8:400a"
    };
    PortKey {
        addr: addr.parse().unwrap(),
        protocol: Protocol::Tcp,
        port: ExternalPort::new(8000 + u16::from(value % 16)).unwrap(),
    }
}

/// An answer to a request.
fn echo(request: &[u8], value: u8, fields: &[u8], epoch: u32) -> Vec<u8> {
    let field = |at: usize| fields.get(at).copied().unwrap_or(0);
    let life = u32::from(field(1)) * u32::from(field(2));
    let epoch = epoch.wrapping_add(u32::from(field(3)));
    let result = if value & 64 == 0 { 0 } else { field(4) % 16 };
    let mut bytes = request.to_vec();
    if bytes.len() >= 24 && bytes[0] == 2 {
        bytes[1] |= 0x80;
        bytes[3] = result;
        bytes[4..8].copy_from_slice(&life.to_be_bytes());
        bytes[8..12].copy_from_slice(&epoch.to_be_bytes());
        return bytes;
    }
    if bytes.len() < 2 {
        return fields.to_vec();
    }
    let mut answer = vec![0, bytes[1] | 0x80, 0, result % 6];
    answer.extend(epoch.to_be_bytes());
    if bytes.len() == 12 {
        answer.extend(&bytes[4..8]);
        answer.extend(life.to_be_bytes());
    } else {
        answer.extend([203, 0, 113, field(5)]);
    }
    answer
}

const ROUTERS: [&str; 2] = ["192.168.0.1", "fe80::1"];

const OWN: &str = "192.168.0.7";

const SECONDS: [u64; 10] = [0, 1, 3, 5, 30, 120, 301, 1801, 7201, 90_000];

const KEYS: usize = 16;

const STEPS: usize = 48;
