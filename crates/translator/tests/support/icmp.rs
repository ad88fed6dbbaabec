//! ICMP errors, read and written by an implementation of their own.

use std::net::IpAddr;

use super::{Home, Packet, Segment, parse_v4, parse_v6, sum16};
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
