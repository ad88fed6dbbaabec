//! The LAN beside which, or on which, the pool is: proxy ARP, and what of the kernel's settings
//! would swallow packets.

use std::net::{IpAddr, Ipv4Addr};

use net::netlink::{Netlink, NetlinkError};
use tokio::task::JoinHandle;

use crate::pool::PoolRange;

/// The LAN as the kernel has it now.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Lan {
    /// Its index, until it is made anew.
    pub(super) index: Option<u32>,
    /// It is switched on.
    pub(super) up: bool,
    /// The gateway's addresses and the lengths of their subnets.
    addresses: Vec<(Ipv4Addr, u8)>,
}

impl Lan {
    /// Looks at the interface `name`; one that is not there has nothing.
    pub(super) async fn look(netlink: &Netlink, name: &str) -> Result<Self, NetlinkError> {
        let Some(link) = netlink.link(name).await? else {
            return Ok(Self::default());
        };
        let addresses = netlink.addresses(link.index).await?;
        let addresses = addresses.iter().filter_map(|address| match address.addr {
            IpAddr::V4(addr) => Some((addr, address.prefix_len)),
            IpAddr::V6(_) => None,
        });
        Ok(Self {
            index: Some(link.index),
            up: link.up,
            addresses: addresses.collect(),
        })
    }

    /// Returns the address by which the kernel speaks to remotes, such as when it says that a
    /// server does not answer: the one in the subnet of the range, if there is one.
    pub(super) fn source(&self, range: PoolRange) -> Option<Ipv4Addr> {
        self.around(range)
            .or_else(|| self.addresses.first().copied())
            .map(|(addr, _)| addr)
    }

    /// Returns whom hosts of the LAN ask for by ARP: the hosts of those ranges that lie inside a
    /// subnet of the LAN. A range elsewhere is routed to the gateway.
    pub(super) fn on_link(&self, pool: &[PoolRange]) -> Vec<(Ipv4Addr, Ipv4Addr)> {
        let hosts = |range: &PoolRange| {
            let (addr, len) = self.around(*range)?;
            let (lowest, highest) = ends(addr, len);
            let (first, last) = ends(range.network(), range.prefix_len());
            // what stands for the subnet itself or for all its hosts is nobody's
            Some((
                first.max(lowest.saturating_add(1)),
                last.min(highest.saturating_sub(1)),
            ))
        };
        let hosts = pool.iter().filter_map(hosts);
        hosts
            .map(|(first, last)| (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)))
            .collect()
    }

    fn around(&self, range: PoolRange) -> Option<(Ipv4Addr, u8)> {
        let (first, last) = ends(range.network(), range.prefix_len());
        self.addresses.iter().copied().find(|(addr, len)| {
            let (lowest, highest) = ends(*addr, *len);
            lowest <= first && last <= highest
        })
    }
}

/// Answers ARP for the pool in the background, so that packets do not wait for it.
#[derive(Debug, Default)]
pub(super) struct Proxy {
    task: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Answers for all these hosts, again where it did before: the kernel forgets for whom it
    /// answers when an interface is switched off.
    pub(super) fn start(
        &mut self,
        netlink: Netlink,
        name: &str,
        lan: u32,
        hosts: Vec<(Ipv4Addr, Ipv4Addr)>,
    ) {
        let name = name.to_owned();
        self.stop();
        self.task = Some(tokio::spawn(async move {
            if let Err(error) = answer(&netlink, &name, lan, &hosts).await {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "nobody answers for all of the pool on the LAN");
            }
        }));
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Brings it about that the kernel answers for these hosts.
pub(super) async fn answer(
    netlink: &Netlink,
    name: &str,
    lan: u32,
    hosts: &[(Ipv4Addr, Ipv4Addr)],
) -> Result<(), NetlinkError> {
    // By default the kernel waits up to 0.8 s before it answers for somebody else.
    if let Err(error) = net::sysctl::write(&format!("ipv4/neigh/{name}/proxy_delay"), "0") {
        tracing::warn!(%error, "first packets to new remotes wait for ARP");
    }
    let count: u64 = hosts.iter().map(|(first, last)| span(*first, *last)).sum();
    if count > ENTRIES {
        // The kernel looks through its proxy entries one by one: with so many it is better told
        // to answer for everything that it routes elsewhere.
        if let Err(error) = net::sysctl::write(&proxy_arp(name), "1") {
            tracing::warn!(%error, "nobody answers for the pool on the LAN");
        }
        return Ok(());
    }
    let there = netlink.proxies(lan).await?;
    for (first, last) in hosts {
        for bits in first.to_bits()..=last.to_bits() {
            let host = IpAddr::V4(Ipv4Addr::from_bits(bits));
            if !there.contains(&host) {
                netlink.add_proxy(lan, host).await?;
            }
        }
    }
    Ok(())
}

/// Tells whether the kernel answers on an interface for everything that it routes elsewhere.
pub(super) fn answers_for_all(name: &str) -> bool {
    net::sysctl::read(&proxy_arp(name)).is_ok_and(|value| value != "0")
}

/// Ends that, where it was only for a large pool.
pub(super) fn no_longer_answer_for_all(name: &str) {
    if answers_for_all(name)
        && let Err(error) = net::sysctl::write(&proxy_arp(name), "0")
    {
        tracing::warn!(%error, "the kernel goes on answering for others on {name}");
    }
}

fn proxy_arp(name: &str) -> String {
    format!("ipv4/conf/{name}/proxy_arp")
}

/// Ends what an earlier process began, for a pool that is no longer ours.
pub(super) async fn no_longer_answer(
    netlink: &Netlink,
    lan: u32,
    stale: &[PoolRange],
) -> Result<(), NetlinkError> {
    if stale.is_empty() {
        return Ok(());
    }
    for proxy in netlink.proxies(lan).await? {
        if let IpAddr::V4(addr) = proxy
            && stale.iter().any(|range| range.contains(addr))
        {
            netlink.remove_proxy(lan, proxy).await?;
        }
    }
    Ok(())
}

/// Says what of the kernel's settings would swallow packets without a word.
pub(super) async fn look_for_traps(netlink: &Netlink, lan: &str, wan: &str, pool: &[PoolRange]) {
    for key in [
        format!("ipv4/conf/{lan}/forwarding"),
        "ipv6/conf/all/forwarding".to_owned(),
        format!("ipv6/conf/{wan}/forwarding"),
    ] {
        if net::sysctl::read(&key).is_ok_and(|value| value == "0") {
            tracing::warn!(
                "nothing passes: set the sysctl net.{} to 1",
                key.replace('/', ".")
            );
        }
    }
    let Ok(local) = netlink.local_addresses().await else {
        return;
    };
    for addr in local {
        if let IpAddr::V4(addr) = addr
            && pool.iter().any(|range| range.contains(addr))
        {
            tracing::warn!("the machine itself has {addr}: no remote can stand behind it");
        }
    }
}

const fn ends(addr: Ipv4Addr, len: u8) -> (u32, u32) {
    let hosts = match u32::MAX.checked_shr(len as u32) {
        Some(hosts) => hosts,
        None => 0,
    };
    (addr.to_bits() & !hosts, addr.to_bits() | hosts)
}

const fn span(first: Ipv4Addr, last: Ipv4Addr) -> u64 {
    last.to_bits().saturating_sub(first.to_bits()) as u64 + 1
}

/// Hosts for whom the kernel answers one by one.
const ENTRIES: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_in_the_subnet_is_on_link_without_its_broadcast_address() {
        let lan = lan(&[("192.168.64.1", 24)]);
        let pool = [
            range("192.168.64.192", 26),
            range("192.168.64.128", 26),
            range("192.0.2.0", 24),
        ];

        assert_eq!(
            lan.on_link(&pool),
            [
                hosts("192.168.64.192", "192.168.64.254"),
                hosts("192.168.64.128", "192.168.64.191")
            ]
        );
    }

    #[test]
    fn range_around_the_subnet_or_without_one_is_routed() {
        let around = lan(&[("10.1.0.1", 16)]);
        assert_eq!(around.on_link(&[range("10.0.0.0", 8)]), []);
        assert_eq!(Lan::default().on_link(&[range("10.0.0.0", 8)]), []);
    }

    #[test]
    fn kernel_speaks_by_the_address_of_the_subnet_around_the_range() {
        let lan = lan(&[("10.1.0.1", 16), ("192.168.64.1", 24)]);

        assert_eq!(
            lan.source(range("192.168.64.192", 26)),
            Some([192, 168, 64, 1].into())
        );
        assert_eq!(
            lan.source(range("192.0.2.0", 24)),
            Some([10, 1, 0, 1].into())
        );
        assert_eq!(Lan::default().source(range("192.0.2.0", 24)), None);
    }

    fn lan(addresses: &[(&str, u8)]) -> Lan {
        let addresses = addresses
            .iter()
            .map(|(addr, len)| (addr.parse().unwrap(), *len));
        Lan {
            addresses: addresses.collect(),
            ..Lan::default()
        }
    }

    fn range(network: &str, len: u8) -> PoolRange {
        PoolRange::new(network.parse().unwrap(), len).unwrap()
    }

    fn hosts(first: &str, last: &str) -> (Ipv4Addr, Ipv4Addr) {
        (first.parse().unwrap(), last.parse().unwrap())
    }
}
