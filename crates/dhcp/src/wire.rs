//! The message format of RFC 2131 §2 and the options of RFC 2132: bytes to values and back.
//!
//! Written by hand because the codec crate of the field (dhcproto 0.15) panics on crafted input:
//! on a hardware address length over 16 in every build, and on short options in debug builds.
//! The tests hold it against that crate.

mod received;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

pub use received::{Fqdn, Received};

/// A message of either direction, its options still raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub op: Op,
    /// The kind of hardware address; 1 is Ethernet.
    pub htype: u8,
    /// The length of the hardware address.
    pub hlen: u8,
    /// Chosen by the client, repeated in the answers.
    pub xid: u32,
    /// The flags; see [`Self::wants_broadcast`].
    pub flags: u16,
    /// The address that the client has and can be reached at.
    pub ciaddr: Ipv4Addr,
    /// The address that the client gets.
    pub yiaddr: Ipv4Addr,
    /// The relay agent that passed the message on.
    pub giaddr: Ipv4Addr,
    /// The hardware address, padded.
    pub chaddr: [u8; 16],
    /// The options.
    pub options: Options,
}

/// Which side sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A client.
    BootRequest,
    /// A server.
    BootReply,
    /// Neither.
    Unknown(u8),
}

/// The value of option 53 (RFC 2132 §9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// A client looks for servers.
    Discover,
    /// A server offers an address.
    Offer,
    /// A client takes, verifies or prolongs.
    Request,
    /// A client found its address in use.
    Decline,
    /// A server grants.
    Ack,
    /// A server denies.
    Nak,
    /// A client gives its address back.
    Release,
    /// A client that has an address asks for the other parameters.
    Inform,
    /// Something newer.
    Unknown(u8),
}

impl From<u8> for MessageType {
    fn from(value: u8) -> Self {
        match value {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            other => Self::Unknown(other),
        }
    }
}

impl From<MessageType> for u8 {
    fn from(value: MessageType) -> Self {
        match value {
            MessageType::Discover => 1,
            MessageType::Offer => 2,
            MessageType::Request => 3,
            MessageType::Decline => 4,
            MessageType::Ack => 5,
            MessageType::Nak => 6,
            MessageType::Release => 7,
            MessageType::Inform => 8,
            MessageType::Unknown(other) => other,
        }
    }
}

impl Message {
    /// Reads a message. Options that are given more than once are joined (RFC 3396 §7), and
    /// those in `file` and `sname` are read when option 52 says so; an unknown value of option
    /// 52 is ignored.
    ///
    /// # Errors
    /// When the header is cut, the cookie is missing (plain BOOTP) or an option is cut.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Header::read(bytes)?;
        let mut options = Options::default();
        options.read(bytes.get(HEADER_LEN..).unwrap_or_default(), HEADER_LEN)?;
        let overload = options.first(code::OVERLOAD).unwrap_or(0);
        if matches!(overload, 1 | 3) {
            options.read(bytes.get(FILE).unwrap_or_default(), FILE.start)?;
        }
        if matches!(overload, 2 | 3) {
            options.read(bytes.get(SNAME).unwrap_or_default(), SNAME.start)?;
        }
        let [htype, hlen] = header.hardware;
        Ok(Self {
            op: match header.op {
                1 => Op::BootRequest,
                2 => Op::BootReply,
                other => Op::Unknown(other),
            },
            htype,
            hlen,
            xid: header.xid,
            flags: header.flags,
            ciaddr: header.ciaddr,
            yiaddr: header.yiaddr,
            giaddr: header.giaddr,
            chaddr: header.chaddr,
            options,
        })
    }

    /// Writes the message in at most `limit` bytes: `order` names the options in the order in
    /// which they are written, and one that does not fit is left out. Those that `order` does
    /// not name come last.
    #[must_use]
    pub fn emit(&self, order: &[u8], limit: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SHORTEST);
        let op = match self.op {
            Op::BootRequest => 1,
            Op::BootReply => 2,
            Op::Unknown(other) => other,
        };
        bytes.extend([op, self.htype, self.hlen, 0]);
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.flags.to_be_bytes());
        for addr in [self.ciaddr, self.yiaddr, Ipv4Addr::UNSPECIFIED, self.giaddr] {
            bytes.extend(addr.octets());
        }
        bytes.extend(self.chaddr);
        bytes.resize(HEADER_LEN - COOKIE.len(), 0);
        bytes.extend(COOKIE);
        let named = order.iter().copied();
        let rest = self.options.codes().filter(|code| !order.contains(code));
        for code in named.chain(rest) {
            let option = self.options.encode(code);
            // one byte stays for the end
            if bytes.len().saturating_add(option.len()) < limit {
                bytes.extend(option);
            }
        }
        bytes.push(code::END);
        // BOOTP servers and relays may drop what is shorter (RFC 1542 §2.1)
        let padded = bytes.len().max(SHORTEST);
        bytes.resize(padded, code::PAD);
        bytes
    }

    /// Tells whether the client cannot take unicast yet (RFC 2131 §4.1).
    #[must_use]
    pub const fn wants_broadcast(&self) -> bool {
        self.flags & BROADCAST != 0
    }

    /// Returns the message type, if it is there.
    #[must_use]
    pub fn kind(&self) -> Option<MessageType> {
        self.options
            .first(code::MESSAGE_TYPE)
            .map(MessageType::from)
    }
}

/// Options by code, the parts of each joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Returns the value of an option.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// Sets an option; pad and end are no options.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        if code != code::PAD && code != code::END {
            self.0.insert(code, value.into());
        }
    }

    /// Iterates over the codes, in order.
    pub fn codes(&self) -> impl Iterator<Item = u8> {
        self.0.keys().copied()
    }

    /// Returns the value of an option that holds an address.
    ///
    /// # Errors
    /// When it has another length.
    pub fn addr(&self, code: u8) -> Result<Option<Ipv4Addr>, Malformed> {
        Ok(self.array(code)?.map(Ipv4Addr::from))
    }

    /// Returns the value of an option of `N` bytes.
    ///
    /// # Errors
    /// When it has another length.
    pub fn array<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, Malformed> {
        self.get(code)
            .map(<[u8; N]>::try_from)
            .transpose()
            .map_err(|_| Malformed {
                field: Field::Value,
                offset: usize::from(code),
            })
    }

    fn first(&self, code: u8) -> Option<u8> {
        self.get(code)?.first().copied()
    }

    fn read(&mut self, mut bytes: &[u8], start: usize) -> Result<(), Malformed> {
        let len = bytes.len();
        while let Some((&code, rest)) = bytes.split_first() {
            match code {
                code::PAD => bytes = rest,
                // what follows the end is padding; a missing end is no error
                code::END => break,
                _ => {
                    let offset = start.saturating_add(len.saturating_sub(bytes.len()));
                    let cut = Malformed {
                        field: Field::Option,
                        offset,
                    };
                    let (&size, rest) = rest.split_first().ok_or(cut)?;
                    let (value, rest) = rest.split_at_checked(usize::from(size)).ok_or(cut)?;
                    self.0.entry(code).or_default().extend_from_slice(value);
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    /// RFC 3396 §5: a value over 255 bytes goes into several options of the same code.
    fn encode(&self, code: u8) -> Vec<u8> {
        let Some(value) = self.get(code) else {
            return Vec::new();
        };
        let mut bytes = Vec::with_capacity(value.len().saturating_add(2));
        let mut part = |part: &[u8]| {
            bytes.push(code);
            bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(part);
        };
        if value.is_empty() {
            part(&[]);
        }
        value.chunks(usize::from(u8::MAX)).for_each(part);
        bytes
    }
}

/// Bytes that are no message which the server can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {field} at {offset}")]
pub struct Malformed {
    /// What is wrong.
    pub field: Field,
    /// Where, in bytes; for the value of an option its code.
    pub offset: usize,
}

/// What can be wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The hardware address is no unicast Ethernet address.
    Chaddr,
    /// The magic cookie is not there: plain BOOTP.
    Cookie,
    /// The header is cut.
    Header,
    /// The message type is missing.
    MessageType,
    /// An option is cut.
    Option,
    /// The datagram was longer than any that we read.
    Length,
    /// The value of an option has the wrong length.
    Value,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 7] = [
        Self::Chaddr,
        Self::Cookie,
        Self::Header,
        Self::MessageType,
        Self::Option,
        Self::Length,
        Self::Value,
    ];

    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chaddr => "chaddr",
            Self::Cookie => "cookie",
            Self::Header => "header",
            Self::MessageType => "message-type",
            Self::Option => "option",
            Self::Length => "length",
            Self::Value => "value",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Writes a name in the canonical wire format (RFC 1035 §3.1); `None` if it is none.
#[must_use]
pub fn encode_name(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len().saturating_add(2));
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let len = u8::try_from(label.len())
            .ok()
            .filter(|len| *len <= LONGEST_LABEL)?;
        bytes.push(len);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= LONGEST_NAME).then_some(bytes)
}

/// The fixed part, RFC 2131 §2.
struct Header {
    op: u8,
    hardware: [u8; 2],
    xid: u32,
    flags: u16,
    ciaddr: Ipv4Addr,
    yiaddr: Ipv4Addr,
    giaddr: Ipv4Addr,
    chaddr: [u8; 16],
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let cut = Malformed {
            field: Field::Header,
            offset: bytes.len(),
        };
        let cookie = bytes
            .get(HEADER_LEN - COOKIE.len()..HEADER_LEN)
            .ok_or(cut)?;
        if cookie != COOKIE {
            let offset = HEADER_LEN - COOKIE.len();
            return Err(Malformed {
                field: Field::Cookie,
                offset,
            });
        }
        let [op, htype, hlen, _hops] = at(bytes, 0).ok_or(cut)?;
        Ok(Self {
            op,
            hardware: [htype, hlen],
            xid: u32::from_be_bytes(at(bytes, 4).ok_or(cut)?),
            flags: u16::from_be_bytes(at(bytes, 10).ok_or(cut)?),
            ciaddr: at::<4>(bytes, 12).ok_or(cut)?.into(),
            yiaddr: at::<4>(bytes, 16).ok_or(cut)?.into(),
            giaddr: at::<4>(bytes, 24).ok_or(cut)?.into(),
            chaddr: at(bytes, 28).ok_or(cut)?,
        })
    }
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// The codes of the options that the server reads or writes (RFC 2132 and the RFCs named).
pub mod code {
    /// Fills.
    pub const PAD: u8 = 0;
    /// Subnet mask.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers.
    pub const ROUTER: u8 = 3;
    /// Resolvers.
    pub const DNS: u8 = 6;
    /// The client's name.
    pub const HOST_NAME: u8 = 12;
    /// The domain in which names are looked up.
    pub const DOMAIN_NAME: u8 = 15;
    /// The broadcast address of the subnet.
    pub const BROADCAST: u8 = 28;
    /// The address that the client asks for.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// The lifetime of the lease in seconds.
    pub const LEASE_TIME: u8 = 51;
    /// `file` and `sname` hold options.
    pub const OVERLOAD: u8 = 52;
    /// The message type.
    pub const MESSAGE_TYPE: u8 = 53;
    /// The server's address.
    pub const SERVER_ID: u8 = 54;
    /// The options that the client wants.
    pub const PARAMETERS: u8 = 55;
    /// A text for people.
    pub const MESSAGE: u8 = 56;
    /// The longest message that the client takes.
    pub const MAX_SIZE: u8 = 57;
    /// T1 in seconds.
    pub const RENEWAL: u8 = 58;
    /// T2 in seconds.
    pub const REBINDING: u8 = 59;
    /// The client identifier.
    pub const CLIENT_ID: u8 = 61;
    /// The client's name, RFC 4702.
    pub const FQDN: u8 = 81;
    /// PCP servers, RFC 7291.
    pub const PCP_SERVER: u8 = 158;
    /// Nothing follows.
    pub const END: u8 = 255;
}

/// RFC 2131 §2: the leftmost bit of the flags.
pub const BROADCAST: u16 = 0x8000;

/// RFC 2131 §3, and RFC 2132 §2.
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// The fixed part with the cookie.
const HEADER_LEN: usize = 240;

/// RFC 951 §3: a BOOTP message has 300 bytes.
const SHORTEST: usize = 300;

const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// RFC 1035 §2.3.4.
const LONGEST_LABEL: u8 = 63;
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests;
