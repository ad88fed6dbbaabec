//! End to end: the real program, in namespaces, against clients that we did not write.
//!
//! Each test builds a home of its own: nodes without names, a temporary folder, no port outside
//! of a namespace. A failure shows the end of the daemon's log and leaves all of it, and with
//! `PORTICO_PCAP=1` what was on the wires, under `target/e2e/<test>/`.

mod approve;
mod bind;
mod bulk;
mod cli;
mod crash;
mod dashboard;
mod dhcp;
mod dig;
mod dns;
mod forged;
mod interop;
mod lab_itself;
mod natpmp;
mod pcp;
mod program;
mod reach;
mod renumber;
mod restart_sessions;
mod server;
mod sessions;
mod silence;
mod stage;
mod translate;
mod translator;
mod upnp;
mod upstream;
