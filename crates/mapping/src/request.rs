//! The one language in which everything asks for a change.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Client, ExternalPort, Generation, GenerationId, Host, InternalPort, Mac, Mapping, MappingId,
    MappingNonce, Nsp, Prefix6, Protocol, Requester, Revision, ServerName,
};

/// A wish, decided by [`crate::Core::handle_request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A client found its address in use.
    Decline(DeclineRequest),
    /// Grant or prolong a lease.
    Lease(LeaseRequest),
    /// Open a port or prolong its mapping.
    Map(MapRequest),
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
    /// The gateway's own global WAN addresses.
    WanAddresses(Vec<Ipv6Addr>),
}

/// Opens a port (RFC 6887 §11, RFC 6886 §3.3, WANIPConnection:2 `AddPortMapping`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapRequest {
    /// Whose port.
    pub subject: Subject,
    /// Who asks.
    pub requester: Requester,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where the server listens.
    pub internal_port: InternalPort,
    /// Where remotes shall knock.
    pub external: External,
    /// How long; cut to the policy's `max_lease`. `None` is permanent: `max_lease` for a
    /// client, a static mapping for an admin.
    pub lifetime: Option<Duration>,
    /// What a PCP client will show to change the mapping.
    pub nonce: Option<MappingNonce>,
    /// What it is for.
    pub description: String,
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
    /// UPnP `AddAnyPortMapping`: this port, or another one if it leads to another internal port.
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
    /// Which.
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
}

/// A lease for a MAC (RFC 2131).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The client.
    pub mac: Mac,
    /// The address that was offered to it.
    pub addr: Ipv4Addr,
    /// How long.
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
        external_address: Option<Ipv6Addr>,
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
    #[error("the client has no lease")]
    NoLease,
    /// There is no such host, mapping or generation.
    #[error("there is no such thing")]
    NotFound,
    /// The policy does not open this port.
    #[error("the policy does not open this port")]
    PortDenied,
    /// The prefix cannot be used.
    #[error("the prefix cannot be used: {0}")]
    PrefixInvalid(crate::InvalidPrefix),
    /// The host holds as many mappings as it may.
    #[error("the host has as many mappings as it may")]
    QuotaExceeded,
    /// The mapping is static: only an admin changes it.
    #[error("the mapping is static")]
    StaticMapping,
    /// The disk, a follower or the program's end stood in the way; ask again.
    #[error("not now; ask again")]
    Unavailable,
}

/// Up to which revision each gate must be applied before an [`Outcome`] is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// For names.
    pub names: Option<Revision>,
    /// For packets.
    pub packets: Option<Revision>,
}
