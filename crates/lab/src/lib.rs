//! A simulated home, provider and Internet in network namespaces.
//!
//! **Invariant:** knows Portico only from outside: its program, its wires and its API.
//!
//! Start from [`Node`] (a machine: a thread in a network namespace without a name), [`cable`]
//! and [`Switch`] (what connects machines), or from [`Plan`], which builds a whole [`Home`];
//! [`proof`] takes the seven steps, one function each, and [`run()`] is `portico lab`. When the
//! values are dropped the threads end, and namespaces, links and child processes vanish with
//! them: nothing is to be cleaned up, no name can collide, and any number of homes live side by
//! side.

#![warn(missing_docs)]

pub mod addressing;
mod command;
pub mod control;
pub mod daemon;
pub mod device;
pub mod dhcp;
pub mod dns;
pub mod home;
pub mod http;
mod node;
pub mod ports;
pub mod proof;
pub mod provider;
pub mod remote;
mod run;
mod wiring;

pub use command::Command;
pub use control::{Verb, verb};
pub use home::{Home, Plan};
pub use node::{Node, Task};
pub use run::{Options, prepare, run};
pub use wiring::{End, Switch, cable};
