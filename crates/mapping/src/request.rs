//! The one language in which everything asks for a change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Access, Carriers, Client, ExternalPort, FilterChange, Generation, GenerationId, Host,
    InternalPort, InvalidPrefix, Mac, Mapping, MappingId, MappingNonce, Memo, Nsp, Pinhole,
    PinholeId, PinholeTuple, PortClass, Prefix6, Protocol, Requester, Revision, ServerName, Via,
};

/// A wish, decided by [`crate::Core::handle_request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What the followers of packets carry besides the translator's.
    Carriers(Carriers),
    /// Close a pinhole.
    ClosePinhole(ClosePinholeRequest),
    /// A person decides about a port.
    Decide(DecideRequest),
    /// A client found its address in use.
    Decline(DeclineRequest),
    /// Take back what a person decided about a port; it is asked about again.
    ForgetPermission {
        /// The host whose port it is.
        host: Mac,
        /// The transport protocol.
        protocol: Protocol,
        /// Where the server listens.
        internal_port: InternalPort,
        /// Who does it.
        requester: Requester,
    },
    /// A person decides about a host.
    HostPolicy(HostPolicyRequest),
    /// Grant or prolong a lease.
    Lease(LeaseRequest),
    /// Open a port or prolong its mapping.
    Map(MapRequest),
    /// Open contiguous ports or prolong their mappings (RFC 7753).
    MapSet(MapSetRequest),
    /// Open a port of an IPv6 host or prolong its pinhole.
    Pinhole(PinholeRequest),
    /// Make a generation the preferred one; sent by the writer itself once the translator
    /// accepts the generation (RFC 9526 §12: make before break).
    Prefer(GenerationId),
    /// The provider delegated a prefix.
    Prefix(PrefixRequest),
    /// A client gives its lease back.
    Release(ReleaseRequest),
    /// Give a host another name.
    Rename {
        /// Which host.
        host: Mac,
        /// Its new name.
        name: ServerName,
    },
    /// Write down in the audit log that somebody ended live sessions; they have ended already.
    SessionsEnded {
        /// Who did it.
        requester: Requester,
        /// Which sessions.
        target: String,
    },
    /// Close ports.
    Unmap(UnmapRequest),
    /// Give a pinhole another lifetime.
    UpdatePinhole(UpdatePinholeRequest),
    /// The gateway's own global WAN addresses.
    WanAddresses(Vec<Ipv6Addr>),
}

/// Opens a port (RFC 6887 §11, RFC 6886 §3.3, WANIPConnection:2 `AddPortMapping`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapRequest {
    /// The host whose port is to open, and by what right.
    pub subject: Subject,
    /// Who asks.
    pub requester: Requester,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where the server listens.
    pub internal_port: InternalPort,
    /// Which external port, and how much the client insists on it.
    pub external: External,
    /// How long; bounded by the policy for a client. `None` is
    /// permanent: `max_lease` for a client, a static mapping for an admin.
    pub lifetime: Option<Duration>,
    /// What a PCP client will show to change the mapping.
    pub nonce: Option<MappingNonce>,
    /// At which external addresses. [`Via::Both`] means whatever is carried.
    pub via: Via,
    /// Whether it is for one remote to whom the server speaks first (RFC 6887 §12).
    pub peer: bool,
    /// How to change the remotes that it admits.
    pub filters: FilterChange,
    /// What it is for; `None` says nothing new, an empty text takes away what was said.
    pub description: Option<String>,
    /// What the requester keeps with the mapping.
    pub memo: Option<Memo>,
}

/// Opens contiguous ports (RFC 7753).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapSetRequest {
    /// The first of them; the internal ports follow each other, and so do the external ones.
    pub first: MapRequest,
    /// How many at most.
    pub size: NonZeroU16,
    /// Whether the first external port must be even or odd as the internal one is.
    pub parity: bool,
}

/// Opens a port of a host that has an IPv6 address of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinholeRequest {
    /// The host whose port is to open, and by what right.
    pub subject: Subject,
    /// Who asks.
    pub requester: Requester,
    /// What tells the pinhole from others; the address is one of the host's own.
    pub tuple: PinholeTuple,
    /// How to change the remotes that it admits.
    pub filters: FilterChange,
    /// How long; bounded by the policy.
    pub lifetime: Duration,
    /// What a PCP client will show to change it.
    pub nonce: Option<MappingNonce>,
    /// What it is for; `None` says nothing new, an empty text takes away what was said.
    pub description: Option<String>,
}

/// Gives a pinhole another lifetime (WANIPv6FirewallControl:1 `UpdatePinhole`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdatePinholeRequest {
    /// Whose pinhole.
    pub subject: Subject,
    /// Who asks.
    pub requester: Requester,
    /// The pinhole.
    pub id: PinholeId,
    /// How long from now.
    pub lifetime: Duration,
}

/// Closes a pinhole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosePinholeRequest {
    /// Whose pinhole.
    pub subject: Subject,
    /// Who asks.
    pub requester: Requester,
    /// The pinhole to close.
    pub target: PinholeTarget,
}

/// Which pinhole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinholeTarget {
    /// By its name; it must exist.
    Id(PinholeId),
    /// PCP: granted also if there is none (RFC 6887 §15.1).
    Tuple(PinholeTuple, Option<MappingNonce>),
}

/// A person's answer about a port that waits, or that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecideRequest {
    /// The number of the waiting request or of the open mapping.
    pub id: MappingId,
    /// Who decides.
    pub requester: Requester,
    /// What was decided.
    pub decision: Decision,
}

/// What a person decides about a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It opens at once, and may for so long; `None` is without an end.
    Allow(Option<Duration>),
    /// It stays closed, or closes, and is not asked about again.
    Deny,
}

/// What a person decides about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPolicyRequest {
    /// The host.
    pub host: Mac,
    /// Who decides.
    pub requester: Requester,
    /// What it may do; `None` for what the policy says.
    pub access: Option<Access>,
    /// The class of ports that it opens by itself, if not the policy's.
    pub ports: Option<PortClass>,
    /// How many mappings it may hold, if not as many as the policy says.
    pub quota: Option<u32>,
    /// For how long; `None` is without an end.
    pub lasts: Option<Duration>,
}

/// For whom a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// By an admin, for a host.
    Admin(Mac),
    /// By a device, for itself.
    Client(Client),
}

/// Which external port, and which of the two ports identifies the mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum External {
    /// UPnP `AddAnyPortMapping`: this port, or another one if it is another's; an own mapping
    /// that holds it is overwritten (WANIPConnection:2 §2.5.17).
    Any(ExternalPort),
    /// UPnP `AddPortMapping`: this port; an own mapping that holds it is overwritten.
    Exact(ExternalPort),
    /// PCP with `PREFER_FAILURE`: this port or none (RFC 6887 §13.2).
    Required(ExternalPort),
    /// PCP and NAT-PMP: the internal port identifies the mapping; the suggestion is followed
    /// if the mapping is new and the port is free.
    Suggested(Option<ExternalPort>),
}

/// Closes ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnmapRequest {
    /// Whose ports.
    pub subject: Subject,
    /// Who asks.
    pub requester: Requester,
    /// The mappings to close.
    pub target: UnmapTarget,
}

/// Which mappings to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmapTarget {
    /// Every dynamic mapping of a protocol (NAT-PMP's delete-all, RFC 6886 §3.4).
    All(Protocol),
    /// UPnP `DeletePortMapping`; it must exist.
    External(Protocol, ExternalPort),
    /// One mapping by its id; it must exist.
    Id(MappingId),
    /// PCP and NAT-PMP; granted also if there is none (RFC 6887 §15.1).
    Internal(Protocol, InternalPort, Option<MappingNonce>),
    /// PCP with `PORT_SET`: so many internal ports from the first on (RFC 7753 §4.3).
    InternalSet(Protocol, InternalPort, NonZeroU16, Option<MappingNonce>),
    /// UPnP `DeletePortMappingRange`: the external ports from the first to the last, all or none
    /// of them; one must exist.
    Range(Protocol, ExternalPort, ExternalPort),
}

/// A lease for a MAC (RFC 2131).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The client.
    pub mac: Mac,
    /// The address that was offered to it.
    pub addr: Ipv4Addr,
    /// How long the lease lasts from now on.
    pub lifetime: Duration,
    /// What it calls itself.
    pub declared_name: Option<String>,
}

/// DHCPRELEASE (RFC 2131 §4.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseRequest {
    /// The client.
    pub mac: Mac,
    /// The address it gives back.
    pub addr: Ipv4Addr,
}

/// DHCPDECLINE (RFC 2131 §4.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclineRequest {
    /// The client.
    pub mac: Mac,
    /// The address that somebody else uses.
    pub addr: Ipv4Addr,
}

/// A delegated prefix becomes the newest generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixRequest {
    /// What was delegated.
    pub delegated: Prefix6,
    /// The NSP, by default [`Prefix6::nsp`] of the delegation.
    pub nsp: Option<Nsp>,
    /// How long the generations before stay valid.
    pub old_valid: Duration,
}

impl PrefixRequest {
    /// Returns the NSP that the servers appear in.
    ///
    /// # Errors
    /// When the delegation gives none that remotes can reach, see [`Prefix6::nsp`], or when the
    /// NSP lies elsewhere.
    pub fn usable_nsp(&self) -> Result<Nsp, InvalidPrefix> {
        let nsp = self.nsp.map_or_else(|| self.delegated.nsp(), Ok)?;
        let prefix = nsp.prefix();
        if self.delegated.contains(prefix.addr()) && self.delegated.len() <= prefix.len() {
            Ok(nsp)
        } else {
            Err(InvalidPrefix::Outside)
        }
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is so.
    Granted(Grant),
    /// It is not so, and nothing changed.
    Refused(Refusal),
}

/// What was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Nothing more to tell.
    Done,
    /// A lease; `expires` of the host's lease says until when.
    Leased(Arc<Host>),
    /// A port is open.
    Mapped {
        /// The mapping.
        mapping: Arc<Mapping>,
        /// What is left of its life; `None` for a static mapping.
        lifetime: Option<Duration>,
        /// Where remotes reach the server, absent while no prefix is delegated.
        external_address: Option<IpAddr>,
    },
    /// Contiguous ports are open.
    MappedSet {
        /// The first of them.
        first: Arc<Mapping>,
        /// How many ports are open, at most as many as were asked for.
        size: NonZeroU16,
        /// What is left of the life of the first to close.
        lifetime: Option<Duration>,
        /// Where remotes reach the server, absent while no prefix is delegated.
        external_address: Option<IpAddr>,
    },
    /// A port of an IPv6 host is open.
    Pinholed {
        /// The pinhole.
        pinhole: Arc<Pinhole>,
        /// What is left of its life.
        lifetime: Duration,
    },
    /// A generation is known.
    Prefixed(Generation),
    /// So many mappings were closed.
    Unmapped(usize),
}

/// Why a request was refused; a value, not an error. Every room turns it into its own code with
/// one exhaustive match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// DHCP: the address belongs to another host or cannot be leased.
    #[error("the address is not free for this client")]
    AddressNotFree,
    /// The policy opens the internal port, but not at this external one.
    #[error("the policy does not open this external port")]
    ExternalPortDenied,
    /// Every external port that could serve is taken.
    #[error("the external port is taken")]
    ExternalPortTaken,
    /// The mapping exists, and what the client shows does not fit it (RFC 6887 §11.3).
    #[error("the mapping belongs to another client")]
    ForeignMapping {
        /// What is left of its life.
        remaining: Option<Duration>,
    },
    /// The name is taken or reserved.
    #[error("the name is taken or reserved")]
    NameNotFree,
    /// No prefix is delegated, so there is no external address.
    #[error("no prefix is delegated")]
    NoPrefix,
    /// The client has no active lease at its source address.
    #[error("the host has no lease")]
    NoLease,
    /// Nothing carries such packets.
    #[error("this gateway carries no such packets: an IPv4 forward, or a pinhole to an IPv6 host")]
    NotCarried,
    /// There is no such host, mapping or generation.
    #[error("not found")]
    NotFound,
    /// The mapping is for what the server sends: it ends by itself (RFC 6887 §15.1).
    #[error("the mapping is for what the server sends, and ends by itself")]
    OutboundMapping,
    /// The policy does not open this internal port, at whatever external one.
    #[error("the policy does not open this port")]
    PortDenied,
    /// The prefix cannot be used.
    #[error("the prefix cannot be used: {0}")]
    PrefixInvalid(InvalidPrefix),
    /// The host holds as many mappings as it may.
    #[error("the host has as many mappings as it may")]
    QuotaExceeded,
    /// The mapping is static: only an admin changes it.
    #[error("the mapping is static: only an admin may change it")]
    StaticMapping,
    /// A mapping cannot have so many filters, or none of this kind.
    #[error("the mapping cannot have these filters")]
    TooManyFilters,
    /// The disk, a follower or the program's end stood in the way; ask again.
    #[error("unavailable at the moment; try again")]
    Unavailable,
    /// A person is asked; ask again. This refusal has changed something: it is written down.
    #[error("it waits for a person to approve it")]
    Waiting,
}

/// Up to which revision each gate must be applied before an [`Outcome`] is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// For names.
    pub names: Option<Revision>,
    /// For packets.
    pub packets: Option<Revision>,
}

impl Waits {
    /// Returns the wait for what names say at `revision`.
    #[must_use]
    pub const fn for_names(revision: Revision) -> Self {
        Self {
            names: Some(revision),
            packets: None,
        }
    }

    /// Returns the wait for what passes at `revision`.
    #[must_use]
    pub const fn for_packets(revision: Revision) -> Self {
        Self {
            names: None,
            packets: Some(revision),
        }
    }
}
