//! What ping, traceroute and tracepath show.

use std::net::Ipv6Addr;

use anyhow::{Context as _, Result, ensure};
use lab::addressing::{self, ETH};
use lab::{Home, Node};

use super::{Behind, Sends, switch, switch_offloads, with_offloads_and_without};
use crate::program::{program, say};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn ping_small_and_in_fragments_is_answered() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        webcam.open("tcp", 80).await?;

        let pings = async || {
            for (size, fragments) in [("56", "dont"), ("1452", "do"), ("3000", "dont")] {
                let from = format!("from {}: ", webcam.external(home));
                // after an answer it would wait for the next no longer than that took twice
                for _ in 0..3 {
                    let ping = program(&home.net.remote, "ping")?
                        .args(["-6", "-n", "-c", "1", "-W", "30"])
                        .args(["-s", size, "-M", fragments])
                        .arg(webcam.external(home).to_string());
                    let said = say(ping).await?.ok().with_context(|| size)?;
                    ensure!(said.contains("1 received, 0% packet loss"), "{said}");
                    ensure!(said.matches(&from).count() == 1, "{said}");
                }
            }
            Ok(())
        };
        with_offloads_and_without(home, &webcam.node, pings).await
    })
    .await
}

#[tokio::test]
async fn traceroute_shows_every_hop_and_ends_at_the_server() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(8080, "page").await?;
        let _echo = super::echo(&webcam, Sends::Usually).await?;
        webcam.open("tcp", 8080).await?;
        let hops = hops(home, &webcam).map(|hop| hop.to_string());
        let echo = super::ECHO.to_string();

        let trace = async || {
            for how in [
                &["-I"][..],
                &["-T", "-p", "8080"],
                &["-U", "-p", echo.as_str()],
            ] {
                let seen = traceroute(home, &webcam, how).await?;
                ensure!(seen == hops, "traceroute {how:?}: {seen:?}, not {hops:?}");
            }
            Ok(())
        };
        with_offloads_and_without(home, &webcam.node, trace).await
    })
    .await
}

#[tokio::test]
async fn traceroute_to_closed_ports_ends_silently_at_the_gateway() -> Result<()> {
    play(home(["webcam", "copier"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let copier = Server::join(home, "copier").await?;
        webcam.open("tcp", 80).await?;

        for server in [&webcam, &copier] {
            let seen = traceroute(home, server, &["-w", "5,0,0", "-m", "6"]).await?;
            let [provider, gateway, ..] = hops(home, server).map(|hop| hop.to_string());
            let hops = [&provider, &gateway, "*", "*", "*", "*"];
            ensure!(seen == hops, "{seen:?}, not {hops:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn tracepath_finds_the_largest_packet_of_a_narrow_lan() -> Result<()> {
    play(home(["webcam"]).mtu(1400, 1500), async |home| {
        let webcam = listen_to_nothing(home).await?;
        // What IPv4 carries in 1400 bytes is 20 bytes longer in IPv6.
        let trace = async || tracepath(home, &home.net.remote, &webcam, 1420).await;
        with_offloads_and_without(home, &webcam.node, trace).await
    })
    .await
}

#[tokio::test]
async fn tracepath_finds_the_largest_packet_of_a_narrow_provider() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = listen_to_nothing(home).await?;
        let behind = Behind::link(home, 1400, 1500).await?;
        for on in [true, false] {
            switch_offloads(home, &webcam.node, on).await?;
            switch(&behind.client, ETH, on).await?;
            tracepath(home, &home.net.remote, &webcam, 1500).await?;
            tracepath(home, &behind.client, &webcam, 1400).await?;
        }
        Ok(())
    })
    .await
}

/// Opens the ports that tracepath asks, one for each hop; that nobody listens is the answer.
async fn listen_to_nothing(home: &Home) -> Result<Server> {
    let webcam = Server::join(home, "webcam").await?;
    for port in TRACEPATH..TRACEPATH + 12 {
        webcam.open("udp", port).await?;
    }
    Ok(webcam)
}

async fn tracepath(home: &Home, remote: &Node, server: &Server, mtu: u16) -> Result<()> {
    let to = server.external(home);
    let tracepath = program(remote, "tracepath")?
        .args(["-6", "-n", "-m", "10", "-p", &TRACEPATH.to_string()])
        .arg(to.to_string());
    let said = say(tracepath).await?.ok()?;
    let reached = said.lines().find(|line| line.contains("reached"));
    let reached = reached.with_context(|| format!("it is not reached: {said}"))?;
    ensure!(reached.contains(&to.to_string()), "{said}");
    ensure!(said.contains(&format!("Resume: pmtu {mtu} ")), "{said}");
    Ok(())
}

/// The way from the remote host to a server: the last router is the gateway's IPv4 side.
fn hops(home: &Home, server: &Server) -> [Ipv6Addr; 4] {
    let delegation = home.delegation();
    [
        addressing::REMOTE_ROUTER,
        delegation.wan(),
        delegation.embed(addressing::GATEWAY),
        server.external(home),
    ]
}

/// Who answers at each hop, or `*`.
async fn traceroute(home: &Home, server: &Server, how: &[&str]) -> Result<Vec<String>> {
    let traceroute = program(&home.net.remote, "traceroute")?
        .args(["-6", "-n", "-q", "1", "-w", WAIT])
        .args(how)
        .arg(server.external(home).to_string());
    let said = say(traceroute).await?.ok()?;
    let hops = said.lines().skip(1);
    let hops = hops.filter_map(|line| line.split_whitespace().nth(1));
    Ok(hops.map(str::to_owned).collect())
}

const TRACEPATH: u16 = 44_444;

/// So many seconds for every hop. By itself traceroute waits for a hop only ten times as long as
/// the next one took.
const WAIT: &str = "30,0,0";
