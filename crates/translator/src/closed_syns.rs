//! SYNs to closed ports that are to hear that: not at once, because the port may open meanwhile or
//! the other side open too (RFC 5382 REQ-4, RFC 6092 REC-34).

use std::collections::VecDeque;
use std::time::Duration;

use mapping::Instant;

use crate::session::SixTuple;

/// The SYNs that wait for their answer, bounded; those that find no room hear nothing.
#[derive(Debug, Default)]
pub(crate) struct ClosedSyns(VecDeque<ClosedSyn>);

/// A SYN that waits.
#[derive(Debug)]
pub(crate) struct ClosedSyn {
    due: Instant,
    pub(crate) tuple: SixTuple,
    /// As much of it as an answer quotes.
    pub(crate) packet: Box<[u8]>,
}

impl ClosedSyns {
    /// Lets a SYN wait. One that comes again has its answer with the first.
    pub(crate) fn put(&mut self, tuple: SixTuple, packet: &[u8], now: Instant) {
        if self.0.len() >= CAPACITY || self.0.iter().any(|syn| syn.tuple == tuple) {
            return;
        }
        self.0.push_back(ClosedSyn {
            due: now + DELAY,
            tuple,
            packet: packet.get(..QUOTED).unwrap_or(packet).into(),
        });
    }

    /// Takes a SYN that has waited for long enough.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<ClosedSyn> {
        self.0.pop_front_if(|syn| syn.due <= now)
    }

    /// Returns when the next SYN has waited for long enough.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.front().map(|syn| syn.due)
    }
}

/// RFC 5382 REQ-4.
const DELAY: Duration = Duration::from_secs(6);

/// Some forty in a second.
const CAPACITY: usize = 256;

/// RFC 4443 §2.4 (c): what fits the minimum MTU behind the headers of the answer.
const QUOTED: usize = 1280 - 40 - 8;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::nsps::NspId;
    use crate::transport::Transport;

    #[test]
    fn each_connection_waits_once_and_six_seconds() {
        let mut syns = ClosedSyns::default();
        let start = Instant::from_nanos(0);
        let second = Duration::from_secs(1);
        syns.put(tuple(1), b"first", start);
        syns.put(tuple(1), b"again", start + second);
        syns.put(tuple(2), b"other", start + second);

        assert_eq!(syns.next_due(), Some(start + 6 * second));
        assert!(
            syns.pop_due(start + 6 * second - Duration::from_nanos(1))
                .is_none()
        );
        let due = syns.pop_due(start + 6 * second).unwrap();
        assert_eq!(&*due.packet, b"first");
        assert!(syns.pop_due(start + 6 * second).is_none());
        assert_eq!(syns.next_due(), Some(start + 7 * second));
    }

    #[test]
    fn those_that_wait_are_bounded() {
        let mut syns = ClosedSyns::default();
        let start = Instant::from_nanos(0);
        for port in 0..10_000 {
            syns.put(tuple(port), &[0; 1400], start);
        }

        let due: Vec<_> = std::iter::from_fn(|| syns.pop_due(start + DELAY)).collect();

        assert_eq!(due.len(), 256);
        assert!(due.iter().all(|syn| syn.packet.len() == 1232));
    }

    fn tuple(remote_port: u16) -> SixTuple {
        SixTuple {
            transport: Transport::Tcp,
            remote: Ipv6Addr::LOCALHOST,
            remote_port,
            nsp: NspId(0),
            server: Ipv4Addr::LOCALHOST,
            external_port: 80,
        }
    }
}
