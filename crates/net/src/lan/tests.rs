//! UDP on the LAN, with the MAC of each datagram.

use std::net::{Ipv6Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::namespace;
use crate::netlink::{Netlink, NewLink, Route};
use crate::packet::{Hears, PacketSocket};
use crate::udp::Options;

mod connections;

#[test]
fn a_datagram_comes_with_the_mac_of_its_frame_whatever_address_it_claims() {
    in_home(|home| async move {
        let socket = home.socket((GATEWAY, 5351), Options::new().device("lan"));
        let raw = home.raw();
        let camera = home.client(CAMERA);
        let mut batch = Batch::new();
        let from = SocketAddrV4::new(Ipv4Addr::new(192, 168, 64, 99), 5000);
        let to = SocketAddrV4::new(GATEWAY, 5351);

        raw.0.send_udp(raw.1, from, to, b"forged").await.unwrap();
        say(&camera, b"own", to).await;

        let mut heard = Vec::new();
        while heard.len() < 2 {
            socket.recv(&mut batch).await.unwrap();
            heard.extend(batch.iter().map(|datagram| {
                assert_eq!(datagram.destination, IpAddr::V4(GATEWAY));
                assert_eq!(datagram.local, IpAddr::V4(GATEWAY));
                assert_eq!(datagram.ifindex, socket.ifindex());
                (datagram.payload.to_vec(), datagram.source, datagram.mac)
            }));
        }
        let own = camera.local_addr();
        assert_eq!(heard[0], (b"forged".to_vec(), from.into(), CAMERA_MAC));
        assert_eq!(heard[1], (b"own".to_vec(), own, CAMERA_MAC));

        let mut buf = [0; 100];
        socket.try_send_to(b"answer", own, None).unwrap();
        let answer = camera.recv(&mut buf).await.unwrap();
        assert_eq!((answer.source, answer.len), (to.into(), 6));
    });
}

#[test]
fn what_is_damaged_or_not_for_us_is_passed_over() {
    in_home(|home| async move {
        let socket = home.socket((GATEWAY, 5351), Options::new().device("lan"));
        let raw = home.raw();
        let frame = |to_mac: Mac, to: SocketAddrV4, payload: &[u8]| {
            let udp = crate::packet::UdpFrame {
                source_mac: CAMERA_MAC,
                destination_mac: to_mac,
                source: SocketAddrV4::new(CAMERA, 5000),
                destination: to,
                payload,
            };
            udp.emit().unwrap()
        };
        let to = SocketAddrV4::new(GATEWAY, 5351);
        let elsewhere = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 5351);
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 5351);
        let mut damaged = frame(raw.1, to, b"damaged");
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let mut ours = frame(raw.1, to, b"as ourselves");
        ours[26..30].copy_from_slice(&GATEWAY.octets());
        let wrong = [
            damaged,
            ours,
            frame(raw.1, elsewhere, b"to be forwarded"),
            frame(Mac([0xff; 6]), everybody, b"for everybody"),
            frame(Mac([2, 0, 0, 0, 0, 77]), to, b"in a frame for another host"),
        ];
        for frame in wrong {
            raw.0.send(&frame).await.unwrap();
        }
        // another port is none of our business, not even to be counted
        let other = SocketAddrV4::new(GATEWAY, 5352);
        raw.0
            .send(&frame(raw.1, other, b"other port"))
            .await
            .unwrap();
        raw.0.send(&frame(raw.1, to, b"right")).await.unwrap();

        let mut batch = Batch::new();
        socket.recv(&mut batch).await.unwrap();

        let heard: Vec<_> = batch.iter().map(|datagram| datagram.payload).collect();
        assert_eq!(heard, [b"right"]);
        assert_eq!(socket.ignored(), 5);
    });
}

#[test]
fn groups_and_broadcast_are_heard_where_the_options_say_so() {
    in_home(|home| async move {
        let group = Ipv4Addr::new(239, 255, 255, 250);
        let options = Options::new()
            .device("lan")
            .broadcast()
            .join(group.into(), home.near);
        let socket = home.socket((GATEWAY, 1900), options);
        let raw = home.raw();
        let from = SocketAddrV4::new(CAMERA, 5000);
        let mut batch = Batch::new();

        for (mac, to) in [
            (Mac([1, 0, 0x5e, 0x7f, 0xff, 0xfa]), group),
            (Mac([0xff; 6]), Ipv4Addr::BROADCAST),
        ] {
            let to = SocketAddrV4::new(to, 1900);
            raw.0.send_udp(mac, from, to, b"hello").await.unwrap();

            socket.recv(&mut batch).await.unwrap();

            let heard = batch.iter().next().unwrap();
            assert_eq!(heard.destination, IpAddr::V4(*to.ip()));
            assert_eq!(heard.reply_from().addr, IpAddr::V4(GATEWAY));
            assert_eq!((heard.mac, heard.source), (CAMERA_MAC, from.into()));
        }
    });
}

#[test]
fn ipv6_is_heard_at_every_own_address_also_at_those_that_come_later() {
    in_home(|home| async move {
        let any = (Ipv6Addr::UNSPECIFIED, 5351);
        let socket = home.socket(any, Options::new().device("lan"));
        let camera = home.client(CAMERA_V6);
        let mut batch = Batch::new();

        for addr in [GATEWAY_V6, "fd00::2".parse().unwrap()] {
            home.gateway_net
                .add_address(home.near, addr.into(), 64)
                .await
                .unwrap();
            // a hundred milliseconds after the last look the addresses are looked at again
            let heard = loop {
                say(&camera, b"map", (addr, 5351)).await;
                let answer = socket.recv(&mut batch);
                let wait = Duration::from_millis(50);
                if tokio::time::timeout(wait, answer).await.is_ok()
                    // what comes late was said to the one before
                    && let Some(heard) = batch.iter().find(|it| it.local == IpAddr::V6(addr))
                {
                    break heard;
                }
            };
            assert_eq!((heard.source, heard.mac), (camera.local_addr(), CAMERA_MAC));
            socket
                .try_send_to(b"answer", heard.source, Some(heard.reply_from()))
                .unwrap();
            let mut buf = [0; 100];
            let answer = camera.recv(&mut buf).await.unwrap();
            assert_eq!(answer.source, SocketAddr::from((addr, 5351)));
        }
        // what is to be forwarded is ignored
        let router = Route::default_via(GATEWAY_V6.into(), None);
        home.camera_net.add_route(router).await.unwrap();
        let elsewhere: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let ignored = socket.ignored();
        say(&camera, b"map", (elsewhere, 5351)).await;
        while socket.ignored() == ignored {
            let wait = Duration::from_millis(20);
            if tokio::time::timeout(wait, socket.recv(&mut batch))
                .await
                .is_ok()
            {
                assert!(
                    batch
                        .iter()
                        .all(|it| it.destination != IpAddr::V6(elsewhere))
                );
            }
        }
        assert_eq!(socket.ignored(), ignored + 1);
    });
}

#[test]
fn a_burst_comes_in_few_batches_and_the_deaf_socket_stays_empty() {
    in_home(|home| async move {
        let socket = home.socket((GATEWAY, 5351), Options::new().device("lan"));
        let camera = home.client(CAMERA);
        for n in 0..100_u8 {
            say(&camera, &[n], (GATEWAY, 5351)).await;
        }
        let mut batch = Batch::new();
        let mut heard = Vec::new();
        let mut batches = 0;
        while heard.len() < 100 {
            socket.recv(&mut batch).await.unwrap();
            heard.extend(batch.iter().map(|datagram| datagram.payload[0]));
            batches += 1;
        }

        assert_eq!(heard, (0..100).collect::<Vec<_>>());
        assert_eq!(batches, 2);
        let mut buf = [0; 10];
        assert_eq!(socket.answers.try_recv(&mut buf).unwrap(), None);
    });
}

#[test]
fn a_neighbour_that_floods_is_left_out_and_heard_again_when_it_stops() {
    in_home(|home| async move {
        let socket = home.socket((GATEWAY, 5351), Options::new().device("lan"));
        let raw = home.raw();
        let camera = home.client(CAMERA);
        let to = SocketAddrV4::new(GATEWAY, 5351);
        let flooder = Mac([2, 0, 0, 0, 0, 66]);
        let udp = crate::packet::UdpFrame {
            source_mac: flooder,
            destination_mac: raw.1,
            source: SocketAddrV4::new(CAMERA, 6000),
            destination: to,
            payload: b"flood",
        };
        let frame = udp.emit().unwrap();
        let mut batch = Batch::new();
        let (mut own, mut flood) = (0, 0);
        for round in 1..=60 {
            for _ in 0..6000 {
                raw.0.send(&frame).await.unwrap();
            }
            say(&camera, b"own", to).await;
            // who is not heard is told apart by what comes behind
            let wait = Duration::from_millis(if round < 60 { 30 } else { 2000 });
            while let Ok(received) = tokio::time::timeout(wait, socket.recv(&mut batch)).await {
                received.unwrap();
                flood += batch.iter().filter(|it| it.mac == flooder).count();
                own += batch.iter().filter(|it| it.payload == b"own").count();
            }
        }
        assert!(own > 50, "{own} of 60 are heard, {flood} of the flood");
        assert!(flood < 60_000, "{flood} of 360000");
        assert!(socket.lost() > 0);

        let mut heard_again = false;
        while !heard_again {
            raw.0.send(&frame).await.unwrap();
            let wait = Duration::from_millis(20);
            if tokio::time::timeout(wait, socket.recv(&mut batch))
                .await
                .is_ok()
            {
                heard_again = batch.iter().any(|it| it.mac == flooder);
            }
        }
    });
}

#[test]
fn who_is_preferred_is_heard_whatever_macs_a_flood_makes_up() {
    in_home(|home| async move {
        let mut socket = home.socket((GATEWAY, 5351), Options::new().device("lan"));
        namespace::enter(&home.gateway).unwrap();
        socket = socket.preferring("lan").unwrap();
        socket.prefer([CAMERA_MAC]).unwrap();
        let raw = home.raw();
        let camera = home.client(CAMERA);
        let to = SocketAddrV4::new(GATEWAY, 5351);
        let flood: Vec<_> = (0..6000_u16)
            .map(|n| {
                let [high, low] = n.to_be_bytes();
                let udp = crate::packet::UdpFrame {
                    source_mac: Mac([2, 0x66, 0, 0, high, low]),
                    destination_mac: raw.1,
                    source: SocketAddrV4::new(CAMERA, 6000),
                    destination: to,
                    payload: b"flood",
                };
                udp.emit().unwrap()
            })
            .collect();
        let mut batch = Batch::new();
        let (mut rounds, mut of_flood) = (0, 0);
        while rounds < 30 {
            for frame in &flood {
                raw.0.send(frame).await.unwrap();
            }
            say(&camera, b"own", to).await;

            // before anything of the flood that filled the other queue
            socket.recv(&mut batch).await.unwrap();
            let own: Vec<_> = batch.iter().map(|it| it.payload).collect();
            assert_eq!(own, [b"own"], "in round {rounds}");
            rounds += 1;
            socket.recv(&mut batch).await.unwrap();
            of_flood += batch.iter().count();
        }
        assert!(of_flood > 0, "strangers are heard as well");
        assert!(socket.lost() > 0);
    });
}

#[test]
fn no_frame_is_lost_while_others_are_preferred_than_before() {
    in_home(|home| async move {
        let socket = home.socket((GATEWAY, 5351), Options::new().device("lan"));
        namespace::enter(&home.gateway).unwrap();
        let mut socket = socket.preferring("lan").unwrap();
        let camera = home.client(CAMERA);
        let to = SocketAddrV4::new(GATEWAY, 5351);
        let others = |n: u8| (0..n).map(|n| Mac([2, 0, 0, 0, 1, n]));
        let mut batch = Batch::new();
        for round in 0..20_u8 {
            let own = (round % 2 == 0).then_some(CAMERA_MAC);
            socket.prefer(others(round * 10).chain(own)).unwrap();
            say(&camera, &[round], to).await;

            socket.recv(&mut batch).await.unwrap();

            let heard: Vec<_> = batch.iter().map(|it| it.payload.to_vec()).collect();
            assert_eq!(heard, [[round]]);
        }
        // no more than the kernel has memory for
        socket
            .prefer((0..2000_u16).map(|n| {
                let [high, low] = n.to_be_bytes();
                Mac([2, 0, 0, 2, high, low])
            }))
            .unwrap();
    });
}

#[test]
fn the_port_is_held_and_what_cannot_be_bound_is_named() {
    in_home(|home| async move {
        let options = Options::new().device("lan");
        let _socket = home.socket((GATEWAY, 5351), options.clone());

        let taken = Socket::bind((GATEWAY, 5351).into(), &options).unwrap_err();
        let any = Socket::bind((Ipv4Addr::UNSPECIFIED, 67).into(), &options).unwrap_err();
        let nowhere = Socket::bind((GATEWAY, 67).into(), &Options::new()).unwrap_err();

        let taken = taken.to_string();
        assert!(
            taken.starts_with("cannot bind UDP 192.168.64.1:5351 on lan, which "),
            "{taken}"
        );
        for error in [any, nowhere] {
            assert_eq!(error.source.kind(), io::ErrorKind::InvalidInput);
        }
    });
}

/// A gateway and a camera, each in a namespace, with a cable between them.
struct Home {
    gateway: OwnedFd,
    gateway_net: Netlink,
    camera: OwnedFd,
    camera_net: Netlink,
    /// The index of the gateway's end of the cable.
    near: u32,
    /// The index of the camera's end of the cable.
    far: u32,
}

impl Home {
    async fn build() -> Self {
        let (gateway, gateway_net) = unshare();
        let (camera, camera_net) = unshare();
        namespace::enter(&gateway).unwrap();
        let (near, far) = (NewLink::new("lan"), NewLink::new("eth0").mac(CAMERA_MAC));
        gateway_net.add_veth(near, far, &camera).await.unwrap();
        let near = gateway_net.index("lan").await.unwrap();
        let far = camera_net.index("eth0").await.unwrap();
        for (net, index, v4, v6) in [
            (&gateway_net, near, GATEWAY, GATEWAY_V6),
            (&camera_net, far, CAMERA, CAMERA_V6),
        ] {
            net.set_up(1).await.unwrap();
            net.set_up(index).await.unwrap();
            net.add_address(index, v4.into(), 24).await.unwrap();
            net.add_address(index, v6.into(), 64).await.unwrap();
        }
        for (namespace, net, index) in [(&gateway, &gateway_net, near), (&camera, &camera_net, far)]
        {
            namespace::enter(namespace).unwrap();
            net.wait_ready(index, Duration::from_secs(60))
                .await
                .unwrap();
        }
        Self {
            gateway,
            gateway_net,
            camera,
            camera_net,
            near,
            far,
        }
    }

    fn socket(&self, local: impl Into<SocketAddr>, options: Options) -> Socket {
        namespace::enter(&self.gateway).unwrap();
        Socket::bind(local.into(), &options).unwrap()
    }

    /// An ordinary socket of the camera.
    fn client(&self, addr: impl Into<IpAddr>) -> udp::Socket {
        namespace::enter(&self.camera).unwrap();
        udp::Socket::bind((addr.into(), 0).into(), &Options::new()).unwrap()
    }

    /// What sends any frame from the camera, and the MAC of the gateway.
    fn raw(&self) -> (PacketSocket, Mac) {
        namespace::enter(&self.gateway).unwrap();
        let gateway = PacketSocket::open("lan", Hears::Nothing).unwrap().mac();
        namespace::enter(&self.camera).unwrap();
        (PacketSocket::open("eth0", Hears::Nothing).unwrap(), gateway)
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        listener: &tokio::net::TcpListener,
    ) -> (TcpStream, (TcpStream, SocketAddr)) {
        namespace::enter(&self.camera).unwrap();
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let connecting = socket.unwrap().connect(addr);
        let (client, accepted) = tokio::join!(connecting, listener.accept());
        (client.unwrap(), accepted.unwrap())
    }

    async fn become_another(&self) {
        self.set_mac(Mac([2, 0, 0, 0, 0, 77])).await;
    }

    async fn become_oneself(&self) {
        self.set_mac(CAMERA_MAC).await;
    }

    async fn set_mac(&self, mac: Mac) {
        self.camera_net.set_mac(self.far, mac).await.unwrap();
    }
}

fn in_home<F: Future<Output = ()>>(test: impl FnOnce(Rc<Home>) -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let test = async { test(Rc::new(Home::build().await)).await };
        runtime.block_on(async {
            let in_time = tokio::time::timeout(Duration::from_secs(170), test).await;
            in_time.expect("in time");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn unshare() -> (OwnedFd, Netlink) {
    if let Err(error) = namespace::unshare_network() {
        panic!("{error}");
    }
    // nobody else is there whose address could be a duplicate
    crate::sysctl::write("ipv6/conf/default/accept_dad", "0").unwrap();
    (namespace::current().unwrap(), Netlink::open().unwrap())
}

async fn say(socket: &udp::Socket, bytes: &[u8], to: impl Into<SocketAddr>) {
    socket.send_to(bytes, to.into(), None).await.unwrap();
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const CAMERA: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 20);
const CAMERA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x20);
const CAMERA_MAC: Mac = Mac([2, 0, 0, 0, 0, 20]);
