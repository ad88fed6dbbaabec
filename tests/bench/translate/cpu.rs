//! What the processors did, and who may use which.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The processor time that the whole machine spends, from [`Busy::start`] on.
#[derive(Debug)]
pub struct Busy {
    begun: Instant,
    idle: Duration,
}

impl Busy {
    pub fn start() -> Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            idle: idle()?,
        })
    }

    /// All processors together; what the host of a virtual machine stole is not ours.
    pub fn so_far(&self) -> Result<Duration> {
        let all = self.begun.elapsed() * processors()?;
        Ok(all.saturating_sub(idle()?.saturating_sub(self.idle)))
    }
}

/// Lets the calling thread run on one processor only.
pub fn pin_this_thread(processor: usize) -> Result<()> {
    pin(Pid::from_raw(0), &[processor])
}

/// Lets all threads of a process run on these processors only.
pub fn pin_process(id: u32, processors: &[usize]) -> Result<()> {
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let thread = thread?.file_name();
        let thread: i32 = thread.to_string_lossy().parse()?;
        pin(Pid::from_raw(thread), processors)?;
    }
    Ok(())
}

fn pin(thread: Pid, processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for processor in processors {
        set.set(*processor)?;
    }
    sched_setaffinity(thread, &set).context("cannot choose a processor")
}

/// The memory of a process that is in use, in MiB.
pub fn resident_mib(id: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.context("no VmRSS")?.parse()?;
    Ok(kib / 1024.0)
}

pub fn processors() -> Result<u32> {
    let stat = fs::read_to_string("/proc/stat")?;
    let lines = stat.lines().skip(1).take_while(|it| it.starts_with("cpu"));
    Ok(u32::try_from(lines.count())?)
}

/// Idle, waiting for a disk or stolen, of all processors together; exact since the kernel counts
/// idle time when it ends, not by ticks.
fn idle() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let total = stat.lines().next().context("/proc/stat is empty")?;
    let field = |n| {
        total
            .split_whitespace()
            .nth(n)
            .and_then(|it| it.parse::<u64>().ok())
    };
    let [idle, iowait, steal] = [4, 5, 8].map(|n| field(n).unwrap_or_default());
    Ok(Duration::from_millis((idle + iowait + steal) * 10))
}
