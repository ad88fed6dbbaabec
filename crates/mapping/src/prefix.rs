//! Delegated prefixes and the network-specific prefix (RFC 6052).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::Expiry;

/// An IPv6 prefix, host bits zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix6 {
    addr: u128,
    len: u8,
}

impl Prefix6 {
    /// Makes a prefix.
    ///
    /// # Errors
    /// When `len` is over 128 or a bit beyond `len` is set.
    pub fn new(addr: Ipv6Addr, len: u8) -> Result<Self, InvalidPrefix> {
        if len > 128 {
            return Err(InvalidPrefix::Length);
        }
        let bits = u128::from(addr);
        if bits & !mask(len) != 0 {
            return Err(InvalidPrefix::HostBits);
        }
        Ok(Self { addr: bits, len })
    }

    /// Returns the first address.
    #[must_use]
    pub fn addr(self) -> Ipv6Addr {
        self.addr.into()
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

    /// Tells whether `addr` lies in the prefix.
    #[must_use]
    pub fn contains(self, addr: Ipv6Addr) -> bool {
        u128::from(addr) & mask(self.len) == self.addr
    }

    /// Returns the NSP of a delegation: the /96 at the start of its subnet 1, or of its only
    /// /64 (RFC 6052 §2.2: bits 64 to 71 are zero).
    ///
    /// # Errors
    /// When the delegation is longer than /64 or may not be published, see [`Nsp::new`].
    pub fn nsp(self) -> Result<Nsp, InvalidPrefix> {
        if self.len > 64 {
            return Err(InvalidPrefix::Length);
        }
        let subnet = if self.len < 64 { 1_u128 << 64 } else { 0 };
        Nsp::new((self.addr | subnet).into())
    }
}

impl fmt::Display for Prefix6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len)
    }
}

impl FromStr for Prefix6 {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let (addr, len) = text.split_once('/').ok_or(InvalidPrefix::Text)?;
        let addr = addr.parse().map_err(|_| InvalidPrefix::Text)?;
        let len = len.parse().map_err(|_| InvalidPrefix::Text)?;
        Self::new(addr, len)
    }
}

/// A network-specific /96 prefix into which IPv4 addresses are embedded (RFC 6052 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nsp(u128);

impl Nsp {
    /// Makes an NSP from its first address.
    ///
    /// # Errors
    /// When a bit beyond /96 or one of the bits 64 to 71 is set (RFC 6052 §2.2), or when the
    /// prefix is no global unicast address: the well-known prefix and `64:ff9b:1::/48` must not
    /// carry private addresses to the Internet (RFC 6052 §3.1, RFC 8215 §3), and ULA, link-local
    /// and multicast addresses are not reachable from there.
    pub fn new(addr: Ipv6Addr) -> Result<Self, InvalidPrefix> {
        let bits = u128::from(addr);
        if bits & !mask(96) != 0 {
            return Err(InvalidPrefix::HostBits);
        }
        if (bits >> 56) & 0xff != 0 {
            return Err(InvalidPrefix::UOctet);
        }
        if !is_global_unicast(addr) {
            return Err(InvalidPrefix::NotGlobal);
        }
        Ok(Self(bits))
    }

    /// Returns `NSP::v4` (RFC 6052 §2.3).
    #[must_use]
    pub fn embed(self, v4: Ipv4Addr) -> Ipv6Addr {
        (self.0 | u128::from(u32::from(v4))).into()
    }

    /// Returns the IPv4 address inside `v6`, if `v6` lies in this prefix (RFC 6052 §2.3).
    #[must_use]
    pub fn extract(self, v6: Ipv6Addr) -> Option<Ipv4Addr> {
        let bits = u128::from(v6);
        let low = u32::try_from(bits & !mask(96)).ok()?;
        (bits & mask(96) == self.0).then(|| low.into())
    }

    /// Returns the prefix as a /96.
    #[must_use]
    pub const fn prefix(self) -> Prefix6 {
        Prefix6 {
            addr: self.0,
            len: 96,
        }
    }
}

impl fmt::Display for Nsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix().fmt(f)
    }
}

/// Tells whether remotes can reach an address: it is global unicast as allocated, `2000::/3`
/// (RFC 4291 §2.4), and so neither ULA, link-local nor multicast.
#[must_use]
pub fn is_global_unicast(addr: Ipv6Addr) -> bool {
    let [first, ..] = addr.octets();
    first >> 5 == 0b001
}

/// One delegation of the provider and the NSP made of it; several live side by side while the
/// home is renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// Counts the generations.
    pub id: GenerationId,
    /// What the provider delegated.
    pub delegated: Prefix6,
    /// Where the servers appear.
    pub nsp: Nsp,
    /// Whether DNS publishes this generation; at most one is preferred.
    pub preferred: bool,
    /// When the translator stops to accept it; `None` while the provider has not said.
    pub valid_until: Option<Expiry>,
}

/// Names a [`Generation`]; later generations have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId(pub u32);

/// Why a prefix cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrefix {
    /// A bit beyond the length is set.
    #[error("bits beyond the prefix length are set")]
    HostBits,
    /// The length does not fit.
    #[error("the prefix length must be at most 64 for a delegation and 128 for any prefix")]
    Length,
    /// Not a global unicast prefix.
    #[error("not a global unicast prefix (2000::/3), which remote users could not reach")]
    NotGlobal,
    /// The NSP lies elsewhere.
    #[error("the NSP lies outside the delegated prefix")]
    Outside,
    /// Not an address, a slash and a length.
    #[error("not an IPv6 prefix such as 2001:db8:64::/56")]
    Text,
    /// RFC 6052 §2.2: bits 64 to 71 are reserved.
    #[error("bits 64 to 71 must be zero (RFC 6052 §2.2)")]
    UOctet,
}

const fn mask(len: u8) -> u128 {
    if len == 0 {
        0
    } else {
        u128::MAX << (128 - len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x_a1_reserved_octet_and_suffix_must_be_zero() {
        assert_eq!(
            Nsp::new("2001:db8:0:1:0100::".parse().unwrap()),
            Err(InvalidPrefix::UOctet)
        );
        assert_eq!(
            Nsp::new("2001:db8::1".parse().unwrap()),
            Err(InvalidPrefix::HostBits)
        );
    }

    #[test]
    fn x_a3_prefixes_that_remotes_cannot_reach_are_refused() {
        for text in ["64:ff9b::", "64:ff9b:1::", "fd00:1::", "fe80::", "ff0e::"] {
            let addr = text.parse().unwrap();
            assert_eq!(Nsp::new(addr), Err(InvalidPrefix::NotGlobal), "{text}");
        }
    }

    #[test]
    fn x_a5_embedding_is_reversible() {
        let nsp = "2001:db8:64::/56"
            .parse::<Prefix6>()
            .unwrap()
            .nsp()
            .unwrap();
        let v6: Ipv6Addr = "2001:db8:64:1::c0a8:4014".parse().unwrap();

        assert_eq!(nsp.embed(Ipv4Addr::new(192, 168, 64, 20)), v6);
        assert_eq!(nsp.extract(v6), Some(Ipv4Addr::new(192, 168, 64, 20)));
        assert_eq!(
            nsp.extract("2001:db8:64:2::c0a8:4014".parse().unwrap()),
            None
        );
    }

    #[test]
    fn delegation_of_a_single_64_is_used_itself() {
        let nsp = "2001:db8:64:7::/64"
            .parse::<Prefix6>()
            .unwrap()
            .nsp()
            .unwrap();

        assert_eq!(nsp.to_string(), "2001:db8:64:7::/96");
    }
}
