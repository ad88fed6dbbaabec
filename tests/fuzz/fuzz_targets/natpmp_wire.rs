//! See the scenario.
#![no_main]

#[path = "../scenarios/natpmp_wire.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|input: &[u8]| scenario::run(input));
