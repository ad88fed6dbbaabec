//! Step 6: SIGKILL, and everything that was answered with success is there.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Facts, list, milliseconds, open_camera};
use crate::home::{Home, Opening, PATIENCE, fqdn};
use crate::http::Api;

/// Opens one more port and kills the daemon as soon as that is granted; starts it again and
/// compares.
///
/// # Errors
/// When something is lost, renumbered or forgotten.
pub async fn restart(home: &mut Home) -> anyhow::Result<Facts> {
    let mut facts = Facts::default();
    let_epochs_grow(home).await?;
    let before = Kept::read(&home.api()).await?;
    let address = home.lookup_current("camera").await?;
    let (late, granted) = open_camera(home, LATE_PORT).await?;
    home.daemon.kill().await?;
    home.resident_mut("camera")?.openings.push(late);
    let ready = home.daemon.start().await?;
    let after = Kept::read(&home.api()).await?;

    before.compare(&after)?;
    facts.add(format_args!(
        "{granted}; kill -9; started again, ready after {}: {} ports and {} hosts -> the same, \
         ids included",
        milliseconds(ready),
        after.mappings.len(),
        after.hosts.len()
    ));

    let epochs = renew_all(home).await?;
    let start = Instant::now();
    let again = home.lookup_current("camera").await?;
    ensure!(
        again.addrs == address.addrs,
        "the camera was at {address} and is at {again}"
    );
    let page = home
        .fetch(again.one_v6()?, 80, &fqdn("camera"), "/")
        .await?;
    ensure!(
        page == home.resident("camera")?.device.page(),
        "another page came: {page:?}"
    );
    facts.add(format_args!(
        "clients renew -> granted, {epochs} epochs go on without a jump; remote: {} -> {again}, \
         GET / -> the page in {}",
        fqdn("camera"),
        milliseconds(start.elapsed())
    ));
    Ok(facts)
}

/// Each client renews until its epoch is far enough from zero for a loss of state to show: the
/// change of the prefix began a new one for PCP (RFC 6887 §8.5).
async fn let_epochs_grow(home: &mut Home) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut lowest = u32::MAX;
        for resident in &mut home.residents {
            for opening in &mut resident.openings {
                if let Opening::CrabNat(..) = opening {
                    opening.renew(&resident.node).await?;
                }
                if let Opening::CrabNat(mapping, _) = opening {
                    lowest = lowest.min(mapping.gateway_epoch());
                }
            }
        }
        if lowest >= TELLING_EPOCH_S {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "an epoch stands at {lowest} s and does not go on"
        );
        sleep(GLANCE).await;
    }
}

/// Each client renews what it opened; returns how many epochs went on without a jump.
async fn renew_all(home: &mut Home) -> anyhow::Result<usize> {
    let renewals = home.residents.iter_mut().map(async |resident| {
        let mut jumps = Vec::new();
        for opening in &mut resident.openings {
            let jump = opening.renew(&resident.node).await;
            jumps.extend(jump.with_context(|| format!("{} after the restart", resident.name))?);
        }
        anyhow::Ok(jumps)
    });
    let jumps = try_join_all(renewals).await?.concat();
    let small = |jump: &i64| jump.abs() <= EPOCH_SLACK_S;
    ensure!(
        jumps.iter().all(small),
        "the epochs jumped by {jumps:?} s: clients believe all lost"
    );
    Ok(jumps.len())
}

/// What must outlive the process.
#[derive(Debug, PartialEq)]
struct Kept {
    mappings: Vec<Value>,
    hosts: Vec<Value>,
}

impl Kept {
    /// The late port is new in `after`; all else is as it was.
    fn compare(&self, after: &Self) -> anyhow::Result<()> {
        let is_late = |it: &Value| it["external_port"] == LATE_PORT && it["requester"] == "pcp";
        let rest = |kept: &Self| -> Vec<Value> {
            kept.mappings
                .iter()
                .filter(|it| !is_late(it))
                .cloned()
                .collect()
        };
        let found = after.mappings.iter().any(is_late);
        ensure!(found, "TCP {LATE_PORT} was granted, and is lost");
        let (was, is) = (rest(self), rest(after));
        ensure!(was == is, "the ports were {was:?} and are {is:?}");
        let (was, is) = (&self.hosts, &after.hosts);
        ensure!(was == is, "the hosts were {was:?} and are {is:?}");
        Ok(())
    }

    async fn read(api: &Api) -> anyhow::Result<Self> {
        let mapping = [
            "id",
            "host",
            "server",
            "protocol",
            "external_port",
            "internal_port",
        ];
        let mapping = [&mapping[..], &["requester", "description", "opened_at"]].concat();
        let host = ["mac", "name", "fqdn", "ipv4", "ipv6", "here", "first_seen"];
        Ok(Self {
            mappings: keep(list(api, "mappings").await?, &mapping)?,
            hosts: keep(list(api, "hosts").await?, &host)?,
        })
    }
}

fn keep(items: Vec<Value>, fields: &[&str]) -> anyhow::Result<Vec<Value>> {
    let mut kept = Vec::new();
    for item in items {
        let field = |name: &&str| {
            let value = item
                .get(*name)
                .with_context(|| format!("{item} has no {name}"))?;
            Ok(((*name).to_owned(), value.clone()))
        };
        let fields: anyhow::Result<serde_json::Map<_, _>> = fields.iter().map(field).collect();
        kept.push(Value::Object(fields?));
    }
    kept.sort_by_key(Value::to_string);
    Ok(kept)
}

/// RTSP over an alternative port: granted at the last moment.
const LATE_PORT: u16 = 8554;

/// Epochs count whole seconds, and so do we.
const EPOCH_SLACK_S: i64 = 1;

/// From here on an epoch that begins anew differs from one that goes on.
const TELLING_EPOCH_S: u32 = 3;

const GLANCE: Duration = Duration::from_millis(200);
