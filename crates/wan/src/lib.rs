//! The IPv6 WAN side: addresses and delegated prefixes.
