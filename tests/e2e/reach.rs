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
        ping(remote, webcam.external(home), &SHORT)
            .await?
            .ended(1)?;

        webcam.open("tcp", 80).await?;

        ping(remote, webcam.external(home), &LONG).await?.ended(0)?;
        ping(remote, copier.external(home), &SHORT)
            .await?
            .ended(1)?;
        let big = [&LONG[..], &["-s", "1400"]].concat();
        ping(remote, webcam.external(home), &big).await?.ended(0)?;
        webcam.natpmpc("tcp", 80, 0).await?.ok()?;
        ping(remote, webcam.external(home), &SHORT)
            .await?
            .ended(1)?;
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
            let (remote, external) = (&home.net.remote, webcam.external(home));
            let mut answering = nmap(remote, external, how, "1-1024,8080-8081", QUICKLY).await?;
            answering.extend(nmap(remote, external, how, "8080", PATIENTLY).await?);
            answering.retain(|_, state| state != "filtered");
            let open = [("8080/tcp".to_owned(), "open".to_owned())];
            ensure!(
                answering == BTreeMap::from(open),
                "nmap {how} sees {answering:?}"
            );
        }
        Ok(())
    })
    .await
}

/// Scans `ports` and returns what it says of each, as far as it says so.
///
/// # Errors
/// When nmap does not run.
pub async fn nmap(
    node: &Node,
    to: Ipv6Addr,
    how: &str,
    ports: &str,
    waits: &[&str],
) -> Result<BTreeMap<String, String>> {
    let nmap = program(node, "nmap")?
        .args(["-6", "-Pn", "-n", how, "-p", ports, "-oG", "-", "-v"])
        .args(waits)
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

async fn ping(node: &Node, to: Ipv6Addr, how: &[&str]) -> Result<crate::program::Said> {
    let ping = program(node, "ping")?.args(["-6", "-n", "-c", "1"]);
    say(ping.args(how).arg(to.to_string())).await
}

/// How long a silence is to count, and how long an answer may take.
const SHORT: [&str; 2] = ["-W", "1"];
const LONG: [&str; 2] = ["-W", "30"];

/// For many ports, of which none answers, or some that are looked at [`PATIENTLY`] as well.
pub const QUICKLY: &[&str] = &[
    "--max-retries",
    "2",
    "--min-rate",
    "500",
    "--max-rtt-timeout",
    "300ms",
];

/// For ports that answer, however busy the machine is.
pub const PATIENTLY: &[&str] = &[
    "--max-retries",
    "5",
    "--initial-rtt-timeout",
    "5s",
    "--min-rtt-timeout",
    "5s",
    "--max-rtt-timeout",
    "10s",
];
