//! Putting datagrams together that come in parts (RFC 791, RFC 8200 §4.5).
//!
//! Each family has a [`Reassembly`] of its own, so that a flood from the WAN takes no room from
//! the LAN. A source may take an eighth of one. Beyond that its own oldest datagram makes room;
//! where everything is full, the datagram that has waited longest for its next part does, because
//! the parts of an honest datagram follow each other closely, and those of a flood never come.

mod datagram;
mod piece;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use mapping::Instant;

use crate::counters::{self, Drops};
use crate::fragment::datagram::Datagram;
use crate::verdict::DropReason;

pub(crate) use datagram::Whole;
pub(crate) use piece::{Piece, is_possible};

/// Datagrams of one family that wait for the rest.
///
/// ```text
///          first part        other parts, in any order, once each
///   absent ──────────► waiting ─────────────────────────────► whole, handed out
///                        │  │ overlap, contradiction, tiny first part
///   time is up, evicted  │  └───────► refused: the parts to come are dropped until time is up
///                        ▼
///                     absent
/// ```
#[derive(Debug)]
pub(crate) struct Reassembly<A> {
    limits: Limits,
    datagrams: BTreeMap<Key<A>, Box<Datagram>>,
    by_deadline: BTreeSet<(Instant, Key<A>)>,
    /// By when the last part came that was of use, so that nobody keeps a place by repeating
    /// himself.
    by_use: BTreeMap<u64, Key<A>>,
    by_source: BTreeSet<(A, u64)>,
    bytes_of: BTreeMap<A, usize>,
    bytes: usize,
    /// Numbers the parts.
    uses: u64,
    reassembled: u64,
}

/// The tables of both families.
#[derive(Debug)]
pub(crate) struct Fragments {
    pub(crate) four: Reassembly<Ipv4Addr>,
    pub(crate) six: Reassembly<Ipv6Addr>,
}

/// What bounds a [`Reassembly`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of memory, everything included.
    pub(crate) bytes: usize,
    pub(crate) datagrams: usize,
    /// From the first part on.
    pub(crate) lifetime: Duration,
}

/// What the parts of a datagram have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key<A> {
    src: A,
    dst: A,
    id: u32,
    /// Zero in IPv6, where only the first part tells.
    protocol: u8,
}

impl<A: Address> Key<A> {
    fn of(piece: &Piece<A>) -> Self {
        Self {
            src: piece.src,
            dst: piece.dst,
            id: piece.id,
            protocol: A::key_protocol(piece.protocol),
        }
    }
}

/// An address of either family.
pub(crate) trait Address: Copy + Ord {
    /// Returns what one sender can send from at least.
    fn source(self) -> Self;
    /// Returns what of the protocol number tells datagrams apart.
    fn key_protocol(protocol: u8) -> u8;
    /// Returns the largest length of a segment.
    fn longest() -> usize;
}

impl Address for Ipv4Addr {
    fn source(self) -> Self {
        self
    }

    fn key_protocol(protocol: u8) -> u8 {
        protocol
    }

    fn longest() -> usize {
        65_535 - 20
    }
}

impl Address for Ipv6Addr {
    fn source(self) -> Self {
        Self::from_bits(self.to_bits() & (u128::MAX << 64))
    }

    fn key_protocol(_: u8) -> u8 {
        0
    }

    fn longest() -> usize {
        65_535
    }
}

impl Fragments {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            four: Reassembly::new(limits),
            six: Reassembly::new(limits),
        }
    }

    /// Throws away what has waited long enough, a bounded number at a time.
    pub(crate) fn expire(&mut self, now: Instant, drops: &mut Drops) {
        self.four.expire(now, EXPIRIES_AT_ONCE, drops);
        self.six.expire(now, EXPIRIES_AT_ONCE, drops);
    }

    /// Returns what is counted here, and how many packets were cut.
    pub(crate) fn counters(&self, cut: u64) -> counters::Fragments {
        let held = self.four.datagrams.len() + self.six.datagrams.len();
        let held_bytes = self.four.bytes + self.six.bytes;
        counters::Fragments {
            held: u32::try_from(held).unwrap_or(u32::MAX),
            held_bytes: u64::try_from(held_bytes).unwrap_or(u64::MAX),
            reassembled: self.four.reassembled + self.six.reassembled,
            cut,
        }
    }

    /// Returns when the next datagram has waited long enough.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        let due = [self.four.next_expiry(), self.six.next_expiry()];
        due.into_iter().flatten().min()
    }
}

impl<A: Address> Reassembly<A> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            datagrams: BTreeMap::new(),
            by_deadline: BTreeSet::new(),
            by_use: BTreeMap::new(),
            by_source: BTreeSet::new(),
            bytes_of: BTreeMap::new(),
            bytes: 0,
            uses: 0,
            reassembled: 0,
        }
    }

    /// Tells whether another part of the same datagram waits.
    pub(crate) fn holds(&self, piece: &Piece<A>) -> bool {
        !self.datagrams.is_empty() && self.datagrams.contains_key(&Key::of(piece))
    }

    /// Takes a part with its bytes, and returns the datagram when nothing of it is missing any
    /// more. The parts that are lost with this one are counted in `drops`, this one is not.
    pub(crate) fn insert(
        &mut self,
        piece: &Piece<A>,
        data: &[u8],
        now: Instant,
        drops: &mut Drops,
    ) -> Result<Option<Whole<A>>, DropReason> {
        piece.check(data)?;
        let key = Key::of(piece);
        let mut datagram = match self.detach(&key) {
            Some(old) if old.deadline <= now => {
                drops.add(DropReason::FragmentTimeout, old.pieces());
                Box::new(Datagram::new(now + self.limits.lifetime))
            }
            Some(old) => old,
            None => Box::new(Datagram::new(now + self.limits.lifetime)),
        };
        let taken = match datagram.check(piece, data) {
            Ok(()) => Ok(datagram.bytes_with(piece, data.len())),
            Err(reason) => {
                if reason != DropReason::FragmentDuplicate {
                    drops.add(reason, datagram.pieces());
                    datagram.refuse(reason);
                }
                Err((reason, datagram.bytes()))
            }
        };
        let (Ok(bytes) | Err((_, bytes))) = taken;
        if !self.make_room(key.src.source(), bytes, drops) {
            drops.add(DropReason::FragmentEvicted, datagram.pieces());
            return Err(DropReason::FragmentEvicted);
        }
        if datagram.used == 0 || taken.is_ok() {
            self.uses += 1;
            datagram.used = self.uses;
        }
        match taken {
            Ok(_) => datagram.store(piece, data),
            Err((reason, _)) => {
                self.attach(key, datagram);
                return Err(reason);
            }
        }
        if datagram.is_whole() {
            self.reassembled += 1;
            return Ok(Some(Whole::new(piece, datagram)));
        }
        self.attach(key, datagram);
        Ok(None)
    }

    /// Throws away what has waited long enough, at most `at_most` datagrams.
    pub(crate) fn expire(&mut self, now: Instant, at_most: usize, drops: &mut Drops) {
        for _ in 0..at_most {
            let Some(key) = self
                .by_deadline
                .first()
                .filter(|(deadline, _)| *deadline <= now)
                .map(|(_, key)| *key)
            else {
                break;
            };
            self.lose(&key, DropReason::FragmentTimeout, drops);
        }
    }

    /// Returns when the next datagram has waited long enough.
    fn next_expiry(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Makes room for a datagram that is not in the table.
    fn make_room(&mut self, source: A, bytes: usize, drops: &mut Drops) -> bool {
        let share = self.limits.bytes / SHARES;
        if bytes > self.limits.bytes || self.limits.datagrams == 0 {
            return false;
        }
        loop {
            let of_source = self.bytes_of.get(&source).copied().unwrap_or_default();
            let victim = if of_source > 0 && of_source + bytes > share {
                self.by_source
                    .range((source, 0)..)
                    .next()
                    .and_then(|(_, used)| self.by_use.get(used))
            } else if self.bytes + bytes > self.limits.bytes
                || self.datagrams.len() >= self.limits.datagrams
            {
                self.by_use.values().next()
            } else {
                return true;
            };
            let Some(victim) = victim.copied() else {
                return false;
            };
            self.lose(&victim, DropReason::FragmentEvicted, drops);
        }
    }

    fn lose(&mut self, key: &Key<A>, reason: DropReason, drops: &mut Drops) {
        if let Some(datagram) = self.detach(key) {
            drops.add(reason, datagram.pieces());
        }
    }

    fn attach(&mut self, key: Key<A>, datagram: Box<Datagram>) {
        let source = key.src.source();
        self.by_use.insert(datagram.used, key);
        self.by_source.insert((source, datagram.used));
        self.by_deadline.insert((datagram.deadline, key));
        *self.bytes_of.entry(source).or_default() += datagram.bytes();
        self.bytes += datagram.bytes();
        self.datagrams.insert(key, datagram);
    }

    fn detach(&mut self, key: &Key<A>) -> Option<Box<Datagram>> {
        let datagram = self.datagrams.remove(key)?;
        let source = key.src.source();
        self.by_use.remove(&datagram.used);
        self.by_source.remove(&(source, datagram.used));
        self.by_deadline.remove(&(datagram.deadline, *key));
        self.bytes -= datagram.bytes();
        if let Some(bytes) = self.bytes_of.get_mut(&source) {
            *bytes -= datagram.bytes();
            if *bytes == 0 {
                self.bytes_of.remove(&source);
            }
        }
        Some(datagram)
    }
}

/// Bounds the time that packets wait for expiries.
const EXPIRIES_AT_ONCE: usize = 64;

/// A source may take one of so many shares.
const SHARES: usize = 8;

#[cfg(test)]
mod tests;
