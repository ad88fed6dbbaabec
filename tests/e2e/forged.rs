//! A neighbour who asks in another device's name: frames with his own MAC and the other's address.
//!
//! Who forges the MAC as well is not told apart, but noticed by switches and access points.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Home, addressing};
use mapping::Mac;
use net::packet::{Hears, PacketSocket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::dhcp::items;
use crate::server::Server;
use crate::stage::{home, play, until};
use crate::upnp::Upnpc;

#[tokio::test]
async fn t_21_datagrams_in_a_neighbours_name_change_nothing() -> Result<()> {
    play(home(["webcam", "disk"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let disk = Server::join(home, "disk").await?;
        let _web = webcam.python(8080, "This is the webcam.").await?;
        webcam.open("tcp", 8080).await?;
        let before = items(home, "mappings").await?;
        let (gateway, victim) = (lan_mac(home).await?, webcam.addr);
        let release = release(home.resident("webcam")?.mac(), victim);

        let forge = async move || {
            let socket = PacketSocket::open(addressing::ETH, Hears::Nothing)?;
            for (from, to, payload) in [
                (5000, 5351, natpmp(9090, 3600)),
                (5000, 5351, natpmp(0, 0)),
                (5000, 5351, pcp(victim, 9091)),
                (68, 67, release),
            ] {
                let from = SocketAddrV4::new(victim, from);
                let to = SocketAddrV4::new(addressing::GATEWAY, to);
                socket.send_udp(gateway, from, to, &payload).await?;
            }
            Ok(())
        };
        disk.node.run(forge).await?;

        until(async || {
            let forged = count(home, "drops_total", "forged").await?;
            let released = count(home, "drops_total", "foreign-release").await?;
            ensure!((forged, released) == (3, 1), "{forged} and {released}");
            Ok(())
        })
        .await?;
        goes_on(home, &webcam, &disk, before.len()).await
    })
    .await
}

#[tokio::test]
async fn t_21_connection_in_a_neighbours_name_opens_nothing() -> Result<()> {
    play(home(["webcam", "disk"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let disk = Server::join(home, "disk").await?;
        let _web = webcam.python(8080, "This is the webcam.").await?;
        let upnpc = Upnpc::search(&webcam).await?;
        upnpc.open(8080).await?;
        let (victim, control) = (webcam.addr, upnpc.control().await?);
        let mine = format!("{victim}/24");
        disk.node.add_address(addressing::ETH, &mine).await?;

        // he also makes the gateway believe that the address is his
        until(async || {
            announce(&disk, victim).await?;
            let (request, to) = (add_port(&control, victim, 9090), control.addr);
            let ask = async move || Ok(ask_as(victim, to, &request).await);
            let answer = disk.node.run(ask).await?;
            ensure!(answer.is_none_or(|it| it.is_empty()), "it is answered");
            let forged = count(home, "connections_total", "forged").await?;
            ensure!(forged > 0, "no connection came");
            Ok(())
        })
        .await?;

        disk.node.remove_address(addressing::ETH, &mine).await?;
        announce(&webcam, victim).await?; // RFC 5227 §2.4: it defends its address
        goes_on(home, &webcam, &disk, 1).await
    })
    .await
}

/// The victim is there with what it had, is served, and so is the other for himself.
async fn goes_on(home: &Home, webcam: &Server, disk: &Server, open: usize) -> Result<()> {
    let mappings = items(home, "mappings").await?;
    ensure!(mappings.len() == open, "{mappings:?}");
    let first = mappings.first().map(|mapping| &mapping["external_port"]);
    ensure!(first.is_some_and(|port| port == 8080), "{mappings:?}");
    let mac = home.resident(&webcam.name)?.mac().to_string();
    let hosts = items(home, "hosts").await?;
    let here = |host: &serde_json::Value| host["mac"] == mac.as_str() && host["here"] == true;
    ensure!(hosts.iter().any(here), "{hosts:?}");
    let page = home
        .fetch(webcam.external(home), 8080, &webcam.fqdn(), "/")
        .await?;
    ensure!(page == "This is the webcam.", "{page}");
    webcam.open("tcp", 8081).await?;
    disk.open("tcp", 8082).await?;
    let mappings = items(home, "mappings").await?;
    ensure!(mappings.len() == open + 2, "{mappings:?}");
    Ok(())
}

/// Where actions go.
#[derive(Debug, Clone)]
pub struct Control {
    pub addr: SocketAddr,
    pub path: String,
}

fn add_port(control: &Control, client: Ipv4Addr, port: u16) -> String {
    let urn = "urn:schemas-upnp-org:service:WANIPConnection:1";
    let body = format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
         <u:AddPortMapping xmlns:u=\"{urn}\"><NewRemoteHost/>\
         <NewExternalPort>{port}</NewExternalPort><NewProtocol>TCP</NewProtocol>\
         <NewInternalPort>{port}</NewInternalPort><NewInternalClient>{client}</NewInternalClient>\
         <NewEnabled>1</NewEnabled><NewPortMappingDescription/>\
         <NewLeaseDuration>600</NewLeaseDuration></u:AddPortMapping></s:Body></s:Envelope>"
    );
    format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/xml\r\n\
         SOAPAction: \"{urn}#AddPortMapping\"\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        control.path,
        control.addr,
        body.len()
    )
}

/// Asks from an address; `None` when there is no connection.
async fn ask_as(from: Ipv4Addr, to: SocketAddr, request: &str) -> Option<String> {
    let exchange = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from.into(), 0))?;
        let mut stream = socket.connect(to).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    timeout(PATIENCE, exchange).await.ok()?.ok()
}

/// Tells everybody on the LAN that an address is this server's (RFC 5227 §2.3).
async fn announce(server: &Server, addr: Ipv4Addr) -> Result<()> {
    let announce = async move || {
        let socket = PacketSocket::open(addressing::ETH, Hears::Nothing)?;
        let (own, addr) = (socket.mac().0, addr.octets());
        let mut frame = vec![0xff; 6];
        frame.extend(own);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(own);
        frame.extend(addr);
        frame.extend([0; 6]);
        frame.extend(addr);
        frame.resize(60, 0);
        Ok(socket.send(&frame).await?)
    };
    server.node.run(announce).await
}

/// RFC 6886 §3.3 and §3.4.
fn natpmp(port: u16, lifetime: u32) -> Vec<u8> {
    let mut bytes = vec![0, 2, 0, 0];
    bytes.extend(port.to_be_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.extend(lifetime.to_be_bytes());
    bytes
}

/// RFC 6887 §7.1 and §11.1.
fn pcp(client: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut bytes = vec![2, 1, 0, 0];
    bytes.extend(3600_u32.to_be_bytes());
    bytes.extend(client.to_ipv6_mapped().octets());
    bytes.extend([7; 12]);
    bytes.extend([6, 0, 0, 0]);
    bytes.extend(port.to_be_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; 16]);
    bytes
}

/// RFC 2131 §4.4.4.
fn release(mac: Mac, addr: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0, 7, 7, 7, 7, 0, 0, 0, 0];
    bytes.extend(addr.octets());
    bytes.extend([0; 12]);
    bytes.extend(mac.0);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99, 53, 1, 7, 54, 4]);
    bytes.extend(addressing::GATEWAY.octets());
    bytes.push(255);
    bytes.resize(300, 0);
    bytes
}

async fn lan_mac(home: &Home) -> Result<Mac> {
    let look = async || Ok(PacketSocket::open(addressing::LAN, Hears::Nothing)?.mac());
    home.net.gateway.run(look).await
}

/// What all rooms together count.
async fn count(home: &Home, name: &str, reason: &str) -> Result<u64> {
    let counters = items(home, "counters").await?;
    let wanted = counters
        .iter()
        .filter(|it| it["name"] == name && it["reason"] == reason);
    let values = wanted.map(|it| it["value"].as_u64().context("a number"));
    values.sum()
}

/// For a connection that the gateway answers to somebody else.
const PATIENCE: Duration = Duration::from_millis(500);
