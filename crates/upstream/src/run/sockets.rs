//! The sockets towards one gateway: that of our requests, and that of its announcements.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use net::BindError;
use net::udp::{Options, Socket};

use crate::client::SERVER_PORT;
use crate::upstreams::{Family, Link};

#[derive(Debug)]
pub(super) struct Sockets {
    server: SocketAddr,
    own: Socket,
    /// RFC 6887 §14.1.3: a client that wants to hear announcements listens on port 5350.
    group: Option<Socket>,
}

impl Sockets {
    /// Opens the sockets; the port is one that the kernel draws at random (RFC 6056). Without
    /// the one for announcements renewals find out what is lost, only later.
    pub(super) fn open(
        wan: &str,
        family: Family,
        ifindex: Option<u32>,
        link: Option<Link>,
    ) -> Result<Option<Self>, BindError> {
        let (Some(link), Some(ifindex)) = (link, ifindex) else {
            return Ok(None);
        };
        let own = Socket::bind(at(link.local, 0, ifindex), &Options::new().device(wan))?;
        let group = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
        };
        // RFC 6886 §3.2.1: bound to the group, and shared with other clients on the machine
        let shared = Options::new().device(wan).reuse_addr().join(group, ifindex);
        let group = Socket::bind(at(group, CLIENT_PORT, ifindex), &shared);
        if let Err(error) = &group {
            tracing::debug!(%error, "the upstream gateway's announcements are not heard");
        }
        Ok(Some(Self {
            server: at(link.server, SERVER_PORT, ifindex),
            own,
            group: group.ok(),
        }))
    }

    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.own.try_send_to(bytes, self.server, None)
    }
}

/// Waits for a datagram on either socket; without any, for ever.
pub(super) async fn hear(sockets: Option<&Sockets>) -> io::Result<(Vec<u8>, SocketAddr)> {
    let Some(sockets) = sockets else {
        return std::future::pending().await;
    };
    tokio::select! {
        heard = receive(&sockets.own) => heard,
        heard = async {
            match &sockets.group {
                Some(group) => receive(group).await,
                None => std::future::pending().await,
            }
        } => heard,
    }
}

async fn receive(socket: &Socket) -> io::Result<(Vec<u8>, SocketAddr)> {
    let mut buf = [0; BUFFER];
    let datagram = socket.recv(&mut buf).await?;
    let bytes = buf.get(..datagram.len).unwrap_or_default();
    Ok((bytes.to_vec(), datagram.source))
}

/// What is on one link only is there by its interface.
fn at(addr: IpAddr, port: u16, ifindex: u32) -> SocketAddr {
    match addr {
        IpAddr::V4(addr) => SocketAddrV4::new(addr, port).into(),
        IpAddr::V6(addr) => {
            let scoped = addr.is_unicast_link_local() || addr.is_multicast();
            let scope = if scoped { ifindex } else { 0 };
            SocketAddrV6::new(addr, port, 0, scope).into()
        }
    }
}

/// RFC 6887 §19.1.
const CLIENT_PORT: u16 = 5350;

/// Longer than any message (RFC 6887 §7: 1100 octets), so that a longer one shows.
const BUFFER: usize = 1536;
