//! A TUN device that passes segmentation offload on in a `virtio_net_hdr`.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// An open TUN device; it vanishes with the value.
///
/// Every read and write starts with a `virtio_net_hdr` of [`VNET_HDR_LEN`] bytes in the byte
/// order of the machine; there is no other prefix.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    udp_offload: bool,
    /// Whether a single read can be told not to sleep (Linux 6.4).
    nowait: bool,
}

impl Tun {
    /// Makes the device `name` (`%d` in it is replaced by a free number); must run inside a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// Says in one line what is missing.
    pub async fn open(name: &str) -> Result<Self, OpenTunError> {
        let error = |source| OpenTunError::attach(name, source);
        let (file, name) = attach_patiently(name).await.map_err(error)?;
        set_header_len(file.as_raw_fd()).map_err(|source| OpenTunError::new(&name, source))?;
        let udp_offload =
            set_offloads(file.as_raw_fd()).map_err(|source| OpenTunError::new(&name, source))?;
        let nowait = knows_nowait(&file);
        Ok(Self {
            file,
            name,
            udp_offload,
            nowait,
        })
    }

    /// The name that the kernel gave the device.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the kernel may hand us UDP super-packets (USO, Linux 6.2); TCP's it always may.
    #[must_use]
    pub const fn udp_offload(&self) -> bool {
        self.udp_offload
    }

    /// Reads one packet with its header; sleeps until there is one, or a
    /// [`Parker`](crate::Parker) ends that.
    ///
    /// # Errors
    ///
    /// `Interrupted` or `WouldBlock` when there is none; anything else when the device is gone.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buf)
    }

    /// Reads one packet with its header; never sleeps.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none; anything else when the device is gone.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if self.nowait {
            return read_nowait(&self.file, buf);
        }
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            // nobody else reads, so it is still there
            _ => self.read(buf),
        }
    }

    /// Writes one packet with its header.
    ///
    /// # Errors
    ///
    /// The packet is lost; `InvalidInput` means that the kernel did not like its header.
    pub fn try_write(&self, packet: &[u8]) -> io::Result<usize> {
        (&self.file).write(packet)
    }

    /// Writes one packet that lies in pieces; the header comes first.
    ///
    /// # Errors
    ///
    /// As [`Self::try_write`].
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.file).write_vectored(pieces)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum OpenTunError {
    /// The device node is missing.
    #[error("cannot open TUN device {name}: /dev/net/tun does not exist (modprobe tun)")]
    Missing {
        /// The device that was asked for.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The device node or the capability is missing.
    #[error(
        "cannot open TUN device {name}: not permitted \
         (it takes CAP_NET_ADMIN and a /dev/net/tun that we may open)"
    )]
    NotPermitted {
        /// The device that was asked for.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else holds a device of that name.
    #[error("cannot open TUN device {name}: another process holds it")]
    Busy {
        /// The device that was asked for.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An interface of that name is there, and cannot be ours.
    #[error(
        "cannot open TUN device {name}: there is an interface {name} of another kind \
         (a TUN device of one queue would do)"
    )]
    Unsuited {
        /// The device that was asked for.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot open TUN device {name}")]
    Other {
        /// The device that was asked for.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OpenTunError {
    /// The kernel says the same of a name that nobody can have and of a device that cannot be ours.
    fn attach(name: &str, source: io::Error) -> Self {
        let is_there = || nix::net::if_::if_nametoindex(name).is_ok();
        match source.raw_os_error() {
            Some(libc::EINVAL) if is_there() => Self::Unsuited {
                name: name.to_owned(),
                source,
            },
            _ => Self::new(name, source),
        }
    }

    fn new(name: &str, source: io::Error) -> Self {
        let name = name.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::Missing { name, source },
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { name, source },
            Some(libc::EBUSY) => Self::Busy { name, source },
            _ => Self::Other { name, source },
        }
    }
}

/// `struct ifreq` with `ifr_flags`.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    padding: [u8; 22],
}

/// A process that was just killed may hold its device a moment longer.
async fn attach_patiently(name: &str) -> io::Result<(File, String)> {
    let mut attempts = 1;
    loop {
        match attach(name) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempts < ATTEMPTS => {
                attempts += 1;
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Asks for a packet; there is none yet, unless the device outlived another process.
fn knows_nowait(file: &File) -> bool {
    // of nothing the kernel reads nothing, without a look at the flag
    let error = read_nowait(file, &mut [0; 2048]).err();
    let errno = error.and_then(|error| error.raw_os_error());
    !matches!(errno, Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

#[expect(unsafe_code, reason = "preadv2, which nix does not wrap")]
fn read_nowait(file: &File, buf: &mut [u8]) -> io::Result<usize> {
    const NO_OFFSET: libc::off_t = -1;
    let piece = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: the kernel writes at most the length of `buf` there, during the call.
    let len = unsafe {
        libc::preadv2(
            file.as_raw_fd(),
            &raw const piece,
            1,
            NO_OFFSET,
            libc::RWF_NOWAIT,
        )
    };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

fn attach(name: &str) -> io::Result<(File, String)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    let mut request = Request {
        name: crate::ifname::bytes(name)?,
        flags: FLAGS,
        padding: [0; 22],
    };
    create(file.as_raw_fd(), &mut request)?;
    let end = request
        .name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(request.name.len());
    let name = String::from_utf8_lossy(request.name.get(..end).unwrap_or_default()).into_owned();
    Ok((file, name))
}

#[expect(unsafe_code, reason = "a TUN device is made by an ioctl")]
fn create(fd: RawFd, request: &mut Request) -> io::Result<()> {
    // SAFETY: `request` is a whole ifreq, which TUNSETIFF reads and writes during the call.
    let result = unsafe { libc::ioctl(fd, TUNSETIFF, std::ptr::from_mut(request)) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[expect(unsafe_code, reason = "the length of the header is set by an ioctl")]
fn set_header_len(fd: RawFd) -> io::Result<()> {
    let len = libc::c_int::try_from(VNET_HDR_LEN).map_err(io::Error::other)?;
    // SAFETY: TUNSETVNETHDRSZ reads one int during the call.
    let result = unsafe { libc::ioctl(fd, TUNSETVNETHDRSZ, &raw const len) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Asks for all offloads, and for those of older kernels if that is refused.
fn set_offloads(fd: RawFd) -> io::Result<bool> {
    match request_offloads(fd, TUN_F_CSUM | TUN_F_TSO | TUN_F_USO) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            request_offloads(fd, TUN_F_CSUM | TUN_F_TSO).map(|()| false)
        }
        Err(error) => Err(error),
    }
}

#[expect(unsafe_code, reason = "offloads are asked for by an ioctl")]
fn request_offloads(fd: RawFd, offloads: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    let result = unsafe { libc::ioctl(fd, TUNSETOFFLOAD, libc::c_ulong::from(offloads)) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The length of `struct virtio_net_hdr` before each packet.
pub const VNET_HDR_LEN: usize = 10;

const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// `linux/if_tun.h`: `IFF_TUN`, `IFF_NO_PI`, `IFF_VNET_HDR`.
const FLAGS: u16 = 0x0001 | 0x1000 | 0x4000;
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUN_F_CSUM: libc::c_uint = 0x01;
/// `TUN_F_TSO4`, `TUN_F_TSO6` and `TUN_F_TSO_ECN`.
const TUN_F_TSO: libc::c_uint = 0x02 | 0x04 | 0x08;
/// `TUN_F_USO4` and `TUN_F_USO6`.
const TUN_F_USO: libc::c_uint = 0x20 | 0x40;

#[cfg(test)]
mod tests;
