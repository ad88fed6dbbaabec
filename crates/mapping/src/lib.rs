//! The heart of Portico: hosts, names, mappings, policy and prefixes, decided without any I/O.
//!
//! **Invariant:** knows no socket, no clock, no runtime, no SQL and no other crate of the house;
//! every decision follows from the calls made and the `now` passed in.
//!
//! Start from [`Core`], which takes a [`Request`] and gives an [`Outcome`], and from
//! [`Snapshot`], the revisioned value that everything else follows. [`Delta`] is what a batch of
//! decisions asks the store to keep, [`Image`] what the store gives back at start.
//!
//! RFC 6887 (mapping semantics), RFC 6052 (prefixes), RFC 2131 (leases).
//!
//! ```
//! use mapping::{BootId, Core, Instant, Now, Policy, Site, Wall};
//!
//! let now = Now { mono: Instant::from_nanos(0), wall: Wall::from_secs(1_800_000_000) };
//! let site = Site::new("192.168.64.1".parse()?, 24, "home.example".to_owned())?;
//! let core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
//! assert!(core.snapshot().hosts().next().is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod access;
mod admission;
mod by_internal;
mod change;
mod core;
mod counters;
mod delta;
mod host;
mod name;
mod pinhole;
mod policy;
mod port;
mod port_set;
mod prefix;
mod remote;
mod request;
mod site;
mod snapshot;
mod time;

pub use access::{Access, AskedPinhole, HostPolicy, Permission, Waiting};
pub use admission::{Admission, AdmissionRule};
pub use change::{Change, CloseReason, Gate, Gates};
pub use core::{Batch, Closings, Core, RestoreError, Timer};
pub use counters::{Counters, Epoch};
pub use delta::{Anchor, AuditAction, AuditEntry, Delta, Image, Meta};
pub use host::{Host, Lease, Mac, ParseMacError};
pub use name::{InvalidName, ServerName};
pub use pinhole::{Pinhole, PinholeId, PinholeTuple};
pub use policy::{InvalidPortRange, Policy, PortClass, PortRange};
pub use port::{
    Client, ExternalPort, InternalPort, Mapping, MappingId, MappingNonce, Memo, Protocol,
    Requester, Via,
};
pub use prefix::{Generation, GenerationId, InvalidPrefix, Nsp, Prefix6, is_global_unicast};
pub use remote::{FilterChange, Filters, MAX_FILTERS, RemoteFilter};
pub use request::{
    ClosePinholeRequest, DecideRequest, Decision, DeclineRequest, External, Grant,
    HostPolicyRequest, LeaseRequest, MapRequest, MapSetRequest, Outcome, PinholeRequest,
    PinholeTarget, PrefixRequest, Refusal, ReleaseRequest, Request, Subject, UnmapRequest,
    UnmapTarget, UpdatePinholeRequest, Waits,
};
pub use site::{InvalidSite, Site};
pub use snapshot::{Carriers, Revision, Snapshot};
pub use time::{BootId, BootNumber, Expiry, Instant, Now, Wall};
