//! Ports and the mappings that open them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::{Expiry, Filters, Mac, Revision, Wall};

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// IANA number 6.
    Tcp,
    /// IANA number 17.
    Udp,
}

impl Protocol {
    /// Returns the IANA protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Returns the protocol of an IANA number, `None` if it is carried by no mapping.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    /// Returns the other one.
    #[must_use]
    pub const fn companion(self) -> Self {
        match self {
            Self::Tcp => Self::Udp,
            Self::Udp => Self::Tcp,
        }
    }

    /// Returns `tcp` or `udp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Returns the protocol of a name that [`Self::as_str`] gave.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp]
            .into_iter()
            .find(|protocol| protocol.as_str() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A port on which a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InternalPort(pub NonZeroU16);

/// A port at which remotes reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExternalPort(pub NonZeroU16);

macro_rules! port {
    ($name:ident) => {
        impl $name {
            /// Makes a port, `None` for zero.
            #[must_use]
            pub const fn new(port: u16) -> Option<Self> {
                match NonZeroU16::new(port) {
                    Some(port) => Some(Self(port)),
                    None => None,
                }
            }

            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> u16 {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

port!(InternalPort);
port!(ExternalPort);

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requester {
    /// The command line.
    Cli,
    /// The web dashboard.
    Dashboard,
    /// The DHCPv4 server.
    Dhcp,
    /// NAT-PMP (RFC 6886).
    NatPmp,
    /// PCP (RFC 6887).
    Pcp,
    /// The policy itself: a time ended that a person had set.
    Policy,
    /// UPnP IGD.
    Upnp,
    /// The WAN side.
    Wan,
}

impl Requester {
    /// Returns the name used in the API, in logs and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Dashboard => "dashboard",
            Self::Dhcp => "dhcp",
            Self::NatPmp => "nat-pmp",
            Self::Pcp => "pcp",
            Self::Policy => "policy",
            Self::Upnp => "upnp",
            Self::Wan => "wan",
        }
    }

    /// Returns the requester of a name that [`Self::as_str`] gave.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|requester| requester.as_str() == name)
    }

    /// Every requester.
    pub const ALL: [Self; 8] = [
        Self::Cli,
        Self::Dashboard,
        Self::Dhcp,
        Self::NatPmp,
        Self::Pcp,
        Self::Policy,
        Self::Upnp,
        Self::Wan,
    ];
}

/// The device that speaks to us on the LAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The source address of its request.
    pub addr: IpAddr,
    /// The source MAC of its frame, where the shell can tell; the only thing by which a client
    /// with an IPv6 address is known.
    pub mac: Option<Mac>,
}

/// The random number by which a PCP client shows that a mapping is its own (RFC 6887 §11.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MappingNonce(pub [u8; 12]);

impl fmt::Debug for MappingNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MappingNonce(..)")
    }
}

/// What the room that opened a mapping keeps with it, to find its client again after a restart;
/// the core does not read it.
pub type Memo = Arc<[u8]>;

/// Names a [`Mapping`] for people and the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MappingId(pub u64);

/// At which external addresses remotes reach a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// At both of the others.
    Both,
    /// At the WAN's IPv4 address, which all servers share.
    Ipv4,
    /// At `NSP::server`, which is the server's own.
    Ipv6,
}

impl Via {
    /// Tells whether remotes come through the translator.
    #[must_use]
    pub const fn has_ipv6(self) -> bool {
        matches!(self, Self::Both | Self::Ipv6)
    }

    /// Tells whether remotes come to the shared IPv4 address.
    #[must_use]
    pub const fn has_ipv4(self) -> bool {
        matches!(self, Self::Both | Self::Ipv4)
    }

    /// Returns the name used in the API and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }

    /// Returns the way of a name that [`Self::as_str`] gave.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Both, Self::Ipv4, Self::Ipv6]
            .into_iter()
            .find(|via| via.as_str() == name)
    }
}

/// A registered open port: remotes reach `server`:`internal_port` at `NSP::server`:`external_port`
/// or at the WAN's IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its number, which no later mapping gets again.
    pub id: MappingId,
    /// Whose port it is.
    pub host: Mac,
    /// The address of the host.
    pub server: Ipv4Addr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where the server listens.
    pub internal_port: InternalPort,
    /// The port at which remotes reach it.
    pub external_port: ExternalPort,
    /// At which addresses.
    pub via: Via,
    /// Whether it was made by PEER (RFC 6887 §12): for what the server sends to the one remote of
    /// its filter, and for the answers.
    pub peer: bool,
    /// Whom it admits.
    pub filters: Filters,
    /// Who opened it.
    pub requester: Requester,
    /// What a PCP client must show to change it.
    pub nonce: Option<MappingNonce>,
    /// What the client says it is for; untrusted text of at most 1016 bytes.
    pub description: String,
    /// What its requester keeps with it.
    pub memo: Option<Memo>,
    /// When it closes by itself; `None` for a static mapping, which only an admin opens and closes.
    pub expires: Option<Expiry>,
    /// When it was opened.
    pub opened_at: Wall,
    /// The revision since which packets pass this way; not stored.
    pub changed_in: Revision,
}
