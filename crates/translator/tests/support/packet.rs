//! Packets of IPv4 and IPv6, written and read with code of their own.

use super::*;

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

pub fn parse_v4(bytes: &[u8]) -> ((Packet, u8), &[u8]) {
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

pub fn parse_v6(bytes: &[u8]) -> ((Packet, u8), &[u8]) {
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
