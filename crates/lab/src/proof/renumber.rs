//! Step 5: another prefix and another address, with an overlap.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use super::{Facts, milliseconds};
use crate::home::{Home, PATIENCE, fqdn};
use crate::remote::{Download, Downloaded};

/// A download runs over the old prefix while the provider renumbers; the page is fetched again
/// by name in the new prefix, the download ends whole, and the page is fetched a third time
/// after the provider has taken the old prefix away.
///
/// # Errors
/// When something does not follow, or is lost.
pub async fn renumber(home: &mut Home) -> anyhow::Result<Facts> {
    let mut facts = Facts::default();
    let old = home.delegation();
    let camera = Arc::clone(&home.resident("camera")?.device);
    camera.hold_downloads();
    let old_addr = home.lookup_current("camera").await?.one_v6()?;
    let download = start_download(home, old_addr).await?;

    let start = Instant::now();
    home.renumber(OVERLAP).await?;
    let new = home.delegation();
    home.wait_glue_current().await?;
    let glue_took = milliseconds(start.elapsed());
    facts.add(format_args!(
        "provider: {} -> {}, WAN {} -> {}, the old ones valid for {} s; POST /api/v1/prefixes \
         -> accepted; the parent's glue -> {} after {glue_took}",
        old.prefix(),
        new.prefix(),
        old.wan(),
        new.wan(),
        OVERLAP.as_secs(),
        new.wan()
    ));
    let (addr, page) = fetch_by_name(home, start).await?;
    ensure!(addr != old_addr, "the name still stands for {old_addr}");
    facts.add(page);

    let whole = home.resident("camera")?.device.page();
    let by_old = home.fetch(old_addr, 80, &fqdn("camera"), "/").await;
    ensure!(
        by_old.context("over the old prefix")? == whole,
        "the old prefix gives another page"
    );
    let before = download.received();
    camera.release_downloads();
    let Downloaded { bytes, sha256 } = download.finish(PATIENCE).await?;
    ensure!(
        before < bytes,
        "the download had ended before the prefix changed"
    );
    facts.add(format_args!(
        "remote: the download that began at {old_addr} before the change -> all {bytes} bytes \
         after it, sha256 {sha256}.."
    ));

    let start = Instant::now();
    home.withdraw_old().await?;
    home.wait_glue_current().await?;
    // Nothing remembered may help: the way down from the parent zone has to work.
    home.forget_names();
    let (_, page) = fetch_by_name(home, start).await?;
    facts.add(format_args!(
        "provider: {} and {} removed; {page}",
        old.prefix(),
        old.wan()
    ));
    Ok(facts)
}

async fn start_download(home: &Home, addr: Ipv6Addr) -> anyhow::Result<Download> {
    let from = SocketAddr::new(addr.into(), 80);
    let start = async move || Download::start(from, &fqdn("camera"), "/download", PATIENCE).await;
    home.net.remote.run(start).await
}

/// Resolves and fetches; counts only when the name stands for an address in the present NSP.
async fn fetch_by_name(home: &Home, start: Instant) -> anyhow::Result<(Ipv6Addr, String)> {
    let name = fqdn("camera");
    let found = home.lookup_current("camera").await?;
    let addr = found.one_v6()?;
    let page = home.fetch(addr, 80, &name, "/").await?;
    ensure!(
        page == home.resident("camera")?.device.page(),
        "another page came: {page:?}"
    );
    let took = milliseconds(start.elapsed());
    Ok((
        addr,
        format!("remote: {name} -> {found}; GET / -> the page, {took} after the change"),
    ))
}

/// How long the old prefix stays valid.
const OVERLAP: Duration = Duration::from_secs(200);
