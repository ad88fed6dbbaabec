//! See the scenario.
#![no_main]

#[path = "../scenarios/pcp_wire.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|input: &[u8]| scenario::run(input));
