//! Step 1: an address for each MAC.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use futures_util::future::try_join_all;
use tokio::time::{Duration, Instant, sleep};

use super::{Facts, list, milliseconds};
use crate::home::{Home, PATIENCE, Resident};
use crate::http::Api;

/// All servers join; each leaves, forgets everything, joins again and gets the same address.
///
/// # Errors
/// When one gets no address, another one, or one that somebody else has.
pub async fn join(home: &mut Home) -> anyhow::Result<Facts> {
    let api = home.api();
    let joins = home
        .residents
        .iter_mut()
        .map(|resident| join_twice(resident, api.clone()));
    let facts = try_join_all(joins).await?;
    let addrs: BTreeSet<_> = home
        .residents
        .iter()
        .map(Resident::addr)
        .collect::<anyhow::Result<_>>()?;
    ensure!(
        addrs.len() == home.residents.len(),
        "two servers have one address: {addrs:?}"
    );
    Ok(facts.into())
}

async fn join_twice(resident: &mut Resident, api: Api) -> anyhow::Result<String> {
    let name = resident.name.clone();
    let start = Instant::now();
    let first = resident.join().await?;
    let took = milliseconds(start.elapsed());
    resident.leave().await?;
    wait_gone(&api, &resident.mac().to_string()).await?;
    let start = Instant::now();
    let again = resident.join().await?;
    ensure!(
        again.addr == first.addr,
        "{name} had {} and gets {} when it joins again",
        first.addr,
        again.addr
    );
    Ok(format!(
        "{name} ({}): DHCPDISCOVER -> {first} in {took}; RELEASE, all forgotten, \
         DHCPDISCOVER -> {} again in {}",
        resident.mac(),
        again.addr,
        milliseconds(start.elapsed())
    ))
}

/// Waits until the gateway has seen the release.
async fn wait_gone(api: &Api, mac: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let hosts = list(api, "hosts").await?;
        let host = hosts.iter().find(|host| host["mac"] == mac);
        let host = host.with_context(|| format!("the API does not list {mac}"))?;
        if host["here"] == false {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("{mac} released its address, and the API still shows a lease: {host}");
        }
        sleep(GLANCE).await;
    }
}

const GLANCE: Duration = Duration::from_millis(20);
