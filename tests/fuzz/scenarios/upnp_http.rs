//! HTTP of any bytes: what is read is whole, and a body in chunks is the same however it comes.
#![allow(
    clippy::indexing_slicing,
    reason = "a scenario stops at the first surprise"
)]

use upnp::wire::http::{Chunks, Framing, Head, authority};

/// The first byte says where the body is cut in two; the rest is a request.
pub fn run(input: &[u8]) {
    let Some((cut, bytes)) = input.split_first() else {
        return;
    };
    let Ok(Some((head, len))) = Head::parse(bytes) else {
        if let Ok(text) = std::str::from_utf8(bytes) {
            let _addr = authority(text);
        }
        return;
    };
    assert!(bytes[..len].ends_with(b"\r\n\r\n"));
    assert!(head.target.bytes().all(|byte| byte.is_ascii_graphic()));
    for (name, value) in &head.headers {
        assert!(!name.is_empty() && !name.contains([' ', '\r', '\n', ':']));
        assert!(!value.contains(['\r', '\n', '\0']));
    }
    let _open = head.keeps_alive();
    let _addr = head.one("host").map(authority);
    if head.framing() == Ok(Framing::Chunked) {
        let body = &bytes[len..];
        let (first, second) = body.split_at(usize::from(*cut).min(body.len()));
        assert_eq!(in_pieces(&[first, second]), in_pieces(&[body]));
    }
}

type Taken = Result<Option<Vec<u8>>, upnp::wire::Malformed>;

fn in_pieces(pieces: &[&[u8]]) -> Taken {
    let (mut chunks, mut buf) = (Chunks::default(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        let taken = chunks.take(&mut buf, LIMIT)?;
        if taken.is_some() {
            return Ok(taken);
        }
    }
    Ok(None)
}

/// Small, so that short inputs reach it.
const LIMIT: usize = 256;
