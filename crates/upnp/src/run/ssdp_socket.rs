//! Port 1900 of one family. Hosts with a lease are heard and answered before strangers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mapping::{Revision, Snapshot};
use net::BindError;
use net::lan::{Batch, Socket};
use net::udp::{self, Source};
use tokio::time::timeout;

use super::Options;
use crate::server::{GROUP, LINK_GROUP, PORT, SITE_GROUP, Standing, Transmit};

/// The sockets of the port.
#[derive(Debug)]
pub(super) struct SsdpSocket {
    socket: Socket,
    /// Answers to addresses that nobody has wait until the system has looked for them long
    /// enough. Here they are in the way of other strangers alone.
    strangers: udp::Socket,
}

impl SsdpSocket {
    /// Binds it. Other programs search on the same port, so it is shared (UDA 1.1 §1.1).
    pub(super) fn bind(addr: IpAddr, options: &Options) -> Result<Self, BindError> {
        let local = SocketAddr::new(addr, PORT);
        let common = udp::Options::new().device(&options.lan).reuse_addr();
        let strangers = udp::Socket::bind(local, &common.clone().deaf())?;
        let mut hosts = common
            .multicast_interface(options.ifindex)
            .multicast_ttl(MULTICAST_TTL)
            .multicast_loop(false);
        let groups: &[IpAddr] = match addr {
            IpAddr::V4(_) => &[IpAddr::V4(GROUP)],
            IpAddr::V6(_) => &[IpAddr::V6(LINK_GROUP), IpAddr::V6(SITE_GROUP)],
        };
        for group in groups {
            hosts = hosts.join(*group, options.ifindex);
        }
        let socket = Socket::bind(local, &hosts)?.preferring(&options.lan)?;
        Ok(Self { socket, strangers })
    }

    pub(super) async fn recv(&self, batch: &mut Batch) -> io::Result<()> {
        self.socket.recv(batch).await
    }

    /// Nothing waits for the queue of an answer: connections are accepted by the same task.
    pub(super) async fn send(&self, transmit: &Transmit, ifindex: u32) -> io::Result<()> {
        let (to, payload) = (transmit.to, &transmit.payload);
        let from = Some(Source {
            addr: transmit.from,
            ifindex,
        });
        if to.ip().is_multicast() {
            let sent = timeout(SEND_PATIENCE, self.socket.send_to(payload, to, from)).await;
            return sent.unwrap_or_else(|elapsed| Err(elapsed.into()));
        }
        match transmit.standing {
            Standing::Host => self.socket.try_send_to(payload, to, from),
            Standing::Stranger => self.strangers.try_send_to(payload, to, from),
        }
    }
}

/// Which hosts are preferred: a flood of strangers keeps out none that has a lease.
#[derive(Debug, Default)]
pub(super) struct Preferred {
    /// In which revision they were read. Leases begin and end with names.
    read_in: Option<Revision>,
}

impl Preferred {
    /// Looks whether leases began or ended.
    pub(super) fn update<'a>(
        &mut self,
        ports: impl Iterator<Item = &'a mut SsdpSocket>,
        snapshot: &Snapshot,
    ) {
        let names_in = Some(snapshot.names_revision());
        if self.read_in == names_in {
            return;
        }
        self.read_in = names_in;
        for port in ports {
            let hosts = snapshot.hosts().filter(|host| host.lease.is_some());
            // where the kernel has no memory for a filter some are heard twice
            let _unfiltered = port.socket.prefer(hosts.map(|host| host.mac));
        }
    }
}

/// UDA 1.1 §1.1: two hops by default.
const MULTICAST_TTL: u32 = 2;

/// An announcement is repeated, so it may fail; a set of them has 21 for each address.
const SEND_PATIENCE: Duration = Duration::from_millis(20);
