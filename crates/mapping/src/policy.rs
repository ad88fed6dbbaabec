//! What a device may open without asking.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Access;

/// The rules by which the core decides, the same for every requester.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What a device may do that has no policy of its own.
    pub new_device: Access,
    /// Ports that devices open by themselves.
    pub auto_allow: PortClass,
    /// Ports that nobody opens, whatever the class says.
    pub always_reject: Vec<PortRange>,
    /// The shortest lifetime that PCP gives; a request for less gets this.
    pub min_lease: Duration,
    /// The longest lifetime of a mapping; a request for a permanent one gets this.
    pub max_lease: Duration,
    /// Mappings that one host may hold.
    pub max_per_device: u32,
}

impl Policy {
    /// Tells whether the policy rejects `port` for every device.
    #[must_use]
    pub fn always_rejects(&self, port: u16) -> bool {
        self.always_reject.iter().any(|range| range.contains(port))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            new_device: Access::Ask,
            auto_allow: PortClass::WebAndHigh,
            always_reject: ALWAYS_REJECT
                .into_iter()
                .map(|(first, last)| PortRange { first, last })
                .collect(),
            min_lease: MIN_LEASE,
            max_lease: MAX_LEASE,
            max_per_device: MAX_PER_DEVICE,
        }
    }
}

/// A class of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortClass {
    /// Every port.
    All,
    /// 1024 to 65535.
    High,
    /// No port.
    None,
    /// 80, 443, 554 and 1024 to 65535.
    WebAndHigh,
}

impl PortClass {
    /// Tells whether `port` is in the class.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::High => port >= 1024,
            Self::None => false,
            Self::WebAndHigh => matches!(port, 80 | 443 | 554 | 1024..),
        }
    }

    /// Returns the name used in the configuration and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::High => "high",
            Self::None => "none",
            Self::WebAndHigh => "web-and-high",
        }
    }

    /// Returns the class of a name that [`Self::as_str`] gave.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::All, Self::High, Self::None, Self::WebAndHigh]
            .into_iter()
            .find(|class| class.as_str() == name)
    }
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl PortRange {
    /// Tells whether `port` lies in the range.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = InvalidPortRange;

    fn from_str(text: &str) -> Result<Self, InvalidPortRange> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| InvalidPortRange);
        let range = Self {
            first: port(first)?,
            last: port(last)?,
        };
        if range.first > range.last {
            return Err(InvalidPortRange);
        }
        Ok(range)
    }
}

/// The text is no port and no range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a port or a range of ports such as 137-139")]
pub struct InvalidPortRange;

/// File transfer, login, Windows file sharing, remote desktop, and port control itself
/// (RFC 6887 §11.3: never 5350 and 5351).
const ALWAYS_REJECT: [(u16, u16); 8] = [
    (21, 21),
    (23, 23),
    (135, 135),
    (137, 139),
    (445, 445),
    (3389, 3389),
    (5350, 5350),
    (5351, 5351),
];

/// RFC 6887 §15: the least should be 120 s.
const MIN_LEASE: Duration = Duration::from_secs(120);

/// The longest lease that IGD:2 knows, WANIPConnection:2 §2.3.16.
const MAX_LEASE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Enough for a console or a NAS, little enough that a broken device is noticed.
const MAX_PER_DEVICE: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_contain_what_they_name() {
        let web = PortClass::WebAndHigh;

        assert!(
            [80, 443, 554, 1024, 65535]
                .into_iter()
                .all(|port| web.contains(port))
        );
        assert!(![22, 81, 1023].into_iter().any(|port| web.contains(port)));
        assert!(!PortClass::High.contains(443));
        assert!(PortClass::All.contains(1) && !PortClass::None.contains(65535));
    }

    #[test]
    fn ranges_are_inclusive_and_ordered() {
        let policy = Policy::default();

        assert!(policy.always_rejects(138) && !policy.always_rejects(140));
        assert_eq!(
            "137-139".parse(),
            Ok(PortRange {
                first: 137,
                last: 139
            })
        );
        assert!("139-137".parse::<PortRange>().is_err());
    }
}
