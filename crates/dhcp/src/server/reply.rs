//! What an answer says (RFC 2131 Table 3).

use std::net::Ipv4Addr;
use std::time::Duration;

use mapping::{Host, Site};

use super::{Destination, Transmit};
use crate::counters::Answer;
use crate::wire::{Message, Op, Options, Received, code, encode_name};

/// An answer to be written.
pub(super) struct Reply<'a> {
    pub(super) answer: Answer,
    /// The address and how long it is the client's; absent in answer to INFORM.
    pub(super) lease: Option<(Ipv4Addr, Duration)>,
    /// The client, if it is known.
    pub(super) host: Option<&'a Host>,
    pub(super) message: &'a Received,
    pub(super) site: &'a Site,
}

impl Reply<'_> {
    /// Makes a DHCPNAK, which is always broadcast: the client's address is wrong.
    pub(super) fn nak(message: &Received, site: &Site) -> Transmit {
        let mut options = identity(Answer::Nak, message, site);
        options.set(code::MESSAGE, WRONG_ADDRESS.as_bytes());
        let reply = header(message, options);
        Transmit {
            destination: Destination::Broadcast,
            bytes: reply.emit(&FIRST, longest(message)),
        }
    }

    /// Makes the datagram.
    pub(super) fn transmit(&self, destination: Destination) -> Transmit {
        let mut options = identity(self.answer, self.message, self.site);
        let mut order = FIRST.to_vec();
        if let Some((_, lifetime)) = self.lease {
            let secs = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
            options.set(code::LEASE_TIME, secs.to_be_bytes());
            // H-6: T1 is half of the lease, T2 seven eighths
            options.set(code::RENEWAL, (secs / 2).to_be_bytes());
            options.set(code::REBINDING, (secs - secs / 8).to_be_bytes());
        }
        options.set(code::SUBNET_MASK, self.site.netmask().octets());
        let wanted = self.message.parameters.as_deref().unwrap_or(&USUAL);
        for code in wanted {
            if let Some(value) = self
                .parameter(*code)
                .filter(|_| options.get(*code).is_none())
            {
                options.set(*code, value);
                order.push(*code);
            }
        }
        if let Some(value) = self.fqdn() {
            options.set(code::FQDN, value);
        }
        let mut reply = header(self.message, options);
        if let Some((addr, _)) = self.lease {
            reply.yiaddr = addr;
        }
        if self.answer == Answer::Ack {
            reply.ciaddr = self.message.ciaddr;
        }
        Transmit {
            destination,
            bytes: reply.emit(&order, longest(self.message)),
        }
    }

    /// A parameter that the client may ask for.
    fn parameter(&self, code: u8) -> Option<Vec<u8>> {
        let gateway = self.site.gateway().octets();
        match code {
            code::ROUTER | code::DNS => Some(gateway.to_vec()),
            code::HOST_NAME => self.host.map(|host| host.name.as_str().as_bytes().to_vec()),
            code::DOMAIN_NAME => Some(self.site.zone().as_bytes().to_vec()),
            code::BROADCAST => Some(self.site.broadcast().octets().to_vec()),
            // RFC 7291 §4: a list of servers, each a list of addresses with its length
            code::PCP_SERVER => Some([&[4], gateway.as_slice()].concat()),
            _ => None,
        }
        .filter(|value| !value.is_empty())
    }

    /// H-11: our view of the client's name (RFC 4702 §4).
    // DEVIATION RFC 4702 §4: the N bit is not honoured because every server of the home has a
    // name; the answer says so.
    fn fqdn(&self) -> Option<Vec<u8>> {
        let asked = self.message.fqdn?;
        let name = format!("{}.{}", self.host?.name, self.site.zone());
        let (flags, name) = if asked.canonical {
            (S | E, encode_name(&name)?)
        } else {
            (S, name.into_bytes())
        };
        let overrides = if asked.server_updates { 0 } else { O };
        Some([&[flags | overrides, RCODE, RCODE], name.as_slice()].concat())
    }
}

fn header(message: &Received, options: Options) -> Message {
    let mut chaddr = [0; 16];
    for (place, byte) in chaddr.iter_mut().zip(message.mac.0) {
        *place = byte;
    }
    Message {
        op: Op::BootReply,
        htype: 1,
        hlen: 6,
        xid: message.xid,
        flags: message.flags,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr,
        options,
    }
}

/// What every answer carries.
fn identity(answer: Answer, message: &Received, site: &Site) -> Options {
    let mut options = Options::default();
    options.set(code::MESSAGE_TYPE, [answer.kind().into()]);
    options.set(code::SERVER_ID, site.gateway().octets());
    if let Some(id) = &message.client_id {
        // RFC 6842 §3
        options.set(code::CLIENT_ID, id.as_slice());
    }
    options
}

/// RFC 2132 §9.10 leaves open whether the client counts the headers: they are counted.
fn longest(message: &Received) -> usize {
    let asked = usize::from(message.max_size.unwrap_or(0));
    asked.clamp(SMALLEST_MAXIMUM, LARGEST_PACKET) - IP_AND_UDP
}

/// What a client must have comes before what it asked for.
const FIRST: [u8; 7] = [
    code::MESSAGE_TYPE,
    code::SERVER_ID,
    code::LEASE_TIME,
    code::CLIENT_ID,
    code::SUBNET_MASK,
    code::RENEWAL,
    code::REBINDING,
];

/// What a client gets that does not say what it wants.
const USUAL: [u8; 4] = [code::ROUTER, code::DNS, code::DOMAIN_NAME, code::BROADCAST];

const WRONG_ADDRESS: &str = "not your address on this network";

/// RFC 2131 §2: every client takes a message of 576 bytes.
const SMALLEST_MAXIMUM: usize = 576;

/// Ethernet.
const LARGEST_PACKET: usize = 1500;

const IP_AND_UDP: usize = 28;

/// RFC 4702 §2.1.
const S: u8 = 0b0001;
const O: u8 = 0b0010;
const E: u8 = 0b0100;

/// RFC 4702 §2.2.
const RCODE: u8 = 255;
