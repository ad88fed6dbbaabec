//! The disk itself: what one append and `fdatasync` costs in the folder of the stores.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// A file that grows as a log does.
#[derive(Debug)]
pub struct Probe {
    file: File,
    bytes: Vec<u8>,
    written: usize,
}

impl Probe {
    pub fn new(folder: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(folder.join("probe"))?;
        Ok(Self {
            file,
            bytes: vec![0x5a; COMMIT_BYTES],
            written: 0,
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
