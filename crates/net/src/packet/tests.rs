use std::net::Ipv4Addr;

use super::*;
use crate::netlink::{Netlink, NewLink};
use crate::udp::tests::{in_namespace, plug};
use crate::udp::{Options, Socket};

#[test]
fn a_client_without_an_address_is_answered() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        plug(&net, NewLink::new("lan0"), NewLink::new("eth0").mac(mac)).await;
        let server = PacketSocket::open("lan0", Hears::Nothing).unwrap();
        let client = PacketSocket::open("eth0", Hears::Ipv4).unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 67);
        let to = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 77), 68);

        server.send_udp(mac, from, to, b"offer").await.unwrap();

        let mut buf = [0; 1500];
        let received = client.recv(&mut buf).await.unwrap();
        let udp = UdpFrame::parse(&buf[..received.len]).unwrap();
        assert!(!received.outgoing);
        assert_eq!(client.mac(), mac);
        assert_eq!((udp.source_mac, udp.destination_mac), (server.mac(), mac));
        assert_eq!(
            (udp.source, udp.destination, udp.payload),
            (from, to, &b"offer"[..])
        );
    });
}

#[test]
fn the_kernel_accepts_our_checksums() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        plug(&net, NewLink::new("lan0"), NewLink::new("eth0")).await;
        let eth0 = net.index("eth0").await.unwrap();
        net.add_address(eth0, "192.0.2.77".parse().unwrap(), 24)
            .await
            .unwrap();
        let mac = net.link("eth0").await.unwrap().unwrap().mac.unwrap();
        let socket = Socket::bind("0.0.0.0:68".parse().unwrap(), &Options::new()).unwrap();
        let server = PacketSocket::open("lan0", Hears::Nothing).unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 67);
        let to = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 77), 68);

        server.send_udp(mac, from, to, b"an odd one").await.unwrap();
        server
            .send_udp(mac, from, to, b"an even one")
            .await
            .unwrap();

        let mut buf = [0; 100];
        assert_eq!(socket.recv(&mut buf).await.unwrap().len, 10);
        assert_eq!(socket.recv(&mut buf).await.unwrap().len, 11);
    });
}

#[tokio::test]
async fn a_missing_interface_is_named() {
    let error = PacketSocket::open("nowhere0", Hears::All).unwrap_err();

    assert_eq!(error.to_string(), "cannot open a packet socket on nowhere0");
}
