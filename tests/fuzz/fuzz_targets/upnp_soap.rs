//! A SOAP body of any bytes.
#![no_main]

#[path = "../scenarios/upnp_soap.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|input: &[u8]| scenario::run(input));
