//! NAT-PMP server (RFC 6886).
