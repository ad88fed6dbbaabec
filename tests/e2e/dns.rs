//! DNS against dig, nsupdate and BIND.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Home, addressing};

use crate::bind;
use crate::dig::{Found, dig};
use crate::program::{program, say};
use crate::server::Server;
use crate::stage::{home, play, until, write};

#[tokio::test]
async fn public_name_has_an_aaaa_and_no_a() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let external = webcam.external(home).to_string();

        for transport in ["+notcp", "+tcp"] {
            let aaaa = public(home, &[transport, "webcam.home.example", "AAAA"]).await?;
            ensure!(aaaa.data() == [external.as_str()], "{aaaa}");
            ensure!(aaaa.has("aa") && !aaaa.has("ra"), "{aaaa}");
            let a = public(home, &[transport, "webcam.home.example", "A"]).await?;
            is_nodata(&a)?;
        }
        let ptr = public(home, &["-x", &external]).await?;
        ensure!(ptr.data() == ["webcam.home.example."], "{ptr}");
        let private = public(home, &["-x", &webcam.addr.to_string()]).await?;
        ensure!(private.status == "REFUSED", "{private}");
        let odd_case = public(home, &["WeBcAm.Home.EXAMPLE", "AAAA"]).await?;
        ensure!(odd_case.data() == [external.as_str()], "{odd_case}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn lan_sees_the_private_a_too_and_both_ptrs() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let (addr, external) = (webcam.addr.to_string(), webcam.external(home).to_string());

        for transport in ["+notcp", "+tcp"] {
            let a = lan(&webcam, &[transport, "webcam.home.example", "A"]).await?;
            ensure!(a.data() == [addr.as_str()], "{a}");
            let aaaa = lan(&webcam, &[transport, "webcam.home.example", "AAAA"]).await?;
            ensure!(aaaa.data() == [external.as_str()], "{aaaa}");
            for addr in [&addr, &external] {
                let ptr = lan(&webcam, &[transport, "-x", addr]).await?;
                ensure!(ptr.data() == ["webcam.home.example."], "{ptr}");
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn zone_has_soa_ns_and_glue_and_says_what_it_has_not() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let wan = home.delegation().wan().to_string();

        let soa = public(home, &["home.example", "SOA"]).await?;
        ensure!(soa.answer.len() == 1 && soa.has("aa"), "{soa}");
        let ns = public(home, &["home.example", "NS"]).await?;
        ensure!(ns.data() == ["ns1.home.example."], "{ns}");
        let glue = ns
            .additional
            .iter()
            .find(|it| it.name == "ns1.home.example.");
        ensure!(
            glue.is_some_and(|it| it.kind == "AAAA" && it.data == wan),
            "{ns}"
        );
        let ns1 = public(home, &["ns1.home.example", "AAAA"]).await?;
        ensure!(ns1.data() == [wan.as_str()], "{ns1}");

        let nobody = public(home, &["nobody.home.example", "AAAA"]).await?;
        ensure!(nobody.status == "NXDOMAIN" && nobody.has("aa"), "{nobody}");
        ensure!(
            nobody.authority.iter().any(|it| it.kind == "SOA"),
            "{nobody}"
        );
        is_nodata(&public(home, &["webcam.home.example", "MX"]).await?)?;

        for transport in ["+notcp", "+tcp"] {
            let any = public(home, &[transport, "home.example", "ANY"]).await?;
            let kinds: Vec<_> = any.answer.iter().map(|it| &it.kind).collect();
            ensure!(any.status == "NOERROR" && !kinds.is_empty(), "{any}");
            ensure!(
                kinds.windows(2).all(|two| two.first() == two.last()),
                "{any}"
            );
        }
        drop(webcam);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn serial_goes_up_when_a_host_appears() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let serial = async |home: &Home| -> Result<u32> {
            let soa = public(home, &["home.example", "SOA"]).await?;
            let data = soa.data().join(" ");
            Ok(data.split(' ').nth(2).context("no serial")?.parse()?)
        };
        let before = serial(home).await?;
        Server::join(home, "webcam").await?;

        let after = serial(home).await?;

        ensure!(after > before, "{before} became {after}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn transfers_updates_and_odd_questions_are_refused() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let wan = home.delegation().wan().to_string();

        for node in [&home.net.remote, &webcam.node] {
            let server = if node.name() == "webcam" {
                "192.168.64.1"
            } else {
                &wan
            };
            let text = dig(node, server, &["home.example", "AXFR"]).await;
            let text = text.map_or_else(|error| format!("{error:#}"), |found| found.text);
            ensure!(text.contains("Transfer failed"), "{text}");
            ensure!(!text.contains("webcam.home.example."), "{text}");

            let update = format!(
                "server {server}\nzone home.example\nupdate add evil.home.example 60 AAAA \
                 2001:db8::666\nupdate delete webcam.home.example\nsend\n"
            );
            let file = write(home, "update", &update)?;
            let nsupdate = program(node, "nsupdate")?
                .args(["-t", "30", "-r", "2"])
                .arg(file);
            let said = say(nsupdate).await?;
            ensure!(said.code != Some(0), "nsupdate: {said}");
            said.says("update failed: REFUSED")?;
        }
        let evil = public(home, &["evil.home.example", "AAAA"]).await?;
        ensure!(evil.status == "NXDOMAIN", "{evil}");
        let still = public(home, &["webcam.home.example", "AAAA"]).await?;
        ensure!(still.answer.len() == 1, "{still}");

        let other = public(home, &["www.example", "A"]).await?;
        ensure!(
            other.status == "REFUSED" && other.answer.is_empty(),
            "{other}"
        );
        let chaos = public(home, &["CH", "TXT", "version.bind"]).await?;
        ensure!(
            chaos.status != "NOERROR" && chaos.answer.is_empty(),
            "{chaos}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn edns_is_spoken_to_those_who_speak_it() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let with = public(home, &["+bufsize=1232", "home.example", "SOA"]).await?;
        ensure!(with.text.contains("; EDNS: version: 0"), "{with}");
        let without = public(home, &["+noedns", "home.example", "SOA"]).await?;
        ensure!(!without.text.contains("EDNS"), "{without}");
        ensure!(without.answer.len() == 1, "{without}");
        let newer = public(home, &["+edns=1", "+noednsneg", "home.example", "SOA"]).await?;
        ensure!(newer.status == "BADVERS", "{newer}");
        let option = public(home, &["+ednsopt=65001:beef", "home.example", "SOA"]).await?;
        ensure!(
            option.status == "NOERROR" && option.answer.len() == 1,
            "{option}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn lan_is_served_other_names_by_the_providers_resolver() -> Result<()> {
    play(bind::home_of_bind(["webcam"]), async |home| {
        let _bind = bind::start(home).await?;
        let webcam = Server::join(home, "webcam").await?;

        for transport in ["+notcp", "+tcp"] {
            let www = lan(&webcam, &[transport, "www.example", "A"]).await?;
            ensure!(www.data() == ["192.0.2.80"] && www.has("ra"), "{www}");
            // nothing is synthesised
            let aaaa = lan(&webcam, &[transport, "www.example", "AAAA"]).await?;
            ensure!(aaaa.status == "NOERROR" && aaaa.answer.is_empty(), "{aaaa}");
            let nobody = lan(&webcam, &[transport, "nobody.example", "A"]).await?;
            ensure!(nobody.status == "NXDOMAIN", "{nobody}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn glue_in_the_parent_zone_follows_the_wan_address() -> Result<()> {
    play(bind::home_of_bind(["webcam"]), async |home| {
        let _bind = bind::start(home).await?;
        let webcam = Server::join(home, "webcam").await?;
        wait_glue(home, true).await?;
        bind::resolve(home, &webcam.fqdn()).await?;

        home.renumber(Duration::from_secs(30)).await?;
        wait_glue(home, false).await?;
        home.withdraw_old().await?;

        wait_glue(home, true).await?;
        let addr = bind::resolve(home, &webcam.fqdn()).await?;
        ensure!(addr == webcam.external(home), "{addr}");
        Ok(())
    })
    .await
}

/// Waits until the parent zone delegates to the present WAN address, and `only` to that.
async fn wait_glue(home: &Home, only: bool) -> Result<()> {
    let (wan, parent) = (
        home.delegation().wan().to_string(),
        addressing::PARENT.to_string(),
    );
    until(async || {
        let question = ["+norecurse", "home.example", "NS"];
        let found = dig(&home.net.remote, &parent, &question).await?;
        let ns = found.authority.iter().chain(&found.answer);
        let ns: Vec<_> = ns
            .filter(|it| it.kind == "NS")
            .map(|it| it.data.as_str())
            .collect();
        ensure!(ns == ["ns1.home.example."], "{found}");
        let glue = found
            .additional
            .iter()
            .filter(|it| it.name == "ns1.home.example.");
        let glue: Vec<_> = glue.map(|it| it.data.as_str()).collect();
        ensure!(
            glue.contains(&wan.as_str()) && (!only || glue.len() == 1),
            "{found}"
        );
        Ok(())
    })
    .await
    .with_context(|| format!("the glue does not follow to {wan}"))
}

/// Asks Portico from the remote host.
async fn public(home: &Home, question: &[&str]) -> Result<Found> {
    let wan = home.delegation().wan().to_string();
    dig(&home.net.remote, &wan, question).await
}

/// Asks Portico from a server on the LAN.
async fn lan(server: &Server, question: &[&str]) -> Result<Found> {
    dig(&server.node, &addressing::GATEWAY.to_string(), question).await
}

fn is_nodata(found: &Found) -> Result<()> {
    let soa = found.authority.iter().any(|it| it.kind == "SOA");
    ensure!(
        found.status == "NOERROR" && found.answer.is_empty() && soa,
        "{found}"
    );
    Ok(())
}
