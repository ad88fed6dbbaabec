//! Datagrams that the kernels on the way cut and put together.

use std::net::SocketAddr;

use mapping::Protocol;

use super::home::*;
use crate::verdict::DropReason;

#[test]
fn longest_datagrams_pass_both_ways() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let server = home.wires.server;
        home.open(Protocol::Udp, 5000, 5001).await;
        let echo = home.wires.at(Place::Server, || udp((server, 5001)));
        let socket = home.wires.at(Place::Remote, || udp((REMOTE, 0)));
        let to = SocketAddr::from((home.nsp().embed(server), 5000));
        let bytes = sent();
        // what fits; what neither side carries whole, up to the most that there is
        let lengths = [100, 1452, 1473, 3000, 60_000, 65_507];

        home.work_while(async {
            let mut buf = vec![0; 65_536];
            for len in lengths {
                let datagram = &bytes[..len];
                socket.send_to(datagram, to).await.unwrap();
                let (len, from) = echo.recv_from(&mut buf).await.unwrap();
                assert!(buf[..len] == *datagram, "{len} bytes to the server");
                echo.send_to(&buf[..len], from).await.unwrap();
                let (len, _) = socket.recv_from(&mut buf).await.unwrap();
                assert!(buf[..len] == *datagram, "{len} bytes to the remote");
            }
        })
        .await;

        let counters = home.worker.translator.counters();
        assert_eq!(counters.fragments.held, 0);
        assert!(counters.fragments.reassembled >= 8, "{counters:?}");
        let of_fragments = |reason: DropReason| reason.as_str().starts_with("fragment");
        let mut lost = counters.drops.iter();
        assert!(lost.all(|(reason, count)| count == 0 || !of_fragments(reason)));
        assert_eq!(home.worker.pump.refused(), 0);
    });
}

#[test]
fn long_ping_passes() {
    in_namespaces(async {
        let mut home = Home::build().await;
        home.open(Protocol::Udp, 5000, 5001).await;
        let to = home.nsp().embed(home.wires.server).to_string();
        // after an answer it would wait for the next no longer than that took twice
        for size in ["3000", "60000"].repeat(3) {
            let ping = home.wires.at(Place::Remote, || {
                std::process::Command::new("ping")
                    .args(["-6", "-c", "1", "-W", "60", "-s", size, &to])
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                    .unwrap()
            });
            let output = tokio::task::spawn_blocking(|| ping.wait_with_output());
            home.work_while(async {
                let output = output.await.unwrap().unwrap();
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(text.contains(" 0% packet loss"), "{text}");
            })
            .await;
        }
    });
}

#[test]
fn server_whose_packets_may_be_cut_is_served() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let server = home.wires.server;
        home.open(Protocol::Udp, 5000, 5001).await;
        home.open(Protocol::Tcp, 80, 8080).await;
        home.wires.at(Place::Server, || {
            net::sysctl::write("ipv4/ip_no_pmtu_disc", "1").unwrap();
        });
        let echo = home.wires.at(Place::Server, || udp((server, 5001)));
        let socket = home.wires.at(Place::Remote, || udp((REMOTE, 0)));
        let listener = home.wires.at(Place::Server, || tcp((server, 8080)));
        let stream = home.wires.connect(home.nsp(), 80);
        let to = SocketAddr::from((home.nsp().embed(server), 5000));
        let bytes = sent();

        home.work_while(async {
            let mut buf = vec![0; 65_536];
            for len in [1232, 1233, 1452, 1453, 1472, 1473] {
                let datagram = &bytes[..len];
                socket.send_to(datagram, to).await.unwrap();
                let (len, from) = echo.recv_from(&mut buf).await.unwrap();
                echo.send_to(&buf[..len], from).await.unwrap();
                let (len, _) = socket.recv_from(&mut buf).await.unwrap();
                assert!(buf[..len] == *datagram, "{len} bytes to the remote");
            }
            let (_, asked) = tokio::join!(serve(&listener), ask(stream.await.unwrap()));
            assert!(asked == bytes);
        })
        .await;

        let counters = home.worker.translator.counters();
        let headers = counters.four_to_six.bytes - bytes.len() as u64;
        assert!(
            headers < 20 * counters.four_to_six.packets,
            "super-packets come: {counters:?}"
        );
        assert!(counters.fragments.cut >= 5, "{counters:?}");
        assert_eq!(home.worker.pump.refused(), 0);
    });
}
