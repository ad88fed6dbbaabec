//! NAT-PMP server: clients on the LAN open their own ports (RFC 6886).
//!
//! **Invariant:** knows neither sockets nor clocks nor the writer; every answer follows from the
//! calls made. It has no shell of its own: the room `pcp` owns UDP 5351 and hands over what
//! begins with version 0 (RFC 6887 appendix A).
//!
//! Start from [`Server`], and from [`wire::Request`] and [`wire::Response`] for the bytes.
//! [`Exchange`] serves PCP as well, which announces, waits and counts in the same way.
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
mod caller;
mod counters;
mod exchange;
mod pending;
mod rate;
mod server;
pub mod wire;

pub use announcer::Announcer;
pub use caller::{Caller, Claim};
pub use counters::{Code, Counters, DropReason};
pub use exchange::{CLIENTS, Exchange, Timer, Transmit};
pub use pending::{Limits, Waiting};
pub use server::{RequestToken, Server};
