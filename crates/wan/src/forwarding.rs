//! Whether the kernel forwards at all, and which line mends it.

/// A switch of the kernel that must be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// The key below `/proc/sys/net`.
    pub key: &'static str,
    /// What stands still while it is off.
    pub purpose: &'static str,
    /// The line that mends it.
    pub mend: &'static str,
}

/// The switches.
pub const SWITCHES: [Switch; 2] = [
    Switch {
        key: "ipv4/ip_forward",
        purpose: "translated packets do not reach the servers",
        mend: "sysctl -w net.ipv4.ip_forward=1",
    },
    Switch {
        key: "ipv6/conf/all/forwarding",
        purpose: "remote users do not reach the servers",
        mend: "sysctl -w net.ipv6.conf.all.forwarding=1",
    },
];

/// Tells whether the value of a switch means on.
///
/// ```
/// assert!(wan::forwarding::is_on("1") && !wan::forwarding::is_on("0"));
/// ```
#[must_use]
pub fn is_on(value: &str) -> bool {
    value.trim().parse::<u32>().is_ok_and(|value| value != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_names_its_own_key_in_the_line_that_mends_it() {
        for switch in SWITCHES {
            let dotted = switch.key.replace('/', ".");
            assert!(switch.mend.contains(&format!("net.{dotted}=1")), "{dotted}");
        }
    }

    #[test]
    fn nonsense_is_off() {
        assert!(!is_on("") && !is_on("yes") && is_on("2\n"));
    }
}
