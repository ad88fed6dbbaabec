//! What of this machine keeps packets from passing: refused, mended or told before it starts.

use std::io;
use std::net::IpAddr;

use net::netlink::{Link, Netlink, NetlinkError, Route, Target};
use net::sysctl::SysctlError;
use translator::{AloneSettings, PoolRange, Pref64};
use wan::forwarding::{SWITCHES, is_on};

use super::{Failure, failed, usage};

/// A subnet of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subnet {
    interface: String,
    addr: IpAddr,
    len: u8,
}

/// Looks at addresses, subnets and forwarding; `mend` switches the latter on.
///
/// # Errors
/// When the pool holds an address of this machine, when pool or prefixes are led elsewhere, or when
/// the kernel does not say.
pub async fn look(settings: &AloneSettings, mend: bool) -> Result<(), Failure> {
    let netlink = Netlink::open().map_err(failed)?;
    let local = netlink.local_addresses().await;
    refuse_own(&settings.config.pool, &local.map_err(failed)?)?;
    // in this order: with the device of a process that has just ended its routes go
    let links = netlink.links().await.map_err(failed)?;
    let routes = netlink.routes().await.map_err(failed)?;
    refuse_led(settings, &routes, &links)?;
    let subnets = subnets(&netlink).await.map_err(failed)?;
    for doubt in doubts(settings, &subnets) {
        tracing::warn!("{doubt}");
    }
    look_at_forwarding(mend)
}

async fn subnets(netlink: &Netlink) -> Result<Vec<Subnet>, NetlinkError> {
    let mut subnets = Vec::new();
    for link in netlink.links().await? {
        for address in netlink.addresses(link.index).await? {
            subnets.push(Subnet {
                interface: link.name.clone(),
                addr: address.addr,
                len: address.prefix_len,
            });
        }
    }
    Ok(subnets)
}

/// The kernel keeps what is for its own addresses.
fn refuse_own(pool: &[PoolRange], local: &[IpAddr]) -> Result<(), Failure> {
    let own = local.iter().find(|addr| match addr {
        IpAddr::V4(addr) => pool.iter().any(|range| range.contains(*addr)),
        IpAddr::V6(_) => false,
    });
    match own {
        None => Ok(()),
        Some(addr) => Err(usage(&format!(
            "the pool holds {addr}, which this machine has itself: its packets would never come to \
             the translator; give the pool another address"
        ))),
    }
}

/// A route of ours would take the place of somebody else's, and be gone with us.
fn refuse_led(settings: &AloneSettings, routes: &[Route], links: &[Link]) -> Result<(), Failure> {
    if !settings.routes {
        return Ok(());
    }
    let ours = links.iter().find(|link| link.name == settings.tun);
    let prefixes = settings.pref64s.iter();
    let prefixes = prefixes.map(|prefix| (IpAddr::from(prefix.addr()), prefix.len()));
    let pool = settings.config.pool.iter();
    let pool = pool.map(|range| (IpAddr::from(range.network()), range.prefix_len()));
    for network in prefixes.chain(pool) {
        let is_led = |route: &&Route| {
            (route.destination, route.prefix_len) == network
                && !matches!(route.target, Target::Blackhole | Target::Unreachable)
                && ours.is_none_or(|ours| route.target != Target::Device(ours.index))
        };
        let Some(route) = routes.iter().find(is_led) else {
            continue;
        };
        let link = links
            .iter()
            .find(|link| Some(link.index) == route.ifindex());
        let whither = link.map_or("elsewhere", |link| &link.name);
        let (addr, len) = network;
        return Err(usage(&format!(
            "{addr}/{len} is led to {whither} already: end who does that, give another network, or \
             give --no-routes and lead it to {} yourself",
            settings.tun
        )));
    }
    Ok(())
}

/// Returns what is likely to be a mistake: hosts look on their link for what lies in their subnet.
fn doubts(settings: &AloneSettings, subnets: &[Subnet]) -> Vec<String> {
    if !settings.routes {
        return Vec::new();
    }
    let mut doubts = Vec::new();
    let around = |network: IpAddr, len: u8| {
        subnets
            .iter()
            .find(|subnet| subnet.len <= len && begins(network, subnet.addr, subnet.len))
    };
    let mut is_answered = false;
    for range in &settings.config.pool {
        let (network, len) = (range.network(), range.prefix_len());
        let Some(subnet) = around(network.into(), len) else {
            continue;
        };
        let name = &subnet.interface;
        if settings.interface.as_ref() == Some(name) {
            is_answered = true;
        } else {
            doubts.push(format!(
                "the pool {range} lies in the subnet of {name}, where nobody answers ARP \
                 for it: give --interface {name}"
            ));
        }
    }
    if let Some(name) = settings.interface.as_ref().filter(|_| !is_answered) {
        doubts.push(format!(
            "the pool lies in no subnet of {name}: its hosts find it only by a route to this machine"
        ));
    }
    for prefix in &settings.pref64s {
        if let Some(subnet) = around(prefix.addr().into(), prefix.len()) {
            doubts.push(on_link(*prefix, &subnet.interface));
        }
    }
    doubts
}

fn on_link(prefix: Pref64, interface: &str) -> String {
    format!(
        "the prefix {prefix} lies in the subnet of {interface}, whose hosts look for it on their \
         link: give a prefix that is routed to this machine"
    )
}

/// Tells whether an address begins with the same `len` bits as another of its family.
fn begins(addr: IpAddr, other: IpAddr, len: u8) -> bool {
    match (addr, other) {
        (IpAddr::V4(addr), IpAddr::V4(other)) => {
            let differ = addr.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= len.into()
        }
        (IpAddr::V6(addr), IpAddr::V6(other)) => {
            let differ = addr.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= len.into()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Says what keeps packets from passing, or mends it.
fn look_at_forwarding(mend: bool) -> Result<(), Failure> {
    let is_off = |key: &&str| net::sysctl::read(key).is_ok_and(|value| !is_on(&value));
    let keys = SWITCHES.iter().map(|switch| switch.key);
    let off: Vec<_> = keys.filter(is_off).collect();
    if off.is_empty() {
        return Ok(());
    }
    if mend {
        for key in off {
            net::sysctl::write(key, "1").map_err(not_set)?;
        }
        return Ok(());
    }
    let keys: Vec<_> = off
        .iter()
        .map(|key| format!("net.{}=1", key.replace('/', ".")))
        .collect();
    tracing::warn!(
        "forwarding is off and nothing will pass: sysctl -w {} (or give --sysctl)",
        keys.join(" ")
    );
    Ok(())
}

fn not_set(error: SysctlError) -> Failure {
    let code = match error.source.kind() {
        io::ErrorKind::PermissionDenied => Failure::NOT_PERMITTED,
        _ => Failure::FAILED,
    };
    Failure {
        code,
        ..failed(error)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    #[test]
    fn what_hosts_look_for_on_their_link_is_told() {
        let subnets = [
            subnet("lo", "127.0.0.1", 8),
            subnet("eth0", "198.51.100.1", 24),
            subnet("eth1", "2001:db8:6::1", 64),
            subnet("ppp0", "203.0.113.9", 32),
        ];
        for (args, words) in [
            ("--pref64 64:ff9b:1::/96 --pool 192.0.2.1", &[][..]),
            (
                "--pref64 64:ff9b:1::/96 --pool 198.51.100.20",
                &["give --interface eth0"],
            ),
            (
                "--pref64 64:ff9b:1::/96 --pool 198.51.100.192/26 --interface eth0",
                &[],
            ),
            (
                "--pref64 64:ff9b:1::/96 --pool 198.51.100.20 --interface eth1",
                &["give --interface eth0", "no subnet of eth1"],
            ),
            (
                "--pref64 64:ff9b:1::/96 --pool 192.0.2.1 --interface eth0",
                &["no subnet of eth0"],
            ),
            (
                "--pref64 2001:db8:6::/96 --pool 192.0.2.1",
                &["the prefix 2001:db8:6::/96 lies in the subnet of eth1"],
            ),
            ("--pref64 2001:db8::/32 --pool 192.0.2.1", &[]),
            (
                "--pref64 2001:db8:6::/96 --pool 198.51.100.20 --no-routes",
                &[],
            ),
        ] {
            let doubts = doubts(&settings(args), &subnets);
            assert_eq!(doubts.len(), words.len(), "{args}: {doubts:?}");
            for (doubt, words) in doubts.iter().zip(words) {
                assert!(doubt.contains(words), "{args}: {doubt}");
            }
        }
    }

    #[test]
    fn why_a_switch_cannot_be_set_is_told() {
        let error = net::sysctl::write("ipv4/none", "1").unwrap_err();
        let failure = not_set(error);
        assert_eq!(failure.code, Failure::FAILED);
        assert!(
            failure.message.contains("No such file"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn pool_of_the_machines_own_addresses_is_refused() {
        let pool = settings("--pref64 64:ff9b:1::/96 --pool 198.51.100.0/28")
            .config
            .pool;
        let own = |addr: &str| refuse_own(&pool, &[addr.parse().unwrap()]).is_err();
        assert!(own("198.51.100.1"));
        assert!(!own("198.51.100.17"));
        assert!(!own("2001:db8::1"));
    }

    fn subnet(interface: &str, addr: &str, len: u8) -> Subnet {
        Subnet {
            interface: interface.to_owned(),
            addr: addr.parse().unwrap(),
            len,
        }
    }

    fn settings(args: &str) -> AloneSettings {
        let words = ["portico", "translate"];
        let words = words.into_iter().chain(args.split_whitespace());
        let Verb::Translate(args) = Cli::try_parse_from(words).unwrap().verb else {
            panic!("another verb");
        };
        super::super::settings(&args).unwrap()
    }
}
