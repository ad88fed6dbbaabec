//! TCP SYNs from IPv4 that nobody has asked for: each waits for a SYN from IPv6 (simultaneous
//! open), and is refused when none comes (RFC 6146 §3.5.2.2, RFC 5382 REQ-4).

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use mapping::Instant;

use crate::checksum::Sum;
use crate::proof::Proof;
use crate::session::FourTuple;
use crate::wire::{icmp, ipv4, vnet};

/// The SYNs that wait; bounded.
#[derive(Debug)]
pub(crate) struct Waiting {
    syns: HashMap<Connection, Syn>,
    /// In the order of their deadlines; those whose SYN is gone are passed over.
    deadlines: VecDeque<(Instant, Connection)>,
}

/// The four numbers of a TCP connection in IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Connection {
    pool: u32,
    server: u32,
    ports: (u16, u16),
}

impl From<&FourTuple> for Connection {
    fn from(four: &FourTuple) -> Self {
        Self {
            pool: four.pool.to_bits(),
            server: four.server.to_bits(),
            ports: (four.pool_port, four.internal_port),
        }
    }
}

/// A SYN that waits.
#[derive(Debug, Clone)]
pub(crate) struct Syn {
    deadline: Instant,
    /// What the answer must prove.
    pub(crate) proof: Proof,
    packet: [u8; KEPT],
    len: usize,
}

impl Syn {
    /// Returns the packet, as much of it as an error must quote.
    pub(crate) fn packet(&self) -> &[u8] {
        self.packet.get(..self.len).unwrap_or_default()
    }
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self {
            syns: HashMap::with_capacity(SYNS),
            deadlines: VecDeque::with_capacity(SYNS),
        }
    }

    /// Lets a SYN wait, or again no longer than the first time; tells whether there is room.
    pub(super) fn put(
        &mut self,
        four: &FourTuple,
        proof: Proof,
        packet: &[u8],
        now: Instant,
    ) -> bool {
        let connection = four.into();
        if self.syns.contains_key(&connection) {
            return true;
        }
        // A deadline stays behind when its SYN is taken, so that it is these that are bounded.
        if self.deadlines.len() >= SYNS {
            return false;
        }
        let deadline = now + TCP_INCOMING_SYN;
        let mut kept = [0; KEPT];
        for (to, from) in kept.iter_mut().zip(packet) {
            *to = *from;
        }
        let syn = Syn {
            deadline,
            proof,
            packet: kept,
            len: packet.len().min(KEPT),
        };
        self.syns.insert(connection, syn);
        self.deadlines.push_back((deadline, connection));
        true
    }

    /// Takes the SYN that has waited for this connection.
    pub(super) fn take(&mut self, four: &FourTuple) -> Option<Syn> {
        if self.syns.is_empty() {
            return None;
        }
        self.syns.remove(&four.into())
    }

    /// Takes a SYN that has waited for long enough.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Syn> {
        while let Some((deadline, connection)) = self.deadlines.front().copied() {
            if deadline > now {
                return None;
            }
            self.deadlines.pop_front();
            // One that came later waits for its own deadline.
            if self
                .syns
                .get(&connection)
                .is_some_and(|syn| syn.deadline == deadline)
            {
                return self.syns.remove(&connection);
            }
        }
        None
    }

    /// Returns when the next SYN has waited for long enough.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }
}

/// Returns what tells the sender of `packet` that its port is unreachable: all before the quoted
/// packet, and the quoted packet (RFC 792, RFC 6146 §3.5.2.2).
pub(crate) fn refusal(packet: &[u8]) -> Option<([u8; HEAD], &[u8])> {
    let (src, dst) = addrs(packet)?;
    let total_len = u16::try_from(ipv4::LEN + icmp::LEN + packet.len()).ok()?;
    let mut bytes = [0; HEAD];
    let (_, rest) = bytes.split_first_chunk_mut::<{ vnet::LEN }>()?;
    let (ip, message) = rest.split_first_chunk_mut::<{ ipv4::LEN }>()?;
    let answer = ipv4::Header {
        header_len: ipv4::LEN,
        tos: 0,
        total_len,
        id: 0,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: TTL,
        protocol: icmp::PROTOCOL_V4,
        src: dst,
        dst: src,
        source_routed: false,
    };
    answer.emit(ip);
    let message: &mut [u8; icmp::LEN] = message.try_into().ok()?;
    *message = [UNREACHABLE, PORT, 0, 0, 0, 0, 0, 0];
    let checksum = !(Sum::of(message) + Sum::of(packet)).fold();
    let [high, low] = checksum.to_be_bytes();
    *message = [UNREACHABLE, PORT, high, low, 0, 0, 0, 0];
    Some((bytes, packet))
}

/// Returns source and destination of a packet that has been parsed before.
fn addrs(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (_, rest) = packet.split_first_chunk::<12>()?;
    let (src, rest) = rest.split_first_chunk::<4>()?;
    let dst = rest.first_chunk::<4>()?;
    Some((Ipv4Addr::from(*src), Ipv4Addr::from(*dst)))
}

const HEAD: usize = vnet::LEN + ipv4::LEN + icmp::LEN;

/// RFC 792: destination unreachable, port unreachable.
const UNREACHABLE: u8 = 3;
const PORT: u8 = 3;

/// RFC 1700: the default time to live.
const TTL: u8 = 64;

/// RFC 6146 §4: `TCP_INCOMING_SYN`; RFC 5382 REQ-4 allows no less.
const TCP_INCOMING_SYN: Duration = Duration::from_secs(6);

/// SYNs that may wait at once: what nobody has asked for has no claim to more memory than 200 KB.
const SYNS: usize = 1024;

/// Longer than any IP and TCP header.
const KEPT: usize = 128;
