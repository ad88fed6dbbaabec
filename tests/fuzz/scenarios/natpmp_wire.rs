//! NAT-PMP messages of any bytes: what can be read can be written and read again.

use natpmp::wire::{Request, Response, emit_unsupported_opcode};

/// Reads `input` as a request and as a response, and answers it with an error.
pub fn run(input: &[u8]) {
    if let Ok(request) = Request::parse(input) {
        assert_eq!(Request::parse(&request.emit()), Ok(request));
    }
    if let Ok(response) = Response::parse(input) {
        assert_eq!(Response::parse(&response.emit()), Ok(response));
    }
    assert!(emit_unsupported_opcode(input, 1).len() >= 8);
}
