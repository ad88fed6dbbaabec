//! Asks the resolvers outside on behalf of the LAN.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use mapping::Instant;
use rand::RngExt as _;

use crate::wire::{self, Head, Malformed, Transport};

/// Begins the exchanges, so many at a time, with ids that nobody can guess (RFC 5452 §9.2).
#[derive(Debug)]
pub struct Forwarder<R> {
    rng: R,
    in_flight: usize,
    /// Counts the resolvers that were found silent; the next exchange begins at another one.
    skip: usize,
}

/// Why a question was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotForwarded {
    /// Too many questions wait already.
    #[error("too many questions wait already")]
    Busy,
    /// It cannot be read.
    #[error(transparent)]
    Malformed(Malformed),
    /// No resolver is known.
    #[error("no resolver is known")]
    NoResolver,
}

impl<R: rand::Rng> Forwarder<R> {
    /// Makes a forwarder without any question under way.
    #[must_use]
    pub const fn new(rng: R) -> Self {
        Self {
            rng,
            in_flight: 0,
            skip: 0,
        }
    }

    /// Begins to ask; [`Self::end`] must follow.
    ///
    /// # Errors
    /// When there is nobody to ask, or too many ask.
    pub fn begin(
        &mut self,
        query: &[u8],
        resolvers: &[SocketAddr],
        now: Instant,
    ) -> Result<Exchange, NotForwarded> {
        let first = self
            .skip
            .checked_rem(resolvers.len())
            .ok_or(NotForwarded::NoResolver)?;
        let question = wire::question(query)
            .map_err(NotForwarded::Malformed)?
            .to_vec();
        let head = Head::parse(query).map_err(NotForwarded::Malformed)?;
        if self.in_flight >= MOST_IN_FLIGHT {
            return Err(NotForwarded::Busy);
        }
        self.in_flight = self.in_flight.saturating_add(1);
        let order = resolvers.iter().cycle().skip(first).copied();
        let attempts = order
            .take(ATTEMPTS)
            .map(|to| (to, self.rng.random()))
            .collect();
        let mut exchange = Exchange {
            query: query.to_vec(),
            client_id: head.id,
            question,
            attempts,
            current: None,
            transmit: None,
            fallback: None,
            outcome: None,
            silent: 0,
        };
        exchange.next_attempt(now);
        Ok(exchange)
    }

    /// Ends an exchange; a first resolver that was silent is not asked first again.
    pub fn end(&mut self, exchange: &Exchange) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if exchange.silent > 0 {
            self.skip = self.skip.wrapping_add(1);
        }
    }

    /// Returns how many questions are under way.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }
}

/// One question to the resolvers, one after the other.
///
/// ```text
///            answer                            SERVFAIL, REFUSED, silence
///  Asking ───────────► done: Answered   Asking ──────────────────────────► Asking the next
///     │ TC by UDP                                                             │ none left
///     └──────────► Asking by TCP                            done: Answered or Failed ◄┘
/// ```
#[derive(Debug)]
pub struct Exchange {
    query: Vec<u8>,
    client_id: u16,
    question: Vec<u8>,
    attempts: VecDeque<(SocketAddr, u16)>,
    current: Option<Attempt>,
    transmit: Option<Transmit>,
    /// An answer that is worse than none, unless none comes.
    fallback: Option<Vec<u8>>,
    outcome: Option<Outcome>,
    silent: usize,
}

/// A question to send, from a port of its own (RFC 5452 §9.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The resolver.
    pub to: SocketAddr,
    /// How; by TCP after an answer that was cut.
    pub transport: Transport,
    /// The message.
    pub payload: Vec<u8>,
}

/// The end of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// What a resolver said, with the client's id and otherwise as it came.
    Answered(Vec<u8>),
    /// No resolver said anything.
    Failed,
}

/// Why the exchange wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The resolver has been silent for long enough.
    Attempt,
}

/// An answer that is none to this question; it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(Malformed),
    /// Another source, id or question.
    #[error("not an answer to this question")]
    Foreign,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    to: SocketAddr,
    id: u16,
    transport: Transport,
    deadline: Instant,
}

impl Exchange {
    /// Takes what came back from `from`.
    ///
    /// # Errors
    /// When it is not the answer; the exchange goes on waiting (RFC 5452 §9.1).
    pub fn handle_response(
        &mut self,
        from: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), Ignored> {
        let current = self
            .current
            .filter(|current| current.to == from)
            .ok_or(Ignored::Foreign)?;
        let head = Head::parse(bytes).map_err(Ignored::Malformed)?;
        if !head.is_response() || head.id != current.id {
            return Err(Ignored::Foreign);
        }
        // a server that could not read the question need not repeat it
        if head.counts.first() != Some(&0) || head.rcode() == NO_ERROR {
            let question = wire::question(bytes).map_err(Ignored::Malformed)?;
            if !question.eq_ignore_ascii_case(&self.question) {
                return Err(Ignored::Foreign);
            }
        }
        let answer = wire::with_id(bytes, self.client_id);
        if head.is_truncated() && current.transport == Transport::Udp {
            self.fallback = Some(answer);
            self.attempt(current.to, current.id, Transport::Tcp, now);
        } else if matches!(head.rcode(), SERV_FAIL | NOT_IMP | REFUSED) {
            self.fallback.get_or_insert(answer);
            self.next_attempt(now);
        } else {
            self.finish(Outcome::Answered(answer));
        }
        Ok(())
    }

    /// Learns that the resolver cannot be reached; tells whether that ended an attempt.
    pub fn handle_unreachable(&mut self, now: Instant) -> bool {
        let waited = self.current.is_some();
        if waited {
            self.silent = self.silent.saturating_add(1);
            self.next_attempt(now);
        }
        waited
    }

    /// Goes on to the next resolver if this one was silent; tells whether it was.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let due = self.current.is_some_and(|current| now >= current.deadline);
        due && self.handle_unreachable(now)
    }

    /// Returns the next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmit.take()
    }

    /// Returns the end, once.
    pub fn poll_event(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// Returns when to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.current
            .map(|current| (current.deadline, Timer::Attempt))
    }

    fn next_attempt(&mut self, now: Instant) {
        match self.attempts.pop_front() {
            Some((to, id)) => self.attempt(to, id, Transport::Udp, now),
            None => {
                let outcome = self
                    .fallback
                    .take()
                    .map_or(Outcome::Failed, Outcome::Answered);
                self.finish(outcome);
            }
        }
    }

    fn attempt(&mut self, to: SocketAddr, id: u16, transport: Transport, now: Instant) {
        let deadline = now + PATIENCE;
        self.current = Some(Attempt {
            to,
            id,
            transport,
            deadline,
        });
        let payload = wire::with_id(&self.query, id);
        self.transmit = Some(Transmit {
            to,
            transport,
            payload,
        });
    }

    fn finish(&mut self, outcome: Outcome) {
        self.current = None;
        self.transmit = None;
        self.outcome = Some(outcome);
    }
}

/// Each holds a socket.
pub const MOST_IN_FLIGHT: usize = 128;

/// Together with [`PATIENCE`] less than the five seconds after which stub resolvers give up.
const ATTEMPTS: usize = 4;

/// How long a resolver may be silent.
const PATIENCE: Duration = Duration::from_millis(1100);

const NO_ERROR: u16 = 0;
const SERV_FAIL: u16 = 2;
const NOT_IMP: u16 = 4;
const REFUSED: u16 = 5;

#[cfg(test)]
mod tests;
