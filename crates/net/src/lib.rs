//! Clock, sockets, TUN, netlink and namespaces: the only crate with unsafe code.
//!
//! **Invariant:** knows no protocol of the house and decides nothing; it turns what the kernel
//! offers into values and `async` calls that need no unsafe code.
//!
//! Start from [`Clock`], [`udp::Socket`], [`lan::Socket`], [`tun::Tun`] and [`netlink::Netlink`].
//!
//! Everything here acts on the network namespace of the *calling thread*: a socket, a TUN device
//! and a netlink handle keep the namespace in which they were opened; [`sysctl`] and
//! [`ethtool`] look at the caller's at each call, so they must not go through a thread pool
//! when several namespaces live in one process.

#![warn(missing_docs, clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod alarm;
mod async_fd;
mod bind;
mod clock;
pub mod ethtool;
mod filter;
pub mod ifname;
pub mod lan;
pub mod listen;
pub mod namespace;
pub mod netlink;
pub mod packet;
mod parker;
pub mod process;
mod sockopt;
pub mod sysctl;
pub mod tcp;
pub mod tun;
pub mod udp;

pub use alarm::Alarm;
pub use bind::{BindError, Transport};
pub use clock::{BootIdError, Clock, boot_id};
pub use parker::Parker;
