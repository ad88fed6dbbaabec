//! PCP against the crate `crab_nat`: Debian has no client.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use crab_nat::pcp::{self, BaseMapRequest, DropMappingRange, Failure, Nonce};
use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig};
use lab::{Node, addressing, remote};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn crab_nat_opens_renews_and_deletes_a_port() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(8554, "This is the webcam.").await?;
        let external = webcam.external(home);

        let mapping = map(&webcam, 8554, None).await?;
        ensure!(mapping.external_port() == port(8554)?, "{mapping:?}");
        let PortMappingType::Pcp {
            external_ip, nonce, ..
        } = mapping.mapping_type()
        else {
            bail!("not PCP: {mapping:?}");
        };
        ensure!(external_ip == external, "{external_ip} is not {external}");
        let page = home.fetch(external, 8554, &webcam.fqdn(), "/").await?;
        ensure!(page == "This is the webcam.", "{page}");

        let renewed = map(&webcam, 8554, Some(nonce)).await?;
        ensure!(
            renewed.gateway_epoch() >= mapping.gateway_epoch(),
            "{renewed:?}"
        );
        delete(&webcam, 8554, nonce)
            .await?
            .context("the right nonce")?;
        let to = SocketAddr::new(external.into(), 8554);
        let knock = async move || Ok(remote::knock(to, Duration::from_millis(1200)).await);
        let after = home.net.remote.run(knock).await?;
        ensure!(after == remote::Port::Silent, "the port is {after:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn wrong_nonce_neither_renews_nor_deletes() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(8554, "This is the webcam.").await?;
        map(&webcam, 8554, Some([1, 2, 3])).await?;

        let renewal = try_map(&webcam, 8554, Some([1, 2, 4])).await?;
        let deletion = delete(&webcam, 8554, [1, 2, 4]).await?;

        is_not_authorized(renewal.map(drop))?;
        is_not_authorized(deletion)?;
        let page = home
            .fetch(webcam.external(home), 8554, &webcam.fqdn(), "/")
            .await?;
        ensure!(page == "This is the webcam.", "{page}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn new_prefix_is_announced_with_a_new_epoch() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let before = map(&webcam, 8554, None).await?;
        let addr = webcam.addr;
        let ears = webcam.node.run(async move || listen(addr).await).await?;
        let node: &Node = &webcam.node;
        let heard = node.run(async move || hear_announcement(&ears).await);

        let asked = Instant::now();
        let (heard, renumbered) = tokio::join!(heard, home.renumber(Duration::from_secs(30)));

        renumbered?;
        let (epoch, passed) = (heard?, asked.elapsed().as_secs());
        ensure!(
            u64::from(epoch) <= passed + 1,
            "the epoch is {epoch} s, {passed} s after the change"
        );
        let PortMappingType::Pcp {
            nonce, external_ip, ..
        } = before.mapping_type()
        else {
            bail!("not PCP: {before:?}");
        };
        let after = map(&webcam, 8554, Some(nonce)).await?;
        let PortMappingType::Pcp {
            external_ip: now, ..
        } = after.mapping_type()
        else {
            bail!("not PCP: {after:?}");
        };
        let wanted = webcam.external(home);
        ensure!(
            now == wanted && now != external_ip,
            "{external_ip} became {now}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn client_of_a_mapping_that_moved_is_told_so_and_after_a_restart_again() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let addr = webcam.addr;
        let client = webcam.node.run(async move || open_deaf(addr).await).await?;
        let client = Arc::new(client);
        let hear = async |external: Ipv6Addr| {
            let client = Arc::clone(&client);
            let hear = async move || hear_update(&client, external).await;
            webcam.node.run(hear).await
        };
        hear(webcam.external(home)).await.context("the answer")?;

        home.renumber(Duration::from_secs(30)).await?;
        hear(webcam.external(home)).await.context("the update")?;
        // it never asks again; whatever is under way was sent before
        home.daemon.kill().await?;
        while client.try_recv(&mut [0; 1500]).is_ok() {}
        home.daemon.start().await?;

        hear(webcam.external(home)).await.context("the next update")
    })
    .await
}

/// Sends one MAP request for TCP 8554 (RFC 6887 §11.1), and reads no answer yet.
async fn open_deaf(addr: Ipv4Addr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((addr, 0)).await?;
    let mut bytes = vec![2, 1, 0, 0];
    bytes.extend(3600_u32.to_be_bytes());
    bytes.extend(addr.to_ipv6_mapped().octets());
    bytes.extend(*b"never asks 2");
    bytes.extend([6, 0, 0, 0]);
    bytes.extend([8554_u16.to_be_bytes(), [0; 2]].concat());
    bytes.extend([0; 16]);
    socket.send_to(&bytes, (addressing::GATEWAY, 5351)).await?;
    Ok(socket)
}

/// Waits for a MAP response of success that names an external address.
async fn hear_update(client: &UdpSocket, external: Ipv6Addr) -> Result<()> {
    let hear = async {
        let mut buf = [0; 1500];
        loop {
            let (len, from) = client.recv_from(&mut buf).await?;
            let heard = buf.get(..len).unwrap_or_default();
            ensure!(heard.starts_with(&[2, 0x81, 0, 0]), "{heard:?}");
            ensure!(from == SocketAddr::new(addressing::GATEWAY.into(), 5351));
            if heard.get(44..60) == Some(&external.octets()[..]) {
                return Ok(());
            }
        }
    };
    timeout(Duration::from_secs(60), hear)
        .await
        .context("nothing names the new address")?
}

async fn map(server: &Server, number: u16, nonce: Option<Nonce>) -> Result<PortMapping> {
    let mapped = try_map(server, number, nonce).await?;
    mapped.map_err(|error| anyhow!("PCP MAP of {number}: {error}"))
}

/// Sends a MAP request.
pub async fn try_map(
    server: &Server,
    number: u16,
    nonce: Option<Nonce>,
) -> Result<Result<PortMapping, Failure>> {
    let base = request(server.addr, number)?;
    let options = PortMappingOptions {
        external_port: Some(port(number)?),
        lifetime_seconds: Some(3600),
        timeout_config: Some(PATIENT),
    };
    let ask = async move || Ok(pcp::port_mapping(base, nonce, None, options).await);
    server.node.run(ask).await
}

/// Sends a MAP request with lifetime 0.
pub async fn delete(server: &Server, number: u16, nonce: Nonce) -> Result<Result<(), Failure>> {
    let BaseMapRequest {
        gateway,
        client,
        protocol,
        internal_port,
    } = request(server.addr, number)?;
    let range = DropMappingRange::Single {
        protocol,
        internal_port,
    };
    let ask =
        async move || Ok(pcp::try_drop_mapping(gateway, client, nonce, range, Some(PATIENT)).await);
    server.node.run(ask).await
}

fn request(server: Ipv4Addr, number: u16) -> Result<BaseMapRequest> {
    let gateway = addressing::GATEWAY.into();
    Ok(BaseMapRequest::new(
        gateway,
        server.into(),
        InternetProtocol::Tcp,
        port(number)?,
    ))
}

fn is_not_authorized(answer: Result<(), Failure>) -> Result<()> {
    match answer {
        Err(Failure::NotAuthorized(_)) => Ok(()),
        other => bail!("expected NOT_AUTHORIZED, got {other:?}"),
    }
}

fn port(number: u16) -> Result<NonZeroU16> {
    NonZeroU16::new(number).context("port 0")
}

/// Where PCP clients hear announcements (RFC 6887 §14.1.1).
async fn listen(addr: Ipv4Addr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5350)).await?;
    socket.join_multicast_v4(Ipv4Addr::new(224, 0, 0, 1), addr)?;
    Ok(socket)
}

/// Waits for a PCP ANNOUNCE and returns its epoch.
async fn hear_announcement(ears: &UdpSocket) -> Result<u32> {
    let hear = async {
        let mut buf = [0; 1500];
        loop {
            let (len, from) = ears.recv_from(&mut buf).await?;
            // version 2, ANNOUNCE with the response bit, result 0, RFC 6887 §7.2
            if let Some([2, 0x80, _, 0, _, _, _, _, a, b, c, d]) = buf.get(..len.min(12)) {
                ensure!(
                    from == SocketAddr::new(addressing::GATEWAY.into(), 5351),
                    "from {from}"
                );
                return Ok(u32::from_be_bytes([*a, *b, *c, *d]));
            }
        }
    };
    timeout(Duration::from_secs(60), hear)
        .await
        .context("no PCP ANNOUNCE was heard")?
}

const PATIENT: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(500),
    max_retries: 5,
    max_retry_timeout: None,
};
