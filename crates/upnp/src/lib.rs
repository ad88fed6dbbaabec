//! UPnP IGD:2 and IGD:1: SSDP, SOAP and GENA.
//!
//! **Invariant:** knows the mapping core only as [`mapping::Request`] and [`mapping::Outcome`]:
//! it decides who may ask and how an answer reads, never what is granted. The machines in
//! [`server`] know neither sockets nor clocks.
//!
//! Start from [`server::Ssdp`], which is how a control point finds us, [`server::Web`], which
//! answers its HTTP requests, and [`server::Gena`], which tells it what changes. [`bind`] runs
//! all of them on the LAN.
//!
//! UPnP Device Architecture 1.1 (discovery, description, control, eventing), WANIPConnection:1
//! and :2, WANIPv6FirewallControl:1, WANCommonInterfaceConfig:1, Layer3Forwarding:1, RFC 6970
//! (how IGD maps onto PCP's answers).
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod action;
mod counters;
mod device;
mod error_code;
mod run;
pub mod server;
pub mod wire;

pub use action::{Action, Argument};
pub use counters::{Counters, Event};
pub use device::{DeviceKind, Edition, Identity, Resource, ServiceKind};
pub use error_code::ErrorCode;
pub use run::{Bound, Options, ServeError, StartError, bind};
