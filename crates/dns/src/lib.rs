//! Authoritative DNS over the snapshot, and the resolver of the LAN.
