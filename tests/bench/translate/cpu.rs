//! What the processors did, and who may use which.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Whose processor time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's: right on a machine that does nothing else.
    Machine,
    /// That of our threads, of this process and of the kernel's for network packets; it misses
    /// what the kernel does while a processor idles.
    Ours(Option<u32>),
}

/// The processor time that is spent from [`Busy::start`] on.
#[derive(Debug)]
pub struct Busy {
    whose: Whose,
    begun: Instant,
    before: Duration,
}

impl Busy {
    pub fn start(whose: Whose) -> Result<Self> {
        Ok(Self {
            whose,
            begun: Instant::now(),
            before: whose.count()?,
        })
    }

    pub fn so_far(&self) -> Result<Duration> {
        let counted = self.whose.count()?.saturating_sub(self.before);
        match self.whose {
            Whose::Ours(_) => Ok(counted),
            // What the host of a virtual machine stole is not ours either.
            Whose::Machine => {
                let all = self.begun.elapsed() * processors()?;
                Ok(all.saturating_sub(counted))
            }
        }
    }
}

impl Whose {
    fn count(self) -> Result<Duration> {
        let Self::Ours(translator) = self else {
            return idle();
        };
        let mut sum = Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?);
        if let Some(id) = translator {
            let clock = clock_getcpuclockid(Pid::from_raw(id.cast_signed()))?;
            sum += Duration::from(clock_gettime(clock)?);
        }
        Ok(sum + soft_interrupts()?)
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

/// What the threads have used that take over when packets come too fast.
fn soft_interrupts() -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for process in fs::read_dir("/proc")? {
        let path = process?.path();
        // A process may end meanwhile; those of the kernel do not.
        let Ok(name) = fs::read_to_string(path.join("comm")) else {
            continue;
        };
        if name.starts_with("ksoftirqd/") {
            let stat = fs::read_to_string(path.join("schedstat"))?;
            let nanos = stat
                .split_whitespace()
                .next()
                .context("schedstat is empty")?;
            sum += Duration::from_nanos(nanos.parse()?);
        }
    }
    Ok(sum)
}
