//! What the WAN hears from the gateway itself: DNS, and nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lab::{Home, Node, addressing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::dig::dig;
use crate::program::{program, say};
use crate::reach::{PATIENTLY, QUICKLY, nmap};
use crate::server::Server;
use crate::stage::{home, play};
use crate::upnp::Upnpc;

#[tokio::test]
async fn nmap_finds_dns_on_the_wan_and_nothing_else() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let soap = Upnpc::search(&webcam).await?.port()?;
        let wan = home.delegation().wan();
        let tcp = format!("1-1024,1900,2869,5000,5350-5351,8464,49152,{soap}");

        let udp = "53,67,68,547,1900,5350,5351";
        for (how, ports, dns) in [("-sS", tcp.as_str(), "53/tcp"), ("-sU", udp, "53/udp")] {
            let mut seen = nmap(&home.net.remote, wan, how, ports, QUICKLY).await?;
            seen.extend(nmap(&home.net.remote, wan, how, "53", PATIENTLY).await?);
            ensure!(open(&seen) == [dns], "nmap sees {seen:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn port_control_is_deaf_to_the_wan() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let soap = Upnpc::search(&webcam).await?.port()?;
        give_the_wan_ipv4(home).await?;
        let wan = SocketAddr::new(home.delegation().wan().into(), 0);
        let wan_v4 = SocketAddr::new(WAN_V4.into(), 0);
        let lan = SocketAddr::new(addressing::GATEWAY.into(), 0);
        let behind = SocketAddr::new(home.delegation().embed(addressing::GATEWAY).into(), 0);
        // The same questions are answered on the LAN: they are no nonsense.
        for (port, question) in questions() {
            if heard(&webcam.node, at(lan, port), &question, PATIENCE)
                .await?
                .is_none()
            {
                bail!("{lan} does not answer on the LAN: {question:?}");
            }
        }
        ensure!(
            takes_connections(&webcam.node, at(lan, soap), PATIENCE).await?,
            "no SOAP on the LAN"
        );

        let mut probes = JoinSet::new();
        for (node, to) in [
            (&home.net.remote, wan),
            (&home.net.remote, behind),
            (&home.net.provider, wan),
            (&home.net.provider, wan_v4),
            (&home.net.provider, lan),
        ] {
            for (port, question) in questions() {
                probes.spawn(is_deaf(node.clone(), at(to, port), question));
            }
            probes.spawn(is_closed(node.clone(), at(to, soap)));
        }
        while let Some(probe) = probes.join_next().await {
            probe??;
        }
        Ok(())
    })
    .await
}

/// Somebody on the WAN who sends to the LAN's address is no part of the LAN.
#[tokio::test]
async fn resolver_of_the_lan_is_deaf_to_the_wan() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        give_the_wan_ipv4(home).await?;
        let private = dig(&webcam.node, "192.168.64.1", &["webcam.home.example", "A"]).await?;
        ensure!(private.answer.len() == 1, "{private}");

        for question in [["webcam.home.example", "A"], ["www.example", "A"]] {
            let leak = [&["+time=1"], &question[..]].concat();
            let leak = dig(&home.net.provider, "192.168.64.1", &leak).await;
            if let Ok(found) = leak {
                ensure!(
                    found.answer.is_empty() && !found.has("ra"),
                    "the WAN is told {found}"
                );
            }
        }
        Ok(())
    })
    .await
}

/// Port and datagram of each port control protocol.
fn questions() -> Vec<(u16, Vec<u8>)> {
    let search = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n\
                  MX: 1\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";
    let mut announce = vec![0; 24];
    if let Some(version) = announce.first_mut() {
        *version = 2;
    }
    vec![
        (1900, search.as_bytes().to_vec()),
        (5351, vec![0, 0]),
        (5351, announce),
    ]
}

/// Sends a datagram three times and returns what comes back, if anything does.
async fn heard(
    node: &Node,
    to: SocketAddr,
    question: &[u8],
    patience: Duration,
) -> Result<Option<Vec<u8>>> {
    let question = question.to_vec();
    let ask = async move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await?;
        let mut buf = [0; 2048];
        for _ in 0..3 {
            // An ICMP error is no answer of a protocol.
            let _sent = socket.send_to(&question, to).await;
            if let Ok(Ok(len)) = timeout(patience, socket.recv(&mut buf)).await {
                return Ok(Some(buf.get(..len).unwrap_or_default().to_vec()));
            }
        }
        Ok(None)
    };
    node.run(ask).await
}

/// Whether somebody takes a connection and says anything.
async fn takes_connections(node: &Node, to: SocketAddr, patience: Duration) -> Result<bool> {
    let knock = async move || {
        let speak = async {
            let mut stream = TcpStream::connect(to).await?;
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: 192.168.64.1\r\n\r\n")
                .await?;
            stream.read_u8().await
        };
        Ok(timeout(patience, speak)
            .await
            .is_ok_and(|spoken| spoken.is_ok()))
    };
    node.run(knock).await
}

/// A provider that speaks IPv4 too, and whose neighbour tries the LAN's addresses: the kernel
/// answers his ping, so that a silence is Portico's.
async fn give_the_wan_ipv4(home: &Home) -> Result<()> {
    let (gateway, provider) = (&home.net.gateway, &home.net.provider);
    gateway
        .add_address(addressing::WAN, &format!("{WAN_V4}/24"))
        .await?;
    provider.add_address("home0", "203.0.113.1/24").await?;
    provider
        .add_route(addressing::SUBNET, &WAN_V4.to_string(), None)
        .await?;
    let ping = program(provider, "ping")?.args(["-n", "-c", "1", "-W", "30"]);
    say(ping.arg(addressing::GATEWAY.to_string()))
        .await?
        .ok()
        .map(drop)
}

fn open(seen: &std::collections::BTreeMap<String, String>) -> Vec<&str> {
    let open = seen.iter().filter(|(_, state)| *state == "open");
    open.map(|(port, _)| port.as_str()).collect()
}

const fn at(to: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(to.ip(), port)
}

async fn is_deaf(node: Node, to: SocketAddr, question: Vec<u8>) -> Result<()> {
    match heard(&node, to, &question, SILENCE).await? {
        None => Ok(()),
        Some(answer) => bail!("{to} answers {} on the WAN: {answer:?}", node.name()),
    }
}

async fn is_closed(node: Node, to: SocketAddr) -> Result<()> {
    let open = takes_connections(&node, to, SILENCE).await?;
    ensure!(
        !open,
        "{to} takes connections of {} on the WAN",
        node.name()
    );
    Ok(())
}

const WAN_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

const SILENCE: Duration = Duration::from_millis(400);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
