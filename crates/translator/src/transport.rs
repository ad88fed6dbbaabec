//! The three kinds of sessions that RFC 6146 keeps apart.

use mapping::Protocol;

/// A kind of session; each has a BIB of its own (RFC 6146 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// ICMP echo; the identifier stands for the port.
    IcmpQuery,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::IcmpQuery, Self::Tcp, Self::Udp];

    /// Returns the name used in the API and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IcmpQuery => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl From<Protocol> for Transport {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}
