//! The scripts of nmap.

use anyhow::{Result, ensure};
use lab::addressing;

use super::{Wish, is_closed, is_listed, is_reached, listen};
use crate::program::{program, say};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn nmap_reads_the_external_address_by_nat_pmp() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let said = nmap(&server, "5351", "nat-pmp-info", "").await?;
        ensure!(said.contains("5351/udp open  nat-pmp\n"), "{said}");
        ensure!(said.contains("WAN IP: 0.0.0.0\n"), "{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nmap_maps_unmaps_and_unmaps_all_by_nat_pmp() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let addr = server.addr;
        let mapport = async |args: &str| nmap(&server, "5351", "nat-pmp-mapport", args).await;
        for (wish, close) in [
            (
                Wish::tcp("nat-pmp", 8501),
                "op=unmap,protocol=tcp,pubport=8501,privport=8501",
            ),
            (Wish::udp("nat-pmp", 8502), "op=unmapall,protocol=udp"),
        ] {
            let Wish { protocol, port, .. } = wish;
            let device = listen(&server, wish).await?;
            let which = format!("protocol={protocol},pubport={port},privport={port}");
            let said = mapport(&format!("op=map,{which},lifetime=600")).await?;
            let words = format!("Successfully mapped {protocol} 0.0.0.0:{port} -> {addr}:{port}");
            ensure!(said.contains(&words), "no {words:?}: {said}");
            is_listed(home, &server, wish, port).await?;
            is_reached(home, &server, wish, port, &device).await?;

            let said = mapport(close).await?;
            // It misspells its success for all.
            ensure!(said.contains("cessfully unmapped"), "{said}");
            is_closed(home, &server, wish, port).await?;
        }
        Ok(())
    })
    .await
}

/// It fetches the description only with `override=false`: to put another address into the URL it
/// looks for the line end that it has cut off before.
#[tokio::test]
async fn nmap_reads_the_description_by_unicast() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let said = nmap(&server, "1900", "upnp-info", "upnp-info.override=false").await?;
        ensure!(said.contains("1900/udp open  upnp\n"), "{said}");
        is_described(&said)
    })
    .await
}

#[tokio::test]
async fn nmap_reads_the_description_by_multicast() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let nmap = program(&server.node, "nmap")?;
        let nmap = nmap.args([
            "-n",
            "-v",
            "-e",
            addressing::ETH,
            "--script",
            "broadcast-upnp-info",
        ]);
        is_described(&say(nmap).await?.ok()?)
    })
    .await
}

fn is_described(said: &str) -> Result<()> {
    for words in [
        "Server: Linux/0 UPnP/1.1 Portico/",
        "Location: http://192.168.64.1:",
        "Webserver: Linux/0 UPnP/1.1 Portico/",
        "Name: Portico\n",
    ] {
        ensure!(said.contains(words), "no {words:?}: {said}");
    }
    Ok(())
}

async fn nmap(server: &Server, port: &str, script: &str, args: &str) -> Result<String> {
    let nmap = program(&server.node, "nmap")?
        .args(["-n", "-v", "-Pn", "-sU", "-p", port, "--script", script])
        .args(["--script-args", args])
        .arg(addressing::GATEWAY.to_string());
    say(nmap).await?.ok()
}
