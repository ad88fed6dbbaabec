//! What a translator is made with.

use std::time::Duration;

use crate::pool::PoolRange;
use crate::session::Lifetime;

/// What a translator is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The addresses behind which remotes appear.
    pub pool: PoolRange,
    /// How long sessions live.
    pub lifetimes: Lifetimes,
    /// How many sessions there may be.
    pub max_sessions: u32,
    /// The largest IPv6 packet that the WAN carries.
    pub mtu: u16,
}

impl Config {
    /// Returns the defaults for a pool.
    #[must_use]
    pub fn new(pool: PoolRange) -> Self {
        Self {
            pool,
            lifetimes: Lifetimes::default(),
            max_sessions: MAX_SESSIONS,
            mtu: ETHERNET_MTU,
        }
    }
}

/// How long sessions live without a packet. Each is at least its RFC's floor, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    icmp_query: Duration,
    tcp_established: Duration,
    tcp_transitory: Duration,
    udp: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            icmp_query: ICMP_QUERY,
            tcp_established: TCP_ESTABLISHED,
            tcp_transitory: TCP_TRANSITORY,
            udp: UDP,
        }
    }
}

impl Lifetimes {
    pub(crate) fn of(&self, lifetime: Lifetime) -> u32 {
        let lifetime = match lifetime {
            Lifetime::IcmpQuery => self.icmp_query,
            Lifetime::TcpEstablished => self.tcp_established,
            Lifetime::TcpClosing | Lifetime::TcpOpening | Lifetime::TcpTransitory => {
                self.tcp_transitory
            }
            Lifetime::Udp | Lifetime::UdpOpening => self.udp,
        };
        u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
    }
}

/// A home's worth; about 10 MB when all are in use.
const MAX_SESSIONS: u32 = 32_768;

/// RFC 894.
const ETHERNET_MTU: u16 = 1500;

/// RFC 6146 §4: `ICMP_DEFAULT`; RFC 5508 REQ-2 allows no less.
const ICMP_QUERY: Duration = Duration::from_secs(60);

/// RFC 5382 REQ-5 allows no less for an established connection: `TCP_EST` of RFC 6146 §4, 2 hours,
/// and `TCP_TRANS` for the answer to a probe.
const TCP_ESTABLISHED: Duration = Duration::from_secs(2 * 60 * 60 + 4 * 60);

/// RFC 6146 §4: `TCP_TRANS`; RFC 5382 REQ-5 allows no less.
const TCP_TRANSITORY: Duration = Duration::from_secs(4 * 60);

/// RFC 6146 §4: `UDP_DEFAULT`; RFC 4787 REQ-5 allows no less than two minutes.
const UDP: Duration = Duration::from_secs(5 * 60);
