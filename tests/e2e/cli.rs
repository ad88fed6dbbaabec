//! The command line, and how the daemon starts and ends.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Home;
use serde_json::Value;
use tokio::time::Instant;

use crate::dig::dig;
use crate::program::{Said, portico, program, say};
use crate::server::{Server, udhcpc};
use crate::stage::{act, home, play, until, write};

#[tokio::test]
async fn verbs_show_what_there_is() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(80, "page").await?;
        let external = webcam.external(home).to_string();

        let opened = cli(home, &["map", "open", "webcam", "tcp/80", "--for", "1h"])
            .await?
            .ok()?;
        ensure!(
            opened.contains("tcp/80") && opened.contains("cli"),
            "{opened}"
        );
        home.fetch(webcam.external(home), 80, "webcam", "/").await?;
        for (verb, words) in [
            (
                &["status"][..],
                &["2001:db8:64::/56", "home.example", "webcam", "tcp/80"][..],
            ),
            (&["host", "list"], &["webcam", external.as_str(), "here"]),
            (
                &["host", "show", "webcam"],
                &["webcam.home.example", "tcp/80"],
            ),
            (&["map", "list"], &["webcam", "tcp/80", "cli"]),
            (
                &["session", "list"],
                &["[2001:db8:77::2]:", external.as_str()],
            ),
            (
                &["session", "list", "--server", "webcam"],
                &["[2001:db8:77::2]:"],
            ),
            (
                &["prefix", "list"],
                &["2001:db8:64::/56", "2001:db8:64:1::/96", "in DNS"],
            ),
        ] {
            let said = cli(home, verb)
                .await?
                .ok()
                .with_context(|| format!("{verb:?}"))?;
            for word in words {
                ensure!(said.contains(word), "{verb:?} does not say {word}:\n{said}");
            }
        }

        let id = json(home, &["map", "list"]).await?[0]["id"].to_string();
        cli(home, &["map", "close", &id]).await?.ok()?;
        let left = json(home, &["map", "list"]).await?;
        ensure!(left.as_array().is_some_and(Vec::is_empty), "{left}");
        let again = cli(home, &["map", "close", &id]).await?.ended(1)?;
        again.says(&format!("mapping {id}: not found"))?;
        let nobody = cli(home, &["host", "show", "fridge"]).await?.ended(1)?;
        nobody.says("fridge: there is no such host")?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn reading_verbs_speak_json() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        webcam.open("tcp", 443).await?;

        let status = json(home, &["status"]).await?;
        ensure!(
            status["observing"] == false && status["mappings"] == 1,
            "{status}"
        );
        ensure!(status["wan"]["delegated"] == "2001:db8:64::/56", "{status}");
        let rooms = status["rooms"].as_array().context("no rooms")?;
        ensure!(rooms.len() >= 5, "{status}");
        ensure!(
            rooms.iter().all(|room| room["state"] == "serving"),
            "{status}"
        );
        let hosts = json(home, &["host", "list"]).await?;
        ensure!(hosts[0]["ipv4"] == webcam.addr.to_string(), "{hosts}");
        let host = json(home, &["host", "show", "webcam"]).await?;
        // what is left of its lease may be a second less
        for field in ["mac", "name", "fqdn", "ipv4", "ipv6", "here", "first_seen"] {
            ensure!(host[field] == hosts[0][field], "{host} is not {}", hosts[0]);
        }
        let mappings = json(home, &["map", "list"]).await?;
        ensure!(mappings[0]["external_port"] == 443, "{mappings}");
        ensure!(mappings[0]["requester"] == "nat-pmp", "{mappings}");
        ensure!(
            json(home, &["session", "list"]).await?.is_array(),
            "no list"
        );
        let prefixes = json(home, &["prefix", "list"]).await?;
        ensure!(prefixes[0]["nsp"] == "2001:db8:64:1::/96", "{prefixes}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn hosts_are_renamed_and_prefixes_are_set() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let wan = home.delegation().wan().to_string();

        cli(home, &["host", "name", "webcam", "garden"])
            .await?
            .ok()?;
        let found = dig(&home.net.remote, &wan, &["garden.home.example", "AAAA"]).await?;
        ensure!(
            found.data() == [webcam.external(home).to_string()],
            "{found}"
        );
        let gone = dig(&home.net.remote, &wan, &["webcam.home.example", "AAAA"]).await?;
        ensure!(gone.status == "NXDOMAIN", "{gone}");

        let set = ["prefix", "set", "2001:db8:65::/56", "--old-valid", "30s"];
        let said = cli(home, &set).await?.ok()?;
        ensure!(
            said.contains("2001:db8:65:1::/96") && said.contains("accepted"),
            "{said}"
        );
        let next = home.delegation().next().embed(webcam.addr).to_string();
        until(async || {
            let found = dig(&home.net.remote, &wan, &["garden.home.example", "AAAA"]).await?;
            ensure!(found.data() == [next.as_str()], "{found}");
            Ok(())
        })
        .await?;
        for wrong in ["2001:db8:65::1/56", "fd00::/56", "64:ff9b::/56", "garbage"] {
            let said = cli(home, &["prefix", "set", wrong]).await?;
            ensure!(matches!(said.code, Some(1 | 2)), "{wrong}: {said}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn wrong_configuration_is_shown_with_line_and_caret() -> Result<()> {
    act(home(["webcam"]).build().await?, async |home| {
        let wrong = write(
            home,
            "wrong.toml",
            "[dns]\nzone = \"home.example\"\nttl = \"soon\"\n",
        )?;
        let wrong = wrong.display().to_string();
        for verb in ["check", "run"] {
            let said = cli(home, &[verb, "-c", &wrong]).await?.ended(2)?;
            ensure!(said.err.contains("wrong.toml:3:"), "{said}");
            ensure!(said.err.contains("ttl = \"soon\""), "{said}");
            let pointer = said.err.lines().any(|line| {
                let mark = line.trim_start_matches(['│', '·', ' ']);
                mark.starts_with(['─', '┬', '^', '╰'])
            });
            ensure!(pointer, "no caret: {said}");
        }
        let right = home.folder().join("portico.toml").display().to_string();
        cli(home, &["check", "-c", &right])
            .await?
            .ended(0)?
            .says("lan0")?;
        let template = cli(home, &["config", "--template"]).await?.ok()?;
        let template = write(home, "template.toml", &template)?
            .display()
            .to_string();
        cli(home, &["check", "-c", &template])
            .await?
            .ended(0)?
            .says("observe")?;
        cli(home, &["check", "-c", "/no/such/file"])
            .await?
            .ended(2)?;
        cli(home, &["frobnicate"]).await?.ended(2)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn daemon_that_is_not_there_is_exit_code_three() -> Result<()> {
    act(home(["webcam"]).build().await?, async |home| {
        for verb in [
            &["status"][..],
            &["map", "list"],
            &["prefix", "set", "2001:db8:65::/56"],
        ] {
            let said = cli(home, verb).await?.ended(3)?;
            ensure!(
                said.err.contains("api.sock") && said.err.lines().count() == 1,
                "{said}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn daemon_without_roles_only_observes() -> Result<()> {
    let plan = home(["webcam"]).config("[lan]\ninterface = \"\"\n[wan]\ninterface = \"\"\n");
    play(plan, async |home| {
        let status = json(home, &["status"]).await?;
        ensure!(status["observing"] == true, "{status}");
        cli(home, &["status"]).await?.ended(0)?.says("observing")?;

        let webcam = home.resident("webcam")?.node.clone();
        let nothing = home.folder().join("no-lease");
        let dhcp = udhcpc(home, &webcam, &nothing)?.args(["-q", "-n", "-t", "3"]);
        // its script takes all addresses away
        say(dhcp).await?.ended(1)?.says("no lease")?;
        webcam.add_address("eth0", "192.168.64.9/24").await?;
        let natpmpc = program(&webcam, "natpmpc")?.args(["-g", "192.168.64.1"]);
        let natpmpc = async {
            let said = say(natpmpc).await?;
            ensure!(said.code != Some(0), "NAT-PMP is answered: {said}");
            anyhow::Ok(())
        };
        let upnpc = program(&webcam, "upnpc")?.args(["-m", "eth0", "-s"]);
        let upnpc = async { say(upnpc).await?.says("No IGD UPnP Device found") };
        let dns = async {
            let found = dig(
                &webcam,
                "192.168.64.1",
                &["+time=1", "+tries=1", "home.example", "SOA"],
            )
            .await;
            ensure!(found.is_err(), "DNS is answered: {found:?}");
            anyhow::Ok(())
        };
        tokio::try_join!(natpmpc, upnpc, dns)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn lan_that_leads_to_the_internet_is_refused() -> Result<()> {
    act(home(["webcam"]).build().await?, async |home| {
        home.net
            .gateway
            .add_route("0.0.0.0/0", "192.168.64.254", Some("lan0"))
            .await?;

        let Err(error) = home.daemon.start().await else {
            anyhow::bail!("it serves DHCP to the Internet");
        };

        let error = format!("{error:#}");
        ensure!(error.contains("exit status: 1"), "{error}");
        ensure!(error.contains("lan0 holds the default route"), "{error}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pool_that_holds_an_address_of_ours_is_refused() -> Result<()> {
    act(home(["webcam"]).build().await?, async |home| {
        let gateway = &home.net.gateway;
        gateway.add_address("lan0", "192.168.64.200/32").await?;

        let Err(error) = home.daemon.start().await else {
            anyhow::bail!("remotes would appear as the gateway");
        };

        let error = format!("{error:#}");
        ensure!(
            error.contains("192.168.64.200, which lies in the pool"),
            "{error}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sigterm_ends_the_daemon_within_seconds() -> Result<()> {
    act(home(["webcam"]).build().await?, async |home| {
        home.daemon.start().await?;
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(80, "page").await?;
        webcam.open("tcp", 80).await?;
        home.fetch(webcam.external(home), 80, "webcam", "/").await?;
        let pid = home.daemon.pid().context("no process")?;

        let start = Instant::now();
        let kill = format!("kill -TERM {pid}");
        say(program(&home.net.gateway, "sh")?.args(["-c", &kill]))
            .await?
            .ok()?;
        let ended = until(async || match home.daemon.check() {
            Ok(()) => anyhow::bail!("it still runs"),
            Err(ended) => Ok(format!("{ended:#}")),
        })
        .await?;

        ensure!(ended.contains("ended with exit status: 0"), "{ended}");
        ensure!(
            start.elapsed() < Duration::from_secs(3),
            "it took {:?}",
            start.elapsed()
        );
        let routes = program(&home.net.gateway, "ip")?.args(["-6", "route", "show"]);
        let routes = say(routes).await?.ok()?;
        ensure!(!routes.contains("portico"), "routes stay behind: {routes}");
        home.daemon.start().await?;
        home.fetch(webcam.external(home), 80, "webcam", "/").await?;
        Ok(())
    })
    .await
}

async fn cli(home: &Home, args: &[&str]) -> Result<Said> {
    say(portico(&home.net.gateway, &home.daemon.socket()).args(args)).await
}

async fn json(home: &Home, args: &[&str]) -> Result<Value> {
    let said = cli(home, &[args, &["--json"]].concat()).await?.ok()?;
    serde_json::from_str(&said).with_context(|| format!("{args:?} --json says {said}"))
}
