//! The whole packet path: a script of packets, changes and time.
#![no_main]

#[path = "../scenarios/check.rs"]
mod check;
#[path = "../../../crates/translator/tests/support/home.rs"]
mod home;
#[path = "../scenarios/translator.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|script: &[u8]| scenario::run(script));
