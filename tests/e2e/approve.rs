//! Ports that a person decides about, asked for by natpmpc and upnpc.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Home, remote};
use serde_json::Value;

use crate::dhcp::items;
use crate::program::{Said, portico, program, say};
use crate::server::Server;
use crate::stage::{home, play, until};

#[tokio::test]
async fn port_that_waits_opens_when_a_person_approves_and_the_client_adopts_it() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(22, "page").await?;
        let asked = webcam.natpmpc("tcp", 22, 3600).await?;
        ensure!(asked.code != Some(0), "port 22 opens by itself: {asked}");
        ensure!(knock(home, &webcam, 22, MOMENT).await? == remote::Port::Silent);
        let id = waiting(home).await?;
        cli(home, &["status"]).await?.says(&format!(
            "1 request waits for you:  portico map approve {id}"
        ))?;

        let said = cli(home, &["map", "approve", &id]).await?.ok()?;

        ensure!(said.contains("tcp/22") && said.contains("open"), "{said}");
        home.fetch(webcam.external(home), 22, "webcam", "/").await?;
        let adopted = webcam.open("tcp", 22).await?;
        let open = items(home, "mappings").await?;
        ensure!(open.len() == 1, "{open:?} after {adopted}");
        ensure!(open[0]["id"].as_u64() == id.parse().ok(), "{open:?}");
        ensure!(open[0]["requester"] == "nat-pmp", "{open:?}");
        // the decision and the port outlive the daemon
        home.daemon.kill().await?;
        home.daemon.start().await?;
        home.fetch(webcam.external(home), 22, "webcam", "/").await?;
        webcam.natpmpc("tcp", 22, 0).await?.ok()?;
        webcam.open("tcp", 22).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn another_protocol_adopts_what_was_approved() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(22, "page").await?;
        let asked = upnpc(&webcam, 22).await?;
        ensure!(!asked.out.contains("is redirected"), "{asked}");
        let id = waiting(home).await?;

        cli(home, &["map", "approve", &id, "--for", "1h"])
            .await?
            .ok()?;

        home.fetch(webcam.external(home), 22, "webcam", "/").await?;
        webcam.natpmpc("tcp", 22, 7200).await?.ok()?;
        let open = items(home, "mappings").await?;
        let left = open[0]["expires_in_s"].as_u64().context("no end")?;
        ensure!(left <= 3600, "it outlives what was approved: {open:?}");
        let again = upnpc(&webcam, 22).await?;
        ensure!(again.out.contains("is redirected"), "{again}");
        ensure!(items(home, "mappings").await?.len() == 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn port_allowed_for_a_time_falls_silent() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(22, "page").await?;
        webcam.natpmpc("tcp", 22, 3600).await?;
        let id = waiting(home).await?;
        cli(home, &["map", "approve", &id, "--for", "10s"])
            .await?
            .ok()?;
        ensure!(knock(home, &webcam, 22, LONG).await? == remote::Port::Open);

        until(async || {
            let open = items(home, "mappings").await?;
            ensure!(open.is_empty(), "{open:?}");
            Ok(())
        })
        .await?;

        ensure!(knock(home, &webcam, 22, MOMENT).await? == remote::Port::Silent);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn denied_port_stays_closed_until_the_denial_is_forgotten() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(8080, "page").await?;
        webcam.open("tcp", 8080).await?;
        ensure!(knock(home, &webcam, 8080, LONG).await? == remote::Port::Open);
        let id = items(home, "mappings").await?[0]["id"].to_string();

        cli(home, &["map", "deny", &id]).await?.ok()?;

        ensure!(knock(home, &webcam, 8080, MOMENT).await? == remote::Port::Silent);
        let said = webcam.natpmpc("tcp", 8080, 3600).await?;
        ensure!(said.code != Some(0), "{said}");
        cli(home, &["map", "decisions"]).await?.says("denied")?;
        cli(home, &["map", "forget", "webcam", "tcp/8080"])
            .await?
            .ok()?;
        webcam.open("tcp", 8080).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn denied_device_loses_its_ports_at_once() -> Result<()> {
    play(home(["webcam", "disk"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let disk = Server::join(home, "disk").await?;
        let _web = webcam.python(8080, "page").await?;
        let _disk = disk.python(8080, "page").await?;
        webcam.open("tcp", 8080).await?;
        disk.open("tcp", 8080).await?;
        ensure!(knock(home, &webcam, 8080, LONG).await? == remote::Port::Open);

        cli(home, &["host", "policy", "webcam", "deny"])
            .await?
            .says("nothing")?;

        ensure!(knock(home, &webcam, 8080, MOMENT).await? == remote::Port::Silent);
        ensure!(knock(home, &disk, 8080, LONG).await? == remote::Port::Open);
        let said = webcam.natpmpc("tcp", 8080, 3600).await?;
        ensure!(said.code != Some(0), "{said}");
        cli(home, &["host", "show", "webcam"])
            .await?
            .says("nothing")?;
        cli(home, &["host", "policy", "webcam", "default"])
            .await?
            .ok()?;
        webcam.open("tcp", 8080).await?;
        Ok(())
    })
    .await
}

/// Knocks for long at a port that should be open, and for a moment at one that should be silent.
async fn knock(
    home: &Home,
    server: &Server,
    port: u16,
    patience: Duration,
) -> Result<remote::Port> {
    let to = SocketAddr::new(server.external(home).into(), port);
    home.net
        .remote
        .run(async move || Ok(remote::knock(to, patience).await))
        .await
}

/// Returns the number of the one port that waits.
async fn waiting(home: &Home) -> Result<String> {
    let listed = cli(home, &["map", "list", "--json"]).await?.ok()?;
    let listed: Value = serde_json::from_str(&listed)?;
    let listed = listed.as_array().context("no list")?;
    let waiting: Vec<_> = listed
        .iter()
        .filter(|it| it["state"] == "waiting")
        .collect();
    match waiting[..] {
        [waiting] => Ok(waiting["id"].to_string()),
        _ => bail!("{listed:?}"),
    }
}

async fn upnpc(server: &Server, port: u16) -> Result<Said> {
    let (addr, port) = (server.addr.to_string(), port.to_string());
    let upnpc = program(&server.node, "upnpc")?;
    say(upnpc.args(["-i", "-m", "eth0", "-a", &addr, &port, &port, "TCP", "7200"])).await
}

async fn cli(home: &Home, args: &[&str]) -> Result<Said> {
    say(portico(&home.net.gateway, &home.daemon.socket()).args(args)).await
}

const MOMENT: Duration = Duration::from_millis(1500);
const LONG: Duration = Duration::from_secs(30);
