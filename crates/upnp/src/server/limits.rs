//! How many connections there may be, and whose count together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mapping::{Client, Mac};

/// Whose connections and subscriptions count together. An IPv6 address without a MAC says little
/// of who that is, since each host has as many as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// An IPv4 address whose MAC nobody knows.
    Addr(IpAddr),
    /// A host, whatever its addresses.
    Host(Mac),
    /// Any host with IPv6.
    SomeIpv6,
}

impl Holder {
    /// Tells whose a client's are.
    #[must_use]
    pub const fn of(client: Client) -> Self {
        match (client.mac, client.addr) {
            (Some(mac), _) => Self::Host(mac),
            (None, IpAddr::V4(_)) => Self::Addr(client.addr),
            (None, IpAddr::V6(_)) => Self::SomeIpv6,
        }
    }
}

/// The connections that are open, by holder.
#[derive(Debug, Default)]
pub struct Slots {
    total: usize,
    by_holder: BTreeMap<Holder, usize>,
}

impl Slots {
    /// Takes a slot; `false` if there is none for this holder.
    pub fn take(&mut self, holder: Holder) -> bool {
        let held = self.by_holder.get(&holder).copied().unwrap_or_default();
        let most = match holder {
            Holder::Addr(_) | Holder::Host(_) => MAX_PER_HOLDER,
            Holder::SomeIpv6 => MAX_SOME_IPV6,
        };
        if self.total >= MAX_CONNECTIONS || held >= most {
            return false;
        }
        self.total = self.total.saturating_add(1);
        self.by_holder.insert(holder, held.saturating_add(1));
        true
    }

    /// Gives a slot back.
    pub fn release(&mut self, holder: Holder) {
        if let Some(held) = self.by_holder.get_mut(&holder) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.by_holder.remove(&holder);
            }
            self.total = self.total.saturating_sub(1);
        }
    }
}

/// A home has some dozens of control points, each with a connection for seconds.
const MAX_CONNECTIONS: usize = 256;

/// Control points open one or two at a time.
const MAX_PER_HOLDER: usize = 16;

/// While nobody knows the MACs; some room stays for IPv4.
const MAX_SOME_IPV6: usize = 128;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn t_20_connections_are_limited_by_host_and_in_all() {
        let mut slots = Slots::default();

        assert_eq!(
            (0..20).filter(|_| slots.take(v4(0, None))).count(),
            MAX_PER_HOLDER
        );
        assert_eq!(
            (1..400).filter(|n| slots.take(v4(*n, None))).count(),
            MAX_CONNECTIONS - MAX_PER_HOLDER
        );
        slots.release(v4(0, None));
        slots.release(v4(450, None));
        assert!(slots.take(v4(401, None)) && !slots.take(v4(402, None)));
    }

    #[test]
    fn t_20_one_host_with_many_addresses_leaves_room() {
        let mut slots = Slots::default();
        let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        let taken = (0..400).filter(|n| slots.take(v4(*n, mac)) || slots.take(v6(*n, mac)));

        assert_eq!(taken.count(), MAX_PER_HOLDER);
        assert!(slots.take(v4(0, Some(Mac([2, 0, 0, 0, 0, 2])))));
    }

    #[test]
    fn t_20_hosts_with_ipv6_leave_room_while_nobody_knows_their_macs() {
        let mut slots = Slots::default();

        let taken = (0..400).filter(|n| slots.take(v6(*n, None))).count();
        assert_eq!(taken, MAX_SOME_IPV6);
        assert!(slots.take(v4(0, None)));
        slots.release(v6(7, None));
        assert!(slots.take(v6(500, None)) && !slots.take(v6(501, None)));
    }

    fn v4(n: u32, mac: Option<Mac>) -> Holder {
        let addr = Ipv4Addr::from(0xc0a8_4000 + n).into();
        Holder::of(Client { addr, mac })
    }

    fn v6(n: u32, mac: Option<Mac>) -> Holder {
        let addr = Ipv6Addr::from(0xfd00 << 112 | u128::from(n)).into();
        Holder::of(Client { addr, mac })
    }
}
