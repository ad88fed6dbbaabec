//! A gateway with a camera and a NAS: the machine of UDP 5351, and the real core behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use mapping::{
    Access, BootId, Carriers, Core, External, ExternalPort, HostPolicyRequest, Instant,
    InternalPort, LeaseRequest, Mac, MapRequest, MappingNonce, Now, Outcome, Policy, PortClass,
    PrefixRequest, Protocol, Request, Requester, Site, Subject, Wall,
};
use natpmp::Caller;
use pcp::wire::{Body, Map, PcpOption, Peer, Response, ResultCode, emit_option};
use pcp::{Dialects, RequestToken, Server, Settings};

pub const CAMERA: [u8; 4] = [192, 168, 64, 20];
pub const NAS: [u8; 4] = [192, 168, 64, 21];
pub const NONCE: [u8; 12] = *b"nonce-nonce!";
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const CAMERA_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0x20);

/// A gateway with a camera and a NAS: the machine, and the real core behind it.
pub struct Home {
    pub core: Core,
    pub server: Server,
    pub now: Now,
    waiting: Vec<(RequestToken, Request)>,
}

impl Home {
    pub fn new() -> Self {
        Self::serving(Dialects::Both)
    }

    pub fn serving(dialects: Dialects) -> Self {
        let mut home = Self::without_prefix();
        home.server = Server::new(Settings {
            dialects,
            ..Settings::default()
        });
        home.renumber("2001:db8:64::/56");
        home
    }

    pub fn without_prefix() -> Self {
        let now = Now {
            mono: Instant::from_nanos(5_000_000_000),
            wall: Wall::from_secs(1_800_000_000),
        };
        let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned());
        let policy = Policy::default();
        let core = Core::new(site.unwrap(), policy, [7; 16], BootId([1; 16]), now);
        let mut home = Self {
            core,
            server: Server::new(Settings::default()),
            now,
            waiting: Vec::new(),
        };
        for (addr, name) in [(CAMERA, "camera"), (NAS, "nas")] {
            home.decide(&Request::Lease(LeaseRequest {
                mac: mac(addr),
                addr: addr.into(),
                lifetime: Duration::from_secs(36_000),
                declared_name: Some(name.to_owned()),
            }));
        }
        home
    }

    /// The program ends and starts again; what stands in the store is there.
    pub fn restart(&mut self, dialects: Dialects) {
        self.waiting.clear();
        self.server = Server::new(Settings {
            dialects,
            ..Settings::default()
        });
    }

    pub fn wait(&mut self, secs: u64) {
        self.now.mono += Duration::from_secs(secs);
        self.now.wall = self.now.wall + Duration::from_secs(secs);
        self.core.handle_timeout(self.now);
        self.core.finish(self.now);
    }

    pub fn renumber(&mut self, delegated: &str) {
        self.decide(&Request::Prefix(PrefixRequest {
            delegated: delegated.parse().unwrap(),
            nsp: None,
            old_valid: Duration::from_secs(600),
        }));
        let newest = self.core.snapshot().to_prefer().unwrap().id;
        self.decide(&Request::Prefer(newest));
    }

    pub fn open_static(&mut self, port: u16) {
        let outcome = self.decide(&Request::Map(MapRequest {
            subject: Subject::Admin(mac(CAMERA)),
            requester: Requester::Cli,
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(port).unwrap(),
            external: External::Exact(ExternalPort::new(port).unwrap()),
            lifetime: None,
            nonce: None,
            via: mapping::Via::Both,
            peer: false,
            filters: mapping::FilterChange::default(),
            description: None,
            memo: None,
        }));
        assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
    }

    pub fn hear(&mut self, source: [u8; 4], bytes: &[u8]) {
        self.hear_from(caller(Ipv4Addr::from(source).into()), bytes);
    }

    pub fn hear_from(&mut self, caller: Caller, bytes: &[u8]) {
        self.hear_on_a_link(true, caller, bytes);
    }

    /// As [`Self::hear_from`]; the link leads to who claims an IPv6 address, or to another.
    pub fn hear_on_a_link(&mut self, leads_there: bool, caller: Caller, bytes: &[u8]) {
        self.server
            .handle_datagram(bytes, caller, self.core.snapshot(), self.now);
        while let Some((token, _)) = self.server.poll_claim() {
            let snapshot = self.core.snapshot();
            self.server
                .handle_claim(token, leads_there, snapshot, self.now);
        }
        while let Some(request) = self.server.poll_request() {
            self.waiting.push(request);
        }
    }

    /// Lets the core decide what waits, and returns what is sent.
    pub fn answers(&mut self) -> Vec<Vec<u8>> {
        for (token, request) in std::mem::take(&mut self.waiting) {
            let outcome = self.decide(&request);
            let snapshot = self.core.snapshot();
            self.server
                .handle_outcome(token, &outcome, snapshot, self.now);
        }
        self.sent()
    }

    pub fn ask_all(&mut self, source: [u8; 4], bytes: &[u8]) -> Vec<Vec<u8>> {
        self.hear(source, bytes);
        self.answers()
    }

    #[track_caller]
    pub fn ask(&mut self, source: [u8; 4], bytes: &[u8]) -> Vec<u8> {
        let mut answers = self.ask_all(source, bytes);
        assert_eq!(answers.len(), 1, "{bytes:?}");
        answers.remove(0)
    }

    /// Asks for an hour with `PREFER_FAILURE`.
    #[track_caller]
    pub fn ask_exactly(&mut self, source: [u8; 4], map: &Map) -> Vec<u8> {
        let bytes = [request(source, 3600, map), option(2, &[])].concat();
        self.ask(source, &bytes)
    }

    #[track_caller]
    pub fn ask_answering(&mut self, source: [u8; 4], bytes: &[u8], outcome: &Outcome) -> Vec<u8> {
        self.hear(source, bytes);
        let (token, _) = self.waiting.pop().unwrap();
        self.server
            .handle_outcome(token, outcome, self.core.snapshot(), self.now);
        self.sent().remove(0)
    }

    /// Shows the snapshot and runs until nothing is due: what was announced, and when.
    pub fn announcements(&mut self) -> Vec<(Duration, Vec<u8>)> {
        let start = self.now.mono;
        let mut sent = Vec::new();
        self.server.handle_snapshot(self.core.snapshot(), self.now);
        loop {
            let at = self.now.mono - start;
            sent.extend(self.ipv4_sent().map(|bytes| (at, bytes)));
            let Some((due, _)) = self.server.poll_timeout() else {
                return sent;
            };
            self.now.mono = due;
            self.server.handle_timeout(self.core.snapshot(), self.now);
        }
    }

    /// What is open: who, protocol, external and internal port, and who asked.
    pub fn open(&self) -> Vec<String> {
        let snapshot = self.core.snapshot();
        let line = |mapping: &mapping::Mapping| {
            let host = snapshot.host(mapping.host).unwrap();
            let (external, internal) = (mapping.external_port, mapping.internal_port);
            let requester = mapping.requester.as_str();
            let protocol = mapping.protocol;
            format!(
                "{} {protocol} {external}->{internal} {requester}",
                host.name
            )
        };
        snapshot.mappings().map(|mapping| line(mapping)).collect()
    }

    /// Other rules hold from now on, for what is asked.
    pub fn rule_all(&mut self, policy: Policy) {
        self.core.handle_policy(policy, self.now);
        self.core.finish(self.now);
    }

    /// A person decides about the camera.
    pub fn rule(&mut self, access: Access, ports: Option<PortClass>) {
        self.decide(&Request::HostPolicy(HostPolicyRequest {
            host: mac(CAMERA),
            requester: Requester::Cli,
            access: Some(access),
            ports,
            quota: None,
            lasts: None,
        }));
    }

    pub fn decide(&mut self, request: &Request) -> Outcome {
        let (outcome, _) = self.core.handle_request(request, self.now);
        self.core.finish(self.now);
        outcome
    }

    fn ipv4_sent(&mut self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(|| self.server.poll_transmit())
            .filter(|transmit| transmit.to.is_ipv4())
            .map(|transmit| transmit.bytes)
    }

    /// Runs until nothing is due: what was sent to the camera, and when.
    pub fn updates(&mut self) -> Vec<(Duration, Vec<u8>)> {
        let start = self.now.mono;
        let mut sent = Vec::new();
        self.server.handle_snapshot(self.core.snapshot(), self.now);
        loop {
            let at = self.now.mono - start;
            while let Some(transmit) = self.server.poll_transmit() {
                if !transmit.to.ip().is_multicast() {
                    assert_eq!(transmit.to.port(), 50_000);
                    sent.push((at, transmit.bytes));
                }
            }
            let Some((due, _)) = self.server.poll_timeout() else {
                return sent;
            };
            self.now.mono = due;
            self.server.handle_timeout(self.core.snapshot(), self.now);
        }
    }

    /// Lets IPv4 forwards and pinholes be carried.
    pub fn carry(&mut self) {
        self.decide(&Request::Carriers(Carriers {
            ipv4: Some([203, 0, 113, 7].into()),
            pinholes: true,
        }));
    }

    #[track_caller]
    pub fn ask_from(&mut self, caller: Caller, bytes: &[u8]) -> Vec<u8> {
        self.hear_from(caller, bytes);
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "{bytes:?}");
        answers.remove(0)
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.server.poll_transmit())
            .map(|transmit| transmit.bytes)
            .collect()
    }
}

pub const fn map(protocol: u8, internal_port: u16, external_port: u16) -> Map {
    Map {
        nonce: MappingNonce(NONCE),
        protocol,
        internal_port,
        external_port,
        external_addr: Ipv6Addr::UNSPECIFIED,
    }
}

pub fn request(client: [u8; 4], lifetime: u32, map: &Map) -> Vec<u8> {
    emit(client, lifetime, Body::Map(*map))
}

/// The camera's, by MAC; its IPv6 address is on link.
pub fn caller(addr: IpAddr) -> Caller {
    Caller {
        source: (addr, 50_000).into(),
        local: [192, 168, 64, 1].into(),
        mac: addr.is_ipv6().then(|| mac(CAMERA)),
        on_link: true,
    }
}

pub fn request_of(client: Ipv6Addr, lifetime: u32, body: Body) -> Vec<u8> {
    let request = pcp::wire::Request {
        lifetime,
        client,
        body,
        options: &[],
    };
    request.emit()
}

pub fn peer(map: Map, remote: &str, port: u16) -> Body {
    Body::Peer(Peer {
        map,
        remote_port: port,
        remote_addr: remote.parse().unwrap(),
    })
}

pub fn filter(len: u8, addr: &str, port: u16) -> Vec<u8> {
    let addr: Ipv6Addr = addr.parse().unwrap();
    let [p0, p1] = port.to_be_bytes();
    option(3, &[&[0, len, p0, p1], &addr.octets()[..]].concat())
}

pub fn announce(client: [u8; 4]) -> Vec<u8> {
    emit(client, 0, Body::Announce)
}

pub fn option(code: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    emit_option(PcpOption::Unknown { code, data }, &mut bytes);
    bytes
}

/// Where remotes reach a host.
pub fn nsp(addr: [u8; 4]) -> Ipv6Addr {
    let prefix: Ipv6Addr = "2001:db8:64:1::".parse().unwrap();
    Ipv6Addr::from(u128::from(prefix) | u128::from(u32::from(Ipv4Addr::from(addr))))
}

#[track_caller]
pub fn success(bytes: &[u8]) -> Map {
    let response = Response::parse(bytes).unwrap();
    assert_eq!(response.result, ResultCode::Success);
    match response.body {
        Body::Map(map) => map,
        Body::Peer(peer) => peer.map,
        Body::Announce => panic!("not a mapping: {response:?}"),
    }
}

/// The code and the lifetime of an error.
#[track_caller]
pub fn error(bytes: &[u8]) -> (ResultCode, u32) {
    let [_, _, _, code, l0, l1, l2, l3, ..] = *bytes else {
        panic!("too short: {bytes:?}");
    };
    assert_ne!(code, 0, "a success: {bytes:?}");
    (
        ResultCode::from_number(code),
        u32::from_be_bytes([l0, l1, l2, l3]),
    )
}

fn emit(client: [u8; 4], lifetime: u32, body: Body) -> Vec<u8> {
    request_of(Ipv4Addr::from(client).to_ipv6_mapped(), lifetime, body)
}

fn mac(addr: [u8; 4]) -> Mac {
    let [a, b, c, d] = addr;
    Mac([2, 0, a, b, c, d])
}
