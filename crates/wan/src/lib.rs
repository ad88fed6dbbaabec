//! The IPv6 WAN side: the gateway's own addresses, delegated prefixes and what guards them.
//!
//! **Invariant:** tells the writer what the provider gave and keeps the kernel's null routes as
//! the snapshot wants them; never decides which prefix the home uses.
//!
//! Start from [`addresses::choose`], [`null_routes::plan`] and [`bind`].
//!
//! RFC 7084 (WPD-5); the prefix comes from the configuration or the API.
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

pub mod addresses;
pub mod forwarding;
pub mod null_routes;
mod run;

pub use run::{Bound, Options, ServeError, StartError, bind};
