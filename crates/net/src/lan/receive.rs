//! The packet socket: many packets by one call, each with the hardware address of its sender.

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use mapping::Mac;
use nix::libc;
use nix::sys::socket::bind;
use socket2::{Domain, SockRef, Socket, Type};

use super::packet::Checksum;
use super::{Arrival, Batch, FRAME, PLACES};
use crate::filter::{self, Step};
use crate::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, identify, link_addr};
use crate::sockopt;

/// Opens a packet socket for the UDP port of `local` on `device`; it hears what `program` lets
/// through.
pub(super) fn open(
    device: &str,
    local: SocketAddr,
    program: &[Step],
) -> io::Result<(u32, OwnedFd)> {
    let (ifindex, _) = identify(device)?;
    // protocol zero: nothing is heard before the filter stands
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    let kind = match local {
        SocketAddr::V4(_) => ETHERTYPE_IPV4,
        SocketAddr::V6(_) => ETHERTYPE_IPV6,
    };
    filter::attach(&socket, program)?;
    let on = libc::c_int::from(true).to_ne_bytes();
    sockopt::set(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_AUXDATA, &on)?;
    // a burst of a whole home: some 2 KiB of the kernel's memory for each packet
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    bind(socket.as_raw_fd(), &link_addr(ifindex, kind)?)?;
    Ok((ifindex, socket.into()))
}

/// Hears what `program` lets through, from now on.
pub(super) fn hear(fd: &OwnedFd, program: &[Step]) -> io::Result<()> {
    filter::attach(&SockRef::from(fd), program)
}

/// What is heard of strangers, and of those in `known`; of `silent` nothing is.
pub(super) fn programs(local: SocketAddr, known: &BTreeSet<Mac>, silent: &[Mac]) -> [Vec<Step>; 2] {
    let port: Vec<_> = match local {
        SocketAddr::V4(_) => filter::udp_v4(local.port()).into(),
        SocketAddr::V6(_) => filter::udp_v6(local.port()).into(),
    };
    let nothing = || filter::nothing().to_vec();
    let known = || known.iter().copied();
    let programs = [
        filter::among(known(), nothing(), port.clone()),
        filter::among(known(), port, nothing()),
    ];
    programs.map(|program| filter::without(silent.iter().copied(), program))
}

/// Returns how many packets found no room since it was last asked.
pub(super) fn lost(fd: RawFd) -> io::Result<u32> {
    // struct tpacket_stats: the packets and the drops
    let mut stats = [0; 8];
    sockopt::get(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut stats)?;
    let [.., d0, d1, d2, d3] = stats;
    Ok(u32::from_ne_bytes([d0, d1, d2, d3]))
}

/// Receives what waits, as far as there is room; an error of kind `WouldBlock` when nothing
/// waits.
#[expect(
    unsafe_code,
    reason = "nix's recvmmsg forgets to give back the room for control messages"
)]
pub(super) fn receive(fd: RawFd, batch: &mut Batch) -> io::Result<()> {
    // SAFETY: plain structures of the C library for which zero bytes are valid values.
    let mut froms: [libc::sockaddr_ll; PLACES] = unsafe { mem::zeroed() };
    // SAFETY: as above; the null pointers are replaced below.
    let mut vectors: [libc::iovec; PLACES] = unsafe { mem::zeroed() };
    // SAFETY: as above; the null pointers are replaced below.
    let mut messages: [libc::mmsghdr; PLACES] = unsafe { mem::zeroed() };
    let mut controls = [[0_u64; CONTROL]; PLACES];
    let places = batch
        .frames
        .chunks_exact_mut(FRAME)
        .zip(&mut froms)
        .zip(&mut vectors)
        .zip(&mut controls)
        .zip(&mut messages);
    for ((((frame, from), vector), control), message) in places {
        vector.iov_base = frame.as_mut_ptr().cast();
        vector.iov_len = frame.len();
        let header = &mut message.msg_hdr;
        header.msg_name = std::ptr::from_mut(from).cast();
        header.msg_namelen = size_of_val(from).try_into().map_err(io::Error::other)?;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(control) as _;
    }
    let count = PLACES.try_into().map_err(io::Error::other)?;
    // SAFETY: every header points to buffers of the lengths that it tells, which live until the
    // end of this function and which nobody else touches meanwhile; there are PLACES headers.
    let count = unsafe {
        libc::recvmmsg(
            fd,
            messages.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    for (message, from) in messages.iter().zip(&froms).take(count) {
        batch.arrivals.push(arrival(message, from));
    }
    Ok(())
}

fn arrival(message: &libc::mmsghdr, from: &libc::sockaddr_ll) -> Arrival {
    let [m0, m1, m2, m3, m4, m5, ..] = from.sll_addr;
    let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
    let to_others = matches!(
        from.sll_pkttype,
        libc::PACKET_OTHERHOST | libc::PACKET_OUTGOING | libc::PACKET_LOOPBACK
    );
    let status = auxiliary(&message.msg_hdr).map_or(0, |data| data.tp_status);
    let known = libc::TP_STATUS_CSUMNOTREADY | libc::TP_STATUS_CSUM_VALID;
    Arrival {
        len: usize::try_from(message.msg_len).unwrap_or(0).min(FRAME),
        mac: Mac([m0, m1, m2, m3, m4, m5]),
        for_us: whole && !to_others && from.sll_halen == 6,
        checksum: if status & known == 0 {
            Checksum::Unknown
        } else {
            Checksum::Known
        },
    }
}

/// What the kernel tells of the packet beside its bytes.
#[expect(unsafe_code, reason = "control messages are walked by pointers")]
fn auxiliary(header: &libc::msghdr) -> Option<libc::tpacket_auxdata> {
    // SAFETY: `header` was filled by recvmmsg, and its control buffer is alive.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole header.
        let control = unsafe { &*next };
        let wanted = size_of::<libc::tpacket_auxdata>();
        // SAFETY: only adds up lengths.
        let len = unsafe { libc::CMSG_LEN(u32::try_from(wanted).ok()?) };
        let fits = control.cmsg_len as usize >= usize::try_from(len).ok()?;
        let right = control.cmsg_level == libc::SOL_PACKET && control.cmsg_type == PACKET_AUXDATA;
        if fits && right {
            // SAFETY: the message is as long as the structure, of which every value is valid;
            // it is read without regard to alignment.
            return Some(unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(next).cast()) });
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    None
}

/// `linux/if_packet.h`.
const PACKET_AUXDATA: libc::c_int = 8;

/// In words of 8 bytes: a control message's header and `tpacket_auxdata`, with room to spare.
const CONTROL: usize = 8;

const RECEIVE_BUFFER: usize = 1 << 20;
