//! Datagrams that wait in the device's queue.

use std::net::SocketAddr;

use mapping::Protocol;
use tokio::net::UdpSocket;

use super::home::*;

#[test]
fn datagrams_that_wait_ride_together_and_arrive_one_by_one() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let server = home.wires.server;
        home.open(Protocol::Udp, 5000, 5001).await;
        let echo = home.wires.at(Place::Server, || udp((server, 5001)));
        let socket = home.wires.at(Place::Remote, || udp((REMOTE, 0)));
        let to = SocketAddr::from((home.nsp().embed(server), 5000));
        let mut from = None;
        home.work_while(async {
            // the neighbours are known, and the session is there
            socket.send_to(b"first", to).await.unwrap();
            from = Some(echo.recv_from(&mut [0; 9]).await.unwrap().1);
            echo.send_to(b"first", from.unwrap()).await.unwrap();
            socket.recv_from(&mut [0; 9]).await.unwrap();
        })
        .await;
        let before = home.worker.translator.counters();

        queue(&socket, to).await;
        home.work_while(arrive(&echo)).await;
        queue(&echo, from.unwrap()).await;
        home.work_while(arrive(&socket)).await;

        let after = home.worker.translator.counters();
        assert_eq!(home.worker.pump.refused(), 0);
        for (after, before) in [
            (after.six_to_four, before.six_to_four),
            (after.four_to_six, before.four_to_six),
        ] {
            assert_eq!(after.packets - before.packets, u64::from(COUNT));
            let payload: usize = (0..COUNT).map(|n| datagram(n).len()).sum();
            let headers = after.bytes - before.bytes - u64::try_from(payload).unwrap();
            assert!(
                headers < u64::from(COUNT) * 48 / 2,
                "each has a header of its own: {headers}"
            );
        }
    });
}

/// Nobody reads the device meanwhile.
async fn queue(socket: &UdpSocket, to: SocketAddr) {
    for n in 0..COUNT {
        socket.send_to(&datagram(n), to).await.unwrap();
    }
}

async fn arrive(socket: &UdpSocket) {
    for n in 0..COUNT {
        let mut buf = [0; 999];
        let (len, _) = socket.recv_from(&mut buf).await.unwrap();
        assert_eq!(buf[..len], datagram(n), "datagram {n}");
    }
}

/// Some are shorter.
fn datagram(n: u8) -> Vec<u8> {
    let len = if n % 20 == 19 { 50 } else { 300 };
    vec![n; len]
}

/// Less than the device's queue holds, and than a socket does that nobody reads meanwhile.
const COUNT: u8 = 80;
