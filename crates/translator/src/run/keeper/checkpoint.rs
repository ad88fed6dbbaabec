//! The file that sessions survive in: a place for each number of the session table, written
//! where something has changed.
//!
//! A process writes a file of its own beside that of the process before, and puts it in its place
//! when it holds all sessions.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mapping::{BootId, Instant, Now, Wall};

use super::record::checksum;
use super::segments::make_folder;

/// What is written of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<S> {
    /// Its number in the table.
    pub(super) number: u32,
    /// The session.
    pub(super) session: S,
    /// Differs when it has changed in another way than by being used.
    pub(super) state: NonZeroU32,
    /// When it was last used, in seconds.
    pub(super) used: u32,
}

/// The file of this process.
#[derive(Debug)]
pub(super) struct Checkpoint<const N: usize> {
    folder: PathBuf,
    file: File,
    /// It has taken the place of the file of an earlier process.
    in_place: bool,
    /// All of the current sweep was written.
    whole: bool,
    written: Vec<Option<Written>>,
}

/// What stands in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    state: NonZeroU32,
    used: u32,
}

/// What an earlier process left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loaded<const N: usize> {
    /// When all was as it stands there.
    pub(super) boot: BootId,
    pub(super) at: Now,
    pub(super) sessions: Vec<[u8; N]>,
    /// Places that hold neither a session nor nothing.
    pub(super) damaged: u64,
}

/// Reads the file of an earlier process.
///
/// # Errors
/// When it cannot be read, or is none of ours; `NotFound` when there is none.
pub(super) fn load<const N: usize>(folder: &Path) -> io::Result<Loaded<N>> {
    let bytes = fs::read(folder.join(NAME))?;
    let (head, places) = bytes
        .split_first_chunk::<HEAD>()
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let (boot, at) = parse::<N>(head).ok_or(io::ErrorKind::InvalidData)?;
    let mut loaded = Loaded {
        boot,
        at,
        sessions: Vec::new(),
        damaged: 0,
    };
    // a torn place at the end is as empty
    for (number, place) in (0..).zip(places.chunks_exact(place_len::<N>())) {
        if place.iter().all(|byte| *byte == 0) {
            continue;
        }
        let session = place.first_chunk::<N>().filter(|session| {
            let mut whole = Vec::with_capacity(place.len());
            emit(number, session, &mut whole);
            whole == place
        });
        match session {
            Some(session) => loaded.sessions.push(*session),
            None => loaded.damaged += 1,
        }
    }
    Ok(loaded)
}

impl<const N: usize> Checkpoint<N> {
    /// Makes the file of this process.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        make_folder(folder)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(folder.join(NEW))?;
        Ok(Self {
            folder: folder.to_owned(),
            file,
            in_place: false,
            whole: true,
            written: Vec::new(),
        })
    }

    /// Writes what has changed of `count` numbers from `first` onward, whose live sessions are
    /// `lines`, by number.
    pub(super) fn write<S>(
        &mut self,
        first: u32,
        count: u32,
        lines: &[Line<S>],
        encode: impl Fn(&S) -> [u8; N],
    ) -> io::Result<()> {
        let mut lines = lines.iter().peekable();
        let mut run = Run::default();
        for number in first..first.saturating_add(count) {
            let line = lines.next_if(|line| line.number == number);
            if self.is_written(number, line) {
                self.finish(&mut run)?;
                continue;
            }
            let place = line.map(|line| (line.written(), encode(&line.session)));
            run.add(number, place);
        }
        self.finish(&mut run)
    }

    /// Ends a sweep over all numbers, those from `end` onward being free: from now on this is what
    /// sessions are restored from. Tells whether it is: of a sweep of which something could not be
    /// written nothing is made.
    pub(super) fn complete(&mut self, end: u32, boot: BootId, now: Now) -> io::Result<bool> {
        if !std::mem::replace(&mut self.whole, true) {
            return Ok(false);
        }
        let places = usize::try_from(end).unwrap_or(usize::MAX);
        if self.written.len() > places {
            self.file.set_len(offset::<N>(end))?;
            self.written.truncate(places);
        }
        self.file.write_all_at(&head::<N>(boot, now), 0)?;
        if !self.in_place {
            self.file.sync_data()?;
            fs::rename(self.folder.join(NEW), self.folder.join(NAME))?;
            self.in_place = true;
        }
        Ok(true)
    }

    /// Waits until the disk has everything.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_written<S>(&self, number: u32, line: Option<&Line<S>>) -> bool {
        let place = usize::try_from(number).ok();
        let written = place.and_then(|place| self.written.get(place).copied().flatten());
        match (written, line) {
            (None, None) => true,
            (Some(written), Some(line)) => {
                written.state == line.state && line.used.saturating_sub(written.used) < STALE
            }
            _ => false,
        }
    }

    /// Writes a run of places that follow each other.
    fn finish(&mut self, run: &mut Run) -> io::Result<()> {
        if run.places.is_empty() {
            return Ok(());
        }
        let result = self.file.write_all_at(&run.bytes, offset::<N>(run.first));
        self.whole &= result.is_ok();
        let first = usize::try_from(run.first).unwrap_or(usize::MAX);
        let end = first.saturating_add(run.places.len());
        if self.written.len() < end {
            self.written.resize(end, None);
        }
        for (written, place) in self.written.iter_mut().skip(first).zip(&run.places) {
            // a place that was not written may hold anything
            *written = if result.is_ok() { *place } else { Some(TORN) };
        }
        *run = Run::default();
        result
    }
}

/// Places that follow each other and are written at once.
#[derive(Debug, Default)]
struct Run {
    first: u32,
    places: Vec<Option<Written>>,
    bytes: Vec<u8>,
}

impl Run {
    fn add<const N: usize>(&mut self, number: u32, place: Option<(Written, [u8; N])>) {
        if self.places.is_empty() {
            self.first = number;
        }
        match &place {
            Some((_, session)) => emit(number, session, &mut self.bytes),
            None => self.bytes.resize(self.bytes.len() + place_len::<N>(), 0),
        }
        self.places.push(place.map(|(written, _)| written));
    }
}

impl<S> Line<S> {
    const fn written(&self) -> Written {
        Written {
            state: self.state,
            used: self.used,
        }
    }
}

/// Adds a place. Its checksum covers its number, so that no session is found at another's place.
fn emit<const N: usize>(number: u32, session: &[u8; N], bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend(session);
    bytes.extend(number.to_be_bytes());
    let sum = checksum(bytes.get(start..).unwrap_or_default());
    bytes.extend(sum.to_be_bytes());
}

fn head<const N: usize>(boot: BootId, now: Now) -> [u8; HEAD] {
    let mut fields = Vec::with_capacity(HEAD);
    fields.extend(MAGIC);
    fields.extend(u32::try_from(N).unwrap_or_default().to_be_bytes());
    fields.extend(boot.0);
    fields.extend(now.mono.as_nanos().to_be_bytes());
    fields.extend(now.wall.as_nanos().to_be_bytes());
    fields.extend(checksum(&fields).to_be_bytes());
    let mut head = [0; HEAD];
    for (to, from) in head.iter_mut().zip(fields) {
        *to = from;
    }
    head
}

fn parse<const N: usize>(bytes: &[u8; HEAD]) -> Option<(BootId, Now)> {
    let (_, rest) = bytes.split_first_chunk::<20>()?;
    let (boot, rest) = rest.split_first_chunk::<16>()?;
    let (mono, rest) = rest.split_first_chunk::<8>()?;
    let (wall, _) = rest.split_first_chunk::<8>()?;
    let boot = BootId(*boot);
    let now = Now {
        mono: Instant::from_nanos(u64::from_be_bytes(*mono)),
        wall: Wall::from_nanos(u64::from_be_bytes(*wall)),
    };
    (head::<N>(boot, now) == *bytes).then_some((boot, now))
}

const fn place_len<const N: usize>() -> usize {
    N + 8
}

fn offset<const N: usize>(number: u32) -> u64 {
    HEAD as u64 + u64::from(number) * place_len::<N>() as u64
}

/// What stands in a place after a write that failed.
const TORN: Written = Written {
    state: NonZeroU32::MAX,
    used: 0,
};

/// The use of a session is written only when it is this many seconds later: well below the
/// shortest lifetime.
const STALE: u32 = 30;

/// The version is the last byte.
const MAGIC: &[u8; 16] = b"portico nat64 1\0";

const HEAD: usize = 64;

const NAME: &str = "sessions";

const NEW: &str = "sessions.new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_found_again_and_those_that_ended_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Checkpoint::<8>::create(folder.path()).unwrap();
        put(&mut file, 0, 4, &[line(0, 10), line(2, 12), line(3, 13)]).unwrap();
        put(&mut file, 4, 4, &[line(6, 16)]).unwrap();
        assert!(load::<8>(folder.path()).is_err(), "a sweep is not over");
        file.complete(8, BOOT, now(1)).unwrap();
        assert_eq!(sessions(&folder), [10, 12, 13, 16]);

        put(&mut file, 0, 4, &[line(2, 22)]).unwrap();
        file.complete(4, BOOT, now(2)).unwrap();

        let loaded = load::<8>(folder.path()).unwrap();
        assert_eq!(sessions(&folder), [22]);
        assert_eq!((loaded.at, loaded.boot, loaded.damaged), (now(2), BOOT, 0));
    }

    #[test]
    fn file_of_the_process_before_stays_until_this_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Checkpoint::<8>::create(folder.path()).unwrap();
        put(&mut first, 0, 2, &[line(0, 1), line(1, 2)]).unwrap();
        first.complete(2, BOOT, now(1)).unwrap();

        let mut next = Checkpoint::<8>::create(folder.path()).unwrap();
        put(&mut next, 0, 1, &[line(0, 3)]).unwrap();
        assert_eq!(sessions(&folder), [1, 2]);
        put(&mut next, 1, 1, &[]).unwrap();
        next.complete(2, BOOT, now(2)).unwrap();
        assert_eq!(sessions(&folder), [3]);
    }

    #[test]
    fn only_what_has_changed_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Checkpoint::<8>::create(folder.path()).unwrap();
        let mut lines: Vec<_> = (0..100).map(|number| line(number, number)).collect();
        put(&mut file, 0, 100, &lines).unwrap();
        file.complete(100, BOOT, now(1)).unwrap();
        let path = folder.path().join(NAME);
        let zeroed = vec![0; fs::read(&path).unwrap().len()];
        fs::write(&path, &zeroed).unwrap();

        // used a little later; changed; used much later
        lines[1].used += STALE - 1;
        lines[2] = line(2, 52);
        lines[50].used += STALE;
        put(&mut file, 0, 100, &lines).unwrap();
        file.complete(100, BOOT, now(2)).unwrap();

        assert_eq!(sessions(&folder), [52, 50]);
    }

    #[test]
    fn damage_costs_what_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Checkpoint::<8>::create(folder.path()).unwrap();
        let lines: Vec<_> = (0..10).map(|number| line(number, number)).collect();
        put(&mut file, 0, 10, &lines).unwrap();
        file.complete(10, BOOT, now(1)).unwrap();
        let path = folder.path().join(NAME);
        let good = fs::read(&path).unwrap();

        let mut bytes = good.clone();
        bytes[HEAD + 2 * place_len::<8>()] ^= 1;
        // one place copied over another
        bytes.copy_within(HEAD + 5 * 16..HEAD + 6 * 16, HEAD + 7 * 16);
        bytes.truncate(good.len() - 3);
        fs::write(&path, &bytes).unwrap();
        let loaded = load::<8>(folder.path()).unwrap();
        assert_eq!(loaded.damaged, 2);
        assert_eq!(sessions(&folder), [0, 1, 3, 4, 5, 6, 8]);

        for head in 0..HEAD {
            let mut bytes = good.clone();
            bytes[head] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(load::<8>(folder.path()).is_err());
        }
        fs::write(&path, &good).unwrap();
        assert!(load::<9>(folder.path()).is_err(), "another version");
        fs::write(&path, b"").unwrap();
        assert!(load::<8>(folder.path()).is_err());
    }

    #[test]
    fn sweep_of_which_a_part_was_not_written_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Checkpoint::<8>::create(folder.path()).unwrap();
        put(&mut file, 0, 1, &[line(0, 1)]).unwrap();
        file.complete(1, BOOT, now(1)).unwrap();
        // read-only, as a disk that takes no more
        let writable = std::mem::replace(
            &mut file.file,
            File::open(folder.path().join(NAME)).unwrap(),
        );
        assert!(put(&mut file, 0, 2, &[line(0, 2), line(1, 3)]).is_err());
        assert!(!file.complete(2, BOOT, now(2)).unwrap());
        assert_eq!(load::<8>(folder.path()).unwrap().at, now(1));

        file.file = writable;
        put(&mut file, 0, 2, &[line(0, 2), line(1, 3)]).unwrap();
        assert!(file.complete(2, BOOT, now(3)).unwrap());
        assert_eq!(sessions(&folder), [2, 3]);
    }

    fn line(number: u32, session: u32) -> Line<u32> {
        Line {
            number,
            session,
            state: NonZeroU32::new(session + 1).unwrap(),
            used: 100,
        }
    }

    fn put(
        file: &mut Checkpoint<8>,
        first: u32,
        count: u32,
        lines: &[Line<u32>],
    ) -> io::Result<()> {
        file.write(first, count, lines, |session| {
            u64::from(*session).to_be_bytes()
        })
    }

    fn sessions(folder: &tempfile::TempDir) -> Vec<u64> {
        let loaded = load::<8>(folder.path());
        let sessions = loaded.map(|loaded| loaded.sessions).unwrap_or_default();
        sessions.into_iter().map(u64::from_be_bytes).collect()
    }

    fn now(secs: u64) -> Now {
        Now {
            mono: Instant::from_nanos(secs),
            wall: Wall::from_secs(secs),
        }
    }

    const BOOT: BootId = BootId([3; 16]);
}
