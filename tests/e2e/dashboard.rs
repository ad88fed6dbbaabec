//! The API against curl: over the Unix socket, and read-only on loopback.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Home;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use crate::program::{Said, program, say};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn loopback_reads_and_changes_nothing() -> Result<()> {
    let plan = home(["webcam"]).config("[dashboard]\nlisten = [\"127.0.0.1:8464\"]\n");
    play(plan, async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let api = "http://127.0.0.1:8464/api/v1";

        let hosts = curl(home, &[&format!("{api}/hosts")]).await?.ok()?;
        let hosts: Value = serde_json::from_str(&hosts)?;
        ensure!(
            hosts["items"][0]["ipv4"] == webcam.addr.to_string(),
            "{hosts}"
        );
        let page = curl(home, &["http://127.0.0.1:8464/"]).await?.ok()?;
        ensure!(page.contains("<html"), "{page}");

        let mapping = r#"{"host":"webcam","protocol":"tcp","internal_port":80}"#;
        let json = "Content-Type: application/json";
        let mappings = format!("{api}/mappings");
        for refused in [
            &["-H", json, "-d", mapping, mappings.as_str()][..],
            &["-X", "DELETE", &format!("{mappings}/1")],
            &["-H", "Host: evil.example", &mappings],
        ] {
            let said = curl(home, refused).await?;
            ensure!(said.out.contains("403"), "{refused:?}: {said}");
        }
        let socket = home.daemon.socket().display().to_string();
        let local = ["--unix-socket", socket.as_str(), "-H", json, "-d", mapping];
        let local = [&local[..], &["http://localhost/api/v1/mappings"]].concat();
        let opened: Value = serde_json::from_str(&curl(home, &local).await?.ok()?)?;
        ensure!(opened["external_port"] == 80, "{opened}");
        let mappings: Value = serde_json::from_str(&curl(home, &[&mappings]).await?.ok()?)?;
        ensure!(mappings["items"][0]["external_port"] == 80, "{mappings}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn events_come_live() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let mut curl = program(&home.net.gateway, "curl")?
            .args(["-sSNi", "--unix-socket"])
            .arg(home.daemon.socket())
            .arg("http://localhost/api/v1/events")
            .stdout(Stdio::piped())
            .spawn()
            .await?;
        let mut lines = BufReader::new(curl.stdout.take().context("no output")?).lines();
        // from the head of the answer on nothing is missed
        let head = timeout(Duration::from_secs(60), lines.next_line()).await;
        let head = head.context("no answer")??.context("the stream ended")?;
        ensure!(head.contains(" 200 "), "{head}");

        let webcam = Server::join(home, "webcam").await?;
        webcam.open("tcp", 443).await?;
        webcam.natpmpc("tcp", 443, 0).await?.ok()?;

        let mut wanted = ["host.appeared", "mapping.opened", "mapping.closed"].into_iter();
        let mut next = wanted.next();
        let hear = async {
            while let Some(event) = next {
                let line = lines.next_line().await?.context("the stream ended")?;
                if line.strip_prefix("event:").map(str::trim) == Some(event) {
                    next = wanted.next();
                }
            }
            anyhow::Ok(())
        };
        let heard = timeout(Duration::from_secs(60), hear).await;
        heard.with_context(|| format!("{next:?} does not come"))?
    })
    .await
}

async fn curl(home: &Home, args: &[&str]) -> Result<Said> {
    let curl = program(&home.net.gateway, "curl")?;
    say(curl
        .args(["-sS", "--noproxy", "*", "--max-time", "60"])
        .args(args))
    .await
}
