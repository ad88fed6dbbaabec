//! The numbers by which others notice what changed or was lost.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::{BootNumber, Expiry, Instant};

/// Seconds since the last loss of state or change of the external address, over restarts
/// (RFC 6887 §8.5, RFC 6886 §3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// When `value` was read.
    pub at: Expiry,
    /// The epoch then.
    pub value: Duration,
}

impl Epoch {
    /// Returns an epoch that begins now.
    #[must_use]
    pub const fn starting(boot: BootNumber, at: Instant) -> Self {
        Self {
            at: Expiry { boot, at },
            value: Duration::ZERO,
        }
    }

    /// Returns whole seconds since the epoch began; the epoch of an earlier boot stands still
    /// until [`crate::Core::restore`] or a known clock moves it into this one.
    #[must_use]
    pub fn seconds(self, boot: BootNumber, now: Instant) -> u32 {
        let run = if self.at.boot == boot {
            now.since(self.at.at)
        } else {
            Duration::ZERO
        };
        u32::try_from(self.value.saturating_add(run).as_secs()).unwrap_or(u32::MAX)
    }
}

/// The counters of a [`crate::Snapshot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// PCP's epoch: restarts when the preferred NSP changes.
    pub pcp_epoch: Epoch,
    /// NAT-PMP's epoch: only its IPv4 external address restarts it.
    pub natpmp_epoch: Epoch,
    /// UPnP BOOTID: rises with every start.
    pub upnp_boot_id: u32,
    /// UPnP SystemUpdateID: rises with every change of a mapping.
    pub system_update_id: u32,
    /// The shared IPv4 address to which the epochs belong.
    pub shared_ipv4: Option<Ipv4Addr>,
    /// SOA serial: rises with every revision that changes the zone.
    pub serial: u32,
}
