//! Routes, links and who answers on the LAN.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mapping::Protocol;
use net::netlink::Target;

use super::home::*;
use crate::pool::PoolRange;
use crate::run::*;
use crate::verdict::Verdict;

#[test]
fn routes_follow_the_valid_prefixes_and_a_fallback_stays_behind() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let old = home.nsp();
        home.request(prefix("2001:db8:65::/56", Duration::ZERO))
            .await;
        let new = home.nsp();
        assert_ne!(old, new);
        let netlink = Netlink::open().unwrap();

        let routes = netlink.routes().await.unwrap();
        let to = |nsp: mapping::Nsp| {
            let mut metrics: Vec<_> = routes
                .iter()
                .filter(|route| route.destination == IpAddr::from(nsp.prefix().addr()))
                .map(|route| route.target == Target::Blackhole)
                .collect();
            metrics.sort_unstable();
            metrics
        };
        assert_eq!(to(old), [] as [bool; 0]);
        assert_eq!(to(new), [false, true]);

        // a process that is killed leaves the fallback; the next one knows it for its own
        let settings = settings();
        let Home { worker, .. } = home;
        drop(worker);
        let (mut next, _watch) = Worker::open(&settings, Clock::new()).await.unwrap();
        next.routes.follow(&[old]).await.unwrap();
        let routes = netlink.routes().await.unwrap();
        let left = |nsp: mapping::Nsp| {
            let nsp = IpAddr::from(nsp.prefix().addr());
            routes
                .iter()
                .filter(|route| route.destination == nsp)
                .count()
        };
        assert_eq!((left(new), left(old)), (0, 2));
    });
}

#[test]
fn pool_of_an_earlier_configuration_is_given_back() {
    in_namespaces(async {
        let home = Home::build().await;
        drop(home.worker);
        let mut settings = settings();
        settings.config.pool = vec![PoolRange::new([192, 168, 64, 224].into(), 27).unwrap()];

        let _next = Worker::open(&settings, Clock::new()).await.unwrap();

        let routes = Netlink::open().unwrap().routes().await.unwrap();
        let to = |addr: [u8; 4]| {
            routes
                .iter()
                .filter(|route| route.destination == IpAddr::from(addr))
                .count()
        };
        assert_eq!((to([192, 168, 64, 192]), to([192, 168, 64, 224])), (0, 2));
        let lan = Netlink::open().unwrap();
        let proxies = lan.proxies(lan.index("lan0").await.unwrap()).await.unwrap();
        assert_eq!(proxies.len(), 31);
    });
}

#[test]
fn lan_that_was_off_is_answered_again() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let netlink = Netlink::open().unwrap();
        let lan = netlink.index("lan0").await.unwrap();
        for _ in 0..2 {
            assert_eq!(netlink.proxies(lan).await.unwrap().len(), HOSTS);
            netlink.set_down(lan).await.unwrap();
            assert_eq!(netlink.proxies(lan).await.unwrap(), [] as [IpAddr; 0]);

            netlink.set_up(lan).await.unwrap();

            home.work_while(async {
                while netlink.proxies(lan).await.unwrap().len() != HOSTS {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    });
}

#[test]
fn everything_is_led_to_the_device_again_that_was_off() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let netlink = Netlink::open().unwrap();
        let device = netlink.index(home.worker.pump.name()).await.unwrap();
        let led = async || {
            let routes = netlink.routes().await.unwrap().into_iter();
            let led = routes.filter(|route| route.target == Target::Device(device));
            led.map(|route| (route.destination, route.source))
                .filter(|(addr, _)| *addr != IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0]))
                .collect::<Vec<_>>()
        };
        let before = led().await;
        assert_eq!(before.len(), 2, "{before:?}");

        netlink.set_down(device).await.unwrap();
        assert_eq!(led().await, []);
        netlink.set_up(device).await.unwrap();

        home.work_while(async {
            while led().await != before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    });
}

#[test]
fn lan_that_is_made_anew_serves_again() {
    in_namespaces(async {
        let mut home = Home::build().await;
        home.open(Protocol::Tcp, 80, 8080).await;
        let netlink = Netlink::open().unwrap();
        let old = netlink.index("lan0").await.unwrap();
        netlink.remove_link(old).await.unwrap();
        // the machine sees that it is gone before it is there again
        home.work_until("the LAN is gone", |worker| {
            worker.routes.lan().index.is_none()
        })
        .await;

        home.wires.make_lan().await;

        home.work_until("the LAN is back", |worker| {
            worker.routes.lan().source(pool()) == Some(GATEWAY)
        })
        .await;
        assert_ne!(netlink.index("lan0").await.unwrap(), old);
        let listener = home
            .wires
            .at(Place::Server, || tcp((home.wires.server, 8080)));
        let stream = home.wires.connect(home.nsp(), 80);
        home.work_while(async {
            let (served, asked) =
                tokio::join!(serve(&listener), async { ask(stream.await.unwrap()).await });
            assert_eq!((served.ip(), asked), (IpAddr::from(POOL), sent()));
        })
        .await;
    });
}

#[test]
fn pool_stays_led_to_the_translator_when_the_gateway_changes_its_address() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let netlink = Netlink::open().unwrap();
        let lan = netlink.index("lan0").await.unwrap();
        assert_eq!(source_of_the_pool(&netlink).await, Some(GATEWAY.into()));

        netlink
            .remove_address(lan, GATEWAY.into(), 24)
            .await
            .unwrap();
        home.work_until("it is gone", |worker| {
            worker.routes.lan().source(pool()).is_none()
        })
        .await;
        assert_eq!(source_of_the_pool(&netlink).await, None);
        let other = Ipv4Addr::new(192, 168, 64, 2);
        netlink.add_address(lan, other.into(), 24).await.unwrap();

        home.work_until("the other one is seen", |worker| {
            worker.routes.lan().source(pool()) == Some(other)
        })
        .await;
        assert_eq!(source_of_the_pool(&netlink).await, Some(other.into()));
    });
}

#[test]
fn routed_pool_is_not_answered_for() {
    in_namespaces(async {
        let home = Home::build().await;
        drop(home.worker);
        let netlink = Netlink::open().unwrap();
        let lan = netlink.index("lan0").await.unwrap();
        netlink.set_down(lan).await.unwrap();
        netlink.set_up(lan).await.unwrap();
        let mut settings = settings();
        settings.config.pool = vec![PoolRange::new([192, 0, 2, 0].into(), 24).unwrap()];

        let (next, _watch) = Worker::open(&settings, Clock::new()).await.unwrap();

        assert_eq!(netlink.proxies(lan).await.unwrap(), [] as [IpAddr; 0]);
        let routes = netlink.routes().await.unwrap();
        let led = routes
            .iter()
            .find(|route| {
                route.destination == IpAddr::from([192, 0, 2, 0])
                    && matches!(route.target, Target::Device(_))
            })
            .unwrap();
        assert_eq!(led.source, Some(GATEWAY.into()));
        drop(next);
    });
}

#[test]
fn all_of_a_large_pool_is_answered_for() {
    in_namespaces(async {
        let home = Home::build().await;
        drop(home.worker);
        let netlink = Netlink::open().unwrap();
        let lan = netlink.index("lan0").await.unwrap();
        netlink
            .add_address(lan, [10, 9, 0, 1].into(), 16)
            .await
            .unwrap();
        let server = home.wires.at(Place::Server, || Netlink::open().unwrap());
        let there = server.index("s0").await.unwrap();
        server
            .add_address(there, [10, 9, 0, 7].into(), 16)
            .await
            .unwrap();
        let mut settings = settings();
        settings.config.pool = vec![PoolRange::new([10, 9, 192, 0].into(), 18).unwrap()];
        let (mut next, _watch) = Worker::open(&settings, Clock::new()).await.unwrap();
        let socket = home
            .wires
            .at(Place::Server, || udp((Ipv4Addr::new(10, 9, 0, 7), 0)));

        for last in [[10, 9, 192, 1], [10, 9, 255, 254]] {
            socket
                .send_to(b"?", (Ipv4Addr::from(last), 9))
                .await
                .unwrap();
            packet(&mut next, |packet| packet.get(16..20) == Some(&last)).await;
        }
    });
}

#[test]
fn what_fits_is_what_the_links_carry_now() {
    in_namespaces(async {
        let mut home = Home::build().await;
        assert_eq!(home.worker.translator.config().links.wan_mtu, 1500);
        let netlink = Netlink::open().unwrap();
        let wan = netlink.index("wan0").await.unwrap();
        let device = home.worker.pump.name().to_owned();
        let tun = netlink.link(&device).await.unwrap().unwrap();
        assert_eq!(tun.mtu, 65_535, "the device limits nothing");

        for (mtu, fits) in [(1492, 1492), (1280, 1280), (9000, 9000)] {
            netlink.set_mtu(wan, mtu).await.unwrap();
            home.work_until("the MTU follows", |worker| {
                worker.translator.config().links.wan_mtu == fits
            })
            .await;
        }
    });
}

/// With strict filtering of reverse paths, which many distributions have.
#[test]
fn errors_of_the_kernel_reach_the_remote_from_the_gateways_address() {
    in_namespaces(async {
        let mut home = Home::build().await;
        for key in ["all", "lan0", home.worker.pump.name()] {
            net::sysctl::write(&format!("ipv4/conf/{key}/rp_filter"), "1").unwrap();
        }
        net::sysctl::write("ipv4/neigh/lan0/retrans_time_ms", "50").unwrap();
        home.open(Protocol::Udp, 5000, 5001).await;
        let to = SocketAddr::from((home.nsp().embed(home.wires.server), 5000));
        let from = home.nsp().embed(GATEWAY);
        let error = |kind: u8, code: u8| {
            move |packet: &[u8]| {
                packet.get(9) == Some(&1)
                    && packet.get(12..16) == Some(&GATEWAY.octets())
                    && packet.get(16..20) == Some(&POOL.octets())
                    && packet.get(20..22) == Some(&[kind, code])
            }
        };

        // as traceroute asks for the router behind the translator
        let socket = home.wires.at(Place::Remote, || udp((REMOTE, 0)));
        home.wires.at(Place::Remote, || hops("2"));
        socket.send_to(b"?", to).await.unwrap();
        packet(&mut home.worker, error(11, 0)).await;
        assert_eq!(translated(&mut home), ([3, 0], from, REMOTE));

        // a server that is switched off
        home.wires.at(Place::Remote, || hops("64"));
        let server = home.wires.at(Place::Server, || Netlink::open().unwrap());
        let there = server.index("s0").await.unwrap();
        server.set_down(there).await.unwrap();
        server.set_up(there).await.unwrap();
        server
            .remove_address(there, home.wires.server.into(), 24)
            .await
            .unwrap();
        let netlink = Netlink::open().unwrap();
        let lan = netlink.index("lan0").await.unwrap();
        netlink.wait_ready(lan, PATIENCE).await.unwrap();
        socket.send_to(b"?", to).await.unwrap();
        packet(&mut home.worker, error(3, 1)).await;
        assert_eq!(translated(&mut home), ([1, 0], from, REMOTE));
    });
}

/// Works until a packet comes that is looked for; that one it leaves.
async fn packet(worker: &mut Worker, mut is_it: impl FnMut(&[u8]) -> bool) {
    let wanted = async {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            while let Ok(len) = worker.pump.tun.try_read(worker.pump.frame.space()) {
                worker.pump.frame.filled(len);
                if is_it(worker.pump.frame.packet()) {
                    return;
                }
                let now = worker.clock.mono();
                if worker.translator.handle_packet(&mut worker.pump.frame, now) == Verdict::Forward
                {
                    worker
                        .pump
                        .tun
                        .try_write(worker.pump.frame.bytes())
                        .unwrap();
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, wanted)
        .await
        .expect("the packet comes");
}

/// Translates the packet that was left: the kind and code of an `ICMPv6` error, from whom and to
/// whom.
fn translated(home: &mut Home) -> ([u8; 2], Ipv6Addr, Ipv6Addr) {
    let worker = &mut home.worker;
    let now = worker.clock.mono();
    let verdict = worker.translator.handle_packet(&mut worker.pump.frame, now);
    assert_eq!(verdict, Verdict::Forward);
    let packet = worker.pump.frame.packet();
    let addr = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap().into();
    ([packet[40], packet[41]], addr(8), addr(24))
}

async fn source_of_the_pool(netlink: &Netlink) -> Option<IpAddr> {
    let routes = netlink.routes().await.unwrap();
    let led: Vec<_> = routes
        .iter()
        .filter(|route| route.destination == IpAddr::from(pool().network()))
        .filter(|route| matches!(route.target, Target::Device(_)))
        .collect();
    assert_eq!(led.len(), 1, "{routes:?}");
    led[0].source
}

fn hops(hops: &str) {
    net::sysctl::write("ipv6/conf/r0/hop_limit", hops).unwrap();
}

fn pool() -> PoolRange {
    settings().config.pool[0]
}

/// From 192.168.64.192 to the last before the broadcast address.
const HOSTS: usize = 63;
