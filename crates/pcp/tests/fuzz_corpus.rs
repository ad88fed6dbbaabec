//! Replays what the fuzzer found.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../tests/fuzz/scenarios/natpmp_wire.rs"]
mod natpmp_wire;
#[path = "../../../tests/fuzz/scenarios/pcp_server.rs"]
mod pcp_server;
#[path = "../../../tests/fuzz/scenarios/pcp_wire.rs"]
mod pcp_wire;
#[path = "../../../tests/fuzz/scenarios/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn corpora_pass() {
    replay("natpmp_wire", natpmp_wire::run);
    replay("pcp_server", pcp_server::run);
    replay("pcp_wire", pcp_wire::run);
}
