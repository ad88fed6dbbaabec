//! The program: command line, configuration, wiring.
//!
//! **Invariant:** decides nothing; it starts the rooms, joins them and ends them in order.
mod config;
fn main() {}
