//! A neighbour who asks in other hosts' names.

use super::*;

#[test]
fn who_asks_as_hosts_that_are_not_there_stops_nobody_else() {
    let home = Home::new();
    let gateway = home.start();
    let (forger, camera) = (home.join(1), home.join(2));
    let lan = home.lan_mac();

    // until the socket holds as many answers as it can, each waiting for ARP
    gateway.wait("an answer that cannot be sent", |gateway| {
        forger.node.run(move || {
            block_on(async move {
                let socket = PacketSocket::open("eth0", Hears::Nothing).unwrap();
                for host in 2..102 {
                    let absent = Ipv4Addr::new(192, 168, 64, host);
                    let from = SocketAddrV4::new(absent, CLIENT_PORT);
                    let to = SocketAddrV4::new([192, 168, 64, 1].into(), SERVER_PORT);
                    let inform = inform(Mac([2, 0, 0, 0, 1, host]), absent);
                    socket.send_udp(lan, from, to, &inform).await.unwrap();
                }
            });
        });
        gateway.count("send_errors_total", "") > 0
    });

    let bound = camera.udhcpc("camera", &["-B"]);
    assert_eq!(bound.get("ip"), gateway.host(camera.mac).addr.to_string());
}

#[test]
fn h_5_neighbour_releases_and_declines_nobody_elses_address() {
    let home = Home::new();
    let gateway = home.start();
    let (forger, camera) = (home.join(1), home.join(2));
    camera.udhcpc("camera", &[]);
    let (lan, victim) = (home.lan_mac(), gateway.host(camera.mac));
    let (mac, addr) = (camera.mac, victim.addr);

    forger.node.run(move || {
        block_on(async move {
            let socket = PacketSocket::open("eth0", Hears::Nothing).unwrap();
            let from = SocketAddrV4::new(addr, CLIENT_PORT);
            let to = SocketAddrV4::new([192, 168, 64, 1].into(), SERVER_PORT);
            for kind in [MessageType::Release, MessageType::Decline] {
                let forged = of_victim(kind, mac, addr);
                socket.send_udp(lan, from, to, &forged).await.unwrap();
            }
        });
    });

    gateway.wait("both to be counted", |gateway| {
        gateway.count("drops_total", "foreign-release") == 1
            && gateway.count("drops_total", "foreign-decline") == 1
    });
    assert_eq!(gateway.host(mac), victim);
}

impl Home {
    fn lan_mac(&self) -> Mac {
        self.gateway.run(|| {
            let lan = block_on(async { PacketSocket::open("lan0", Hears::Nothing) });
            lan.unwrap().mac()
        })
    }
}

fn of_victim(kind: MessageType, mac: Mac, addr: Ipv4Addr) -> Vec<u8> {
    let mut options = crate::wire::Options::default();
    options.set(code::MESSAGE_TYPE, [kind.into()]);
    options.set(code::SERVER_ID, [192, 168, 64, 1]);
    options.set(code::REQUESTED_ADDRESS, addr.octets());
    let mut message = message(Op::BootRequest, mac, options);
    if kind == MessageType::Release {
        message.ciaddr = addr;
    }
    message.emit(&[], 548)
}

fn inform(mac: Mac, addr: Ipv4Addr) -> Vec<u8> {
    let mut options = crate::wire::Options::default();
    options.set(code::MESSAGE_TYPE, [MessageType::Inform.into()]);
    let mut message = message(Op::BootRequest, mac, options);
    message.ciaddr = addr;
    message.emit(&[], 548)
}
