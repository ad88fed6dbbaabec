//! One connection of DNS over TCP: bytes in, queries out; answers in, bytes out.

use std::collections::VecDeque;
use std::time::Duration;

use mapping::Instant;

use crate::server::DropReason;
use crate::wire::Malformed;

/// Cuts the stream into queries, lines up the answers, and says when it is over.
///
/// ```text
///              FIN                 nothing left to answer or to send
///   Open ──────────────► Ended ──────────────────────────► done: Client
///    │  no head                       "
///    ├─────────────────► Malformed ──────────────────────► done: Malformed
///    │  idle, or answers not taken, or reset
///    └───────────────────────────────────────────────────► done: Idle, Slow, Untaken, Broken
/// ```
#[derive(Debug)]
pub struct Connection {
    state: State,
    /// What is not yet a whole query, or waits for its turn.
    input: Vec<u8>,
    /// Queries taken and not answered.
    asked: usize,
    /// Answers with their length, and how much of the first is sent.
    answers: VecDeque<Vec<u8>>,
    sent: usize,
    /// Since when the first answer waits to be taken.
    sending_since: Instant,
    /// When the last answer was sent, or the connection was made.
    idle_since: Instant,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Reset, or unusable.
    Broken,
    /// The client ended it, and has every answer.
    Client,
    /// No query came.
    Idle,
    /// A message without a head: what follows it means nothing.
    Malformed,
    /// A query began and did not end.
    Slow,
    /// The client does not take its answers.
    Untaken,
}

/// Why the connection wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The next query is overdue.
    Idle,
    /// An answer should have been taken by now.
    Send,
}

impl Connection {
    /// Begins a connection.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            state: State::Open,
            input: Vec::new(),
            asked: 0,
            answers: VecDeque::new(),
            sent: 0,
            sending_since: now,
            idle_since: now,
        }
    }

    /// Tells whether more should be read: a client that has enough under way must wait.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        self.state == State::Open && self.pending() < MOST_PENDING
    }

    /// Takes what the client sent; some bytes of a query do not make it less idle
    /// (RFC 7766 §6.2.3).
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.state == State::Open {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Learns that the client sends no more. It may still read: one that is gone answers what
    /// we send with a reset.
    ///
    /// # Errors
    /// When the stream ended within a message.
    pub fn handle_end(&mut self) -> Result<(), Malformed> {
        if self.state != State::Open {
            return Ok(());
        }
        self.state = State::Ended;
        let mut whole = 0;
        while let Some(query) = first(self.input.get(whole..).unwrap_or_default()) {
            whole = whole.saturating_add(LENGTH).saturating_add(query.len());
        }
        let cut = self.input.len().saturating_sub(whole);
        self.input.truncate(whole);
        if cut == 0 {
            Ok(())
        } else {
            Err(Malformed::Cut { len: cut })
        }
    }

    /// Learns that the connection cannot be used any longer.
    pub fn handle_broken(&mut self) {
        self.close(Closed::Broken);
    }

    /// Takes the answer to any query that was taken (RFC 7766 §7: in any order).
    pub fn handle_answer(&mut self, answer: &[u8], now: Instant) {
        self.asked = self.asked.saturating_sub(1);
        // no answer is longer: a resolver's came in a frame or a datagram, ours is cut to fit
        let Ok(length) = u16::try_from(answer.len()) else {
            return;
        };
        if matches!(self.state, State::Closed(_)) {
            return;
        }
        if self.answers.is_empty() {
            self.sending_since = now;
        }
        // RFC 7766 §8: the length leaves with its message
        let mut framed = Vec::with_capacity(answer.len().saturating_add(LENGTH));
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(answer);
        self.answers.push_back(framed);
    }

    /// Learns that a message gets no answer.
    pub fn handle_drop(&mut self, reason: DropReason) {
        self.asked = self.asked.saturating_sub(1);
        match reason {
            DropReason::Malformed(_) if matches!(self.state, State::Open | State::Ended) => {
                self.state = State::Malformed;
                self.input.clear();
            }
            DropReason::Malformed(_) | DropReason::Response | DropReason::Source => {}
        }
    }

    /// Learns how much of [`Self::poll_transmit`] was sent.
    pub fn handle_sent(&mut self, len: usize, now: Instant) {
        let Some(first) = self.answers.front() else {
            return;
        };
        self.sent = self.sent.saturating_add(len);
        if self.sent >= first.len() {
            self.answers.pop_front();
            self.sent = 0;
            self.sending_since = now;
            self.idle_since = now;
        }
    }

    /// Closes the connection if its time is up.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.poll_timeout() {
            Some((due, timer)) if now >= due => self.close(match timer {
                Timer::Idle if self.input.is_empty() => Closed::Idle,
                Timer::Idle => Closed::Slow,
                Timer::Send => Closed::Untaken,
            }),
            Some(_) | None => {}
        }
    }

    /// Returns the next query; one call of `handle_answer` or `handle_drop` must follow.
    pub fn poll_query(&mut self) -> Option<Vec<u8>> {
        if self.pending() >= MOST_PENDING {
            return None;
        }
        let query = first(&self.input)?.to_vec();
        self.input.drain(..LENGTH.saturating_add(query.len()));
        self.asked = self.asked.saturating_add(1);
        Some(query)
    }

    /// Returns what to send next.
    #[must_use]
    pub fn poll_transmit(&self) -> Option<&[u8]> {
        self.answers
            .front()
            .and_then(|answer| answer.get(self.sent..))
    }

    /// Tells when it is over, and why.
    #[must_use]
    pub fn poll_event(&self) -> Option<Closed> {
        let done = self.pending() == 0 && self.input.is_empty();
        match self.state {
            State::Closed(closed) => Some(closed),
            State::Ended if done => Some(Closed::Client),
            State::Malformed if done => Some(Closed::Malformed),
            State::Open | State::Ended | State::Malformed => None,
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next; never while only a resolver is
    /// waited for, which has deadlines of its own.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        if matches!(self.state, State::Closed(_)) {
            return None;
        }
        if !self.answers.is_empty() {
            return Some((self.sending_since + PATIENCE, Timer::Send));
        }
        self.idle_since()
            .map(|since| (since + PATIENCE, Timer::Idle))
    }

    /// Returns since when every query that was received has its answer (RFC 7766 §3).
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        (self.pending() == 0).then_some(self.idle_since)
    }

    /// Returns how many queries have not got their answer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.asked.saturating_add(self.answers.len())
    }

    fn close(&mut self, closed: Closed) {
        if !matches!(self.state, State::Closed(_)) {
            self.state = State::Closed(closed);
            self.input.clear();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed(Closed),
    Ended,
    Malformed,
    Open,
}

/// Returns the first message if all of it is there (RFC 1035 §4.2.2).
fn first(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

/// The queries of one connection under way, answers that are not taken included. Each answer
/// may have 64 KiB, so this also bounds what a client that does not read makes us keep.
pub const MOST_PENDING: usize = 8;

/// RFC 7766 §6.2.3: in the order of seconds.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The length of the length.
const LENGTH: usize = 2;

#[cfg(test)]
mod tests;
