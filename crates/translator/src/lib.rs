//! Stateful NAT64 (RFC 6146, RFC 7915) between a TUN device and a snapshot.
//!
//! **Invariant:** the machine knows neither sockets nor clocks; it allocates nothing and waits for
//! nothing while it translates a packet; nothing passes that the snapshot does not open.
//!
//! Start from [`Translator`], which takes a [`Frame`] and gives a [`Verdict`].
//!
//! RFC 6146 (state), RFC 7915 (headers), RFC 6052 (addresses), RFC 4787, 5382, 5508, 7857
//! (behaviour).
#![warn(missing_docs)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod admission;
mod alone;
mod answer;
mod bib;
mod checksum;
mod closed_syns;
mod config;
mod counters;
mod cut;
mod eam;
mod embedded;
mod ending;
mod event;
mod filter;
mod fragment;
mod frame;
mod gather;
mod hash;
mod icmp_error;
mod identification;
mod incoming;
mod limits;
mod martian;
mod nsps;
mod outbox;
mod pool;
mod pref64;
mod probe;
mod proof;
mod rewrite;
mod run;
mod saved;
mod session;
mod severed;
mod table;
mod tcp_state;
mod ticks;
mod translator;
mod transport;
mod v4_to_v6;
mod v6_to_v4;
mod verdict;
mod view;
pub mod wire;

pub use alone::{Alone, Binding, Filtering, InvalidAlone, InvalidBinding};
pub use answer::AnswerKind;
pub use config::{Closed, Config, Lifetimes, Limits, Links, TooShort};
pub use counters::{Answers, Counters, Drops, Fragments, Gauge, Traffic};
pub use eam::{AddressMap, AddressMaps, InvalidAddressMap};
pub use event::{EndReason, Event};
pub use frame::Frame;
pub use martian::reserved_v4;
pub use pool::{InvalidPool, PoolRange};
pub use pref64::{InvalidPref64, Pref64};
pub use run::{
    AloneSettings, Inbox, Keep, LogLimits, Observer, RunError, Settings, Syslog, run, run_alone,
};
pub use saved::{InvalidSaved, NotRestored, Saved};
pub use tcp_state::TcpState;
pub use translator::{Timer, Translator};
pub use transport::Transport;
pub use verdict::{DropReason, Verdict};
pub use view::Session;
