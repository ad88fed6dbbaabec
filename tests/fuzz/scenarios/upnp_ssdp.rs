//! SSDP of any bytes: a search says what it looks for in one line.

use upnp::wire::ssdp::{Message, parse};

/// Reads `bytes` as a datagram.
pub fn run(bytes: &[u8]) {
    if let Ok(Message::Search(search)) = parse(bytes) {
        assert!(!search.target.is_empty() && !search.target.contains('\n'));
        assert_eq!(search.target, search.target.trim());
    }
}
