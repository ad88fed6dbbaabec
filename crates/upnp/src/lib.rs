//! UPnP IGD:2 and IGD:1: SSDP and SOAP.
//!
//! **Invariant:** knows the mapping core only as [`mapping::Request`] and [`mapping::Outcome`]:
//! it decides who may ask and how an answer reads, never what is granted. The machines in
//! [`server`] know neither sockets nor clocks.
//!
//! Start from [`server::Ssdp`], which is how a control point finds us, and [`server::Web`],
//! which answers its HTTP requests. [`bind`] runs both on the LAN.
//!
//! UPnP Device Architecture 1.1 (discovery, description, control), WANIPConnection:1 and :2,
//! WANCommonInterfaceConfig:1, RFC 6970 (how IGD maps onto PCP's answers).
//!
//! DEVIATION WANIPConnection:2 §2.4: no variable is evented because event subscriptions are
//! not built yet; the descriptions say so, as UDA 1.1 §2.3 asks of a service without events.
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod action;
mod counters;
mod device;
mod run;
pub mod server;
pub mod wire;

pub use action::{Action, Argument, ErrorCode};
pub use counters::{Counters, Event};
pub use device::{DeviceKind, Edition, Identity, Resource, ServiceKind};
pub use run::{Bound, Options, ServeError, StartError, bind};
