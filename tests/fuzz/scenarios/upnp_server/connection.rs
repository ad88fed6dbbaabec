//! A connection that says anything, in pieces of any size.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a scenario stops at the first surprise"
)]

use std::time::Duration;

use mapping::{Instant, Now, Wall};
use upnp::Counters;
use upnp::server::Connection;
use upnp::wire::http::{self, Response, Status};

/// The first byte says how the rest is cut.
pub fn run(input: &[u8]) {
    let Some((cut, text)) = input.split_first() else {
        return;
    };
    if let Ok(text) = std::str::from_utf8(text) {
        let _addr = http::authority(text);
    }
    let counters = COUNTERS.with(Counters::clone);
    let mut now = Instant::from_nanos(1_000_000_000);
    let accepted = Now {
        mono: now,
        wall: Wall::from_secs(1_800_000_000),
    };
    let mut connection = Connection::new(counters, accepted);
    let mut requests = 0;
    for piece in text.chunks(usize::from(*cut).max(1)) {
        connection.handle_bytes(piece, now);
        now += Duration::from_millis(u64::from(*cut));
        connection.handle_timeout(now);
        while let Some(request) = connection.poll_request() {
            assert!(request.body.len() <= 16 * 1024);
            assert!(!request.head.target.contains(['\r', '\n', ' ']));
            requests += 1;
            let response = Response::refusal(Status::NotFound, "x");
            connection.handle_response(&response, now);
        }
        while let Some(bytes) = connection.poll_transmit() {
            assert!(bytes.starts_with(b"HTTP/1.1 "));
        }
    }
    assert!(requests <= text.len() / 16 + 1);
    if let Some(deadline) = connection.poll_timeout() {
        connection.handle_timeout(deadline);
        assert!(!connection.wants_bytes(), "every wait ends");
    }
}

thread_local! {
    static COUNTERS: Counters = Counters::new();
}
