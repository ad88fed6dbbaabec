//! PCP messages of any bytes: what can be read can be written and read again.

use pcp::wire::{Request, Response, ResultCode, emit_error, emit_option};

/// Reads `input` as a request and as a response, and answers it with an error.
pub fn run(input: &[u8]) {
    if let Ok(request) = Request::parse(input) {
        assert_eq!(Request::parse(&request.emit()), Ok(request));
        let mut options = Vec::new();
        for option in request.options().flatten() {
            emit_option(option, &mut options);
        }
        let again = Request {
            options: &options,
            ..request
        };
        assert!(again.options().flatten().eq(request.options().flatten()));
    }
    if let Ok(response) = Response::parse(input) {
        assert_eq!(Response::parse(&response.emit()), Ok(response));
        assert!(response.options().count() <= input.len() / 4);
    }
    let error = emit_error(input, ResultCode::MalformedRequest, 7, 9);
    assert!(error.len().is_multiple_of(4) && (24..=1100).contains(&error.len()));
}
