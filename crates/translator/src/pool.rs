//! The IPv4 transport addresses that remotes are bound to.

mod ports;
mod range;
mod resting;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ports::PortSet;
pub use range::{InvalidPool, PoolRange};
pub(crate) use resting::Owner;
use resting::{Rest, Resting};

use crate::session::Tick;
use crate::transport::Transport;

/// Which transport addresses are free. Each remote has an address of its own while they last, so
/// that a server's log tells remotes apart; after that several share one.
///
/// Only addresses in use take room.
#[derive(Debug)]
pub(crate) struct Pool {
    ranges: Vec<PoolRange>,
    /// The first host of each range that lies in no other one, and how many there are.
    spans: Vec<(u32, u32)>,
    router: Ipv4Addr,
    /// How many addresses there are, and how many are nobody's.
    len: u32,
    free: u32,
    /// A bit for each address, set for those that are not free.
    taken: Box<[u64]>,
    addrs: BTreeMap<Ipv4Addr, PoolAddr>,
    resting: Resting,
}

/// A pool address `T` that is in use, and its used ports for each BIB.
#[derive(Debug, Default)]
struct PoolAddr {
    holders: u32,
    used: [PortSet; Transport::ALL.len()],
}

impl Pool {
    pub(crate) fn new(ranges: &[PoolRange]) -> Self {
        let spans = disjoint(ranges);
        let len = spans.iter().map(|(_, len)| len).sum();
        let bits = u64::from(len).div_ceil(64) * 64;
        let words = usize::try_from(bits / 64).unwrap_or_default();
        let mut pool = Self {
            ranges: ranges.to_vec(),
            spans,
            router: Ipv4Addr::UNSPECIFIED,
            len,
            free: len,
            taken: vec![0; words].into_boxed_slice(),
            addrs: BTreeMap::new(),
            resting: Resting::new(0, Duration::ZERO),
        };
        if let Some(last) = pool.taken.last_mut()
            && len % 64 != 0
        {
            *last = u64::MAX << (len % 64);
        }
        pool.router = pool
            .nth(len.saturating_sub(1))
            .unwrap_or(Ipv4Addr::UNSPECIFIED);
        if len > 1 {
            pool.set_taken(len - 1, true);
        }
        pool
    }

    /// From now on lets at most so many ports rest for so long, see [`Self::rest`].
    pub(crate) fn let_rest(&mut self, at_most: u32, time: Duration) {
        self.resting = Resting::new(at_most, time);
    }

    /// Tells whether there is no address.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tells whether an address is led to the translator.
    pub(crate) fn contains(&self, addr: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(addr))
    }

    /// Tells whether an address stands for a remote now.
    pub(crate) fn is_used(&self, addr: Ipv4Addr) -> bool {
        self.addrs.contains_key(&addr)
    }

    /// Returns the address from which the translator itself speaks: nobody's, unless there is only
    /// one.
    pub(crate) const fn router(&self) -> Ipv4Addr {
        self.router
    }

    /// Gives a new remote an address: the one where its ports rest, one of its own, nearly always
    /// the same one, or where all are taken one where its port is free and that few others have.
    /// `hash` is the remote's.
    pub(crate) fn join(&mut self, hash: u32, transport: Transport, port: u16) -> Option<Ipv4Addr> {
        let rests = self.resting.addr_of(hash);
        if let Some(addr) = rests.filter(|addr| !self.is_exhausted(transport, *addr)) {
            self.hold(addr);
            return Some(addr);
        }
        let start = u32::try_from((u64::from(hash) * u64::from(self.len)) >> 32).ok()?;
        let addr = match self.next_free(start) {
            Some(index) => self.nth(index)?,
            None => self.shared(start, transport, port)?,
        };
        self.hold(addr);
        Some(addr)
    }

    /// Returns an address for a remote where none is free: our own only where the others have no
    /// port left.
    fn shared(&self, start: u32, transport: Transport, port: u16) -> Option<Ipv4Addr> {
        let rank = |addr: &Ipv4Addr| {
            let pool = self.addrs.get(addr);
            (
                self.is_exhausted(transport, *addr),
                *addr == self.router,
                pool.map(|pool| pool.rank(transport, port)),
            )
        };
        (0..self.len.min(LOOKED_AT))
            .filter_map(|step| self.nth((start + step) % self.len))
            .filter(|addr| self.is_used(*addr))
            .chain((self.len > 0).then_some(self.router))
            .min_by_key(rank)
    }

    /// Tells whether no port of an address can be had, not even one that rests.
    fn is_exhausted(&self, transport: Transport, addr: Ipv4Addr) -> bool {
        let used = self.addrs.get(&addr);
        used.and_then(|pool| pool.used.get(transport as usize))
            .is_some_and(|used| used.is_full(transport))
            && !self.resting.any_at(transport, addr)
    }

    /// Takes exactly this port of exactly this address, which is one use of it; `false` where the
    /// port is taken or no remote may have the address.
    pub(crate) fn claim(&mut self, transport: Transport, addr: Ipv4Addr, port: u16) -> bool {
        if self.index(addr).is_none() {
            return false;
        }
        self.hold(addr);
        let used = self.addrs.get_mut(&addr);
        let claimed = used
            .and_then(|pool| pool.used.get_mut(transport as usize))
            .is_some_and(|used| used.claim(transport, port));
        if !claimed {
            self.leave(addr);
        }
        claimed
    }

    /// Takes back one use of an address.
    pub(crate) fn leave(&mut self, addr: Ipv4Addr) {
        let Some(pool) = self.addrs.get_mut(&addr) else {
            return;
        };
        pool.holders -= 1;
        if pool.holders == 0 {
            self.addrs.remove(&addr);
            if let Some(index) = self.index(addr)
                && (addr != self.router || self.len == 1)
            {
                self.set_taken(index, false);
            }
        }
    }

    /// Takes a port of an address in use, see [`PortSet::take`]; where all are used, the one of them
    /// that has rested longest: nobody is kept out for who has gone.
    pub(crate) fn take(
        &mut self,
        transport: Transport,
        addr: Ipv4Addr,
        wanted: u16,
        spread: u16,
    ) -> Option<u16> {
        let take = |pool: &mut Self| {
            let used = &mut pool.addrs.get_mut(&addr)?.used;
            used.get_mut(transport as usize)?
                .take(transport, wanted, spread)
        };
        if let Some(port) = take(self) {
            return Some(port);
        }
        let oldest = self.resting.oldest_at(transport, addr)?;
        self.end_rest(&oldest);
        take(self)
    }

    /// Takes the port of this address that a binding had before.
    pub(crate) fn take_back(&mut self, owner: Owner, addr: Ipv4Addr) -> Option<u16> {
        let rest = self.resting.take_at(owner, addr)?;
        self.leave(addr);
        Some(rest.port)
    }

    /// Lets a port rest that nobody uses any more: until its time is up, or there is no other,
    /// only the binding that had it may have it, and the address is nobody else's while others
    /// are left.
    pub(crate) fn rest(&mut self, owner: Owner, port: (Transport, Ipv4Addr, u16), now: Tick) {
        let (transport, addr, number) = port;
        if !self.resting.is_wanted() {
            self.release(transport, addr, number);
            return;
        }
        let woken = [self.resting.make_room(), self.resting.take(owner)];
        for rest in woken.into_iter().flatten() {
            self.end_rest(&rest);
        }
        if self.resting.put(owner, port, now) {
            self.hold(addr);
        } else {
            self.release(transport, addr, number);
        }
    }

    /// Gives back the ports that have rested for long enough, a bounded number.
    pub(crate) fn wake(&mut self, now: Tick) {
        for _ in 0..WOKEN_AT_ONCE {
            let Some(rest) = self.resting.due(now) else {
                return;
            };
            self.end_rest(&rest);
        }
    }

    fn end_rest(&mut self, rest: &Rest) {
        self.release(rest.transport, rest.addr, rest.port);
        self.leave(rest.addr);
    }

    pub(crate) fn release(&mut self, transport: Transport, addr: Ipv4Addr, port: u16) {
        let pool = self.addrs.get_mut(&addr);
        if let Some(used) = pool.and_then(|pool| pool.used.get_mut(transport as usize)) {
            used.remove(port);
        }
    }

    fn hold(&mut self, addr: Ipv4Addr) {
        self.addrs.entry(addr).or_default().holders += 1;
        if let Some(index) = self.index(addr) {
            self.set_taken(index, true);
        }
    }

    fn next_free(&self, start: u32) -> Option<u32> {
        if self.free == 0 {
            return None;
        }
        let first = usize::try_from(start / 64).ok()?;
        let (before, after) = self.taken.split_at_checked(first)?;
        let (at, rest) = after.split_first()?;
        let late = !at & (u64::MAX << (start % 64));
        let words = [(first, late)]
            .into_iter()
            .chain((first + 1..).zip(rest.iter().map(|taken| !taken)))
            .chain((0..).zip(before.iter().map(|taken| !taken)))
            .chain([(first, !at)]);
        let (word, free) = words.into_iter().find(|(_, free)| *free != 0)?;
        Some(u32::try_from(word).ok()? * 64 + free.trailing_zeros())
    }

    fn set_taken(&mut self, index: u32, taken: bool) {
        let word = usize::try_from(index / 64).unwrap_or(usize::MAX);
        let Some(word) = self.taken.get_mut(word) else {
            return;
        };
        let bit = 1 << (index % 64);
        match (taken, *word & bit != 0) {
            (true, false) => self.free -= 1,
            (false, true) => self.free += 1,
            (true, true) | (false, false) => return,
        }
        *word ^= bit;
    }

    fn nth(&self, mut index: u32) -> Option<Ipv4Addr> {
        for (first, len) in &self.spans {
            match index.checked_sub(*len) {
                Some(rest) => index = rest,
                None => return Some(Ipv4Addr::from_bits(first + index)),
            }
        }
        None
    }

    fn index(&self, addr: Ipv4Addr) -> Option<u32> {
        let mut before = 0;
        for (first, len) in &self.spans {
            let at = addr.to_bits().wrapping_sub(*first);
            if at < *len {
                return Some(before + at);
            }
            before += len;
        }
        None
    }
}

impl PoolAddr {
    /// The lower, the better for a new remote with this port.
    fn rank(&self, transport: Transport, port: u16) -> (bool, u32) {
        let used = self.used.get(transport as usize);
        (
            used.is_none_or(|used| !used.is_free(transport, port)),
            self.holders,
        )
    }
}

/// Returns the hosts of ranges, each once: two ranges are disjoint or one lies in the other.
fn disjoint(ranges: &[PoolRange]) -> Vec<(u32, u32)> {
    let inside = |range: &PoolRange, other: &PoolRange| {
        other.contains(range.network()) && other.prefix_len() < range.prefix_len()
    };
    let mut spans = Vec::new();
    let mut room = MOST;
    for (at, range) in ranges.iter().enumerate() {
        let again = ranges.iter().take(at).any(|other| other == range);
        if again || ranges.iter().any(|other| inside(range, other)) {
            continue;
        }
        let (first, last) = range.host_bounds();
        let len = (last - first).saturating_add(1).min(room);
        room -= len;
        spans.push((first, len));
    }
    spans
}

/// Addresses that a remote is not alone on are compared, at most so many.
const LOOKED_AT: u32 = 64;

/// Bounds the time that a packet waits for ports that have rested: to a tenth of a millisecond.
const WOKEN_AT_ONCE: usize = 512;

/// Addresses of which use is made: a bit each is 2 MiB.
const MOST: u32 = 1 << 24;

#[cfg(test)]
mod tests;
