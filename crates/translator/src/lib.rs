//! Stateful NAT64 (RFC 6146, RFC 7915) between a TUN device and a snapshot.
