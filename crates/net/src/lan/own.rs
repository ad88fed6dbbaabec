//! Which IPv6 addresses an interface has, asked without leaving the namespace of the socket.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mapping::Instant;

use crate::Clock;

/// The addresses of one interface.
#[derive(Debug)]
pub(super) struct OwnAddresses(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Keeps the namespace in which it was opened, whatever the calling thread's is.
    table: File,
    ifindex: u32,
    clock: Clock,
    known: Vec<(Ipv6Addr, u8)>,
    read_at: Option<Instant>,
}

impl OwnAddresses {
    pub(super) fn open(ifindex: u32) -> io::Result<Self> {
        Ok(Self(Mutex::new(State {
            table: File::open("/proc/thread-self/net/if_inet6")?,
            ifindex,
            clock: Clock::new(),
            known: Vec::new(),
            read_at: None,
        })))
    }

    /// Tells whether `addr` is ours.
    pub(super) fn contains(&self, addr: IpAddr) -> bool {
        self.find(addr, |own, _, addr| own == addr)
    }

    /// Tells whether `addr` lies in the subnet of one of ours.
    pub(super) fn is_on_link(&self, addr: IpAddr) -> bool {
        self.find(addr, |own, len, addr| {
            let host_bits = 128_u32.saturating_sub(len.into());
            let differing = own.to_bits() ^ addr.to_bits();
            differing.checked_shr(host_bits).unwrap_or_default() == 0
        })
    }

    /// Looks for an address of ours that fits. When none does the table is read anew, but not at
    /// the rate of a flood.
    fn find(&self, addr: IpAddr, fits: impl Fn(Ipv6Addr, u8, Ipv6Addr) -> bool) -> bool {
        let IpAddr::V6(addr) = addr else {
            return false;
        };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |&(own, len): &(Ipv6Addr, u8)| fits(own, len, addr);
        if state.known.iter().any(fits) {
            return true;
        }
        let now = state.clock.mono();
        if state.read_at.is_some_and(|at| now < at + PAUSE) {
            return false;
        }
        state.read_at = Some(now);
        if let Err(error) = state.read() {
            tracing::debug!(%error, "cannot read the addresses of the LAN's interface");
        }
        state.known.iter().any(fits)
    }
}

impl State {
    fn read(&mut self) -> io::Result<()> {
        let mut text = String::new();
        self.table.rewind()?;
        self.table.read_to_string(&mut text)?;
        self.known = parse(&text, self.ifindex);
        Ok(())
    }
}

/// Reads `/proc/net/if_inet6`: address, index, prefix length, scope and flags, all hexadecimal,
/// and the name.
fn parse(table: &str, ifindex: u32) -> Vec<(Ipv6Addr, u8)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let addr = u128::from_str_radix(fields.next()?, 16).ok()?;
        let index = u32::from_str_radix(fields.next()?, 16).ok()?;
        let len = u8::from_str_radix(fields.next()?, 16).ok()?;
        (index == ifindex).then(|| (Ipv6Addr::from_bits(addr), len))
    };
    table.lines().filter_map(line).collect()
}

const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_kernel_yields_the_addresses_of_one_interface() {
        let table = "fe80000000000000000000fffe000001 0a 40 20 80     lan\n\
                     fd000000000000000000000000000001 0a 40 00 80     lan\n\
                     00000000000000000000000000000001 01 80 10 80      lo\n";

        let expected: [(Ipv6Addr, u8); 2] =
            ["fe80::ff:fe00:1", "fd00::1"].map(|addr| (addr.parse().unwrap(), 64));
        assert_eq!(parse(table, 10), expected);
        assert!(parse("garbage\nmore garbage here", 10).is_empty());
    }
}
