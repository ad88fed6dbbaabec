//! Addresses of interfaces.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::TryStreamExt;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use rtnetlink::AddressMessageBuilder;

use super::{GONE, Netlink, NetlinkError, done, done_or};

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The index of the interface.
    pub ifindex: u32,
    /// The address.
    pub addr: IpAddr,
    /// The length of its on-link prefix.
    pub prefix_len: u8,
    /// How long it is good for.
    pub lifetimes: Lifetimes,
    /// Duplicate address detection has not ended, or found a duplicate: it must not be used.
    pub tentative: bool,
    /// New connections should not use it.
    pub deprecated: bool,
    /// It is random and short-lived (RFC 8981).
    pub temporary: bool,
}

/// How long an address is good for; `None` is for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// How long new connections may use it.
    pub preferred: Option<Duration>,
    /// How long it exists.
    pub valid: Option<Duration>,
}

impl Netlink {
    /// Adds an address for ever; an IPv6 address can be used at once, since no duplicate is
    /// looked for.
    ///
    /// # Errors
    ///
    /// Names the address and the interface.
    pub async fn add_address(
        &self,
        ifindex: u32,
        addr: IpAddr,
        prefix_len: u8,
    ) -> Result<(), NetlinkError> {
        self.add_address_for(ifindex, addr, prefix_len, Lifetimes::default())
            .await
    }

    /// Adds an address with lifetimes, or gives an existing one new lifetimes; looks for no
    /// duplicate.
    ///
    /// # Errors
    ///
    /// Names the address and the interface.
    pub async fn add_address_for(
        &self,
        ifindex: u32,
        addr: IpAddr,
        prefix_len: u8,
        lifetimes: Lifetimes,
    ) -> Result<(), NetlinkError> {
        let mut request = self
            .handle
            .address()
            .add(ifindex, addr, prefix_len)
            .replace();
        let message = request.message_mut();
        let mut cache = CacheInfo::default();
        cache.ifa_preferred = seconds(lifetimes.preferred);
        cache.ifa_valid = seconds(lifetimes.valid);
        message.attributes.push(AddressAttribute::CacheInfo(cache));
        if addr.is_ipv6() {
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let action = format!("add address {addr}/{prefix_len} to interface {ifindex}");
        done(request.execute().await, action)
    }

    /// Removes an address.
    ///
    /// # Errors
    ///
    /// Names the address and the interface.
    pub async fn remove_address(
        &self,
        ifindex: u32,
        addr: IpAddr,
        prefix_len: u8,
    ) -> Result<(), NetlinkError> {
        let message = match addr {
            IpAddr::V4(addr) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(ifindex)
                .address(addr, prefix_len)
                .build(),
            IpAddr::V6(addr) => AddressMessageBuilder::<Ipv6Addr>::new()
                .index(ifindex)
                .address(addr, prefix_len)
                .build(),
        };
        let action = format!("remove address {addr}/{prefix_len} from interface {ifindex}");
        done_or(
            self.handle.address().del(message).execute().await,
            GONE,
            action,
        )
    }

    /// The addresses of one interface.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn addresses(&self, ifindex: u32) -> Result<Vec<Address>, NetlinkError> {
        let request = self
            .handle
            .address()
            .get()
            .set_link_index_filter(ifindex)
            .execute();
        let action = format!("list the addresses of interface {ifindex}");
        let messages: Vec<AddressMessage> = done(request.try_collect().await, action)?;
        Ok(messages.iter().filter_map(Address::from_message).collect())
    }

    /// Waits until an interface is running, none of its addresses is tentative, and packets to
    /// each are delivered.
    ///
    /// # Errors
    ///
    /// Names the interface that does not get ready within `patience`.
    pub async fn wait_ready(&self, ifindex: u32, patience: Duration) -> Result<(), NetlinkError> {
        let mut watch = super::Watch::open()?;
        let ready = async {
            while !self.is_ready(ifindex).await? {
                watch.next().await?;
            }
            Ok(())
        };
        tokio::time::timeout(patience, ready)
            .await
            .unwrap_or_else(|_| {
                Err(NetlinkError {
                    action: format!("get interface {ifindex} ready"),
                    source: io::ErrorKind::TimedOut.into(),
                })
            })
    }
}

impl Netlink {
    async fn is_ready(&self, ifindex: u32) -> Result<bool, NetlinkError> {
        if !self
            .link_at(ifindex)
            .await?
            .is_some_and(|link| link.running)
        {
            return Ok(false);
        }
        // The kernel takes an IPv6 address at once, but its local route comes a moment later.
        let addresses = self.addresses(ifindex).await?;
        let local = self.local_addresses().await?;
        Ok(addresses
            .iter()
            .all(|address| !address.tentative && local.contains(&address.addr)))
    }
}

impl Address {
    pub(super) fn from_message(message: &AddressMessage) -> Option<Self> {
        let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        let (mut addr, mut local) = (None, None);
        let mut lifetimes = Lifetimes::default();
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(found) => addr = Some(*found),
                // On a point-to-point link Address is the other end and Local is ours.
                AddressAttribute::Local(found) => local = Some(*found),
                AddressAttribute::Flags(found) => flags = *found,
                AddressAttribute::CacheInfo(cache) => {
                    lifetimes.preferred = duration(cache.ifa_preferred);
                    lifetimes.valid = duration(cache.ifa_valid);
                }
                _ => {}
            }
        }
        let addr = local.or(addr)?;
        Some(Self {
            ifindex: message.header.index,
            addr,
            prefix_len: message.header.prefix_len,
            lifetimes,
            tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed)
                && !flags.contains(AddressFlags::Optimistic),
            deprecated: flags.contains(AddressFlags::Deprecated),
            // The same bit says "secondary" of an IPv4 address.
            temporary: addr.is_ipv6() && flags.contains(AddressFlags::Secondary),
        })
    }
}

fn seconds(lifetime: Option<Duration>) -> u32 {
    // The largest number means "for ever", and an overlong lifetime is as good.
    lifetime.map_or(FOR_EVER, |lifetime| {
        u32::try_from(lifetime.as_secs()).unwrap_or(FOR_EVER)
    })
}

fn duration(seconds: u32) -> Option<Duration> {
    (seconds != FOR_EVER).then(|| Duration::from_secs(u64::from(seconds)))
}

/// `INFINITY_LIFE_TIME`.
const FOR_EVER: u32 = u32::MAX;
