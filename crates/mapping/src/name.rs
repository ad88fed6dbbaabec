//! The label under which a server appears in the zone.

use std::fmt;
use std::str::FromStr;

use crate::Mac;

/// A host label: 1 to 63 lower-case letters, digits and inner hyphens (RFC 1123 §2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(String);

impl ServerName {
    /// Makes the nearest valid label of what a device calls itself, `None` if nothing is left
    /// or the label is reserved.
    #[must_use]
    pub fn sanitise(declared: &str) -> Option<Self> {
        let first = declared.split('.').next().unwrap_or_default();
        let mut label = String::with_capacity(first.len());
        for c in first.chars() {
            match c.to_ascii_lowercase() {
                c @ ('a'..='z' | '0'..='9') => label.push(c),
                '-' | '_' | ' ' if !label.is_empty() && !label.ends_with('-') => label.push('-'),
                _ => {}
            }
            if label.len() == LONGEST {
                break;
            }
        }
        label
            .trim_end_matches('-')
            .parse()
            .ok()
            .filter(|name: &Self| !name.is_reserved())
    }

    /// Returns the name of a device that declares none: `device-` and the end of its MAC.
    #[must_use]
    pub fn of_mac(mac: Mac) -> Self {
        let [.., a, b, c] = mac.0;
        Self(format!("device-{a:02x}{b:02x}{c:02x}"))
    }

    /// Returns this name with a suffix that tells it from a name that is taken.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
        let room = LONGEST.saturating_sub(suffix.len().saturating_add(1));
        let stem = self.0.get(..room).unwrap_or(&self.0).trim_end_matches('-');
        Self(format!("{stem}-{suffix}"))
    }

    /// Tells whether programs give the name a meaning of its own, so that no device may take it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.0.as_str())
    }

    /// Returns the label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let label = text.to_ascii_lowercase();
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if label.is_empty()
            || label.len() > LONGEST
            || label.starts_with('-')
            || label.ends_with('-')
            || !label.chars().all(inner)
        {
            return Err(InvalidName);
        }
        Ok(Self(label))
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no host label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 63 letters, digits and inner hyphens")]
pub struct InvalidName;

/// RFC 1035 §2.3.4.
const LONGEST: usize = 63;

/// Names that browsers, resolvers and mail programs look for by themselves, and our own.
const RESERVED: [&str; 21] = [
    "autoconfig",
    "autodiscover",
    "broadcasthost",
    "fritz",
    "gateway",
    "gw",
    "imap",
    "isatap",
    "localhost",
    "mail",
    "ns",
    "ns1",
    "ns2",
    "pop",
    "portico",
    "router",
    "smtp",
    "stun",
    "turn",
    "wpad",
    "www",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_names_become_labels() {
        let sanitised = |text| ServerName::sanitise(text).map(|name| name.to_string());

        assert_eq!(sanitised("Front Camera").as_deref(), Some("front-camera"));
        assert_eq!(sanitised("nas.local").as_deref(), Some("nas"));
        assert_eq!(sanitised("--a__b--").as_deref(), Some("a-b"));
        assert_eq!(sanitised("<script>").as_deref(), Some("script"));
        assert_eq!(sanitised("WPAD"), None);
        assert_eq!(sanitised("\u{1F4F7}"), None);
        assert_eq!(sanitised(&"x".repeat(300)).map(|n| n.len()), Some(63));
    }

    #[test]
    fn suffix_keeps_the_label_short_enough() {
        let long: ServerName = "x".repeat(63).parse().unwrap();

        assert_eq!(long.with_suffix("0a0b0c").as_str().len(), 63);
    }
}
