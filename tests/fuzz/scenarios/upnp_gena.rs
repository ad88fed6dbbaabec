//! The headers of subscriptions, and the answers of subscribers, of any bytes.
#![allow(clippy::unwrap_used, reason = "a scenario stops at the first surprise")]

use upnp::wire::gena::{Sid, callbacks, status, timeout};

/// Reads `bytes` as the first line of an answer and as each header.
pub fn run(bytes: &[u8]) {
    if let Ok(Some(code)) = status(bytes) {
        assert!(code < 1000);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _seconds = timeout(text);
    if let Ok(sid) = Sid::parse(text) {
        assert!(sid.to_string().eq_ignore_ascii_case(text));
    }
    for callback in callbacks(text).unwrap_or_default() {
        assert!(callback.addr.port() != 0 && callback.path.starts_with('/'));
        // what goes into the first line of a request must not end it
        assert!(callback.path.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
