//! What port control costs beside Debian's miniupnpd, on a real disk: `cargo bench -p portico
//! --bench ports`; names of measures after `--` choose, `--help` tells the rest.
//!
//! Each peer, with each number of mappings, has a gateway and sixteen clients of its own, each a
//! network namespace; they take turns within every round, so that ratios hold although the
//! machine's speed wavers. Clients share the machine with the gateway: a rate tells the cost of
//! both. Every success of Portico is durable before it is answered; those of miniupnpd are not:
//! it writes its lease file without a sync. Start reading at [`measures::Measure`] and
//! [`site::Site`].
#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark prints, and measures with the clock of std"
)]

mod dialect;
mod disk;
mod flood;
mod load;
mod measures;
mod report;
mod site;
#[path = "../support.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use dialect::Dialect;
use disk::{Probe, Slowed};
use measures::{Measure, Options};
use report::Report;
use site::{Peer, Site};

/// Compares Portico's port control with miniupnpd's, and with its goals.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench -p portico --bench ports --")]
struct Arguments {
    /// What to measure; everything by default
    #[arg(value_enum)]
    measures: Vec<Measure>,
    /// How often each peer takes its turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 1.0)]
    time: f64,
    /// Prints every value as JSON instead of tables
    #[arg(long)]
    json: bool,
    /// How many mappings stand while the clients ask
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1000, 10_000, 100_000])]
    mappings: Vec<usize>,
    /// The most of them that miniupnpd is given: each costs it more than the one before
    #[arg(long, default_value_t = 1000)]
    miniupnpd_most: usize,
    /// Leaves miniupnpd out
    #[arg(long)]
    alone: bool,
    /// Only these protocols
    #[arg(long, value_enum, value_delimiter = ',')]
    dialects: Vec<Dialect>,
    /// How many requests a million are
    #[arg(long, default_value_t = 1_000_000)]
    million: usize,
    /// Judges what grows by our processor time, for a machine that others use too
    #[arg(long)]
    shared_machine: bool,
    /// Makes each fdatasync of ours take so many milliseconds at least, where the disk is faster
    /// than that of the goals
    #[arg(long, value_name = "MS")]
    fdatasync: Option<f64>,
    /// Where the stores lie; a folder beside the build's output by default
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Another build of Portico, measured beside this one; as often as wanted
    #[arg(long, value_name = "NAME=PATH")]
    also: Vec<String>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    support::end(NAME, run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let runtime = support::begin(NAME)?;
    let parent = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => Path::new(env!("CARGO_BIN_EXE_portico"))
            .parent()
            .context("a program lies in a folder")?
            .to_owned(),
    };
    let folder = tempfile::tempdir_in(&parent)?;
    let mut report = Report::new(notes(folder.path())?, arguments.shared_machine);
    let wanted = peers(arguments, &mut report)?;
    let slowed = slowed(arguments, folder.path(), &mut report)?;
    let mut sites = runtime.block_on(build(&wanted, folder.path(), slowed.as_ref()))?;
    let least = slowed.map_or(Duration::ZERO, |slowed| slowed.least);
    let mut probe = Probe::new(folder.path(), least)?;
    runtime.block_on(rounds(arguments, &mut sites, &mut probe, &mut report));
    report.note(format!("load average at the end: {}", load_average()?));
    // Their tasks and children need the runtime to be dropped.
    let inside = runtime.enter();
    drop(sites);
    drop(inside);
    let result = report.check();
    if arguments.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    result
}

/// Who takes part, with how many mappings, and a line for each that cannot.
fn peers(arguments: &Arguments, report: &mut Report) -> Result<Vec<(Peer, usize)>> {
    let levels = &arguments.mappings;
    ensure!(!levels.is_empty(), "no number of mappings");
    let mut sites = Vec::new();
    if !arguments.alone {
        match site::miniupnpd_of_debian() {
            Ok(path) => {
                let most = arguments.miniupnpd_most;
                let able = levels.iter().filter(|level| **level <= most);
                sites.extend(able.map(|level| (Peer::Miniupnpd(path.clone()), *level)));
                report.note(format!(
                    "miniupnpd is given {most} mappings at most; what it grants is not durable"
                ));
            }
            Err(error) => report.note(format!("absent: miniupnpd: {error:#}")),
        }
    }
    for (name, path) in support::builds(&arguments.also)? {
        let peer = |level: &usize| (Peer::Portico(name.clone(), path.clone()), *level);
        sites.extend(levels.iter().map(peer));
    }
    Ok(sites)
}

fn slowed(arguments: &Arguments, folder: &Path, report: &mut Report) -> Result<Option<Slowed>> {
    let Some(millis) = arguments.fdatasync else {
        return Ok(None);
    };
    report.note(format!("our fdatasync takes {millis} ms at least"));
    let least = Duration::try_from_secs_f64(millis / 1000.0)?;
    Slowed::build(folder, least).map(Some)
}

async fn build(
    wanted: &[(Peer, usize)],
    folder: &Path,
    slowed: Option<&Slowed>,
) -> Result<Vec<Site>> {
    let mut sites = Vec::new();
    for (peer, level) in wanted {
        eprintln!("filling {} with {level} mappings", peer.name());
        let site = Site::build(peer, *level, folder, slowed).await;
        sites.push(site.with_context(|| format!("cannot set up {}", peer.name()))?);
    }
    Ok(sites)
}

async fn rounds(arguments: &Arguments, sites: &mut [Site], probe: &mut Probe, report: &mut Report) {
    let options = Options {
        time: Duration::from_secs_f64(arguments.time.clamp(0.1, 60.0)),
        dialects: match arguments.dialects.as_slice() {
            [] => Dialect::ALL.to_vec(),
            some => some.to_vec(),
        },
        million: arguments.million,
    };
    let count = sites.len();
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        let wanted = Measure::ALL
            .into_iter()
            .filter(|it| arguments.measures.is_empty() || arguments.measures.contains(it));
        for measure in wanted.filter(|it| round == 0 || it.every_round()) {
            for turn in support::turns(count, round) {
                let Some(site) = sites.get_mut(turn) else {
                    continue;
                };
                if support::is_ending() {
                    return;
                }
                if !measure.wants(site, &arguments.mappings) {
                    continue;
                }
                let (name, level) = (site.peer.name().to_owned(), site.level);
                match measures::take(measure, site, &options, probe).await {
                    Ok(values) => {
                        for (row, value) in values {
                            report.add(&name, level, row, value);
                        }
                    }
                    Err(error) => {
                        let title = site.title();
                        report.failed(format!("{title}, {measure:?}, round {round}: {error:#}"));
                    }
                }
            }
        }
    }
}

/// The machine, as far as it bears on what is measured.
fn notes(folder: &Path) -> Result<Vec<String>> {
    let file_system = disk::file_system(folder)?;
    let processors = std::thread::available_parallelism()?;
    Ok(vec![
        format!("{processors} processors, stores on {file_system}"),
        format!("load average at the start: {}", load_average()?),
    ])
}

fn load_average() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/loadavg")?.trim().to_owned())
}

const NAME: &str = "ports";
