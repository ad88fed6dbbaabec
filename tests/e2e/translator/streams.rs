//! Much data, as people measure and copy it.

use anyhow::{Context as _, Result, ensure};
use lab::Home;
use serde_json::Value;

use super::with_offloads_and_without;
use crate::bulk::Files;
use crate::program::{program, say};
use crate::server::Server;
use crate::stage::{home, play, until};

#[tokio::test]
async fn iperf3_measures_tcp_and_udp_both_ways() -> Result<()> {
    play(home(["disk"]), async |home| {
        let nas = Server::join(home, "disk").await?;
        let server = program(&nas.node, "iperf3")?.args(["-s", "-p", IPERF]);
        let _server = server.stdout(std::process::Stdio::null()).spawn().await?;
        nas.wait_listening(IPERF.parse()?).await?;
        for protocol in ["tcp", "udp"] {
            nas.open(protocol, IPERF.parse()?).await?;
        }

        let measure = async || {
            for (how, streams) in [(&[][..], 1), (&["-R"], 1), (&["-P", "4"], 4)] {
                let sum = iperf3(home, &nas, &[how, &["-n", "64M", "-w", "200K"]].concat()).await?;
                let received = sum["sum_received"]["bytes"].as_u64();
                let wanted = TCP_BYTES - streams * UNDER_WAY;
                ensure!(received >= Some(wanted), "TCP {how:?}: {sum}");
            }
            for how in [&[][..], &["-R"]] {
                // the receiver may come a second late before its buffer is full
                let udp = ["-u", "-b", "2M", "-l", "1200", "-n", "600K", "-w", "400K"];
                let sum = iperf3(home, &nas, &[how, &udp].concat()).await?;
                let sum = &sum["sum"];
                ensure!(sum["lost_packets"] == 0, "UDP {how:?}: {sum}");
                ensure!(sum["packets"].as_u64() >= Some(500), "UDP {how:?}: {sum}");
            }
            Ok(())
        };
        with_offloads_and_without(home, &nas.node, measure).await
    })
    .await
}

/// The other way is that of `bulk`, with less: most of the time goes into the sums.
#[tokio::test]
async fn curl_of_a_gigabyte_keeps_every_byte() -> Result<()> {
    play(home(["disk"]), async |home| {
        let nas = Server::join(home, "disk").await?;
        let files = Files::serve(home, &nas, GIGABYTE).await?;
        let copy = async || files.there(&home.net.remote).await;
        with_offloads_and_without(home, &nas.node, copy).await
    })
    .await
}

/// What iperf3 says at the end.
async fn iperf3(home: &Home, server: &Server, how: &[&str]) -> Result<Value> {
    // the server may still be at the end of the last one
    let said = until(async || {
        let iperf3 = program(&home.net.remote, "iperf3")?
            .args(["-6", "--json", "-p", IPERF, "-c"])
            .arg(server.external(home).to_string())
            .args(how);
        let said = say(iperf3).await?;
        ensure!(!said.out.contains("the server is busy"), "{said}");
        Ok(said)
    });
    let said = said.await?.ok();
    let said = said.with_context(|| format!("iperf3 {how:?}"))?;
    let said: Value = serde_json::from_str(&said)?;
    let error = said.get("error").map(Value::to_string);
    ensure!(error.is_none(), "iperf3 {how:?}: {error:?}");
    said.get("end").cloned().context("iperf3 does not end")
}

const IPERF: &str = "5201";

const TCP_BYTES: u64 = 64 << 20;

/// iperf3 leaves unread what is under way when its sender has sent all: for each stream at most
/// what the buffers of both ends hold, which Linux makes twice as large as asked for.
const UNDER_WAY: u64 = 1 << 20;

const GIGABYTE: usize = 1 << 30;
