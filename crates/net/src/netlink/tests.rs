use std::net::IpAddr;
use std::time::Duration;

use mapping::Mac;

use super::*;
use crate::udp::tests::{cable, in_namespace};

#[test]
fn links_are_made_changed_and_removed() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let bridge = net.add_bridge(NewLink::new("lan").mac(mac)).await.unwrap();
        assert_eq!(net.add_bridge(NewLink::new("lan")).await.unwrap(), bridge);
        let here = crate::namespace::current().unwrap();
        let (port1, eth0) = (NewLink::new("port1").mtu(1280), NewLink::new("eth0"));
        net.add_veth(port1, eth0, &here).await.unwrap();
        let (port, eth0) = (
            net.index("port1").await.unwrap(),
            net.index("eth0").await.unwrap(),
        );

        net.enslave(port, bridge).await.unwrap();
        net.set_up(port).await.unwrap();
        net.set_tx_queue_len(port, 7).await.unwrap();

        let link = net.link("port1").await.unwrap().unwrap();
        assert_eq!(
            (link.controller, link.up, link.mtu),
            (Some(bridge), true, 1280)
        );
        assert_eq!(net.link_at(bridge).await.unwrap().unwrap().mac, Some(mac));
        net.set_mtu(port, 1400).await.unwrap();
        net.set_down(port).await.unwrap();
        let link = net.link_at(port).await.unwrap().unwrap();
        assert_eq!((link.up, link.mtu), (false, 1400));
        let macvlan = net.add_macvlan(NewLink::new("second"), eth0).await.unwrap();
        assert_eq!(net.links().await.unwrap().len(), 5, "with lo");
        for index in [macvlan, port, port, bridge] {
            net.remove_link(index).await.unwrap();
        }
        assert_eq!(net.link("port1").await.unwrap(), None);
        let error = net.index("port1").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot find interface port1");
    });
}

#[test]
fn addresses_come_twice_and_go_twice() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        let index = cable(&net, "wan0").await;
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        for _ in 0..2 {
            net.add_address(index, v4, 24).await.unwrap();
            net.add_address(index, v6, 64).await.unwrap();
        }

        let found = find(&net, index, v6).await.unwrap();
        assert!(!found.tentative);
        assert_eq!(
            (found.prefix_len, found.lifetimes),
            (64, Lifetimes::default())
        );
        assert!(find(&net, index, v4).await.is_some());

        let lifetimes = Lifetimes {
            preferred: Some(Duration::ZERO),
            valid: Some(Duration::from_secs(30)),
        };
        net.add_address_for(index, v6, 64, lifetimes).await.unwrap();
        let found = find(&net, index, v6).await.unwrap();
        assert!(found.deprecated);
        assert!(
            found
                .lifetimes
                .valid
                .is_some_and(|valid| valid <= Duration::from_secs(30))
        );

        for _ in 0..2 {
            net.remove_address(index, v4, 24).await.unwrap();
            net.remove_address(index, v6, 64).await.unwrap();
        }
        assert_eq!(find(&net, index, v4).await, None);
        assert_eq!(find(&net, index, v6).await, None);
    });
}

#[test]
fn routes_come_twice_and_go_twice() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        let index = cable(&net, "wan0").await;
        net.add_address(index, "192.0.2.1".parse().unwrap(), 24)
            .await
            .unwrap();
        net.add_address(index, "2001:db8::1".parse().unwrap(), 64)
            .await
            .unwrap();
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let routes = [
            Route::default_via(addr("192.0.2.254"), None),
            Route::default_via(addr("fe80::1"), Some(index)).metric(100),
            Route::new(addr("198.51.100.0"), 24, Target::Device(index)),
            Route::new(addr("2001:db8:64::"), 96, Target::Device(index)).metric(50),
            Route::new(addr("203.0.113.0"), 24, Target::Blackhole).metric(4_000),
            Route::new(addr("2001:db8:64::"), 56, Target::Unreachable).metric(4_000),
            Route::new(addr("2001:db8:65::"), 56, Target::Blackhole),
        ];
        for route in routes.into_iter().chain(routes) {
            net.add_route(route).await.unwrap();
        }

        let found = net.routes().await.unwrap();
        for route in routes {
            let same = |found: &&Route| {
                found.destination == route.destination && found.prefix_len == route.prefix_len
            };
            let found: Vec<&Route> = found.iter().filter(same).collect();
            assert_eq!(found.len(), 1, "{route}: {found:?}");
            assert_eq!(found[0].target.kind(), route.target.kind(), "{route}");
        }
        let defaults = net.default_routes().await.unwrap();
        assert!(
            defaults.iter().all(|route| route.ifindex() == Some(index)),
            "{defaults:?}"
        );
        assert_eq!(defaults.len(), 2);

        for route in routes.into_iter().chain(routes) {
            net.remove_route(route).await.unwrap();
        }
        assert!(net.default_routes().await.unwrap().is_empty());
    });
}

#[test]
fn a_route_that_cannot_be_is_named() {
    in_namespace(async {
        let net = Netlink::open().unwrap();

        let gateway = Route::default_via("192.0.2.254".parse().unwrap(), None);
        let error = net.add_route(gateway).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot add route 0.0.0.0/0 via 192.0.2.254"
        );

        let long = Route::new("192.0.2.0".parse().unwrap(), 33, Target::Blackhole);
        net.add_route(long).await.unwrap_err();
    });
}

#[test]
fn proxies_come_twice_and_go_twice() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        let index = cable(&net, "lan0").await;
        let addrs: [IpAddr; 2] = [
            "192.0.2.200".parse().unwrap(),
            "2001:db8::200".parse().unwrap(),
        ];
        for addr in addrs.into_iter().chain(addrs) {
            net.add_proxy(index, addr).await.unwrap();
        }

        let mut found = net.proxies(index).await.unwrap();
        found.sort();
        assert_eq!(found, addrs);

        for addr in addrs.into_iter().chain(addrs) {
            net.remove_proxy(index, addr).await.unwrap();
        }
        assert!(net.proxies(index).await.unwrap().is_empty());
    });
}

#[test]
fn changes_are_seen_as_they_happen() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        let mut watch = Watch::open().unwrap();
        let index = cable(&net, "wan0").await;
        let addr: IpAddr = "2001:db8::1".parse().unwrap();

        net.set_up(index).await.unwrap();
        until(
            &mut watch,
            |change| matches!(change, Change::Link(link) if link.name == "wan0"),
        )
        .await;
        // The kernel tells of an IPv6 address a moment after it took it, so it must stay so long.
        net.add_address(index, addr, 64).await.unwrap();
        until(
            &mut watch,
            |change| matches!(change, Change::Address(found) if found.addr == addr),
        )
        .await;
        net.remove_address(index, addr, 64).await.unwrap();
        until(
            &mut watch,
            |change| matches!(change, Change::AddressGone(found) if found.addr == addr),
        )
        .await;
        net.remove_link(index).await.unwrap();
        until(
            &mut watch,
            |change| matches!(change, Change::LinkGone(link) if link.index == index),
        )
        .await;
    });
}

#[test]
fn an_interface_gets_ready_or_is_named() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        let here = crate::namespace::current().unwrap();
        net.add_veth(NewLink::new("a0"), NewLink::new("b0"), &here)
            .await
            .unwrap();
        let (a0, b0) = (
            net.index("a0").await.unwrap(),
            net.index("b0").await.unwrap(),
        );
        net.set_up(a0).await.unwrap();

        let error = net
            .wait_ready(a0, Duration::from_millis(10))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot get interface {a0} ready")
        );

        net.set_up(b0).await.unwrap();
        net.wait_ready(a0, Duration::from_secs(60)).await.unwrap();
        crate::ethtool::set_gro("a0", true).unwrap();
        let error = crate::ethtool::set_gro("nowhere0", true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot switch generic receive offload of nowhere0"
        );
    });
}

#[test]
fn an_interface_moves_to_another_namespace() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        let index = cable(&net, "v0").await;

        net.move_to(index, there()).await.unwrap();

        assert_eq!(net.link("v0").await.unwrap(), None);
    });
}

fn there() -> std::os::fd::OwnedFd {
    std::thread::spawn(|| {
        crate::namespace::unshare_network().unwrap();
        crate::namespace::current().unwrap()
    })
    .join()
    .unwrap()
}

async fn find(net: &Netlink, index: u32, addr: IpAddr) -> Option<Address> {
    net.addresses(index)
        .await
        .unwrap()
        .into_iter()
        .find(|found| found.addr == addr)
}

async fn until(watch: &mut Watch, wanted: impl Fn(&Change) -> bool) {
    while !wanted(&watch.next().await.unwrap()) {}
}

impl Target {
    fn kind(&self) -> std::mem::Discriminant<Self> {
        std::mem::discriminant(self)
    }
}
