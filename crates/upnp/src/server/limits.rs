//! How many connections there may be.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The connections that are open, by source.
#[derive(Debug, Default)]
pub struct Slots {
    total: usize,
    v6: usize,
    by_source: BTreeMap<IpAddr, usize>,
}

impl Slots {
    /// Takes a slot; `false` if there is none for this source.
    pub fn take(&mut self, source: IpAddr) -> bool {
        let held = self.by_source.get(&source).copied().unwrap_or_default();
        if self.total >= MAX_CONNECTIONS
            || held >= MAX_PER_SOURCE
            || (source.is_ipv6() && self.v6 >= MAX_V6)
        {
            return false;
        }
        self.v6 = self.v6.saturating_add(usize::from(source.is_ipv6()));
        self.total = self.total.saturating_add(1);
        self.by_source.insert(source, held.saturating_add(1));
        true
    }

    /// Gives a slot back.
    pub fn release(&mut self, source: IpAddr) {
        if let Some(held) = self.by_source.get_mut(&source) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.by_source.remove(&source);
            }
            self.total = self.total.saturating_sub(1);
            self.v6 = self.v6.saturating_sub(usize::from(source.is_ipv6()));
        }
    }
}

/// A home has some dozens of control points, each with a connection for seconds.
const MAX_CONNECTIONS: usize = 256;

/// Control points open one or two at a time.
const MAX_PER_SOURCE: usize = 16;

/// One host has as many IPv6 addresses as it likes; some room stays for those with one.
const MAX_V6: usize = 128;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn t_20_connections_are_limited_by_source_and_in_all() {
        let mut slots = Slots::default();

        assert_eq!(
            (0..20).filter(|_| slots.take(v4(0))).count(),
            MAX_PER_SOURCE
        );
        assert_eq!(
            (1..400).filter(|n| slots.take(v4(*n))).count(),
            MAX_CONNECTIONS - MAX_PER_SOURCE
        );
        slots.release(v4(0));
        slots.release(v4(450));
        assert!(slots.take(v4(401)) && !slots.take(v4(402)));
    }

    #[test]
    fn t_20_one_host_with_many_addresses_leaves_room() {
        let mut slots = Slots::default();
        let v6 = |n: u32| IpAddr::V6(Ipv6Addr::from(0xfd00 << 112 | u128::from(n)));

        assert_eq!((0..400).filter(|n| slots.take(v6(*n))).count(), MAX_V6);
        assert!(slots.take(v4(0)));
        slots.release(v6(7));
        assert!(slots.take(v6(500)) && !slots.take(v6(501)));
    }

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0xc0a8_4000 + n))
    }
}
