//! What a person decided about a device and its ports.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    Expiry, External, Filters, InternalPort, Mac, MappingId, MappingNonce, PortClass, Protocol,
    RemoteFilter, Requester, Via, Wall,
};

/// What a device may do outside what its class of ports opens by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// It opens the ports of its class; no other one.
    Allow,
    /// It opens the ports of its class; a person decides about any other one.
    #[default]
    Ask,
    /// It opens nothing.
    Deny,
}

impl Access {
    /// Every access.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Ask, Self::Deny];

    /// Returns the name used in the configuration, the API and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }

    /// Returns the access of a name that [`Self::as_str`] gave.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|access| access.as_str() == name)
    }
}

/// What holds for one host instead of the [`crate::Policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPolicy {
    /// What it may do.
    pub access: Access,
    /// The class of ports that it opens by itself, if not the policy's.
    pub ports: Option<PortClass>,
    /// How many mappings it may hold, if not as many as the policy says.
    pub quota: Option<u32>,
    /// When the policy holds for it again; `None` is never.
    pub until: Option<Expiry>,
}

/// A person's standing answer about one port of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// The host whose port it is.
    pub host: Mac,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where the server listens.
    pub internal_port: InternalPort,
    /// Whether it may open.
    pub allow: bool,
    /// When it must be asked about again; `None` is never.
    pub until: Option<Expiry>,
    /// When it was given.
    pub decided_at: Wall,
}

impl Permission {
    /// Returns what it is about.
    #[must_use]
    pub const fn key(&self) -> (Mac, Protocol, InternalPort) {
        (self.host, self.protocol, self.internal_port)
    }
}

/// What tells the pinhole that is asked for from others, besides its protocol and its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedPinhole {
    /// The address of the host.
    pub addr: Ipv6Addr,
    /// The single remote of UPnP.
    pub remote: Option<RemoteFilter>,
}

/// A request about which a person decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its name, which is that of the mapping if it opens.
    pub id: MappingId,
    /// The host whose port it is.
    pub host: Mac,
    /// The address of the host.
    pub server: Ipv4Addr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where the server listens.
    pub internal_port: InternalPort,
    /// The external port that it asks for.
    pub external: External,
    /// At which addresses.
    pub via: Via,
    /// The pinhole that is asked for; `None` for a mapping.
    pub pinhole: Option<AskedPinhole>,
    /// The remotes that it is to admit.
    pub filters: Filters,
    /// By which protocol it came last.
    pub requester: Requester,
    /// What a PCP client showed.
    pub nonce: Option<MappingNonce>,
    /// What the client says it is for; untrusted text of at most 1016 bytes.
    pub description: String,
    /// When it was first asked for.
    pub first_asked: Wall,
    /// When it was last asked for, to the minute.
    pub last_asked: Wall,
    /// When it is forgotten.
    pub expires: Expiry,
}
