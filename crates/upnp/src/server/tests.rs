//! The SSDP machine and arbitrary input; what the standards ask is in `tests/conformance`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use mapping::{Instant, Site};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::ssdp::GROUP;
use super::*;
use crate::wire::ssdp::Header;
use crate::{Counters, Event, Identity};

#[test]
fn t_7_one_source_cannot_make_us_talk() {
    let counters = Counters::new();
    let mut ssdp = machine(counters.clone(), 1);
    let mut sent = 0;
    let mut received = 0;

    for tenth in 0..100_u64 {
        let search = search("ssdp:all", "MX: 1\r\n");
        received += search.len();
        let now = at(Duration::from_millis(tenth * 100));
        ssdp.handle_datagram(&search, CLIENT, GROUP, now);
        sent += drain(&mut ssdp, now + Duration::from_secs(1));
    }

    assert!(counters.value(Event::SearchRate) > 90);
    assert!(sent < received * 3, "{sent} bytes for {received}");
}

#[test]
fn sources_are_forgotten_and_bounded() {
    let counters = Counters::new();
    let mut ssdp = machine(counters.clone(), 1);

    for host in 0..2000_u32 {
        let source = SocketAddrV4::new(Ipv4Addr::from(0xc0a8_0002 + host), 5000);
        ssdp.handle_datagram(
            &search("upnp:rootdevice", "MX: 1\r\n"),
            source,
            GROUP,
            at(Duration::ZERO),
        );
    }
    assert_eq!(counters.value(Event::SearchAnswered), 512);
    assert!(counters.value(Event::SearchQueue) > 0);

    ssdp.handle_timeout(at(Duration::from_secs(60)));
    while ssdp.poll_transmit().is_some() {}
    ssdp.handle_datagram(
        &search("upnp:rootdevice", "MX: 1\r\n"),
        CLIENT,
        GROUP,
        at(Duration::from_secs(60)),
    );
    assert_eq!(counters.value(Event::SearchAnswered), 513);
}

#[test]
fn same_seed_gives_the_same_transcript() {
    let transcript = |seed| {
        let mut ssdp = machine(Counters::new(), seed);
        let mut times = Vec::new();
        ssdp.start(at(Duration::ZERO));
        while let Some((due, _)) = ssdp
            .poll_timeout()
            .filter(|(due, _)| *due < at(Duration::from_secs(9000)))
        {
            ssdp.handle_timeout(due);
            while let Some(transmit) = ssdp.poll_transmit() {
                times.push((due, transmit));
            }
        }
        times
    };

    assert_eq!(transcript(1), transcript(1));
    assert_ne!(transcript(1), transcript(2));
}

proptest! {
    #[test]
    fn arbitrary_datagrams_never_panic_and_time_goes_on(
        inputs in proptest::collection::vec(
            (
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..100),
                    "\\PC{0,20}".prop_map(|target| search(&target, "MX: 3\r\n")),
                    (0..10_u32).prop_map(|mx| search("ssdp:all", &format!("MX: {mx}\r\n"))),
                ],
                any::<u32>(), any::<u16>(), 0..20_000_u64,
            ),
            0..30,
        ),
        seed in any::<u64>(),
    ) {
        let mut ssdp = machine(Counters::new(), seed);
        let mut now = at(Duration::ZERO);
        ssdp.start(now);
        for (bytes, addr, port, wait) in inputs {
            let host = if port % 3 == 0 { addr } else { 0xc0a8_0000 | (addr & 0xffff) };
            let source = SocketAddrV4::new(host.into(), port);
            ssdp.handle_datagram(&bytes, source, GROUP, now);
            now += Duration::from_millis(wait);
            ssdp.handle_timeout(now);
            while let Some(transmit) = ssdp.poll_transmit() {
                prop_assert!(transmit.to.ip().is_multicast() || transmit.to.ip().octets()[..2] == [192, 168]);
            }
            prop_assert!(ssdp.poll_timeout().is_some_and(|(due, _)| due > now));
        }
    }
}

fn drain(ssdp: &mut Ssdp<StdRng>, now: Instant) -> usize {
    ssdp.handle_timeout(now);
    std::iter::from_fn(|| ssdp.poll_transmit())
        .map(|transmit| transmit.payload.len())
        .sum()
}

fn search(target: &str, max_wait: &str) -> Vec<u8> {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n{max_wait}ST: {target}\r\n\r\n"
    )
    .into_bytes()
}

fn machine(counters: Counters, seed: u64) -> Ssdp<StdRng> {
    let gateway = Ipv4Addr::new(192, 168, 0, 1);
    let config = SsdpConfig {
        site: Site::new(gateway, 16, "home.example".to_owned()).unwrap(),
        endpoint: SocketAddrV4::new(gateway, 5000),
        header: Header {
            boot_id: 1,
            config_id: 2,
        },
    };
    let identity = Identity::new([7; 16]);
    Ssdp::new(
        config,
        &identity,
        counters,
        StdRng::seed_from_u64(seed),
        at(Duration::ZERO),
    )
}

fn at(after: Duration) -> Instant {
    Instant::from_nanos(1_000_000_000_000) + after
}

const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 20), 40000);
