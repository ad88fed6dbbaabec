//! The machines: discovery, HTTP connections, and what a request means.

mod connection;
mod control;
mod limits;
mod ssdp;
mod web;

pub use connection::{Connection, Request};
pub use control::{Caller, Continuation, Decision, decide, finish};
pub use limits::Slots;
pub(crate) use ssdp::{GROUP, PORT};
pub use ssdp::{Ssdp, SsdpConfig, Timer, Transmit};
pub(crate) use web::is_on_lan;
pub use web::{Pending, Step, Web};

#[cfg(test)]
mod tests;
