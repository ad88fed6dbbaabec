//! What goes to the store, and what comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{
    BootId, BootNumber, Counters, Generation, GenerationId, Host, Instant, InternalPort, Mac,
    Mapping, MappingId, Permission, Pinhole, PinholeId, Policy, Protocol, Requester, Revision,
    Waiting, Wall,
};

/// What one batch asks the store to keep; `None` deletes the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Hosts by MAC.
    pub hosts: BTreeMap<Mac, Option<Arc<Host>>>,
    /// Mappings by id.
    pub mappings: BTreeMap<MappingId, Option<Arc<Mapping>>>,
    /// Mappings of which only the end and the memo are new: what most renewals come to.
    pub renewals: BTreeMap<MappingId, Arc<Mapping>>,
    /// Generations by id.
    pub generations: BTreeMap<GenerationId, Option<Generation>>,
    /// What people decided about ports.
    pub permissions: BTreeMap<(Mac, Protocol, InternalPort), Option<Permission>>,
    /// Pinholes by id.
    pub pinholes: BTreeMap<PinholeId, Option<Arc<Pinhole>>>,
    /// Requests about which a person decides, by id.
    pub waiting: BTreeMap<MappingId, Option<Arc<Waiting>>>,
    /// The policy, where it is another one.
    pub policy: Option<Arc<Policy>>,
    /// New lines of the audit log.
    pub audit: Vec<AuditEntry>,
    /// The single row of counters, always.
    pub meta: Meta,
}

/// The single row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The newest revision.
    pub revision: Revision,
    /// The next mapping's id.
    pub next_mapping: MappingId,
    /// The next generation's id.
    pub next_generation: GenerationId,
    /// What others count by.
    pub counters: Counters,
    /// The clocks at this commit; replaces the anchor of the same boot.
    pub anchor: Anchor,
}

/// Both clocks of one boot at the last commit of that boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The boot, as numbered by us.
    pub boot: BootNumber,
    /// The boot, as named by the kernel.
    pub boot_id: BootId,
    /// The boot's clock.
    pub mono: Instant,
    /// The wall clock at the same moment.
    pub wall: Wall,
}

/// Everything the store holds, read at start and after an I/O error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Every host.
    pub hosts: Vec<Host>,
    /// Every mapping.
    pub mappings: Vec<Mapping>,
    /// Every generation.
    pub generations: Vec<Generation>,
    /// Every permission.
    pub permissions: Vec<Permission>,
    /// Every pinhole.
    pub pinholes: Vec<Pinhole>,
    /// Every request about which a person decides.
    pub waiting: Vec<Waiting>,
    /// The single row.
    pub meta: Meta,
    /// The last anchor of every boot that an expiry still refers to, and of the last one.
    pub anchors: Vec<Anchor>,
    /// The policy of the last run.
    pub policy: Policy,
    /// The key of the hash that chooses addresses.
    pub key: [u8; 16],
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was done.
    pub at: Wall,
    /// Who did it.
    pub requester: Requester,
    /// What was done.
    pub action: AuditAction,
    /// To what: a host's MAC, a mapping, a prefix; and the details.
    pub target: String,
}

/// What an audit line reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditAction {
    /// A host appeared.
    HostAppeared,
    /// A host's lease ended.
    HostGone,
    /// A host got a name.
    HostNamed,
    /// A person changed what a host may do, or the time of that ended.
    HostPolicy,
    /// A person let a port open.
    MappingApproved,
    /// A mapping was closed.
    MappingClosed,
    /// A person refused a port.
    MappingDenied,
    /// A mapping was opened.
    MappingOpened,
    /// A person is asked about a port.
    MappingRequested,
    /// What a person decided about a port was taken back, or its time ended.
    PermissionForgotten,
    /// A pinhole was closed.
    PinholeClosed,
    /// A pinhole was opened.
    PinholeOpened,
    /// The configuration has another policy.
    PolicyChanged,
    /// A prefix came or became preferred.
    PrefixChanged,
    /// A prefix ended.
    PrefixWithdrawn,
    /// Live sessions were ended.
    SessionsEnded,
}

impl AuditAction {
    /// Every action.
    pub const ALL: [Self; 16] = [
        Self::HostAppeared,
        Self::HostGone,
        Self::HostNamed,
        Self::HostPolicy,
        Self::MappingApproved,
        Self::MappingClosed,
        Self::MappingDenied,
        Self::MappingOpened,
        Self::MappingRequested,
        Self::PermissionForgotten,
        Self::PinholeClosed,
        Self::PinholeOpened,
        Self::PolicyChanged,
        Self::PrefixChanged,
        Self::PrefixWithdrawn,
        Self::SessionsEnded,
    ];

    /// Returns the action of a name that [`Self::as_str`] gave.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }

    /// Returns the name used in the store and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HostAppeared => "host.appeared",
            Self::HostGone => "host.gone",
            Self::HostNamed => "host.named",
            Self::HostPolicy => "host.policy",
            Self::MappingApproved => "mapping.approved",
            Self::MappingClosed => "mapping.closed",
            Self::MappingDenied => "mapping.denied",
            Self::MappingOpened => "mapping.opened",
            Self::MappingRequested => "mapping.requested",
            Self::PermissionForgotten => "permission.forgotten",
            Self::PinholeClosed => "pinhole.closed",
            Self::PinholeOpened => "pinhole.opened",
            Self::PolicyChanged => "policy.changed",
            Self::PrefixChanged => "prefix.changed",
            Self::PrefixWithdrawn => "prefix.withdrawn",
            Self::SessionsEnded => "session.ended",
        }
    }
}
