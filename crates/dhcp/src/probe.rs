//! Looks for another DHCP server on the LAN before the first OFFER: two servers that hand out
//! the same subnet break a home.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use mapping::{Instant, Mac, Now};
use rand::Rng;

use crate::wire::{BROADCAST, Message, MessageType, Op, Options, code};

/// Asks as a client would, and listens for who answers.
///
/// ```text
///               silence for a second
///   Listening ─────────────────────────► Clear
///    │     ▲
///    │     └───── a minute ────┐
///    └── somebody answers ► Foreign
/// ```
#[derive(Debug)]
pub struct Probe<R> {
    mac: Mac,
    rng: R,
    state: State,
    foreign: Option<Ipv4Addr>,
    transmits: VecDeque<Vec<u8>>,
    last_seen: Instant,
}

/// Why the probe wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeTimer {
    /// Queued output has not been drained.
    Drain,
    /// The time to answer is over.
    Listen,
    /// It is time to look again.
    Retry,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Clear,
    Foreign { retry: Instant },
    Listening { xid: u32, until: Instant },
}

impl<R: Rng> Probe<R> {
    /// Begins to look, as the interface with the address `mac`.
    #[must_use]
    pub fn new(mac: Mac, mut rng: R, now: Now) -> Self {
        let state = State::Listening {
            xid: rng.next_u32(),
            until: now.mono + LISTEN,
        };
        let mut probe = Self {
            mac,
            rng,
            state,
            foreign: None,
            transmits: VecDeque::new(),
            last_seen: now.mono,
        };
        probe.ask();
        probe
    }

    /// Tells whether an answer would be heard now.
    #[must_use]
    pub const fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening { .. })
    }

    /// Tells whether the LAN was found without another server.
    #[must_use]
    pub const fn is_clear(&self) -> bool {
        matches!(self.state, State::Clear)
    }

    /// Returns the other server, as long as it was there when last looked.
    #[must_use]
    pub const fn foreign(&self) -> Option<Ipv4Addr> {
        self.foreign
    }

    /// Takes a datagram that came to port 68 from `source`.
    pub fn handle_datagram(&mut self, bytes: &[u8], source: Ipv4Addr, now: Now) {
        self.last_seen = now.mono;
        let State::Listening { xid, .. } = self.state else {
            return;
        };
        let Ok(message) = Message::parse(bytes) else {
            return;
        };
        let offers = matches!(
            message.kind(),
            Some(MessageType::Offer | MessageType::Ack | MessageType::Nak)
        );
        if message.op == Op::BootReply && message.xid == xid && offers {
            let named = message.options.addr(code::SERVER_ID).ok().flatten();
            self.foreign = Some(named.unwrap_or(source));
            self.state = State::Foreign {
                retry: now.mono + RETRY,
            };
        }
    }

    /// Runs what is due; early or twice changes nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        self.last_seen = now.mono;
        match self.state {
            State::Listening { until, .. } if now.mono >= until => {
                self.foreign = None;
                self.state = State::Clear;
            }
            State::Foreign { retry } if now.mono >= retry => {
                let (xid, until) = (self.rng.next_u32(), now.mono + LISTEN);
                self.state = State::Listening { xid, until };
                self.ask();
            }
            State::Clear | State::Foreign { .. } | State::Listening { .. } => {}
        }
    }

    /// Returns the next datagram to broadcast from port 68 to port 67.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, ProbeTimer)> {
        if !self.transmits.is_empty() {
            return Some((self.last_seen, ProbeTimer::Drain));
        }
        match self.state {
            State::Clear => None,
            State::Foreign { retry } => Some((retry, ProbeTimer::Retry)),
            State::Listening { until, .. } => Some((until, ProbeTimer::Listen)),
        }
    }

    fn ask(&mut self) {
        let State::Listening { xid, .. } = self.state else {
            return;
        };
        let mut options = Options::default();
        options.set(code::MESSAGE_TYPE, [MessageType::Discover.into()]);
        options.set(code::PARAMETERS, [code::SUBNET_MASK, code::ROUTER]);
        let mut chaddr = [0; 16];
        for (place, byte) in chaddr.iter_mut().zip(self.mac.0) {
            *place = byte;
        }
        let discover = Message {
            op: Op::BootRequest,
            htype: 1,
            hlen: 6,
            xid,
            flags: BROADCAST,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            options,
        };
        self.transmits
            .push_back(discover.emit(&[code::MESSAGE_TYPE], LONGEST));
    }
}

/// A server answers a DISCOVER at once, unless it pings the address first: most wait for that
/// less than a second.
const LISTEN: Duration = Duration::from_secs(1);

/// How soon a home is served after the other server is gone.
const RETRY: Duration = Duration::from_secs(60);

const LONGEST: usize = 548;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn silence_for_a_second_is_a_clear_lan() {
        let mut probe = probe();
        assert!(probe.poll_transmit().is_some());

        probe.handle_timeout(at(999));
        assert!(probe.is_listening());
        probe.handle_timeout(at(1000));

        assert!(probe.is_clear());
        assert_eq!(probe.poll_timeout(), None);
    }

    #[test]
    fn an_offer_of_somebody_else_is_found_and_looked_for_again() {
        let mut probe = probe();
        let answer = answer(&mut probe, MessageType::Offer);

        probe.handle_datagram(&answer, Ipv4Addr::new(192, 168, 64, 254), at(100));

        assert_eq!(probe.foreign(), Some(Ipv4Addr::new(192, 168, 64, 254)));
        assert_eq!(
            probe.poll_timeout(),
            Some((at(60_100).mono, ProbeTimer::Retry))
        );
        probe.handle_timeout(at(60_100));
        assert!(probe.is_listening() && probe.poll_transmit().is_some());
        assert!(
            probe.foreign().is_some(),
            "nothing is served while it looks again"
        );
        probe.handle_timeout(at(61_100));
        assert!(probe.is_clear() && probe.foreign().is_none());
    }

    #[test]
    fn answers_to_others_mean_nothing() {
        let mut probe = probe();
        let mut answer = answer(&mut probe, MessageType::Offer);
        answer[7] ^= 1;

        probe.handle_datagram(&answer, Ipv4Addr::LOCALHOST, at(100));

        assert!(probe.is_listening());
    }

    #[test]
    fn the_question_itself_is_no_answer() {
        let mut probe = probe();
        let question = probe.poll_transmit().unwrap();

        probe.handle_datagram(&question, Ipv4Addr::UNSPECIFIED, at(1));

        assert!(probe.is_listening());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            probe().handle_datagram(&bytes, Ipv4Addr::LOCALHOST, at(1));
        }
    }

    fn probe() -> Probe<StdRng> {
        Probe::new(Mac([2, 0, 0, 0, 0, 1]), StdRng::seed_from_u64(1), at(0))
    }

    fn answer(probe: &mut Probe<StdRng>, kind: MessageType) -> Vec<u8> {
        let mut message = Message::parse(&probe.poll_transmit().unwrap()).unwrap();
        message.op = Op::BootReply;
        message.options.set(code::MESSAGE_TYPE, [kind.into()]);
        message.emit(&[], 548)
    }

    fn at(millis: u64) -> Now {
        Now {
            mono: Instant::from_nanos(millis * 1_000_000),
            ..Now::default()
        }
    }
}
