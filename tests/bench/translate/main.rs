//! How fast the translator is beside the kernel and its rivals: `cargo bench -p portico --bench
//! translate`; names of measures after `--` choose, `--help` tells the rest.
//!
//! Each peer has a client, a gateway and a server of its own, each a network namespace; the peers
//! take turns within every round, so that ratios hold although the machine's speed wavers. Client
//! and server share the machine with the gateway: "Gbit/s" tells the cost of all three, no limit
//! of the gateway alone. Start reading at [`measures::Measure`] and [`site::Peer`].
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark prints, and measures with the clock of std"
)]

mod cpu;
mod load;
mod measures;
mod report;
mod site;
#[path = "../support.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use measures::{Measure, Options};
use report::Report;
use site::{Offloads, Peer, Site};

/// Compares Portico's translator with the kernel and with other translators.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench -p portico --bench translate --")]
struct Arguments {
    /// What to measure; everything by default
    #[arg(value_enum)]
    measures: Vec<Measure>,
    /// How often each peer takes its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement, after its warm-up
    #[arg(long, default_value_t = 1.0)]
    time: f64,
    /// Prints every value as JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Measures only these peers, such as `portico,tayga`
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Leaves the second table out, in which client and server have no offloads
    #[arg(long)]
    skip_offloads_off: bool,
    /// Counts the processor time of our processes only, for a machine that others use too
    #[arg(long)]
    shared_machine: bool,
    /// TAYGA's main branch; `$PORTICO_BENCH_TAYGA` says the same
    #[arg(long, value_name = "PATH")]
    tayga_main: Option<PathBuf>,
    /// Tundra; `$PORTICO_BENCH_TUNDRA` says the same
    #[arg(long, value_name = "PATH")]
    tundra: Option<PathBuf>,
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
    let (peers, absent) = peers(arguments)?;
    let options = Options {
        time: Duration::from_secs_f64(arguments.time.clamp(0.1, 60.0)),
    };
    let mut report = Report::new(absent);
    for offloads in [Offloads::On, Offloads::Off] {
        let wanted: Vec<_> = Measure::ALL
            .into_iter()
            .filter(|it| arguments.measures.is_empty() || arguments.measures.contains(it))
            .filter(|it| offloads == Offloads::On || it.wants_offloads_off())
            .collect();
        let skip = offloads == Offloads::Off && arguments.skip_offloads_off;
        if skip || wanted.is_empty() || support::is_ending() {
            continue;
        }
        let sites = runtime.block_on(sites(&peers, offloads, arguments.shared_machine))?;
        rounds(
            arguments.rounds,
            &sites,
            offloads,
            &wanted,
            options,
            &mut report,
        )?;
        for site in &sites {
            site.check_checksums()?;
        }
        // Their tasks and children need the runtime to be dropped.
        let _inside = runtime.enter();
        drop(sites);
    }
    let result = report.check();
    if arguments.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    result
}

/// Who takes part, and a line for each that cannot.
fn peers(arguments: &Arguments) -> Result<(Vec<Peer>, Vec<String>)> {
    let builds = support::builds(&arguments.also)?;
    check_names(&arguments.peers, &builds)?;
    let mut peers = vec![Peer::Forwarding, Peer::Dnat44];
    let mut absent = Vec::new();
    match site::tayga_of_debian() {
        Ok(path) => peers.push(Peer::Tayga(path)),
        Err(error) => absent.push(format!("TAYGA of Debian: {error:#}")),
    }
    let from_env = |name| std::env::var_os(name).map(PathBuf::from);
    match arguments
        .tayga_main
        .clone()
        .or_else(|| from_env("PORTICO_BENCH_TAYGA"))
    {
        Some(path) => peers.push(Peer::TaygaMain(path)),
        None => absent.push("TAYGA main: give its path by PORTICO_BENCH_TAYGA".to_owned()),
    }
    match arguments
        .tundra
        .clone()
        .or_else(|| from_env("PORTICO_BENCH_TUNDRA"))
    {
        Some(path) => peers.push(Peer::Tundra(path)),
        None => absent.push("Tundra: give its path by PORTICO_BENCH_TUNDRA".to_owned()),
    }
    peers.extend(
        builds
            .into_iter()
            .map(|(name, path)| Peer::Portico(name, path)),
    );
    peers.retain(|it| {
        arguments.peers.is_empty() || arguments.peers.iter().any(|name| name == it.name())
    });
    Ok((peers, absent))
}

/// Whoever mistypes a name would miss a column, or all of them.
fn check_names(wanted: &[String], builds: &[(String, PathBuf)]) -> Result<()> {
    let ours = builds.iter().map(|(name, _)| name.as_str());
    let known: Vec<_> = site::NAMES.into_iter().chain(ours).collect();
    match wanted.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => bail!("no peer is named {name:?}: known are {}", known.join(", ")),
        None => Ok(()),
    }
}

async fn sites(peers: &[Peer], offloads: Offloads, shared: bool) -> Result<Vec<Site>> {
    let mut sites = Vec::new();
    for peer in peers {
        let site = Site::build(peer, offloads, shared)
            .await
            .with_context(|| format!("cannot set up {}", peer.name()))?;
        sites.push(site);
    }
    Ok(sites)
}

fn rounds(
    rounds: usize,
    sites: &[Site],
    offloads: Offloads,
    wanted: &[Measure],
    options: Options,
    report: &mut Report,
) -> Result<()> {
    for site in sites {
        load::verify(site)
            .with_context(|| format!("{} does not carry bytes right", site.peer.name()))?;
    }
    for round in 0..rounds {
        eprintln!("round {} of {rounds}, host offloads {offloads}", round + 1);
        for measure in wanted {
            for turn in support::turns(sites.len(), round) {
                if support::is_ending() {
                    return Ok(());
                }
                let Some(site) = sites.get(turn) else {
                    continue;
                };
                let peer = site.peer.name();
                match measure.take(site, options) {
                    Ok(values) => {
                        for (column, value) in values {
                            report.add(offloads, peer, column, value);
                        }
                    }
                    Err(error) => {
                        report.failed(format!("{peer}, {measure:?}, round {round}: {error:#}"));
                    }
                }
            }
        }
    }
    Ok(())
}

const NAME: &str = "translate";
