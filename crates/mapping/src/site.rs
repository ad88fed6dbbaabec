//! The LAN that Portico serves: its subnet and how it is divided.

use std::net::Ipv4Addr;

/// The LAN's subnet, our address in it, and the zone.
///
/// The top quarter of the subnet is the translator's pool, the rest is DHCP's, without the
/// network, broadcast and gateway addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    gateway: Ipv4Addr,
    len: u8,
    zone: String,
}

impl Site {
    /// Makes a site from the gateway's address, the prefix length of the LAN's subnet and the
    /// zone's name without a trailing dot.
    ///
    /// # Errors
    /// When the subnet is no private network (RFC 1918), is too small or too large to divide
    /// (/16 to /28), or when the gateway's address is not one of its lower three quarters.
    pub fn new(gateway: Ipv4Addr, len: u8, zone: String) -> Result<Self, InvalidSite> {
        if !(16..=28).contains(&len) {
            return Err(InvalidSite::Length);
        }
        if !gateway.is_private() {
            return Err(InvalidSite::NotPrivate);
        }
        let site = Self { gateway, len, zone };
        if !site.is_host(gateway) || site.in_pool(gateway) {
            return Err(InvalidSite::Gateway);
        }
        Ok(site)
    }

    /// Returns our address on the LAN.
    #[must_use]
    pub const fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Returns the prefix length of the LAN.
    #[must_use]
    pub const fn prefix_len(&self) -> u8 {
        self.len
    }

    /// Returns the network address of the LAN.
    #[must_use]
    pub fn network(&self) -> Ipv4Addr {
        (u32::from(self.gateway) & self.mask()).into()
    }

    /// Returns the netmask of the LAN.
    #[must_use]
    pub fn netmask(&self) -> Ipv4Addr {
        self.mask().into()
    }

    /// Returns the broadcast address of the LAN.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        (u32::from(self.gateway) | !self.mask()).into()
    }

    /// Returns the zone under which servers are named, without a trailing dot.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Returns the translator's pool as a network address and a prefix length.
    #[must_use]
    pub fn pool(&self) -> (Ipv4Addr, u8) {
        let quarter = self.size() / 4;
        (
            (u32::from(self.network()) + 3 * quarter).into(),
            self.len + 2,
        )
    }

    /// Tells whether `addr` lies in the subnet.
    #[must_use]
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        u32::from(addr) & self.mask() == u32::from(self.network())
    }

    /// Tells whether a host may have `addr` by DHCP.
    #[must_use]
    pub fn is_leasable(&self, addr: Ipv4Addr) -> bool {
        self.is_host(addr) && !self.in_pool(addr) && addr != self.gateway
    }

    /// Returns how many addresses [`Self::leasable`] counts.
    #[must_use]
    pub fn leasable_count(&self) -> u32 {
        // the network address and the gateway's stand in the lower three quarters
        self.size() / 4 * 3 - 2
    }

    /// Returns the `index`th address that DHCP may lease, modulo their number.
    #[must_use]
    pub fn leasable(&self, index: u64) -> Ipv4Addr {
        let count = u64::from(self.leasable_count());
        let offset = u32::try_from(index % count).unwrap_or_default() + 1;
        let gateway_offset = u32::from(self.gateway) - u32::from(self.network());
        let offset = if offset >= gateway_offset {
            offset + 1
        } else {
            offset
        };
        (u32::from(self.network()) + offset).into()
    }

    fn is_host(&self, addr: Ipv4Addr) -> bool {
        self.contains(addr) && addr != self.network() && addr != self.broadcast()
    }

    fn in_pool(&self, addr: Ipv4Addr) -> bool {
        self.contains(addr) && addr >= self.pool().0
    }

    const fn size(&self) -> u32 {
        1 << (32 - self.len)
    }

    const fn mask(&self) -> u32 {
        u32::MAX << (32 - self.len)
    }
}

/// Why a LAN cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSite {
    /// The gateway's address does not fit.
    #[error(
        "the gateway's address must be a host address in the lower three quarters of the subnet"
    )]
    Gateway,
    /// The subnet's size does not fit.
    #[error("the LAN's prefix length must be from 16 to 28")]
    Length,
    /// The subnet is public.
    #[error("the LAN must be a private network (RFC 1918)")]
    NotPrivate,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn leasable_addresses_are_the_lower_three_quarters_without_ours() {
        for (gateway, len) in [("192.168.64.1", 24), ("10.0.0.5", 28), ("172.16.0.77", 16)] {
            let site = Site::new(gateway.parse().unwrap(), len, "home.example".to_owned()).unwrap();
            let count = u64::from(site.leasable_count());
            let all: BTreeSet<_> = (0..count).map(|index| site.leasable(index)).collect();

            assert_eq!(all.len() as u64, count);
            assert!(all.iter().all(|addr| site.is_leasable(*addr)));
            assert_eq!(site.leasable(count), site.leasable(0));
        }
    }

    #[test]
    fn pool_is_the_top_quarter() {
        let site = Site::new([192, 168, 64, 1].into(), 24, String::new()).unwrap();

        assert_eq!(site.pool(), ([192, 168, 64, 192].into(), 26));
        assert!(!site.is_leasable([192, 168, 64, 192].into()));
        assert!(site.is_leasable([192, 168, 64, 191].into()));
    }

    #[test]
    fn subnets_that_cannot_be_served_are_refused() {
        let site = |gateway: [u8; 4], len| Site::new(gateway.into(), len, String::new());

        assert_eq!(site([8, 8, 8, 8], 24), Err(InvalidSite::NotPrivate));
        assert_eq!(site([10, 0, 0, 1], 8), Err(InvalidSite::Length));
        assert_eq!(site([192, 168, 1, 0], 24), Err(InvalidSite::Gateway));
        assert_eq!(site([192, 168, 1, 200], 24), Err(InvalidSite::Gateway));
    }
}
