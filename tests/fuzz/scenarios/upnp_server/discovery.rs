//! Datagrams of any bytes on port 1900, from anywhere.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a scenario stops at the first surprise"
)]

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mapping::{BootId, Client, Core, Instant, Now, Policy, Site, Wall};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use upnp::server::{Lan, OnLink, Searcher, Ssdp, SsdpConfig};
use upnp::wire::ssdp::Header;
use upnp::{Counters, Identity};

/// Two bytes say who sent the datagram, to which address and when.
pub fn run(input: &[u8]) {
    let Some(([who, when], bytes)) = input.split_first_chunk::<2>() else {
        return;
    };
    NET.with_borrow_mut(|net| net.hear(*who, *when, bytes));
}

thread_local! {
    static NET: RefCell<Net> = RefCell::new(Net::new());
}

struct Net {
    core: Core,
    ssdp: Ssdp<StdRng>,
    now: Instant,
    served: u32,
}

impl Net {
    fn new() -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned()).unwrap();
        let addresses = ["fe80::1", "fd00:64::1"].map(|addr| OnLink {
            addr: addr.parse().unwrap(),
            prefix_len: 64,
        });
        let wall = Wall::from_secs(1_800_000_000);
        let at = Now { mono: now, wall };
        let policy = Policy::default();
        let core = Core::new(site.clone(), policy, [7; 16], BootId([1; 16]), at);
        let config = SsdpConfig {
            lan: Lan::new(site, 5000).with_v6(5000, addresses.to_vec()),
            header: Header {
                boot_id: 1,
                config_id: 2,
            },
        };
        let rng = StdRng::seed_from_u64(1);
        let ssdp = Ssdp::new(config, &Identity::new([7; 16]), Counters::new(), rng, now);
        Self {
            core,
            ssdp,
            now,
            served: 0,
        }
    }

    fn hear(&mut self, who: u8, when: u8, bytes: &[u8]) {
        let source: SocketAddr = SOURCES[usize::from(who) % SOURCES.len()].parse().unwrap();
        let destination = DESTINATIONS[usize::from(who / 16) % DESTINATIONS.len()];
        let destination: IpAddr = destination.parse().unwrap();
        let client = Client {
            addr: source.ip(),
            mac: None,
        };
        let searcher = Searcher::new(source, client, self.core.snapshot());
        self.ssdp
            .handle_datagram(bytes, searcher, destination, self.now);
        self.now += Duration::from_millis(u64::from(when) * 20);
        self.ssdp.handle_timeout(self.now);
        let mut sent = 0;
        while let Some(transmit) = self.ssdp.poll_transmit() {
            assert!(SOURCES[..3].contains(&transmit.to.to_string().as_str()));
            assert_eq!(transmit.from.is_ipv4(), transmit.to.is_ipv4());
            sent += 1;
        }
        assert!(sent <= 1024);
        assert!(
            self.ssdp
                .poll_timeout()
                .is_none_or(|(due, _)| due > self.now)
        );
        self.served += 1;
        if self.served > 100_000 {
            *self = Self::new();
        }
    }
}

/// Three neighbours, and others.
const SOURCES: [&str; 6] = [
    "192.168.64.20:4000",
    "[fe80::20]:4000",
    "[fd00:64::20]:4000",
    "203.0.113.9:4000",
    "[2001:db8:9::1]:4000",
    "192.168.64.1:1900",
];

const DESTINATIONS: [&str; 5] = [
    "239.255.255.250",
    "ff02::c",
    "ff05::c",
    "192.168.64.1",
    "192.168.64.255",
];
