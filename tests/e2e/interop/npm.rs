//! Clients from npm.

use anyhow::{Result, ensure};
use lab::addressing;

use super::client::{Client, npm};
use super::{Wish, opens_and_closes};
use crate::dhcp::items;
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn nat_upnp_maps_lists_and_unmaps() -> Result<()> {
    opens_and_closes(
        Wish::tcp("upnp", 8201),
        async |server| npm(&server.node, "nat-upnp.mjs"),
        &[],
        &["external 0.0.0.0\n", "entry ADDR 8201 tcp nat-upnp & co\n"],
    )
    .await
}

#[tokio::test]
async fn nat_api_maps_and_unmaps_by_upnp() -> Result<()> {
    opens_and_closes(
        Wish::udp("upnp", 8202),
        async |server| npm(&server.node, "nat-api.mjs"),
        &[],
        &["external 0.0.0.0\n"],
    )
    .await
}

/// Its NAT-PMP half cannot work at any gateway: the handler of the socket's messages drops the
/// message, and the parser reads from nothing.
#[tokio::test]
async fn nat_api_crashes_at_the_first_nat_pmp_answer() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let wish = Wish::tcp("nat-pmp", 8203);
        let nat_api = npm(&server.node, "nat-api.mjs")?.args(wish.args(&server));
        let mut client = Client::start(home, nat_api.arg("pmp")).await?;

        let said = client.hear("external").await;
        ensure!(said.is_err(), "it has learned to read: {}", client.all());
        ensure!(client.end().await? == Some(1), "{}", client.all());
        let all = client.all();
        ensure!(all.contains("reading 'readUInt8'"), "{all}");
        let open = items(home, "mappings").await?;
        ensure!(open.is_empty(), "{open:?}");
        Ok(())
    })
    .await
}

/// It asks to delete without naming a protocol, which is refused (601), and goes on as if
/// nothing were: what it opened stays until its lease ends.
#[tokio::test]
async fn nat_port_mapper_maps_by_upnp_and_cannot_unmap() -> Result<()> {
    opens_and_closes(
        Wish::tcp("upnp", 8204).never_closed(),
        async |server| npm(&server.node, "nat-port-mapper.mjs"),
        &["upnp"],
        &["external 0.0.0.0\n", "granted 0.0.0.0 8204 TCP\n"],
    )
    .await
}

#[tokio::test]
async fn nat_port_mapper_maps_and_unmaps_by_nat_pmp() -> Result<()> {
    opens_and_closes(
        Wish::udp("nat-pmp", 8205),
        async |server| npm(&server.node, "nat-port-mapper.mjs"),
        &["pmp", &addressing::GATEWAY.to_string()],
        &["external 0.0.0.0\n", "granted 0.0.0.0 8205 UDP\n"],
    )
    .await
}

#[tokio::test]
async fn nat_pmp_maps_and_unmaps() -> Result<()> {
    opens_and_closes(
        Wish::tcp("nat-pmp", 8206),
        async |server| npm(&server.node, "nat-pmp.mjs"),
        &[&addressing::GATEWAY.to_string()],
        &["external 0.0.0.0\n", "mapped 8206\n"],
    )
    .await
}

/// Where nobody names a remote host it writes `undefined`.
#[tokio::test]
async fn nat_upnp_rejetto_maps_lists_and_unmaps() -> Result<()> {
    opens_and_closes(
        Wish::udp("upnp", 8207),
        async |server| npm(&server.node, "nat-upnp-rejetto.mjs"),
        &[],
        &["external 0.0.0.0\n", "entry ADDR 8207 udp rejetto & co\n"],
    )
    .await
}
