//! The residential servers: who they are, and the address and name that each has.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::{Expiry, HostPolicy, Revision, ServerName, Wall};

/// An Ethernet address; it is what names a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or(ParseMacError)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        if parts.next().is_some() {
            return Err(ParseMacError);
        }
        Ok(Self(bytes))
    }
}

/// The text is not six pairs of hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is six pairs of hexadecimal digits, such as 02:00:00:00:00:01")]
pub struct ParseMacError;

/// A host that has had a lease; its address and name stay its own while it is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its identity.
    pub mac: Mac,
    /// Its label in the zone.
    pub name: ServerName,
    /// Whether an admin chose the name, so that what the host declares changes nothing.
    pub name_pinned: bool,
    /// Its address: a keyed hash of the MAC chose it.
    pub addr: Ipv4Addr,
    /// Present while the host is here.
    pub lease: Option<Lease>,
    /// What it called itself (DHCP option 12 or 81), at most 255 bytes, as declared.
    pub declared_name: Option<String>,
    /// What holds for it instead of the policy.
    pub policy: Option<HostPolicy>,
    /// When it was first seen.
    pub first_seen: Wall,
    /// When its lease was last granted or ended.
    pub last_seen: Wall,
    /// The revision in which its name or presence last changed; not stored.
    pub changed_in: Revision,
}

/// The right of a host to its address (RFC 2131).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its end.
    pub expires: Expiry,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_text_goes_both_ways() {
        let mac: Mac = "02-00-5e-10-20-FF".parse().unwrap();

        assert_eq!(mac.to_string(), "02:00:5e:10:20:ff");
        assert!("02:00:5e:10:20".parse::<Mac>().is_err());
        assert!("02:00:5e:10:20:ff:00".parse::<Mac>().is_err());
        assert!("0:0:5e:10:20:ff".parse::<Mac>().is_err());
    }
}
