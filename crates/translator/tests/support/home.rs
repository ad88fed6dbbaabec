//! A home around a translator, and packets with checksums of an implementation of their own.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, of which each test uses some"
)]

pub mod icmp;

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

/// A packet as its meaning; `bytes` computes all lengths and checksums, `parse` checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub tos: u8,
    pub ttl: u8,
    /// IPv4 only.
    pub dont_fragment: bool,
    pub segment: Segment,
    pub payload: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Echo {
        request: bool,
        id: u16,
        sequence: u16,
    },
    Tcp {
        src: u16,
        dst: u16,
        sequence: u32,
        ack: u32,
        flags: u8,
        window: u16,
        options: Vec<u8>,
    },
    Udp {
        src: u16,
        dst: u16,
    },
}

impl Segment {
    pub fn tcp(src: u16, dst: u16, flags: u8) -> Self {
        Self::Tcp {
            src,
            dst,
            sequence: 17,
            ack: 18,
            flags,
            window: 999,
            options: Vec::new(),
        }
    }

    pub fn udp(src: u16, dst: u16) -> Self {
        Self::Udp { src, dst }
    }

    pub fn ping(id: u16) -> Self {
        Self::Echo {
            request: true,
            id,
            sequence: 1,
        }
    }

    pub fn pong(id: u16) -> Self {
        Self::Echo {
            request: false,
            id,
            sequence: 1,
        }
    }

    pub fn ports(&self) -> (u16, u16) {
        match self {
            Self::Echo { id, .. } => (*id, *id),
            Self::Tcp { src, dst, .. } | Self::Udp { src, dst } => (*src, *dst),
        }
    }

    pub fn mss(value: u16) -> Vec<u8> {
        let [high, low] = value.to_be_bytes();
        vec![2, 4, high, low]
    }
}

impl Packet {
    pub fn new(src: IpAddr, dst: IpAddr, segment: Segment) -> Self {
        let payload = b"payload".to_vec();
        Self {
            src,
            dst,
            tos: 0,
            ttl: 61,
            dont_fragment: false,
            segment,
            payload,
        }
    }

    pub fn with_payload(mut self, len: usize) -> Self {
        static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
        let make = || (0..LONGEST).map(|at| (at * 7 + at / 251) as u8).collect();
        self.payload = PATTERN.get_or_init(make)[..len].to_vec();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.with_header(&self.sealed_segment(), &[])
    }

    /// As `bytes`, with extension headers or options before the segment.
    pub fn bytes_with(&self, extra: &[u8]) -> Vec<u8> {
        self.with_header(&self.sealed_segment(), extra)
    }

    pub fn sealed_segment(&self) -> Vec<u8> {
        let mut segment = self.open_segment();
        let at = self.checksum_at();
        let sum = !sum16(&[self.pseudo(segment.len()).as_slice(), &segment].concat());
        let sum = if sum == 0 && matches!(self.segment, Segment::Udp { .. }) {
            0xffff
        } else {
            sum
        };
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    /// The segment whose checksum holds the pseudo-header's sum only.
    pub fn partial_bytes(&self) -> Vec<u8> {
        let mut segment = self.open_segment();
        let at = self.checksum_at();
        let sum = sum16(&self.pseudo(segment.len()));
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        self.with_header(&segment, &[])
    }

    pub fn checksum_at(&self) -> usize {
        match self.segment {
            Segment::Echo { .. } => 2,
            Segment::Tcp { .. } => 16,
            Segment::Udp { .. } => 6,
        }
    }

    pub fn protocol(&self) -> u8 {
        match (&self.segment, self.src) {
            (Segment::Echo { .. }, IpAddr::V4(_)) => 1,
            (Segment::Echo { .. }, IpAddr::V6(_)) => 58,
            (Segment::Tcp { .. }, _) => 6,
            (Segment::Udp { .. }, _) => 17,
        }
    }

    fn pseudo(&self, len: usize) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(_), _) if self.protocol() == 1 => Vec::new(),
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let len = (len as u16).to_be_bytes();
                [
                    &src.octets()[..],
                    &dst.octets(),
                    &[0, self.protocol()],
                    &len,
                ]
                .concat()
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let len = (len as u32).to_be_bytes();
                [
                    &src.octets()[..],
                    &dst.octets(),
                    &len,
                    &[0, 0, 0, self.protocol()],
                ]
                .concat()
            }
            _ => panic!("mixed families"),
        }
    }

    fn open_segment(&self) -> Vec<u8> {
        let mut bytes = match &self.segment {
            Segment::Echo {
                request,
                id,
                sequence,
            } => {
                let kind = match (self.src.is_ipv4(), *request) {
                    (true, true) => 8,
                    (true, false) => 0,
                    (false, true) => 128,
                    (false, false) => 129,
                };
                let mut bytes = vec![kind, 0, 0, 0];
                bytes.extend(id.to_be_bytes());
                bytes.extend(sequence.to_be_bytes());
                bytes
            }
            Segment::Tcp {
                src,
                dst,
                sequence,
                ack,
                flags,
                window,
                options,
            } => {
                let mut bytes = Vec::new();
                bytes.extend(src.to_be_bytes());
                bytes.extend(dst.to_be_bytes());
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(ack.to_be_bytes());
                bytes.extend([((20 + options.len()) / 4 * 16) as u8, *flags]);
                bytes.extend(window.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend(options);
                bytes
            }
            Segment::Udp { src, dst } => {
                let mut bytes = Vec::new();
                bytes.extend(src.to_be_bytes());
                bytes.extend(dst.to_be_bytes());
                bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
                bytes.extend([0; 2]);
                bytes
            }
        };
        bytes.extend(&self.payload);
        bytes
    }

    pub fn with_header(&self, segment: &[u8], extra: &[u8]) -> Vec<u8> {
        let len = extra.len() + segment.len();
        let mut bytes = Vec::new();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                bytes.extend([0x45 + (extra.len() / 4) as u8, self.tos]);
                bytes.extend((20 + len as u16).to_be_bytes());
                bytes.extend([0x12, 0x34, if self.dont_fragment { 0x40 } else { 0 }, 0]);
                bytes.extend([self.ttl, self.protocol(), 0, 0]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes.extend(extra);
                seal_ipv4(&mut bytes);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let class = u32::from(self.tos) << 20;
                bytes.extend((0x6000_0000 | class).to_be_bytes());
                bytes.extend((len as u16).to_be_bytes());
                let next = if extra.is_empty() {
                    self.protocol()
                } else {
                    60
                };
                bytes.extend([next, self.ttl]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes.extend(extra);
            }
            _ => panic!("mixed families"),
        }
        bytes.extend(segment);
        bytes
    }

    pub fn parse(bytes: &[u8]) -> Self {
        let (mut packet, l4) = match bytes[0] >> 4 {
            4 => parse_v4(bytes),
            6 => parse_v6(bytes),
            version => panic!("IP version {version}"),
        };
        let protocol = packet.1;
        let word = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([l4[at], l4[at + 1], l4[at + 2], l4[at + 3]]);
        let (segment, header) = match protocol {
            1 | 58 => {
                let request = match (protocol, l4[0]) {
                    (1, 8) | (58, 128) => true,
                    (1, 0) | (58, 129) => false,
                    (_, kind) => panic!("ICMP type {kind}"),
                };
                assert_eq!(l4[1], 0);
                (
                    Segment::Echo {
                        request,
                        id: word(4),
                        sequence: word(6),
                    },
                    8,
                )
            }
            6 => {
                let header = usize::from(l4[12] >> 4) * 4;
                let options = l4[20..header].to_vec();
                let (src, dst) = (word(0), word(2));
                let (sequence, ack, flags, window) = (long(4), long(8), l4[13], word(14));
                (
                    Segment::Tcp {
                        src,
                        dst,
                        sequence,
                        ack,
                        flags,
                        window,
                        options,
                    },
                    header,
                )
            }
            17 => {
                assert_eq!(usize::from(word(4)), l4.len(), "UDP length");
                assert_ne!(word(6), 0, "UDP checksum");
                (
                    Segment::Udp {
                        src: word(0),
                        dst: word(2),
                    },
                    8,
                )
            }
            _ => panic!("protocol {protocol}"),
        };
        packet.0.segment = segment;
        packet.0.payload = l4[header..].to_vec();
        let sum = sum16(&[packet.0.pseudo(l4.len()).as_slice(), l4].concat());
        assert_eq!(sum, 0xffff, "transport checksum of {:?}", packet.0);
        packet.0
    }
}

fn parse_v4(bytes: &[u8]) -> ((Packet, u8), &[u8]) {
    assert_eq!(bytes[0], 0x45, "no options leave");
    assert_eq!(
        usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        bytes.len()
    );
    assert_eq!(sum16(&bytes[..20]), 0xffff, "IPv4 header checksum");
    let addr = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap().into();
    let mut packet = Packet::new(addr(12), addr(16), Segment::ping(0));
    packet.tos = bytes[1];
    packet.ttl = bytes[8];
    packet.dont_fragment = bytes[6] == 0x40;
    assert_eq!((bytes[6] & 0xbf, bytes[7]), (0, 0), "not a fragment");
    ((packet, bytes[9]), &bytes[20..])
}

fn parse_v6(bytes: &[u8]) -> ((Packet, u8), &[u8]) {
    let head = u32::from_be_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(head & 0xf_ffff, 0, "flow label");
    assert_eq!(
        usize::from(u16::from_be_bytes([bytes[4], bytes[5]])),
        bytes.len() - 40
    );
    let addr = |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap().into();
    let mut packet = Packet::new(addr(8), addr(24), Segment::ping(0));
    packet.tos = (head >> 20) as u8;
    packet.ttl = bytes[7];
    ((packet, bytes[6]), &bytes[40..])
}

pub fn seal_ipv4(bytes: &mut [u8]) {
    let header = usize::from(bytes[0] & 15) * 4;
    bytes[10..12].copy_from_slice(&[0, 0]);
    let sum = !sum16(&bytes[..header]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1071, two words at a time and all carries at the end.
pub fn sum16(bytes: &[u8]) -> u16 {
    let mut pairs = bytes.chunks_exact(4);
    let words = pairs
        .by_ref()
        .map(|pair| u32::from_be_bytes(pair.try_into().unwrap()));
    let mut sum: u64 = words.map(u64::from).sum();
    for (at, byte) in pairs.remainder().iter().enumerate() {
        sum += u64::from(*byte) << (24 - 8 * at);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// No packet carries more.
const LONGEST: usize = 65_535;
