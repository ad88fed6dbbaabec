//! What the real core's snapshots want.

use std::time::Duration;

use mapping::{
    BootId, Carriers, Client, Core, External, FilterChange, Grant, InternalPort, LeaseRequest, Mac,
    MapRequest, Now, Outcome, Policy, PrefixRequest, RemoteFilter, Request, Requester, Site,
    Subject, UnmapRequest, UnmapTarget, Via, Wall,
};

use super::*;

#[test]
fn open_port_is_wanted_at_its_servers_address_in_the_prefix() {
    let mut home = Home::new();
    home.open(80);

    let wishes = home.look();

    assert_eq!(wishes.close, []);
    let shown: Vec<_> = wishes.open.iter().map(show).collect();
    assert_eq!(shown, ["2001:db8:64:1::c0a8:4014 tcp 80 for 192.168.64.20"]);
    assert_eq!(home.look(), Wishes::default(), "nothing is told twice");
}

#[test]
fn closed_port_is_wanted_no_more_and_a_lease_changes_nothing() {
    let mut home = Home::new();
    home.open(80);
    home.look();

    home.join();
    assert_eq!(home.look(), Wishes::default());
    home.close(80);

    let wishes = home.look();
    assert_eq!((wishes.close.len(), wishes.open.len()), (1, 0));
}

#[test]
fn port_is_wanted_at_every_prefix_that_is_accepted_and_gone_with_it() {
    let mut home = Home::new();
    home.open(80);
    home.look();

    home.renumber("2001:db8:65::/56", Duration::from_secs(60));
    let wishes = home.look();
    let shown: Vec<_> = wishes.open.iter().map(show).collect();
    assert_eq!(shown, ["2001:db8:65:1::c0a8:4014 tcp 80 for 192.168.64.20"]);
    assert_eq!(wishes.close, [], "make before break");

    home.open(8081);
    assert_eq!(home.look().open.len(), 2, "at both");
    home.wait(Duration::from_secs(61));
    let wishes = home.look();
    let closed: Vec<_> = wishes
        .close
        .iter()
        .map(|key| key.addr.to_string())
        .collect();
    assert_eq!(closed, ["2001:db8:64:1::c0a8:4014"; 2]);
}

#[test]
fn forward_is_wanted_at_our_ipv4_address_while_it_is_carried() {
    let mut home = Home::new();
    home.carry(Some([192, 0, 2, 7]));
    home.look();
    home.open(80);

    let shown: Vec<_> = home.look().open.iter().map(show).collect();
    assert_eq!(
        shown,
        [
            "192.0.2.7 tcp 80 for 192.168.64.20",
            "2001:db8:64:1::c0a8:4014 tcp 80 for 192.168.64.20"
        ]
    );
    home.close(80);
    assert_eq!(home.look().close.len(), 2);
}

#[test]
fn rfc_6887_s13_3_filters_of_a_mapping_are_those_that_are_wanted_and_a_change_is_told() {
    let mut home = Home::new();
    let office = remote("2001:db8:0f1c::/48");
    home.open_to(80, FilterChange::default());
    assert_eq!(home.look().open[0].filters.as_ref(), []);

    home.open_to(80, only(office));
    let wishes = home.look();
    assert_eq!(wishes.open[0].filters.as_ref(), [office]);
    assert_eq!(wishes.close, [], "it is the same port");
    home.open_to(80, FilterChange::default());
    assert_eq!(home.look(), Wishes::default(), "a renewal changes nothing");

    home.carry(Some([192, 0, 2, 7]));
    let wishes = home.look();
    assert!(wishes.open.iter().all(|it| it.filters.as_ref() == [office]));
}

fn remote(prefix: &str) -> RemoteFilter {
    RemoteFilter {
        prefix: prefix.parse().unwrap(),
        port: None,
    }
}

fn only(remote: RemoteFilter) -> FilterChange {
    FilterChange {
        clear: true,
        add: vec![remote],
    }
}

struct Home {
    core: Core,
    now: Now,
    wanted: Wanted,
}

impl Home {
    fn new() -> Self {
        let now = Now {
            mono: mapping::Instant::from_nanos(5_000_000_000),
            wall: Wall::from_secs(1_800_000_000),
        };
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned());
        let policy = Policy::default();
        let core = Core::new(site.unwrap(), policy, [7; 16], BootId([1; 16]), now);
        let mut home = Self {
            core,
            now,
            wanted: Wanted::default(),
        };
        home.renumber("2001:db8:64::/56", Duration::ZERO);
        home.join();
        home.look();
        home
    }

    fn decide(&mut self, request: &Request) -> Grant {
        let (outcome, _) = self.core.handle_request(request, self.now);
        self.core.finish(self.now);
        match outcome {
            Outcome::Granted(grant) => grant,
            Outcome::Refused(refusal) => panic!("{refusal}"),
        }
    }

    fn open(&mut self, port: u16) {
        self.open_to(port, FilterChange::default());
    }

    fn open_to(&mut self, port: u16, filters: FilterChange) {
        self.decide(&Request::Map(MapRequest {
            subject: client(),
            requester: Requester::Pcp,
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(port).unwrap(),
            external: External::Suggested(None),
            lifetime: Some(Duration::from_secs(3600)),
            nonce: None,
            via: Via::Both,
            peer: false,
            filters,
            description: None,
            memo: None,
        }));
    }

    fn close(&mut self, port: u16) {
        let port = InternalPort::new(port).unwrap();
        self.decide(&Request::Unmap(UnmapRequest {
            subject: client(),
            requester: Requester::Pcp,
            target: UnmapTarget::Internal(Protocol::Tcp, port, None),
        }));
    }

    fn renumber(&mut self, prefix: &str, old_valid: Duration) {
        let request = PrefixRequest {
            delegated: prefix.parse().unwrap(),
            nsp: None,
            old_valid,
        };
        let Grant::Prefixed(generation) = self.decide(&Request::Prefix(request)) else {
            panic!("no generation");
        };
        self.decide(&Request::Prefer(generation.id));
    }

    fn wait(&mut self, duration: Duration) {
        self.now.mono += duration;
        self.core.handle_timeout(self.now);
        self.core.finish(self.now);
    }

    fn join(&mut self) {
        self.decide(&Request::Lease(LeaseRequest {
            mac: MAC,
            addr: SERVER.into(),
            lifetime: Duration::from_secs(86_400),
            declared_name: None,
        }));
    }

    fn carry(&mut self, addr: Option<[u8; 4]>) {
        self.decide(&Request::Carriers(Carriers {
            ipv4: addr.map(Ipv4Addr::from),
            pinholes: false,
        }));
    }

    fn look(&mut self) -> Wishes {
        let snapshot = Arc::new(self.core.snapshot().clone());
        self.wanted.handle_snapshot(&snapshot)
    }
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 20]);
const SERVER: [u8; 4] = [192, 168, 64, 20];

fn client() -> Subject {
    Subject::Client(Client {
        addr: Ipv4Addr::from(SERVER).into(),
        mac: None,
    })
}

fn show(wish: &Wish) -> String {
    let Wish { key, server, .. } = wish;
    format!("{} {} {} for {server}", key.addr, key.protocol, key.port)
}
