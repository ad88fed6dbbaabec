//! Requests under addresses that are not the sender's.

use super::*;

#[test]
fn who_asks_as_hosts_that_are_not_there_stops_nobody_else() {
    in_home(|home| async move {
        let client = home.client(CAMERA, 0);
        let forger = home.forger();
        let cancel = CancellationToken::new();
        let gate = Rc::new(tokio::sync::Semaphore::new(100));
        let (serving, observer) = home.serve_when(Dialects::Both, cancel.clone(), gate);

        let exchange = async {
            let unsent = async || {
                let counts = observer.counters().await;
                let unsent = counts
                    .iter()
                    .find(|count| count.name == "send_errors_total");
                unsent.map_or(0, |count| count.value)
            };
            let absent = (100..200).map(|host| Ipv4Addr::new(192, 168, 64, host));
            // until the socket holds as many answers as it can, each waiting for ARP
            for addr in absent.cycle() {
                let (from, to) = (
                    SocketAddrV4::new(addr, 5000),
                    SocketAddrV4::new(GATEWAY, PORT),
                );
                let sent = forger.0.send_udp(forger.1, from, to, &[0, 0]);
                sent.await.unwrap();
                tokio::task::yield_now().await;
                if unsent().await > 0 {
                    break;
                }
            }

            say(&client, &[0, 0]).await;
            assert_eq!(hear(&client).await[..4], [0, 128, 0, 0]);
            cancel.cancel();
        };
        let (served, ()) = tokio::join!(serving, exchange);
        served.unwrap();
    });
}

#[test]
fn who_writes_a_neighbours_address_opens_and_closes_nothing() {
    in_home(|home| async move {
        let camera = home.client(CAMERA, 0);
        let forger = home.forger();
        let cancel = CancellationToken::new();
        let gate = Rc::new(tokio::sync::Semaphore::new(100));
        let (serving, observer) = home.serve_when(Dialects::Both, cancel.clone(), gate);
        let SocketAddr::V4(victim) = camera.local_addr() else {
            panic!("not IPv4");
        };
        // everything is as the camera would say it, the nonce of its mapping included
        let forge = async |bytes: &[u8]| {
            let frame = UdpFrame {
                source_mac: NEIGHBOUR_MAC,
                destination_mac: forger.1,
                source: victim,
                destination: SocketAddrV4::new(GATEWAY, PORT),
                payload: bytes,
            };
            forger.0.send(&frame.emit().unwrap()).await.unwrap();
        };
        let mapped = || home.core.borrow().snapshot().mapping_count();

        let exchange = async {
            say(&camera, &map_request(8080)).await;
            let answer = hear(&camera).await;
            assert_eq!(answer[..4], [2, 129, 0, 0]);
            say(&camera, &natpmp_request(8081, 3600)).await;
            assert_eq!(hear(&camera).await[..4], [0, 130, 0, 0]);
            assert_eq!(mapped(), 2);

            forge(&map_request(9000)).await;
            forge(&[&map_request(8080)[..4], &[0; 4], &map_request(8080)[8..]].concat()).await;
            forge(&natpmp_request(9001, 3600)).await;
            forge(&natpmp_request(8081, 0)).await;
            forge(&natpmp_request(0, 0)).await;
            forge(&[0, 0]).await;

            // heard after those; nothing but its own answer reaches the camera
            say(&camera, &map_request(8082)).await;
            let answer = hear(&camera).await;
            let answer = Response::parse(&answer).unwrap();
            let Body::Map(map) = answer.body else {
                panic!("not a mapping: {answer:?}");
            };
            assert_eq!(
                (answer.result, map.internal_port),
                (ResultCode::Success, 8082)
            );
            assert_eq!(mapped(), 3);
            assert_eq!(*home.asked.borrow(), [8080, 8081, 8082]);
            cancel.cancel();
        };
        let (served, ()) = tokio::join!(serving, exchange);
        served.unwrap();

        let natpmp = Observer {
            room: Room::NatPmp,
            ..observer.clone()
        };
        for (observer, expected) in [(observer, 2), (natpmp, 4)] {
            let counts = observer.counters().await;
            let forged = counts.iter().find(|count| count.reason == "forged");
            assert_eq!(forged.map(|count| count.value), Some(expected));
        }
        let mut buf = [0; 100];
        assert_eq!(camera.try_recv(&mut buf).unwrap(), None);
    });
}

#[test]
fn p_8_datagrams_that_find_no_room_are_counted() {
    in_home(|home| async move {
        let client = home.client(CAMERA, 0);
        let cancel = CancellationToken::new();
        let gate = Rc::new(tokio::sync::Semaphore::new(0));
        let (serving, observer) = home.serve_when(Dialects::Both, cancel.clone(), gate);
        // nobody takes them out; and they are responses, so nobody answers them later
        let mut datagram = vec![0; 1000];
        datagram[..2].copy_from_slice(&[2, 0x81]);
        for _ in 0..20_000 {
            say(&client, &datagram).await;
        }

        let exchange = async {
            let lost = |counts: &[Count]| {
                let count = counts.iter().find(|it| it.reason == "queue-full");
                count.map_or(0, |it| it.value)
            };
            while lost(&observer.counters().await) == 0 {
                say(&client, &datagram).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        };
        let (served, ()) = tokio::join!(serving, exchange);
        served.unwrap();
    });
}

#[test]
fn t_21_an_answer_goes_to_who_has_the_lease_whatever_arp_was_told() {
    in_home(|home| async move {
        let client = home.client(CAMERA, 0);
        let forger = home.forger();
        namespace::enter(&home.gateway).unwrap();
        let net = Netlink::open().unwrap();
        let near = net.index("lan").await.unwrap();
        let cancel = CancellationToken::new();
        let serving = home.serve(cancel.clone());

        let exchange = async {
            // the kernel knows where the camera is, and is told that it is elsewhere
            assert!(net.leads_to(near, CAMERA.into(), CAMERA_MAC).await.unwrap());
            let lie = arp_reply((NEIGHBOUR_MAC, CAMERA), (forger.1, GATEWAY));
            while net.neighbour(near, CAMERA.into()).await.unwrap() != Some(NEIGHBOUR_MAC) {
                forger.0.send(&lie).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }

            say(&client, &[0, 0]).await;
            assert_eq!(hear(&client).await[..4], [0, 128, 0, 0]);
            say(&client, &map_request(8080)).await;
            assert_eq!(hear(&client).await[..4], [2, 129, 0, 0]);
            cancel.cancel();
        };
        let (served, ()) = tokio::join!(serving, exchange);
        served.unwrap();
    });
}

#[test]
fn t_21_who_writes_a_neighbours_mac_over_ipv6_is_not_taken_for_it() {
    in_home(|home| async move {
        let forger = home.forger();
        let gateway = home.link_local(&home.gateway).await;
        let camera = home.link_local(&home.camera).await;
        namespace::enter(&home.camera).unwrap();
        let client = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 6000));
        let client = Socket::bind(client, &Options::new()).unwrap();
        let cancel = CancellationToken::new();
        let gate = Rc::new(tokio::sync::Semaphore::new(100));
        let (serving, observer) = home.serve_when(Dialects::Both, cancel.clone(), gate);
        let announce = crate::wire::Request {
            lifetime: 0,
            client: camera,
            body: Body::Announce,
            options: &[],
        }
        .emit();
        let say = async |mac: Mac| {
            let frame = udp_over_ipv6((mac, forger.1), (camera, gateway), &announce);
            forger.0.send(&frame).await.unwrap();
        };

        let exchange = async {
            // the answer would reach the forger, who is at his own address
            say(NEIGHBOUR_MAC).await;
            while count(&observer, "forged").await == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // as himself he is answered, once
            say(CAMERA_MAC).await;
            let mut buf = [0; 100];
            let answer = client.recv(&mut buf).await.unwrap();
            assert_eq!(answer.source.ip(), IpAddr::V6(gateway));
            assert_eq!(buf[..4], [2, 128, 0, 0]);
            assert_eq!(client.try_recv(&mut buf).unwrap(), None);
            assert_eq!(count(&observer, "forged").await, 1);
            cancel.cancel();
        };
        let (served, ()) = tokio::join!(serving, exchange);
        served.unwrap();
    });
}

impl Home {
    /// The link-local address of the only cable in a namespace.
    async fn link_local(&self, namespace: &OwnedFd) -> Ipv6Addr {
        namespace::enter(namespace).unwrap();
        let net = Netlink::open().unwrap();
        let name = match std::ptr::eq(namespace, &raw const self.gateway) {
            true => "lan",
            false => "eth0",
        };
        let index = net.index(name).await.unwrap();
        let addresses = net.addresses(index).await.unwrap();
        let found = addresses.iter().find_map(|it| match it.addr {
            IpAddr::V6(addr) if addr.is_unicast_link_local() => Some(addr),
            _ => None,
        });
        found.unwrap()
    }
}

/// RFC 826.
fn arp_reply(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = [to.0.0, from.0.0].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    for (mac, addr) in [from, to] {
        frame.extend(mac.0);
        frame.extend(addr.octets());
    }
    frame.resize(60, 0);
    frame
}

/// From port 6000 to port 5351, checksummed as RFC 8200 §8.1 asks.
fn udp_over_ipv6(
    (from_mac, to_mac): (Mac, Mac),
    (from, to): (Ipv6Addr, Ipv6Addr),
    payload: &[u8],
) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap() + 8;
    let ports = [
        6000_u16.to_be_bytes(),
        PORT.to_be_bytes(),
        len.to_be_bytes(),
    ]
    .concat();
    let mut summed = [
        &from.octets()[..],
        &to.octets(),
        &[0, 17],
        &len.to_be_bytes(),
    ]
    .concat();
    summed.extend([&ports[..], payload].concat());
    if summed.len() % 2 == 1 {
        summed.push(0);
    }
    let words = summed.chunks(2);
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).unwrap();
    [
        &to_mac.0[..],
        &from_mac.0,
        &[0x86, 0xdd, 0x60, 0, 0, 0],
        &len.to_be_bytes(),
        &[17, 64],
        &from.octets(),
        &to.octets(),
        &ports,
        &checksum.to_be_bytes(),
        payload,
    ]
    .concat()
}

async fn count(observer: &Observer, reason: &str) -> u64 {
    let counts = observer.counters().await;
    let found = counts.iter().find(|count| count.reason == reason);
    found.map_or(0, |count| count.value)
}
