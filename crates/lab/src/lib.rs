//! A simulated home, provider and Internet in network namespaces.
//!
//! **Invariant:** knows Portico only from outside: its program, its wires and its API.
//!
//! Start from [`Node`] (a machine: a thread in a network namespace without a name), [`cable`]
//! and [`Switch`] (what connects machines). When the values are dropped the threads end, and
//! namespaces, links and child processes vanish with them: nothing is to be cleaned up, no
//! name can collide, and any number of homes live side by side.

#![warn(missing_docs)]

mod command;
mod node;
mod wiring;

pub use command::Command;
pub use node::{Node, Task};
pub use wiring::{End, Switch, cable};
