//! The bytes of PCP (RFC 6887 §7 and §11.1).

use std::net::Ipv6Addr;

use mapping::MappingNonce;

mod option;

pub use option::{Options, PcpOption, emit_option};

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
        let has_map = match Opcode::from_number(code) {
            Opcode::Announce => false,
            Opcode::Map => true,
            opcode @ (Opcode::Peer | Opcode::Authentication | Opcode::Unknown(_)) => {
                return Err(Malformed::new(Field::Opcode(opcode), 1));
            }
        };
        if bytes.len() > MAX || !bytes.len().is_multiple_of(4) {
            return Err(Malformed::new(Field::Length, bytes.len()));
        }
        let (body, options) = if has_map {
            let short = Malformed::new(Field::Map, bytes.len());
            let (map, options) = rest.split_first_chunk().ok_or(short)?;
            (Body::Map(Map::parse(map)), options)
        } else {
            (Body::Announce, rest)
        };
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
        let offset = HEADER + self.body.len();
        Options::new(self.options, offset)
    }

    /// Writes the request.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.body.opcode().number(), 0, 0];
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
        let (body, options) = match Opcode::from_number(code & !RESPONSE) {
            Opcode::Announce => (Body::Announce, rest),
            Opcode::Map => {
                let short = Malformed::new(Field::Map, bytes.len());
                let (map, options) = rest.split_first_chunk().ok_or(short)?;
                (Body::Map(Map::parse(map)), options)
            }
            opcode @ (Opcode::Peer | Opcode::Authentication | Opcode::Unknown(_)) => {
                return Err(Malformed::new(Field::Opcode(opcode), 1));
            }
        };
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
        let offset = HEADER + self.body.len();
        Options::new(self.options, offset)
    }

    /// Writes the response: of the request's header only its first four octets come back
    /// (RFC 6887 §8.2).
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let opcode = RESPONSE | self.body.opcode().number();
        let mut bytes = vec![VERSION, opcode, 0, self.result.number()];
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
    let mut bytes = vec![VERSION, RESPONSE | code, 0, result.number()];
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

impl Body {
    const fn opcode(self) -> Opcode {
        match self {
            Self::Announce => Opcode::Announce,
            Self::Map(_) => Opcode::Map,
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::Announce => 0,
            Self::Map(_) => MAP,
        }
    }

    fn emit(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Announce => {}
            Self::Map(map) => {
                bytes.extend(map.nonce.0);
                bytes.extend([map.protocol, 0, 0, 0]);
                bytes.extend(map.internal_port.to_be_bytes());
                bytes.extend(map.external_port.to_be_bytes());
                bytes.extend(map.external_addr.octets());
            }
        }
    }
}

impl Map {
    fn parse(bytes: &[u8; MAP]) -> Self {
        let [
            n0,
            n1,
            n2,
            n3,
            n4,
            n5,
            n6,
            n7,
            n8,
            n9,
            n10,
            n11,
            protocol,
            _,
            _,
            _,
            rest @ ..,
        ] = *bytes;
        let [i0, i1, e0, e1, addr @ ..] = rest;
        Self {
            nonce: MappingNonce([n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11]),
            protocol,
            internal_port: u16::from_be_bytes([i0, i1]),
            external_port: u16::from_be_bytes([e0, e1]),
            external_addr: addr.into(),
        }
    }
}

/// Opcodes (RFC 6887 §19.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// 0.
    Announce,
    /// 1.
    Map,
    /// 2.
    Peer,
    /// 3 (RFC 7652).
    Authentication,
    /// Any other.
    Unknown(u8),
}

impl Opcode {
    /// Returns the opcode of seven bits.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Announce,
            1 => Self::Map,
            2 => Self::Peer,
            3 => Self::Authentication,
            other => Self::Unknown(other),
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Announce => 0,
            Self::Map => 1,
            Self::Peer => 2,
            Self::Authentication => 3,
            Self::Unknown(other) => other,
        }
    }
}

/// Result codes (RFC 6887 §7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultCode {
    /// 0.
    Success,
    /// 1.
    UnsuppVersion,
    /// 2.
    NotAuthorized,
    /// 3.
    MalformedRequest,
    /// 4.
    UnsuppOpcode,
    /// 5.
    UnsuppOption,
    /// 6.
    MalformedOption,
    /// 7.
    NetworkFailure,
    /// 8.
    NoResources,
    /// 9.
    UnsuppProtocol,
    /// 10.
    UserExQuota,
    /// 11.
    CannotProvideExternal,
    /// 12.
    AddressMismatch,
    /// 13.
    ExcessiveRemotePeers,
    /// Any other.
    Unknown(u8),
}

impl ResultCode {
    /// Every code of RFC 6887; each stands at its number.
    pub const ALL: [Self; 14] = [
        Self::Success,
        Self::UnsuppVersion,
        Self::NotAuthorized,
        Self::MalformedRequest,
        Self::UnsuppOpcode,
        Self::UnsuppOption,
        Self::MalformedOption,
        Self::NetworkFailure,
        Self::NoResources,
        Self::UnsuppProtocol,
        Self::UserExQuota,
        Self::CannotProvideExternal,
        Self::AddressMismatch,
        Self::ExcessiveRemotePeers,
    ];

    /// Returns the code of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        let known = Self::ALL.get(usize::from(number)).copied();
        known.unwrap_or(Self::Unknown(number))
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::UnsuppVersion => 1,
            Self::NotAuthorized => 2,
            Self::MalformedRequest => 3,
            Self::UnsuppOpcode => 4,
            Self::UnsuppOption => 5,
            Self::MalformedOption => 6,
            Self::NetworkFailure => 7,
            Self::NoResources => 8,
            Self::UnsuppProtocol => 9,
            Self::UserExQuota => 10,
            Self::CannotProvideExternal => 11,
            Self::AddressMismatch => 12,
            Self::ExcessiveRemotePeers => 13,
            Self::Unknown(other) => other,
        }
    }

    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::UnsuppVersion => "unsupp_version",
            Self::NotAuthorized => "not_authorized",
            Self::MalformedRequest => "malformed_request",
            Self::UnsuppOpcode => "unsupp_opcode",
            Self::UnsuppOption => "unsupp_option",
            Self::MalformedOption => "malformed_option",
            Self::NetworkFailure => "network_failure",
            Self::NoResources => "no_resources",
            Self::UnsuppProtocol => "unsupp_protocol",
            Self::UserExQuota => "user_ex_quota",
            Self::CannotProvideExternal => "cannot_provide_external",
            Self::AddressMismatch => "address_mismatch",
            Self::ExcessiveRemotePeers => "excessive_remote_peers",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Tells whether the code says that the request could not be parsed.
    const fn means_unread(self) -> bool {
        matches!(
            self,
            Self::UnsuppVersion
                | Self::MalformedRequest
                | Self::UnsuppOpcode
                | Self::MalformedOption
        )
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
    /// The body of MAP.
    Map,
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
            Self::Map => "mapping",
            Self::Options => "option",
        }
    }
}

/// RFC 6887 §7: this version, and the longest message.
const VERSION: u8 = 2;
const MAX: usize = 1100;

/// RFC 6887 §7.1: the common header, and the R bit of its second octet.
const HEADER: usize = 24;
const RESPONSE: u8 = 0x80;

/// RFC 6887 §11.1: the body of MAP.
const MAP: usize = 36;

#[cfg(test)]
mod tests;
