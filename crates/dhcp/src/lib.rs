//! DHCPv4 server: an address per MAC.
//!
//! **Invariant:** decides no address and no name itself: it offers what the snapshot names, and
//! acknowledges only what the writer granted, which is stored by then. Knows no other protocol.
//!
//! Start from [`Server`], the machine, [`Probe`], which looks for another server on the LAN, and
//! [`bind`], which makes the sockets that drive both. [`wire`] holds the format.
//!
//! RFC 2131, RFC 2132, RFC 3396, RFC 4702 (the minimum), RFC 6842, RFC 7291.
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod counters;
mod probe;
mod run;
mod server;
pub mod wire;

pub use counters::{Answer, Counters, DropReason};
pub use probe::{Probe, ProbeTimer};
pub use run::{Bound, Options, ServeError, StartError, bind};
pub use server::{Config, Destination, Meta, Reaction, Server, Timer, Token, Transmit, reaction};
