//! A home around a translator, and packets with checksums of an implementation of their own.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, of which each test uses some"
)]

pub mod icmp;
mod packet;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;
use std::time::Duration;

use mapping::{
    Admission, AdmissionRule, ExternalPort, Instant, InternalPort, Nsp, Protocol, RemoteFilter,
};
use translator::{
    Config, DropReason, Event, Frame, Limits, PoolRange, Session, Translator, Transport, Verdict,
};

pub use packet::{Packet, Segment, seal_ipv4, sum16};

pub const CAMERA: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 7);
pub const NAS: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 8);
/// `T`; the pool of a home has no other address.
pub const POOL: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 193);
pub const REMOTE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 1);
pub const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbbbb, 0, 0, 0, 0, 2);

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

pub fn nsp() -> Nsp {
    Nsp::new("2001:db8:64:1::".parse().unwrap()).unwrap()
}

pub fn new_nsp() -> Nsp {
    Nsp::new("2001:db8:65:1::".parse().unwrap()).unwrap()
}

/// Remotes of a prefix, with any port or one.
pub fn remotes(prefix: &str, port: Option<u16>) -> RemoteFilter {
    RemoteFilter {
        prefix: prefix.parse().unwrap(),
        port: port.and_then(std::num::NonZeroU16::new),
    }
}

/// What is open: where it leads, and for whom.
pub type Rules = BTreeMap<(Ipv4Addr, Protocol, u16), (u16, Vec<RemoteFilter>)>;

/// Tells whether a session may be there (RFC 6887 §13.3).
pub fn admits(rules: &Rules, session: &Session) -> bool {
    let (addr, port) = session.remote;
    let protocol = match session.transport {
        Transport::IcmpQuery => {
            return rules.iter().any(|((server, ..), (_, filters))| {
                let fits = filters.iter().any(|filter| filter.prefix.contains(addr));
                *server == session.server.0 && (filters.is_empty() || fits)
            });
        }
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    };
    let rule = rules.get(&(session.server.0, protocol, session.external.1));
    rule.is_some_and(|(to, filters)| {
        let fits = filters.iter().any(|filter| filter.admits(addr, port));
        *to == session.server.1 && (filters.is_empty() || fits)
    })
}

/// A translator with two open ports of the camera: TCP 80 -> 8080 and UDP 5000 -> 5001.
pub struct Home {
    pub translator: Translator,
    pub now: Instant,
}

impl Home {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(PoolRange::new(POOL, 32).unwrap());
        config.limits = Limits {
            sessions: 1000,
            per_remote_64: u32::MAX,
            per_server: u32::MAX,
            half_open_per_64: u32::MAX,
            new_per_remote_64: u32::MAX,
            new_per_server: u32::MAX,
            ..Limits::default()
        };
        configure(&mut config);
        let now = Instant::from_nanos(1_000_000_000);
        let mut translator = Translator::new(config, [7; 16], now);
        translator.handle_nsps(&[nsp()], now);
        let mut home = Self { translator, now };
        home.open(CAMERA, Protocol::Tcp, 80, 8080);
        home.open(CAMERA, Protocol::Udp, 5000, 5001);
        home
    }

    pub fn open(&mut self, server: Ipv4Addr, protocol: Protocol, external: u16, internal: u16) {
        self.open_to(server, protocol, external, internal, &[]);
    }

    /// As [`Self::open`], for the remotes of these prefixes, with these ports, only.
    pub fn open_to(
        &mut self,
        server: Ipv4Addr,
        protocol: Protocol,
        external: u16,
        internal: u16,
        filters: &[RemoteFilter],
    ) {
        let external = ExternalPort::new(external).unwrap();
        let rule = AdmissionRule {
            internal: InternalPort::new(internal).unwrap(),
            filters: filters.into(),
        };
        let change = Admission::Open(server, protocol, external, rule);
        self.translator.handle_admissions(&[change], self.now);
    }

    pub fn close(&mut self, server: Ipv4Addr, protocol: Protocol, external: u16) {
        let change = Admission::Close(server, protocol, ExternalPort::new(external).unwrap());
        self.translator.handle_admissions(&[change], self.now);
    }

    /// Lets time pass, waking the machine exactly when it asks for it.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((due, _)) = self
            .translator
            .poll_timeout()
            .filter(|(due, _)| *due <= end)
        {
            self.now = self.now.max(due);
            self.translator.handle_timeout(self.now);
            self.transmitted();
            self.events();
        }
        self.now = end;
    }

    /// Returns what happened to sessions since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.translator.poll_event()).collect()
    }

    pub fn live(&self) -> usize {
        self.translator.sessions(0..u32::MAX, self.now).count()
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.translator.counters().drops.get(reason)
    }

    /// Sends bytes without offloads.
    pub fn raw(&mut self, packet: &[u8]) -> Result<Vec<u8>, DropReason> {
        let offload = [0; 10];
        self.offloaded(&offload, packet).map(|(left, packet)| {
            assert_eq!(left, offload, "no offload came, none may leave");
            packet
        })
    }

    /// Sends bytes behind an offload header, and returns both of what left.
    pub fn offloaded(
        &mut self,
        offload: &[u8; 10],
        packet: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), DropReason> {
        let mut frame = Frame::new();
        let space = frame.space();
        space[..10].copy_from_slice(offload);
        space[10..10 + packet.len()].copy_from_slice(packet);
        frame.filled(10 + packet.len());
        match self.translator.handle_packet(&mut frame, self.now) {
            Verdict::Drop(reason) => Err(reason),
            Verdict::Forward => {
                let (offload, packet) = frame.bytes().split_at(10);
                Ok((offload.to_vec(), packet.to_vec()))
            }
            Verdict::Hold => panic!("the packet waits or leaves in pieces"),
        }
    }

    /// Sends bytes without offloads and returns what became of them, with every packet that left,
    /// behind its offload header.
    pub fn exchange(&mut self, packet: &[u8]) -> (Verdict, Vec<Vec<u8>>) {
        let mut frame = Frame::new();
        frame.space()[10..10 + packet.len()].copy_from_slice(packet);
        frame.space()[..10].fill(0);
        frame.filled(10 + packet.len());
        let verdict = self.translator.handle_packet(&mut frame, self.now);
        let mut left = self.transmitted();
        if verdict == Verdict::Forward {
            left.insert(0, frame.packet().to_vec());
        }
        (verdict, left)
    }

    /// Returns the packets that leave besides those that were translated in place.
    pub fn transmitted(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| {
            self.translator
                .poll_transmit()
                .map(|packet| packet[10..].to_vec())
        })
        .collect()
    }

    pub fn send(&mut self, packet: &Packet) -> Result<Packet, DropReason> {
        self.raw(&packet.bytes()).map(|bytes| Packet::parse(&bytes))
    }

    /// Opens a TCP connection from `port` of the remote to port 80 of the camera, and returns the
    /// pool port.
    pub fn connect(&mut self, port: u16) -> u16 {
        let syn = self.send(&to_camera(Segment::tcp(port, 80, SYN))).unwrap();
        let t = syn.segment.ports().0;
        self.send(&from_camera(Segment::tcp(8080, t, SYN | ACK)))
            .unwrap();
        self.send(&to_camera(Segment::tcp(port, 80, ACK))).unwrap();
        t
    }

    /// Sends first packets from as many forged sources; to each SYN the camera answers.
    pub fn flood(&mut self, packets: u16, segment: impl Fn(u16) -> Segment) {
        for number in 0..packets {
            let mut packet = to_camera(segment(10_000 + number));
            let host = self.translator.counters().sessions_opened;
            packet.src = Ipv6Addr::from((0x2001_0db8_bbbb_u128 << 80) + u128::from(host)).into();
            let arrived = self.send(&packet).unwrap();
            if let Segment::Tcp { src, .. } = arrived.segment {
                self.send(&from_camera(Segment::tcp(8080, src, SYN | ACK)))
                    .unwrap();
            }
        }
    }
}

pub fn to_camera(segment: Segment) -> Packet {
    Packet::new(REMOTE.into(), nsp().embed(CAMERA).into(), segment)
}

pub fn from_camera(segment: Segment) -> Packet {
    Packet::new(CAMERA.into(), POOL.into(), segment)
}
