//! Replays what the fuzzer found, and invents scripts of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "../../../tests/fuzz/scenarios/check.rs"]
mod check;
#[path = "support/home.rs"]
mod home;
#[path = "../../../tests/fuzz/scenarios/packet.rs"]
mod packet;
#[path = "../../../tests/fuzz/scenarios/replay.rs"]
mod replay;
#[path = "../../../tests/fuzz/scenarios/translator.rs"]
mod scenario;

use proptest::prelude::*;

use replay::replay;

#[test]
fn corpora_pass() {
    replay("packet", packet::run);
    replay("translator", scenario::run);
}

proptest! {
    #[test]
    fn any_script_passes(script in prop::collection::vec(any::<u8>(), 0..600)) {
        scenario::run(&script);
    }
}
