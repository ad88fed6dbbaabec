//! NAT-PMP server: clients on the LAN open their own ports (RFC 6886).
//!
//! **Invariant:** knows neither sockets nor clocks nor the writer; every answer follows from the
//! calls made. It has no shell of its own: the room `pcp` owns UDP 5351 and hands over what
//! begins with version 0 (RFC 6887 appendix A).
//!
//! Start from [`Server`], and from [`wire::Request`] and [`wire::Response`] for the bytes.
//! [`Announcer`] and [`Pending`] serve PCP as well, which announces and waits in the same way.
//!
//! RFC 6886.
//!
//! ```
//! use natpmp::wire::Request;
//!
//! let bytes = Request::ExternalAddress.emit();
//! assert_eq!(bytes, [0, 0]);
//! assert_eq!(Request::parse(&bytes), Ok(Request::ExternalAddress));
//! ```
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod announcer;
mod counters;
mod pending;
mod server;
pub mod wire;

pub use announcer::{Announcer, begins_anew};
pub use counters::{Counters, DropReason};
pub use pending::{Admission, Limits, Pending, Waiting};
pub use server::{RequestToken, Server, Timer, Transmit, may_answer};
