//! The arguments of a call, checked.
//!
//! What the types and the texts say (UDA 1.1 §3.2.2): an argument that is missing, doubled or
//! not of its type is 402, so a port of 70000 or -1 and a lease of `abc` are; a value of the
//! right type that the allowed list or range does not have is 601, so the protocol `SCTP` is.

use std::net::{IpAddr, Ipv4Addr};

use mapping::{Client, Protocol, Snapshot};

use super::control::{Fault, invalid};
use crate::wire::soap::Call;
use crate::{Action, ErrorCode, Event};

/// The arguments of a call, each there exactly once.
pub(super) struct Arguments<'a>(&'a Call);

/// Whose packets a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RemoteHost {
    Any,
    Single(Ipv4Addr),
    /// A name, or no address that packets come from over IPv4.
    Other,
}

impl<'a> Arguments<'a> {
    /// Threat 2: whatever is missing, the answer is 402. What is not an argument of the action
    /// is passed over; some control points add some.
    pub(super) fn new(action: Action, call: &'a Call) -> Result<Self, Fault> {
        let once = |name: &str| {
            let named = call
                .arguments
                .iter()
                .filter(|(argument, _)| argument == name);
            named.count() == 1
        };
        if action.inputs().iter().all(|argument| once(argument.name)) {
            Ok(Self(call))
        } else {
            Err(invalid(ErrorCode::InvalidArgs))
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, Fault> {
        let arguments = self.0.arguments.iter();
        let mut found = arguments.filter(|(argument, _)| argument == name);
        let found = found.next().ok_or(invalid(ErrorCode::InvalidArgs))?;
        Ok(found.1.as_str())
    }

    /// A `ui2` or `ui4`: digits only.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Fault> {
        let text = self.text(name)?.trim();
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number.ok_or(invalid(ErrorCode::InvalidArgs))
    }

    /// UDA 1.1 §2.5: the spellings of a boolean; a Python client's True is meant as one of them.
    pub(super) fn boolean(&self, name: &str) -> Result<bool, Fault> {
        match self.text(name)?.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" => Ok(true),
            "0" | "false" | "no" => Ok(false),
            _ => Err(invalid(ErrorCode::InvalidArgs)),
        }
    }

    /// The wildcard is an empty string; some control points say it in other words
    /// (async-upnp-client can only name an address, and nat-upnp-rejetto writes what JavaScript
    /// makes of no value).
    pub(super) fn remote_host(&self) -> Result<RemoteHost, Fault> {
        let remote = self.text("NewRemoteHost")?.trim();
        Ok(match (remote, remote.parse::<Ipv4Addr>()) {
            ("" | "*" | "0.0.0.0" | "undefined", _) => RemoteHost::Any,
            (_, Ok(addr)) if !addr.is_multicast() && !addr.is_broadcast() => {
                RemoteHost::Single(addr)
            }
            _ => RemoteHost::Other,
        })
    }

    pub(super) fn protocol(&self) -> Result<Protocol, Fault> {
        let text = self.text("NewProtocol")?.trim();
        [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .find(|protocol| text.eq_ignore_ascii_case(protocol.as_str()))
            .ok_or(invalid(ErrorCode::ArgumentValueOutOfRange))
    }

    /// Threat 4: a device opens ports for itself only. It may call itself by its name, and by
    /// either of its addresses: the one that it was leased, and the one that it speaks from.
    pub(super) fn internal_client(&self, own: Client, snapshot: &Snapshot) -> Result<(), Fault> {
        let text = self.text("NewInternalClient")?.trim();
        if text.is_empty() {
            return Err(invalid(ErrorCode::WildCardNotPermittedInSrcIp));
        }
        let host = snapshot.host_of(own);
        let is_own = match text.parse::<IpAddr>() {
            Ok(addr) => {
                let leased = host.map(|host| IpAddr::V4(host.addr));
                addr == own.addr || Some(addr) == leased
            }
            Err(_) => {
                let named = snapshot.host_named(text);
                named.is_some_and(|named| host.is_some_and(|host| host.mac == named.mac))
            }
        };
        match is_own {
            true => Ok(()),
            false => Err((ErrorCode::ActionNotAuthorized, Event::ActionForeignClient)),
        }
    }
}
