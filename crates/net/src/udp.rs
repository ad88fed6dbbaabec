//! One UDP socket for all servers: it knows which address was asked, and answers from it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
    cmsg_space, recvmsg, sendmsg, setsockopt,
};
use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::io::Interest;

use crate::bind::{BindError, Transport};
use crate::sockopt;

/// A bound UDP socket with packet information.
///
/// Errors that only say that some *earlier* datagram did not arrive (connection refused, host
/// unreachable, ..) never come out of [`Socket::recv`]: they are counted and the wait goes on,
/// so a receive loop ends only when the socket itself is broken.
#[derive(Debug)]
pub struct Socket {
    io: tokio::net::UdpSocket,
    local: SocketAddr,
    transient_errors: AtomicU64,
}

impl Socket {
    /// Binds `local` with `options`; must run inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Names the address, the device and, for a port in use, its owner.
    pub fn bind(local: SocketAddr, options: &Options) -> Result<Self, BindError> {
        let device = options.device.as_deref();
        open(local, options)
            .and_then(|socket| {
                let io = tokio::net::UdpSocket::from_std(socket.into())?;
                let local = io.local_addr()?;
                Ok(Self {
                    io,
                    local,
                    transient_errors: AtomicU64::new(0),
                })
            })
            .map_err(|source| BindError::new(Transport::Udp, local, device, source))
    }

    /// Binds a port that the kernel chooses, in the family of `to`, to ask it something.
    ///
    /// # Errors
    ///
    /// Names the address.
    pub fn bind_towards(to: SocketAddr) -> Result<Self, BindError> {
        Self::bind(SocketAddr::new(unspecified(to), 0), &Options::new())
    }

    /// The address and port that the socket is bound to.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// How many passing errors were swallowed by [`Self::recv`] and [`Self::try_recv`].
    #[must_use]
    pub fn transient_errors(&self) -> u64 {
        self.transient_errors.load(Ordering::Relaxed)
    }

    /// Receives one datagram; cancel-safe.
    ///
    /// # Errors
    ///
    /// Only when the socket can never receive again.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<Datagram> {
        loop {
            let fd = self.io.as_raw_fd();
            let received = self
                .io
                .async_io(Interest::READABLE, || receive(fd, buf))
                .await;
            match received {
                Err(error) if is_transient(&error) => self.count_transient().await,
                other => return other,
            }
        }
    }

    /// Receives a datagram that is already waiting; `None` when there is none.
    ///
    /// # Errors
    ///
    /// Only when the socket can never receive again.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<Option<Datagram>> {
        loop {
            let fd = self.io.as_raw_fd();
            match self.io.try_io(Interest::READABLE, || receive(fd, buf)) {
                Ok(datagram) => return Ok(Some(datagram)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if is_transient(&error) => {
                    self.transient_errors.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends `payload` to `to`; `from` chooses the source address and the interface.
    ///
    /// # Errors
    ///
    /// What the system said; the datagram is lost, the socket stays usable.
    pub async fn send_to(
        &self,
        payload: &[u8],
        to: SocketAddr,
        from: Option<Source>,
    ) -> io::Result<()> {
        let fd = self.io.as_raw_fd();
        self.io
            .async_io(Interest::WRITABLE, || transmit(fd, payload, to, from))
            .await
    }

    /// Sends without waiting; a full buffer is an error of kind `WouldBlock`. What goes to hosts
    /// that answer no ARP stays in the buffer for seconds, so a server that must go on for the
    /// others answers by this.
    ///
    /// # Errors
    ///
    /// What the system said; the datagram is lost, the socket stays usable.
    pub fn try_send_to(
        &self,
        payload: &[u8],
        to: SocketAddr,
        from: Option<Source>,
    ) -> io::Result<()> {
        // the socket never blocks, and unlike the runtime it knows at once that it may send
        transmit(self.io.as_raw_fd(), payload, to, from)
    }

    /// Joins a multicast group on the interface with index `ifindex`; joining twice is success.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn join(&self, group: IpAddr, ifindex: u32) -> io::Result<()> {
        join(&socket2::SockRef::from(&self.io), group, ifindex)
    }

    async fn count_transient(&self) {
        self.transient_errors.fetch_add(1, Ordering::Relaxed);
        // An error that came back at once every time would otherwise hold the thread.
        tokio::task::yield_now().await;
    }
}

/// How a socket is to be bound; the default is a plain unicast socket.
#[derive(Debug, Clone, Default)]
pub struct Options {
    device: Option<String>,
    broadcast: bool,
    reuse_addr: bool,
    free_bind: bool,
    groups: Vec<(IpAddr, u32)>,
    multicast_interface: Option<u32>,
    multicast_ttl: Option<u32>,
    multicast_loop: Option<bool>,
    deaf: bool,
}

impl Options {
    /// The options of a plain unicast socket.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Receives and sends through this interface only (`SO_BINDTODEVICE`).
    #[must_use]
    pub fn device(mut self, name: &str) -> Self {
        self.device = Some(name.to_owned());
        self
    }

    /// Permits sending to broadcast addresses.
    #[must_use]
    pub const fn broadcast(mut self) -> Self {
        self.broadcast = true;
        self
    }

    /// Shares the port with other multicast receivers (`SO_REUSEADDR`).
    #[must_use]
    pub const fn reuse_addr(mut self) -> Self {
        self.reuse_addr = true;
        self
    }

    /// Binds an address that the machine does not have yet (`IP_FREEBIND`).
    #[must_use]
    pub const fn free_bind(mut self) -> Self {
        self.free_bind = true;
        self
    }

    /// Joins `group` on the interface with index `ifindex`.
    #[must_use]
    pub fn join(mut self, group: IpAddr, ifindex: u32) -> Self {
        self.groups.push((group, ifindex));
        self
    }

    /// Sends multicast through the interface with index `ifindex`.
    #[must_use]
    pub const fn multicast_interface(mut self, ifindex: u32) -> Self {
        self.multicast_interface = Some(ifindex);
        self
    }

    /// TTL or hop limit of multicast.
    #[must_use]
    pub const fn multicast_ttl(mut self, ttl: u32) -> Self {
        self.multicast_ttl = Some(ttl);
        self
    }

    /// Whether other sockets of this machine hear what we multicast.
    #[must_use]
    pub const fn multicast_loop(mut self, on: bool) -> Self {
        self.multicast_loop = Some(on);
        self
    }

    /// Holds the port and sends, but hears nothing.
    #[must_use]
    pub const fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    pub(crate) fn device_name(&self) -> Option<&str> {
        self.device.as_deref()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = IpAddr> {
        self.groups.iter().map(|(group, _)| *group)
    }

    pub(crate) const fn is_broadcast(&self) -> bool {
        self.broadcast
    }
}

/// What came with a received payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes of the buffer were filled.
    pub len: usize,
    /// The datagram was longer than the buffer.
    pub truncated: bool,
    /// Who sent it.
    pub source: SocketAddr,
    /// The destination in the IP header; perhaps a group or a broadcast address.
    pub destination: IpAddr,
    /// Our own unicast address on the interface that it came in by (IPv4), or the destination
    /// (IPv6).
    pub local: IpAddr,
    /// The index of the interface that it came in by.
    pub ifindex: u32,
}

impl Datagram {
    /// From where to answer: the asked address, through the interface that it came in by.
    ///
    /// For a group the system chooses the address.
    #[must_use]
    pub const fn reply_from(&self) -> Source {
        let addr = match self.local {
            IpAddr::V6(addr) if addr.is_multicast() => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V4(addr) if addr.is_multicast() || addr.is_broadcast() => {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            }
            addr => addr,
        };
        Source {
            addr,
            ifindex: self.ifindex,
        }
    }
}

/// Where a datagram leaves from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The source address; unspecified lets the system choose.
    pub addr: IpAddr,
    /// The index of the interface; zero lets the routing table choose.
    pub ifindex: u32,
}

/// Whether an error of a datagram socket is about one datagram and not about the socket.
#[must_use]
pub fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::ECONNRESET
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::ENETRESET
                | libc::EINTR
                | libc::EMSGSIZE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EPERM
                | libc::EACCES
                | libc::ETIMEDOUT
        )
    )
}

fn open(local: SocketAddr, options: &Options) -> io::Result<socket2::Socket> {
    let socket =
        socket2::Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.set_broadcast(options.broadcast)?;
    socket.set_reuse_address(options.reuse_addr)?;
    match local {
        SocketAddr::V4(_) => open_v4(&socket, options)?,
        SocketAddr::V6(_) => open_v6(&socket, options)?,
    }
    if options.deaf {
        crate::filter::attach(&socket, &crate::filter::nothing())?;
    }
    socket.bind(&SockAddr::from(local))?;
    for (group, ifindex) in &options.groups {
        join(&socket, *group, *ifindex)?;
    }
    Ok(socket)
}

fn open_v4(socket: &socket2::Socket, options: &Options) -> io::Result<()> {
    setsockopt(socket, Ipv4PacketInfo, &true)?;
    // Without this a socket hears the groups that other sockets of the machine joined.
    socket.set_multicast_all_v4(false)?;
    if options.free_bind {
        socket.set_freebind_v4(true)?;
    }
    if let Some(ttl) = options.multicast_ttl {
        socket.set_multicast_ttl_v4(ttl)?;
    }
    if let Some(on) = options.multicast_loop {
        socket.set_multicast_loop_v4(on)?;
    }
    if let Some(ifindex) = options.multicast_interface {
        // struct ip_mreqn: two addresses that do not matter, and the index
        let [i0, i1, i2, i3] = index(ifindex)?.to_ne_bytes();
        let request = [0, 0, 0, 0, 0, 0, 0, 0, i0, i1, i2, i3];
        let fd = socket.as_raw_fd();
        sockopt::set(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)?;
    }
    Ok(())
}

fn open_v6(socket: &socket2::Socket, options: &Options) -> io::Result<()> {
    setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
    socket.set_only_v6(true)?;
    socket.set_multicast_all_v6(false)?;
    if options.free_bind {
        socket.set_freebind_v6(true)?;
    }
    if let Some(hops) = options.multicast_ttl {
        socket.set_multicast_hops_v6(hops)?;
    }
    if let Some(on) = options.multicast_loop {
        socket.set_multicast_loop_v6(on)?;
    }
    if let Some(ifindex) = options.multicast_interface {
        socket.set_multicast_if_v6(ifindex)?;
    }
    Ok(())
}

fn join(socket: &socket2::Socket, group: IpAddr, ifindex: u32) -> io::Result<()> {
    let joined = match group {
        IpAddr::V4(group) => {
            socket.join_multicast_v4_n(&group, &socket2::InterfaceIndexOrAddress::Index(ifindex))
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, ifindex),
    };
    match joined {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        other => other,
    }
}

fn receive(fd: RawFd, buf: &mut [u8]) -> io::Result<Datagram> {
    let mut control = [0_u8; CONTROL_SPACE];
    let mut slices = [IoSliceMut::new(buf)];
    let message =
        recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let source = message
        .address
        .as_ref()
        .and_then(socket_addr)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))?;
    let mut datagram = Datagram {
        len: message.bytes,
        truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
        source,
        destination: unspecified(source),
        local: unspecified(source),
        ifindex: 0,
    };
    for info in message.cmsgs()? {
        match info {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                datagram.destination = ipv4(info.ipi_addr).into();
                datagram.local = ipv4(info.ipi_spec_dst).into();
                datagram.ifindex = u32::try_from(info.ipi_ifindex).unwrap_or(0);
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                datagram.destination = Ipv6Addr::from(info.ipi6_addr.s6_addr).into();
                datagram.local = datagram.destination;
                datagram.ifindex = info.ipi6_ifindex;
            }
            _ => {}
        }
    }
    Ok(datagram)
}

fn transmit(fd: RawFd, payload: &[u8], to: SocketAddr, from: Option<Source>) -> io::Result<()> {
    let slices = [IoSlice::new(payload)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match to {
        SocketAddr::V4(to) => {
            let to = SockaddrIn::from(to);
            let info = from.map(packet_info_v4).transpose()?;
            let control: Option<ControlMessage<'_>> =
                info.as_ref().map(ControlMessage::Ipv4PacketInfo);
            sendmsg(fd, &slices, control.as_slice(), flags, Some(&to))?;
        }
        SocketAddr::V6(to) => {
            let to = SockaddrIn6::from(to);
            let info = from.map(packet_info_v6).transpose()?;
            let control: Option<ControlMessage<'_>> =
                info.as_ref().map(ControlMessage::Ipv6PacketInfo);
            sendmsg(fd, &slices, control.as_slice(), flags, Some(&to))?;
        }
    }
    Ok(())
}

fn packet_info_v4(from: Source) -> io::Result<libc::in_pktinfo> {
    let IpAddr::V4(addr) = from.addr else {
        return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
    };
    Ok(libc::in_pktinfo {
        ipi_ifindex: index(from.ifindex)?,
        ipi_spec_dst: libc::in_addr {
            s_addr: u32::from_ne_bytes(addr.octets()),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    })
}

fn packet_info_v6(from: Source) -> io::Result<libc::in6_pktinfo> {
    let IpAddr::V6(addr) = from.addr else {
        return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
    };
    Ok(libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr {
            s6_addr: addr.octets(),
        },
        ipi6_ifindex: from.ifindex,
    })
}

fn index(ifindex: u32) -> io::Result<i32> {
    i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))
}

fn ipv4(addr: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(addr.s_addr.to_ne_bytes())
}

fn socket_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = addr.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    addr.as_sockaddr_in6()
        .map(|v6| SocketAddrV6::from(*v6).into())
}

const fn unspecified(source: SocketAddr) -> IpAddr {
    match source {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

const CONTROL_SPACE: usize = cmsg_space::<libc::in6_pktinfo>() + cmsg_space::<libc::in_pktinfo>();

#[cfg(test)]
pub(crate) mod tests;
