//! The machines: discovery, HTTP connections, what a request means, and events.

mod arguments;
mod budget;
mod connection;
mod control;
mod gena;
mod lan;
mod limits;
mod ssdp;
mod state;
mod web;

pub use connection::{Connection, Request};
pub use control::{Caller, Continuation, Decision, Traffic, counted, decide, finish, measured};
pub use gena::{
    Delivery, Gena, MAX_IN_FLIGHT, MAX_IN_FLIGHT_TO_ONE, MAX_IN_FLIGHT_TO_STRANGERS, MAX_PER_HOST,
    MAX_SUBSCRIPTIONS, MODERATION, Notification,
};
pub use lan::{Lan, OnLink};
pub use limits::{Holder, MAX_STRANGER_SUBSCRIPTIONS, Slots, Standing};
pub(crate) use ssdp::{GROUP, LINK_GROUP, PORT, SITE_GROUP};
pub use ssdp::{Searcher, Ssdp, SsdpConfig, Timer, Transmit};
pub use state::Situation;
pub use web::{Peer, Pending, Step, Subscribe, Web};

#[cfg(test)]
mod tests;
