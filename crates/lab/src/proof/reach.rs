//! Step 4: what passes, and what does not.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::Instant;

use super::{Facts, list, milliseconds};
use crate::home::{Home, NAS_ADMIN, NAS_ECHO, PATIENCE, fqdn};
use crate::remote::{self, Port};
use crate::{Node, addressing};

/// The page, the echoes and the pings that must come, and those that must not.
///
/// # Errors
/// When something comes or does not come that should not or should.
pub async fn reach(home: &mut Home) -> anyhow::Result<Facts> {
    let home: &Home = home;
    let camera = home.lookup_current("camera").await?.one_v6()?;
    let nas = home.lookup_current("nas").await?.one_v6()?;
    let pump = home.lookup_current("heat-pump").await?.one_v6()?;
    let printer = home.lookup_current("printer").await?.one_v6()?;
    let remote = &home.net.remote;

    let (page, echo, pings, closed) = tokio::try_join!(
        fetch_page(home, camera),
        echo(remote, nas),
        pings(
            remote,
            [("camera", camera), ("nas", nas), ("heat-pump", pump)],
            printer
        ),
        closed(remote, nas, printer),
    )?;
    let log = who_was_it(home).await?;
    Ok(vec![page, echo, pings, closed, log].into())
}

async fn fetch_page(home: &Home, camera: Ipv6Addr) -> anyhow::Result<String> {
    let start = Instant::now();
    let page = home.fetch(camera, 80, &fqdn("camera"), "/").await?;
    let wanted = home.resident("camera")?.device.page();
    ensure!(
        page == wanted,
        "the page is {page:?} and should be {wanted:?}"
    );
    let took = milliseconds(start.elapsed());
    let title = page
        .trim()
        .rsplit_once("<h1>")
        .map_or("", |(_, title)| title);
    let title = title.trim_end_matches("</h1>");
    Ok(format!(
        "remote: GET http://{}/ at {camera} -> \"{title}\" in {took}",
        fqdn("camera")
    ))
}

async fn echo(remote: &Node, nas: Ipv6Addr) -> anyhow::Result<String> {
    let to = SocketAddr::new(nas.into(), NAS_ECHO);
    let udp = remote
        .run(async move || remote::echo_udp(to, PAYLOAD, PATIENCE).await)
        .await?;
    let tcp = remote
        .run(async move || remote::echo_tcp(to, PAYLOAD, PATIENCE).await)
        .await?;
    let len = PAYLOAD.len();
    Ok(format!(
        "remote: {len} bytes by UDP to nas port {NAS_ECHO} -> the same {len} bytes in {}; \
         by TCP -> in {}",
        milliseconds(udp),
        milliseconds(tcp)
    ))
}

async fn pings(
    remote: &Node,
    open: [(&str, Ipv6Addr); 3],
    printer: Ipv6Addr,
) -> anyhow::Result<String> {
    let silence = remote.run(async move || remote::ping(printer, NEGATIVE).await);
    let answers = async {
        let mut answers = Vec::new();
        for (name, addr) in open {
            let rtt = remote
                .run(async move || remote::ping(addr, PATIENCE).await)
                .await?;
            let rtt = rtt.with_context(|| format!("{name} at {addr} does not answer a ping"))?;
            answers.push(format!("{name} -> {}", milliseconds(rtt)));
        }
        anyhow::Ok(answers.join(", "))
    };
    let (silence, answers) = tokio::try_join!(silence, answers)?;
    if silence.is_some() {
        bail!("the printer at {printer} answers a ping, and has no open port");
    }
    Ok(format!(
        "remote: ping {answers}; printer, which opened nothing -> no answer within {}",
        milliseconds(NEGATIVE)
    ))
}

/// Both ports have a server behind them, and nobody opened them.
async fn closed(remote: &Node, nas: Ipv6Addr, printer: Ipv6Addr) -> anyhow::Result<String> {
    let knock = |addr: Ipv6Addr, port| {
        let to = SocketAddr::new(addr.into(), port);
        remote.run(async move || Ok(remote::knock(to, NEGATIVE).await))
    };
    let (nas, printer) = tokio::try_join!(knock(nas, NAS_ADMIN), knock(printer, 80))?;
    ensure!(
        nas != Port::Open,
        "TCP {NAS_ADMIN} of the nas is open, and nobody opened it"
    );
    ensure!(
        printer != Port::Open,
        "TCP 80 of the printer is open, and nobody opened it"
    );
    Ok(format!(
        "remote: TCP {NAS_ADMIN} of the nas and TCP 80 of the printer, served but never opened -> {}",
        match (nas, printer) {
            (Port::Silent, Port::Silent) => "no answer",
            _ => "refused",
        }
    ))
}

/// The camera's log has a pool address, and the API says whose it was.
async fn who_was_it(home: &Home) -> anyhow::Result<String> {
    let camera = home.resident("camera")?;
    let contact = camera
        .device
        .wait_contact(|contact| contact.what == "/", PATIENCE)
        .await?;
    let sessions = list(&home.api(), "sessions").await?;
    let (ip, port) = (contact.peer.ip().to_string(), contact.peer.port());
    let session = sessions
        .iter()
        .find(|it| {
            it["protocol"] == "tcp" && it["pool"]["address"] == ip && it["pool"]["port"] == port
        })
        .with_context(|| format!("no session has the pool address {ip}:{port}: {sessions:?}"))?;
    let remote = &session["remote"]["address"];
    ensure!(
        *remote == addressing::REMOTE.to_string(),
        "{ip}:{port} was {remote}?"
    );
    let server = &session["server"]["address"];
    ensure!(
        *server == camera.addr()?.to_string(),
        "{ip}:{port} spoke to {server}?"
    );
    Ok(format!(
        "camera's log: {} \"GET /\"; session list: {ip}:{port} was [{}]:{}",
        contact.peer,
        addressing::REMOTE,
        session["remote"]["port"]
    ))
}

const PAYLOAD: &[u8] = b"How warm is the cellar?";

/// How long silence has to last to count.
const NEGATIVE: Duration = Duration::from_millis(1200);
