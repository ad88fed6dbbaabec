//! Authoritative DNS over the snapshot, and the resolver of the LAN.
//!
//! **Invariant:** never learns who may open what, and never keeps a record of its own: every
//! authoritative answer follows from one snapshot. Nothing is forwarded for anybody outside the
//! LAN, and nothing is synthesised.
//!
//! Start from [`zone::Zone`], which answers a question from a snapshot, [`server::Server`],
//! which turns a datagram into an answer, [`forward::Exchange`], one question to the resolvers
//! outside, and [`parent::Updater`], which keeps our delegation true. [`bind`] and
//! [`Dns::serve`] are the room's shell.
//!
//! RFC 1034, 1035 (names, messages), 2136 (update, as a client), 2181, 2308 (negative answers),
//! 3596 (AAAA, ip6.arpa), 6891 (EDNS), 7766 (TCP), 8482 (minimal ANY), 8945 (TSIG, as a client).

#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

pub mod counters;
pub mod forward;
pub mod parent;
pub mod server;
pub mod tsig;
pub mod wire;
pub mod zone;

mod run;

pub use run::{Config, Dns, Endpoint, LoadKeyError, ParentConfig, ServeError, bind, load_key};
