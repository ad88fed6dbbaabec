//! What is sent.

use std::sync::Arc;
use std::time::Duration;

use mapping::{Instant, Snapshot};
use pcp::wire::{Body, Map, PcpOption, Request, emit_option};
use rand::Rng;

use super::{Client, Dialect};
use crate::address::{unspecified, wide};
use crate::lifetime::Lifetimes;
use crate::port::{LIFETIME, PortKey};

impl<R: Rng> Client<R> {
    /// Learns how long ports are open here.
    pub fn handle_snapshot(&mut self, snapshot: &Arc<Snapshot>) {
        self.lives = Lifetimes::new(snapshot);
    }

    /// Tells whether a port is not at the address that we send from.
    pub(super) fn is_third_party(&self, key: PortKey) -> bool {
        self.link.is_some_and(|link| link.local != key.addr)
    }

    /// RFC 6887 §14.1.2: asks whether anybody is there, and leaves no state.
    pub(super) fn announce(&self) -> Option<Vec<u8>> {
        let request = Request {
            lifetime: 0,
            client: wide(self.link?.local),
            body: Body::Announce,
            options: &[],
        };
        Some(request.emit())
    }

    /// For how long a port is asked for.
    pub(super) fn lifetime(&self, key: PortKey, now: Instant) -> Duration {
        self.table.get(key).map_or(LIFETIME, |port| {
            self.lives.left(key, port.server, LIFETIME, now)
        })
    }

    /// Sends what opens, renews or, with a lifetime of zero, deletes a port.
    pub(super) fn say(&mut self, key: PortKey, lifetime: Duration, now: Instant) {
        let remotes = self.remotes(key, now);
        if let Some(port) = self.table.get_mut(key) {
            port.telling = remotes;
        }
        self.transmit(self.map(key, lifetime));
    }

    /// Opens, renews or, with a lifetime of zero, deletes.
    fn map(&self, key: PortKey, lifetime: Duration) -> Option<Vec<u8>> {
        if self.dialect == Dialect::NatPmp {
            return self.natpmp(key, lifetime);
        }
        let port = self.table.get(key)?;
        let local = self.link?.local;
        let (addr, number) = if lifetime.is_zero() {
            (None, 0) // RFC 6887 §15.1
        } else {
            port.suggestion(key)
        };
        let mut options = Vec::new();
        if local != key.addr {
            // DEVIATION RFC 6887 §13.1: sent although nobody vouches for the network, because RFC
            // 7648 §3.3 demands it of us before a firewall, and it names an address that the
            // very gateway which is asked routes to us.
            emit_option(PcpOption::ThirdParty(wide(key.addr)), &mut options);
        }
        if !lifetime.is_zero() {
            super::filters::emit(key, port, &mut options);
        }
        let request = Request {
            lifetime: u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX),
            client: wide(local),
            body: Body::Map(Map {
                nonce: port.nonce,
                protocol: key.protocol.number(),
                internal_port: key.port.get(),
                external_port: number,
                external_addr: addr.map_or_else(|| unspecified(key.addr), wide),
            }),
            options: &options,
        };
        Some(request.emit())
    }

    fn natpmp(&self, key: PortKey, lifetime: Duration) -> Option<Vec<u8>> {
        let port = self.table.get(key)?;
        let map = natpmp::wire::Map {
            protocol: key.protocol,
            internal_port: key.port.get(),
            // RFC 6886 §3.4: zero to delete
            external_port: if lifetime.is_zero() {
                0
            } else {
                port.suggestion(key).1
            },
            lifetime: u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX),
        };
        Some(natpmp::wire::Request::Map(map).emit())
    }
}
