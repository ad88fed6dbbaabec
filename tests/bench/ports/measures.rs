//! What is measured, and in which rows the values stand.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::dialect::{Dialect, Port, Wish};
use crate::disk::Probe;
use crate::flood::{self, Forger};
use crate::load::{self, Log, Script};
use crate::site::{FRESH, LIFETIME, Site};

/// What can be asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// A million requests of mappings that come, are renewed and expire
    Churn,
    /// One neighbour sends 100,000 forged requests a second, by one MAC and by thousands
    Flood,
    /// New and renewed mappings, by one client and by sixteen
    Map,
    /// Resident memory of a mapping
    Memory,
    /// A million renewals, and what they leave on the disk
    Million,
    /// From SIGKILL to the first request that is granted
    Restart,
}

impl Measure {
    /// In the order in which they are taken.
    pub const ALL: [Self; 6] = [
        Self::Memory,
        Self::Map,
        Self::Restart,
        Self::Flood,
        Self::Million,
        Self::Churn,
    ];

    /// Whether every round takes it; the others run once, where `level` is the extreme.
    pub const fn every_round(self) -> bool {
        matches!(self, Self::Map | Self::Restart | Self::Flood)
    }

    /// Whether it is of use at a site with `level` mappings out of `levels`.
    pub fn wants(self, site: &Site, levels: &[usize]) -> bool {
        let least = levels.iter().min() == Some(&site.level);
        let most = levels.iter().max() == Some(&site.level);
        match self {
            Self::Map => true,
            Self::Flood | Self::Churn => site.peer.is_portico() && least,
            Self::Memory | Self::Million | Self::Restart => site.peer.is_portico() && most,
        }
    }
}

/// A row of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    Map(Dialect, Step, What),
    /// Bytes of a mapping.
    Memory,
    Restart,
    FloodSuccess(Forger),
    FloodP99(Forger),
    FloodSent(Forger),
    MillionMib,
    MillionRate,
    ChurnMib,
    ChurnGrowth,
}

/// What the client does with the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    New,
    Renew,
}

/// What is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// One client's, in milliseconds.
    P50,
    P99,
    /// The disk's own, in turns with that client.
    DiskP50,
    DiskP99,
    /// One client's processor time of the server, in microseconds.
    AloneCpu,
    /// Requests a second of sixteen clients.
    Rate,
    /// Processor time of the server for each, in microseconds.
    Cpu,
    /// Requests in one commit.
    Batch,
    /// Datagrams that had to be sent twice, in a thousand.
    Repeats,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Map(dialect, step, what) = self else {
            return f.write_str(match self {
                Self::Map(..) => "",
                Self::Memory => "memory of a mapping, B",
                Self::Restart => "restart to first grant, s",
                Self::FloodSuccess(Forger::Addresses) => "flood: honest granted, %",
                Self::FloodP99(Forger::Addresses) => "flood: honest p99, ms",
                Self::FloodSent(Forger::Addresses) => "flood: forged, 1000/s",
                Self::FloodSuccess(Forger::Macs) => "flood of MACs: granted, %",
                Self::FloodP99(Forger::Macs) => "flood of MACs: p99, ms",
                Self::FloodSent(Forger::Macs) => "flood of MACs: 1000/s",
                Self::MillionMib => "million renewals: disk, MiB",
                Self::MillionRate => "million renewals: rate, 1/s",
                Self::ChurnMib => "churn: disk, MiB",
                Self::ChurnGrowth => "churn: memory growth, MiB",
            });
        };
        let step = match step {
            Step::New => "new",
            Step::Renew => "renew",
        };
        let what = match what {
            What::P50 => "1: p50, ms",
            What::P99 => "1: p99, ms",
            What::DiskP50 => "1: disk p50, ms",
            What::DiskP99 => "1: disk p99, ms",
            What::AloneCpu => "1: CPU, us",
            What::Rate => "16: rate, 1/s",
            What::Cpu => "16: CPU, us",
            What::Batch => "16: batch",
            What::Repeats => "16: repeats, /1000",
        };
        write!(f, "{} {step} x{what}", dialect.name())
    }
}

/// Values of one turn.
pub type Values = Vec<(Row, f64)>;

/// How to measure.
#[derive(Debug)]
pub struct Options {
    pub time: Duration,
    pub dialects: Vec<Dialect>,
    /// How many renewals are a million.
    pub million: usize,
}

/// Takes a measure at a site.
pub async fn take(
    measure: Measure,
    site: &mut Site,
    options: &Options,
    probe: &mut Probe,
) -> Result<Values> {
    match measure {
        Measure::Churn => churn(site, options),
        Measure::Flood => {
            let time = options.time.max(Duration::from_secs(2));
            let mut values = flood::flood(site, Forger::Addresses, time)?;
            values.extend(flood::flood(site, Forger::Macs, time)?);
            Ok(values)
        }
        Measure::Map => {
            let mut values = Vec::new();
            for dialect in &options.dialects {
                for step in [Step::New, Step::Renew] {
                    let taken = map(site, *dialect, step, options.time, probe).await;
                    let what = || format!("{} {step:?}", dialect.name());
                    values.extend(taken.with_context(what)?);
                }
            }
            Ok(values)
        }
        Measure::Memory => {
            let level = f64::from(u32::try_from(site.level.max(1))?);
            let kib = site.resident_kib()? - site.empty_kib;
            Ok(vec![(Row::Memory, kib * 1024.0 / level)])
        }
        Measure::Million => million(site, options),
        Measure::Restart => Ok(vec![(Row::Restart, site.restart().await?.as_secs_f64())]),
    }
}

async fn map(
    site: &Site,
    dialect: Dialect,
    step: Step,
    time: Duration,
    probe: &mut Probe,
) -> Result<Values> {
    let mut values = Vec::new();
    let script = |client: usize| Script {
        dialect,
        wish: Wish::Open(LIFETIME),
        ports: match step {
            Step::New => Site::fresh(client, dialect).collect(),
            Step::Renew => scattered(&site.held(client, dialect)),
        },
        window: 1,
        until: Some(Instant::now() + time),
    };
    let first = site.clients.first().context("a client")?;
    let cpu = site.processor_time()?;
    let (log, syncs) = load::alone(first, &site.control, &script(0), probe)?;
    let cpu = site.processor_time()?.saturating_sub(cpu);
    close(site, dialect, step, std::slice::from_ref(&log))?;
    values.extend([
        (What::P50, millis(&log.times, 50)),
        (What::P99, millis(&log.times, 99)),
        (What::DiskP50, millis(&syncs, 50)),
        (What::DiskP99, millis(&syncs, 99)),
        (What::AloneCpu, each(cpu, log.times.len())),
    ]);
    let before = batches(site).await?;
    let cpu = site.processor_time()?;
    let (logs, took) = load::together(&site.clients, &site.control, script)?;
    let cpu = site.processor_time()?.saturating_sub(cpu);
    let after = batches(site).await?;
    close(site, dialect, step, &logs)?;
    let count: usize = logs.iter().map(|log| log.times.len()).sum();
    let repeats: u64 = logs.iter().map(|log| log.repeats).sum();
    let counted = f64::from(u32::try_from(count)?);
    values.push((What::Rate, counted / took.as_secs_f64()));
    values.push((What::Cpu, each(cpu, count)));
    let repeats = f64::from(u32::try_from(repeats)?);
    values.push((What::Repeats, repeats * 1000.0 / counted.max(1.0)));
    if let (Some(before), Some(after)) = (before, after) {
        let batches = (after.0 - before.0).max(1.0);
        values.push((What::Batch, (after.1 - before.1) / batches));
    }
    let row = |(what, value)| (Row::Map(dialect, step, what), value);
    Ok(values.into_iter().map(row).collect())
}

/// Closes what was opened, so that the next turn finds as many mappings as this one.
fn close(site: &Site, dialect: Dialect, step: Step, logs: &[Log]) -> Result<()> {
    if step == Step::Renew {
        return Ok(());
    }
    let script = |client: usize| {
        let count = logs.get(client).map_or(0, |log| log.times.len());
        Script {
            dialect: match dialect {
                Dialect::Upnp => Dialect::UpnpKept,
                other => other,
            },
            wish: Wish::Close,
            ports: Site::fresh(client, dialect).take(count).collect(),
            window: 16,
            until: None,
        }
    };
    let nodes = site.clients.get(..logs.len()).unwrap_or_default();
    load::together(nodes, &site.control, script).context("cannot close")?;
    Ok(())
}

/// Each again and again, none beside the one before.
fn scattered(ports: &[Port]) -> Vec<Port> {
    let len = ports.len().max(1);
    (0..MANY)
        .filter_map(|turn| ports.get(turn * STRIDE % len).copied())
        .collect()
}

async fn batches(site: &Site) -> Result<Option<(f64, f64)>> {
    if !site.peer.is_portico() {
        return Ok(None);
    }
    let batches = site.count("batches_total").await?;
    Ok(Some((batches, site.count("batched_requests_total").await?)))
}

fn million(site: &Site, options: &Options) -> Result<Values> {
    let script = |client: usize| Script {
        dialect: Dialect::Pcp,
        wish: Wish::Open(LIFETIME),
        ports: {
            let ports = scattered(&site.held(client, Dialect::Pcp));
            let each = options.million / site.clients.len();
            ports.iter().copied().cycle().take(each).collect()
        },
        window: 16,
        until: None,
    };
    let (_, took) = load::together(&site.clients, &site.control, script)?;
    let rate = f64::from(u32::try_from(options.million)?) / took.as_secs_f64();
    Ok(vec![
        (Row::MillionMib, site.store_mib()?),
        (Row::MillionRate, rate),
    ])
}

/// Half of the requests open a port for seconds, half prolong it once; then it expires.
fn churn(site: &Site, options: &Options) -> Result<Values> {
    let mut begun = 0;
    let mut after_first = None;
    while begun < options.million {
        let script = |client: usize| {
            let ports: Vec<_> = Site::fresh(client, Dialect::NatPmp).collect();
            Script {
                dialect: Dialect::NatPmp,
                wish: Wish::Open(SHORT),
                ports: ports
                    .chunks(100)
                    .flat_map(|chunk| [chunk, chunk])
                    .flatten()
                    .copied()
                    .collect(),
                window: 16,
                until: None,
            }
        };
        load::together(&site.clients, &site.control, script)?;
        begun += 2 * FRESH * site.clients.len();
        if begun >= options.million / 10 && after_first.is_none() {
            after_first = Some(site.resident_kib()?);
        }
    }
    let growth = site.resident_kib()? - after_first.context("nothing was done")?;
    Ok(vec![
        (Row::ChurnMib, site.store_mib()?),
        (Row::ChurnGrowth, growth / 1024.0),
    ])
}

/// A time below which a share of them lies.
pub fn millis(times: &[Duration], share: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let time = times.get(times.len() * share / 100).or(times.last());
    time.copied().unwrap_or_default().as_secs_f64() * 1e3
}

fn each(time: Duration, count: usize) -> f64 {
    let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    time.as_secs_f64() * 1e6 / f64::from(count)
}

/// More than a turn renews.
const MANY: usize = 60_000;

/// A prime: it visits every port before it comes to one again.
const STRIDE: usize = 7919;

/// Seconds: they end while the run goes on.
const SHORT: u32 = 2;
