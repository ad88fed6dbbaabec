//! NAT-PMP against natpmpc; the remote comes by name, over IPv6, through BIND and NAT64.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Home, addressing, remote};
use tokio::time::Instant;

use crate::bind;
use crate::dhcp::items;
use crate::program::{portico, program, resolving, say};
use crate::server::Server;
use crate::stage::{home, play, until};

#[tokio::test]
async fn remote_arrives_by_name_at_a_port_that_natpmpc_opened() -> Result<()> {
    play(bind::home_of_bind(["webcam"]), async |home| {
        let _bind = bind::start(home).await?;
        let webcam = Server::join(home, "webcam").await?;
        let _nginx = webcam.nginx(80, "This is the webcam.\n").await?;
        webcam.open("tcp", 80).await?;

        let addr = bind::resolve(home, &webcam.fqdn()).await?;
        let page = fetch_by_name(home, "http://webcam.home.example/").await?;

        ensure!(addr == webcam.external(home), "the name stands for {addr}");
        ensure!(page == "This is the webcam.\n", "the page is {page:?}");
        // Whose request it was: nginx knows a pool address, Portico knows the remote behind it.
        // It logs a request after it has answered.
        let log = until(async || {
            let log = webcam.access_log();
            ensure!(log.ends_with('\n'), "nginx logged {log:?}");
            Ok(log)
        })
        .await?;
        let pool = log.split(' ').next().context("nginx logged nothing")?;
        ensure!(pool.starts_with("192.168.64."), "nginx saw {log}");
        let sessions =
            say(portico(&home.net.gateway, &home.daemon.socket()).args(["session", "list"]))
                .await?
                .ok()?;
        let is_it = |line: &&str| line.contains(&format!(" {pool}:"));
        let line = sessions
            .lines()
            .find(is_it)
            .with_context(|| format!("no {pool}: {sessions}"))?;
        ensure!(
            line.contains(&format!("[{}]:", addressing::REMOTE)),
            "{line}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn udp_port_that_natpmpc_opened_echoes() -> Result<()> {
    play(home(["disk"]), async |home| {
        let disk = Server::join(home, "disk").await?;
        let _echo = disk.echo_udp(7007).await?;
        disk.open("udp", 7007).await?;

        let to = SocketAddr::new(disk.external(home).into(), 7007);
        for len in [1, 33, 1400] {
            let payload = vec![b'x'; len];
            let echo = async move || remote::echo_udp(to, &payload, Duration::from_secs(60)).await;
            home.net
                .remote
                .run(echo)
                .await
                .with_context(|| format!("{len} bytes"))?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn port_that_natpmpc_deletes_falls_silent() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(8080, "page").await?;
        webcam.open("tcp", 8080).await?;
        let to = SocketAddr::new(webcam.external(home).into(), 8080);
        let knock = async |patience: u64| {
            let patience = Duration::from_millis(patience);
            home.net
                .remote
                .run(async move || Ok(remote::knock(to, patience).await))
                .await
        };
        ensure!(
            knock(30_000).await? == remote::Port::Open,
            "the port is not open"
        );

        let said = webcam.natpmpc("tcp", 8080, 0).await?.ok()?;

        ensure!(
            said.contains("Mapped public port 0") || said.contains("liftime 0"),
            "{said}"
        );
        let after = knock(1200).await?;
        ensure!(after == remote::Port::Silent, "the port is {after:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn epoch_rises_and_outlives_the_daemon() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let first = epoch(&webcam).await?;
        let risen = until(async || {
            let now = epoch(&webcam).await?;
            ensure!(now > first, "the epoch stays {first}");
            Ok(now)
        })
        .await?;

        let told = Instant::now();
        home.daemon.kill().await?;
        home.daemon.start().await?;

        let after = epoch(&webcam).await?;
        let passed = u32::try_from(told.elapsed().as_secs())?;
        ensure!(
            (risen..=risen + passed + 2).contains(&after),
            "{risen} became {after}, {passed} s later"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ports_that_nobody_may_open_and_too_many_are_refused() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        for port in [23, 445, 5351] {
            let said = webcam.natpmpc("tcp", port, 3600).await?;
            ensure!(said.code != Some(0), "{port} is open: {said}");
        }
        for port in 1024..1056 {
            webcam.open("udp", port).await?;
        }

        let said = webcam.natpmpc("udp", 1056, 3600).await?;

        ensure!(said.code != Some(0), "a port too many: {said}");
        let open = items(home, "mappings").await?.len();
        ensure!(open == 32, "{open} ports are open");
        Ok(())
    })
    .await
}

/// A device without a lease has no name, no public address and no say.
#[tokio::test]
async fn device_without_a_lease_opens_nothing() -> Result<()> {
    play(home(["stranger"]), async |home| {
        let stranger = &home.resident("stranger")?.node;
        stranger.add_address("eth0", "192.168.64.9/24").await?;
        stranger
            .add_route("0.0.0.0/0", "192.168.64.1", None)
            .await?;

        let natpmpc = program(stranger, "natpmpc")?.args([
            "-g",
            "192.168.64.1",
            "-a",
            "80",
            "80",
            "tcp",
            "3600",
        ]);
        let natpmpc = say(natpmpc).await?;
        let upnpc = program(stranger, "upnpc")?.args([
            "-i",
            "-m",
            "eth0",
            "-a",
            "192.168.64.9",
            "80",
            "80",
            "TCP",
            "600",
        ]);
        let upnpc = say(upnpc).await?;

        ensure!(natpmpc.code != Some(0), "NAT-PMP: {natpmpc}");
        ensure!(!upnpc.out.contains("is redirected"), "UPnP: {upnpc}");
        let open = items(home, "mappings").await?;
        ensure!(open.is_empty(), "{open:?}");
        Ok(())
    })
    .await
}

/// Fetches a page from the remote host, which resolves names by the provider's resolver.
pub async fn fetch_by_name(home: &Home, url: &str) -> Result<String> {
    let resolver = addressing::RESOLVER.to_string();
    let curl = resolving(&home.net.remote, home.folder(), &resolver, "curl")?;
    let curl = curl.args(["-6", "-sS", "-f", "--noproxy", "*", "--max-time", "60", url]);
    say(curl).await?.ok().with_context(|| format!("curl {url}"))
}

async fn epoch(server: &Server) -> Result<u32> {
    let said = server.open("tcp", 80).await?;
    let epoch = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("epoch = "));
    let epoch = epoch.with_context(|| format!("natpmpc tells no epoch: {said}"))?;
    Ok(epoch.trim().parse()?)
}
