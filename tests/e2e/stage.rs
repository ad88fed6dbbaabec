//! A home for one test, and what explains its failure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use lab::{Home, Plan};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use crate::program::program;

/// The plan of a home with these servers.
pub fn home<const N: usize>(servers: [&str; N]) -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_portico")).residents(servers)
}

/// Builds a home, starts the daemon and plays `test` in it.
///
/// # Errors
/// What failed, with the end of the daemon's log.
pub async fn play(plan: Plan, test: impl AsyncFnOnce(&mut Home) -> Result<()>) -> Result<()> {
    let home = plan.build().await?;
    act(home, async move |home| {
        home.daemon.start().await?;
        test(home).await?;
        match home.daemon.pid() {
            Some(_) => home.daemon.check(),
            None => Ok(()),
        }
    })
    .await
}

/// Plays `test` in a home that was built already.
///
/// # Errors
/// As [`play`].
pub async fn act(mut home: Home, test: impl AsyncFnOnce(&mut Home) -> Result<()>) -> Result<()> {
    let _captures = capture(&home).await?;
    let played = timeout(PATIENCE, test(&mut home)).await;
    let played = played.unwrap_or_else(|_| Err(anyhow!("it takes more than {PATIENCE:?}")));
    let Err(error) = played else {
        return Ok(());
    };
    let folder = remains();
    std::fs::create_dir_all(&folder)?;
    let log = folder.join("portico.log");
    let tail = home.daemon.tail();
    drop(std::fs::copy(home.daemon.log_path(), &log));
    bail!(
        "{error:#}\n\nportico{tail}\n\nthe whole log: {}",
        log.display()
    )
}

/// Looks until it finds something.
///
/// # Errors
/// The last error, when the deadline has come.
pub async fn until<T>(mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("after {DEADLINE:?}")));
            }
            Err(_) => sleep(GLANCE).await,
        }
    }
}

/// A file below the home's folder.
///
/// # Errors
/// Names the file.
pub fn write(home: &Home, name: &str, text: &str) -> Result<PathBuf> {
    let path = home.folder().join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

async fn capture(home: &Home) -> Result<Vec<Child>> {
    let mut captures = Vec::new();
    if std::env::var_os("PORTICO_PCAP").is_none() {
        return Ok(captures);
    }
    let folder = remains();
    std::fs::create_dir_all(&folder)?;
    for (name, node) in [("gateway", &home.net.gateway), ("remote", &home.net.remote)] {
        let tcpdump = program(node, "tcpdump")?
            .args([
                "-q", "-U", "-n", "-Z", "root", "-i", "any", "-s", "256", "-w",
            ])
            .arg(folder.join(name).with_extension("pcap"));
        captures.push(tcpdump.spawn().await?);
    }
    Ok(captures)
}

/// Where a failed test leaves what explains it.
fn remains() -> PathBuf {
    let test = std::env::var("NEXTEST_TEST_NAME").ok();
    let test = test.or_else(|| std::thread::current().name().map(str::to_owned));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = target.parent().unwrap_or(target);
    target
        .join("e2e")
        .join(test.unwrap_or_default().replace("::", "."))
}

/// No test takes longer, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(270);

/// Nothing that comes by itself takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

const GLANCE: Duration = Duration::from_millis(50);
