//! The translator alone, between a host that has IPv6 only and one that has IPv4 only.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Node, cable};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::program::{Said, program, say};
use crate::stage::until;

#[tokio::test]
async fn ipv6_only_host_reaches_ipv4_and_counters_are_printed() -> Result<()> {
    let wires = Wires::build().await?;
    let _web = wires.serve(&wires.four, 8000, "from IPv4").await?;
    let _echo = echo_udp(&wires.four, 5000).await?;
    let mut portico = wires
        .translate(&["--pref64", PREFIX, "--pool", "192.0.2.1", "--json"])
        .await?;
    let server = "64:ff9b:1::c633:6414";

    let page = fetch(&wires.six, &format!("http://[{server}]:8000/")).await?;
    ensure!(page == "from IPv4", "{page}");
    ping(&wires.six, server).await?.ok()?;
    let large = program(&wires.six, "ping")?.args(["-c", "1", "-s", "20000", "-W", "30", server]);
    say(large).await?.ok().context("in fragments")?;
    ensure!(ask_udp(&wires.six, server, 5000).await? == "hello");
    big_file(&wires).await?;

    let line: Value = serde_json::from_str(&portico.next().await?)?;
    ensure!(line["packets"]["six_to_four"].is_u64(), "{line}");
    let said = portico.stop().await?;
    let last: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
    ensure!(
        last["bytes"]["four_to_six"].as_u64() > Some(6_000_000),
        "{last}"
    );
    ensure!(last["sessions_opened"].as_u64() >= Some(4), "{last}");
    for family in ["-4", "-6"] {
        let routes = say(program(&wires.gateway, "ip")?.args([family, "route"])).await?;
        let routes = routes.ok()?;
        ensure!(
            !routes.contains("blackhole") && !routes.contains("nat64"),
            "{routes}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn static_binding_lets_ipv4_reach_an_ipv6_host() -> Result<()> {
    let wires = Wires::build().await?;
    let _web = wires.serve(&wires.six, 80, "from IPv6").await?;
    let _echo = echo_udp(&wires.six, 5353).await?;
    let mut portico = wires
        .translate(&[
            "--pref64",
            PREFIX,
            "--pool",
            "192.0.2.1",
            "--bib",
            "tcp,[2001:db8:6::2]:80,192.0.2.1:8080",
            "--bib",
            "udp,[2001:db8:6::2]:5353,192.0.2.1:53",
        ])
        .await?;

    let page = fetch(&wires.four, "http://192.0.2.1:8080/").await?;
    ensure!(page == "from IPv6", "{page}");
    ensure!(ask_udp(&wires.four, "192.0.2.1", 53).await? == "hello");
    let closed = curl(&wires.four, "http://192.0.2.1:8081/")?.args(["--max-time", "1"]);
    ensure!(say(closed).await?.code != Some(0));

    let line = portico.line_with("6to4").await?;
    ensure!(line.contains("sessions tcp 1 udp "), "{line}");
    let said = portico.stop().await?;
    ensure!(
        said.contains("from IPv6 to IPv4") && said.contains("sessions"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn maps_translate_both_ways_without_sessions() -> Result<()> {
    let wires = Wires::build().await?;
    let _four = wires.serve(&wires.four, 8000, "from IPv4").await?;
    let _six = wires.serve(&wires.six, 8000, "from IPv6").await?;
    let embedded = ["--pref64", PREFIX, "--map", "192.0.2.10=2001:db8:6::2"];
    let mapped = [
        &embedded[..],
        &["--map", "198.51.100.16/28=2001:db8:ffff::/124"],
    ]
    .concat();

    for (args, server) in [
        (&embedded[..], "64:ff9b:1::c633:6414"),
        (&mapped[..], "2001:db8:ffff::4"),
    ] {
        let mut portico = wires.translate(args).await?;
        let page = fetch(&wires.four, "http://192.0.2.10:8000/").await?;
        ensure!(page == "from IPv6", "{page}");
        let page = fetch(&wires.six, &format!("http://[{server}]:8000/")).await?;
        ensure!(page == "from IPv4", "{server}: {page}");
        ping(&wires.four, "192.0.2.10").await?.ok()?;
        ping(&wires.six, server).await?.ok()?;
        other_protocol(&wires, server).await?;
        let line = portico.line_with("6to4").await?;
        ensure!(line.contains("sessions tcp 0 udp 0 icmp 0"), "{line}");
        portico.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn traceroute_shows_which_ipv6_router_answers() -> Result<()> {
    let wires = Wires::build().await?;
    let portico = wires
        .translate(&[
            "--pref64",
            PREFIX,
            "--pool",
            "203.0.113.5",
            "--map",
            "192.0.2.10=2001:db8:6::2",
            "--quiet",
        ])
        .await?;

    let traceroute = program(&wires.four, "traceroute")?;
    let args = ["-I", "-e", "-n", "-q", "1", "-w", "30,0,0", "192.0.2.10"];
    let said = say(traceroute.args(args)).await?.ok()?;

    let hops: Vec<_> = said.lines().skip(1).collect();
    let [own, router, host] = &hops[..] else {
        bail!("{said}")
    };
    ensure!(own.contains("198.51.100.1 "), "{said}");
    // RFC 5837: the gateway as IPv6 knows it, 2001:db8:6::1
    let object = "203.0.113.5 <2/4:00020000,20010db8,00060000,00000000,00000001>";
    ensure!(router.contains(object), "{said}");
    ensure!(host.contains("192.0.2.10 "), "{said}");
    portico.stop().await?;
    Ok(())
}

#[tokio::test]
async fn open_restricts_what_is_reached_and_moves_ports() -> Result<()> {
    let wires = Wires::build().await?;
    let _web = wires.serve(&wires.four, 8000, "from IPv4").await?;
    let portico = wires
        .translate(&[
            "--pref64",
            PREFIX,
            "--pool",
            "192.0.2.0/28",
            "--open",
            "tcp,198.51.100.20:80,=8000",
            "--json",
        ])
        .await?;

    let page = fetch(&wires.six, "http://[64:ff9b:1::c633:6414]/").await?;
    ensure!(page == "from IPv4", "{page}");
    let closed = curl(&wires.six, "http://[64:ff9b:1::c633:6414]:8000/")?;
    let closed = say(closed.args(["--max-time", "1"])).await?;
    ensure!(closed.code != Some(0));
    let said = portico.stop().await?;
    let last: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
    ensure!(last["drops"]["closed"].as_u64() > Some(0), "{last}");
    Ok(())
}

#[tokio::test]
async fn pool_on_a_link_is_answered_for_by_arp() -> Result<()> {
    let wires = Wires::build().await?;
    wires
        .four
        .remove_route("0.0.0.0/0", "198.51.100.1", None)
        .await?;
    let _web = wires.serve(&wires.four, 8000, "from IPv4").await?;
    let portico = wires
        .translate(&[
            "--pref64",
            PREFIX,
            "--pool",
            "198.51.100.200",
            "--interface",
            "four0",
            "--quiet",
        ])
        .await?;

    let page = fetch(&wires.six, "http://[64:ff9b:1::c633:6414]:8000/").await?;
    ensure!(page == "from IPv4", "{page}");
    let ip = async |args: &[&str]| say(program(&wires.gateway, "ip")?.args(args)).await?.ok();
    let proxies = ip(&["neigh", "show", "proxy"]).await?;
    ensure!(proxies.contains("198.51.100.200"), "{proxies}");

    // as Ctrl-C does
    let said = portico.stop_by("-INT").await?;

    ensure!(
        !said.contains("6to4") && said.contains("dropped:"),
        "{said}"
    );
    for args in [
        &["neigh", "show", "proxy"][..],
        &["-4", "route", "list", "198.51.100.200"],
        &["-6", "route", "list", PREFIX],
    ] {
        let left = ip(args).await?;
        ensure!(left.is_empty(), "ip {args:?}: {left}");
    }
    let links = ip(&["-brief", "link"]).await?;
    ensure!(!links.contains("nat64"), "{links}");
    Ok(())
}

#[tokio::test]
async fn large_pool_on_a_link_is_answered_for_as_long_as_it_is_there() -> Result<()> {
    let wires = Wires::build().await?;
    for node in [&wires.gateway, &wires.four] {
        let (interface, addr) = if node.name() == "four" {
            ("eth0", "10.9.0.20/16")
        } else {
            ("four0", "10.9.0.1/16")
        };
        node.add_address(interface, addr).await?;
    }
    let _web = wires.serve(&wires.four, 8000, "from IPv4").await?;
    let proxy_arp = async || {
        let cat = program(&wires.gateway, "sh")?;
        let key = "cat /proc/sys/net/ipv4/conf/four0/proxy_arp";
        say(cat.args(["-c", key])).await?.ok()
    };
    ensure!(proxy_arp().await?.trim() == "0");
    let large = ["--pool", "10.9.128.0/17", "--interface", "four0"];
    let portico = wires
        .translate(&[&["--pref64", PREFIX, "--quiet"], &large[..]].concat())
        .await?;

    let page = fetch(&wires.six, "http://[64:ff9b:1::a09:14]:8000/").await?;
    ensure!(page == "from IPv4", "{page}");
    ensure!(proxy_arp().await?.trim() == "1");

    portico.stop().await?;
    ensure!(proxy_arp().await?.trim() == "0");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_is_said_and_has_an_exit_code() -> Result<()> {
    let gateway = Node::new("gateway")?;
    let far = Node::new("far")?;
    cable(gateway.end("four0"), far.end("eth0")).await?;
    gateway.add_address("four0", "198.51.100.1/24").await?;
    gateway
        .add_route("203.0.113.0/28", "198.51.100.20", Some("four0"))
        .await?;
    for (args, code, words) in [
        ("--pool 198.51.100.1", 2, "which this machine has itself"),
        ("--pref64 64:ff9b:1::/48 --pool 192.0.2.1", 2, "overlaps"),
        (
            "--pool 192.0.2.1 --bib tcp,[2001:db8::1]:80,192.0.2.2:80",
            2,
            "outside the pool",
        ),
        (
            "--pool 203.0.113.0/28",
            2,
            "203.0.113.0/28 is led to four0 already",
        ),
        ("--pool 192.0.2.1 --udp-timeout 10s", 2, "at least 120 s"),
        ("--pref64 64:ff9b::/90 --pool 192.0.2.1", 2, "32, 40, 48"),
        ("--pool 192.0.2.1 --interface none0", 1, "none0"),
        (
            "--map 127.0.0.1=2001:db8::1",
            2,
            "no host has loopback addresses",
        ),
        (
            "--pool 192.0.2.0/28 --pool 192.0.2.1",
            2,
            "192.0.2.1/32 overlaps 192.0.2.0/28",
        ),
        (
            "--pool 192.0.2.1 --device four0",
            1,
            "there is an interface four0 of another kind",
        ),
    ] {
        let args = ["--pref64", PREFIX]
            .into_iter()
            .chain(args.split_whitespace());
        let portico = portico(&gateway).args(args);
        say(portico).await?.ended(code)?.says(words)?;
    }
    Ok(())
}

#[tokio::test]
async fn forwarding_that_is_off_is_told_or_mended() -> Result<()> {
    let wires = Wires::build().await?;
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        wires.gateway.sysctl(key, "0").await?;
    }
    let args = ["--pref64", PREFIX, "--pool", "192.0.2.1"];
    let mut child = portico(&wires.gateway)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .await?;
    let mut lines = BufReader::new(child.stderr.take().context("no errors")?).lines();
    let told = timeout(PATIENCE, lines.next_line())
        .await??
        .context("it ended")?;
    ensure!(
        told.contains("sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"),
        "{told}"
    );
    child.kill().await?;

    let _web = wires.serve(&wires.four, 8000, "from IPv4").await?;
    let args = [&args[..], &["--sysctl", "--device", "nat64b"]].concat();
    let portico = wires.translate(&args).await?;
    fetch(&wires.six, "http://[64:ff9b:1::c633:6414]:8000/").await?;
    portico.stop().await?;
    Ok(())
}

#[tokio::test]
async fn terminal_that_closes_ends_it_in_order_unless_it_is_not_to_hear_of_that() -> Result<()> {
    let wires = Wires::build().await?;
    let args = ["--pref64", PREFIX, "--pool", "192.0.2.1", "--quiet"];
    let blackholes = async || {
        let ip = program(&wires.gateway, "ip")?.args(["-6", "route", "list", "type", "blackhole"]);
        say(ip).await?.ok()
    };
    let portico = wires.translate(&args).await?;
    ensure!(blackholes().await?.contains(PREFIX));
    portico.stop_by("-HUP").await?;
    ensure!(blackholes().await?.is_empty());

    let nohup = "trap '' HUP; exec \"$0\" translate \"$@\"";
    let kept = program(&wires.gateway, "sh")?
        .args(["-c", nohup, env!("CARGO_BIN_EXE_portico")])
        .args(args);
    let portico = Translating::begin(kept).await?;
    let pid = portico.child.id().context("it ended")?.to_string();
    ensure!(
        std::process::Command::new("kill")
            .args(["-HUP", &pid])
            .status()?
            .success()
    );
    let _web = wires.serve(&wires.four, 8000, "from IPv4").await?;
    let page = fetch(&wires.six, "http://[64:ff9b:1::c633:6414]:8000/").await?;
    ensure!(page == "from IPv4", "{page}");
    portico.stop().await?;
    Ok(())
}

#[tokio::test]
async fn killed_translator_lets_nothing_leak_and_starts_again() -> Result<()> {
    let wires = Wires::build().await?;
    let _web = wires.serve(&wires.four, 8000, "from IPv4").await?;
    let args = ["--pref64", PREFIX, "--pool", "192.0.2.1"];
    let mut first = wires.translate(&args).await?;
    first.child.kill().await?;

    let routes = say(program(&wires.gateway, "ip")?.args(["-6", "route"])).await?;
    let routes = routes.ok()?;
    ensure!(routes.contains("blackhole 64:ff9b:1::/96"), "{routes}");

    let second = wires.translate(&args).await?;
    let page = fetch(&wires.six, "http://[64:ff9b:1::c633:6414]:8000/").await?;
    ensure!(page == "from IPv4", "{page}");
    second.stop().await?;
    Ok(())
}

/// A host that has IPv6 only, a gateway, and a host that has IPv4 only.
struct Wires {
    six: Node,
    gateway: Node,
    four: Node,
    folder: TempDir,
}

impl Wires {
    async fn build() -> Result<Self> {
        let (six, gateway, four) = (Node::new("six")?, Node::new("gateway")?, Node::new("four")?);
        gateway.forward().await?;
        cable(six.end("eth0"), gateway.end("six0")).await?;
        cable(gateway.end("four0"), four.end("eth0")).await?;
        six.add_address("eth0", "2001:db8:6::2/64").await?;
        gateway.add_address("six0", "2001:db8:6::1/64").await?;
        gateway.add_address("four0", "198.51.100.1/24").await?;
        four.add_address("eth0", "198.51.100.20/24").await?;
        six.add_route("::/0", "2001:db8:6::1", None).await?;
        four.add_route("0.0.0.0/0", "198.51.100.1", None).await?;
        Ok(Self {
            six,
            gateway,
            four,
            folder: TempDir::new()?,
        })
    }

    /// Runs the translator on the gateway, until it translates.
    async fn translate(&self, args: &[&str]) -> Result<Translating> {
        Translating::begin(portico(&self.gateway).args(args)).await
    }

    /// Serves a page, and 6 MB of zeros as `big`, on both families.
    async fn serve(&self, node: &Node, port: u16, page: &str) -> Result<Child> {
        let www = self.folder.path().join(node.name());
        std::fs::create_dir_all(&www)?;
        std::fs::write(www.join("index.html"), page)?;
        std::fs::write(www.join("big"), vec![0; BIG])?;
        let python = program(node, "python3")?
            .args(["-m", "http.server", &port.to_string(), "--bind", "::"])
            .arg("--directory")
            .arg(&www)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .await?;
        until(async || fetch(node, &format!("http://localhost:{port}/")).await).await?;
        Ok(python)
    }
}

/// A translator that runs.
struct Translating {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Translating {
    async fn begin(command: lab::Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().await?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut translating = Self { child, lines };
        translating.next().await?;
        Ok(translating)
    }

    /// The next line that it prints.
    async fn next(&mut self) -> Result<String> {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        line.context("it prints nothing")??.context("it ended")
    }

    /// The next line but one that holds some words: what happened before is counted.
    async fn line_with(&mut self, words: &str) -> Result<String> {
        self.next().await?;
        loop {
            let line = self.next().await?;
            if line.contains(words) {
                return Ok(line);
            }
        }
    }

    /// Ends it by SIGTERM, and returns what it printed since.
    async fn stop(self) -> Result<String> {
        self.stop_by("-TERM").await
    }

    async fn stop_by(mut self, signal: &str) -> Result<String> {
        let pid = self.child.id().context("it ended")?;
        let pid = pid.to_string();
        let mut kill = std::process::Command::new("kill");
        ensure!(kill.args([signal, &pid]).status()?.success());
        let mut said = String::new();
        let mut rest = self.lines.into_inner();
        timeout(PATIENCE, rest.read_to_string(&mut said)).await??;
        let status = timeout(PATIENCE, self.child.wait()).await??;
        if !status.success() {
            bail!("{status}: {said}");
        }
        Ok(said)
    }
}

fn portico(node: &Node) -> lab::Command {
    node.command(env!("CARGO_BIN_EXE_portico")).arg("translate")
}

fn curl(node: &Node, url: &str) -> Result<lab::Command> {
    let curl = program(node, "curl")?;
    Ok(curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--globoff",
        "--noproxy",
        "*",
        url,
    ]))
}

async fn fetch(node: &Node, url: &str) -> Result<String> {
    let curl = curl(node, url)?.args(["--max-time", "60"]);
    say(curl).await?.ok()
}

async fn big_file(wires: &Wires) -> Result<()> {
    let url = "http://[64:ff9b:1::c633:6414]:8000/big";
    let got = fetch(&wires.six, url).await?;
    ensure!(got.len() == BIG && got.bytes().all(|byte| byte == 0));
    Ok(())
}

async fn ping(node: &Node, addr: &str) -> Result<Said> {
    say(program(node, "ping")?.args(["-c", "1", "-W", "30", addr])).await
}

/// Sends packets of a protocol that nobody knows, short and in fragments, and waits for both.
async fn other_protocol(wires: &Wires, server: &str) -> Result<()> {
    let listen = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)\n\
                  s.settimeout(60)\nprint('ready', flush=True)\nseen = set()\n\
                  while len(seen) < 2:\n  packet = s.recv(65536)[20:]\n  \
                  assert packet == b'x' * len(packet)\n  seen.add(len(packet))\nprint(sorted(seen))";
    let mut listener = program(&wires.four, "python3")?
        .args(["-c", listen])
        .stdout(Stdio::piped())
        .spawn()
        .await?;
    let mut lines = BufReader::new(listener.stdout.take().context("no output")?).lines();
    let mut next = async || {
        timeout(PATIENCE, lines.next_line())
            .await?
            .context("it ended")
    };
    ensure!(next().await?.as_deref() == Some("ready"));
    let send = format!(
        "import socket\ns = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 253)\n\
         for size in [100, 5000]:\n  s.sendto(b'x' * size, ('{server}', 0))"
    );
    say(program(&wires.six, "python3")?.args(["-c", &send]))
        .await?
        .ok()?;
    let seen = next().await?;
    ensure!(seen.as_deref() == Some("[100, 5000]"), "{seen:?}");
    Ok(())
}

async fn echo_udp(node: &Node, port: u16) -> Result<Child> {
    let code = format!(
        "import socket\ns = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
         s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)\n\
         s.bind(('::', {port}))\nwhile True:\n  s.sendto(*s.recvfrom(65536))"
    );
    program(node, "python3")?.args(["-c", &code]).spawn().await
}

/// Says hello and returns the answer; datagrams may be lost while the other side starts.
async fn ask_udp(node: &Node, addr: &str, port: u16) -> Result<String> {
    let code = format!(
        "import socket\nfor i in range(60):\n  \
         s = socket.socket(socket.getaddrinfo('{addr}', {port})[0][0], socket.SOCK_DGRAM)\n  \
         s.settimeout(1)\n  s.connect(('{addr}', {port}))\n  \
         try:\n    s.send(b'hello')\n    print(s.recv(100).decode(), end='')\n    break\n  \
         except OSError:\n    pass"
    );
    say(program(node, "python3")?.args(["-c", &code]))
        .await?
        .ok()
}

const PREFIX: &str = "64:ff9b:1::/96";

const BIG: usize = 6_000_000;

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
