//! The interfaces that the owner chose, as the kernel knows them.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, bail};
use mapping::Site;
use net::netlink::Netlink;

use crate::config::{Config, Roles};

/// Checks the chosen interfaces and returns the LAN as it is; a LAN without an address in its
/// subnet gets the first one.
///
/// # Errors
/// When an interface does not exist, the one chosen as LAN leads to the Internet, or the pool
/// holds an address of ours.
pub async fn settle(config: &Config, roles: &Roles) -> anyhow::Result<Site> {
    let netlink = Netlink::open()?;
    let lan = netlink
        .index(&roles.lan)
        .await
        .context("cannot use lan.interface")?;
    netlink
        .index(&roles.wan)
        .await
        .context("cannot use wan.interface")?;
    let routes = netlink.routes().await?;
    let default = routes
        .iter()
        .find(|route| route.prefix_len == 0 && route.ifindex() == Some(lan));
    if default.is_some() {
        bail!(
            "{} holds the default route, so it leads to the Internet and cannot be the LAN; \
             choose another lan.interface",
            roles.lan
        );
    }
    let inside = |addr: &IpAddr| match addr {
        IpAddr::V4(v4) => config
            .translator
            .pool
            .iter()
            .any(|range| range.contains(*v4)),
        IpAddr::V6(_) => false,
    };
    if let Some(addr) = netlink.local_addresses().await?.into_iter().find(inside) {
        bail!(
            "this machine has the address {addr}, which lies in the pool of the translator; \
             choose another nat64.pool, or remove the address"
        );
    }
    let subnet = first_site(config)?;
    let ours = netlink
        .addresses(lan)
        .await?
        .into_iter()
        .find_map(|address| match address.addr {
            IpAddr::V4(v4) if subnet.contains(v4) && address.prefix_len == subnet.prefix_len() => {
                Some(v4)
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        });
    let gateway = match ours {
        Some(gateway) => gateway,
        None => {
            let addr = IpAddr::V4(subnet.gateway());
            netlink
                .add_address(lan, addr, subnet.prefix_len())
                .await
                .with_context(|| format!("cannot give {addr} to {}", roles.lan))?;
            netlink.set_up(lan).await?;
            tracing::info!(lan.interface = %roles.lan, lan.address = %addr, "took the LAN's address");
            subnet.gateway()
        }
    };
    site(gateway, config)
}

/// Returns the site with the first address of the subnet as ours.
///
/// # Errors
/// Never for a configuration that was validated.
pub fn first_site(config: &Config) -> anyhow::Result<Site> {
    let (network, _) = config.subnet;
    site(Ipv4Addr::from(u32::from(network).wrapping_add(1)), config)
}

fn site(gateway: Ipv4Addr, config: &Config) -> anyhow::Result<Site> {
    let (_, len) = config.subnet;
    Site::new(gateway, len, config.dns.zone.clone())
        .with_context(|| format!("cannot serve {gateway}/{len}"))
}

/// Says which interfaces there are, for an owner who has not chosen yet.
///
/// # Errors
/// When the kernel does not tell.
pub async fn found() -> anyhow::Result<Vec<String>> {
    let netlink = Netlink::open()?;
    let defaults: Vec<_> = netlink
        .routes()
        .await?
        .into_iter()
        .filter(|route| route.prefix_len == 0)
        .filter_map(|route| route.ifindex())
        .collect();
    let mut found = Vec::new();
    for link in netlink.links().await? {
        let addresses = netlink.addresses(link.index).await?;
        let addresses: Vec<_> = addresses
            .iter()
            .map(|it| format!("{}/{}", it.addr, it.prefix_len))
            .collect();
        let hint = if defaults.contains(&link.index) {
            " (default route)"
        } else {
            ""
        };
        found.push(format!("{}{hint} {}", link.name, addresses.join(" ")));
    }
    Ok(found)
}
