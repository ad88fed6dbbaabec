//! Runs a scenario over the corpus of its target.

use std::path::Path;

/// Reads the corpus from the folder of the crate that is tested.
pub fn replay(corpus: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder.join(corpus)).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "the corpus of {corpus} is gone");
}
