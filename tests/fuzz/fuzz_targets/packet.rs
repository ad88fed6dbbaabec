//! One packet of any bytes.
#![no_main]

#[path = "../scenarios/check.rs"]
mod check;
#[path = "../../../crates/translator/tests/support/home.rs"]
mod home;
#[path = "../scenarios/packet.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|input: &[u8]| scenario::run(input));
