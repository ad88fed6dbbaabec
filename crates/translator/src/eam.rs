//! Explicit address mappings (RFC 7757).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::martian::{reserved_v4, reserved_v6};

/// A row of the table: an IPv4 prefix that stands for an IPv6 prefix
/// ([RFC 7757 §3.2](https://www.rfc-editor.org/rfc/rfc7757#section-3.2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressMap {
    four: (u32, u8),
    six: (u128, u8),
}

impl AddressMap {
    /// Makes a row of two prefixes, each an address and its length.
    ///
    /// # Errors
    /// When a length does not fit, when a bit beyond it is set, when the IPv4 prefix leaves more
    /// bits free than the IPv6 prefix (RFC 7757 §3.2), or when no host can have such addresses.
    pub fn new(four: (Ipv4Addr, u8), six: (Ipv6Addr, u8)) -> Result<Self, InvalidAddressMap> {
        if four.1 > 32 || six.1 > 128 {
            return Err(InvalidAddressMap::Length);
        }
        if 32 - four.1 > 128 - six.1 {
            return Err(InvalidAddressMap::TooLong);
        }
        let reserved = reserved_v4(four.0, four.1).or_else(|| reserved_v6(six.0, six.1));
        let (four, six) = ((four.0.to_bits(), four.1), (six.0.to_bits(), six.1));
        if four.0 & !mask4(four.1) != 0 || six.0 & !mask6(six.1) != 0 {
            return Err(InvalidAddressMap::HostBits);
        }
        match reserved {
            Some(what) => Err(InvalidAddressMap::Reserved(what)),
            None => Ok(Self { four, six }),
        }
    }

    /// Returns the IPv4 prefix and its length.
    #[must_use]
    pub const fn four(self) -> (Ipv4Addr, u8) {
        (Ipv4Addr::from_bits(self.four.0), self.four.1)
    }

    /// Returns the IPv6 prefix and its length.
    #[must_use]
    pub const fn six(self) -> (Ipv6Addr, u8) {
        (Ipv6Addr::from_bits(self.six.0), self.six.1)
    }

    /// Tells whether an IPv4 address lies in the row.
    pub(crate) const fn holds(self, v4: Ipv4Addr) -> bool {
        (v4.to_bits() ^ self.four.0) & mask4(self.four.1) == 0
    }

    /// RFC 7757 §3.3.1, from step 3.
    fn to_six(self, v4: u32) -> Ipv6Addr {
        let suffix = u128::from(v4 & !mask4(self.four.1));
        // What is left of 128 bits behind both the prefix and the suffix is zero.
        let padding = 128 - u32::from(self.six.1) - (32 - u32::from(self.four.1));
        let suffix = suffix.checked_shl(padding).unwrap_or(0);
        (self.six.0 | suffix).into()
    }

    /// RFC 7757 §3.3.2, from step 3.
    fn to_four(self, v6: u128) -> Ipv4Addr {
        let padding = 128 - u32::from(self.six.1) - (32 - u32::from(self.four.1));
        let suffix = (v6 & !mask6(self.six.1))
            .checked_shr(padding)
            .and_then(|suffix| u32::try_from(suffix & u128::from(u32::MAX)).ok())
            .unwrap_or(0);
        (self.four.0 | (suffix & !mask4(self.four.1))).into()
    }
}

impl fmt::Display for AddressMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((four, four_len), (six, six_len)) = (self.four(), self.six());
        match (four_len, six_len) {
            (32, 128) => write!(f, "{four}={six}"),
            _ => write!(f, "{four}/{four_len}={six}/{six_len}"),
        }
    }
}

impl FromStr for AddressMap {
    type Err = InvalidAddressMap;

    fn from_str(text: &str) -> Result<Self, InvalidAddressMap> {
        let (four, six) = text.split_once('=').ok_or(InvalidAddressMap::Text)?;
        Self::new(prefix(four, 32)?, prefix(six, 128)?)
    }
}

/// Reads an address and its length, which is `longest` if it is not there (RFC 7757 §3.2).
fn prefix<A: FromStr>(text: &str, longest: u8) -> Result<(A, u8), InvalidAddressMap> {
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, len.parse().map_err(|_| InvalidAddressMap::Text)?),
        None => (text, longest),
    };
    let addr = addr.parse().map_err(|_| InvalidAddressMap::Text)?;
    Ok((addr, len))
}

/// Why there is no such row or table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddressMap {
    /// Another row has the same prefix (RFC 7757 §5).
    #[error("another map has the same IPv4 or IPv6 prefix: {0}")]
    Duplicate(AddressMap),
    /// A bit beyond the length is set.
    #[error("bits beyond a prefix length are set")]
    HostBits,
    /// A length does not fit.
    #[error("a prefix length is over 32 for IPv4 or 128 for IPv6")]
    Length,
    /// A prefix of addresses that no host can have.
    #[error("no host has {0} addresses")]
    Reserved(&'static str),
    /// Not two prefixes.
    #[error("not a map such as 192.0.2.10=2001:db8::10 or 192.0.2.16/28=2001:db8::/124")]
    Text,
    /// RFC 7757 §3.2.
    #[error("the IPv4 prefix leaves more bits free than the IPv6 prefix (RFC 7757 §3.2)")]
    TooLong,
}

/// The table of explicit address mappings (EAMT); the longest prefix that fits counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressMaps {
    rows: Vec<AddressMap>,
    /// Rows by prefix, for each length, the longest first.
    by_four: Vec<(u8, Vec<AddressMap>)>,
    by_six: Vec<(u8, Vec<AddressMap>)>,
}

impl AddressMaps {
    /// Makes the table; prefixes may overlap.
    ///
    /// # Errors
    /// When two rows have the same prefix, so that the way back would be unspecified
    /// (RFC 7757 §5).
    pub fn new(rows: Vec<AddressMap>) -> Result<Self, InvalidAddressMap> {
        for (index, row) in rows.iter().enumerate() {
            let mut before = rows.iter().take(index);
            if before.any(|other| other.four == row.four || other.six == row.six) {
                return Err(InvalidAddressMap::Duplicate(*row));
            }
        }
        Ok(Self {
            by_four: by_length(&rows, |row| row.four.1, |row| row.four.0.into()),
            by_six: by_length(&rows, |row| row.six.1, |row| row.six.0),
            rows,
        })
    }

    /// Tells whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Iterates over the rows, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = AddressMap> {
        self.rows.iter().copied()
    }

    /// Returns the IPv6 address of an IPv4 address (RFC 7757 §3.3.1).
    #[must_use]
    pub fn six(&self, v4: Ipv4Addr) -> Option<Ipv6Addr> {
        let bits = v4.to_bits();
        self.by_four.iter().find_map(|(len, rows)| {
            let prefix = bits & mask4(*len);
            let at = rows.binary_search_by_key(&prefix, |row| row.four.0).ok()?;
            Some(rows.get(at)?.to_six(bits))
        })
    }

    /// Returns the IPv4 address of an IPv6 address (RFC 7757 §3.3.2).
    #[must_use]
    pub fn four(&self, v6: Ipv6Addr) -> Option<Ipv4Addr> {
        let bits = v6.to_bits();
        self.by_six.iter().find_map(|(len, rows)| {
            let prefix = bits & mask6(*len);
            let at = rows.binary_search_by_key(&prefix, |row| row.six.0).ok()?;
            Some(rows.get(at)?.to_four(bits))
        })
    }

    /// Iterates over the pairs of rows of which one prefix holds the other, so that the way there
    /// may not be the way back (RFC 7757 §5).
    pub fn overlaps(&self) -> impl Iterator<Item = (AddressMap, AddressMap)> {
        self.iter().enumerate().flat_map(|(index, row)| {
            self.iter()
                .take(index)
                .filter(move |other| overlap(*other, row))
                .map(move |other| (other, row))
        })
    }
}

fn by_length(
    rows: &[AddressMap],
    len: impl Fn(&AddressMap) -> u8,
    prefix: impl Fn(&AddressMap) -> u128,
) -> Vec<(u8, Vec<AddressMap>)> {
    let mut lengths: Vec<u8> = rows.iter().map(&len).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths.dedup();
    let of_length = |length| {
        let mut rows: Vec<AddressMap> = rows
            .iter()
            .filter(|row| len(row) == length)
            .copied()
            .collect();
        rows.sort_unstable_by_key(&prefix);
        (length, rows)
    };
    lengths.into_iter().map(of_length).collect()
}

fn overlap(a: AddressMap, b: AddressMap) -> bool {
    let four = mask4(a.four.1.min(b.four.1));
    let six = mask6(a.six.1.min(b.six.1));
    (a.four.0 ^ b.four.0) & four == 0 || (a.six.0 ^ b.six.0) & six == 0
}

const fn mask4(len: u8) -> u32 {
    match u32::MAX.checked_shl(32 - len as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

const fn mask6(len: u8) -> u128 {
    match u128::MAX.checked_shl(128 - len as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn row_maps_there_and_back(
            four_len in 0..=32_u8,
            spare in 0..=96_u8,
            four: u32,
            six: u128,
            host: u32,
        ) {
            let six_len = 96 + four_len - spare.min(96 + four_len);
            let four_side = ((four & mask4(four_len)).into(), four_len);
            let six_side = ((six & mask6(six_len)).into(), six_len);
            let reserved = reserved_v4(four_side.0, four_len);
            prop_assume!(reserved.or(reserved_v6(six_side.0, six_len)).is_none());
            let row = AddressMap::new(four_side, six_side).unwrap();
            let table = AddressMaps::new(vec![row]).unwrap();
            let v4 = Ipv4Addr::from_bits((four & mask4(four_len)) | (host & !mask4(four_len)));

            let v6 = table.six(v4).unwrap();

            prop_assert_eq!(table.four(v6), Some(v4));
            prop_assert_eq!(v6.to_bits() & mask6(six_len), six & mask6(six_len));
            prop_assert_eq!(row.to_string().parse::<AddressMap>(), Ok(row));
        }
    }

    #[test]
    fn overlaps_are_told_and_duplicates_refused() {
        let rows = [
            "0.0.0.0/0=2001:db8:ff00::/40",
            "198.51.100.64=2001:db8::abcd",
        ];
        let rows = rows.map(|text| text.parse::<AddressMap>().unwrap());
        let table = AddressMaps::new(rows.to_vec()).unwrap();
        assert_eq!(table.overlaps().collect::<Vec<_>>(), [(rows[0], rows[1])]);

        let again = "198.51.100.9=2001:db8::abcd".parse().unwrap();
        assert_eq!(
            AddressMaps::new(vec![rows[1], again]),
            Err(InvalidAddressMap::Duplicate(again))
        );
    }
}
