//! The Internet checksum, whole and incremental (RFC 1071, RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

/// A ones' complement sum of 16-bit words, not yet folded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Returns the sum of `bytes`, padded by a zero byte when their number is odd.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut sum = 0_u64;
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            sum += u64::from(u32::from_be_bytes(*word));
        }
        let mut tail = [0; 4];
        for (to, from) in tail.iter_mut().zip(rest) {
            *to = *from;
        }
        Self(sum + u64::from(u32::from_be_bytes(tail)))
    }

    /// Returns the sum of the pseudo-header of RFC 8200 §8.1.
    #[must_use]
    pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, len: usize, protocol: u8) -> Self {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        Self::addrs_v6(src, dst) + Self(u64::from(len) + u64::from(protocol))
    }

    /// Returns the sum of two addresses.
    #[must_use]
    pub fn addrs_v6(src: Ipv6Addr, dst: Ipv6Addr) -> Self {
        Self::of(&src.octets()) + Self::of(&dst.octets())
    }

    /// Returns the sum of two addresses.
    #[must_use]
    pub fn addrs_v4(src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        Self(u64::from(src.to_bits()) + u64::from(dst.to_bits()))
    }

    /// Returns what changes in a sum when `old` becomes `new`.
    #[must_use]
    pub fn change(old: Self, new: Self) -> Self {
        new + Self(u64::from(!old.fold()))
    }

    /// Returns what changes in a sum when one word becomes another.
    #[must_use]
    pub fn change_word(old: u16, new: u16) -> Self {
        Self(u64::from(!old) + u64::from(new))
    }

    /// Folds the sum to 16 bits.
    #[must_use]
    pub const fn fold(self) -> u16 {
        // 2^16 is 1 in this arithmetic, so that the words may be added at any width.
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let [_, _, _, _, _, _, high, low] = sum.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// Returns the checksum `checksum` after a change (RFC 1624 §3, equation 3).
    #[must_use]
    pub fn update(self, checksum: u16) -> u16 {
        !(self + Self(u64::from(!checksum))).fold()
    }

    /// Returns the folded pseudo-header sum `partial` after a change; it is not complemented.
    #[must_use]
    pub fn update_partial(self, partial: u16) -> u16 {
        (self + Self(u64::from(partial))).fold()
    }
}

impl std::ops::Add for Sum {
    type Output = Self;

    fn add(self, rhs: Self) -> Self {
        // Both stay far below 2^48: a packet has at most 2^14 words of 32 bits.
        Self(self.0.wrapping_add(rhs.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sum_equals_the_textbook(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::of(&bytes).fold(), textbook(&bytes));
        }

        #[test]
        fn incremental_update_equals_recomputing(
            mut bytes in prop::collection::vec(any::<u8>(), 4..100),
            at in any::<prop::sample::Index>(),
            new: u16,
        ) {
            bytes.truncate(bytes.len() & !1);
            let at = at.index(bytes.len() / 2) * 2;
            let before = !textbook(&bytes);
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());

            let after = Sum::change_word(old, new).update(before);

            // The two zeros of ones' complement are one number.
            prop_assert_eq!(after % 0xffff, !textbook(&bytes) % 0xffff);
        }
    }

    #[test]
    fn rfc_1624_example_keeps_the_right_zero() {
        // RFC 1624 §4: 0xdd2f with 0x5555 -> 0x3285 is 0x0000, not 0xffff.
        assert_eq!(Sum::change_word(0x5555, 0x3285).update(0xdd2f), 0x0000);
    }

    fn textbook(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }
}
