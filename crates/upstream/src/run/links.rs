//! Who the default routers of the WAN are, and who we are there (RFC 6887 §8.1).

use std::net::IpAddr;

use mapping::is_global_unicast;
use net::netlink::{Address, Netlink, NetlinkError, Route, Target};

use crate::upstreams::Link;

/// What the kernel says of the WAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) ifindex: Option<u32>,
    pub(super) v4: Option<Link>,
    pub(super) v6: Option<Link>,
}

pub(super) async fn look(netlink: &Netlink, wan: &str) -> Result<Links, NetlinkError> {
    let Some(link) = netlink.link(wan).await? else {
        return Ok(Links::default());
    };
    let addresses = netlink.addresses(link.index).await?;
    let routes = netlink.default_routes().await?;
    Ok(choose(link.index, &addresses, &routes))
}

fn choose(ifindex: u32, addresses: &[Address], routes: &[Route]) -> Links {
    let link = |ipv4: bool| {
        let server = router(ifindex, routes, ipv4)?;
        let usable = addresses
            .iter()
            .filter(|it| it.addr.is_ipv4() == ipv4 && !it.tentative && it.addr != server);
        let best = usable.min_by_key(|address| rank(address))?;
        Some(Link {
            server,
            local: best.addr,
        })
    };
    Links {
        ifindex: Some(ifindex),
        v4: link(true),
        v6: link(false),
    }
}

/// RFC 6887 §8.4: an address that the Internet knows, and one that stays.
fn rank(address: &Address) -> (bool, bool, bool) {
    let global = match address.addr {
        IpAddr::V4(_) => true,
        IpAddr::V6(addr) => is_global_unicast(addr),
    };
    (!global, address.deprecated, address.temporary)
}

fn router(ifindex: u32, routes: &[Route], ipv4: bool) -> Option<IpAddr> {
    let ours = routes.iter().filter(|it| it.ifindex() == Some(ifindex));
    let gateways = ours.filter_map(|route| match route.target {
        Target::Gateway { addr, .. } => Some((route.metric.unwrap_or(0), addr)),
        Target::Blackhole | Target::Device(_) | Target::Unreachable => None,
    });
    let family = gateways.filter(|(_, addr)| addr.is_ipv4() == ipv4);
    family
        .min_by_key(|(metric, _)| *metric)
        .map(|(_, addr)| addr)
}

#[cfg(test)]
mod tests {
    use net::netlink::Lifetimes;

    use super::*;

    #[test]
    fn c_1_default_router_of_each_family_is_the_server() {
        let routes = [
            Route::default_via(ip("192.168.0.1"), Some(3)).metric(100),
            Route::default_via(ip("192.168.0.2"), Some(3)).metric(50),
            Route::default_via(ip("10.0.0.1"), Some(4)),
            Route::default_via(ip("fe80::1"), Some(3)),
        ];
        let addresses = [
            address("fe80::2"),
            address("fd00::2"),
            address("2001:db8:0:12::7f"),
            address("192.168.0.7"),
        ];

        let links = choose(3, &addresses, &routes);

        assert_eq!(links.v4, link("192.168.0.2", "192.168.0.7"));
        assert_eq!(links.v6, link("fe80::1", "2001:db8:0:12::7f"));
    }

    #[test]
    fn c_1_address_that_stays_is_preferred_and_a_link_local_one_will_do() {
        let routes = [Route::default_via(ip("fe80::1"), Some(3))];
        let stays = address("2001:db8::3");
        let temporary = Address {
            temporary: true,
            ..address("2001:db8::1")
        };
        let deprecated = Address {
            deprecated: true,
            ..address("2001:db8::2")
        };
        let tentative = Address {
            tentative: true,
            ..address("2001:db8::4")
        };
        let local = address("fe80::2");

        for (addresses, expected) in [
            (
                vec![tentative, deprecated, temporary, stays, local],
                "2001:db8::3",
            ),
            (vec![deprecated, temporary], "2001:db8::1"),
            (vec![local, tentative], "fe80::2"),
        ] {
            assert_eq!(choose(3, &addresses, &routes).v6, link("fe80::1", expected));
        }
        assert_eq!(choose(3, &[tentative], &routes).v6, None);
        assert_eq!(choose(3, &[stays], &[]).v6, None);
    }

    fn link(server: &str, local: &str) -> Option<Link> {
        Some(Link {
            server: ip(server),
            local: ip(local),
        })
    }

    fn address(addr: &str) -> Address {
        Address {
            ifindex: 3,
            addr: ip(addr),
            prefix_len: 64,
            lifetimes: Lifetimes::default(),
            tentative: false,
            deprecated: false,
            temporary: false,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
