//! The session log: who was behind a pool address at a time. Append-only, bounded in bytes and
//! in days.

use std::collections::btree_map::{BTreeMap, Entry as Slot};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway::{EndReason, LogCursor, LogEntry, LogPage, LogQuery, LoggedEnd};
use mapping::Wall;

use super::record::{Key, LEN, Record};
use super::segments::{self, LEN_U64, Number, Segment};

/// How much the session log keeps; without bytes or without days there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes on disk.
    pub bytes: u64,
    /// Days that a line is kept at most.
    pub days: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            bytes: 64 * 1024 * 1024,
            days: 30,
        }
    }
}

impl LogLimits {
    /// No log at all.
    pub const OFF: Self = Self { bytes: 0, days: 0 };

    pub(super) const fn is_off(self) -> bool {
        self.bytes == 0 || self.days == 0
    }

    /// A sixteenth goes at a time.
    fn segment(self) -> u64 {
        let share = self.bytes / 16;
        (share - share % LEN_U64).clamp(2 * LEN_U64, LARGEST_SEGMENT)
    }

    fn age(self) -> Duration {
        DAY.saturating_mul(self.days)
    }
}

/// The end of the log to which is written.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    limits: LogLimits,
    is_open: bool,
    segment: Option<Segment>,
    /// Whole records that wait for the disk.
    waiting: Vec<u8>,
}

impl Log {
    /// Prepares the log of a folder; the first [`Self::flush`] opens it.
    pub(super) fn open(folder: &Path, limits: LogLimits) -> Self {
        Self {
            folder: folder.to_owned(),
            limits,
            is_open: false,
            segment: None,
            waiting: Vec::new(),
        }
    }

    /// Adds a record that [`Self::flush`] writes, and returns how many were lost for want of room.
    pub(super) fn add(&mut self, record: &Record) -> u64 {
        if self.limits.is_off() {
            return 0;
        }
        if self.waiting.len() >= WAITING * LEN {
            return 1;
        }
        record.emit(&mut self.waiting);
        0
    }

    /// Writes what waits; on an error it goes on waiting.
    pub(super) fn flush(&mut self, now: Wall) -> io::Result<()> {
        let limit = self.limits.segment();
        let is_done = |segment: &Segment| {
            segment.len >= limit || now.since(segment.created) >= DAY || now < segment.created
        };
        self.resume(now)?;
        while !self.waiting.is_empty() {
            let mut segment = match self.segment.take() {
                Some(segment) if !is_done(&segment) => segment,
                _ => self.next(now)?,
            };
            let room = usize::try_from(limit.saturating_sub(segment.len)).unwrap_or(usize::MAX);
            let some = self.waiting.len().min(room.max(LEN));
            let written = segment.append(self.waiting.get(..some).unwrap_or_default());
            self.segment = Some(segment);
            written?;
            self.waiting.drain(..some);
        }
        Ok(())
    }

    /// Goes on where an earlier process ended; a new log knows everything from now on.
    fn resume(&mut self, now: Wall) -> io::Result<()> {
        if self.is_open || self.limits.is_off() {
            return Ok(());
        }
        segments::make_folder(&self.folder)?;
        self.segment = match segments::list(&self.folder).last() {
            Some((last, _)) => Segment::resume(&self.folder, *last)?,
            None => Some(self.next(now)?),
        };
        self.is_open = true;
        Ok(())
    }

    /// Deletes what is too old: everything, where no log is kept.
    pub(super) fn forget(&mut self, now: Wall) -> io::Result<()> {
        let current = self.segment.as_ref().map(|segment| segment.number);
        for (number, _) in segments::list(&self.folder) {
            let is_old = self.limits.is_off()
                || segments::created(&self.folder, number)
                    .is_none_or(|created| now.since(created) > self.limits.age());
            if is_old {
                segments::remove(&self.folder, number)?;
                if current == Some(number) {
                    self.segment = None;
                }
            }
        }
        Ok(())
    }

    /// Begins a segment, for which old ones make room.
    fn next(&mut self, now: Wall) -> io::Result<Segment> {
        let there = segments::list(&self.folder);
        let mut total: u64 = there.iter().map(|(_, len)| len).sum();
        for (number, len) in &there {
            if total.saturating_add(self.limits.segment()) <= self.limits.bytes {
                break;
            }
            segments::remove(&self.folder, *number)?;
            total = total.saturating_sub(*len);
        }
        let number = there.last().map_or(0, |(Number(last), _)| last + 1);
        Segment::create(&self.folder, Number(number), now)
    }
}

/// Reads the log while it is written.
#[derive(Debug, Clone)]
pub(in crate::run) struct Reader {
    folder: PathBuf,
}

impl Reader {
    pub(in crate::run) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Returns what fits a query. Waits for the disk.
    pub(in crate::run) fn read(&self, query: &LogQuery) -> LogPage {
        let mut found = Found::default();
        let wanted = query.filter;
        self.each(|position, bytes| {
            let [a, b, c, d, port @ ..] = Record::pool(bytes)?;
            let fits = wanted.pool.is_none_or(|addr| addr.octets() == [a, b, c, d])
                && wanted.pool_port.is_none_or(|it| it.to_be_bytes() == port);
            let record = Record::parse(bytes).filter(|_| fits)?;
            if wanted.fits_ends(&record.ends) {
                found.add(position, Record::key(bytes)?, &record);
            }
            Some(())
        });
        let mut entries = found
            .entries
            .into_iter()
            .filter(|(position, entry)| *position >= query.cursor.0 && entry.fits(query));
        let mut page = LogPage {
            entries: Vec::new(),
            next: None,
            since: segments::list(&self.folder)
                .first()
                .and_then(|(oldest, _)| segments::created(&self.folder, *oldest)),
        };
        for (position, entry) in entries.by_ref() {
            if page.entries.len() >= query.limit {
                page.next = Some(LogCursor(position));
                break;
            }
            page.entries.push(entry);
        }
        page
    }

    /// Returns the sessions whose end the log has not heard of, and the time of the last record.
    pub(super) fn open_ends(&self) -> (BTreeMap<Key, Record>, Wall) {
        let mut open = BTreeMap::new();
        let mut last = Wall::default();
        self.each(|_, bytes| {
            let (key, record) = (Record::key(bytes)?, Record::parse(bytes)?);
            last = last.max(record.at);
            if record.ended.is_some() {
                open.remove(&key);
            } else {
                open.insert(key, record);
            }
            Some(())
        });
        (open, last)
    }

    /// Calls for each record, oldest first, with a number that grows.
    fn each(&self, mut with: impl FnMut(u64, &[u8; LEN]) -> Option<()>) {
        for (number, _) in segments::list(&self.folder) {
            let mut position = u64::from(number.0) << 32;
            segments::each_record(&self.folder, number, |bytes| {
                // what it is not interested in has a place as well
                let _none = with(position, bytes);
                position += 1;
            });
        }
    }
}

/// Sessions that fit, in the order in which the log speaks of them first.
#[derive(Debug, Default)]
struct Found {
    entries: Vec<(u64, LogEntry)>,
    open: BTreeMap<Key, usize>,
}

impl Found {
    /// Between the same ends there is one session at a time: an end belongs to the last that
    /// began, and one that begins says that the one before has ended.
    fn add(&mut self, position: u64, key: Key, record: &Record) {
        let new = self.entries.len();
        let before = match (self.open.entry(key), record.ended) {
            (Slot::Occupied(slot), Some(_)) => Some(slot.remove()),
            (Slot::Occupied(mut slot), None) => Some(slot.insert(new)),
            (Slot::Vacant(_), Some(_)) => None,
            (Slot::Vacant(slot), None) => {
                slot.insert(new);
                None
            }
        };
        let before = before.and_then(|at| self.entries.get_mut(at));
        match (before, record.ended) {
            (Some((_, entry)), Some(why)) => {
                entry.ended = Some(LoggedEnd { at: record.at, why });
                entry.traffic = record.traffic;
            }
            (before, _) => {
                if let Some((_, entry)) = before {
                    let why = EndReason::Lost;
                    entry.ended = Some(LoggedEnd {
                        at: record.began,
                        why,
                    });
                }
                self.entries.push((position, record.entry()));
            }
        }
    }
}

/// Records that wait for the disk: some seconds of a busy gateway.
const WAITING: usize = 16 * 1024;

/// Read in one piece.
const LARGEST_SEGMENT: u64 = 4 * 1024 * 1024;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
