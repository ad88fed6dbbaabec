//! Prefixes into which IPv4 addresses are embedded (RFC 6052).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use mapping::Nsp;

/// A prefix `Pref64::/n` into which IPv4 addresses are embedded
/// ([RFC 6052 §2.2](https://www.rfc-editor.org/rfc/rfc6052#section-2.2)).
///
/// ```
/// use translator::Pref64;
///
/// let prefix: Pref64 = "2001:db8:122::/48".parse()?;
/// let six = prefix.embed([192, 0, 2, 33].into());
/// assert_eq!(six.to_string(), "2001:db8:122:c000:2:2100::");
/// assert_eq!(prefix.extract(six), Some([192, 0, 2, 33].into()));
/// # Ok::<(), translator::InvalidPref64>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pref64 {
    bits: u128,
    len: u8,
}

impl Pref64 {
    /// The well-known prefix (RFC 6052 §2.1).
    pub const WELL_KNOWN: Self = Self {
        bits: 0x0064_ff9b << 96,
        len: 96,
    };

    /// Makes a prefix from its first address and its length.
    ///
    /// # Errors
    /// When the length is none of 32, 40, 48, 56, 64 and 96, when a bit beyond it or one of the
    /// bits 64 to 71 is set (RFC 6052 §2.2), when hosts cannot have such addresses, or when it
    /// holds more than the well-known prefix, which has one length only.
    pub fn new(addr: Ipv6Addr, len: u8) -> Result<Self, InvalidPref64> {
        if !LENGTHS.contains(&len) {
            return Err(InvalidPref64::Length);
        }
        let bits = u128::from(addr);
        if bits & !mask(len) != 0 {
            return Err(InvalidPref64::HostBits);
        }
        if (bits >> 56) & 0xff != 0 {
            return Err(InvalidPref64::UOctet);
        }
        // The first /32 holds the unspecified address, the loopback address and IPv4-mapped ones.
        if bits >> 96 == 0 || addr.is_multicast() || addr.is_unicast_link_local() {
            return Err(InvalidPref64::NotUnicast);
        }
        if len != Self::WELL_KNOWN.len && Self::WELL_KNOWN.bits & mask(len) == bits {
            return Err(InvalidPref64::WellKnown);
        }
        Ok(Self { bits, len })
    }

    /// Returns the first address.
    #[must_use]
    pub fn addr(self) -> Ipv6Addr {
        self.bits.into()
    }

    /// Returns the length in bits.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a prefix length, not a container"
    )]
    pub const fn len(self) -> u8 {
        self.len
    }

    /// Returns `v4` behind this prefix, the suffix zero (RFC 6052 §2.3).
    #[must_use]
    pub fn embed(self, v4: Ipv4Addr) -> Ipv6Addr {
        let v4 = u128::from(v4.to_bits());
        let embedded = if self.len == 96 {
            v4
        } else {
            let flat = v4 << (FLAT - 32 - self.len);
            (flat >> BELOW_U << 64) | (flat & U_AND_ABOVE_CUT)
        };
        (self.bits | embedded).into()
    }

    /// Returns the IPv4 address inside `v6`, if `v6` lies in this prefix; whatever the suffix is
    /// (RFC 6052 §2.3).
    #[must_use]
    pub fn extract(self, v6: Ipv6Addr) -> Option<Ipv4Addr> {
        let bits = u128::from(v6);
        if bits & mask(self.len) != self.bits {
            return None;
        }
        let shifted = if self.len == 96 {
            bits
        } else {
            let flat = (bits >> 64 << BELOW_U) | (bits & U_AND_ABOVE_CUT);
            flat >> (FLAT - 32 - self.len)
        };
        let low = u32::try_from(shifted & u128::from(u32::MAX)).ok()?;
        Some(low.into())
    }

    /// Tells whether `v6` lies in the prefix.
    #[must_use]
    pub fn contains(self, v6: Ipv6Addr) -> bool {
        u128::from(v6) & mask(self.len) == self.bits
    }

    /// Tells whether an address lies in both prefixes.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.addr()) || other.contains(self.addr())
    }

    /// Tells whether `v4` may stand behind this prefix: the well-known prefix must not represent
    /// addresses that are not global (RFC 6052 §3.1).
    #[must_use]
    pub fn may_represent(self, v4: Ipv4Addr) -> bool {
        self != Self::WELL_KNOWN || is_global(v4)
    }
}

impl From<Nsp> for Pref64 {
    fn from(nsp: Nsp) -> Self {
        let prefix = nsp.prefix();
        Self {
            bits: prefix.addr().into(),
            len: prefix.len(),
        }
    }
}

impl fmt::Display for Pref64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len)
    }
}

impl FromStr for Pref64 {
    type Err = InvalidPref64;

    fn from_str(text: &str) -> Result<Self, InvalidPref64> {
        let (addr, len) = text.split_once('/').ok_or(InvalidPref64::Text)?;
        let addr = addr.parse().map_err(|_| InvalidPref64::Text)?;
        let len = len.parse().map_err(|_| InvalidPref64::Text)?;
        Self::new(addr, len)
    }
}

/// Why a prefix cannot hold IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPref64 {
    /// A bit beyond the length is set.
    #[error("bits beyond the prefix length are set")]
    HostBits,
    /// RFC 6052 §2.2 knows six lengths.
    #[error("the prefix length must be 32, 40, 48, 56, 64 or 96 (RFC 6052 §2.2)")]
    Length,
    /// No host has such an address.
    #[error("not a prefix of addresses that hosts can have")]
    NotUnicast,
    /// Not an address, a slash and a length.
    #[error("not an IPv6 prefix such as 2001:db8:64::/96")]
    Text,
    /// RFC 6052 §2.2: bits 64 to 71 are reserved.
    #[error("bits 64 to 71 must be zero (RFC 6052 §2.2)")]
    UOctet,
    /// A shorter prefix around the well-known one.
    #[error("the well-known prefix is 64:ff9b::/96 only (RFC 6052 §2.2)")]
    WellKnown,
}

/// Tells whether an IPv4 address is unique in the Internet (RFC 6890).
#[must_use]
pub(crate) fn is_global(v4: Ipv4Addr) -> bool {
    !NOT_GLOBAL
        .iter()
        .any(|(net, len)| (v4.to_bits() ^ Ipv4Addr::from_octets(*net).to_bits()) >> (32 - len) == 0)
}

const fn mask(len: u8) -> u128 {
    u128::MAX << (128 - len)
}

/// RFC 6052 §2.2.
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// An address without its reserved octet "u" has 120 bits, 56 of which stood below it.
const FLAT: u8 = 120;
const BELOW_U: u8 = 56;
const U_AND_ABOVE_CUT: u128 = (1 << BELOW_U) - 1;

/// RFC 6052 §3.1: what RFC 1918 and RFC 5735 §3 list, and what RFC 6598 has added.
const NOT_GLOBAL: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn embedding_is_reversible_whatever_the_suffix(
            bits: u128,
            len in prop::sample::select(LENGTHS.to_vec()),
            v4: u32,
            suffix: u128,
        ) {
            let bits = (bits & mask(len) & !(0xff << 56)) | 1 << 125;
            let prefix = Pref64::new((bits & !(0b110 << 125)).into(), len).unwrap();
            let v4 = Ipv4Addr::from_bits(v4);
            let six = prefix.embed(v4);

            let below = if len == 96 { 0 } else { (1 << (88 - len)) - 1 };
            let with_suffix = u128::from(six) | (suffix & below);

            prop_assert_eq!(prefix.extract(six), Some(v4));
            prop_assert_eq!(prefix.extract(with_suffix.into()), Some(v4));
            prop_assert_eq!(u128::from(six) >> 56 & 0xff, 0);
            prop_assert!(prefix.contains(six));
        }
    }

    #[test]
    fn only_addresses_of_the_internet_are_global() {
        for text in [
            "8.8.8.8",
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
        ] {
            assert!(is_global(text.parse().unwrap()), "{text}");
        }
        for text in [
            "10.1.2.3",
            "192.168.64.7",
            "100.127.0.1",
            "0.0.0.0",
            "255.255.255.255",
        ] {
            assert!(!is_global(text.parse().unwrap()), "{text}");
        }
    }
}
