use std::time::Duration;

use super::*;
use crate::namespace;
use crate::netlink::{Netlink, NewLink};

#[test]
fn the_answer_leaves_from_the_address_that_was_asked() {
    in_namespace(async {
        let server = Socket::bind("0.0.0.0:0".parse().unwrap(), &Options::new()).unwrap();
        let client = Socket::bind("127.0.0.1:0".parse().unwrap(), &Options::new()).unwrap();
        let asked: SocketAddr = format!("127.0.0.5:{}", server.local_addr().port())
            .parse()
            .unwrap();
        let mut buf = [0; 100];

        client.send_to(b"question", asked, None).await.unwrap();
        let question = server.recv(&mut buf).await.unwrap();
        server
            .send_to(b"answer", question.source, Some(question.reply_from()))
            .await
            .unwrap();
        let answer = client.recv(&mut buf).await.unwrap();

        assert_eq!(&buf[..answer.len], b"answer");
        assert_eq!(question.destination, asked.ip());
        assert_eq!(question.source, client.local_addr());
        assert_eq!(question.ifindex, 1);
        assert_eq!(answer.source, asked);
    });
}

#[test]
fn the_answer_leaves_from_the_asked_ipv6_address() {
    in_namespace(async {
        let server = Socket::bind("[::]:0".parse().unwrap(), &Options::new()).unwrap();
        let client = Socket::bind("[::1]:0".parse().unwrap(), &Options::new()).unwrap();
        let asked: SocketAddr = format!("[::1]:{}", server.local_addr().port())
            .parse()
            .unwrap();
        let mut buf = [0; 100];

        client.send_to(b"question", asked, None).await.unwrap();
        let question = server.recv(&mut buf).await.unwrap();
        server
            .send_to(b"answer", question.source, Some(question.reply_from()))
            .await
            .unwrap();
        let answer = client.recv(&mut buf).await.unwrap();

        assert_eq!(question.destination, asked.ip());
        assert_eq!(answer.source, asked);
    });
}

#[test]
fn a_port_in_use_names_its_owner() {
    in_namespace(async {
        let first = Socket::bind("127.0.0.1:0".parse().unwrap(), &Options::new()).unwrap();

        let error = Socket::bind(first.local_addr(), &Options::new()).unwrap_err();

        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot bind UDP {}, which ", first.local_addr())),
            "{text}"
        );
        assert!(
            text.ends_with(&format!("(process {}) uses", std::process::id())),
            "{text}"
        );
    });
}

#[test]
fn an_address_that_is_not_ours_is_named() {
    in_namespace(async {
        let addr = "192.0.2.1:5351".parse().unwrap();

        let error = Socket::bind(addr, &Options::new().device("lo")).unwrap_err();

        assert_eq!(error.to_string(), "cannot bind UDP 192.0.2.1:5351 on lo");
        Socket::bind(addr, &Options::new().free_bind()).unwrap();
    });
}

#[test]
fn a_burst_is_drained_and_a_long_datagram_says_so() {
    in_namespace(async {
        let server = Socket::bind("127.0.0.1:0".parse().unwrap(), &Options::new()).unwrap();
        let client = Socket::bind("127.0.0.1:0".parse().unwrap(), &Options::new()).unwrap();
        for _ in 0..3 {
            client
                .send_to(b"0123456789", server.local_addr(), None)
                .await
                .unwrap();
        }
        let mut buf = [0; 4];

        let first = server.recv(&mut buf).await.unwrap();
        let mut rest = 0;
        while server.try_recv(&mut buf).unwrap().is_some() {
            rest += 1;
        }

        assert_eq!((first.len, first.truncated, rest), (4, true, 2));
    });
}

#[test]
fn an_unreachable_peer_does_not_end_the_loop() {
    in_namespace(async {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap(), &Options::new()).unwrap();
        let other = Socket::bind("127.0.0.1:0".parse().unwrap(), &Options::new()).unwrap();
        // Asked so, the kernel reports on the socket that an earlier datagram was refused.
        setsockopt(&socket.io, nix::sys::socket::sockopt::Ipv4RecvErr, &true).unwrap();
        socket
            .send_to(b"x", "127.0.0.1:9".parse().unwrap(), None)
            .await
            .unwrap();
        other
            .send_to(b"hello", socket.local_addr(), None)
            .await
            .unwrap();
        let mut buf = [0; 100];

        let received = socket.recv(&mut buf).await.unwrap();

        assert_eq!((received.len, received.source), (5, other.local_addr()));
        assert_eq!(socket.transient_errors(), 1);
    });
}

#[test]
fn multicast_and_broadcast_are_heard_and_answered_from_the_right_address() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        let lan = cable(&net, "lan0").await;
        net.add_address(lan, "192.0.2.1".parse().unwrap(), 24)
            .await
            .unwrap();
        let group: IpAddr = "239.255.255.250".parse().unwrap();
        let options = Options::new().device("lan0").reuse_addr().join(group, lan);
        let server = Socket::bind("0.0.0.0:1900".parse().unwrap(), &options).unwrap();
        let options = Options::new()
            .broadcast()
            .multicast_interface(lan)
            .multicast_ttl(2)
            .multicast_loop(true);
        let client = Socket::bind("0.0.0.0:0".parse().unwrap(), &options).unwrap();
        let mut buf = [0; 100];

        for to in ["239.255.255.250:1900", "192.0.2.255:1900"] {
            client
                .send_to(b"hello", to.parse().unwrap(), None)
                .await
                .unwrap();
            let heard = server.recv(&mut buf).await.unwrap();
            assert_eq!(heard.destination, to.parse::<SocketAddr>().unwrap().ip());
            assert_eq!(
                heard.reply_from(),
                Source {
                    addr: "192.0.2.1".parse().unwrap(),
                    ifindex: lan
                }
            );
        }
    });
}

#[test]
fn ipv6_multicast_is_heard_and_its_answer_chooses_its_own_address() {
    in_namespace(async {
        let net = Netlink::open().unwrap();
        let lan = cable(&net, "lan0").await;
        net.add_address(lan, "2001:db8::1".parse().unwrap(), 64)
            .await
            .unwrap();
        let group: IpAddr = "ff02::c".parse().unwrap();
        let options = Options::new().device("lan0").reuse_addr().join(group, lan);
        let server = Socket::bind("[::]:1900".parse().unwrap(), &options).unwrap();
        let options = Options::new().multicast_interface(lan).multicast_loop(true);
        let client = Socket::bind("[2001:db8::1]:0".parse().unwrap(), &options).unwrap();
        let mut buf = [0; 100];

        client
            .send_to(b"hello", "[ff02::c]:1900".parse().unwrap(), None)
            .await
            .unwrap();
        let heard = server.recv(&mut buf).await.unwrap();

        assert_eq!(heard.destination, group);
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        assert_eq!(
            heard.reply_from(),
            Source {
                addr: any,
                ifindex: lan
            }
        );
    });
}

/// Runs `test` on a thread with a network namespace of its own, in which loopback is on; fails
/// in one line without.
#[track_caller]
pub(crate) fn in_namespace(test: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(|| {
        if let Err(error) = namespace::unshare_network() {
            panic!("{error}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let test = async {
                Netlink::open().unwrap().set_up(1).await.unwrap();
                test.await;
            };
            tokio::time::timeout(Duration::from_secs(170), test)
                .await
                .expect("in time");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A cable called `name` whose other end hangs loose in the same namespace; both are ready.
pub(crate) async fn cable(net: &Netlink, name: &str) -> u32 {
    let far = format!("{name}-far");
    plug(net, NewLink::new(name), NewLink::new(&far)).await;
    net.index(name).await.unwrap()
}

/// Makes a cable in one namespace and waits until it carries packets.
pub(crate) async fn plug(net: &Netlink, near: NewLink<'_>, far: NewLink<'_>) {
    crate::sysctl::write("ipv6/conf/default/accept_dad", "0").unwrap();
    let here = namespace::current().unwrap();
    net.add_veth(near, far, here).await.unwrap();
    let ends = [
        net.index(near.name()).await.unwrap(),
        net.index(far.name()).await.unwrap(),
    ];
    for end in ends {
        net.set_up(end).await.unwrap();
    }
    for end in ends {
        net.wait_ready(end, Duration::from_secs(60)).await.unwrap();
    }
}
