//! TCP connections, and the MAC of the host behind each.

use super::*;

#[test]
fn a_connection_knows_the_mac_of_its_syn_and_hears_no_other() {
    for over in [IpAddr::V4(GATEWAY), IpAddr::V6(GATEWAY_V6)] {
        in_home(move |home| async move {
            namespace::enter(&home.gateway).unwrap();
            let listener = listen((over, 0).into(), "lan").unwrap();
            let addr = listener.local_addr().unwrap();
            let (mut client, (mut server, peer)) = home.connect(addr, &listener).await;
            client.write_all(b"early").await.unwrap();

            assert_eq!(peer_mac(&server).unwrap(), Some(CAMERA_MAC));

            assert_eq!(peer, client.local_addr().unwrap());
            let mut buf = [0; 5];
            server.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, b"early");
            client.write_all(b"later").await.unwrap();
            server.read_exact(&mut buf).await.unwrap();

            // the same connection, continued by a host with another MAC
            home.become_another().await;
            client.write_all(b"forged").await.unwrap();
            let mut rest = [0; 6];
            let heard = tokio::time::timeout(Duration::from_millis(500), server.read(&mut rest));
            assert!(heard.await.is_err());
            // back in its own frames, TCP brings what was lost
            home.become_oneself().await;
            server.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"forged");

            let (_client, (server, _)) = home.connect(addr, &listener).await;
            assert_eq!(peer_mac(&server).unwrap(), Some(CAMERA_MAC));
            // the kernel tells it once
            assert_eq!(peer_mac(&server).unwrap(), None);
        });
    }
}

#[test]
fn a_connection_of_a_plain_listener_or_over_loopback_knows_no_mac() {
    in_home(|home| async move {
        namespace::enter(&home.gateway).unwrap();
        let plain = crate::tcp::listen((GATEWAY, 0).into(), Some("lan")).unwrap();
        let addr = plain.local_addr().unwrap();
        let (_client, (server, _)) = home.connect(addr, &plain).await;
        assert_eq!(peer_mac(&server).unwrap(), None);

        namespace::enter(&home.gateway).unwrap();
        let loopback = listen((Ipv4Addr::LOCALHOST, 0).into(), "lo").unwrap();
        let addr = loopback.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(addr), loopback.accept());
        let (_client, server) = (client.unwrap(), accepted.unwrap().0);
        // loopback has a header of Ethernet's form with no address in it
        assert_eq!(peer_mac(&server).unwrap(), Some(Mac([0; 6])));
    });
}

#[test]
fn t_21_a_connection_by_a_cookie_is_whose_the_neighbour_table_says_and_hears_nobody_before() {
    for (over, camera) in [
        (IpAddr::V4(GATEWAY), IpAddr::V4(CAMERA)),
        (IpAddr::V6(GATEWAY_V6), IpAddr::V6(CAMERA_V6)),
    ] {
        in_home(move |home| async move {
            namespace::enter(&home.gateway).unwrap();
            crate::sysctl::write("ipv4/tcp_syncookies", "2").unwrap();
            let listener = listen((over, 0).into(), "lan").unwrap();
            let addr = listener.local_addr().unwrap();

            // what was said before anybody knew who it is may be anybody's
            let (mut client, (server, _)) = home.connect(addr, &listener).await;
            client.write_all(b"early").await.unwrap();
            server.readable().await.unwrap();
            assert_eq!(peer_mac(&server).unwrap(), None);
            assert!(!hear_only(&server, CAMERA_MAC).unwrap());

            hold(&listener, true).unwrap();
            let (mut client, (mut server, _)) = home.connect(addr, &listener).await;
            client.write_all(b"early").await.unwrap();
            assert_eq!(peer_mac(&server).unwrap(), None);
            let net = &home.gateway_net;
            let mac = net.neighbour(home.near, camera).await.unwrap();
            assert_eq!(mac, Some(CAMERA_MAC));
            assert!(hear_only(&server, CAMERA_MAC).unwrap());
            // TCP brings what was thrown away
            let mut buf = [0; 5];
            server.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, b"early");

            hold(&listener, false).unwrap();
            let (mut client, (server, _)) = home.connect(addr, &listener).await;
            client.write_all(b"early").await.unwrap();
            server.readable().await.unwrap();
            assert!(!hear_only(&server, CAMERA_MAC).unwrap());
        });
    }
}

#[test]
fn nobody_is_a_neighbour_at_an_address_that_nobody_has() {
    in_home(|home| async move {
        for addr in ["192.168.64.99", "fd00::99"] {
            let net = &home.gateway_net;
            let mac = net.neighbour(home.near, addr.parse().unwrap()).await;
            assert_eq!(mac.unwrap(), None);
        }
    });
}

#[test]
fn t_21_the_link_leads_to_a_host_at_its_own_addresses_alone() {
    in_home(|home| async move {
        let net = &home.gateway_net;
        let leads = async |addr: &str, mac| {
            let addr = addr.parse().unwrap();
            net.leads_to(home.near, addr, mac).await.unwrap()
        };
        for (addr, nobody) in [
            (CAMERA.to_string(), "192.168.64.99"),
            (CAMERA_V6.to_string(), "fd00::99"),
        ] {
            // nothing was ever sent there: it is looked for
            assert!(leads(&addr, CAMERA_MAC).await);
            assert!(leads(&addr, CAMERA_MAC).await);
            assert!(!leads(&addr, Mac([2, 0, 0, 0, 0, 21])).await);
            assert!(leads(&addr, CAMERA_MAC).await);
            assert!(!leads(nobody, CAMERA_MAC).await);
        }
    });
}
