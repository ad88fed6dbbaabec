//! The bytes of PCP (RFC 6887 §7, §11.1 and §12.1).

use std::net::Ipv6Addr;

use mapping::MappingNonce;

mod code;
mod option;

pub use code::{Opcode, ResultCode};
pub use option::{Filter, Ipv4Prefixes, Options, PcpOption, PortSet, Prefix64, emit_option};

/// A request that can be read; its options are read one by one, see [`Self::options`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// In seconds; zero deletes.
    pub lifetime: u32,
    /// The address that the client believes to send from.
    pub client: Ipv6Addr,
    /// What it asks.
    pub body: Body,
    /// The bytes of the options.
    pub options: &'a [u8],
}

/// The opcode and what belongs to it; the same in requests and responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Opcode 0 (RFC 6887 §14.1).
    Announce,
    /// Opcode 1 (RFC 6887 §11.1).
    Map(Map),
    /// Opcode 2 (RFC 6887 §12.1).
    Peer(Peer),
}

/// The body of MAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// By which the client shows that the mapping is its own.
    pub nonce: MappingNonce,
    /// An IANA protocol number; zero for all.
    pub protocol: u8,
    /// Where the client listens; zero for all.
    pub internal_port: u16,
    /// Suggested in a request, assigned in a response; zero for none.
    pub external_port: u16,
    /// Suggested in a request, assigned in a response; unspecified for none.
    pub external_addr: Ipv6Addr,
}

/// The body of PEER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// What it has in common with MAP.
    pub map: Map,
    /// The port of the remote peer.
    pub remote_port: u16,
    /// The remote peer, as the client sees it.
    pub remote_addr: Ipv6Addr,
}

impl<'a> Request<'a> {
    /// Reads a request up to its options.
    ///
    /// # Errors
    /// Says which field cannot be read; the first one in the order of RFC 6887 §8.2.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Some(&[version, code]) = bytes.first_chunk() else {
            return Err(Malformed::new(Field::Start, bytes.len()));
        };
        if code & RESPONSE != 0 {
            return Err(Malformed::new(Field::ResponseBit, 1));
        }
        if version != VERSION {
            return Err(Malformed::new(Field::Version, 0));
        }
        let short = Malformed::new(Field::Header, bytes.len());
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(short)?;
        let [_, _, _, _, l0, l1, l2, l3, client @ ..] = *header;
        let opcode = Opcode::from_number(code);
        if let Opcode::Authentication | Opcode::Unknown(_) = opcode {
            return Err(Malformed::new(Field::Opcode(opcode), 1));
        }
        if bytes.len() > MAX || !bytes.len().is_multiple_of(4) {
            return Err(Malformed::new(Field::Length, bytes.len()));
        }
        let short = Malformed::new(Field::Body, bytes.len());
        let (body, options) = Body::parse(opcode, rest).ok_or(short)?;
        Ok(Self {
            lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
            client: client.into(),
            body,
            options,
        })
    }

    /// Iterates over the options.
    #[must_use]
    pub const fn options(&self) -> Options<'a> {
        let offset = self.body.total();
        Options::new(self.options, offset)
    }

    /// Writes the request.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = room(self.body, self.options);
        bytes.extend([VERSION, self.body.opcode().number(), 0, 0]);
        bytes.extend(self.lifetime.to_be_bytes());
        bytes.extend(self.client.octets());
        self.body.emit(&mut bytes);
        bytes.extend(self.options);
        bytes
    }
}

/// A response: of success, or one that a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// How it went.
    pub result: ResultCode,
    /// Of the mapping, or of the error; in seconds.
    pub lifetime: u32,
    /// The server's epoch time.
    pub epoch: u32,
    /// What was asked, with what was assigned.
    pub body: Body,
    /// The bytes of the options that were processed; of all options in an error.
    pub options: &'a [u8],
}

impl<'a> Response<'a> {
    /// Reads a response up to its options.
    ///
    /// # Errors
    /// Says which field cannot be read.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let short = Malformed::new(Field::Header, bytes.len());
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(short)?;
        let [version, code, _, result, l0, l1, l2, l3, e0, e1, e2, e3, ..] = *header;
        if version != VERSION {
            return Err(Malformed::new(Field::Version, 0));
        }
        if code & RESPONSE == 0 {
            return Err(Malformed::new(Field::ResponseBit, 1));
        }
        if bytes.len() > MAX || !bytes.len().is_multiple_of(4) {
            return Err(Malformed::new(Field::Length, bytes.len()));
        }
        let opcode = Opcode::from_number(code & !RESPONSE);
        if let Opcode::Authentication | Opcode::Unknown(_) = opcode {
            return Err(Malformed::new(Field::Opcode(opcode), 1));
        }
        let short = Malformed::new(Field::Body, bytes.len());
        let (body, options) = Body::parse(opcode, rest).ok_or(short)?;
        Ok(Self {
            result: ResultCode::from_number(result),
            lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
            epoch: u32::from_be_bytes([e0, e1, e2, e3]),
            body,
            options,
        })
    }

    /// Iterates over the options.
    #[must_use]
    pub const fn options(&self) -> Options<'a> {
        let offset = self.body.total();
        Options::new(self.options, offset)
    }

    /// Writes the response: of the request's header only its first four octets come back
    /// (RFC 6887 §8.2).
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let opcode = RESPONSE | self.body.opcode().number();
        let mut bytes = room(self.body, self.options);
        bytes.extend([VERSION, opcode, 0, self.result.number()]);
        bytes.extend(self.lifetime.to_be_bytes());
        bytes.extend(self.epoch.to_be_bytes());
        bytes.extend([0; 12]);
        self.body.emit(&mut bytes);
        bytes.extend(self.options);
        bytes
    }
}

/// Writes an error: the whole datagram comes back, at most 1100 octets of it, padded to a
/// multiple of four, with the header's fields set by the server (RFC 6887 §8.2).
#[must_use]
pub fn emit_error(request: &[u8], result: ResultCode, lifetime: u32, epoch: u32) -> Vec<u8> {
    let code = request.get(1).copied().unwrap_or_default();
    let len = request.len().clamp(HEADER, MAX).next_multiple_of(4);
    let mut bytes = Vec::with_capacity(len);
    bytes.extend([VERSION, RESPONSE | code, 0, result.number()]);
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend(epoch.to_be_bytes());
    if result.means_unread() {
        // RFC 6887 §7.2: then the last 96 bits of the client's address stay where they are
        bytes.extend(
            request
                .get(12..HEADER.min(request.len()))
                .unwrap_or_default(),
        );
    }
    bytes.resize(HEADER, 0);
    bytes.extend(
        request
            .get(HEADER..MAX.min(request.len()))
            .unwrap_or_default(),
    );
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn room(body: Body, options: &[u8]) -> Vec<u8> {
    let len = HEADER
        .saturating_add(body.len())
        .saturating_add(options.len());
    Vec::with_capacity(len)
}

impl Body {
    /// Returns the opcode.
    #[must_use]
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Announce => Opcode::Announce,
            Self::Map(_) => Opcode::Map,
            Self::Peer(_) => Opcode::Peer,
        }
    }

    /// Reads what belongs to an opcode; also returns the options behind it.
    fn parse(opcode: Opcode, bytes: &[u8]) -> Option<(Self, &[u8])> {
        match opcode {
            Opcode::Announce => Some((Self::Announce, bytes)),
            Opcode::Map => {
                let (map, options) = Map::parse(bytes)?;
                Some((Self::Map(map), options))
            }
            Opcode::Peer => {
                let (map, bytes) = Map::parse(bytes)?;
                let (&[p0, p1, _, _], bytes) = bytes.split_first_chunk()?;
                let (addr, options) = bytes.split_first_chunk::<16>()?;
                let peer = Peer {
                    map,
                    remote_port: u16::from_be_bytes([p0, p1]),
                    remote_addr: (*addr).into(),
                };
                Some((Self::Peer(peer), options))
            }
            Opcode::Authentication | Opcode::Unknown(_) => None,
        }
    }

    /// Returns how long a message without options is.
    pub(crate) const fn total(self) -> usize {
        HEADER + self.len()
    }

    const fn len(self) -> usize {
        match self {
            Self::Announce => 0,
            Self::Map(_) => MAP,
            Self::Peer(_) => PEER,
        }
    }

    fn emit(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Announce => {}
            Self::Map(map) => map.emit(bytes),
            Self::Peer(peer) => {
                peer.map.emit(bytes);
                bytes.extend(peer.remote_port.to_be_bytes());
                bytes.extend([0; 2]);
                bytes.extend(peer.remote_addr.octets());
            }
        }
    }
}

impl Map {
    /// Reads the body; also returns what follows it.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (nonce, bytes) = bytes.split_first_chunk()?;
        let (&[protocol, _, _, _, i0, i1, e0, e1], bytes) = bytes.split_first_chunk()?;
        let (addr, rest) = bytes.split_first_chunk::<16>()?;
        let map = Self {
            nonce: MappingNonce(*nonce),
            protocol,
            internal_port: u16::from_be_bytes([i0, i1]),
            external_port: u16::from_be_bytes([e0, e1]),
            external_addr: (*addr).into(),
        };
        Some((map, rest))
    }

    fn emit(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.nonce.0);
        bytes.extend([self.protocol, 0, 0, 0]);
        bytes.extend(self.internal_port.to_be_bytes());
        bytes.extend(self.external_port.to_be_bytes());
        bytes.extend(self.external_addr.octets());
    }
}

/// A datagram that cannot be read, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {} at octet {offset} cannot be read", field.as_str())]
pub struct Malformed {
    /// Which field.
    pub field: Field,
    /// Its place, or the end of the datagram.
    pub offset: usize,
}

impl Malformed {
    const fn new(field: Field, offset: usize) -> Self {
        Self { field, offset }
    }
}

/// A part of a PCP message, in the order in which RFC 6887 §8.2 has them checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The first two octets.
    Start,
    /// Whether it is a response.
    ResponseBit,
    /// The version.
    Version,
    /// The common header.
    Header,
    /// An opcode that is not served.
    Opcode(Opcode),
    /// The length of the whole.
    Length,
    /// What belongs to the opcode.
    Body,
    /// The structure of the options.
    Options,
}

impl Field {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::ResponseBit => "response bit",
            Self::Version => "version",
            Self::Header => "header",
            Self::Opcode(_) => "opcode",
            Self::Length => "length",
            Self::Body => "body",
            Self::Options => "option",
        }
    }
}

/// RFC 6887 §7: this version, and the longest message.
const VERSION: u8 = 2;
pub(crate) const MAX: usize = 1100;

/// RFC 6887 §7.1: the common header, and the R bit of its second octet.
const HEADER: usize = 24;
const RESPONSE: u8 = 0x80;

/// RFC 6887 §11.1 and §12.1: the bodies of MAP and PEER.
const MAP: usize = 36;
const PEER: usize = 56;

#[cfg(test)]
mod tests;
