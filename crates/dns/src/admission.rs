//! Who may hold a connection of DNS over TCP.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use mapping::Instant;

/// The connections of one listener: so many in all, and so many of one source.
#[derive(Debug, Default)]
pub struct Admission {
    next: u64,
    held: BTreeMap<Place, Held>,
}

/// A connection that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

/// A new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Its own place; [`Admission::release`] must follow.
    pub place: Place,
    /// An idle connection to close in its favour (RFC 7766 §6.2.3); its place is released.
    pub evicted: Option<Place>,
}

/// Why a connection is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// All places are taken, and nobody is idle.
    #[error("every connection is busy")]
    Full,
    /// The source has enough.
    #[error("the source has enough connections")]
    Source,
}

impl Admission {
    /// Gives a place to a new connection.
    ///
    /// # Errors
    /// When there is none for it (RFC 7766 §6.2.2).
    pub fn admit(&mut self, from: IpAddr, now: Instant) -> Result<Admitted, NotAdmitted> {
        let source = source_of(from);
        let of_source = self.held.values().filter(|held| held.source == source);
        if of_source.count() >= MOST_OF_SOURCE {
            return Err(NotAdmitted::Source);
        }
        let mut evicted = None;
        if self.held.len() >= MOST {
            let longest = self.longest_idle().ok_or(NotAdmitted::Full)?;
            self.held.remove(&longest);
            evicted = Some(longest);
        }
        let place = Place(self.next);
        self.next = self.next.wrapping_add(1);
        let idle_since = Some(now);
        self.held.insert(place, Held { source, idle_since });
        Ok(Admitted { place, evicted })
    }

    /// Learns since when a connection is idle, `None` if it is busy.
    pub fn update(&mut self, place: Place, idle_since: Option<Instant>) {
        if let Some(held) = self.held.get_mut(&place) {
            held.idle_since = idle_since;
        }
    }

    /// Takes the place back; a second time changes nothing.
    pub fn release(&mut self, place: Place) {
        self.held.remove(&place);
    }

    /// Returns how many places are taken.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn longest_idle(&self) -> Option<Place> {
        let idle = |(place, held): (&Place, &Held)| Some((held.idle_since?, *place));
        self.held
            .iter()
            .filter_map(idle)
            .min()
            .map(|(_, place)| place)
    }
}

#[derive(Debug)]
struct Held {
    source: IpAddr,
    idle_since: Option<Instant>,
}

/// A host of IPv6 has all addresses of its /64.
const fn source_of(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & NETWORK)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The connections of a listener: each takes a file and, at worst, half a megabyte.
pub const MOST: usize = 128;

/// RFC 7766 §6.2.2: much looser than one, for there may be many clients behind one address.
pub const MOST_OF_SOURCE: usize = 16;

const NETWORK: u128 = !0 << 64;

#[cfg(test)]
mod tests;
