//! The routes that lead packets to the TUN device, and what stands behind them.

use std::net::IpAddr;

use mapping::Nsp;
use net::netlink::{Link, Netlink, NetlinkError, Route, Target};

use crate::pool::PoolRange;

/// The routes of the valid prefixes; those of the pool are made once.
#[derive(Debug)]
pub(super) struct Routes {
    netlink: Netlink,
    tun: u32,
    lan: String,
    pool: Vec<PoolRange>,
    nsps: Vec<Nsp>,
}

impl Routes {
    /// Switches the TUN device on, leads the pool to it, and answers for the pool on the LAN.
    pub(super) async fn open(
        netlink: Netlink,
        tun_name: &str,
        lan: &str,
        pool: &[PoolRange],
    ) -> Result<Self, NetlinkError> {
        let tun = netlink.index(tun_name).await?;
        let lan_index = netlink.index(lan).await?;
        // Without an address of its own the kernel sends nothing of its own to us.
        if let Err(error) = net::sysctl::write(&format!("ipv6/conf/{tun_name}/addr_gen_mode"), "1")
        {
            tracing::debug!(%error, "the kernel's own packets will be counted as drops");
        }
        netlink.set_up(tun).await?;

        for range in pool {
            let (network, len) = (range.network().into(), range.prefix_len());
            netlink.add_route(fallback(network, len)).await?;
            netlink
                .add_route(Route::new(network, len, Target::Device(tun)))
                .await?;
        }
        let nsps = left_behind(&netlink).await?;
        let routes = Self {
            netlink,
            tun,
            lan: lan.to_owned(),
            pool: pool.to_vec(),
            nsps,
        };
        routes.answer_for_the_pool(lan_index).await?;
        for nsp in &routes.nsps {
            routes.netlink.add_route(routes.to_tun(*nsp)).await?;
        }
        Ok(routes)
    }

    /// Leads exactly these prefixes to the device. A route that cannot be removed is no reason to
    /// stop: the machine drops what it leads here.
    pub(super) async fn follow(&mut self, valid: &[Nsp]) -> Result<(), NetlinkError> {
        for nsp in self.nsps.iter().filter(|nsp| !valid.contains(nsp)) {
            for route in [self.to_tun(*nsp), behind(*nsp)] {
                if let Err(error) = self.netlink.remove_route(route).await {
                    tracing::warn!(%error, "the route of a prefix that has ended stays");
                }
            }
        }
        for nsp in valid.iter().filter(|nsp| !self.nsps.contains(nsp)) {
            self.netlink.add_route(behind(*nsp)).await?;
            self.netlink.add_route(self.to_tun(*nsp)).await?;
        }
        self.nsps = valid.to_vec();
        Ok(())
    }

    /// Answers for the pool again: the kernel forgets for whom it answers when an interface is
    /// switched off.
    pub(super) async fn link_is_up(&self, link: &Link) {
        if link.name == self.lan
            && let Err(error) = self.answer_for_the_pool(link.index).await
        {
            tracing::warn!(%error, "nobody answers for the pool on the LAN");
        }
    }

    /// As [`Self::link_is_up`], when it is not known whether.
    pub(super) async fn lan_may_be_up(&self) {
        if let Some(lan) = self.link(&self.lan).await {
            self.link_is_up(&lan).await;
        }
    }

    /// Returns what an interface is now.
    pub(super) async fn link(&self, name: &str) -> Option<Link> {
        self.netlink.link(name).await.ok().flatten()
    }

    /// A server without a default route asks for the pool by ARP.
    async fn answer_for_the_pool(&self, lan: u32) -> Result<(), NetlinkError> {
        for range in &self.pool {
            self.netlink.add_proxy(lan, range.shared().into()).await?;
        }
        // By default the kernel waits up to 0.8 s before it answers for somebody else.
        let delay = format!("ipv4/neigh/{}/proxy_delay", self.lan);
        if let Err(error) = net::sysctl::write(&delay, "0") {
            tracing::warn!(%error, "first packets to new remotes wait for ARP");
        }
        Ok(())
    }

    /// Returns how many packets the kernel dropped because the device's queue was full.
    pub(super) async fn tun_dropped(&self) -> u64 {
        match self.netlink.link_at(self.tun).await {
            Ok(Some(link)) => link.tx_dropped,
            Ok(None) | Err(_) => 0,
        }
    }

    fn to_tun(&self, nsp: Nsp) -> Route {
        Route::new(
            nsp.prefix().addr().into(),
            nsp.prefix().len(),
            Target::Device(self.tun),
        )
    }
}

/// Returns the prefixes whose fallback an earlier process left behind.
async fn left_behind(netlink: &Netlink) -> Result<Vec<Nsp>, NetlinkError> {
    let routes = netlink.routes().await?;
    Ok(routes
        .into_iter()
        .filter(|route| route.target == Target::Blackhole && route.prefix_len == 96)
        .filter(|route| route.metric == Some(FALLBACK_METRIC))
        .filter_map(|route| match route.destination {
            IpAddr::V4(_) => None,
            IpAddr::V6(addr) => Nsp::new(addr).ok(),
        })
        .collect())
}

fn behind(nsp: Nsp) -> Route {
    fallback(nsp.prefix().addr().into(), nsp.prefix().len())
}

/// What counts while the device is gone: nothing leaks to the WAN, and a peer that waits may go on
/// when the translator is back.
fn fallback(network: IpAddr, len: u8) -> Route {
    Route::new(network, len, Target::Blackhole).metric(FALLBACK_METRIC)
}

/// Above all metrics in use; by it an earlier process's routes are known.
const FALLBACK_METRIC: u32 = 64_640;
