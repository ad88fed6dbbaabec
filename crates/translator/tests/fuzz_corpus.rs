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
#[path = "../../../tests/fuzz/scenarios/translator.rs"]
mod scenario;

use std::path::Path;

use proptest::prelude::*;

#[test]
fn corpora_pass() {
    replay("packet", packet::run);
    replay("translator", scenario::run);
}

fn replay(corpus: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder.join(corpus)).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "the corpus of {corpus} is gone");
}

proptest! {
    #[test]
    fn any_script_passes(script in prop::collection::vec(any::<u8>(), 0..600)) {
        scenario::run(&script);
    }
}
