//! The offloads of an interface, of the calling thread's network namespace.

use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use socket2::{Domain, Socket, Type};

/// Switches generic receive offload; a veth has it off, and a TUN behind one is slow without.
///
/// # Errors
///
/// Names the interface.
pub fn set_gro(ifname: &str, on: bool) -> Result<(), EthtoolError> {
    switch(ifname, "generic receive offload", ETHTOOL_SGRO, on)
}

/// Switches what a card does for those who send: segmentation and checksums. Without, every
/// packet is whole and of the wire's size before it leaves the host.
///
/// # Errors
///
/// Names the interface and the offload.
pub fn set_send_offloads(ifname: &str, on: bool) -> Result<(), EthtoolError> {
    switch(ifname, "TCP segmentation offload", ETHTOOL_STSO, on)?;
    switch(ifname, "generic segmentation offload", ETHTOOL_SGSO, on)?;
    switch(ifname, "transmit checksum offload", ETHTOOL_STXCSUM, on)
}

fn switch(ifname: &str, offload: &'static str, cmd: u32, on: bool) -> Result<(), EthtoolError> {
    set(ifname, cmd, u32::from(on)).map_err(|source| EthtoolError {
        ifname: ifname.to_owned(),
        offload,
        source,
    })
}

/// An offload that could not be switched.
#[derive(Debug, thiserror::Error)]
#[error("cannot switch {offload} of {ifname}")]
pub struct EthtoolError {
    ifname: String,
    offload: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

/// `struct ifreq` with `ifr_data`.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut Value,
    padding: [u8; 16],
}

#[expect(
    unsafe_code,
    reason = "ethtool is an ioctl on a structure that points to another"
)]
fn set(ifname: &str, cmd: u32, data: u32) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut value = Value { cmd, data };
    let mut request = Request {
        name: crate::ifname::bytes(ifname)?,
        data: &raw mut value,
        padding: [0; 16],
    };
    // SAFETY: `request` is a whole ifreq that points to a live ethtool_value, the structure
    // that this command reads; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// `linux/ethtool.h`.
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGSO: u32 = 0x24;
const ETHTOOL_SGRO: u32 = 0x2c;
