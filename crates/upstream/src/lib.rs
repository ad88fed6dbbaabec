//! The same ports, opened at a gateway that stands in front of us (RFC 7648 and 6970 in spirit).
//!
//! **Invariant:** follows the snapshot and never gates: whatever the upstream gateway does or
//! fails to do, nobody on the LAN waits for it. What is remembered is bounded by the number of
//! ports that are open here.
//!
//! Start from [`Upstreams`], the machine: it holds a [`Client`] for each family, which speaks
//! PCP or NAT-PMP, and [`Upnp`] for a gateway that speaks neither; [`bind`] runs it on the
//! WAN's sockets.
//!
//! RFC 6887 (the client's side), 6886, 7648, 6970, 7488; the WAN PCP client of RFC 7084 W-6.
//!
//! ```
//! use upstream::{Reach, reach};
//!
//! assert_eq!(reach("100.64.3.2".parse()?), Reach::CarrierNat);
//! assert_eq!(reach("192.0.2.7".parse()?), Reach::Public);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod address;
mod backoff;
mod client;
mod counters;
mod epoch;
mod lifetime;
mod nonce;

mod port;
mod port_table;
mod reach;
mod run;
mod upnp;
mod upstreams;
mod wanted;

pub use backoff::{Backoff, renewal};
pub use client::{Client, Dialect};
pub use counters::{Counters, DropReason};
pub use epoch::Epoch;
pub use port::{Granted, PortKey, PortState, Refused};
pub use reach::{Reach, reach};
pub use run::{Bound, Observer, Options, ServeError, StartError, bind};
pub use upnp::{Action, Answer, Failure, Upnp};
pub use upstreams::{Chain, Family, Link, Mode, Timer, Transmit, Upstreams};
pub use wanted::{Wanted, Wish, Wishes};
