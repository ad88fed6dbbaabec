//! Ranges of pool addresses as people write them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::martian::RESERVED_V4;

/// A range of IPv4 addresses that is routed to the translator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolRange {
    network: Ipv4Addr,
    len: u8,
}

impl PoolRange {
    /// Makes a range from its network address and prefix length.
    ///
    /// # Errors
    /// When `len` is not from 1 to 32, a bit beyond it is set, or no host can have such an address.
    pub fn new(network: Ipv4Addr, len: u8) -> Result<Self, InvalidPool> {
        if !(1..=32).contains(&len) {
            return Err(InvalidPool::Length);
        }
        let range = Self { network, len };
        if network.to_bits() & !range.mask() != 0 {
            return Err(InvalidPool::HostBits);
        }
        for (network, len, what) in RESERVED_V4 {
            if range.overlaps(Self { network, len }) {
                return Err(InvalidPool::Reserved(what));
            }
        }
        Ok(range)
    }

    /// Returns the network address.
    #[must_use]
    pub const fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Returns the prefix length.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.len
    }

    /// Tells whether `addr` lies in the range.
    #[must_use]
    pub const fn contains(self, addr: Ipv4Addr) -> bool {
        addr.to_bits() & self.mask() == self.network.to_bits()
    }

    /// Tells whether an address lies in both ranges.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Tells whether `addr` is one of [`Self::hosts`].
    pub(crate) fn has_host(self, addr: Ipv4Addr) -> bool {
        let (first, last) = self.host_bounds();
        (first..=last).contains(&addr.to_bits())
    }

    /// Iterates over the addresses behind which remotes may appear: every one of a range of one or
    /// two (RFC 3021), else all but the first and the last, which would be the network and the
    /// broadcast address where the range is at either end of a subnet.
    pub fn hosts(self) -> impl DoubleEndedIterator<Item = Ipv4Addr> {
        let (first, last) = self.host_bounds();
        (first..=last).map(Ipv4Addr::from_bits)
    }

    /// Returns the first and the last of [`Self::hosts`].
    pub(super) const fn host_bounds(self) -> (u32, u32) {
        let (first, last) = (
            self.network.to_bits(),
            self.network.to_bits() | !self.mask(),
        );
        if self.len >= 31 {
            (first, last)
        } else {
            (first + 1, last - 1)
        }
    }

    const fn mask(self) -> u32 {
        u32::MAX << (32 - self.len)
    }
}

impl FromStr for PoolRange {
    type Err = InvalidPool;

    /// Reads a network such as `192.0.2.0/28`; an address alone is a network of one.
    fn from_str(text: &str) -> Result<Self, InvalidPool> {
        let (network, len) = text.split_once('/').unwrap_or((text, "32"));
        let network = network.parse().map_err(|_| InvalidPool::Text)?;
        let len = len.parse().map_err(|_| InvalidPool::Text)?;
        Self::new(network, len)
    }
}

impl fmt::Display for PoolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.len)
    }
}

/// Why a range cannot be the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPool {
    /// A bit beyond the length is set.
    #[error("bits beyond the prefix length of the pool are set")]
    HostBits,
    /// The length does not fit.
    #[error("the prefix length of the pool must be from 1 to 32")]
    Length,
    /// It overlaps addresses that no host can have.
    #[error("no server answers to {0} addresses")]
    Reserved(&'static str),
    /// The text is something else.
    #[error("not an IPv4 network such as 192.168.64.192/26")]
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_is_an_address_or_a_range() {
        let pool = |text: &str| text.parse::<PoolRange>().unwrap();
        assert_eq!(pool("192.0.2.1").prefix_len(), 32);
        assert_eq!(pool("192.0.2.0/24").prefix_len(), 24);
        for text in [
            "127.0.0.1",
            "224.0.0.0/4",
            "192.0.2.1/24",
            "192.0.2.0/33",
            "2001:db8::1",
            "",
        ] {
            assert!(text.parse::<PoolRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_are_neither_network_nor_broadcast() {
        let hosts = |len| {
            let range = PoolRange::new([192, 168, 64, 192].into(), len).unwrap();
            let hosts: Vec<_> = range.hosts().map(|addr| addr.octets()[3]).collect();
            (hosts[0], hosts[hosts.len() - 1], hosts.len())
        };
        assert_eq!(hosts(26), (193, 254, 62));
        assert_eq!(hosts(30), (193, 194, 2));
        assert_eq!(hosts(31), (192, 193, 2));
        assert_eq!(hosts(32), (192, 192, 1));
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        let range = |len| PoolRange::new([192, 168, 64, 192].into(), len);
        assert_eq!(range(0), Err(InvalidPool::Length));
        assert_eq!(range(33), Err(InvalidPool::Length));
        assert_eq!(range(25), Err(InvalidPool::HostBits));
        for (network, len, what) in [
            ([0, 0, 0, 0], 1, "unspecified"),
            ([127, 0, 0, 1], 32, "loopback"),
            ([169, 254, 0, 0], 16, "link-local"),
            ([224, 0, 0, 0], 4, "multicast"),
            ([239, 1, 2, 3], 32, "multicast"),
            ([255, 255, 255, 255], 32, "reserved"),
        ] {
            let range = PoolRange::new(network.into(), len);
            assert_eq!(range, Err(InvalidPool::Reserved(what)));
        }
    }
}
