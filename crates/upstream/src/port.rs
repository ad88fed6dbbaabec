//! A port that is to be open at the upstream gateway.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mapping::{ExternalPort, Filters, Instant, MappingNonce, Protocol, RemoteFilter};

use crate::backoff::Backoff;

/// Which port: where it leads to from the upstream gateway's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// The server's address in our prefix, or our own IPv4 address.
    pub addr: IpAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port at that address.
    pub port: ExternalPort,
}

/// The state of a port at the upstream gateway, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    /// It was asked for, and there is no answer yet.
    Asking,
    /// It closed here, and the upstream gateway is being told.
    Closing,
    /// The upstream gateway has opened it.
    Open(Granted),
    /// The upstream gateway does not open it; not asked again before `until`.
    Refused {
        /// The gateway's reason.
        why: Refused,
        /// When it is asked again.
        until: Instant,
    },
    /// It is not asked for yet: there is no gateway, or others come first.
    Waiting,
}

impl PortState {
    /// Returns the name used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Closing => "closing",
            Self::Open(_) => "open",
            Self::Refused { .. } => "refused",
            Self::Waiting => "waiting",
        }
    }
}

/// What the upstream gateway gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Where remotes knock; not every protocol tells the address.
    pub addr: Option<IpAddr>,
    /// The port at which remotes knock.
    pub port: u16,
    /// When it was given.
    pub at: Instant,
    /// For how long; never longer than a day.
    pub lifetime: Duration,
}

impl Granted {
    /// When it ends if it is not renewed.
    #[must_use]
    pub fn expires(&self) -> Instant {
        self.at + self.lifetime
    }
}

/// Why the upstream gateway does not open a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A result code of NAT-PMP.
    NatPmp(natpmp::wire::ResultCode),
    /// A result code of PCP.
    Pcp(pcp::wire::ResultCode),
    /// An error of UPnP.
    Upnp(&'static str),
}

impl Refused {
    /// Returns the name used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NatPmp(code) => code.as_str(),
            Self::Pcp(code) => code.as_str(),
            Self::Upnp(why) => why,
        }
    }
}

/// A port and where it stands.
///
/// ```text
///            send           SUCCESS
///   Asking ───────► Asking ─────────► Open ── expired, epoch lost ──► Asking
///     ▲                │ error         │ error
///     │ its lifetime   ▼               ▼
///     └──────────── Refused ◄──────────┘        any ── closed here ──► Closing ── answer ──► gone
/// ```
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) server: Ipv4Addr,
    pub(crate) filters: Filters,
    pub(crate) nonce: MappingNonce,
    pub(crate) phase: Phase,
    /// What the last request says of remotes, and what the last one that was granted said.
    pub(crate) telling: Remotes,
    pub(crate) told: Remotes,
    /// The gateway does not take that many filters.
    pub(crate) unfiltered: bool,
    /// What was given last: suggested again, and deleted if it may still be there.
    pub(crate) granted: Option<Granted>,
    pub(crate) due: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    Asking {
        backoff: Option<Backoff>,
        first: Instant,
    },
    Closing {
        backoff: Option<Backoff>,
        first: Instant,
    },
    Open {
        renewals: u32,
    },
    Refused {
        why: Refused,
        until: Instant,
    },
}

/// What a request says of the remotes that may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remotes {
    /// Those of the filters, and no others.
    Some,
    /// Everybody again.
    All,
    /// Nothing.
    Unsaid,
}

impl Phase {
    /// Not asked yet.
    pub(crate) const FRESH: Self = Self::Asking {
        backoff: None,
        first: Instant::from_nanos(0),
    };

    /// Not told yet.
    pub(crate) const CLOSING: Self = Self::Closing {
        backoff: None,
        first: Instant::from_nanos(0),
    };
}

impl Port {
    pub(crate) const fn new(server: Ipv4Addr, filters: Filters, nonce: MappingNonce) -> Self {
        Self {
            server,
            filters,
            nonce,
            phase: Phase::FRESH,
            telling: Remotes::Unsaid,
            told: Remotes::Unsaid,
            unfiltered: false,
            granted: None,
            due: None,
        }
    }

    /// What the upstream gateway should give again.
    pub(crate) fn suggestion(&self, key: PortKey) -> (Option<IpAddr>, u16) {
        self.granted.map_or((None, key.port.get()), |granted| {
            (granted.addr, granted.port)
        })
    }

    /// The filters of the family of its address (RFC 6887 §13.3).
    pub(crate) fn filters_of(&self, key: PortKey) -> impl Iterator<Item = &RemoteFilter> {
        let own = move |filter: &&RemoteFilter| filter.is_ipv4() == key.addr.is_ipv4();
        self.filters.iter().filter(own)
    }

    pub(crate) const fn state(&self) -> PortState {
        match (self.phase, self.granted) {
            (Phase::Open { .. }, Some(granted)) => PortState::Open(granted),
            (Phase::Open { .. }, None) | (Phase::Asking { backoff: None, .. }, _) => {
                PortState::Waiting
            }
            (Phase::Asking { .. }, _) => PortState::Asking,
            (Phase::Closing { .. }, _) => PortState::Closing,
            (Phase::Refused { why, until }, _) => PortState::Refused { why, until },
        }
    }
}

/// RFC 6887 §15: an absurdly long lifetime is treated as a sane one, such as 24 hours.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_hours(24);

/// The longest that we ask for; RFC 6886 §3.3 recommends it.
pub(crate) const LIFETIME: Duration = Duration::from_hours(2);
