//! Whole Ethernet frames: for a client that has no address yet, and for whoever looks on.

pub(crate) mod checksum;
mod frame;
pub(crate) mod ipv4;

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use mapping::Mac;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{LinkAddr, MsgFlags, SockaddrLike, bind, recvfrom, send};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use frame::{Malformed, UdpFrame};

/// A packet socket on one interface.
#[derive(Debug)]
pub struct PacketSocket {
    fd: AsyncFd<OwnedFd>,
    mac: Mac,
    ifindex: u32,
}

impl PacketSocket {
    /// Opens a packet socket on `ifname`, which hears `hears`; must run inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub fn open(ifname: &str, hears: Hears) -> Result<Self, OpenPacketError> {
        open(ifname, hears).map_err(|source| OpenPacketError {
            ifname: ifname.to_owned(),
            source,
        })
    }

    /// The hardware address of the interface.
    #[must_use]
    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// The index of the interface.
    #[must_use]
    pub const fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Sends `payload` as one UDP datagram in one Ethernet frame to `to_mac`, without asking
    /// ARP or the routing table: RFC 2131 §4.1 answers a client that cannot answer ARP yet.
    ///
    /// # Errors
    ///
    /// What the system said, or `InvalidInput` when the payload fits no datagram.
    pub async fn send_udp(
        &self,
        to_mac: Mac,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        payload: &[u8],
    ) -> io::Result<()> {
        let udp = UdpFrame {
            source_mac: self.mac,
            destination_mac: to_mac,
            source,
            destination,
            payload,
        };
        let frame = udp.emit().ok_or(io::ErrorKind::InvalidInput)?;
        self.send(&frame).await
    }

    /// Sends one whole frame.
    ///
    /// # Errors
    ///
    /// What the system said; the socket stays usable.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.fd
            .async_io(Interest::WRITABLE, |fd| {
                send(fd.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT)?;
                Ok(())
            })
            .await
    }

    /// Receives one whole frame; cancel-safe. Passing errors (the interface went down) are
    /// waited out.
    ///
    /// # Errors
    ///
    /// Only when the socket can never receive again.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        loop {
            let received = self
                .fd
                .async_io(Interest::READABLE, |fd| receive(fd.as_raw_fd(), buf));
            match received.await {
                Err(error) if crate::udp::is_transient(&error) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }
}

/// What a packet socket hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hears {
    /// Everything, what we send ourselves included.
    All,
    /// IPv4 only.
    Ipv4,
    /// Nothing: it is there to send.
    Nothing,
}

/// A received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes of the buffer were filled.
    pub len: usize,
    /// This machine sent it.
    pub outgoing: bool,
}

/// A packet socket that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a packet socket on {ifname}")]
pub struct OpenPacketError {
    ifname: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn open(ifname: &str, hears: Hears) -> io::Result<PacketSocket> {
    let (ifindex, mac) = identify(ifname)?;
    // Protocol zero: nothing is heard before the socket is bound to its interface.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    let protocol = match hears {
        Hears::All => ETH_P_ALL,
        Hears::Ipv4 => ETHERTYPE_IPV4,
        Hears::Nothing => 0,
    };
    bind(socket.as_raw_fd(), &link_addr(ifindex, protocol)?)?;
    let fd = crate::async_fd::register(OwnedFd::from(socket))?;
    Ok(PacketSocket { fd, mac, ifindex })
}

pub(crate) fn identify(ifname: &str) -> io::Result<(u32, Mac)> {
    let missing = || io::Error::from_raw_os_error(libc::ENODEV);
    let mut addrs = getifaddrs()?.filter(|found| found.interface_name == ifname);
    let link = addrs
        .find_map(|found| found.address.and_then(|addr| addr.as_link_addr().copied()))
        .ok_or_else(missing)?;
    let mac = link
        .addr()
        .filter(|_| link.halen() == 6)
        .ok_or_else(|| io::Error::other("the interface has no hardware address"))?;
    Ok((
        u32::try_from(link.ifindex()).map_err(io::Error::other)?,
        Mac(mac),
    ))
}

#[expect(unsafe_code, reason = "no crate of ours makes a sockaddr_ll")]
pub(crate) fn link_addr(ifindex: u32, protocol: u16) -> io::Result<LinkAddr> {
    let family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    let addr = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&addr)).map_err(io::Error::other)?;
    // SAFETY: `addr` is a whole sockaddr_ll of length `len` whose family says so.
    unsafe { LinkAddr::from_raw(std::ptr::from_ref(&addr).cast(), Some(len)) }
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

fn receive(fd: RawFd, buf: &mut [u8]) -> io::Result<Received> {
    let (len, from) = recvfrom::<LinkAddr>(fd, buf)?;
    let outgoing = from.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING);
    Ok(Received { len, outgoing })
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;

pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Every protocol (`linux/if_ether.h`).
const ETH_P_ALL: u16 = 0x0003;

#[cfg(test)]
mod tests;
