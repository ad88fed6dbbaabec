//! The checksum of the Internet (RFC 1071).

/// Adds the 16-bit words of `bytes` to `total` (RFC 1071); an odd byte counts as the high one.
pub(crate) fn sum(total: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(2).fold(total, |total, pair| {
        let word = match *pair {
            [high, low] => u16::from_be_bytes([high, low]),
            [high] => u16::from_be_bytes([high, 0]),
            _ => 0,
        };
        total.saturating_add(u64::from(word))
    })
}

/// Folds a sum into the checksum.
pub(crate) fn finish(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap_or(u16::MAX)
}
