//! TCP connections whose peer is known by the frame of its SYN.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use mapping::Mac;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use tokio::net::{TcpListener, TcpStream};

use crate::bind::{BindError, Transport};
use crate::filter;
use crate::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::{sockopt, tcp};

/// Listens like [`tcp::listen`]; [`peer_mac`] tells of its connections who they come from.
///
/// # Errors
///
/// Names the address, the device and, for a port in use, its owner. An invalid argument is a
/// kernel older than 5.10.
pub fn listen(addr: SocketAddr, device: &str) -> Result<TcpListener, BindError> {
    let keep = |listener: std::net::TcpListener| {
        // connections that come before this have no MAC, and so no rights
        let from_ethernet = FROM_ETHERNET.to_ne_bytes();
        let fd = listener.as_raw_fd();
        sockopt::set(fd, libc::IPPROTO_TCP, TCP_SAVE_SYN, &from_ethernet)?;
        TcpListener::from_std(listener)
    };
    let listener = tcp::listen_std(addr, Some(device))?;
    keep(listener).map_err(|source| BindError::new(Transport::Tcp, addr, Some(device), source))
}

/// Returns the MAC that sent the SYN of a connection of [`listen`]'s, and from now on lets in
/// only segments in frames of that MAC. `None` when the kernel does not know it: on an interface
/// without hardware addresses, and while a flood of SYNs is answered by cookies, see
/// [`hear_only`]. Works once for each connection.
///
/// # Errors
///
/// What the system said; nothing is known of the peer then.
pub fn peer_mac(stream: &TcpStream) -> io::Result<Option<Mac>> {
    let mut buf = [0; LONGEST_SYN];
    // the kernel forgets the headers then; it writes nothing if there are none
    let fd = stream.as_raw_fd();
    let len = sockopt::get(fd, libc::IPPROTO_TCP, TCP_SAVED_SYN, &mut buf)?;
    let Some(mac) = source_mac(buf.get(..len).unwrap_or_default()) else {
        return Ok(None);
    };
    filter::attach(&socket2::SockRef::from(stream), &filter::from_mac(mac))?;
    Ok(Some(mac))
}

/// Lets in only segments in frames of `mac` from now on, and tells whether nothing was said
/// before: what was may be anybody's.
///
/// For a connection whose SYN was answered by a cookie: only who got the answer can have
/// completed it, and the answer went to the MAC that the kernel's neighbour table had for the
/// address ([`crate::netlink::Netlink::neighbour`]). If the table has another one meanwhile, then
/// who completed the connection is not heard on it any more.
///
/// # Errors
///
/// What the system said; everything is let in then.
pub fn hear_only(stream: &TcpStream, mac: Mac) -> io::Result<bool> {
    filter::attach(&socket2::SockRef::from(stream), &filter::from_mac(mac))?;
    let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match recv(stream.as_raw_fd(), &mut [0], look) {
        Ok(count) => Ok(count == 0),
        Err(Errno::EAGAIN) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Says whether the connections of a listener are held until they are accepted: what their peers
/// say meanwhile is thrown away, and TCP brings it again. Held connections keep [`hear_only`]
/// from finding that something was said too early.
///
/// # Errors
///
/// What the system said; all is as before then.
pub fn hold(listener: &TcpListener, on: bool) -> io::Result<()> {
    let socket = socket2::SockRef::from(listener);
    if on {
        filter::attach(&socket, &filter::without_data())
    } else {
        filter::attach(&socket, &filter::everything())
    }
}

/// Reads the Ethernet header before the IP header of a SYN.
fn source_mac(syn: &[u8]) -> Option<Mac> {
    let (ethernet, ip) = syn.split_first_chunk::<14>()?;
    let [_, _, _, _, _, _, m0, m1, m2, m3, m4, m5, kind @ ..] = *ethernet;
    let version = ip.first()? >> 4;
    let fits = matches!(
        (u16::from_be_bytes(kind), version),
        (ETHERTYPE_IPV4, 4) | (ETHERTYPE_IPV6, 6)
    );
    fits.then_some(Mac([m0, m1, m2, m3, m4, m5]))
}

/// `linux/tcp.h`.
const TCP_SAVE_SYN: libc::c_int = 27;

/// `linux/tcp.h`.
const TCP_SAVED_SYN: libc::c_int = 28;

/// What `TCP_SAVE_SYN` takes to begin with the link layer.
const FROM_ETHERNET: libc::c_int = 2;

/// Ethernet with room for tags, IPv6 with extension headers or IPv4 with options, TCP with
/// options.
const LONGEST_SYN: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_an_ethernet_header_before_ip_tells_a_mac() {
        let mut syn = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 8, 0, 0x45];
        assert_eq!(source_mac(&syn), Some(Mac([2, 0, 0, 0, 0, 7])));

        // an IP header where the Ethernet header should be
        assert_eq!(
            source_mac(&[&[0x45, 0, 0, 60], &[0; 36][..]].concat()),
            None
        );
        syn[14] = 0x60;
        assert_eq!(source_mac(&syn), None);
        syn[12..14].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(source_mac(&syn), Some(Mac([2, 0, 0, 0, 0, 7])));
        assert_eq!(source_mac(&syn[..14]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(mac) = source_mac(&bytes) {
                prop_assert_eq!(&mac.0[..], &bytes[6..12]);
            }
        }
    }
}
