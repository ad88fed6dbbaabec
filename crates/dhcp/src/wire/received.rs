//! What a client said, with the types that the machine decides on.

use std::net::Ipv4Addr;
use std::time::Duration;

use mapping::Mac;

use super::{Field, Malformed, Message, MessageType, Options, code};

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// What it wants.
    pub kind: MessageType,
    /// Repeated in the answer.
    pub xid: u32,
    /// Repeated in the answer.
    pub flags: u16,
    /// The address that it has.
    pub ciaddr: Ipv4Addr,
    /// Who it is.
    pub mac: Mac,
    /// The address that it asks for.
    pub requested: Option<Ipv4Addr>,
    /// The server that it speaks to.
    pub server_id: Option<Ipv4Addr>,
    /// How long a lease it would like.
    pub lease_time: Option<Duration>,
    /// The longest message that it takes.
    pub max_size: Option<u16>,
    /// The options that it wants, in its order.
    pub parameters: Option<Vec<u8>>,
    /// Repeated in the answer (RFC 6842).
    pub client_id: Option<Vec<u8>>,
    /// What it calls itself, by option 81 or else 12.
    pub name: Option<String>,
    /// How it wants its FQDN back; present if it sent one.
    pub fqdn: Option<Fqdn>,
}

/// What an answer must know of a client's option 81 (RFC 4702 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fqdn {
    /// The name is in the canonical wire format, else in ASCII.
    pub canonical: bool,
    /// The client wants the server to update its A record.
    pub server_updates: bool,
}

impl Received {
    /// Reads what a client's message says.
    ///
    /// # Errors
    /// When the hardware address is no unicast Ethernet address, the message type is missing or
    /// an option that matters has the wrong length.
    pub fn new(message: &Message) -> Result<Self, Malformed> {
        let options = &message.options;
        let kind = message.kind().ok_or(Malformed {
            field: Field::MessageType,
            offset: usize::from(code::MESSAGE_TYPE),
        })?;
        // RFC 4702 §3.1: who sends option 81 is not asked for option 12
        let fqdn = options.get(code::FQDN).and_then(read_fqdn);
        let name = match &fqdn {
            Some((_, name)) => name.clone(),
            None => options.get(code::HOST_NAME).and_then(text),
        };
        Ok(Self {
            kind,
            xid: message.xid,
            flags: message.flags,
            ciaddr: message.ciaddr,
            mac: mac(message)?,
            requested: options.addr(code::REQUESTED_ADDRESS)?.filter(is_set),
            server_id: options.addr(code::SERVER_ID)?,
            lease_time: lease_time(options)?,
            max_size: options.array(code::MAX_SIZE)?.map(u16::from_be_bytes),
            parameters: options.get(code::PARAMETERS).map(<[u8]>::to_vec),
            client_id: options.get(code::CLIENT_ID).map(<[u8]>::to_vec),
            name,
            fqdn: fqdn.map(|(fqdn, _)| fqdn),
        })
    }
}

fn mac(message: &Message) -> Result<Mac, Malformed> {
    let bad = |offset| Malformed {
        field: Field::Chaddr,
        offset,
    };
    if message.htype != ETHERNET {
        return Err(bad(1));
    }
    if message.hlen != 6 {
        return Err(bad(2));
    }
    let mac = message.chaddr.first_chunk::<6>().copied().ok_or(bad(28))?;
    let group = mac.first().is_none_or(|first| first & 1 != 0);
    if group || mac == [0; 6] {
        return Err(bad(28));
    }
    Ok(Mac(mac))
}

fn lease_time(options: &Options) -> Result<Option<Duration>, Malformed> {
    let secs = options.array(code::LEASE_TIME)?.map(u32::from_be_bytes);
    Ok(secs.map(|secs| Duration::from_secs(u64::from(secs))))
}

fn is_set(addr: &Ipv4Addr) -> bool {
    !addr.is_unspecified()
}

/// Reads option 81; `None` if it is cut, which is as if it were not there.
fn read_fqdn(value: &[u8]) -> Option<(Fqdn, Option<String>)> {
    let (&[flags, _rcode1, _rcode2], name) = value.split_first_chunk()?;
    let fqdn = Fqdn {
        canonical: flags & 0b0100 != 0,
        server_updates: flags & 0b0001 != 0,
    };
    let label = if fqdn.canonical {
        name.split_first()
            .and_then(|(len, rest)| rest.get(..usize::from(*len)))
    } else {
        name.split(|byte| *byte == b'.').next()
    };
    Some((fqdn, label.and_then(text)))
}

/// Reads what a device says of itself: cut, without the NULs that some append.
fn text(value: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(value);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    let end = text.floor_char_boundary(LONGEST_TEXT);
    text.get(..end)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// IANA hardware type.
const ETHERNET: u8 = 1;

/// What [`mapping::Host`] keeps.
const LONGEST_TEXT: usize = 255;
