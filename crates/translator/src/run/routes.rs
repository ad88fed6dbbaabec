//! The routes that lead packets to the TUN device, and what stands behind them.

use std::net::IpAddr;

use mapping::Nsp;
use net::netlink::{Netlink, NetlinkError, Route, Target};

use super::lan::{self, Lan, Proxy};
use crate::pool::PoolRange;

/// The routes of the valid prefixes and of the pool, and who answers for the pool on the LAN.
#[derive(Debug)]
pub(super) struct Routes {
    netlink: Netlink,
    tun: u32,
    /// The device was switched off, and the kernel has removed what led to it.
    is_off: bool,
    lan_name: String,
    lan: Lan,
    /// Whether the kernel answered for everything on the LAN before we came, if we may end that.
    answers_for_all: Option<bool>,
    proxy: Proxy,
    pool: Vec<PoolRange>,
    nsps: Vec<Nsp>,
    /// Other networks that are led to the device.
    others: Vec<Network>,
}

impl Routes {
    /// Switches the TUN device on, leads the pool to it, and answers for the pool on the LAN.
    pub(super) async fn open(
        netlink: Netlink,
        tun_name: &str,
        lan_name: &str,
        pool: Vec<PoolRange>,
    ) -> Result<Self, NetlinkError> {
        netlink.index(lan_name).await?;
        let tun = switch_on(&netlink, tun_name).await?;

        let lan = Lan::look(&netlink, lan_name).await?;
        let (nsps, stale) = left_behind(&netlink, &pool).await?;
        let routes = Self {
            netlink,
            tun,
            is_off: false,
            lan_name: lan_name.to_owned(),
            lan,
            answers_for_all: None,
            proxy: Proxy::default(),
            pool,
            nsps,
            others: Vec::new(),
        };
        for range in &routes.pool {
            routes.netlink.add_route(behind(*range)).await?;
        }
        routes.lead_the_pool().await?;
        if let Some(index) = routes.lan.index.filter(|_| routes.lan.up) {
            let hosts = routes.lan.on_link(&routes.pool);
            lan::no_longer_answer(&routes.netlink, index, &stale).await?;
            lan::answer(&routes.netlink, lan_name, index, &hosts).await?;
        }
        for nsp in &routes.nsps {
            routes.netlink.add_route(routes.to_tun(*nsp)).await?;
        }
        Ok(routes)
    }

    /// Switches the TUN device on, leads these networks and the pool to it, and answers for the
    /// pool on an interface, if there is one.
    pub(super) async fn open_alone(
        netlink: Netlink,
        tun_name: &str,
        interface: Option<&str>,
        pool: Vec<PoolRange>,
    ) -> Result<Self, NetlinkError> {
        let lan = match interface {
            Some(name) => {
                netlink.index(name).await?;
                Lan::look(&netlink, name).await?
            }
            None => Lan::default(),
        };
        let tun = switch_on(&netlink, tun_name).await?;
        let mut routes = Self {
            netlink,
            tun,
            is_off: false,
            lan_name: interface.unwrap_or_default().to_owned(),
            lan,
            answers_for_all: interface.map(lan::answers_for_all),
            proxy: Proxy::default(),
            pool,
            nsps: Vec::new(),
            others: Vec::new(),
        };
        for range in &routes.pool {
            routes.netlink.add_route(behind(*range)).await?;
        }
        routes.lead_the_pool().await?;
        routes.lan_may_have_changed().await;
        Ok(routes)
    }

    /// Leads a network to the device.
    pub(super) async fn lead(&mut self, network: Network) -> Result<(), NetlinkError> {
        self.netlink.add_route(behind(network)).await?;
        self.netlink.add_route(self.to_tun(network)).await?;
        self.others.push(network);
        Ok(())
    }

    /// Takes back what leads to the device, which may be there for longer than we are, and what
    /// stands behind; answers for nobody any more.
    pub(super) async fn withdraw(&self) -> Result<(), NetlinkError> {
        let pool = self.pool.iter().copied().map(Network::from);
        for network in self.others.iter().copied().chain(pool) {
            self.netlink.remove_route(self.to_tun(network)).await?;
            self.netlink.remove_route(behind(network)).await?;
        }
        if self.answers_for_all == Some(false) {
            lan::no_longer_answer_for_all(&self.lan_name);
        }
        match self.lan.index {
            Some(lan) => lan::no_longer_answer(&self.netlink, lan, &self.pool).await,
            None => Ok(()),
        }
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

    /// Returns the LAN as it was last seen.
    pub(super) const fn lan(&self) -> &Lan {
        &self.lan
    }

    /// Follows the LAN: its index, its addresses, and whether it is on. With an address that
    /// goes, the kernel removes the routes by which it was the source.
    pub(super) async fn lan_may_have_changed(&mut self) {
        let Ok(now) = Lan::look(&self.netlink, &self.lan_name).await else {
            return;
        };
        if now != self.lan {
            self.lan = now;
            if let Err(error) = self.lead_the_pool().await {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "servers do not reach the translator");
            }
        }
        if let Some(index) = self.lan.index.filter(|_| self.lan.up) {
            let hosts = self.lan.on_link(&self.pool);
            self.proxy
                .start(self.netlink.clone(), &self.lan_name, index, hosts);
        }
    }

    /// Tells whether an interface is the device.
    pub(super) const fn is_device(&self, index: u32) -> bool {
        self.tun == index
    }

    /// Leads everything to the device again, once it is on again.
    pub(super) async fn device_may_have_changed(&mut self) {
        let Ok(Some(device)) = self.netlink.link_at(self.tun).await else {
            return;
        };
        if !device.up {
            if !std::mem::replace(&mut self.is_off, true) {
                tracing::warn!(device = device.name, "nothing passes: the device is off");
            }
            return;
        }
        if let Err(error) = self.lead_all().await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "not everything is led to the translator");
            return;
        }
        if std::mem::take(&mut self.is_off) {
            tracing::info!(device = device.name, "the device is on again");
        }
    }

    /// Says what of the kernel's settings would swallow packets.
    pub(super) async fn look_for_traps(&self, wan: &str) {
        lan::look_for_traps(&self.netlink, &self.lan_name, wan, &self.pool).await;
    }

    /// Returns the MTU of an interface that is there.
    pub(super) async fn mtu(&self, name: &str) -> Option<u32> {
        let link = self.netlink.link(name).await.ok().flatten();
        link.map(|link| link.mtu)
    }

    /// Returns how many packets the kernel dropped because the device's queue was full.
    pub(super) async fn tun_dropped(&self) -> u64 {
        match self.netlink.link_at(self.tun).await {
            Ok(Some(link)) => link.tx_dropped,
            Ok(None) | Err(_) => 0,
        }
    }

    async fn lead_all(&self) -> Result<(), NetlinkError> {
        self.lead_the_pool().await?;
        let nsps = self.nsps.iter().copied().map(Network::from);
        for network in nsps.chain(self.others.iter().copied()) {
            self.netlink.add_route(self.to_tun(network)).await?;
        }
        Ok(())
    }

    /// The device has no address of its own: to remotes, who only know the pool, the kernel
    /// speaks by its address in the LAN.
    async fn lead_the_pool(&self) -> Result<(), NetlinkError> {
        for range in &self.pool {
            let mut route = self.to_tun(*range);
            route.source = self.lan.source(*range).map(IpAddr::V4);
            self.netlink.add_route(route).await?;
        }
        Ok(())
    }

    fn to_tun(&self, network: impl Into<Network>) -> Route {
        let Network(addr, len) = network.into();
        Route::new(addr, len, Target::Device(self.tun))
    }
}

/// Where packets are going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpAddr, pub(super) u8);

impl From<Nsp> for Network {
    fn from(nsp: Nsp) -> Self {
        Self(nsp.prefix().addr().into(), nsp.prefix().len())
    }
}

impl From<PoolRange> for Network {
    fn from(range: PoolRange) -> Self {
        Self(range.network().into(), range.prefix_len())
    }
}

/// Switches the device on and returns its index.
async fn switch_on(netlink: &Netlink, tun_name: &str) -> Result<u32, NetlinkError> {
    let tun = netlink.index(tun_name).await?;
    prepare(tun_name);
    netlink.set_mtu(tun, TUN_MTU).await?;
    netlink.set_up(tun).await?;
    Ok(tun)
}

/// Sets what makes the device a way through, whatever is the default for new devices.
fn prepare(tun: &str) {
    for (key, value, otherwise) in [
        // Without an address of its own the kernel sends nothing of its own to us.
        (
            format!("ipv6/conf/{tun}/addr_gen_mode"),
            "1",
            "the kernel's own packets will be counted as drops",
        ),
        (
            format!("ipv4/conf/{tun}/forwarding"),
            "1",
            "what is for the servers may not pass",
        ),
        (
            format!("ipv6/conf/{tun}/forwarding"),
            "1",
            "what is for the remotes may not pass",
        ),
    ] {
        if let Err(error) = net::sysctl::write(&key, value) {
            tracing::debug!(%error, "{otherwise}");
        }
    }
}

/// Returns the prefixes whose fallback an earlier process left behind, and the ranges of its pool
/// that are no longer ours; their fallback goes.
async fn left_behind(
    netlink: &Netlink,
    pool: &[PoolRange],
) -> Result<(Vec<Nsp>, Vec<PoolRange>), NetlinkError> {
    let (mut nsps, mut stale) = (Vec::new(), Vec::new());
    for route in netlink.routes().await? {
        if route.target != Target::Blackhole || route.metric != Some(FALLBACK_METRIC) {
            continue;
        }
        match route.destination {
            IpAddr::V6(addr) if route.prefix_len == 96 => nsps.extend(Nsp::new(addr).ok()),
            IpAddr::V6(_) => {}
            IpAddr::V4(addr) => match PoolRange::new(addr, route.prefix_len) {
                Ok(range) if pool.contains(&range) => {}
                Ok(range) => {
                    netlink.remove_route(route).await?;
                    stale.push(range);
                }
                Err(_) => {}
            },
        }
    }
    Ok((nsps, stale))
}

/// What counts while the device is gone: nothing leaks to the WAN, and a peer that waits may go on
/// when the translator is back.
fn behind(network: impl Into<Network>) -> Route {
    let Network(addr, len) = network.into();
    Route::new(addr, len, Target::Blackhole).metric(FALLBACK_METRIC)
}

/// Above all metrics in use; by it an earlier process's routes are known.
const FALLBACK_METRIC: u32 = 64_640;

/// The device takes whatever IP can say, so that the machine alone decides what fits where.
const TUN_MTU: u32 = 65_535;
