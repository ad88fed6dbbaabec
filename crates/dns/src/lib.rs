//! Authoritative DNS over the snapshot, and the resolver of the LAN.
//!
//! **Invariant:** never learns who may open what, and never keeps a record of its own: every
//! authoritative answer follows from one snapshot. Nothing is forwarded for anybody outside the
//! LAN, and nothing is synthesised.
//!
//! Start from [`zone::Zone`], which answers a question from a snapshot, [`server::Server`],
//! which turns a message into an answer, [`connection::Connection`], one client of TCP,
//! [`forward::Exchange`], one question to the resolvers outside, and [`parent::Updater`], which
//! keeps our delegation true. [`bind`] and [`Dns::serve`] are the room's shell.
//!
//! Messages are decoded and answers encoded by hickory-server (`Request`, `MessageResponse`).
//! The loops around its sockets are ours, for hickory's own cannot do what a gateway on the open
//! Internet needs: answer UDP from the address that was asked, cap connections per source and in
//! all, count and answer what cannot be decoded, close a connection whose query comes in
//! dribbles, and relay a resolver's answer byte for byte. So UDP and TCP share one decision,
//! [`server::Server::handle_message`].
//!
//! RFC 1034, 1035 (names, messages), 2136 (update, as a client), 2181, 2308 (negative answers),
//! 3596 (AAAA, ip6.arpa), 6891 (EDNS), 7766 (TCP), 8482 (minimal ANY), 8945 (TSIG, as a client).

#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

pub mod admission;
pub mod connection;
pub mod counters;
pub mod forward;
pub mod parent;
pub mod server;
pub mod tsig;
pub mod wire;
pub mod zone;

mod run;

pub use run::{Config, Dns, Endpoint, LoadKeyError, ParentConfig, ServeError, bind, load_key};
