//! DHCPv4 server: an address per MAC (RFC 2131).
