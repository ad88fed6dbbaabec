//! PCP server: clients on the LAN open their own ports (RFC 6887).
//!
//! **Invariant:** decides nothing about ports; it reads, asks the one writer in the house's
//! language, and says the outcome in PCP's. It owns UDP 5351 of the LAN, and hands what begins
//! with version 0 to the machine of the room `natpmp` (RFC 6887 appendix A).
//!
//! Start from [`Server`], the machine of the port; from [`wire::Request`] and
//! [`wire::Response`] for the bytes; and from [`Listener`], which runs the machine on a socket.
//!
//! RFC 6887.
//!
//! ```
//! use pcp::wire::{Body, Request};
//!
//! let client = std::net::Ipv4Addr::new(192, 168, 64, 20).to_ipv6_mapped();
//! let bytes = Request { lifetime: 0, client, body: Body::Announce, options: &[] }.emit();
//! assert_eq!(bytes.len(), 24);
//! assert_eq!(Request::parse(&bytes).map(|request| request.body), Ok(Body::Announce));
//! ```
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod run;
mod server;
pub mod wire;

pub use run::{Config, Listener, Observer, ServeError, StartError};
pub use server::{Dialects, RequestToken, Server, Settings};
