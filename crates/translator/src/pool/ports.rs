//! The numbers of one pool address that are in use.

use crate::transport::Transport;

/// A set of 16-bit numbers, as large as it is full: a list while there are few, so that an address
/// that serves one remote takes little.
pub(super) enum PortSet {
    Few(Vec<u16>),
    Many(Box<[u64]>, u32),
}

impl Default for PortSet {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl PortSet {
    /// Takes a number for a remote's port. Keeps it where it is free, else its class (0-1023 or the
    /// rest) and for UDP its parity, else what there is (RFC 6146 §3.5.1.1, §3.5.2.3, §3.5.3);
    /// `spread` says where to look first (RFC 6056 §3.3.3).
    pub(super) fn take(&mut self, transport: Transport, wanted: u16, spread: u16) -> Option<u16> {
        let parity = match transport {
            Transport::Udp if wanted.is_multiple_of(2) => EVEN,
            Transport::Udp => ODD,
            Transport::IcmpQuery | Transport::Tcp => ANY,
        };
        let lowest = lowest(transport);
        let class = match wanted {
            // Identifiers have no classes.
            _ if transport == Transport::IcmpQuery => (0, u16::MAX),
            0..=1023 => (lowest, 1023),
            1024.. => (1024, u16::MAX),
        };
        let port = if self.is_free(transport, wanted) {
            wanted
        } else {
            self.free(class, parity, spread)
                .or_else(|| self.free(class, ANY, spread))
                .or_else(|| self.free((lowest, u16::MAX), ANY, spread))?
        };
        self.insert(port);
        Some(port)
    }

    /// Takes exactly this number.
    pub(super) fn claim(&mut self, transport: Transport, port: u16) -> bool {
        let free = self.is_free(transport, port);
        if free {
            self.insert(port);
        }
        free
    }

    pub(super) fn is_free(&self, transport: Transport, port: u16) -> bool {
        port >= lowest(transport) && !self.contains(port)
    }

    pub(super) fn is_full(&self, transport: Transport) -> bool {
        matches!(self, Self::Many(_, len) if *len > u32::from(u16::MAX - lowest(transport)))
    }

    pub(super) fn remove(&mut self, port: u16) {
        match self {
            Self::Few(list) => {
                if let Ok(at) = list.binary_search(&port) {
                    list.remove(at);
                }
                if list.is_empty() {
                    *list = Vec::new();
                }
            }
            Self::Many(words, len) => {
                if let Some(word) = words.get_mut(usize::from(port / 64)) {
                    let bit = 1 << (port % 64);
                    *len -= u32::from(*word & bit != 0);
                    *word &= !bit;
                }
                if *len == 0 {
                    *self = Self::default();
                }
            }
        }
    }

    fn contains(&self, port: u16) -> bool {
        match self {
            Self::Few(list) => list.binary_search(&port).is_ok(),
            Self::Many(words, _) => words
                .get(usize::from(port / 64))
                .is_none_or(|word| word & (1 << (port % 64)) != 0),
        }
    }

    fn insert(&mut self, port: u16) {
        if let Self::Few(list) = self
            && list.len() >= FEW
        {
            let mut words = vec![0; WORDS].into_boxed_slice();
            for port in &*list {
                set(&mut words, *port);
            }
            *self = Self::Many(words, u32::try_from(FEW).unwrap_or(u32::MAX));
        }
        match self {
            Self::Few(list) => {
                if let Err(at) = list.binary_search(&port) {
                    list.insert(at, port);
                }
            }
            Self::Many(words, len) => *len += u32::from(set(words, port)),
        }
    }

    /// Returns a free number of `parity` within bounds, the first one from `spread` onward.
    fn free(&self, (low, high): (u16, u16), parity: u64, spread: u16) -> Option<u16> {
        let size = u32::from(high - low) + 1;
        let start = u16::try_from(u32::from(low) + u32::from(spread) % size).ok()?;
        match self {
            Self::Few(_) => (start..=high)
                .chain(low..start)
                .filter(|port| parity & (1 << (port % 64)) != 0)
                .find(|port| !self.contains(*port)),
            Self::Many(words, _) => first_free(words, start, high, parity)
                .or_else(|| first_free(words, low, start, parity)),
        }
    }
}

impl std::fmt::Debug for PortSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Few(list) => write!(f, "PortSet({} used)", list.len()),
            Self::Many(_, len) => write!(f, "PortSet({len} used)"),
        }
    }
}

/// Returns the lowest number that may be used; an identifier of zero is as good as any.
const fn lowest(transport: Transport) -> u16 {
    match transport {
        Transport::IcmpQuery => 0,
        Transport::Tcp | Transport::Udp => 1,
    }
}

fn set(words: &mut [u64], port: u16) -> bool {
    let Some(word) = words.get_mut(usize::from(port / 64)) else {
        return false;
    };
    let bit = 1 << (port % 64);
    let new = *word & bit == 0;
    *word |= bit;
    new
}

fn first_free(words: &[u64], from: u16, to: u16, parity: u64) -> Option<u16> {
    let words = words.get(usize::from(from / 64)..=usize::from(to / 64))?;
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

/// The longest list: half of what the bits take, and moved within a fraction of a microsecond.
const FEW: usize = 2048;

const WORDS: usize = 65_536 / 64;

const ANY: u64 = u64::MAX;
const EVEN: u64 = 0x5555_5555_5555_5555;
const ODD: u64 = !EVEN;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_port_is_given_out_once_and_zero_never() {
        for (transport, count) in [
            (Transport::Tcp, 65_535),
            (Transport::Udp, 65_535),
            (Transport::IcmpQuery, 65_536),
        ] {
            let (mut ports, mut seen) = (PortSet::default(), BTreeSet::new());
            let mut spread = 77_u16;
            while let Some(port) = ports.take(transport, 5000, spread) {
                spread = spread.wrapping_add(40_503);
                assert!(seen.insert(port));
                assert_eq!(ports.is_full(transport), seen.len() == count);
            }
            assert_eq!(seen.len(), count);
            assert_eq!(seen.contains(&0), transport == Transport::IcmpQuery);
            ports.remove(4711);
            assert_eq!(ports.take(transport, 9, 9), Some(4711));
        }
    }

    #[test]
    fn number_then_class_and_parity_are_kept() {
        let mut ports = PortSet::default();
        let mut udp = |wanted| ports.take(Transport::Udp, wanted, 12_345).unwrap();

        assert_eq!(udp(4000), 4000);
        assert!((0..32_255).all(|_| {
            let port = udp(4000);
            port >= 1024 && port.is_multiple_of(2)
        }));
        assert!((0..400).all(|_| {
            let port = udp(53);
            port < 1024 && port % 2 == 1
        }));
        assert_eq!(udp(4000) % 2, 1, "no even port is left");
    }

    proptest! {
        #[test]
        fn ports_agree_with_a_set(
            many: bool,
            ops in prop::collection::vec((any::<bool>(), any::<u16>(), any::<u16>()), 0..400),
        ) {
            let (mut ports, mut model) = (PortSet::default(), BTreeSet::new());
            if many {
                for port in (0..60_000).step_by(7) {
                    prop_assert!(ports.claim(Transport::Udp, port + 1));
                    model.insert(port + 1);
                }
            }
            for (add, wanted, spread) in ops {
                let wanted = wanted % 3000;
                if !add {
                    ports.remove(wanted);
                    model.remove(&wanted);
                    continue;
                }
                let free = wanted != 0 && !model.contains(&wanted);
                prop_assert_eq!(ports.is_free(Transport::Udp, wanted), free);
                let port = ports.take(Transport::Udp, wanted, spread).unwrap();
                prop_assert!(model.insert(port), "taken twice");
                prop_assert_eq!(port == wanted, free);
                prop_assert_eq!(port % 2, wanted % 2);
                prop_assert_eq!(port < 1024, wanted < 1024);
            }
        }
    }
}
