//! PCP server: clients on the LAN open their own ports (RFC 6887).
//!
//! **Invariant:** decides nothing about ports; it reads, asks the one writer in the house's
//! language, and says the outcome in PCP's. It owns UDP 5351 of the LAN, and hands what begins
//! with version 0 to the machine of the room `natpmp` (RFC 6887 appendix A).
//!
//! Start from [`Server`], the machine of the port; from [`wire::Request`] and
//! [`wire::Response`] for the bytes; and from [`Listener`], which runs the machine on a socket.
//!
//! # Threats
//!
//! A device opens ports for itself, so all hangs on who it is. Over IPv4 that is the host to whose
//! MAC the source address is leased: a frame with another MAC is dropped, and the answer goes to
//! that MAC without ARP, which a neighbour can lie to. Over IPv6 nobody
//! leases addresses. A host is taken for the one whose MAC its frame bears only if the kernel's
//! neighbour table leads to that MAC at the source address ([`Server::poll_claim`]): else a
//! neighbour could write another's MAC into its frames, keep its own address, and would even get
//! the answers; or write another's address and open a pinhole there.
//!
//! - *First contact*: the kernel knows a client from its own solicitation, as a rule. If it does not
//!   it is made to look, and the datagram waits for at most a second.
//! - *What the table holds may be old* (STALE) or another's: then the kernel is made to look again,
//!   the datagram is dropped, and the client's next try finds the truth.
//! - *Floods*: only frames with the MAC of a known host are looked up, after the rate of that MAC, 16
//!   at once under one MAC and 64 in all; more are dropped. IPv4 never waits for that.
//! - *What is left*: who forges the MAC **and** neighbour discovery (RFC 4861 proves nothing about a
//!   solicitation or an advertisement). It takes a place on the link and what switches with RA and ND
//!   guards notice; while the table leads to the other host the answers go there as well.
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
pub use server::{ClaimToken, Dialects, RequestToken, Server, Settings};
