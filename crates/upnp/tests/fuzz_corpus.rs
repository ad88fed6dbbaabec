//! Replays what the fuzzer found.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../tests/fuzz/scenarios/upnp_gena.rs"]
mod gena;
#[path = "../../../tests/fuzz/scenarios/upnp_http.rs"]
mod http;
#[path = "../../../tests/fuzz/scenarios/replay.rs"]
mod replay;
#[path = "../../../tests/fuzz/scenarios/upnp_server.rs"]
mod server;
#[path = "../../../tests/fuzz/scenarios/upnp_soap.rs"]
mod soap;
#[path = "../../../tests/fuzz/scenarios/upnp_ssdp.rs"]
mod ssdp;

use replay::replay;

#[test]
fn corpora_pass() {
    replay("upnp_gena", gena::run);
    replay("upnp_http", http::run);
    replay("upnp_server", server::run);
    replay("upnp_soap", soap::run);
    replay("upnp_ssdp", ssdp::run);
}
