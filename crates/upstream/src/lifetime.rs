//! For how long a port is asked for upstream: as long as it is open here, within bounds.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use mapping::{Instant, Now, Snapshot, Wall};

use crate::port::PortKey;

/// The mappings as they are now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifetimes(Option<Arc<Snapshot>>);

impl Lifetimes {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn new(snapshot: &Arc<Snapshot>) -> Self {
        Self(Some(Arc::clone(snapshot)))
    }

    /// What is left of a port's life, at most `longest`, which a port without an end has.
    ///
    /// When the mapping is prolonged here the next renewal asks for more; when it is not, it ends
    /// upstream by itself even if we are not there to close it.
    pub(crate) fn left(
        &self,
        key: PortKey,
        server: Ipv4Addr,
        longest: Duration,
        now: Instant,
    ) -> Duration {
        let left = || {
            let snapshot = self.0.as_deref()?;
            let mapping = match key.addr {
                IpAddr::V4(_) => snapshot.mapping_by_shared(key.protocol, key.port),
                IpAddr::V6(_) => snapshot.mapping_by_external(server, key.protocol, key.port),
            };
            // what is left is no matter of the wall clock
            let now = Now {
                mono: now,
                wall: Wall::from_secs(0),
            };
            Some(snapshot.remaining(mapping?.expires?, now))
        };
        left().map_or(longest, |left| left.clamp(SHORTEST.min(longest), longest))
    }
}

/// RFC 6887 §15: servers give no less; shorter lives would be renewed in a flood.
const SHORTEST: Duration = Duration::from_mins(2);
