//! The machines and arbitrary input; what the standards ask is in `tests/conformance`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use mapping::{
    BootId, Client, Core, Instant, LeaseRequest, Mac, Now, Policy, PrefixRequest, Site, Wall,
};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::ssdp::GROUP;
use super::*;
use crate::wire::http::Status;
use crate::wire::soap;
use crate::wire::ssdp::Header;
use crate::{Action, Counters, Edition, Event, Identity, Resource, ServiceKind};

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
        ssdp.handle_datagram(&search, stranger(CLIENT), GROUP.into(), now);
        sent += drain(&mut ssdp, now + Duration::from_secs(1));
    }

    assert!(counters.value(Event::SearchRate) > 90);
    assert!(sent < received * 3, "{sent} bytes for {received}");
}

/// Whoever makes up MACs and addresses, or writes another's address into its packets, takes the
/// answers from nobody who has a lease.
#[test]
fn t_7_strangers_take_nothing_from_hosts() {
    let counters = Counters::new();
    let mut ssdp = machine(counters.clone(), 1);
    let now = Now {
        mono: at(Duration::ZERO),
        wall: Wall::from_secs(1_800_000_000),
    };
    let (core, camera) = home(now);
    let search = search("upnp:rootdevice", "MX: 1\r\n");
    let mut ask = |source: SocketAddr, mac: Mac, now| {
        let client = Client {
            addr: source.ip(),
            mac: Some(mac),
        };
        let searcher = Searcher::new(source, client, core.snapshot());
        let before = counters.value(Event::SearchAnswered);
        ssdp.handle_datagram(&search, searcher, GROUP.into(), now);
        counters.value(Event::SearchAnswered) > before
    };
    let own = SocketAddr::from((camera, 5000));
    let count = |answered: &mut dyn FnMut(u8) -> bool| (0..250).filter(|n| answered(*n)).count();

    // the same address in frames of one stranger, then of as many as he makes up
    let neighbour = Mac([2, 0, 0, 0, 3, 1]);
    assert_eq!(count(&mut |_| ask(own, neighbour, now.mono)), 21);
    let mut made_up = 0;
    for high in 0..10 {
        made_up += count(&mut |n| ask(own, Mac([2, 0, 0, 1, high, n]), now.mono));
    }
    assert_eq!(made_up, (512 - 42) / 2);

    assert_eq!(
        count(&mut |_| ask(own, Mac([2, 0, 0, 0, 0, 1]), now.mono)),
        21
    );
    let later = now.mono + Duration::from_secs(60);
    assert!(
        ask(own, Mac([2, 0, 0, 1, 0, 200]), later),
        "they are forgotten"
    );
}

#[test]
fn t_7_answers_that_wait_are_bounded() {
    let counters = Counters::new();
    let mut ssdp = machine(counters.clone(), 1);
    let now = Now {
        mono: at(Duration::ZERO),
        wall: Wall::from_secs(1_800_000_000),
    };
    let (mut core, _) = home(now);
    for host in 1..=60 {
        let mac = Mac([2, 0, 0, 0, 1, host]);
        let addr = lease(&mut core, mac, now);
        let client = Client {
            addr: addr.into(),
            mac: Some(mac),
        };
        let source = SocketAddr::from((addr, 5000));
        let searcher = Searcher::new(source, client, core.snapshot());
        let search = search("ssdp:all", "MX: 1\r\n");
        ssdp.handle_datagram(&search, searcher, GROUP.into(), now.mono);
    }

    assert!(counters.value(Event::SearchQueue) > 0);
    let answered = 21 * counters.value(Event::SearchAnswered);
    assert!((1000..1300).contains(&answered), "{answered}");
}

/// One program that searches for everything again and again leaves the others of its host theirs.
#[test]
fn t_7_searches_for_everything_leave_those_for_a_gateway_theirs() {
    let counters = Counters::new();
    let mut ssdp = machine(counters.clone(), 1);
    let mut ask = |target: &str| {
        let search = search(target, "MX: 1\r\n");
        let before = counters.value(Event::SearchAnswered);
        let now = at(Duration::ZERO);
        ssdp.handle_datagram(&search, stranger(CLIENT), GROUP.into(), now);
        counters.value(Event::SearchAnswered) > before
    };

    assert!(ask("ssdp:all") && ask("ssdp:all") && !ask("ssdp:all"));
    let igd = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
    assert_eq!((0..50).filter(|_| ask(igd)).count(), 42);
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
            let source = SocketAddr::from((Ipv4Addr::from(host), port));
            ssdp.handle_datagram(&bytes, stranger(source), GROUP.into(), now);
            now += Duration::from_millis(wait);
            ssdp.handle_timeout(now);
            while let Some(transmit) = ssdp.poll_transmit() {
                prop_assert!(transmit.to.ip().is_multicast() || is_at_home(transmit.to.ip()));
            }
            prop_assert!(ssdp.poll_timeout().is_some_and(|(due, _)| due > now));
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_calls_never_panic_and_open_own_ports_only(
        calls in proptest::collection::vec(
            (
                0..Action::ALL.len(),
                any::<bool>(),
                proptest::collection::vec(value(), 9),
                proptest::option::weighted(0.1, 0..9_usize),
            ),
            1..20,
        ),
    ) {
        let now = Now { mono: at(Duration::ZERO), wall: Wall::from_secs(1_800_000_000) };
        let (mut core, camera) = home(now);
        let identity = Identity::new([7; 16]);
        let web = Web::new(&identity, Counters::new());
        for (action, second, values, missing) in calls {
            let action = Action::ALL[action];
            let edition = if second { Edition::V2 } else { Edition::V1 };
            let service = action.service();
            let edition = if ServiceKind::of(edition).any(|it| it == service) { edition } else { Edition::V2 };
            let urn = service.urn(service.version(edition));
            let mut arguments: Vec<_> = action.inputs().iter().map(|input| input.name).zip(values).collect();
            if let Some(missing) = missing.filter(|missing| *missing < arguments.len()) {
                arguments.remove(missing);
            }
            // an answer reads like a call whose name ends in Response
            let body = soap::response(&urn, action.name(), &arguments);
            let body = String::from_utf8(body).unwrap().replace("Response", "");
            let request = request(&format!(
                "POST {} HTTP/1.1\r\nHost: {ENDPOINT}\r\nContent-Type: text/xml\r\n\
                 SOAPAction: \"{urn}#{}\"\r\nContent-Length: {}\r\n\r\n{body}",
                Resource::Control(edition, service).path(&identity),
                action.name(),
                body.len(),
            ));
            let peer = peer(camera);
            let response = match web.handle_request(&request, peer, core.snapshot(), now) {
                Step::Answer(response) => response,
                Step::Ask(request, pending) => {
                    let (outcome, _) = core.handle_request(&request, now);
                    core.finish(now);
                    web.handle_outcome(&pending, &outcome)
                }
                Step::Count(_, pending) => web.handle_packets(&pending, None),
                Step::Measure(pending) => web.handle_traffic(&pending, Some(Traffic::default())),
                Step::Subscribe(_) => panic!("no action"),
            };
            prop_assert!(matches!(response.status, Status::Ok | Status::InternalServerError));
            prop_assert!(soap::parse(&response.body).is_ok() || response.status != Status::Ok);
            prop_assert!(core.snapshot().mappings().all(|mapping| mapping.server == camera));
        }
    }

    #[test]
    fn arbitrary_requests_never_panic(
        target in "(/[a-z0-9]{0,8}){0,3}|\\PC{0,20}|http://[a-z0-9.:/]{0,20}",
        headers in "((Host|Origin|SOAPAction|Content-Type): \\PC{0,20}\r\n){0,5}",
    ) {
        let now = Now { mono: at(Duration::ZERO), wall: Wall::from_secs(1_800_000_000) };
        let (core, camera) = home(now);
        let web = Web::new(&Identity::new([7; 16]), Counters::new());
        let mut connection = Connection::new(Counters::new(), now);
        connection.handle_bytes(format!("POST {target} HTTP/1.1\r\n{headers}\r\n").as_bytes(), now.mono);
        if let Some(request) = connection.poll_request() {
            let peer = peer(camera);
            let step = web.handle_request(&request, peer, core.snapshot(), now);
            prop_assert!(matches!(step, Step::Answer(response) if response.status != Status::Ok));
        }
    }
}

/// Something that an argument may be, and something that it may not.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("TCP".to_owned()),
        Just("UDP".to_owned()),
        Just("1".to_owned()),
        Just("192.168.0.1".to_owned()),
        Just("camera".to_owned()),
        any::<u16>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "\\PC{0,12}",
    ]
}

fn request(text: &str) -> Request {
    let now = Now {
        mono: at(Duration::ZERO),
        wall: Wall::from_secs(1_800_000_000),
    };
    let mut connection = Connection::new(Counters::new(), now);
    connection.handle_bytes(text.as_bytes(), at(Duration::ZERO));
    connection.poll_request().unwrap()
}

/// A core with one camera at home.
fn home(now: Now) -> (Core, Ipv4Addr) {
    let mut core = Core::new(site(), Policy::default(), [7; 16], BootId([1; 16]), now);
    let addr = lease(&mut core, Mac([2, 0, 0, 0, 0, 1]), now);
    let prefix = PrefixRequest {
        delegated: "2001:db8:64::/56".parse().unwrap(),
        nsp: None,
        old_valid: Duration::ZERO,
    };
    core.handle_request(&mapping::Request::Prefix(prefix), now);
    core.finish(now);
    (core, addr)
}

fn lease(core: &mut Core, mac: Mac, now: Now) -> Ipv4Addr {
    let addr = core.snapshot().lease_candidate(mac, |_| false).unwrap();
    let lease = LeaseRequest {
        mac,
        addr,
        lifetime: Duration::from_secs(3600),
        declared_name: Some("camera".to_owned()),
    };
    core.handle_request(&mapping::Request::Lease(lease), now);
    core.finish(now);
    addr
}

fn drain(ssdp: &mut Ssdp<StdRng>, now: Instant) -> usize {
    ssdp.handle_timeout(now);
    std::iter::from_fn(|| ssdp.poll_transmit())
        .map(|transmit| transmit.payload.len())
        .sum()
}

/// Somebody without a lease, in a frame whose MAC nobody knows.
fn stranger(source: SocketAddr) -> Searcher {
    let now = Now {
        mono: at(Duration::ZERO),
        wall: Wall::from_secs(1_800_000_000),
    };
    let core = Core::new(site(), Policy::default(), [7; 16], BootId([1; 16]), now);
    let client = Client {
        addr: source.ip(),
        mac: None,
    };
    Searcher::new(source, client, core.snapshot())
}

fn search(target: &str, max_wait: &str) -> Vec<u8> {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n{max_wait}ST: {target}\r\n\r\n"
    )
    .into_bytes()
}

fn machine(counters: Counters, seed: u64) -> Ssdp<StdRng> {
    let config = SsdpConfig {
        lan: Lan::new(site(), ENDPOINT.port()),
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

fn site() -> Site {
    Site::new(*ENDPOINT.ip(), 16, "home.example".to_owned()).unwrap()
}

fn at(after: Duration) -> Instant {
    Instant::from_nanos(1_000_000_000_000) + after
}

fn peer(addr: Ipv4Addr) -> Peer {
    Peer {
        client: Client {
            addr: addr.into(),
            mac: None,
        },
        scope: 0,
        local: ENDPOINT.into(),
    }
}

fn is_at_home(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V4(addr) if addr.octets()[..2] == [192, 168])
}

const CLIENT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 20), 40000));
const ENDPOINT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 1), 5000);
