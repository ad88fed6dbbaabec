//! Step 2: each server opens its port in its own dialect.

use anyhow::ensure;
use crab_nat::{InternetProtocol, PortMapping};
use igd_next::PortMappingProtocol;
use tokio::time::Instant;

use super::{Facts, milliseconds};
use crate::home::{Home, NAS_ECHO, Opening, PATIENCE};
use crate::{addressing, ports};

/// The camera opens its page by PCP, the NAS its echo by NAT-PMP, the heat pump its page by UPnP.
///
/// # Errors
/// When the gateway refuses one.
pub async fn open(home: &mut Home) -> anyhow::Result<Facts> {
    let (camera, nas, pump) = {
        let home: &Home = home;
        tokio::try_join!(open_camera(home, 80), open_nas(home), open_heat_pump(home))?
    };
    let mut facts = Facts::default();
    for (name, (opened, fact)) in [
        ("camera", (vec![camera.0], camera.1)),
        ("nas", nas),
        ("heat-pump", (vec![pump.0], pump.1)),
    ] {
        home.resident_mut(name)?.openings.extend(opened);
        facts.add(fact);
    }
    Ok(facts)
}

/// The camera opens a TCP port by PCP MAP (crate `crab_nat`).
///
/// # Errors
/// When the gateway refuses.
pub async fn open_camera(home: &Home, port: u16) -> anyhow::Result<(Opening, String)> {
    let camera = home.resident("camera")?;
    let addr = camera.addr()?;
    let start = Instant::now();
    let ask = async move || {
        ports::open_pcp(
            addressing::GATEWAY,
            addr,
            InternetProtocol::Tcp,
            port,
            LIFETIME_S,
        )
        .await
    };
    let mapping = camera.node.run(ask).await?;
    let fact = describe("camera: PCP MAP", &mapping, start)?;
    Ok((Opening::CrabNat(mapping, start..=Instant::now()), fact))
}

/// The NAS opens its page, and its echo for TCP and UDP, by NAT-PMP (crate `crab_nat`).
///
/// # Errors
/// When the gateway refuses.
pub async fn open_nas(home: &Home) -> anyhow::Result<(Vec<Opening>, String)> {
    let nas = home.resident("nas")?;
    let (mut opened, mut facts) = (Vec::new(), Vec::new());
    let (tcp, udp) = (InternetProtocol::Tcp, InternetProtocol::Udp);
    for (protocol, port) in [(tcp, 80), (tcp, NAS_ECHO), (udp, NAS_ECHO)] {
        let start = Instant::now();
        let ask =
            async move || ports::open_natpmp(addressing::GATEWAY, protocol, port, LIFETIME_S).await;
        let mapping = nas.node.run(ask).await?;
        facts.push(describe("nas: NAT-PMP", &mapping, start)?);
        opened.push(Opening::CrabNat(mapping, start..=Instant::now()));
    }
    Ok((opened, facts.join("; ").replace("; nas: NAT-PMP", ";")))
}

/// The heat pump finds the gateway by SSDP and opens TCP 80 by UPnP (crate `igd-next`).
///
/// # Errors
/// When the gateway refuses, or does not list it afterwards.
pub async fn open_heat_pump(home: &Home) -> anyhow::Result<(Opening, String)> {
    let pump = home.resident("heat-pump")?;
    let addr = pump.addr()?;
    let ask = async move || {
        let start = Instant::now();
        let igd = ports::find_igd(PATIENCE).await?;
        let found = milliseconds(start.elapsed());
        let start = Instant::now();
        ports::open_upnp(
            &igd,
            addr,
            PortMappingProtocol::TCP,
            80,
            LIFETIME_S,
            "heat pump",
        )
        .await?;
        let took = milliseconds(start.elapsed());
        let entry = ports::find_entry(&igd, 80).await?;
        ensure!(
            entry.internal_client == addr.to_string() && entry.internal_port == 80,
            "the gateway lists port 80 of {}, not of {addr}",
            entry.internal_client
        );
        let fact = format!(
            "heat-pump: M-SEARCH -> {igd} in {found}; AddPortMapping TCP 80 -> \
             granted in {took}, listed for {} s",
            entry.lease_duration
        );
        Ok((Opening::Igd(igd, 80), fact))
    };
    pump.node.run(ask).await
}

fn describe(who: &str, mapping: &PortMapping, start: Instant) -> anyhow::Result<String> {
    let port = mapping.internal_port();
    ensure!(
        mapping.external_port() == port,
        "port {port} became {}",
        mapping.external_port()
    );
    ensure!(mapping.lifetime() > 0, "port {port} is open for no time");
    let protocol = match mapping.protocol() {
        InternetProtocol::Tcp => "TCP",
        InternetProtocol::Udp => "UDP",
    };
    Ok(format!(
        "{who} {protocol} {port} -> granted in {}, for {} s, epoch {}",
        milliseconds(start.elapsed()),
        mapping.lifetime(),
        mapping.gateway_epoch()
    ))
}

/// How long the ports are asked for.
const LIFETIME_S: u32 = 3600;
