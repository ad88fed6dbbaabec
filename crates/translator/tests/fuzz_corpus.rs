//! Replays what the fuzzer found, and invents scripts of its own.

#[path = "../../../tests/fuzz/scenarios/translator.rs"]
mod scenario;

use std::path::Path;

use proptest::prelude::*;

#[test]
fn corpus_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/translator");
    let mut scripts = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        scenario::run(&std::fs::read(entry.unwrap().path()).unwrap());
        scripts += 1;
    }
    assert!(scripts > 0, "the corpus is gone");
}

proptest! {
    #[test]
    fn any_script_passes(script in prop::collection::vec(any::<u8>(), 0..600)) {
        scenario::run(&script);
    }
}
