//! Sessions that outlive the process.

use std::hash::{Hash as _, Hasher as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::admission::RuleId;
use crate::bib::Remote;
use crate::counters::Traffic;
use crate::filter::Filter;
use crate::martian::is_host_v6;
use crate::proof::Proof;
use crate::session::{FourTuple, Lifetime, New, SessionId, SixTuple, Tick};
use crate::tcp_state::TcpState;
use crate::transport::Transport;

/// A session as a record of [`Saved::LEN`] bytes.
///
/// Its times are relative to when it was saved: whoever keeps it knows how long ago that was, and
/// says so by [`Saved::aged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    transport: Transport,
    tcp: Option<TcpState>,
    lifetime: Lifetime,
    remote: (Ipv6Addr, u16),
    external: (Ipv6Addr, u16),
    pool: (Ipv4Addr, u16),
    server: (Ipv4Addr, u16),
    /// Seconds since it began.
    age: u32,
    /// Seconds since its last packet.
    idle: u32,
    six_to_four: Traffic,
    four_to_six: Traffic,
}

/// Why a session was not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NotRestored {
    /// Its lifetime has ended meanwhile.
    #[error("its lifetime has ended")]
    Expired,
    /// There is no room.
    #[error("there is no room for another session")]
    Full,
    /// One of its transport addresses stands for something else.
    #[error("its addresses are in use")]
    InUse,
    /// Its port is not open, or leads elsewhere.
    #[error("its port is not open")]
    NotAdmitted,
    /// Its pool address is not of the pool.
    #[error("its pool address is not of the pool")]
    NotInPool,
    /// Its prefix is not valid, or its remote lies in a prefix.
    #[error("its prefix is not valid")]
    NotInPref64,
}

/// Why bytes are no saved session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSaved {
    /// They were changed since.
    #[error("the checksum does not fit")]
    Checksum,
    /// They say what cannot be.
    #[error("the fields contradict each other")]
    Fields,
    /// Another version wrote them.
    #[error("unknown version {0}")]
    Version(u8),
}

impl Saved {
    /// Bytes of a record.
    pub const LEN: usize = 96;

    /// Returns the session as it is if `time` passes without a packet.
    #[must_use]
    pub fn aged(mut self, time: Duration) -> Self {
        let secs = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        self.age = self.age.saturating_add(secs);
        self.idle = self.idle.saturating_add(secs);
        self
    }

    /// Returns the time since its last packet. Whoever restores many begins with the longest:
    /// lifetimes stay exact only in this order, and become longer in any other.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle.into())
    }

    /// Returns how long ago it began.
    #[must_use]
    pub fn age(&self) -> Duration {
        Duration::from_secs(self.age.into())
    }

    /// Returns a number that differs when the session has changed in another way than by being
    /// used.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        let mut hasher = SipHasher13::new();
        let state = [
            transport_code(self.transport),
            self.tcp.map_or(0, tcp_code),
            lifetime_code(self.lifetime),
        ];
        (state, self.remote, self.external, self.pool, self.server).hash(&mut hasher);
        u32::try_from(hasher.finish() >> 32).unwrap_or_default()
    }

    /// Writes the record.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut writer = Writer {
            bytes: [0; Self::LEN],
            at: 0,
        };
        writer.put([VERSION, transport_code(self.transport)]);
        writer.put([self.tcp.map_or(0, tcp_code), lifetime_code(self.lifetime)]);
        for (addr, port) in [self.remote, self.external] {
            writer.put(addr.octets());
            writer.put(port.to_be_bytes());
        }
        for (addr, port) in [self.pool, self.server] {
            writer.put(addr.octets());
            writer.put(port.to_be_bytes());
        }
        writer.put(self.age.to_be_bytes());
        writer.put(self.idle.to_be_bytes());
        for traffic in [self.six_to_four, self.four_to_six] {
            writer.put(traffic.packets.to_be_bytes());
            writer.put(traffic.bytes.to_be_bytes());
        }
        let checksum = checksum(writer.bytes.get(..writer.at).unwrap_or_default());
        writer.put(checksum.to_be_bytes());
        writer.bytes
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, InvalidSaved> {
        let (body, sum) = bytes
            .split_last_chunk::<4>()
            .ok_or(InvalidSaved::Checksum)?;
        if checksum(body) != u32::from_be_bytes(*sum) {
            return Err(InvalidSaved::Checksum);
        }
        let mut reader = Reader { bytes: body };
        let [version, transport, tcp, lifetime] = reader.take()?;
        if version != VERSION {
            return Err(InvalidSaved::Version(version));
        }
        let saved = Self {
            transport: code(Transport::ALL, transport_code, transport)?,
            tcp: match tcp {
                0 => None,
                _ => Some(code(TCP_STATES, tcp_code, tcp)?),
            },
            lifetime: code(LIFETIMES, lifetime_code, lifetime)?,
            remote: (reader.take::<16>()?.into(), reader.number()?),
            external: (reader.take::<16>()?.into(), reader.number()?),
            pool: (reader.take::<4>()?.into(), reader.number()?),
            server: (reader.take::<4>()?.into(), reader.number()?),
            age: u32::from_be_bytes(reader.take()?),
            idle: u32::from_be_bytes(reader.take()?),
            six_to_four: reader.traffic()?,
            four_to_six: reader.traffic()?,
        };
        if !saved.is_consistent() {
            return Err(InvalidSaved::Fields);
        }
        Ok(saved)
    }

    /// Tells whether a session that is proven can be in this state.
    fn is_consistent(&self) -> bool {
        let states = match self.transport {
            Transport::IcmpQuery => self.tcp.is_none() && self.lifetime == Lifetime::IcmpQuery,
            Transport::Tcp => {
                self.tcp.is_some_and(|state| state != TcpState::V6Init)
                    && matches!(
                        self.lifetime,
                        Lifetime::TcpClosing
                            | Lifetime::TcpEstablished
                            | Lifetime::TcpReset
                            | Lifetime::TcpTransitory
                    )
            }
            Transport::Udp => self.tcp.is_none() && self.lifetime == Lifetime::Udp,
        };
        states && self.idle <= self.age
    }
}

impl Filter {
    /// Returns what is to be kept of a session: only what its remote has proven.
    pub(crate) fn saved(&self, id: SessionId, now: Tick) -> Option<Saved> {
        let entry = self.sessions.get(id)?;
        if entry.proof != Proof::Given || !self.passes(&entry) {
            return None;
        }
        let nsp = self.nsps.get(entry.six.nsp)?;
        let saved = Saved {
            transport: entry.six.transport,
            tcp: entry.tcp,
            lifetime: entry.lifetime,
            remote: (entry.six.remote, entry.six.remote_port),
            external: (nsp.embed(entry.six.server), entry.six.external_port),
            pool: (entry.four.pool, entry.four.pool_port),
            server: (entry.four.server, entry.four.internal_port),
            age: now.0.saturating_sub(entry.opened.0),
            idle: now.0.saturating_sub(entry.last_used.0),
            six_to_four: entry.traffic.0.total(),
            four_to_six: entry.traffic.1.total(),
        };
        saved.is_consistent().then_some(saved)
    }

    /// Brings a session back if it would be let in now, with the same addresses.
    pub(crate) fn restore(&mut self, saved: &Saved, now: Tick) -> Result<(), NotRestored> {
        let (six, four, rule) = self.readmit(saved, now)?;
        let lifetime = self.sessions.lifetime(saved.lifetime);
        // who was to be probed meanwhile is probed now
        let grace = match saved.lifetime {
            Lifetime::TcpEstablished | Lifetime::TcpReset => {
                self.sessions.lifetime(Lifetime::TcpTransitory)
            }
            _ => 0,
        };
        if saved.idle >= lifetime.saturating_add(grace) {
            return Err(NotRestored::Expired);
        }
        if self.sessions.is_full() {
            return Err(NotRestored::Full);
        }
        if self.sessions.find_six(&six).is_some() || self.sessions.find_four(&four).is_some() {
            return Err(NotRestored::InUse);
        }
        let bib = self
            .sessions
            .bib
            .bind(Remote::of(&six), four.pool, four.pool_port)
            .ok_or(NotRestored::InUse)?;
        let last_used = Tick(now.0.saturating_sub(saved.idle));
        let new = New {
            six,
            four,
            bib,
            rule,
            tcp: saved.tcp,
            lifetime: saved.lifetime,
        };
        let Some(id) = self.sessions.insert_used(new, last_used) else {
            self.sessions.bib.release(bib);
            return Err(NotRestored::Full);
        };
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.opened = Tick(now.0.saturating_sub(saved.age));
            entry.proof = Proof::Given;
            entry.told = true;
            entry.traffic.0.add(saved.six_to_four);
            entry.traffic.1.add(saved.four_to_six);
        }
        self.opened += 1;
        self.began(id, bib);
        Ok(())
    }

    /// Returns the tuples of a saved session, and the rule that lets it in now. A connection whose
    /// port has closed meanwhile is as one that was cut then.
    fn readmit(
        &mut self,
        saved: &Saved,
        now: Tick,
    ) -> Result<(SixTuple, FourTuple, RuleId), NotRestored> {
        let (nsp, server) = self
            .nsps
            .extract(saved.external.0)
            .filter(|(_, server)| *server == saved.server.0)
            .ok_or(NotRestored::NotInPref64)?;
        if self.nsps.contains(saved.remote.0) || !is_host_v6(saved.remote.0) {
            return Err(NotRestored::NotInPref64);
        }
        if !self.sessions.bib.contains(saved.pool.0) || self.sessions.bib.contains(server) {
            return Err(NotRestored::NotInPool);
        }
        let six = SixTuple {
            transport: saved.transport,
            remote: saved.remote.0,
            remote_port: saved.remote.1,
            nsp,
            server,
            external_port: saved.external.1,
        };
        let four = FourTuple {
            transport: saved.transport,
            pool: saved.pool.0,
            pool_port: saved.pool.1,
            server,
            internal_port: saved.server.1,
        };
        let admitted = self.admissions.admit(&six);
        let rule = admitted
            .ok()
            .filter(|(_, internal)| *internal == saved.server.1)
            .filter(|_| saved.transport != Transport::IcmpQuery || saved.external.1 == 0)
            .map(|(rule, _)| rule);
        if rule.is_none() && saved.transport == Transport::Tcp {
            self.severed.add(&six, &four, now);
        }
        Ok((six, four, rule.ok_or(NotRestored::NotAdmitted)?))
    }
}

struct Writer {
    bytes: [u8; Saved::LEN],
    at: usize,
}

impl Writer {
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        if let Some(bytes) = self.bytes.get_mut(self.at..self.at + N) {
            bytes.copy_from_slice(&field);
        }
        self.at += N;
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], InvalidSaved> {
        let (field, rest) = self.bytes.split_first_chunk().ok_or(InvalidSaved::Fields)?;
        self.bytes = rest;
        Ok(*field)
    }

    fn number(&mut self) -> Result<u16, InvalidSaved> {
        self.take().map(u16::from_be_bytes)
    }

    fn traffic(&mut self) -> Result<Traffic, InvalidSaved> {
        Ok(Traffic {
            packets: u64::from_be_bytes(self.take()?),
            bytes: u64::from_be_bytes(self.take()?),
        })
    }
}

fn code<T: Copy, const N: usize>(
    all: [T; N],
    code: fn(T) -> u8,
    wanted: u8,
) -> Result<T, InvalidSaved> {
    all.into_iter()
        .find(|value| code(*value) == wanted)
        .ok_or(InvalidSaved::Fields)
}

/// IANA protocol numbers.
const fn transport_code(transport: Transport) -> u8 {
    match transport {
        Transport::IcmpQuery => 1,
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

const fn tcp_code(state: TcpState) -> u8 {
    match state {
        TcpState::Established => 1,
        TcpState::V4FinRcv => 2,
        TcpState::V4FinV6FinRcv => 3,
        TcpState::V6FinRcv => 4,
        TcpState::V6Init => 5,
        TcpState::Trans => 6,
        TcpState::V4Init => 7,
    }
}

const fn lifetime_code(lifetime: Lifetime) -> u8 {
    match lifetime {
        Lifetime::IcmpQuery => 1,
        Lifetime::TcpClosing => 2,
        Lifetime::TcpEstablished => 3,
        Lifetime::TcpOpening => 4,
        Lifetime::TcpReset => 5,
        Lifetime::TcpTransitory => 6,
        Lifetime::Udp => 7,
        Lifetime::UdpOpening => 8,
    }
}

/// FNV-1a: a torn write does not pass; nobody is to be kept from forging.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Of the record.
const VERSION: u8 = 1;

const TCP_STATES: [TcpState; 7] = [
    TcpState::Established,
    TcpState::V4FinRcv,
    TcpState::V4FinV6FinRcv,
    TcpState::V6FinRcv,
    TcpState::V6Init,
    TcpState::Trans,
    TcpState::V4Init,
];

const LIFETIMES: [Lifetime; 8] = [
    Lifetime::IcmpQuery,
    Lifetime::TcpClosing,
    Lifetime::TcpEstablished,
    Lifetime::TcpOpening,
    Lifetime::TcpReset,
    Lifetime::TcpTransitory,
    Lifetime::Udp,
    Lifetime::UdpOpening,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_is_refused(bytes: [u8; 32], at in 0..64_usize) {
            let mut record = saved().encode();
            record[at..at + 32].copy_from_slice(&bytes);
            if record != saved().encode() {
                prop_assert!(Saved::decode(&record).is_err());
            }
        }

        #[test]
        fn what_decodes_encodes_to_the_same(
            fields in prop::collection::vec((0..92_usize, any::<u8>()), 0..8),
        ) {
            let mut record = saved().encode();
            for (at, value) in fields {
                record[at] = value;
            }
            let sum = checksum(&record[..92]);
            record[92..].copy_from_slice(&sum.to_be_bytes());
            if let Ok(saved) = Saved::decode(&record) {
                prop_assert_eq!(saved.encode(), record);
            }
        }
    }

    #[test]
    fn every_code_is_its_own() {
        for state in TCP_STATES {
            assert_eq!(code(TCP_STATES, tcp_code, tcp_code(state)), Ok(state));
        }
        for lifetime in LIFETIMES {
            let number = lifetime_code(lifetime);
            assert_eq!(code(LIFETIMES, lifetime_code, number), Ok(lifetime));
        }
    }

    #[test]
    fn record_is_full_and_of_this_version() {
        let mut record = saved().encode();
        assert_eq!(Saved::decode(&record), Ok(saved()));

        record[0] = 9;
        let sum = checksum(&record[..92]);
        record[92..].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(Saved::decode(&record), Err(InvalidSaved::Version(9)));
    }

    #[test]
    fn fingerprint_tells_change_from_use() {
        let mut other = saved().aged(Duration::from_secs(9));
        other.six_to_four.packets += 1;
        assert_eq!(other.fingerprint(), saved().fingerprint());

        other.tcp = Some(TcpState::Trans);
        assert_ne!(other.fingerprint(), saved().fingerprint());
    }

    #[test]
    fn half_open_session_is_no_record() {
        for change in [
            (|saved| saved.tcp = Some(TcpState::V6Init)) as fn(&mut Saved),
            |saved| saved.tcp = None,
            |saved| saved.lifetime = Lifetime::TcpOpening,
            |saved| saved.lifetime = Lifetime::Udp,
            |saved| saved.transport = Transport::Udp,
            |saved| saved.idle = saved.age + 1,
        ] {
            let mut saved = saved();
            change(&mut saved);
            assert_eq!(Saved::decode(&saved.encode()), Err(InvalidSaved::Fields));
        }
    }

    fn saved() -> Saved {
        let traffic = |packets, bytes| Traffic { packets, bytes };
        Saved {
            transport: Transport::Tcp,
            tcp: Some(TcpState::Established),
            lifetime: Lifetime::TcpEstablished,
            remote: ("2001:db8::1".parse().unwrap(), 4000),
            external: ("2001:db8:64:1::c0a8:4007".parse().unwrap(), 80),
            pool: ([192, 168, 64, 193].into(), 4001),
            server: ([192, 168, 64, 7].into(), 8080),
            age: 1000,
            idle: 100,
            six_to_four: traffic(1, 2),
            four_to_six: traffic(u64::MAX, 3),
        }
    }
}
