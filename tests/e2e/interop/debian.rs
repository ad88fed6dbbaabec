//! Programs and libraries of Debian; upnpc and natpmpc at their best are in `upnp.rs` and
//! `natpmp.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Home, remote};
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::client::{Client, debian_python};
use super::{PATIENCE, Wish, is_closed, is_listed, opens_and_closes};
use crate::dhcp::items;
use crate::program::{program, say};
use crate::server::Server;
use crate::stage::{home, play, until, write};

#[tokio::test]
async fn gupnp_igd_maps_and_unmaps() -> Result<()> {
    opens_and_closes(
        Wish::tcp("upnp", 8401),
        async |server| Ok(debian_python(&server.node, "debian_gupnp_igd.py")),
        &[],
        &["granted TCP 0.0.0.0 8401 for ADDR 8401 gupnp-igd\n"],
    )
    .await
}

#[tokio::test]
async fn libtorrent_maps_and_unmaps_by_upnp() -> Result<()> {
    let address = "got router external IP address 0.0.0.0\n";
    libtorrent("upnp", "upnp", 8402, "UPnP", address).await
}

/// What libtorrent calls NAT-PMP is PCP, where the gateway speaks it.
#[tokio::test]
async fn libtorrent_maps_and_unmaps_by_pcp() -> Result<()> {
    libtorrent(
        "natpmp",
        "pcp",
        8403,
        "NAT-PMP",
        "transport: PCP protocol: tcp",
    )
    .await
}

async fn libtorrent(
    switch: &str,
    requester: &'static str,
    port: u16,
    name: &str,
    words: &str,
) -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let (tcp, udp) = (Wish::tcp(requester, port), Wish::udp(requester, port));
        let libtorrent = debian_python(&server.node, "debian_libtorrent.py");
        let libtorrent = libtorrent.args(tcp.args(&server)).arg(switch);
        let mut client = Client::start(home, libtorrent).await?;
        client.hear("mapped ").await?;
        let success = |protocol| {
            let addr = server.addr;
            format!(
                "successfully mapped port using {name}. local: {addr} external port: {protocol}/{port}\n"
            )
        };
        client.says(&[success("TCP"), success("UDP"), words.to_owned()])?;
        is_listed(home, &server, tcp, port).await?;
        is_listed(home, &server, udp, port).await?;

        takes_connections(home, &server, port).await?;
        takes_utp(home, &server, port).await?;

        client.close().await?;
        is_closed(home, &server, tcp, port).await?;
        is_closed(home, &server, udp, port).await
    })
    .await
}

/// Its UPnP half asks libminiupnpc for a gateway with a public IPv4 address, finds none, and
/// stops; its NAT-PMP half asks once, looks for the answer after eight seconds, and goes on.
#[tokio::test]
async fn transmission_maps_and_unmaps_by_nat_pmp() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let wish = Wish::tcp("nat-pmp", 8404);
        std::fs::create_dir(home.folder().join("transmission"))?;
        write(home, "transmission/settings.json", TRANSMISSION)?;
        // What it logs goes to its error output.
        let transmission = program(&server.node, "sh")?
            .args([
                "-c",
                "exec transmission-daemon \"$@\" 2>&1",
                "sh",
                "-f",
                "-g",
            ])
            .arg(home.folder().join("transmission"));
        let mut client = Client::start(home, transmission).await?;

        // its halves work side by side
        client
            .hear_of_all(&[
                "Port 8404 forwarded successfully",
                "(UPnP) UPNP_GetValidIGD failed",
                "(NAT-PMP) Found public address \"0.0.0.0\"",
            ])
            .await?;
        is_listed(home, &server, wish, wish.port).await?;
        takes_connections(home, &server, wish.port).await?;

        // It sends a command only so long after the last one, and drops what comes sooner.
        tokio::time::sleep(Duration::from_secs(9)).await;
        ensure!(client.terminate().await? == Some(0), "{}", client.all());
        is_closed(home, &server, wish, wish.port).await
    })
    .await
}

/// By the portable SDK for UPnP (libupnp), here mostly over IPv6; it subscribes to the
/// connection's events before it maps anything.
#[tokio::test]
async fn amule_subscribes_maps_and_unmaps() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let wish = Wish::tcp("upnp", 8406);
        let folder = home.folder().join("amule");
        std::fs::create_dir(&folder)?;
        write(home, "amule/amule.conf", AMULE)?;
        // Into a pipe it writes whole blocks, so that the end of what it said would never come.
        let amuled = program(&server.node, "stdbuf")?
            .env("HOME", &folder)
            .args(["--output=L", "amuled", "-o", "-c"])
            .arg(&folder);
        let mut client = Client::start(home, amuled).await?;

        let words = [
            "Created Client UDP-Socket",
            "Successfully subscribed to service",
        ];
        client.hear_of_all(&words).await?;
        until(async || is_listed(home, &server, wish, wish.port).await).await?;
        takes_connections(home, &server, wish.port).await?;
        let event = |it: &Value| {
            let delivered = it["name"] == "events_total" && it["reason"] == "delivered";
            delivered && it["value"].as_u64().is_some_and(|value| value > 0)
        };
        until(async || {
            let counters = items(home, "counters").await?;
            ensure!(counters.iter().any(event), "no event: {counters:?}");
            Ok(())
        })
        .await?;

        ensure!(client.terminate().await? == Some(0), "{}", client.all());
        is_closed(home, &server, wish, wish.port).await
    })
    .await
}

/// It maps once for each service that it finds, and leaves the end to the leases. By UPnP it
/// chooses external ports at random; NAT-PMP is given what is there, if that came first.
#[tokio::test]
async fn syncthing_maps_by_nat_pmp_and_at_both_root_devices() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let mut client = syncthing_that_detects_three(home, &server).await?;
        let told = client.said().split("external TCP address 0.0.0.0:").skip(1);
        let told: Vec<u16> = told
            .map(|rest| rest.split(' ').next().unwrap_or_default().parse())
            .collect::<Result<_, _>>()?;
        ensure!(told.len() == 3, "{}", client.all());
        let open = items(home, "mappings").await?;
        for port in told {
            let ours = |it: &Value| it["external_port"] == port && it["internal_port"] == 22000;
            ensure!(open.iter().any(ours), "no {port}: {open:?}");
            takes_connections(home, &server, port).await?;
        }

        client.terminate().await?;
        let left = items(home, "mappings").await?;
        ensure!(left.len() == open.len(), "{left:?}");
        Ok(())
    })
    .await
}

/// It asks each server once at its start and listens for ten seconds; where it has missed an answer
/// it is started anew.
async fn syncthing_that_detects_three(home: &Home, server: &Server) -> Result<Client> {
    let folder = home.folder().join("syncthing");
    let mut heard = String::new();
    for _ in 0..4 {
        let syncthing = program(&server.node, "syncthing")?
            .env("HOME", &folder)
            .env("STNODEFAULTFOLDER", "1")
            .args(["serve", "--no-browser", "--home"])
            .arg(&folder);
        let mut client = Client::start(home, syncthing).await?;
        client.hear_of("TCP listener").await?;
        client.hear_of("Detected ").await?;
        if client.said().contains("Detected 3 NAT services") {
            return Ok(client);
        }
        heard.push_str(client.said());
        client.terminate().await?;
    }
    anyhow::bail!("one of NAT-PMP, IGD:1 and IGD:2 is never found: {heard}")
}

/// Without `-i` upnpc wants a public IPv4 address; nothing is opened.
#[tokio::test]
async fn upnpc_without_its_option_i_stops() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let upnpc = program(&server.node, "upnpc")?.args(["-m", "eth0", "-r", "8405", "TCP"]);
        say(upnpc).await?.says("Found a (not connected?) IGD")?;
        let open = items(home, "mappings").await?;
        ensure!(open.is_empty(), "{open:?}");
        Ok(())
    })
    .await
}

/// The client itself listens.
async fn takes_connections(home: &Home, server: &Server, port: u16) -> Result<()> {
    let to = SocketAddr::new(server.external(home).into(), port);
    let knock = async move || Ok(remote::knock(to, PATIENCE).await);
    let found = home.net.remote.run(knock).await?;
    ensure!(found == remote::Port::Open, "{to} is {found:?}");
    Ok(())
}

/// The client itself answers the first packet of a uTP connection (BEP 29), by UDP.
async fn takes_utp(home: &Home, server: &Server, port: u16) -> Result<()> {
    let to = SocketAddr::new(server.external(home).into(), port);
    let connect = async move || {
        let socket = UdpSocket::bind("[::]:0").await?;
        socket.connect(to).await?;
        let id = [0x12, 0x34];
        // ST_SYN of version 1, no extension, the id; times, window; sequence number 1
        let syn = [&[0x41, 0][..], &id, &[0; 8], &[0, 1, 0, 0], &[0, 1, 0, 0]].concat();
        let mut answer = [0; 100];
        for _ in 0..60 {
            socket.send(&syn).await?;
            let received = timeout(Duration::from_millis(500), socket.recv(&mut answer));
            if let Ok(Ok(len @ 20..)) = received.await {
                return Ok(answer.get(..len).unwrap_or_default().to_vec());
            }
        }
        anyhow::bail!("{to} does not answer")
    };
    let answer = home.net.remote.run(connect).await.context("uTP")?;
    // Any packet of version 1 for this connection: it has nothing to share and ends it.
    let [kind, _, id @ ..] = answer.as_slice() else {
        anyhow::bail!("no answer: {answer:x?}");
    };
    ensure!(
        kind & 0x0f == 1 && id.starts_with(&[0x12, 0x34]),
        "{answer:x?}"
    );
    Ok(())
}

const TRANSMISSION: &str = r#"{
    "dht-enabled": false,
    "lpd-enabled": false,
    "message-level": 3,
    "peer-port": 8404,
    "pex-enabled": false,
    "port-forwarding-enabled": true,
    "rpc-enabled": false,
    "utp-enabled": false
}"#;

const AMULE: &str = "[eMule]
Port=8406
UDPPort=8410
UPnPEnabled=1
ConnectToKad=0
ConnectToED2K=0
Autoconnect=0
[ExternalConnect]
AcceptExternalConnections=1
ECPassword=5d41402abc4b2a76b9719d911017c592
UPnPECEnabled=0
";
