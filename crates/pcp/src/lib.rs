//! PCP server (RFC 6887); owns UDP 5351 and hands version 0 to natpmp.
