//! Subscriptions with any headers.
#![no_main]

#[path = "../scenarios/upnp_gena.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|input: &[u8]| scenario::run(input));
