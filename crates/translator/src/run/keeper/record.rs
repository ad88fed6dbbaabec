//! A line of the session log, as it stands in a file.

use std::hash::Hasher as _;

use gateway::{EndReason, LogEntry, LoggedEnd, SessionEnds, SessionProtocol, SessionTraffic};
use mapping::Wall;
use siphasher::sip::SipHasher13;

/// What the log keeps of a session that began or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::run) struct Record {
    /// When it was seen.
    pub(in crate::run) at: Wall,
    /// When the session began.
    pub(in crate::run) began: Wall,
    /// Between whom it is.
    pub(in crate::run) ends: SessionEnds,
    /// Why it ended; `None` where it began.
    pub(in crate::run) ended: Option<EndReason>,
    /// What had passed.
    pub(in crate::run) traffic: SessionTraffic,
}

/// What tells sessions apart that live at the same time.
pub(super) type Key = [u8; KEY];

impl Record {
    /// Adds the record to what will be written.
    pub(super) fn emit(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.push(if self.ended.is_some() { ENDED } else { BEGAN });
        bytes.push(self.ended.map_or(0, reason_code));
        bytes.push(0);
        bytes.extend(self.at.as_nanos().to_be_bytes());
        bytes.extend(self.began.as_nanos().to_be_bytes());
        bytes.extend(key_of(&self.ends));
        let traffic = &self.traffic;
        for packets in [traffic.packets_in, traffic.packets_out] {
            bytes.extend(low::<5>(packets));
        }
        for octets in [traffic.bytes_in, traffic.bytes_out] {
            bytes.extend(low::<6>(octets));
        }
        bytes.extend([0; 2]);
        let sum = checksum(bytes.get(start..).unwrap_or_default());
        bytes.extend(sum.to_be_bytes());
    }

    /// Reads a record that is whole.
    pub(super) fn parse(bytes: &[u8; LEN]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        if checksum(body).to_be_bytes() != *sum {
            return None;
        }
        let mut body = Cursor(body);
        let [kind, why, _] = body.take()?;
        let ended = match kind {
            BEGAN => None,
            ENDED => Some(
                EndReason::ALL
                    .into_iter()
                    .find(|it| reason_code(*it) == why)?,
            ),
            _ => return None,
        };
        let at = Wall::from_nanos(u64::from_be_bytes(body.take()?));
        let began = Wall::from_nanos(u64::from_be_bytes(body.take()?));
        let [protocol] = body.take()?;
        let ends = SessionEnds {
            protocol: SessionProtocol::ALL
                .into_iter()
                .find(|it| protocol_code(*it) == protocol)?,
            remote: (body.take::<16>()?.into(), body.port()?),
            external: (body.take::<16>()?.into(), body.port()?),
            pool: (body.take::<4>()?.into(), body.port()?),
            server: (body.take::<4>()?.into(), body.port()?),
        };
        let traffic = SessionTraffic {
            packets_in: number(body.take::<5>()?),
            packets_out: number(body.take::<5>()?),
            bytes_in: number(body.take::<6>()?),
            bytes_out: number(body.take::<6>()?),
        };
        Some(Self {
            at,
            began,
            ends,
            ended,
            traffic,
        })
    }

    /// Returns the key of a record in a file.
    pub(super) fn key(bytes: &[u8; LEN]) -> Option<Key> {
        bytes.get(KEY_AT..)?.first_chunk().copied()
    }

    /// Returns where the record says behind which transport address the remote was.
    pub(super) fn pool(bytes: &[u8; LEN]) -> Option<[u8; 6]> {
        bytes.get(POOL_AT..)?.first_chunk().copied()
    }

    /// Returns what the record says for itself.
    pub(super) fn entry(&self) -> LogEntry {
        LogEntry {
            ends: self.ends,
            began: self.began,
            ended: self.ended.map(|why| LoggedEnd { at: self.at, why }),
            traffic: self.traffic,
        }
    }
}

/// Returns what tells a session from others that live at the same time.
pub(super) fn key_of(ends: &SessionEnds) -> Key {
    let mut key = [0; KEY];
    let protocol = [protocol_code(ends.protocol)];
    let v6 = [ends.remote, ends.external].map(|(addr, port)| (addr.octets(), port.to_be_bytes()));
    let v4 = [ends.pool, ends.server].map(|(addr, port)| (addr.octets(), port.to_be_bytes()));
    let v6 = v6.iter().flat_map(|(addr, port)| addr.iter().chain(port));
    let v4 = v4.iter().flat_map(|(addr, port)| addr.iter().chain(port));
    for (to, from) in key.iter_mut().zip(protocol.iter().chain(v6).chain(v4)) {
        *to = *from;
    }
    key
}

/// Returns a checksum that no torn write passes by chance.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    u32::try_from(hasher.finish() >> 32).unwrap_or_default()
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn port(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }
}

/// Returns the low bytes of a number, or the largest that fits.
fn low<const N: usize>(number: u64) -> [u8; N] {
    let bytes = number.to_be_bytes();
    match bytes.split_last_chunk::<N>() {
        Some((rest, low)) if rest.iter().all(|byte| *byte == 0) => *low,
        _ => [u8::MAX; N],
    }
}

fn number<const N: usize>(bytes: [u8; N]) -> u64 {
    bytes
        .into_iter()
        .fold(0, |number, byte| (number << 8) | u64::from(byte))
}

const fn protocol_code(protocol: SessionProtocol) -> u8 {
    match protocol {
        SessionProtocol::Icmp => 1,
        SessionProtocol::Tcp => 6,
        SessionProtocol::Udp => 17,
    }
}

const fn reason_code(why: EndReason) -> u8 {
    match why {
        EndReason::Closed => 1,
        EndReason::Evicted => 2,
        EndReason::Expired => 3,
        EndReason::Lost => 4,
        EndReason::Requested => 5,
    }
}

/// The length of a record.
pub(super) const LEN: usize = 96;

const KEY_AT: usize = 19;
const KEY: usize = 1 + 18 + 18 + 6 + 6;
const POOL_AT: usize = KEY_AT + 1 + 18 + 18;

const BEGAN: u8 = 1;
const ENDED: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn record_is_read_as_it_is_written(record in any_record()) {
            let mut bytes = Vec::new();
            record.emit(&mut bytes);

            let bytes: [u8; LEN] = bytes.try_into().unwrap();
            prop_assert_eq!(Record::parse(&bytes), Some(record));
            prop_assert_eq!(Record::key(&bytes), Some(key_of(&record.ends)));
            prop_assert_eq!(&Record::pool(&bytes).unwrap()[..4], record.ends.pool.0.octets());
        }

        #[test]
        fn changed_byte_is_noticed(record in any_record(), at in 0..LEN, change in 1_u8..) {
            let mut bytes = Vec::new();
            record.emit(&mut bytes);
            let mut bytes: [u8; LEN] = bytes.try_into().unwrap();
            bytes[at] ^= change;

            prop_assert_eq!(Record::parse(&bytes), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: [u8; LEN]) {
            let _ = Record::parse(&bytes);
            let _ = Record::key(&bytes);
        }
    }

    #[test]
    fn keys_differ_with_each_end() {
        let mut record = Record {
            at: Wall::from_secs(9),
            began: Wall::from_secs(8),
            ends: SessionEnds {
                protocol: SessionProtocol::Tcp,
                remote: ("2001:db8::1".parse().unwrap(), 1),
                external: ("2001:db8::2".parse().unwrap(), 2),
                pool: ([192, 0, 2, 1].into(), 3),
                server: ([192, 0, 2, 2].into(), 4),
            },
            ended: None,
            traffic: SessionTraffic::default(),
        };
        let key = |record: &Record| {
            let mut bytes = Vec::new();
            record.emit(&mut bytes);
            Record::key(&bytes.try_into().unwrap()).unwrap()
        };
        let first = key(&record);
        record.at = Wall::from_secs(10);
        record.began = Wall::from_secs(7);
        record.ended = Some(EndReason::Expired);
        record.traffic.bytes_in = 7;
        assert_eq!(key(&record), first);
        record.ends.server.1 = 5;
        assert_ne!(key(&record), first);
        record.ends.server.1 = 4;
        record.ends.protocol = SessionProtocol::Udp;
        assert_ne!(key(&record), first);
    }

    #[test]
    fn counts_beyond_a_field_stay_at_its_end() {
        assert_eq!(low::<5>((1 << 40) - 1), [0xff; 5]);
        assert_eq!(low::<5>(1 << 40), [0xff; 5]);
        assert_eq!(number(low::<6>(0x0102_0304_0506)), 0x0102_0304_0506);
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let ends = (
            proptest::sample::select(SessionProtocol::ALL.to_vec()),
            any::<([u8; 16], u16)>(),
            any::<([u8; 16], u16)>(),
            any::<([u8; 4], u16)>(),
            any::<([u8; 4], u16)>(),
        );
        let traffic = (
            0..1_u64 << 40,
            0..1_u64 << 40,
            0..1_u64 << 48,
            0..1_u64 << 48,
        );
        let ended = proptest::option::of(proptest::sample::select(EndReason::ALL.to_vec()));
        (any::<(u64, u64)>(), ends, ended, traffic).prop_map(
            |((at, began), ends, ended, traffic)| {
                let (protocol, remote, external, pool, server) = ends;
                Record {
                    at: Wall::from_nanos(at),
                    began: Wall::from_nanos(began),
                    ends: SessionEnds {
                        protocol,
                        remote: (remote.0.into(), remote.1),
                        external: (external.0.into(), external.1),
                        pool: (pool.0.into(), pool.1),
                        server: (server.0.into(), server.1),
                    },
                    ended,
                    traffic: SessionTraffic {
                        packets_in: traffic.0,
                        packets_out: traffic.1,
                        bytes_in: traffic.2,
                        bytes_out: traffic.3,
                    },
                }
            },
        )
    }
}
