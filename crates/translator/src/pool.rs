//! The IPv4 transport addresses that remotes are bound to.

use std::net::Ipv4Addr;

use crate::transport::Transport;

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
    /// When `len` is over 30 or a bit beyond it is set.
    pub fn new(network: Ipv4Addr, len: u8) -> Result<Self, InvalidPool> {
        if !(1..=30).contains(&len) {
            return Err(InvalidPool::Length);
        }
        let range = Self { network, len };
        if network.to_bits() & !range.mask() != 0 {
            return Err(InvalidPool::HostBits);
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

    /// Returns the address `T` behind which all remotes appear: the first one that is a host
    /// address whatever the subnet around the range is.
    #[must_use]
    pub const fn shared(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | 1)
    }

    const fn mask(self) -> u32 {
        u32::MAX << (32 - self.len)
    }
}

/// Why a range cannot be the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPool {
    /// A bit beyond the length is set.
    #[error("bits beyond the prefix length of the pool are set")]
    HostBits,
    /// The length does not fit.
    #[error("the prefix length of the pool must be from 1 to 30")]
    Length,
}

/// Which transport addresses are free.
#[derive(Debug)]
pub(crate) struct Pool {
    ranges: Vec<PoolRange>,
    addrs: Vec<PoolAddr>,
}

/// A pool address `T` and its used ports, for each BIB.
#[derive(Debug)]
struct PoolAddr {
    addr: Ipv4Addr,
    used: [PortSet; Transport::ALL.len()],
}

impl Pool {
    /// Makes a pool in which all remotes share the address of a range.
    pub(crate) fn new(ranges: &[PoolRange]) -> Self {
        let addr = |range: &PoolRange| PoolAddr {
            addr: range.shared(),
            used: [PortSet::new(), PortSet::new(), PortSet::new()],
        };
        Self {
            ranges: ranges.to_vec(),
            addrs: ranges.iter().map(addr).collect(),
        }
    }

    pub(crate) fn contains(&self, addr: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(addr))
    }

    /// Takes a transport address for a remote's port. Keeps the number where it is free, else its
    /// class (0-1023 or the rest) and for UDP its parity, else what there is; `spread` says where
    /// to look first (RFC 6146 §3.5.1.1, §3.5.2.3, §3.5.3).
    pub(crate) fn allocate(
        &mut self,
        transport: Transport,
        wanted: u16,
        spread: u16,
    ) -> Option<(Ipv4Addr, u16)> {
        self.addrs.iter_mut().find_map(|pool| {
            let port = pool
                .used
                .get_mut(transport as usize)?
                .take(transport, wanted, spread)?;
            Some((pool.addr, port))
        })
    }

    pub(crate) fn release(&mut self, transport: Transport, addr: Ipv4Addr, port: u16) {
        let pool = self.addrs.iter_mut().find(|pool| pool.addr == addr);
        if let Some(used) = pool.and_then(|pool| pool.used.get_mut(transport as usize)) {
            used.remove(port);
        }
    }
}

/// A bit for each of 65536 numbers.
struct PortSet(Box<[u64]>);

impl PortSet {
    fn new() -> Self {
        Self(vec![0; WORDS].into_boxed_slice())
    }

    fn take(&mut self, transport: Transport, wanted: u16, spread: u16) -> Option<u16> {
        // Identifiers have no classes, and zero is as good as any.
        let (lowest, parity) = match transport {
            Transport::IcmpQuery => (0, ANY),
            Transport::Tcp => (1, ANY),
            Transport::Udp => (1, if wanted & 1 == 0 { EVEN } else { ODD }),
        };
        let class = match wanted {
            _ if transport == Transport::IcmpQuery => (0, u16::MAX),
            0..=1023 => (lowest, 1023),
            1024.. => (1024, u16::MAX),
        };
        let port = if wanted >= lowest && !self.contains(wanted) {
            Some(wanted)
        } else {
            self.free(class, parity, spread)
                .or_else(|| self.free(class, ANY, spread))
                .or_else(|| self.free((lowest, u16::MAX), ANY, spread))
        }?;
        if let Some(word) = self.0.get_mut(usize::from(port / 64)) {
            *word |= 1 << (port % 64);
        }
        Some(port)
    }

    /// Returns a free number of `parity` within bounds, the first one from `spread` onward.
    fn free(&self, (low, high): (u16, u16), parity: u64, spread: u16) -> Option<u16> {
        let size = u32::from(high - low) + 1;
        let start = u16::try_from(u32::from(low) + u32::from(spread) % size).ok()?;
        self.first_free(start, high, parity)
            .or_else(|| self.first_free(low, start, parity))
    }

    fn first_free(&self, from: u16, to: u16, parity: u64) -> Option<u16> {
        let words = self.0.get(usize::from(from / 64)..=usize::from(to / 64))?;
        let (first, rest) = words.split_first()?;
        let free = !first & parity & (u64::MAX << (from % 64));
        let (index, free) = if free != 0 {
            (0, free)
        } else {
            let index = rest.iter().position(|used| !used & parity != 0)?;
            (index + 1, !rest.get(index)? & parity)
        };
        let word = from / 64 + u16::try_from(index).ok()?;
        let port = word * 64 + u16::try_from(free.trailing_zeros()).ok()?;
        (port <= to).then_some(port)
    }

    fn contains(&self, port: u16) -> bool {
        self.0
            .get(usize::from(port / 64))
            .is_none_or(|word| word & (1 << (port % 64)) != 0)
    }

    fn remove(&mut self, port: u16) {
        if let Some(word) = self.0.get_mut(usize::from(port / 64)) {
            *word &= !(1 << (port % 64));
        }
    }
}

impl std::fmt::Debug for PortSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let used: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        write!(f, "PortSet({used} used)")
    }
}

const WORDS: usize = 65_536 / 64;

const ANY: u64 = u64::MAX;
const EVEN: u64 = 0x5555_5555_5555_5555;
const ODD: u64 = !EVEN;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_port_is_given_out_once_and_zero_never() {
        for (transport, count) in [
            (Transport::Tcp, 65_535),
            (Transport::Udp, 65_535),
            (Transport::IcmpQuery, 65_536),
        ] {
            let mut pool = pool();
            let mut seen = BTreeSet::new();
            let mut spread = 77_u16;
            while let Some((addr, port)) = pool.allocate(transport, 5000, spread) {
                spread = spread.wrapping_add(40_503);
                assert_eq!(addr, Ipv4Addr::new(192, 168, 64, 193));
                assert!(seen.insert(port));
            }
            assert_eq!(seen.len(), count);
            assert_eq!(seen.contains(&0), transport == Transport::IcmpQuery);
            pool.release(transport, Ipv4Addr::new(192, 168, 64, 193), 4711);
            assert_eq!(
                pool.allocate(transport, 9, 9).map(|(_, port)| port),
                Some(4711)
            );
        }
    }

    #[test]
    fn number_then_class_and_parity_are_kept() {
        let mut pool = pool();
        let mut udp = |wanted| pool.allocate(Transport::Udp, wanted, 12_345).unwrap().1;

        assert_eq!(udp(4000), 4000);
        assert!((0..32_255).all(|_| {
            let port = udp(4000);
            port >= 1024 && port % 2 == 0
        }));
        assert!((0..400).all(|_| {
            let port = udp(53);
            port < 1024 && port % 2 == 1
        }));
        assert_eq!(udp(4000) % 2, 1, "no even port is left");
    }

    fn pool() -> Pool {
        Pool::new(&[PoolRange::new([192, 168, 64, 192].into(), 26).unwrap()])
    }
}
