//! One HTTP connection: bytes in, requests out, answers in, bytes out.

use std::collections::VecDeque;
use std::time::Duration;

use mapping::{Instant, Now};

use crate::wire::http::{Chunks, Framing, Head, Method, Response, Status, Version};
use crate::{Counters, Event};

/// A connection, one request at a time.
///
/// ```text
///            head complete          body complete
///   Head ───────────────────► Body ───────────────► Serving
///    ▲  │ malformed, too slow   │ too large, too slow    │ answered
///    │  └────────► Closed ◄─────┘                        │
///    └──────────────── keep-alive ◄──────────────────────┘
/// ```
#[derive(Debug)]
pub struct Connection {
    state: State,
    buf: Vec<u8>,
    accepted: Now,
    last_seen: Instant,
    deadline: Instant,
    transmits: VecDeque<Vec<u8>>,
    counters: Counters,
}

#[derive(Debug)]
enum State {
    Head,
    Body {
        head: Head,
        body: Body,
    },
    Ready(Request),
    Serving {
        keep_alive: bool,
        without_body: bool,
    },
    Closed,
}

#[derive(Debug)]
enum Body {
    Chunked(Chunks),
    Length(usize),
}

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its first line and headers.
    pub head: Head,
    /// Its body, at most 16 KiB.
    pub body: Vec<u8>,
}

impl Connection {
    /// Makes a connection that was just accepted.
    #[must_use]
    pub fn new(counters: Counters, now: Now) -> Self {
        Self {
            state: State::Head,
            buf: Vec::new(),
            accepted: now,
            last_seen: now.mono,
            deadline: now.mono + HEAD_TIMEOUT,
            transmits: VecDeque::new(),
            counters,
        }
    }

    /// Takes what was received.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        self.last_seen = now;
        if matches!(self.state, State::Closed) {
            return;
        }
        self.buf.extend_from_slice(bytes);
        self.advance(now);
    }

    /// Takes the answer to the request that [`Self::poll_request`] gave.
    pub fn handle_response(&mut self, response: &Response, now: Instant) {
        self.last_seen = now;
        let State::Serving {
            keep_alive,
            without_body,
        } = self.state
        else {
            return;
        };
        let bytes = response.emit(self.wall_secs(), keep_alive, without_body);
        self.transmits.push_back(bytes);
        if keep_alive {
            self.state = State::Head;
            self.deadline = now + HEAD_TIMEOUT;
            self.advance(now);
        } else {
            self.state = State::Closed;
        }
    }

    /// Gives up what takes too long; early or twice changes nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.last_seen = now;
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.buf.is_empty() && matches!(self.state, State::Head) {
            self.state = State::Closed; // idle; nothing is owed
        } else {
            self.counters.count(Event::ConnectionTimeout);
            self.refuse(Status::RequestTimeout, "the request took too long");
        }
    }

    /// Returns when to call [`Self::handle_timeout`].
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Head | State::Body { .. } => Some(self.deadline),
            State::Ready(_) | State::Serving { .. } | State::Closed => None,
        }
    }

    /// Returns a request that waits for its answer.
    pub fn poll_request(&mut self) -> Option<Request> {
        let State::Ready(request) = &self.state else {
            return None;
        };
        let serving = State::Serving {
            keep_alive: request.head.keeps_alive(),
            without_body: request.head.method == Method::Head,
        };
        match std::mem::replace(&mut self.state, serving) {
            State::Ready(request) => Some(request),
            State::Head | State::Body { .. } | State::Serving { .. } | State::Closed => None,
        }
    }

    /// Returns what to send next.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// Tells whether more bytes are wanted.
    #[must_use]
    pub const fn wants_bytes(&self) -> bool {
        matches!(self.state, State::Head | State::Body { .. })
    }

    fn advance(&mut self, now: Instant) {
        if matches!(self.state, State::Head) {
            self.advance_head(now);
        }
        if matches!(self.state, State::Body { .. }) {
            self.advance_body();
        }
    }

    fn advance_head(&mut self, now: Instant) {
        // RFC 9112 §2.2: an empty line before the request is no fault
        while self.buf.starts_with(b"\r\n") {
            self.buf.drain(..2);
        }
        let (head, len) = match Head::parse(&self.buf) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return,
            Err(malformed) => return self.malformed(&malformed.to_string()),
        };
        self.buf.drain(..len.min(self.buf.len()));
        let body = match head.framing() {
            Ok(Framing::Chunked) => Body::Chunked(Chunks::default()),
            Ok(Framing::Length(length)) if length > MAX_BODY => return self.too_large(),
            Ok(Framing::Length(length)) => Body::Length(length),
            Err(malformed) => return self.malformed(&malformed.to_string()),
        };
        let continues = head.version == Version::Http11
            && head
                .one("expect")
                .is_some_and(|what| what.eq_ignore_ascii_case("100-continue"));
        if continues && self.buf.is_empty() {
            self.transmits
                .push_back(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec());
        }
        self.deadline = now + BODY_TIMEOUT;
        self.state = State::Body { head, body };
    }

    fn advance_body(&mut self) {
        let State::Body { body, .. } = &mut self.state else {
            return;
        };
        let complete = match body {
            Body::Length(length) if self.buf.len() >= *length => {
                Ok(Some(self.buf.drain(..*length).collect()))
            }
            Body::Length(_) => Ok(None),
            Body::Chunked(chunks) => {
                let complete = chunks.take(&mut self.buf, MAX_BODY);
                if chunks.len() > MAX_BODY {
                    return self.too_large();
                }
                complete
            }
        };
        match complete {
            Ok(Some(body)) if body.len() > MAX_BODY => self.too_large(),
            Ok(Some(body)) => {
                if let State::Body { head, .. } = std::mem::replace(&mut self.state, State::Closed)
                {
                    self.state = State::Ready(Request { head, body });
                }
            }
            Ok(None) => {}
            Err(malformed) => self.malformed(&malformed.to_string()),
        }
    }

    fn malformed(&mut self, why: &str) {
        self.counters.count(Event::HttpMalformed);
        self.refuse(Status::BadRequest, why);
    }

    fn too_large(&mut self) {
        self.counters.count(Event::HttpTooLarge);
        self.refuse(Status::ContentTooLarge, "the body is too large");
    }

    fn refuse(&mut self, status: Status, why: &str) {
        let bytes = Response::refusal(status, why).emit(self.wall_secs(), false, false);
        self.transmits.push_back(bytes);
        self.buf = Vec::new();
        self.state = State::Closed;
    }

    /// What the wall clock says if it was right when the connection came.
    fn wall_secs(&self) -> u64 {
        let since = self.last_seen.since(self.accepted.mono).as_secs();
        self.accepted.wall.as_secs().saturating_add(since)
    }
}

/// The largest action takes less than 2 KiB.
pub const MAX_BODY: usize = 16 * 1024;

/// A control point is on the same link; one that idles makes room.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

const BODY_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_on_one_connection_are_answered_in_order() {
        let mut connection = Connection::new(Counters::new(), now());
        connection.handle_bytes(
            b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET /b HTTP/1.1\r\n\r\n",
            at(0),
        );

        let first = connection.poll_request().unwrap();
        assert_eq!(
            (first.head.target.as_str(), first.body.as_slice()),
            ("/a", b"hi".as_slice())
        );
        assert!(connection.poll_request().is_none() && !connection.wants_bytes());
        connection.handle_response(&Response::refusal(Status::NotFound, "a"), at(0));
        let second = connection.poll_request().unwrap();
        assert_eq!(second.head.target, "/b");
        connection.handle_response(&Response::refusal(Status::NotFound, "b"), at(0));

        assert_eq!(std::iter::from_fn(|| connection.poll_transmit()).count(), 2);
        assert!(connection.wants_bytes());
    }

    #[test]
    fn old_clients_get_their_answer_and_the_end() {
        let mut connection = Connection::new(Counters::new(), now());
        connection.handle_bytes(b"GET / HTTP/1.0\r\n\r\n", at(0));

        assert!(connection.poll_request().is_some());
        connection.handle_response(&Response::refusal(Status::NotFound, "a"), at(2));

        let answer = String::from_utf8(connection.poll_transmit().unwrap()).unwrap();
        assert!(answer.contains("\r\nConnection: close\r\n"));
        assert!(answer.contains("\r\nDate: Sun, 06 Nov 1994 08:49:39 GMT\r\n"));
        assert!(!connection.wants_bytes() && connection.poll_timeout().is_none());
    }

    #[test]
    fn chunked_body_is_whole() {
        let mut connection = Connection::new(Counters::new(), now());
        let text = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        for byte in text {
            connection.handle_bytes(&[*byte], at(0));
        }

        assert_eq!(connection.poll_request().unwrap().body, b"abcde");
    }

    #[test]
    fn body_that_is_expected_is_asked_for() {
        let mut connection = Connection::new(Counters::new(), now());
        connection.handle_bytes(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
            at(0),
        );

        assert_eq!(
            connection.poll_transmit().unwrap(),
            b"HTTP/1.1 100 Continue\r\n\r\n"
        );
        connection.handle_bytes(b"x", at(0));
        assert_eq!(connection.poll_request().unwrap().body, b"x");
    }

    #[test]
    fn t_20_slow_heads_and_bodies_end() {
        let counters = Counters::new();
        let mut slow_head = Connection::new(counters.clone(), now());
        for second in 0..5 {
            slow_head.handle_bytes(b"G", at(second));
        }
        slow_head.handle_timeout(at(4));
        assert!(slow_head.wants_bytes(), "early changes nothing");
        slow_head.handle_timeout(slow_head.poll_timeout().unwrap());
        assert!(
            slow_head
                .poll_transmit()
                .unwrap()
                .starts_with(b"HTTP/1.1 408 ")
        );
        assert!(!slow_head.wants_bytes());

        let mut slow_body = Connection::new(counters.clone(), now());
        slow_body.handle_bytes(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nx", at(3));
        assert_eq!(slow_body.poll_timeout(), Some(at(13)));
        slow_body.handle_timeout(at(13));
        assert!(
            slow_body
                .poll_transmit()
                .unwrap()
                .starts_with(b"HTTP/1.1 408 ")
        );
        assert_eq!(counters.value(Event::ConnectionTimeout), 2);

        let mut idle = Connection::new(counters.clone(), now());
        idle.handle_timeout(at(5));
        assert!(idle.poll_transmit().is_none() && !idle.wants_bytes());
        assert_eq!(counters.value(Event::ConnectionTimeout), 2);
    }

    #[test]
    fn t_19_large_bodies_are_refused_before_they_come() {
        let refusal = |text: &[u8]| {
            let mut connection = Connection::new(Counters::new(), now());
            connection.handle_bytes(text, at(0));
            connection.poll_transmit()
        };
        let chunk = |count: usize| {
            let mut text = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..count {
                text.extend_from_slice(b"400\r\n");
                text.extend_from_slice(&[b'x'; 0x400]);
                text.extend_from_slice(b"\r\n");
            }
            text
        };

        let length = format!(
            "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            MAX_BODY + 1
        );
        assert!(
            refusal(length.as_bytes())
                .unwrap()
                .starts_with(b"HTTP/1.1 413 ")
        );
        assert!(
            refusal(b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n").is_some()
        );
        assert_eq!(refusal(&chunk(16)), None);
        assert!(refusal(&chunk(17)).unwrap().starts_with(b"HTTP/1.1 413 "));
    }

    #[test]
    fn t_20_smuggled_request_ends_the_connection() {
        let counters = Counters::new();
        let mut connection = Connection::new(counters.clone(), now());
        connection.handle_bytes(
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
            at(0),
        );

        assert!(
            connection
                .poll_transmit()
                .unwrap()
                .starts_with(b"HTTP/1.1 400 ")
        );
        assert!(connection.poll_request().is_none() && !connection.wants_bytes());
        assert_eq!(counters.value(Event::HttpMalformed), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_every_request_is_bounded(
            parts in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..60),
                    Just(b"POST / HTTP/1.1\r\n".to_vec()),
                    Just(b"Content-Length: 3\r\n".to_vec()),
                    Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
                    Just(b"\r\n".to_vec()),
                    Just(b"3\r\nabc\r\n0\r\n\r\n".to_vec()),
                ],
                0..40,
            ),
        ) {
            let mut connection = Connection::new(Counters::new(), now());
            for (second, part) in (0..).zip(parts) {
                connection.handle_bytes(&part, at(second));
                connection.handle_timeout(at(second));
                while let Some(request) = connection.poll_request() {
                    prop_assert!(request.body.len() <= MAX_BODY);
                    connection.handle_response(&Response::refusal(Status::NotFound, "x"), at(second));
                }
                while connection.poll_transmit().is_some() {}
            }
        }
    }

    fn now() -> Now {
        Now {
            mono: at(0),
            wall: mapping::Wall::from_secs(784_111_777),
        }
    }

    fn at(second: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 * (100 + second))
    }
}
