//! The files of the session log: segments of fixed-size records, the oldest of which go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mapping::Wall;

use super::record::{LEN, checksum};

/// Names a segment; later ones have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(pub(super) u32);

/// A segment that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    pub(super) number: Number,
    pub(super) created: Wall,
    pub(super) len: u64,
}

impl Segment {
    /// Makes the next segment.
    pub(super) fn create(folder: &Path, number: Number, now: Wall) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path(folder, number))?;
        file.write_all_at(&header(now), 0)?;
        Ok(Self {
            file,
            number,
            created: now,
            len: LEN_U64,
        })
    }

    /// Opens the segment that an earlier process wrote last; what it did not finish is written
    /// over.
    pub(super) fn resume(folder: &Path, number: Number) -> io::Result<Option<Self>> {
        let path = path(folder, number);
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut head = [0; LEN];
        let Some(created) = file.read_exact(&mut head).ok().and_then(|()| parse(&head)) else {
            return Ok(None);
        };
        let len = file.metadata()?.len();
        Ok(Some(Self {
            file,
            number,
            created,
            len: len - len % LEN_U64,
        }))
    }

    /// Adds whole records, or nothing: what is written in part is written over later.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        self.file.write_all_at(records, self.len)?;
        self.len += u64::try_from(records.len()).unwrap_or_default();
        Ok(())
    }
}

/// Makes the folder, which nobody else may read.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Returns the segments that are there, oldest first, and their lengths.
pub(super) fn list(folder: &Path) -> Vec<(Number, u64)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut segments: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_suffix(SUFFIX)?.parse().ok()?;
            Some((Number(number), entry.metadata().ok()?.len()))
        })
        .collect();
    segments.sort_unstable();
    segments
}

/// Returns when a segment was made.
pub(super) fn created(folder: &Path, number: Number) -> Option<Wall> {
    let mut head = [0; LEN];
    let mut file = File::open(path(folder, number)).ok()?;
    file.read_exact(&mut head).ok()?;
    parse(&head)
}

/// Calls for each record of a segment that is there in full length, whatever stands in it.
pub(super) fn each_record(folder: &Path, number: Number, with: impl FnMut(&[u8; LEN])) {
    let bytes = fs::read(path(folder, number)).unwrap_or_default();
    let (chunks, _) = bytes.as_chunks::<LEN>();
    if let Some((head, records)) = chunks.split_first()
        && parse(head).is_some()
    {
        records.iter().for_each(with);
    }
}

/// Deletes a segment.
pub(super) fn remove(folder: &Path, number: Number) -> io::Result<()> {
    match fs::remove_file(path(folder, number)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn header(created: Wall) -> [u8; LEN] {
    let mut head = [0; LEN];
    let mut fields = Vec::with_capacity(LEN);
    fields.extend(MAGIC);
    fields.extend(created.as_nanos().to_be_bytes());
    fields.extend(checksum(&fields).to_be_bytes());
    for (to, from) in head.iter_mut().zip(fields) {
        *to = from;
    }
    head
}

fn parse(head: &[u8; LEN]) -> Option<Wall> {
    let (magic, rest) = head.split_first_chunk::<16>()?;
    let (created, _) = rest.split_first_chunk::<8>()?;
    let created = Wall::from_nanos(u64::from_be_bytes(*created));
    (magic == MAGIC && header(created) == *head).then_some(created)
}

fn path(folder: &Path, Number(number): Number) -> PathBuf {
    folder.join(format!("{number:010}{SUFFIX}"))
}

/// The version is the last byte.
const MAGIC: &[u8; 16] = b"portico sessions";

const SUFFIX: &str = ".log";

pub(super) const LEN_U64: u64 = LEN as u64;
