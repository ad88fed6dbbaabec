//! Whom a mapping admits.

use std::fmt;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::Prefix6;

/// The remotes that a mapping admits: those in a prefix, with any source port or one
/// (RFC 6887 §13.3). An IPv4 prefix of length n stands as `::ffff:0:0/96` and n bits more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteFilter {
    /// Where the remote is.
    pub prefix: Prefix6,
    /// The remote's own port; `None` for every port.
    pub port: Option<NonZeroU16>,
}

impl RemoteFilter {
    /// Tells whether a remote fits.
    #[must_use]
    pub fn admits(&self, remote: Ipv6Addr, port: u16) -> bool {
        self.prefix.contains(remote) && self.port.is_none_or(|own| own.get() == port)
    }

    /// Tells whether the filter is about remotes that have IPv4 addresses.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.prefix.len() >= 96 && self.prefix.addr().to_ipv4_mapped().is_some()
    }
}

impl fmt::Display for RemoteFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{} port {port}", self.prefix),
            None => self.prefix.fmt(f),
        }
    }
}

/// The filters of a mapping: a union, where none admits everybody.
pub type Filters = Arc<[RemoteFilter]>;

/// What a request does to the filters of its mapping (RFC 6887 §13.3: they add up over
/// renewals; a prefix length of zero takes away those before it).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterChange {
    /// Whether those that the mapping has go away.
    pub clear: bool,
    /// What is added then.
    pub add: Vec<RemoteFilter>,
}

impl FilterChange {
    /// Returns the filters that follow from `old`.
    ///
    /// # Errors
    /// When there are more than [`MAX_FILTERS`].
    pub(crate) fn apply(&self, old: &Filters) -> Result<Filters, TooMany> {
        if !self.clear && self.add.is_empty() {
            return Ok(Arc::clone(old));
        }
        let kept: &[RemoteFilter] = if self.clear { &[] } else { old };
        let mut filters = kept.to_vec();
        for filter in &self.add {
            if !filters.contains(filter) {
                filters.push(*filter);
            }
        }
        if filters.len() > MAX_FILTERS {
            return Err(TooMany);
        }
        Ok(filters.into())
    }
}

/// More filters than a mapping may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// A family's homes; each costs a comparison for every first packet. Also the remotes to which PEER
/// keeps one internal port: a server that speaks to more of them by one port asks for MAP.
pub const MAX_FILTERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o_3_filters_add_up_until_they_are_cleared() {
        let filter = |text: &str| RemoteFilter {
            prefix: text.parse().unwrap(),
            port: None,
        };
        let change = |clear, add: &[&str]| FilterChange {
            clear,
            add: add.iter().map(|text| filter(text)).collect(),
        };
        let none: Filters = Arc::from([]);
        let one = change(false, &["2001:db8:1::/48"]).apply(&none).unwrap();
        let two = change(false, &["2001:db8:2::/48", "2001:db8:1::/48"])
            .apply(&one)
            .unwrap();

        assert_eq!(two.len(), 2);
        assert_eq!(change(false, &[]).apply(&two), Ok(Arc::clone(&two)));
        assert_eq!(change(true, &["2001:db8:1::/48"]).apply(&two), Ok(one));
        assert_eq!(change(true, &[]).apply(&two), Ok(none));
    }

    #[test]
    fn o_3_filters_are_bounded() {
        let add = (0..17)
            .map(|n| RemoteFilter {
                prefix: format!("2001:db8:{n:x}::/48").parse().unwrap(),
                port: None,
            })
            .collect();

        let change = FilterChange { clear: false, add };
        assert_eq!(change.apply(&Arc::from([])), Err(TooMany));
    }

    #[test]
    fn o_3_a_filter_is_a_prefix_and_a_port() {
        let filter = RemoteFilter {
            prefix: "2001:db8:1::/48".parse().unwrap(),
            port: NonZeroU16::new(4000),
        };

        assert!(filter.admits("2001:db8:1::7".parse().unwrap(), 4000));
        assert!(!filter.admits("2001:db8:1::7".parse().unwrap(), 4001));
        assert!(!filter.admits("2001:db8:2::7".parse().unwrap(), 4000));
        assert!(!filter.is_ipv4());
        let ipv4 = RemoteFilter {
            prefix: "::ffff:192.0.2.0/120".parse().unwrap(),
            port: None,
        };
        assert!(ipv4.is_ipv4());
    }
}
