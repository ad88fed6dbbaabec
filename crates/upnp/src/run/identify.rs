//! Finds the MAC of the host behind an accepted connection.
//!
//! The frame of the SYN has it, and over IPv6 the neighbour table must agree. While a flood of
//! SYNs is answered by cookies the kernel keeps no SYN. The host is then the one that the neighbour
//! table names, since only that one can have received the SYN-ACK; whatever it sent before the
//! table was read is not trusted, and the connection is dropped. So that honest hosts lose nothing,
//! connections are held during a flood until they are accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mapping::{Client, Instant, Mac};
use net::netlink::Netlink;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::control_point::ControlPoint;
use super::events::Subscriptions;
use super::{Options, Writer};
use crate::server::{Connection, Peer, Web};
use crate::{Counters, Event};

/// Holds connections from the first one without a SYN until a while after the last.
#[derive(Debug, Default)]
pub(super) struct SynFlood {
    until: Option<Instant>,
}

impl SynFlood {
    /// A connection came without a SYN.
    pub(super) fn note_flood<'a>(
        &mut self,
        listeners: impl Iterator<Item = &'a TcpListener>,
        now: Instant,
    ) {
        if self.until.replace(now + HELD).is_none() {
            hold(listeners, true);
        }
    }

    /// Lets everybody in again when it is time.
    pub(super) fn handle_timeout<'a>(
        &mut self,
        listeners: impl Iterator<Item = &'a TcpListener>,
        now: Instant,
    ) {
        if self.until.take_if(|until| *until <= now).is_some() {
            hold(listeners, false);
        }
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }
}

fn hold<'a>(listeners: impl Iterator<Item = &'a TcpListener>, on: bool) {
    for listener in listeners {
        // where it fails those who speak at once are turned away for as long as the flood lasts
        let _unheld = net::lan::hold(listener, on);
    }
}

/// A connection of which nobody knows yet whose it is.
pub(super) struct Accepted<W> {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// Who sent its SYN.
    pub(super) syn: Option<Mac>,
    pub(super) web: Arc<Web>,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) netlink: Netlink,
    pub(super) options: Options,
    pub(super) writer: W,
    pub(super) counters: Counters,
    pub(super) cancel: CancellationToken,
}

impl<W: Writer> Accepted<W> {
    /// Serves it if it is somebody's own (threat 21: an address alone proves nothing).
    pub(super) async fn serve(self) {
        let mac = match self.syn {
            Some(mac) => Some(mac),
            None => self.neighbour().await,
        };
        let Some(mac) = mac else {
            return self.counters.count(Event::ConnectionUnknown);
        };
        let client = Client {
            addr: self.peer.ip(),
            mac: Some(mac),
        };
        // who showed its MAC with the SYN was looked at before it was given a place
        let is_forged = self.syn.is_none() && self.writer.snapshot().is_forged(client);
        if is_forged || !self.is_reached(mac).await {
            return self.counters.count(Event::ConnectionForged);
        }
        self.counters.count(Event::ConnectionAccepted);
        let peer = Peer {
            client,
            scope: match self.peer {
                SocketAddr::V4(_) => 0,
                SocketAddr::V6(peer) => peer.scope_id(),
            },
            local: self.local,
        };
        let control_point = ControlPoint {
            stream: self.stream,
            connection: Connection::new(self.counters, self.writer.now()),
            peer,
            web: self.web,
            subscriptions: self.subscriptions,
            netlink: self.netlink,
            wan: self.options.wan,
            pinholes: self.options.pinholes,
            writer: self.writer,
            cancel: self.cancel,
        };
        control_point.serve().await;
    }

    /// Tells whether the link leads to the sender of the SYN at its address. Of an IPv4 address
    /// the lease has told; under an IPv6 address of his own anybody can complete a connection,
    /// whatever MAC he writes into his frames.
    async fn is_reached(&self, mac: Mac) -> bool {
        let addr = self.peer.ip();
        if addr.is_ipv4() || self.syn.is_none() {
            return true;
        }
        let led = self.netlink.leads_to(self.options.ifindex, addr, mac);
        led.await.unwrap_or(false)
    }

    async fn neighbour(&self) -> Option<Mac> {
        let found = self.netlink.neighbour(self.options.ifindex, self.peer.ip());
        let mac = found.await.ok()??;
        let quiet = net::lan::hear_only(&self.stream, mac).ok()?;
        quiet.then_some(mac)
    }
}

/// The kernel answers by cookies for some seconds after a flood.
const HELD: Duration = Duration::from_secs(60);
