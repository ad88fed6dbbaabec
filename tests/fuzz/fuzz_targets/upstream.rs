//! See the scenario.
#![no_main]

#[path = "../scenarios/upstream.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|input: &[u8]| scenario::run(input));
