//! Replays what the fuzzer found.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../tests/fuzz/scenarios/natpmp_wire.rs"]
mod natpmp_wire;
#[path = "../../../tests/fuzz/scenarios/pcp_server.rs"]
mod pcp_server;
#[path = "../../../tests/fuzz/scenarios/pcp_wire.rs"]
mod pcp_wire;

use std::path::Path;

#[test]
fn corpora_pass() {
    replay("natpmp_wire", natpmp_wire::run);
    replay("pcp_server", pcp_server::run);
    replay("pcp_wire", pcp_wire::run);
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
