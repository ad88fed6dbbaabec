//! What the benchmarks beside Portico's peers share: how a run begins, takes turns and ends, and
//! the tables of what was measured. Each of them includes this file as a module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use lab::Node;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

/// Enters a user namespace of our own, so that what vanishes with us needs no clean-up, even
/// after SIGKILL, and returns the runtime; call it before any thread starts. From then on the
/// first interrupt lets the measurement under way come to its end.
///
/// # Errors
/// When the kernel refuses.
pub fn begin(name: &'static str) -> Result<Runtime> {
    net::namespace::become_root_of_new_user_namespace()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("{name}: ending after this measurement; again to end at once");
        }
    });
    Ok(runtime)
}

/// Tells whether the run is to end early; what was measured is reported.
pub fn is_ending() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Says what went wrong.
pub fn end(name: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `job` on a thread that looks out of the node's namespace; sockets that it opens stay
/// there.
///
/// # Errors
/// When the namespace cannot be entered, and those of `job`.
pub fn inside<T: Send>(node: &Node, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            net::namespace::enter(node)?;
            job()
        });
        thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
    })
}

/// The order of `count` turns in a round: nobody always follows the same neighbour.
pub fn turns(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + round) % count)
}

/// The build that the benchmark belongs to, and those that `--also` names.
///
/// # Errors
/// When one of them is no `NAME=PATH`.
pub fn builds(also: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let own = (OWN.to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_portico")));
    let other = |also: &String| {
        let (name, path) = also.split_once('=').context("--also wants NAME=PATH")?;
        Ok((name.to_owned(), path.into()))
    };
    std::iter::once(Ok(own))
        .chain(also.iter().map(other))
        .collect()
}

/// Finds a peer as Debian ships it, or installs its packages.
///
/// # Errors
/// When they cannot be installed.
pub fn of_debian(path: &str, packages: &[&str]) -> Result<PathBuf> {
    if !Path::new(path).exists() {
        let names = packages.join(" ");
        eprintln!("installing {names}");
        let status = Command::new("apt-get")
            .args(["install", "-qq", "-y", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("apt-get install {names}"))?;
        ensure!(status.success(), "apt-get install {names}: {status}");
    }
    Ok(path.into())
}

/// Everything that was measured: what, at whom, in the order of the rounds.
#[derive(Debug)]
pub struct Table<Row, Site> {
    failures: Vec<String>,
    /// In the order in which they were first met.
    sites: Vec<Site>,
    values: BTreeMap<Row, BTreeMap<Site, Vec<f64>>>,
}

impl<Row: Ord + Copy, Site: Ord + Clone> Table<Row, Site> {
    pub const fn new() -> Self {
        Self {
            failures: Vec::new(),
            sites: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, row: Row, site: Site, value: f64) {
        if !self.sites.contains(&site) {
            self.sites.push(site.clone());
        }
        let values = self.values.entry(row).or_default();
        values.entry(site).or_default().push(value);
    }

    /// A measurement that did not come to an end is told, and the others count.
    pub fn failed(&mut self, line: String) {
        self.failures.push(line);
    }

    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Whether everything came to an end.
    ///
    /// # Errors
    /// When something did not.
    pub fn check(&self) -> Result<()> {
        let count = self.failures.len();
        ensure!(count == 0, "{count} measurements failed");
        Ok(())
    }

    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.values.keys().copied()
    }

    pub fn median(&self, row: Row, site: &Site) -> Option<f64> {
        let values = self.values.get(&row)?.get(site)?;
        (!values.is_empty()).then(|| median(values))
    }

    /// The median, and where it was taken more than once the least and the most.
    pub fn cell(&self, row: Row, site: &Site) -> Option<String> {
        let values = self.values.get(&row)?.get(site)?;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let [median, least, most] = [median(values), least, most].map(number);
        Some(match values.len() {
            0 | 1 => median,
            _ => format!("{median} ({least}-{most})"),
        })
    }

    /// Every value of a row, in the order of the rounds.
    pub fn json(&self, row: Row, name: impl Fn(&Site) -> String) -> Value {
        let sites: Map<_, _> = self
            .values
            .get(&row)
            .into_iter()
            .flatten()
            .map(|(site, values)| {
                let entry = json!({ "median": median(values), "rounds": values });
                (name(site), entry)
            })
            .collect();
        Value::Object(sites)
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |n: usize| sorted.get(n).copied().unwrap_or_default();
    f64::midpoint(at((sorted.len().max(1) - 1) / 2), at(sorted.len() / 2))
}

/// Three digits that matter.
pub fn number(value: f64) -> String {
    match value {
        10_000.0.. => format!("{:.1}k", value / 1000.0),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What the program calls the build that it belongs to.
pub const OWN: &str = "portico";

static STOP: AtomicBool = AtomicBool::new(false);
