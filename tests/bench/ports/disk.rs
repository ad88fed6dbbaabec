//! The disk itself: what one append and `fdatasync` costs in the folder of the stores.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// A file that grows as a log does.
#[derive(Debug)]
pub struct Probe {
    file: File,
    bytes: Vec<u8>,
    written: usize,
    least: Duration,
}

/// A library that makes `fdatasync` take longer, for a disk that is faster than the goals'.
#[derive(Debug)]
pub struct Slowed {
    /// To be preloaded.
    pub library: PathBuf,
    /// What it takes at least.
    pub least: Duration,
}

impl Slowed {
    /// Builds it with the C compiler that Rust links with.
    pub fn build(folder: &Path, least: Duration) -> Result<Self> {
        let (source, library) = (folder.join("slowed.c"), folder.join("slowed.so"));
        fs::write(&source, SLOWED)?;
        let status = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg(format!("-DLEAST_NS={}", least.as_nanos()))
            .status()
            .context("cannot run cc")?;
        ensure!(status.success(), "cc: {status}");
        Ok(Self { library, least })
    }
}

impl Probe {
    /// A sync takes `least` as that of the program does.
    pub fn new(folder: &Path, least: Duration) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(folder.join("probe"))?;
        Ok(Self {
            file,
            bytes: vec![0x5a; COMMIT_BYTES],
            written: 0,
            least,
        })
    }

    /// Appends what a commit appends, and waits until it is durable.
    pub fn sync(&mut self) -> Result<Duration> {
        if self.written >= LONGEST {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.sync_all()?;
            self.written = 0;
        }
        let begun = Instant::now();
        self.file.write_all(&self.bytes)?;
        self.file.sync_data()?;
        if let Some(rest) = self.least.checked_sub(begun.elapsed()) {
            thread::sleep(rest);
        }
        self.written += self.bytes.len();
        Ok(begun.elapsed())
    }
}

/// The type of the file system below `folder`; memory is no disk.
pub fn file_system(folder: &Path) -> Result<String> {
    let output = Command::new("stat")
        .args(["--file-system", "--format=%T"])
        .arg(folder)
        .output()
        .context("cannot run stat")?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success(), "stat: {}", output.status);
    ensure!(
        !["tmpfs", "ramfs"].contains(&name.as_str()),
        "{} lies in memory ({name}), where nothing is durable: choose another --folder",
        folder.display()
    );
    Ok(name)
}

/// Five frames of the WAL: the pages that one request changes.
const COMMIT_BYTES: usize = 5 * 4120;

const LONGEST: usize = 16 << 20;

const SLOWED: &str = r"
#define _GNU_SOURCE
#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int fd)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += LEAST_NS;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    int result = syscall(SYS_fdatasync, fd), saved = errno;
    prctl(PR_SET_TIMERSLACK, 1);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
        ;
    errno = saved;
    return result;
}
";
