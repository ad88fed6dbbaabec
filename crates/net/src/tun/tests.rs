use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::netlink::Netlink;
use crate::udp::tests::in_namespace;
use crate::udp::{Options, Socket};

#[test]
fn a_datagram_comes_out_with_its_virtio_header_and_goes_back_in() {
    in_namespace(async {
        let tun = open("nat64").await;
        let net = Netlink::open().unwrap();
        let index = net.index("nat64").await.unwrap();
        net.set_up(index).await.unwrap();
        let own: IpAddr = "192.0.2.1".parse().unwrap();
        net.add_address(index, own, 24).await.unwrap();
        let socket = Socket::bind("192.0.2.1:7777".parse().unwrap(), &Options::new()).unwrap();
        socket
            .send_to(b"ping", "192.0.2.9:7777".parse().unwrap(), None)
            .await
            .unwrap();
        let mut packet = [0; 2000];

        let len = read_udp(&tun, &mut packet).await;

        assert_eq!(tun.name(), "nat64");
        assert_eq!(&packet[len - 4..len], b"ping");
        // VIRTIO_NET_HDR_F_NEEDS_CSUM: the kernel leaves the checksum to us.
        assert_eq!(packet[0] & 1, 1);
        let ip = VNET_HDR_LEN;
        let (source, destination) = packet[ip + 12..ip + 20].split_at_mut(4);
        source.swap_with_slice(destination);
        let (header, rest) = packet[..len].split_at(VNET_HDR_LEN);
        tun.try_write_vectored(&[IoSlice::new(header), IoSlice::new(rest)])
            .unwrap();
        let mut buf = [0; 100];
        let back = socket.recv(&mut buf).await.unwrap();
        assert_eq!(&buf[..back.len], b"ping");
        assert_eq!(back.source, "192.0.2.9:7777".parse().unwrap());
    });
}

#[test]
fn kernel_that_knows_no_read_without_sleep_is_asked_first() {
    in_namespace(async {
        let mut tun = open("nat64").await;
        assert!(tun.nowait, "Linux 6.4 and later");
        tun.nowait = false;
        let net = Netlink::open().unwrap();
        let index = net.index("nat64").await.unwrap();
        let mut packet = [0; 2000];
        let error = tun.try_read(&mut packet).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

        net.set_up(index).await.unwrap();
        let own: IpAddr = "192.0.2.1".parse().unwrap();
        net.add_address(index, own, 24).await.unwrap();
        let socket = Socket::bind("192.0.2.1:7777".parse().unwrap(), &Options::new()).unwrap();
        let to = "192.0.2.9:7777".parse().unwrap();
        socket.send_to(b"ping", to, None).await.unwrap();

        let len = read_udp(&tun, &mut packet).await;
        assert_eq!(&packet[len - 4..len], b"ping");
    });
}

#[test]
fn a_name_in_use_is_said_so_and_a_freed_one_is_waited_for() {
    in_namespace(async {
        let first = open("nat64").await;
        let soon = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(open("nat64"), soon);
        assert_eq!(second.name(), "nat64");

        let error = Tun::open("a-name-that-is-too-long").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open TUN device a-name-that-is-too-long"
        );
    });
}

#[test]
fn interface_of_another_kind_is_named() {
    in_namespace(async {
        let error = Tun::open("lo").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open TUN device lo: there is an interface lo of another kind \
             (a TUN device of one queue would do)"
        );
    });
}

#[test]
fn what_is_missing_is_said_in_one_line() {
    let text = |errno| OpenTunError::new("nat64", io::Error::from_raw_os_error(errno)).to_string();

    assert_eq!(
        text(libc::ENOENT),
        "cannot open TUN device nat64: /dev/net/tun does not exist (modprobe tun)"
    );
    assert!(text(libc::EPERM).contains("not permitted"));
    assert!(text(libc::EBUSY).contains("another process"));
}

/// Opens a device, or fails in one line that says what is missing.
async fn open(name: &str) -> Tun {
    match Tun::open(name).await {
        Ok(tun) => tun,
        Err(error) => panic!("{error}"),
    }
}

async fn read_udp(tun: &Tun, packet: &mut [u8]) -> usize {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        match tun.try_read(packet) {
            // The kernel also sends IPv6 router solicitations.
            Ok(len) if packet[VNET_HDR_LEN] >> 4 == 4 && packet[VNET_HDR_LEN + 9] == 17 => {
                return len;
            }
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}
