//! Clients from crates.io; `crab_nat` by PCP is in `pcp.rs`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use crab_nat::InternetProtocol;
use lab::{addressing, ports};

use super::client::{Client, crates};
use super::{Wish, is_closed, is_listed, is_reached, listen, opens_and_closes};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn natpmp_crate_maps_and_unmaps() -> Result<()> {
    opens_and_closes(
        Wish::tcp("nat-pmp", 8301),
        async |server| crates(&server.node, "natpmp"),
        &[],
        &["external 0.0.0.0\n", "mapped 8301\n"],
    )
    .await
}

#[tokio::test]
async fn rupnp_maps_as_igd1_and_unmaps() -> Result<()> {
    rupnp("1", Wish::tcp("upnp", 8302)).await
}

#[tokio::test]
async fn rupnp_maps_as_igd2_and_unmaps() -> Result<()> {
    rupnp("2", Wish::udp("upnp", 8303)).await
}

async fn rupnp(version: &str, wish: Wish) -> Result<()> {
    opens_and_closes(
        wish,
        async |server| crates(&server.node, "rupnp"),
        &[version],
        &[
            "found Portico\n",
            "external 0.0.0.0\n",
            "entry ADDR rupnp & test\n",
        ],
    )
    .await
}

#[tokio::test]
async fn portmapper_maps_and_unmaps_by_nat_pmp() -> Result<()> {
    opens_and_closes(
        Wish::udp("nat-pmp", 8304),
        async |server| crates(&server.node, "portmapper"),
        &["nat-pmp"],
        &[
            "found portmap={ UPnP: false, PMP: true, PCP: false }\n",
            "mapped 0.0.0.0:8304\n",
        ],
    )
    .await
}

#[tokio::test]
async fn portmapper_maps_and_unmaps_by_upnp() -> Result<()> {
    opens_and_closes(
        Wish::udp("upnp", 8305),
        async |server| crates(&server.node, "portmapper"),
        &["upnp"],
        &[
            "found portmap={ UPnP: true, PMP: false, PCP: false }\n",
            "mapped 0.0.0.0:",
        ],
    )
    .await
}

/// It prefers PCP, asks for an IPv4 address, is told the IPv6 address that remotes use, and
/// drops that answer: the port is open, the client knows of none, and leaves it to its lease.
#[tokio::test]
async fn portmapper_opens_a_port_by_pcp_and_waits_for_an_ipv4_address() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let wish = Wish::udp("pcp", 8306);
        let device = listen(&server, wish).await?;
        let portmapper = crates(&server.node, "portmapper")?.args(wish.args(&server));
        let mut client = Client::start(home, portmapper.args(["pcp", "nat-pmp", "upnp"])).await?;

        client.hear("no external address").await?;
        ensure!(
            client.said().contains("PMP: true, PCP: true"),
            "{}",
            client.said()
        );
        is_listed(home, &server, wish, wish.port).await?;
        is_reached(home, &server, wish, wish.port, &device).await?;

        client.close().await?;
        is_listed(home, &server, wish, wish.port).await
    })
    .await
}

#[tokio::test]
async fn crab_nat_maps_and_unmaps_by_nat_pmp() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let wish = Wish::udp("nat-pmp", 8307);
        let device = listen(&server, wish).await?;
        let open = async move || {
            ports::open_natpmp(addressing::GATEWAY, InternetProtocol::Udp, wish.port, 600).await
        };
        let mapping = server.node.run(open).await?;
        ensure!(mapping.external_port().get() == wish.port, "{mapping:?}");
        is_listed(home, &server, wish, wish.port).await?;
        is_reached(home, &server, wish, wish.port, &device).await?;

        let close = async move || {
            mapping
                .try_drop()
                .await
                .map_err(|(error, _)| anyhow!(error))
        };
        server.node.run(close).await?;
        is_closed(home, &server, wish, wish.port).await
    })
    .await
}

#[tokio::test]
async fn igd_next_maps_a_port_and_any_port_and_unmaps() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let wish = Wish::tcp("upnp", 8308);
        let device = listen(&server, wish).await?;
        let addr = server.addr;
        let search = async || ports::find_igd(Duration::from_secs(60)).await;
        let igd = Arc::new(server.node.run(search).await?);
        let here = Arc::clone(&igd);
        let open = async move || {
            let tcp = igd_next::PortMappingProtocol::TCP;
            ports::open_upnp(&here, addr, tcp, 8308, 600, "igd-next").await?;
            let local = (addr, 8308).into();
            let any = here.get_any_address(tcp, local, 600, "any").await?;
            let external = here.get_external_ip().await?;
            anyhow::Ok((any, external))
        };
        let (any, external) = server.node.run(open).await.context("igd-next")?;
        ensure!(
            external.is_unspecified() && any.ip() == external,
            "{any}, {external}"
        );
        for port in [8308, any.port()] {
            is_listed(home, &server, wish, port).await?;
            is_reached(home, &server, wish, port, &device).await?;
        }

        let close = async move || {
            for port in [8308, any.port()] {
                igd.remove_port(igd_next::PortMappingProtocol::TCP, port)
                    .await?;
            }
            Ok(())
        };
        server.node.run(close).await?;
        is_closed(home, &server, wish, any.port()).await?;
        is_closed(home, &server, wish, wish.port).await
    })
    .await
}
