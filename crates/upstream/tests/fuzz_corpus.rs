//! Replays what the fuzzer found.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../tests/fuzz/scenarios/replay.rs"]
mod replay;
#[path = "../../../tests/fuzz/scenarios/upstream.rs"]
mod upstream_scenario;

use replay::replay;

#[test]
fn corpora_pass() {
    replay("upstream", upstream_scenario::run);
}
