//! Real clients: each opens a port from a machine of the home, somebody on the Internet reaches
//! it, the client closes it, and nobody reaches it any more.
//!
//! Where the WAN has no IPv4 address, Portico tells control points and NAT-PMP clients that the
//! external address is 0.0.0.0. What each then does, as the tests here assert:
//!
//! | client | by | what it does |
//! |---|---|---|
//! | upnpc (Debian 2.2) | UPnP | maps with `-i`; without it it stops: no IPv4 address that is public, so "not connected" |
//! | gupnp-igd (GNOME, libnice) | UPnP | maps; at an empty address it would give up after mapping |
//! | libtorrent | UPnP, PCP | maps TCP and UDP, unmaps when the session ends |
//! | Transmission | NAT-PMP | maps after 8 s; its UPnP half asks libminiupnpc for a public IPv4 address and stops |
//! | natpmpc | NAT-PMP | maps |
//! | aMule (libupnp) | UPnP | maps, mostly over IPv6, after subscribing to the connection's events |
//! | Syncthing | NAT-PMP, UPnP | maps by NAT-PMP, as IGD:1 and as IGD:2; never unmaps |
//! | nmap `nat-pmp-info`, `nat-pmp-mapport` | NAT-PMP | shows 0.0.0.0; maps, unmaps, unmaps all |
//! | nmap `upnp-info`, `broadcast-upnp-info` | UPnP | describes the gateway; `upnp-info` only with `override=false`, because it looks for a line end that it has cut off |
//! | crab_nat | PCP | maps and shows the IPv6 address (`pcp.rs`); by NAT-PMP it maps |
//! | igd-next | UPnP | maps, a given port and any port |
//! | portmapper (iroh) | PCP | opens the port, then drops the answer because the address is IPv6; it closes nothing and waits for ever |
//! | portmapper, NAT-PMP or UPnP alone | | maps and reports 0.0.0.0 |
//! | natpmp | NAT-PMP | maps |
//! | rupnp | UPnP | maps as IGD:1 and IGD:2 |
//! | miniupnpc (PyPI) | UPnP | maps: its `selectigd` takes what is not connected, too |
//! | async-upnp-client (Home Assistant) | UPnP | maps as IGD:2, and is notified of it |
//! | upnpclient | UPnP | maps as IGD:1 and IGD:2, after checking each argument by the service's description; lists and deletes a range; is refused a pinhole (703) |
//! | NAT-PMP (PyPI) | NAT-PMP | maps |
//! | nat-upnp | UPnP | maps |
//! | nat-upnp-rejetto (HFS) | UPnP | maps; where it is given no remote host it names one `undefined` |
//! | nat-pmp | NAT-PMP | maps |
//! | nat-api | UPnP | maps; with NAT-PMP on it crashes at any gateway's first answer, which it does not pass on to its own parser |
//! | @achingbrain/nat-port-mapper (libp2p) | UPnP | maps as IGD:2; never unmaps, because it names no protocol (601): the lease ends it |
//! | @achingbrain/nat-port-mapper | NAT-PMP | maps; it asks for milliseconds where seconds are meant, so that it gets the longest lease |

mod client;
mod crates;
mod debian;
mod nmap;
mod npm;
mod pypi;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::device::Device;
use lab::{Command, Home, remote};
use serde_json::Value;

use self::client::Client;
use crate::dhcp::items;
use crate::server::Server;
use crate::stage::{home, play, until};

/// What a client is to open, and what becomes of it.
#[derive(Debug, Clone, Copy)]
struct Wish {
    requester: &'static str,
    protocol: &'static str,
    port: u16,
    /// Whether the client gets it closed again.
    closes: bool,
}

impl Wish {
    const fn tcp(requester: &'static str, port: u16) -> Self {
        Self {
            requester,
            protocol: "tcp",
            port,
            closes: true,
        }
    }

    const fn udp(requester: &'static str, port: u16) -> Self {
        Self {
            protocol: "udp",
            ..Self::tcp(requester, port)
        }
    }

    const fn never_closed(self) -> Self {
        Self {
            closes: false,
            ..self
        }
    }

    /// As the scripts read it.
    fn args(self, server: &Server) -> [String; 3] {
        [
            server.addr.to_string(),
            self.protocol.to_owned(),
            self.port.to_string(),
        ]
    }
}

/// Lets a scripted client open a port, be reached there, and close it. It must say `words`, in
/// which `ADDR` stands for the address of its machine.
async fn opens_and_closes(
    wish: Wish,
    command: impl AsyncFnOnce(&Server) -> Result<Command>,
    extra: &[&str],
    words: &[&str],
) -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let device = listen(&server, wish).await?;
        let command = command(&server).await?.args(wish.args(&server)).args(extra);
        let mut client = Client::start(home, command).await?;
        let mapped = client.hear("mapped ").await?;
        let external = mapped.rsplit([':', ' ']).next().unwrap_or_default();
        let external = external
            .parse()
            .with_context(|| format!("mapped {mapped}"))?;

        is_listed(home, &server, wish, external).await?;
        is_reached(home, &server, wish, external, &device).await?;

        client.close().await?;
        let own = server.addr.to_string();
        let words: Vec<_> = words.iter().map(|it| it.replace("ADDR", &own)).collect();
        client.says(&words)?;
        if wish.closes {
            is_closed(home, &server, wish, external).await
        } else {
            is_listed(home, &server, wish, external).await
        }
    })
    .await
}

/// Echoes at the port, as the server that the client works for.
async fn listen(server: &Server, wish: Wish) -> Result<Arc<Device>> {
    let device = Device::new(&server.name, "");
    let ours = Arc::clone(&device);
    let serve = async move || match wish.protocol {
        "udp" => ours.echo_udp(wish.port).await,
        _ => ours.echo_tcp(wish.port).await,
    };
    server.node.run(serve).await?;
    Ok(device)
}

/// Portico lists it, for this server, as asked by this dialect.
async fn is_listed(home: &Home, server: &Server, wish: Wish, external: u16) -> Result<()> {
    let open = items(home, "mappings").await?;
    let ours = |it: &&Value| it["external_port"] == external && it["protocol"] == wish.protocol;
    let found = open.iter().find(ours);
    let found = found.with_context(|| format!("not listed: {open:?}"))?;
    ensure!(
        found["requester"] == wish.requester
            && found["server"] == server.addr.to_string()
            && found["name"] == server.name.as_str()
            && found["internal_port"] == wish.port,
        "it is listed as {found}"
    );
    Ok(())
}

/// Somebody on the Internet speaks with the server, which sees a pool address.
async fn is_reached(
    home: &Home,
    server: &Server,
    wish: Wish,
    external: u16,
    device: &Device,
) -> Result<()> {
    let to = SocketAddr::new(server.external(home).into(), external);
    let exchange = async move || match wish.protocol {
        "udp" => remote::echo_udp(to, PAYLOAD, PATIENCE).await,
        _ => remote::echo_tcp(to, PAYLOAD, PATIENCE).await,
    };
    home.net.remote.run(exchange).await?;
    let log = device.log();
    let contact = log.last().context("the device heard nothing")?;
    ensure!(
        contact.port == wish.port && contact.peer.ip() >= Ipv4Addr::new(192, 168, 64, 192),
        "the device heard {contact:?}"
    );
    Ok(())
}

/// Portico does not list it, and nobody on the Internet gets an answer.
async fn is_closed(home: &Home, server: &Server, wish: Wish, external: u16) -> Result<()> {
    let gone = async || {
        let open = items(home, "mappings").await?;
        let ours = |it: &Value| it["external_port"] == external && it["protocol"] == wish.protocol;
        ensure!(!open.iter().any(ours), "still listed: {open:?}");
        Ok(())
    };
    until(gone).await?;
    let to = SocketAddr::new(server.external(home).into(), external);
    let knock = async move || match wish.protocol {
        "udp" => Ok(match remote::echo_udp(to, PAYLOAD, SILENCE).await {
            Ok(_) => remote::Port::Open,
            Err(_) => remote::Port::Silent,
        }),
        _ => Ok(remote::knock(to, SILENCE).await),
    };
    match home.net.remote.run(knock).await? {
        remote::Port::Silent => Ok(()),
        other => bail!("{to} is {other:?}"),
    }
}

const PAYLOAD: &[u8] = b"Is anybody at home?";

/// An open port answers within it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that answers takes milliseconds; TCP has tried once in it, UDP three times.
const SILENCE: Duration = Duration::from_millis(800);
