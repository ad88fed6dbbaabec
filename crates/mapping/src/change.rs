//! What happened, as facts, and which followers must have applied it before anybody is told.

use std::sync::Arc;

use crate::{Generation, Host, Mapping, Pinhole, ServerName, Waiting};

/// A fact of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A host got a lease.
    HostAppeared(Arc<Host>),
    /// A host's lease ended; its mappings closed before.
    HostGone(Arc<Host>),
    /// A host that is here has another name than `old`.
    HostNamed {
        /// The host with its new name.
        host: Arc<Host>,
        /// The name it had.
        old: ServerName,
    },
    /// A person changed what a host may do, or the time of that ended.
    HostPolicyChanged(Arc<Host>),
    /// A port was closed.
    MappingClosed {
        /// The mapping as it was.
        mapping: Arc<Mapping>,
        /// Why it closed.
        reason: CloseReason,
    },
    /// A person refused a port that was asked for.
    MappingDenied(Arc<Waiting>),
    /// A port was opened.
    MappingOpened(Arc<Mapping>),
    /// A mapping lives longer; packets pass as before.
    MappingRenewed(Arc<Mapping>),
    /// A person is asked about a port.
    MappingRequested(Arc<Waiting>),
    /// A pinhole was closed.
    PinholeClosed {
        /// The pinhole as it was.
        pinhole: Arc<Pinhole>,
        /// Why it closed.
        reason: CloseReason,
    },
    /// A pinhole was opened, or admits others.
    PinholeOpened(Arc<Pinhole>),
    /// A pinhole lives longer; packets pass as before.
    PinholeRenewed(Arc<Pinhole>),
    /// A prefix generation became valid or preferred, or got another end.
    PrefixChanged(Generation),
    /// A prefix generation ended.
    PrefixWithdrawn(Generation),
    /// The gateway's own WAN addresses changed.
    WanChanged,
}

/// Why a mapping closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// A person refused it.
    Denied,
    /// Its lifetime ended.
    Expired,
    /// Its host's lease ended.
    HostGone,
    /// Its owner or an admin asked.
    Removed,
    /// Another mapping took its place.
    Superseded,
}

impl CloseReason {
    /// Returns the name used in events and the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::HostGone => "host-gone",
            Self::Removed => "removed",
            Self::Superseded => "superseded",
        }
    }
}

/// What a follower acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// Names in DNS.
    Names,
    /// What the translator passes.
    Packets,
}

/// Which gates a batch touches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gates {
    /// The zone changed.
    pub names: bool,
    /// What passes changed.
    pub packets: bool,
}
