//! UPnP Device Architecture 1.1, by its sections, and what IGD asks of discovery (U-).
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use mapping::{Instant, Site};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use upnp::server::{Ssdp, SsdpConfig};
use upnp::wire::ssdp::Header;
use upnp::{Counters, DeviceKind, Edition, Event, Identity, Resource, ServiceKind};

#[test]
fn u_2_byebye_comes_before_the_first_alive() {
    let mut net = Net::new();
    net.ssdp.start(net.now);

    let first = net.drain();
    assert_eq!(first.len(), 18);
    assert!(
        first
            .iter()
            .all(|(to, text)| *to == GROUP && text.contains("NTS: ssdp:byebye"))
    );
    let second = net.next();
    assert!(
        second
            .iter()
            .all(|(_, text)| text.contains("NTS: ssdp:alive"))
    );
    let targets: BTreeSet<_> = second.iter().map(|(_, text)| header(text, "USN")).collect();
    assert_eq!(targets.len(), 18);
    for (_, text) in &second {
        assert_eq!(header(text, "HOST"), "239.255.255.250:1900");
        assert_eq!(header(text, "CACHE-CONTROL"), "max-age=1800");
        assert_eq!(header(text, "BOOTID.UPNP.ORG"), "3");
        assert_eq!(header(text, "CONFIGID.UPNP.ORG"), "99");
        assert!(header(text, "LOCATION").starts_with("http://192.168.64.1:5000/"));
    }
}

#[test]
fn s1_2_2_announcements_are_repeated_and_come_again_before_half_of_max_age() {
    let mut net = Net::new();
    net.ssdp.start(net.now);
    net.drain();
    let mut times = Vec::new();
    for _ in 0..6 {
        assert_eq!(net.next().len(), 18);
        times.push(net.now);
    }

    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for repeat in [gaps[0], gaps[2], gaps[4]] {
        assert!(repeat < Duration::from_secs(1), "{repeat:?}");
    }
    for wait in [gaps[1], gaps[3]] {
        assert!(
            wait > Duration::from_secs(400) && wait < Duration::from_secs(900),
            "{wait:?}"
        );
    }
    assert_ne!(gaps[1], gaps[3]);
}

#[test]
fn s1_2_3_shutdown_says_byebye_twice_and_answers_nobody() {
    let mut net = Net::new();
    net.search("ssdp:all", "MX: 3\r\n");
    net.ssdp.handle_shutdown(net.now);

    let last = net.drain();
    assert_eq!(last.len(), 36);
    assert!(
        last.iter()
            .all(|(to, text)| *to == GROUP && text.contains("NTS: ssdp:byebye"))
    );
    assert!(net.ssdp.poll_timeout().is_none());
}

#[test]
fn s1_3_2_every_target_is_answered_once_by_the_root_of_its_version() {
    let identity = Identity::new([7; 16]);
    for edition in Edition::ALL {
        let mut targets: Vec<String> = Vec::new();
        for device in DeviceKind::ALL {
            targets.push(device.urn(edition));
            targets.push(identity.uuid(edition, device));
        }
        targets.push(ServiceKind::WanIpConnection.urn(edition.version()));
        for target in targets {
            let mut net = Net::new();
            let answers = net.answers(&target, "MX: 1\r\n");
            assert_eq!(answers.len(), 1, "{target}");
            let (_, text) = &answers[0];
            assert_eq!(header(text, "ST"), target);
            let path = Resource::Description(edition).path(&identity);
            assert_eq!(
                header(text, "LOCATION"),
                format!("http://192.168.64.1:5000{path}")
            );
            assert!(header(text, "USN").starts_with("uuid:"));
        }
    }
}

#[test]
fn s1_3_2_searches_for_all_and_for_roots_find_both() {
    let mut net = Net::new();
    let all = net.answers("ssdp:all", "MX: 5\r\n");
    let roots = net.answers("upnp:rootdevice", "MX: 1\r\n");

    let unique: BTreeSet<_> = all.iter().map(|(_, text)| header(text, "USN")).collect();
    assert_eq!((all.len(), unique.len(), roots.len()), (18, 18, 2));
    let locations: BTreeSet<_> = roots
        .iter()
        .map(|(_, text)| header(text, "LOCATION"))
        .collect();
    assert_eq!(locations.len(), 2);
}

#[test]
fn s1_3_2_other_targets_and_newer_versions_are_not_ours() {
    let mut net = Net::new();
    for target in [
        "urn:schemas-upnp-org:device:InternetGatewayDevice:3",
        "urn:schemas-upnp-org:service:WANPPPConnection:1",
        "urn:schemas-upnp-org:device:MediaServer:1",
        "uuid:00000000-0000-0000-0000-000000000000",
    ] {
        assert!(net.answers(target, "MX: 1\r\n").is_empty(), "{target}");
    }
    assert_eq!(net.counters.value(Event::SearchOther), 4);
}

#[test]
fn s1_3_3_answers_wait_a_random_time_below_mx() {
    let target = "upnp:rootdevice";
    let mut delays = BTreeSet::new();
    for seed in 0..40 {
        let mut net = Net::seeded(seed);
        net.search(target, "MX: 3\r\n");
        let begin = net.now;
        while net.ssdp.poll_timeout().is_some() {
            net.next();
            delays.insert(net.now - begin);
        }
    }
    assert!(delays.len() > 60);
    assert!(delays.last().unwrap() < &Duration::from_secs(3));
    assert!(delays.last().unwrap() > &Duration::from_secs(2));

    // more than 5 is 5
    let mut net = Net::new();
    net.search("ssdp:all", "MX: 120\r\n");
    let begin = net.now;
    while net.ssdp.poll_timeout().is_some() {
        net.next();
    }
    assert!(net.now - begin < Duration::from_secs(5));
}

#[test]
fn s1_3_3_multicast_without_mx_is_dropped_and_unicast_is_answered_at_once() {
    let mut net = Net::new();
    assert!(net.answers("upnp:rootdevice", "").is_empty());
    assert!(net.answers("upnp:rootdevice", "MX: x\r\n").is_empty());
    assert_eq!(net.counters.value(Event::SearchWithoutMx), 1);
    assert_eq!(net.counters.value(Event::SsdpMalformed), 1);

    let bytes = search("upnp:rootdevice", "");
    net.ssdp.handle_datagram(&bytes, CLIENT, GATEWAY, net.now);
    assert_eq!(net.drain().len(), 2);
}

#[test]
fn u_1_searches_from_elsewhere_are_not_answered() {
    let mut net = Net::new();
    for source in [
        "203.0.113.9:5000",
        "192.168.64.1:5000",
        "192.168.64.255:5000",
        "192.168.64.0:5000",
        "192.168.64.20:0",
    ] {
        let bytes = search("ssdp:all", "MX: 1\r\n");
        net.ssdp
            .handle_datagram(&bytes, source.parse().unwrap(), *GROUP.ip(), net.now);
        net.ssdp
            .handle_datagram(&bytes, source.parse().unwrap(), GATEWAY, net.now);
    }
    let broadcast = Ipv4Addr::new(192, 168, 64, 255);
    net.ssdp
        .handle_datagram(&search("ssdp:all", "MX: 1\r\n"), CLIENT, broadcast, net.now);

    assert_eq!(net.counters.value(Event::SearchForeign), 11);
    assert!(net.ssdp.poll_timeout().is_none() && net.drain().is_empty());
}

/// The machine, its time and its counters.
struct Net {
    ssdp: Ssdp<StdRng>,
    now: Instant,
    counters: Counters,
}

impl Net {
    fn new() -> Self {
        Self::seeded(1)
    }

    fn seeded(seed: u64) -> Self {
        let now = Instant::from_nanos(1_000_000_000_000);
        let counters = Counters::new();
        let config = SsdpConfig {
            site: site(),
            endpoint: ENDPOINT,
            header: Header {
                boot_id: 3,
                config_id: 99,
            },
        };
        let rng = StdRng::seed_from_u64(seed);
        let ssdp = Ssdp::new(config, &Identity::new([7; 16]), counters.clone(), rng, now);
        Self {
            ssdp,
            now,
            counters,
        }
    }

    fn search(&mut self, target: &str, max_wait: &str) {
        let bytes = search(target, max_wait);
        self.ssdp
            .handle_datagram(&bytes, CLIENT, *GROUP.ip(), self.now);
    }

    /// Searches and returns everything that comes within five seconds.
    fn answers(&mut self, target: &str, max_wait: &str) -> Vec<(SocketAddrV4, String)> {
        self.search(target, max_wait);
        self.now += Duration::from_secs(5);
        self.ssdp.handle_timeout(self.now);
        let answers = self.drain();
        assert!(
            answers
                .iter()
                .all(|(to, text)| *to == CLIENT && text.starts_with("HTTP/1.1 200 OK\r\n"))
        );
        answers
    }

    /// Goes to the next deadline.
    fn next(&mut self) -> Vec<(SocketAddrV4, String)> {
        let (due, _) = self.ssdp.poll_timeout().unwrap();
        self.now = due;
        self.ssdp.handle_timeout(due);
        self.drain()
    }

    fn drain(&mut self) -> Vec<(SocketAddrV4, String)> {
        std::iter::from_fn(|| self.ssdp.poll_transmit())
            .map(|transmit| (transmit.to, String::from_utf8(transmit.payload).unwrap()))
            .collect()
    }
}

fn search(target: &str, max_wait: &str) -> Vec<u8> {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n{max_wait}ST: {target}\r\n\r\n"
    )
    .into_bytes()
}

fn header(text: &str, name: &str) -> String {
    let prefix = format!("{name}: ");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    value
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .to_owned()
}

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 64, 20), 40000);

fn site() -> Site {
    Site::new(GATEWAY, 24, "home.example".to_owned()).unwrap()
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
const ENDPOINT: SocketAddrV4 = SocketAddrV4::new(GATEWAY, 5000);
