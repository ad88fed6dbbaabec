//! SSDP of any bytes.
#![no_main]

#[path = "../scenarios/upnp_ssdp.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|input: &[u8]| scenario::run(input));
