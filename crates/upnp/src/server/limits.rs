//! How many connections there may be, and whose count together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mapping::{Client, Mac, Snapshot};

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

/// Whether somebody has a lease.
///
/// Who has none can look around and nothing else. MACs and addresses are made up easily, so all
/// of them together get a part of what there is, and take nothing of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Who has a lease; there are only so many.
    Host,
    /// Anybody else.
    Stranger,
}

impl Standing {
    /// Tells it of a client, by its MAC where that is known.
    #[must_use]
    pub fn of(client: Client, snapshot: &Snapshot) -> Self {
        let host = match client.mac {
            Some(mac) => snapshot.host(mac),
            None => snapshot.host_of(client),
        };
        match host.and_then(|host| host.lease) {
            Some(_) => Self::Host,
            None => Self::Stranger,
        }
    }
}

/// The connections that are open, by holder.
#[derive(Debug, Default)]
pub struct Slots {
    total: usize,
    strangers: usize,
    by_holder: BTreeMap<Holder, usize>,
}

impl Slots {
    /// Takes a slot; `false` if there is none for this holder.
    pub fn take(&mut self, holder: Holder, standing: Standing) -> bool {
        let held = self.by_holder.get(&holder).copied().unwrap_or_default();
        let most = match holder {
            Holder::Addr(_) | Holder::Host(_) => MAX_PER_HOLDER,
            Holder::SomeIpv6 => MAX_SOME_IPV6,
        };
        let strange = usize::from(is_strange(holder, standing));
        let strangers = self.strangers.saturating_add(strange);
        if self.total >= MAX_CONNECTIONS || held >= most || strangers > MAX_STRANGER_CONNECTIONS {
            return false;
        }
        self.total = self.total.saturating_add(1);
        self.strangers = strangers;
        self.by_holder.insert(holder, held.saturating_add(1));
        true
    }

    /// Gives a slot back that was taken under this standing.
    pub fn release(&mut self, holder: Holder, standing: Standing) {
        if let Some(held) = self.by_holder.get_mut(&holder) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.by_holder.remove(&holder);
            }
            self.total = self.total.saturating_sub(1);
            let strange = usize::from(is_strange(holder, standing));
            self.strangers = self.strangers.saturating_sub(strange);
        }
    }
}

/// Who is behind an IPv6 address without a MAC may be a host.
fn is_strange(holder: Holder, standing: Standing) -> bool {
    standing == Standing::Stranger && holder != Holder::SomeIpv6
}

/// A home has some dozens of control points, each with a connection for seconds.
const MAX_CONNECTIONS: usize = 256;

/// A quarter of them: a host without a lease can read what we are, and that is soon done.
const MAX_STRANGER_CONNECTIONS: usize = 64;

/// A quarter of the subscriptions, which each last for half an hour at least.
pub const MAX_STRANGER_SUBSCRIPTIONS: usize = 128;

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

        assert_eq!(count(0..20, |_| take(&mut slots, v4(0, None))), 16);
        assert_eq!(
            count(1..400, |n| take(&mut slots, v4(n, None))),
            MAX_CONNECTIONS - MAX_PER_HOLDER
        );
        slots.release(v4(0, None), Standing::Host);
        slots.release(v4(450, None), Standing::Host);
        assert!(take(&mut slots, v4(401, None)) && !take(&mut slots, v4(402, None)));
    }

    #[test]
    fn t_20_one_host_with_many_addresses_leaves_room() {
        let mut slots = Slots::default();
        let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        let taken = count(0..400, |n| {
            take(&mut slots, v4(n, mac)) || take(&mut slots, v6(n, mac))
        });

        assert_eq!(taken, MAX_PER_HOLDER);
        assert!(take(&mut slots, v4(0, Some(Mac([2, 0, 0, 0, 0, 2])))));
    }

    #[test]
    fn t_20_hosts_with_ipv6_leave_room_while_nobody_knows_their_macs() {
        let mut slots = Slots::default();

        let taken = count(0..400, |n| slots.take(v6(n, None), Standing::Stranger));
        assert_eq!(taken, MAX_SOME_IPV6);
        assert!(take(&mut slots, v4(0, None)));
        slots.release(v6(7, None), Standing::Stranger);
        let mut again = |n| slots.take(v6(n, None), Standing::Stranger);
        assert!(again(500) && !again(501));
    }

    #[test]
    fn t_20_macs_that_are_made_up_leave_room_for_hosts() {
        let mut slots = Slots::default();
        let made_up = |n: u32| {
            let [_, _, third, last] = n.to_be_bytes();
            v4(n, Some(Mac([2, 0, 0, 0, third, last])))
        };

        let taken = count(0..400, |n| slots.take(made_up(n), Standing::Stranger));
        assert_eq!(taken, MAX_STRANGER_CONNECTIONS);
        let host = Holder::Host(Mac([2, 0, 0, 0, 9, 9]));
        assert_eq!(count(0..20, |_| take(&mut slots, host)), MAX_PER_HOLDER);
        slots.release(made_up(0), Standing::Stranger);
        let mut again = |n| slots.take(made_up(n), Standing::Stranger);
        assert!(again(500) && !again(501));
    }

    fn take(slots: &mut Slots, holder: Holder) -> bool {
        slots.take(holder, Standing::Host)
    }

    fn count(numbers: std::ops::Range<u32>, taken: impl FnMut(u32) -> bool) -> usize {
        numbers.map(taken).filter(|taken| *taken).count()
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
