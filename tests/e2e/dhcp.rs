//! DHCP against udhcpc, dhclient and dhcpcd.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use lab::{Home, Node, addressing};
use serde_json::Value;

use crate::program::{program, say};
use crate::server::{Server, read_lease, set_executable, udhcpc};
use crate::stage::{home, play, until, write};

#[tokio::test]
async fn udhcpc_gets_its_macs_address_again_after_it_forgot_all() -> Result<()> {
    play(home(["webcam", "disk"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let disk = Server::join(home, "disk").await?;
        ensure!(webcam.addr != disk.addr, "both are {}", disk.addr);
        for (key, value) in [
            ("router", "192.168.64.1"),
            ("dns", "192.168.64.1"),
            ("domain", "home.example"),
            ("mask", "24"),
            ("lease", "86400"),
        ] {
            let given = webcam.lease.get(key).map(String::as_str);
            ensure!(given == Some(value), "{key} is {given:?}");
        }
        is_in_the_range_of_dhcp(webcam.addr)?;

        for server in [&webcam, &disk] {
            let again = Server::join(home, &server.name).await?;
            ensure!(
                again.addr == server.addr,
                "{} became {}",
                server.addr,
                again.addr
            );
            is_here(home, &server.name, server.addr).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn dhclient_gets_its_macs_address_again_after_it_forgot_all() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let node = home.resident("webcam")?.node.clone();
        let first = dhclient(home, &node, "first").await?;
        is_here(home, "webcam", first).await?;

        let again = dhclient(home, &node, "second").await?;
        ensure!(again == first, "{first} became {again}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn dhcpcd_gets_its_macs_address_again_after_it_forgot_all() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let node = home.resident("webcam")?.node.clone();
        let first = dhcpcd(home, &node).await?;
        is_here(home, "webcam", first).await?;

        let again = dhcpcd(home, &node).await?;
        ensure!(again == first, "{first} became {again}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn lease_survives_the_death_of_the_daemon() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let before = Server::join(home, "webcam").await?;

        home.daemon.kill().await?;
        home.daemon.start().await?;

        is_here(home, "webcam", before.addr).await?;
        let after = Server::join(home, "webcam").await?;
        ensure!(
            after.addr == before.addr,
            "{} became {}",
            before.addr,
            after.addr
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn release_closes_the_ports() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let node = home.resident("webcam")?.node.clone();
        let lease = home.folder().join("lease");
        let mut client = udhcpc(home, &node, &lease)?
            .args(["-R", "-x", "hostname:webcam"])
            .spawn()
            .await?;
        let lease = until(async || read_lease(&lease)).await?;
        let addr: Ipv4Addr = lease.get("ip").context("no address")?.parse()?;
        is_here(home, "webcam", addr).await?;
        let opened = program(&node, "natpmpc")?.args([
            "-g",
            "192.168.64.1",
            "-a",
            "80",
            "80",
            "tcp",
            "3600",
        ]);
        say(opened).await?.ok()?;
        let count = async || anyhow::Ok(items(home, "mappings").await?.len());
        ensure!(count().await? == 1, "nothing is open");

        let pid = client.id().context("udhcpc has ended")?;
        say(program(&node, "sh")?.args(["-c", &format!("kill -TERM {pid}")]))
            .await?
            .ok()?;
        ensure!(client.wait().await?.code().is_some(), "udhcpc was killed");

        until(async || {
            ensure!(count().await? == 0, "the port is still open");
            Ok(())
        })
        .await?;
        let hosts = items(home, "hosts").await?;
        ensure!(hosts.iter().all(|host| host["here"] == false), "{hosts:?}");
        Ok(())
    })
    .await
}

/// Runs dhclient with a memory of its own until it has an address.
async fn dhclient(home: &Home, node: &Node, memory: &str) -> Result<Ipv4Addr> {
    let conf = write(
        home,
        "dhclient.conf",
        "timeout 60;\ninitial-interval 1;\nbackoff-cutoff 1;\nsend host-name \"webcam\";\n",
    )?;
    let leases = home.folder().join(format!("{memory}.leases"));
    let script = write(home, "dhclient.sh", DHCLIENT_SCRIPT)?;
    set_executable(&script)?;
    let mut client = program(node, "dhclient")?
        .args(["-4", "-1", "-d", "-cf"])
        .arg(conf)
        .arg("-lf")
        .arg(&leases)
        .arg("-pf")
        .arg(home.folder().join(format!("{memory}.pid")))
        .arg("-sf")
        .arg(script)
        .arg(addressing::ETH)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .await?;
    let addr = until(async || {
        let text = std::fs::read_to_string(&leases)?;
        ensure!(
            text.contains("option host-name") || text.contains("fixed-address"),
            "{text}"
        );
        let addr = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("fixed-address "));
        let addr = addr.and_then(|addr| addr.strip_suffix(';'));
        Ok(addr.context("no lease")?.parse()?)
    })
    .await
    .context("dhclient gets no lease")?;
    client.kill().await?;
    Ok(addr)
}

/// Runs dhcpcd, whose folders are empty ones of its own, until it has an address.
async fn dhcpcd(home: &Home, node: &Node) -> Result<Ipv4Addr> {
    let conf = write(
        home,
        "dhcpcd.conf",
        "hostname webcam\nclientid\noption routers\n",
    )?;
    let script = "for dir in /run /var/lib/dhcpcd; do mount -t tmpfs none $dir || exit 1; done\n\
                  exec dhcpcd -4 -1 -B -L -A -d -t 60 -c /bin/true -f \"$0\" eth0";
    program(node, "dhcpcd")?;
    let dhcpcd = program(node, "unshare")?
        .args(["--mount", "sh", "-c", script])
        .arg(conf);
    let said = say(dhcpcd).await?;
    let what = format!("{}{}", said.out, said.err);
    let addr = what
        .lines()
        .find_map(|line| line.split_once(": leased ")?.1.split(' ').next())
        .with_context(|| format!("dhcpcd gets no lease: {said}"))?;
    Ok(addr.parse()?)
}

/// What the API lists.
pub async fn items(home: &Home, noun: &str) -> Result<Vec<Value>> {
    let page: Value = home
        .api()
        .get(&format!("/api/v1/{noun}?limit=1000"))
        .await?;
    let items = page.get("items").and_then(Value::as_array);
    Ok(items
        .with_context(|| format!("{noun} is no list: {page}"))?
        .clone())
}

async fn is_here(home: &Home, name: &str, addr: Ipv4Addr) -> Result<()> {
    is_in_the_range_of_dhcp(addr)?;
    let mac = home.resident(name)?.mac().to_string();
    let hosts = items(home, "hosts").await?;
    let host = hosts.iter().find(|host| host["mac"] == mac.as_str());
    let host = host.with_context(|| format!("{mac} is not there: {hosts:?}"))?;
    ensure!(
        host["ipv4"] == addr.to_string() && host["here"] == true && host["name"] == name,
        "{name} should be here at {addr}: {host}"
    );
    Ok(())
}

fn is_in_the_range_of_dhcp(addr: Ipv4Addr) -> Result<()> {
    let [a, b, c, last] = addr.octets();
    ensure!(
        [a, b, c] == [192, 168, 64] && (2..192).contains(&last),
        "{addr} is not one of DHCP's"
    );
    Ok(())
}

const DHCLIENT_SCRIPT: &str = r#"#!/bin/sh
case "$reason" in
PREINIT) ip link set "$interface" up ;;
BOUND) ip addr replace "$new_ip_address/24" dev "$interface" ;;
esac
exit 0
"#;
