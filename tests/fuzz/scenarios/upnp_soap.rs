//! SOAP of any bytes: what is read is within the limits, and what was said can be said again.

use upnp::wire::soap::{self, MAX_ARGUMENTS};

/// Reads `body` as a call, and answers a call with its own arguments.
pub fn run(body: &[u8]) {
    let Ok(call) = soap::parse(body) else {
        return;
    };
    assert!(call.arguments.len() <= MAX_ARGUMENTS);
    let values = call.arguments.iter().map(|(_, value)| value.as_str());
    let outputs: Vec<_> = values.map(|value| ("Value", value.to_owned())).collect();
    let answer = soap::response("urn:x", "Say", &outputs);
    let again = soap::parse(&answer).map(|call| call.arguments);
    let expected = outputs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    assert_eq!(again, Ok(expected.collect()));
}
