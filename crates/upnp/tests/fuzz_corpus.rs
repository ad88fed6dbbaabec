//! Replays what the fuzzer found.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../tests/fuzz/scenarios/upnp_gena.rs"]
mod gena;
#[path = "../../../tests/fuzz/scenarios/upnp_http.rs"]
mod http;
#[path = "../../../tests/fuzz/scenarios/upnp_soap.rs"]
mod soap;
#[path = "../../../tests/fuzz/scenarios/upnp_ssdp.rs"]
mod ssdp;

use std::path::Path;

#[test]
fn corpora_pass() {
    replay("upnp_gena", gena::run);
    replay("upnp_http", http::run);
    replay("upnp_soap", soap::run);
    replay("upnp_ssdp", ssdp::run);
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
