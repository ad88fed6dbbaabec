//! What becomes of a packet.

use crate::wire::{Field, Malformed};

/// What becomes of a packet. Nothing is dropped without a reason, and each reason is counted.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Throw it away.
    Drop(DropReason),
    /// Send what the frame holds now.
    Forward,
    /// It waits, or leaves in pieces by [`Translator::poll_transmit`].
    ///
    /// [`Translator::poll_transmit`]: crate::Translator::poll_transmit
    Hold,
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet is not forwarded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of the variants.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the name used in the API and in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// From a remote to a port that is not open, or to an address that is no server.
    Closed = "closed",
    /// From a remote that no filter of the open port admits (RFC 6887 §13.3).
    Filtered = "filtered",
    /// A part of a datagram that came already.
    FragmentDuplicate = "fragment_duplicate",
    /// A part of a datagram that had to make room for others.
    FragmentEvicted = "fragment_evicted",
    /// A part of a datagram in IPv6 with further extension headers behind its Fragment Header
    /// (RFC 7915 §5.1.1).
    FragmentExtension = "fragment_extension",
    /// A part of a datagram whose parts contradict each other in length.
    FragmentInconsistent = "fragment_inconsistent",
    /// A part of a datagram of which two parts overlap (RFC 5722).
    FragmentOverlap = "fragment_overlap",
    /// A part of a datagram whose other parts did not come in time.
    FragmentTimeout = "fragment_timeout",
    /// A part of a datagram whose first part does not hold all headers (RFC 7112, RFC 1858).
    FragmentTiny = "fragment_tiny",
    /// From a remote to `NSP::T`, a pool address (`DEVIATION N6-13`).
    Hairpin = "hairpin",
    /// Its time to live or hop limit is zero.
    HopLimit = "hop_limit",
    /// An ICMP error whose checksum is wrong.
    IcmpChecksum = "icmp_checksum",
    /// An ICMP error about a packet that belongs to no session (RFC 5508 REQ-4, REQ-5).
    IcmpError = "icmp_error",
    /// An ICMP error about an ICMP error (RFC 6146 §3.4).
    IcmpNested = "icmp_nested",
    /// An ICMP message that has no translation (RFC 7915 §4.2, §5.2).
    IcmpUnsupported = "icmp_unsupported",
    /// A source that nobody may have.
    IllegalSource = "illegal_source",
    /// A malformed ICMP message.
    MalformedIcmp = "malformed_icmp",
    /// A malformed IPv4 header.
    MalformedIpv4 = "malformed_ipv4",
    /// A malformed IPv6 header.
    MalformedIpv6 = "malformed_ipv6",
    /// A malformed offload header, or one that describes another packet.
    MalformedOffload = "malformed_offload",
    /// A malformed TCP header.
    MalformedTcp = "malformed_tcp",
    /// A malformed UDP header.
    MalformedUdp = "malformed_udp",
    /// From the LAN to the pool, without a session of this server.
    NoSession = "no_session",
    /// An address that is not global behind the well-known prefix (RFC 6052 §3.1).
    NotGlobal = "not_global",
    /// An address that no map and no prefix translates.
    NotMapped = "not_mapped",
    /// To an address that is neither in a valid NSP nor in the pool.
    NotOurs = "not_ours",
    /// A TCP segment from a remote that belongs to no connection and opens none.
    NotSyn = "not_syn",
    /// No pool port is free.
    PoolExhausted = "pool_exhausted",
    /// The /64 of the remote has as many sessions as it may.
    RemoteFull = "remote_full",
    /// The /64 of the remote begins sessions faster than it may.
    RemoteRate = "remote_rate",
    /// The server has as many sessions as it may.
    ServerFull = "server_full",
    /// The server is given sessions faster than it may.
    ServerRate = "server_rate",
    /// No room for another session.
    SessionsFull = "sessions_full",
    /// A source address inside an NSP (RFC 6146 §3.5).
    SourceInPref64 = "source_in_pref64",
    /// A source route that has not ended (RFC 7915 §4.1, §5.1).
    SourceRouted = "source_routed",
    /// Its translation does not fit the link.
    TooBig = "too_big",
    /// Another session of the same remote has the same IPv4 5-tuple.
    TupleInUse = "tuple_in_use",
    /// A UDP datagram in IPv6 without a checksum (RFC 8200 §8.1).
    UdpWithoutChecksum = "udp_without_checksum",
    /// A TCP segment from an open port of a server that belongs to no connection.
    UnknownConnection = "unknown_connection",
    /// A TCP SYN from IPv4 that nobody in IPv6 has asked for (RFC 6146 §3.5.2.2).
    Unsolicited = "unsolicited",
    /// A transport protocol that is not translated.
    UnsupportedProtocol = "unsupported_protocol",
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed.field {
            Field::IcmpHeader => Self::MalformedIcmp,
            Field::Ipv4Checksum
            | Field::Ipv4HeaderLength
            | Field::Ipv4Options
            | Field::Ipv4TotalLength
            | Field::IpVersion => Self::MalformedIpv4,
            Field::Ipv6ExtensionHeader | Field::Ipv6Header | Field::Ipv6PayloadLength => {
                Self::MalformedIpv6
            }
            Field::TcpDataOffset | Field::TcpHeader => Self::MalformedTcp,
            Field::UdpHeader | Field::UdpLength => Self::MalformedUdp,
            Field::VnetHdr => Self::MalformedOffload,
        }
    }
}
