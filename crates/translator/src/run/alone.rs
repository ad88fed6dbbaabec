//! The packet thread without a gateway: what is open, and which prefixes there are, is said once.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};

use mapping::{Admission, AdmissionRule, ExternalPort, InternalPort, Protocol};
use net::Clock;
use net::netlink::{Netlink, NetlinkError, Route, Target, Watch};
use net::tun::Tun;
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::observer::Inbox;
use super::pump::Pump;
use super::routes::{Network, Routes};
use super::{Restored, RunError, Worker, on_its_own_thread, runtime};
use crate::config::Config;
use crate::eam::AddressMap;
use crate::pref64::Pref64;
use crate::translator::Translator;

/// What the packet thread is started with when there is no gateway.
#[derive(Debug, Clone)]
pub struct AloneSettings {
    /// The name of the TUN device; `%d` in it becomes a free number.
    pub tun: String,
    /// The interface on which the pool is answered for, where it lies in a subnet of it.
    pub interface: Option<String>,
    /// The prefixes in which IPv4 appears; none may hold another.
    pub pref64s: Vec<Pref64>,
    /// What is open where not everything is: a server, and where remotes knock and it listens.
    pub open: Vec<(Ipv4Addr, Protocol, ExternalPort, InternalPort)>,
    /// Whether to lead prefixes, pool and maps to the device, and to nowhere while it is gone.
    pub routes: bool,
    /// What the machine is made with.
    pub config: Config,
    /// Random; keys the hash tables.
    pub key: [u8; 16],
}

/// Runs a translator that stands alone in the network namespace of the calling thread until
/// `cancel`.
///
/// # Errors
/// When there is no TUN device or the kernel refuses a route; the returned future says so once.
pub fn run_alone(
    settings: AloneSettings,
    inbox: Inbox,
    cancel: CancellationToken,
) -> impl Future<Output = Result<(), RunError>> + Send + use<> {
    on_its_own_thread(move || {
        let runtime = runtime()?;
        let (mut worker, watch) = runtime.block_on(open(&settings, Clock::new()))?;
        tracing::debug!(device = worker.pump.name(), "translator ready");
        worker.work(&runtime, Control::new(None, inbox, watch, &cancel))?;
        let withdrawn = runtime.block_on(worker.routes.withdraw());
        withdrawn.map_err(RunError::Routes)
    })
}

async fn open(settings: &AloneSettings, clock: Clock) -> Result<(Worker, Watch), RunError> {
    let tun = Tun::open(&settings.tun).await.map_err(RunError::Tun)?;
    let netlink = Netlink::open().map_err(RunError::Routes)?;
    let watch = Watch::open().map_err(RunError::Routes)?;
    let led = if settings.routes {
        networks(settings, &netlink)
            .await
            .map_err(RunError::Routes)?
    } else {
        Vec::new()
    };
    let pool = if settings.routes {
        settings.config.pool.clone()
    } else {
        Vec::new()
    };
    let mut routes = Routes::open_alone(netlink, tun.name(), settings.interface.as_deref(), pool)
        .await
        .map_err(RunError::Routes)?;
    let now = clock.mono();
    let mut translator = Translator::new(settings.config.clone(), settings.key, now);
    translator.handle_pref64s(&settings.pref64s, now);
    let open: Vec<_> = settings
        .open
        .iter()
        .map(|(server, protocol, port, to)| {
            Admission::Open(*server, *protocol, *port, AdmissionRule::to(*to))
        })
        .collect();
    translator.handle_admissions(&open, now);
    for network in led {
        routes.lead(network).await.map_err(RunError::Routes)?;
    }
    let mut worker = Worker {
        clock,
        pump: Pump::new(tun),
        translator,
        routes,
        wan: String::new(),
        lan: settings.interface.clone().unwrap_or_default(),
        snapshot: None,
        keeper: None,
        sweep: None,
        restored: Restored::NOTHING,
    };
    worker.links().await;
    Ok((worker, watch))
}

/// Returns what is to be led to the device: the prefixes, and of each map the side on which
/// nobody is.
async fn networks(
    settings: &AloneSettings,
    netlink: &Netlink,
) -> Result<Vec<Network>, NetlinkError> {
    let prefix = |prefix: &Pref64| Network(prefix.addr().into(), prefix.len());
    let mut networks: Vec<_> = settings.pref64s.iter().map(prefix).collect();
    let Some(alone) = settings.config.alone.as_ref() else {
        return Ok(networks);
    };
    let routes = netlink.routes().await?;
    let local = netlink.local_addresses().await?;
    for map in alone.maps.iter() {
        match vacant_side(map, &routes, &local) {
            Some(network) => networks.push(network),
            None => tracing::warn!(
                "no route made for the map {map}: lead its IPv4 or its IPv6 side to {}, \
                 whichever nobody has",
                settings.tun
            ),
        }
    }
    Ok(networks)
}

/// Returns the side of a map that stands for the other one: this machine knows a way, besides the
/// default one, to where the hosts are.
fn vacant_side(map: AddressMap, routes: &[Route], local: &[IpAddr]) -> Option<Network> {
    let ((four, four_len), (six, six_len)) = (map.four(), map.six());
    let (four, six) = (Network(four.into(), four_len), Network(six.into(), six_len));
    let is_there = |network: Network| {
        let led = |route: &Route| {
            route.prefix_len > 0
                && route.prefix_len <= network.1
                && !matches!(route.target, Target::Blackhole | Target::Unreachable)
                && shares(network.0, route.destination, route.prefix_len)
        };
        routes.iter().any(led) || local.iter().any(|addr| shares(*addr, network.0, network.1))
    };
    match (is_there(four), is_there(six)) {
        (false, true) => Some(four),
        (true, false) => Some(six),
        (true, true) | (false, false) => None,
    }
}

/// Tells whether two addresses begin with the same `len` bits.
fn shares(a: IpAddr, b: IpAddr, len: u8) -> bool {
    let (difference, bits) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let beyond = u32::saturating_sub(bits, len.into());
    difference.checked_shr(beyond).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn side_of_a_map_that_is_on_no_link_leads_to_the_device() {
        let routes = [
            route("0.0.0.0", 0),
            route("::", 0),
            route("192.168.1.0", 24),
            route("2001:db8:1::", 64),
        ];
        for (map, side) in [
            ("192.0.2.10=2001:db8:1::10", Some(("192.0.2.10", 32))),
            ("192.168.1.20=2001:db8:9::20", Some(("2001:db8:9::20", 128))),
            (
                "192.168.1.32/28=2001:db8:9::/124",
                Some(("2001:db8:9::", 124)),
            ),
            ("192.168.1.20=2001:db8:1::20", None),
            ("192.0.2.10=2001:db8:9::10", None),
            // the host is this machine
            ("192.0.0.1=2001:db8:9::1", Some(("2001:db8:9::1", 128))),
        ] {
            let local = ["192.0.0.1".parse().unwrap()];
            let side = side.map(|(addr, len)| Network(addr.parse().unwrap(), len));
            let found = vacant_side(map.parse().unwrap(), &routes, &local);
            assert_eq!(found, side, "{map}");
        }
    }

    fn route(destination: &str, len: u8) -> Route {
        Route::new(destination.parse().unwrap(), len, Target::Device(2))
    }
}
