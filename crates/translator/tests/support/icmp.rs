//! ICMP errors, read and written by an implementation of their own.

use std::net::IpAddr;

use super::packet::{parse_v4, parse_v6};
use super::{Home, Packet, Segment, sum16};
use translator::DropReason;

/// An ICMP error as its meaning; `bytes` computes all lengths and checksums, `parse` checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub tos: u8,
    pub ttl: u8,
    pub kind: u8,
    pub code: u8,
    /// The second word.
    pub word: u32,
    /// All behind it.
    pub body: Vec<u8>,
}

impl Error {
    /// Makes an error about `quote`, to who sent that, from where it was to go.
    pub fn about(quote: &[u8], kind: u8, code: u8) -> Self {
        let (src, dst) = addrs(quote);
        Self {
            src: dst,
            dst: src,
            tos: 0,
            ttl: 61,
            kind,
            code,
            word: 0,
            body: quote.to_vec(),
        }
    }

    pub fn from(mut self, src: impl Into<IpAddr>) -> Self {
        self.src = src.into();
        self
    }

    pub fn word(mut self, word: u32) -> Self {
        self.word = word;
        self
    }

    pub fn cut(mut self, len: usize) -> Self {
        self.body.truncate(len);
        self
    }

    pub fn message(&self) -> Vec<u8> {
        let mut message = vec![self.kind, self.code, 0, 0];
        message.extend(self.word.to_be_bytes());
        message.extend(&self.body);
        let sum = !sum16(&[self.pseudo(message.len()), message.clone()].concat());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut packet = Packet::new(self.src, self.dst, Segment::ping(0));
        packet.tos = self.tos;
        packet.ttl = self.ttl;
        packet.with_header(&self.message(), &[])
    }

    pub fn parse(bytes: &[u8]) -> Self {
        let ((packet, protocol), message) = match bytes[0] >> 4 {
            4 => parse_v4(bytes),
            _ => parse_v6(bytes),
        };
        assert_eq!(protocol, if packet.src.is_ipv4() { 1 } else { 58 });
        assert!(!packet.dont_fragment || bytes.len() <= 576);
        let error = Self {
            src: packet.src,
            dst: packet.dst,
            tos: packet.tos,
            ttl: packet.ttl,
            kind: message[0],
            code: message[1],
            word: u32::from_be_bytes(message[4..8].try_into().unwrap()),
            body: message[8..].to_vec(),
        };
        let sum = sum16(&[error.pseudo(message.len()), message.to_vec()].concat());
        assert_eq!(sum, 0xffff, "ICMP checksum of {error:?}");
        assert!(
            bytes.len() <= if error.src.is_ipv4() { 576 } else { 1280 },
            "{} bytes",
            bytes.len()
        );
        error
    }

    fn pseudo(&self, len: usize) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => [
                &src.octets()[..],
                &dst.octets(),
                &(len as u32).to_be_bytes(),
                &[0, 0, 0, 58],
            ]
            .concat(),
            _ => Vec::new(),
        }
    }
}

impl Home {
    /// Sends an error, and returns its translation.
    #[track_caller]
    pub fn error(&mut self, error: &Error) -> Result<Error, DropReason> {
        self.raw(&error.bytes()).map(|bytes| Error::parse(&bytes))
    }
}

/// Returns source and destination of a packet.
pub fn addrs(packet: &[u8]) -> (IpAddr, IpAddr) {
    let v4 = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap().into();
    let v6 = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap().into();
    match packet[0] >> 4 {
        4 => (v4(12), v4(16)),
        _ => (v6(8), v6(24)),
    }
}

/// A packet that passes, before and after its translation.
#[derive(Debug, Clone)]
pub struct Flow {
    pub sent: Vec<u8>,
    pub arrived: Vec<u8>,
}

impl Flow {
    #[track_caller]
    pub fn new(home: &mut Home, packet: &Packet) -> Self {
        let sent = packet.bytes();
        let arrived = home.raw(&sent).unwrap();
        Self { sent, arrived }
    }

    pub fn udp_to_camera(home: &mut Home, len: usize) -> Self {
        Self::to_camera(home, Segment::udp(4000, 5000), len)
    }

    pub fn udp_from_camera(home: &mut Home, len: usize) -> Self {
        Self::from_camera(home, Segment::udp(5001, 4000), len)
    }

    /// One of each kind in each direction, in a home that is [`ready`].
    pub fn all(home: &mut Home, len: usize) -> Vec<Self> {
        vec![
            Self::udp_to_camera(home, len),
            Self::udp_from_camera(home, len),
            Self::to_camera(home, Segment::tcp(4000, 80, super::ACK), len),
            Self::from_camera(home, Segment::tcp(8080, 4000, super::ACK), len),
            Self::to_camera(home, Segment::ping(4000), len),
            Self::from_camera(home, Segment::pong(4000), len),
        ]
    }

    #[track_caller]
    fn to_camera(home: &mut Home, segment: Segment, len: usize) -> Self {
        Self::new(home, &super::to_camera(segment).with_payload(len))
    }

    #[track_caller]
    fn from_camera(home: &mut Home, segment: Segment, len: usize) -> Self {
        let mut packet = super::from_camera(segment).with_payload(len);
        packet.dont_fragment = true;
        Self::new(home, &packet)
    }

    pub fn is_from_remote(&self) -> bool {
        self.sent[0] >> 4 == 6
    }

    /// Returns the length of the header that its sender wrote.
    pub fn sent_header(&self) -> usize {
        if self.is_from_remote() { 40 } else { 20 }
    }

    /// Says that an error quotes the first `len` bytes of what was sent, as far as there is room.
    /// In IPv4, identification and DF cannot be what they were.
    #[track_caller]
    pub fn assert_quoted(&self, quote: &[u8], len: usize) {
        let room = if self.is_from_remote() { 1232 } else { 548 };
        let sent = &self.sent[..len.min(room)];
        if self.is_from_remote() {
            assert_eq!(quote, sent);
            return;
        }
        assert_eq!(sum16(&quote[..20]), 0xffff, "quoted header checksum");
        assert_eq!(
            (quote[4], quote[5], quote[6] & 0xbf, quote[7]),
            (0, 0, 0, 0)
        );
        assert_eq!(quote[..4], sent[..4]);
        assert_eq!(quote[8..10], sent[8..10]);
        assert_eq!(quote[12..], sent[12..]);
    }
}

/// A home in which the remote has a session of each kind with the camera, all of port 4000.
pub fn ready() -> Home {
    ready_with(|_| {})
}

pub fn ready_with(configure: impl FnOnce(&mut translator::Config)) -> Home {
    let mut home = Home::with(configure);
    assert_eq!(home.connect(4000), 4000);
    for segment in [Segment::udp(4000, 5000), Segment::ping(4000)] {
        home.send(&super::to_camera(segment)).unwrap();
    }
    home
}

/// Returns an IPv6 packet with an extension header before all others.
pub fn with_extension(packet: &[u8], header: u8, extension: &[u8]) -> Vec<u8> {
    let mut bytes = packet[..40].to_vec();
    bytes[6] = header;
    let len = packet.len() - 40 + extension.len();
    bytes[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    bytes.extend(extension);
    bytes.extend(&packet[40..]);
    bytes
}
