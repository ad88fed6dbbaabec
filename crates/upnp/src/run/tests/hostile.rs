//! Floods, strangers and forged addresses: what they cannot take from the hosts of the LAN.

use super::*;

#[test]
fn t_20_one_source_cannot_take_every_connection() {
    home(|home| async move {
        let mut open = Vec::new();
        for _ in 0..20 {
            open.push(TcpStream::connect(home.endpoint).await.unwrap());
        }
        let counters = home.counters.clone();
        // who is let in is counted by a task of his own
        while counters.value(Event::ConnectionLimit) < 4
            || counters.value(Event::ConnectionAccepted) < 16
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(counters.value(Event::ConnectionAccepted), 16);
        drop(open);
        // the places are free again
        loop {
            let answer = home.http("GET / HTTP/1.0\r\n\r\n").await;
            if answer.starts_with("HTTP/1.1 404 ") {
                break;
            }
        }
    });
}

#[test]
fn t_21_flood_of_syns_locks_nobody_out() {
    let cookies = || std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").unwrap();
    home_where(cookies, |home| async move {
        // the first ones may have spoken before anybody knew who they are
        while home.http("GET / HTTP/1.0\r\n\r\n").await.is_empty() {}
        for _ in 0..3 {
            let answer = home.http("GET / HTTP/1.0\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        }
        let added = upnpc(&["-a", "@", "8080", "4433", "TCP", "900"]).await;
        assert!(added.contains("is redirected to internal"), "{added}");
        assert!(home.mapping(Protocol::Tcp, 4433).is_some());
    });
}

#[test]
fn t_21_who_speaks_under_a_neighbours_address_is_not_heard() {
    home(|home| async move {
        let neighbour = lease(&home.core, Mac([2, 0, 0, 0, 0, 2]), "neighbour");
        let net = Netlink::open().unwrap();
        let lan = net.index("eth0").await.unwrap();
        net.add_address(lan, neighbour.into(), 24).await.unwrap();

        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((neighbour, 0))).unwrap();
        let mut stream = socket.connect(home.endpoint.into()).await.unwrap();
        let mut answer = Vec::new();
        let _early = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
        let _reset = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
        assert_eq!(home.counters.value(Event::ConnectionForged), 1);

        let local = SocketAddr::from((neighbour, 0));
        let socket = Socket::bind(local, &net::udp::Options::new()).unwrap();
        let search = b"M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: ssdp:all\r\n\r\n";
        let gateway = SocketAddr::from((GATEWAY, PORT));
        socket.send_to(search, gateway, None).await.unwrap();
        while home.counters.value(Event::SearchForged) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(home.counters.value(Event::SearchAnswered), 0);

        // the camera goes on as itself
        let own = home.http("GET / HTTP/1.0\r\n\r\n").await;
        assert!(own.starts_with("HTTP/1.1 404 "), "{own}");
    });
}

#[test]
fn t_21_who_writes_a_neighbours_mac_over_ipv6_is_not_taken_for_it() {
    home(|home| async move {
        let neighbour = Mac([2, 0, 0, 0, 0, 2]);
        lease(&home.core, neighbour, "neighbour");
        let net = Netlink::open().unwrap();
        let lan = net.index("eth0").await.unwrap();
        let (to, _) = endpoint_v6(lan).await;
        // as itself the camera is served, and its kernel learns where the gateway is
        let answer = exchange(to.into(), "GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        let gateway = net.neighbour(lan, (*to.ip()).into()).await.unwrap();

        let forger = Forger {
            socket: PacketSocket::open("eth0", Hears::All).unwrap(),
            macs: (neighbour, gateway.unwrap()),
            own: CAMERA,
            addrs: (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad), *to.ip()),
            ports: (6000, to.port()),
        };
        let said = forger.say(b"GET / HTTP/1.0\r\n\r\n").await;

        assert_eq!(String::from_utf8(said).unwrap(), "");
        assert_eq!(home.counters.value(Event::ConnectionForged), 1);
        assert_eq!(home.counters.value(Event::ConnectionAccepted), 1);
    });
}

#[test]
fn t_7_searches_of_hosts_that_are_not_there_stop_nobody() {
    home(|home| async move {
        home.http("GET / HTTP/1.0\r\n\r\n").await; // from here on the gateway knows our MAC
        // their answers wait in the system until it gives up looking for them
        let ghosts = PacketSocket::open("eth0", Hears::Nothing).unwrap();
        let counters = home.counters.clone();
        for ghost in 0.. {
            ghosts.send(&search_of_a_ghost(ghost)).await.unwrap();
            if counters.value(Event::SsdpSendFailed) > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }

        let local = SocketAddr::from((home.camera, 0));
        let camera = Socket::bind(local, &net::udp::Options::new()).unwrap();
        let search =
            b"M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: upnp:rootdevice\r\n\r\n";
        let gateway = SocketAddr::from((GATEWAY, PORT));
        camera.send_to(search, gateway, None).await.unwrap();
        let mut buf = [0; 2048];
        let found = timeout(Duration::from_secs(10), camera.recv(&mut buf)).await;
        assert!(found.is_ok(), "the camera finds us all the same");
        let request = home.http("GET / HTTP/1.0\r\n\r\n");
        let answer = timeout(Duration::from_secs(10), request).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    });
}

#[test]
fn t_7_flood_of_strangers_keeps_no_host_out() {
    home(|home| async move {
        let ghosts = PacketSocket::open("eth0", Hears::Nothing).unwrap();
        let local = SocketAddr::from((home.camera, 0));
        let camera = Socket::bind(local, &net::udp::Options::new()).unwrap();
        let search =
            b"M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: upnp:rootdevice\r\n\r\n";
        let gateway = SocketAddr::from((GATEWAY, PORT));
        let mut buf = [0; 2048];
        for round in 0.. {
            for ghost in 0..4000 {
                ghosts.send(&search_of_a_ghost(ghost)).await.unwrap();
            }
            camera.send_to(search, gateway, None).await.unwrap();
            let answer = timeout(Duration::from_secs(5), camera.recv(&mut buf)).await;
            if answer.is_ok() {
                break;
            }
            assert!(round < 2, "the camera is not heard");
        }
        assert!(home.counters.value(Event::SearchRate) > 0, "no flood");
    });
}

#[test]
fn answer_to_a_body_that_is_too_large_arrives() {
    home(|home| async move {
        let request = format!(
            "POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n{}",
            "x".repeat(99_999)
        );

        let answer = home.http(&request).await;

        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    });
}

#[test]
fn t_20_silent_connection_ends() {
    home(|home| async move {
        let answer = home.http("POST / HTTP/1.1\r\nHost:").await;

        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    });
}

/// A search for everything, in a frame with a MAC and an address of nobody.
fn search_of_a_ghost(ghost: u16) -> Vec<u8> {
    let payload = b"M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n";
    let [high, low] = ghost.to_be_bytes();
    let source = Ipv4Addr::new(192, 168, 64, 200 + low % 50);
    let len = u16::try_from(payload.len()).unwrap() + 8;
    let mut ip = vec![0x45, 0];
    ip.extend((len + 20).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(source.octets());
    ip.extend(GROUP.octets());
    let words = ip
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = vec![1, 0, 0x5e, 0x7f, 0xff, 0xfa];
    frame.extend([2, 0, 0, 9, high, low, 8, 0]);
    frame.extend(ip);
    for number in [5000, PORT, len, 0] {
        frame.extend(number.to_be_bytes());
    }
    frame.extend(payload);
    frame
}

/// Who has an IPv6 address of his own on the link, where he answers for it truthfully, and writes
/// a neighbour's MAC into his frames. His kernel knows nothing of it.
struct Forger {
    socket: PacketSocket,
    /// The neighbour's and the gateway's.
    macs: (Mac, Mac),
    own: Mac,
    addrs: (Ipv6Addr, Ipv6Addr),
    ports: (u16, u16),
}

impl Forger {
    /// Connects, says something, and hears until the end of the connection.
    async fn say(&self, request: &[u8]) -> Vec<u8> {
        self.segment(SYN, 0, 0, b"").await;
        let mut heard = Vec::new();
        let mut buf = vec![0; 2048];
        loop {
            let received = self.socket.recv(&mut buf).await.unwrap();
            let (ethernet, packet) = buf[..received.len].split_at(14);
            if received.outgoing || ethernet[12..] != [0x86, 0xdd] {
                continue;
            }
            let (header, rest) = packet.split_at(40);
            match header[6] {
                // a neighbour solicitation for our address
                58 if rest[0] == 135 && rest[8..24] == self.addrs.0.octets() => {
                    self.advertise().await;
                }
                6 if header[24..40] == self.addrs.0.octets() => {
                    let flags = rest[13];
                    let number = |at: usize| {
                        u32::from_be_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]])
                    };
                    let (theirs, ours) = (number(4), number(8));
                    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
                    let data = &rest[usize::from(rest[12] >> 4) * 4..len];
                    if flags & SYN != 0 {
                        self.segment(ACK, 1, theirs.wrapping_add(1), b"").await;
                        self.segment(ACK, 1, theirs.wrapping_add(1), request).await;
                    }
                    heard.extend_from_slice(data);
                    if flags & (FIN | RST) != 0 {
                        return heard;
                    }
                    if !data.is_empty() {
                        let next = theirs.wrapping_add(u32::try_from(data.len()).unwrap());
                        self.segment(ACK, ours, next, b"").await;
                    }
                }
                _ => {}
            }
        }
    }

    async fn segment(&self, flags: u8, sequence: u32, acknowledged: u32, data: &[u8]) {
        let mut tcp = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
        tcp.extend(sequence.to_be_bytes());
        tcp.extend(acknowledged.to_be_bytes());
        tcp.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(data);
        self.send(self.macs.0, 6, 64, tcp, 16).await;
    }

    /// RFC 4861 §4.4, with his own MAC: the answers come to him.
    async fn advertise(&self) {
        let mut advertisement = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
        advertisement.extend(self.addrs.0.octets());
        advertisement.extend([2, 1]);
        advertisement.extend(self.own.0);
        self.send(self.own, 58, 255, advertisement, 2).await;
    }

    async fn send(&self, from: Mac, next: u8, hops: u8, mut payload: Vec<u8>, checksum: usize) {
        let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let addrs = [self.addrs.0.octets(), self.addrs.1.octets()].concat();
        let mut summed = [&addrs[..], &len, &[0, next], &payload].concat();
        summed.resize(summed.len().next_multiple_of(2), 0);
        let words = summed.chunks(2);
        let mut sum: u32 = words
            .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let sum = !u16::try_from(sum).unwrap();
        payload[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [self.macs.1.0, from.0].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(len);
        frame.extend([next, hops]);
        frame.extend(addrs);
        frame.extend(payload);
        self.socket.send(&frame).await.unwrap();
    }
}

/// RFC 9293 §3.1.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
