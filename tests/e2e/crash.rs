//! The daemon dies in the middle of work.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::remote;

use crate::dhcp::items;
use crate::pcp;
use crate::program::{program, say};
use crate::reach::{PATIENTLY, QUICKLY, nmap};
use crate::server::Server;
use crate::stage::{home, play, until};

#[tokio::test]
async fn what_was_answered_outlives_sigkill_under_load() -> Result<()> {
    play(home(["a", "b", "c", "d"]), async |home| {
        let mut servers = Vec::new();
        for name in ["a", "b", "c", "d"] {
            servers.push(Server::join(home, name).await?);
        }
        let [a, b, c, d] = servers.as_slice() else {
            anyhow::bail!("four were to join");
        };
        let book = Mutex::default();
        let work = async {
            let work = tokio::join!(
                by_natpmpc(a, &book),
                by_crab_nat(b, &book),
                by_natpmpc(c, &book),
                by_crab_nat(d, &book),
            );
            [work.0, work.1, work.2, work.3]
                .into_iter()
                .collect::<Result<()>>()
        };
        let kill = async {
            until(async || {
                let answered = read(&book).len();
                ensure!(answered >= ENOUGH, "only {answered} were answered");
                Ok(())
            })
            .await?;
            home.daemon.kill().await
        };
        tokio::select! {
            worked = work => worked.context("the work ended before the daemon was killed")?,
            killed = kill => killed?,
        }
        let book = read(&book);
        home.daemon.start().await?;

        let there: BTreeSet<_> = items(home, "mappings")
            .await?
            .iter()
            .map(|it| (it["name"].to_string(), it["external_port"].to_string()))
            .collect();
        for ((name, port), fate) in &book {
            let is_there = there.contains(&(format!("{name:?}"), port.to_string()));
            let right = match fate {
                Fate::Open => is_there,
                Fate::Closed => !is_there,
                Fate::Unsure => true,
            };
            ensure!(right, "{port} of {name} was answered {fate:?}: {there:?}");
        }
        for server in [a, b, c, d] {
            forwards_what_it_should(home, server, &book).await?;
        }
        Ok(())
    })
    .await
}

/// While nobody translates, what is for a server goes nowhere: neither to the LAN nor back.
#[tokio::test]
async fn nothing_leaks_while_the_daemon_is_dead() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(80, "This is the webcam.").await?;
        webcam.open("tcp", 80).await?;
        let external = webcam.external(home);
        home.fetch(external, 80, "webcam", "/").await?;

        home.daemon.kill().await?;

        for to in [
            external.to_string(),
            "2001:db8:64:ff::1".to_owned(),
            POOL.to_owned(),
        ] {
            let route = program(&home.net.gateway, "ip")?.args(["route", "get", &to]);
            let said = say(route).await?;
            // what ip says of a blackhole, and of an unreachable route
            let nowhere = ["Invalid argument", "No route to host"];
            let said_so = nowhere.iter().any(|words| said.err.contains(words));
            ensure!(
                said_so && said.out.is_empty(),
                "{to} goes somewhere: {said}"
            );
        }
        let to = SocketAddr::new(external.into(), 80);
        let knock = async move || Ok(remote::knock(to, Duration::from_secs(1)).await);
        let knocked = home.net.remote.run(knock).await?;
        ensure!(knocked != remote::Port::Open, "the port is open");
        home.daemon.start().await?;
        let page = home.fetch(external, 80, "webcam", "/").await?;
        ensure!(page == "This is the webcam.", "{page}");
        Ok(())
    })
    .await
}

/// What a client was answered about a port of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Closed,
    /// It asked, and has no answer.
    Unsure,
}

type Book = BTreeMap<(String, u16), Fate>;

async fn by_natpmpc(server: &Server, book: &Mutex<Book>) -> Result<()> {
    for port in PORTS {
        note(book, server, port, Fate::Unsure);
        server.open("tcp", port).await?;
        note(book, server, port, Fate::Open);
        if port % 4 == 3 {
            note(book, server, port, Fate::Unsure);
            server.natpmpc("tcp", port, 0).await?.ok()?;
            note(book, server, port, Fate::Closed);
        }
    }
    Ok(())
}

async fn by_crab_nat(server: &Server, book: &Mutex<Book>) -> Result<()> {
    let nonce = [7, 7, 7];
    for port in PORTS {
        note(book, server, port, Fate::Unsure);
        pcp::try_map(server, port, Some(nonce)).await??;
        note(book, server, port, Fate::Open);
        if port % 4 == 3 {
            note(book, server, port, Fate::Unsure);
            pcp::delete(server, port, nonce).await??;
            note(book, server, port, Fate::Closed);
        }
    }
    Ok(())
}

/// Nobody listens at the ports: an open one is refused by the server, a closed one is silent.
async fn forwards_what_it_should(home: &lab::Home, server: &Server, book: &Book) -> Result<()> {
    let fates = || {
        let own = book.iter().filter(|((name, _), _)| *name == server.name);
        own.map(|((_, port), fate)| (*port, *fate))
    };
    let mut seen = BTreeMap::new();
    for (waits, wanted) in [(QUICKLY, Fate::Closed), (PATIENTLY, Fate::Open)] {
        let list = fates().filter(|(_, fate)| *fate == wanted);
        let list: Vec<_> = list.map(|(port, _)| port.to_string()).collect();
        if !list.is_empty() {
            let (remote, external) = (&home.net.remote, server.external(home));
            seen.extend(nmap(remote, external, "-sS", &list.join(","), waits).await?);
        }
    }
    for (port, fate) in fates() {
        let state = seen
            .get(&format!("{port}/tcp"))
            .map_or("filtered", String::as_str);
        let right = match fate {
            Fate::Open => state == "closed",
            Fate::Closed => state == "filtered",
            Fate::Unsure => true,
        };
        ensure!(
            right,
            "{port} of {} was answered {fate:?} and is {state}",
            server.name
        );
    }
    Ok(())
}

fn note(book: &Mutex<Book>, server: &Server, port: u16, fate: Fate) {
    let key = (server.name.clone(), port);
    book.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .insert(key, fate);
}

fn read(book: &Mutex<Book>) -> Book {
    book.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone()
}

/// As many as a device may hold, and those that are closed again.
const PORTS: std::ops::Range<u16> = 2000..2040;

/// The daemon dies when so many were asked for.
const ENOUGH: usize = 60;

/// One of the addresses that the LAN knows the remotes by.
const POOL: &str = "192.168.64.200";
