//! What changes in the kernel's network configuration, as it happens.

use std::io;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;

use super::{Address, Connection, Link, NetlinkError};

/// A stream of changes; open it *before* listing what is there, so that nothing falls between.
pub struct Watch {
    changes: BoxStream<'static, Option<Change>>,
    _connection: Connection,
}

impl Watch {
    /// Watches the network namespace of the calling thread; must run inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])
        .map_err(error)?;
        let changes = messages
            .map(|(message, _)| Change::from_payload(message.payload))
            .boxed();
        Ok(Self {
            changes,
            _connection: Connection(tokio::spawn(connection)),
        })
    }

    /// Waits for the next change; cancel-safe.
    ///
    /// # Errors
    ///
    /// When the watch has ended.
    pub async fn next(&mut self) -> Result<Change, NetlinkError> {
        loop {
            match self.changes.next().await {
                Some(Some(change)) => return Ok(change),
                Some(None) => {}
                None => return Err(error(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An address appeared or is different now.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// Changes were lost: list again.
    Lagged,
    /// An interface appeared or is different now.
    Link(Link),
    /// An interface is gone.
    LinkGone(Link),
    /// Some route appeared or is gone.
    Routes,
}

impl Change {
    fn from_payload(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Self> {
        let message = match payload {
            NetlinkPayload::InnerMessage(message) => message,
            NetlinkPayload::Overrun(_) => return Some(Self::Lagged),
            _ => return None,
        };
        match message {
            RouteNetlinkMessage::NewAddress(message) => {
                Address::from_message(&message).map(Self::Address)
            }
            RouteNetlinkMessage::DelAddress(message) => {
                Address::from_message(&message).map(Self::AddressGone)
            }
            RouteNetlinkMessage::NewLink(message) => Some(Self::Link(Link::from_message(&message))),
            RouteNetlinkMessage::DelLink(message) => {
                Some(Self::LinkGone(Link::from_message(&message)))
            }
            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => {
                Some(Self::Routes)
            }
            _ => None,
        }
    }
}

fn error(source: io::Error) -> NetlinkError {
    NetlinkError {
        action: "watch the network configuration".to_owned(),
        source,
    }
}
