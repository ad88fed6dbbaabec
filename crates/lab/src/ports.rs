//! How a server opens a port: with clients that we did not write.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, bail};
use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, TimeoutConfig};
use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{PortMappingProtocol, SearchOptions};

/// Opens a port by PCP MAP.
///
/// # Errors
/// What the gateway says.
pub async fn open_pcp(
    gateway: Ipv4Addr,
    server: Ipv4Addr,
    protocol: InternetProtocol,
    port: u16,
    lifetime_s: u32,
) -> anyhow::Result<PortMapping> {
    let request = crab_nat::pcp::BaseMapRequest::new(
        gateway.into(),
        server.into(),
        protocol,
        non_zero(port)?,
    );
    crab_nat::pcp::port_mapping(request, None, None, options(port, lifetime_s)?)
        .await
        .with_context(|| format!("PCP MAP of {protocol} {port} for {server} at {gateway}"))
}

/// Opens a port by NAT-PMP.
///
/// # Errors
/// What the gateway says.
pub async fn open_natpmp(
    gateway: Ipv4Addr,
    protocol: InternetProtocol,
    port: u16,
    lifetime_s: u32,
) -> anyhow::Result<PortMapping> {
    let options = options(port, lifetime_s)?;
    crab_nat::natpmp::port_mapping(gateway.into(), protocol, non_zero(port)?, options)
        .await
        .with_context(|| format!("NAT-PMP request for {protocol} {port} at {gateway}"))
}

/// Renews a mapping as its client does.
///
/// # Errors
/// What the gateway says.
pub async fn renew(mut mapping: PortMapping) -> anyhow::Result<PortMapping> {
    mapping.renew().await.with_context(|| {
        format!(
            "renewal of {} {} at the gateway",
            mapping.protocol(),
            mapping.internal_port()
        )
    })?;
    Ok(mapping)
}

/// Looks for an Internet gateway by SSDP.
///
/// # Errors
/// When none answers in time.
pub async fn find_igd(patience: Duration) -> anyhow::Result<Gateway<Tokio>> {
    let mut options = SearchOptions::default();
    options.timeout = Some(patience);
    search_gateway(options)
        .await
        .context("no Internet gateway answers the M-SEARCH")
}

/// Opens a port by UPnP `AddPortMapping`.
///
/// # Errors
/// What the gateway says.
pub async fn open_upnp(
    igd: &Gateway<Tokio>,
    server: Ipv4Addr,
    protocol: PortMappingProtocol,
    port: u16,
    lifetime_s: u32,
    description: &str,
) -> anyhow::Result<()> {
    let local = SocketAddr::V4(SocketAddrV4::new(server, port));
    igd.add_port(protocol, port, local, lifetime_s, description)
        .await
        .with_context(|| format!("AddPortMapping of {protocol} {port} for {server} at {igd}"))
}

/// Finds an entry of the gateway's table by its external port.
///
/// # Errors
/// When it is not there.
pub async fn find_entry(
    igd: &Gateway<Tokio>,
    port: u16,
) -> anyhow::Result<igd_next::PortMappingEntry> {
    for index in 0.. {
        let entry = igd
            .get_generic_port_mapping_entry(index)
            .await
            .with_context(|| format!("the gateway's table ends before port {port}"))?;
        if entry.external_port == port {
            return Ok(entry);
        }
    }
    bail!("the gateway's table has no end")
}

/// How far a client's epoch is ahead of the time that passed since the epoch `before` was told,
/// or behind it: zero, give or take a second, unless the gateway lost its state (RFC 6887 §8.5).
///
/// At least so much passed, and at most: a busy machine takes its time to ask and to hear.
#[must_use]
pub fn epoch_jump(before: u32, after: u32, passed: RangeInclusive<Duration>) -> i64 {
    let seconds = |passed: &Duration| i64::try_from(passed.as_secs()).unwrap_or(i64::MAX);
    let gone = i64::from(after) - i64::from(before);
    gone - gone.clamp(
        seconds(passed.start()),
        seconds(passed.end()).saturating_add(1),
    )
}

fn options(port: u16, lifetime_s: u32) -> anyhow::Result<PortMappingOptions> {
    Ok(PortMappingOptions {
        external_port: Some(non_zero(port)?),
        lifetime_seconds: Some(lifetime_s),
        timeout_config: Some(TimeoutConfig {
            initial_timeout: Duration::from_millis(500),
            max_retries: 4,
            max_retry_timeout: None,
        }),
    })
}

fn non_zero(port: u16) -> anyhow::Result<NonZeroU16> {
    NonZeroU16::new(port).context("port 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_that_begins_anew_jumps_and_one_that_goes_on_does_not_however_late_it_is_heard() {
        let passed = |least, most| Duration::from_millis(least)..=Duration::from_millis(most);

        assert_eq!(epoch_jump(10, 15, passed(4_900, 5_100)), 0);
        assert_eq!(epoch_jump(10, 16, passed(4_900, 5_100)), 0);
        assert_eq!(epoch_jump(10, 12, passed(1_000, 9_000)), 0);
        assert_eq!(epoch_jump(10, 0, passed(4_900, 5_100)), -14);
        assert_eq!(epoch_jump(10, 90, passed(4_900, 5_100)), 74);
    }
}
