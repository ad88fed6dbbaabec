//! What somebody on the Internet can reach: against ping and nmap.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use anyhow::{Context as _, Result, ensure};
use lab::Node;

use crate::program::{program, say};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn ping_reaches_a_server_with_an_open_port_only() -> Result<()> {
    play(home(["webcam", "copier"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let copier = Server::join(home, "copier").await?;
        let remote = &home.net.remote;
        ping(remote, webcam.external(home)).await?.ended(1)?;

        webcam.open("tcp", 80).await?;

        ping(remote, webcam.external(home)).await?.ended(0)?;
        ping(remote, copier.external(home)).await?.ended(1)?;
        let big = program(remote, "ping")?.args(["-6", "-n", "-c", "1", "-W", "5", "-s", "1400"]);
        say(big.arg(webcam.external(home).to_string()))
            .await?
            .ended(0)?;
        webcam.natpmpc("tcp", 80, 0).await?.ok()?;
        ping(remote, webcam.external(home)).await?.ended(1)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nmap_sees_the_open_port_of_a_server_and_no_other() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(8080, "page").await?;
        let _other = webcam.python(8081, "page").await?;
        webcam.open("tcp", 8080).await?;

        for how in ["-sS", "-sT"] {
            let seen = nmap(
                &home.net.remote,
                webcam.external(home),
                how,
                "1-1024,8080-8081",
            )
            .await?;
            let answering: Vec<_> = seen
                .iter()
                .filter(|(_, state)| *state != "filtered")
                .collect();
            ensure!(
                answering == [(&"8080/tcp".to_owned(), &"open".to_owned())],
                "nmap {how} sees {answering:?}"
            );
        }
        Ok(())
    })
    .await
}

/// Scans `ports` and returns what it says of each that it does not find filtered.
///
/// # Errors
/// When nmap does not run.
pub async fn nmap(
    node: &Node,
    to: Ipv6Addr,
    how: &str,
    ports: &str,
) -> Result<BTreeMap<String, String>> {
    let speed = [
        "--max-retries",
        "2",
        "--min-rate",
        "500",
        "--max-rtt-timeout",
        "300ms",
    ];
    let nmap = program(node, "nmap")?
        .args(["-6", "-Pn", "-n", how, "-p", ports, "-oG", "-", "-v"])
        .args(speed)
        .arg(to.to_string());
    let said = say(nmap).await?.ok().context("nmap")?;
    let line = said.lines().find_map(|line| line.split_once("Ports: "));
    let states = line.map(|(_, states)| states.split('\t').next().unwrap_or_default());
    let states = states.unwrap_or_default().split(", ").filter_map(|state| {
        // such as 80/open/tcp//http///
        let mut words = state.trim().split('/');
        let (port, state, protocol) = (words.next()?, words.next()?, words.next()?);
        Some((format!("{port}/{protocol}"), state.to_owned()))
    });
    Ok(states.collect())
}

async fn ping(node: &Node, to: Ipv6Addr) -> Result<crate::program::Said> {
    let ping = program(node, "ping")?.args(["-6", "-n", "-c", "1", "-W", "1"]);
    say(ping.arg(to.to_string())).await
}
