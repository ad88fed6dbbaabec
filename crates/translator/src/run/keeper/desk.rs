//! The thread that owns the files.

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use gateway::{EndReason, SessionEnds};
use mapping::{BootId, Instant, Wall};
use net::Clock;

use super::checkpoint::{self, Checkpoint, Line};
use super::log::{Log, Reader};
use super::record::{self, Record};
use super::syslog::Sender;
use super::{Keep, Losses, Message, Part, Seen, count};
use crate::event::Event;
use crate::run::observer;
use crate::saved::Saved;

/// The thread's side.
#[derive(Debug)]
pub(super) struct Desk {
    clock: Clock,
    log: Option<Log>,
    reader: Option<Reader>,
    syslog: Option<Sender>,
    losses: Arc<Losses>,
    log_trouble: Trouble,
    forget_trouble: Trouble,
    syslog_trouble: Trouble,
    state: Option<PathBuf>,
    /// Unknown, no other boot is the same.
    boot: Option<BootId>,
    /// When an earlier process was last heard of.
    before: Wall,
    checkpoint: Option<Checkpoint<PLACE>>,
    checkpoint_trouble: Trouble,
    /// When old lines were last deleted.
    forgotten: Instant,
}

impl Desk {
    pub(super) fn new(keep: &Keep, clock: Clock, losses: Arc<Losses>) -> Self {
        let folder = keep.state.as_ref().map(|state| state.join(LOG_FOLDER));
        let reader = folder
            .clone()
            .filter(|_| !keep.log.is_off())
            .map(Reader::new);
        Self {
            clock,
            log: folder.map(|folder| Log::open(&folder, keep.log)),
            reader,
            syslog: keep.syslog.clone().map(Sender::new),
            losses,
            state: keep.state.clone(),
            boot: net::boot_id().ok(),
            before: Wall::default(),
            checkpoint: None,
            checkpoint_trouble: Trouble::default(),
            log_trouble: Trouble::default(),
            forget_trouble: Trouble::default(),
            syslog_trouble: Trouble::default(),
            forgotten: Instant::default(),
        }
    }

    /// Returns who reads the session log, if there is one.
    pub(super) fn reader(&self) -> Option<Reader> {
        self.reader.clone()
    }

    pub(super) fn work(&mut self, from: &Receiver<Message>) {
        self.write();
        loop {
            let wait = if self.syslog.as_ref().is_some_and(Sender::is_waiting) {
                SYSLOG_PAUSE
            } else {
                DISK_PAUSE
            };
            match from.recv_timeout(wait) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => self.write(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.write();
        if let Some(checkpoint) = &self.checkpoint {
            let synced = checkpoint.sync();
            self.checkpoint_trouble.note("save sessions", synced);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Barrier(answer) => {
                self.write();
                // Who asked may have left.
                let _gone = answer.send(());
            }
            Message::Events(seen, now) => {
                for Seen { event, at } in seen {
                    let at =
                        Wall::from_nanos(now.wall.as_nanos().saturating_sub(nanos(now.mono - at)));
                    self.add(&record(&event, at));
                }
                self.write();
            }
            Message::GoOn(sessions) => self.lose_others(&sessions),
            Message::Sessions(part) => self.save(&part),
            Message::Swept(end, now) => {
                if let Some(checkpoint) = &mut self.checkpoint {
                    match checkpoint.complete(end, self.boot.unwrap_or_default(), now) {
                        // what could not be written was told then
                        Ok(false) => {}
                        complete => {
                            let complete = complete.map(drop);
                            self.checkpoint_trouble.note("save sessions", complete);
                        }
                    }
                }
            }
        }
    }

    /// Reads what an earlier process left. Whatever is wrong with it, this one starts.
    pub(super) fn load(&mut self) -> Vec<Saved> {
        let Some(state) = &self.state else {
            return Vec::new();
        };
        let loaded = match checkpoint::load::<PLACE>(state) {
            Ok(loaded) => loaded,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                count(&self.losses.damaged, 1);
                tracing::warn!(%error, "the sessions of before are lost");
                return Vec::new();
            }
        };
        self.before = loaded.at.wall;
        let now = self.clock.now();
        // how long the last checkpoint is ago: the clock since boot knows best
        let ago = if self.boot == Some(loaded.boot) {
            now.mono - loaded.at.mono
        } else {
            now.wall.since(loaded.at.wall)
        };
        let mut damaged = loaded.damaged;
        let mut sessions = Vec::with_capacity(loaded.sessions.len());
        for place in &loaded.sessions {
            match decode(place) {
                Some((saved, at)) => sessions.push(saved.aged((loaded.at.mono - at) + ago)),
                None => damaged += 1,
            }
        }
        if damaged > 0 {
            count(&self.losses.damaged, damaged);
            tracing::warn!(damaged, "some sessions of before are lost");
        }
        sessions.sort_by_key(|saved| std::cmp::Reverse(saved.idle()));
        sessions
    }

    fn save(&mut self, part: &Part) {
        let Some(state) = &self.state else {
            return;
        };
        let result = write(&mut self.checkpoint, state, part);
        // that it works again is true only of all parts
        if result.is_err() {
            self.checkpoint_trouble.note("save sessions", result);
        }
    }

    fn add(&mut self, record: &Record) {
        if let Some(log) = &mut self.log {
            count(&self.losses.disk, log.add(record));
        }
        if let Some(syslog) = &mut self.syslog {
            count(&self.losses.syslog, syslog.add(record));
        }
    }

    fn write(&mut self) {
        let now = self.clock.now();
        if let Some(log) = &mut self.log {
            let written = log.flush(now.wall);
            self.log_trouble.note("write the session log", written);
            if self.forgotten == Instant::default() || now.mono - self.forgotten > FORGET_EVERY {
                self.forgotten = now.mono;
                let forgotten = log.forget(now.wall);
                self.forget_trouble
                    .note("delete old session logs", forgotten);
            }
        }
        if let Some(syslog) = &mut self.syslog
            && syslog.is_due(now.mono)
        {
            let sent = syslog.flush(now.mono);
            self.syslog_trouble.note("reach the syslog", sent);
        }
    }

    /// Ends in the log what an earlier process began and this one does not go on with.
    fn lose_others(&mut self, go_on: &[SessionEnds]) {
        let Some(reader) = &self.reader else {
            return;
        };
        let (open, at) = reader.open_ends();
        let go_on: BTreeSet<_> = go_on.iter().map(record::key_of).collect();
        for (_, mut record) in open.into_iter().filter(|(key, _)| !go_on.contains(key)) {
            record.ended = Some(EndReason::Lost);
            record.at = at.max(self.before);
            if let Some(log) = &mut self.log
                && log.add(&record) > 0
            {
                self.write();
                self.add(&record);
            }
        }
        self.write();
    }
}

/// Writes a part of the sessions to the file of this process, which is made with the first part.
fn write(checkpoint: &mut Option<Checkpoint<PLACE>>, state: &Path, part: &Part) -> io::Result<()> {
    let checkpoint = match checkpoint {
        Some(checkpoint) => checkpoint,
        None if part.first == 0 => checkpoint.insert(Checkpoint::create(state)?),
        None => return Ok(()),
    };
    let now = secs(part.at);
    let lines: Vec<_> = part
        .sessions
        .iter()
        .map(|(number, saved)| Line {
            number: *number,
            session: saved,
            state: NonZeroU32::new(saved.fingerprint()).unwrap_or(NonZeroU32::MIN),
            used: now
                .saturating_sub(saved.idle().as_secs())
                .try_into()
                .unwrap_or(u32::MAX),
        })
        .collect();
    checkpoint.write(part.first, part.count, &lines, |saved| {
        encode(saved, part.at)
    })
}

/// A saved session knows its times only from when it was saved.
fn encode(saved: &Saved, at: Instant) -> [u8; PLACE] {
    let mut place = [0; PLACE];
    let fields = at
        .as_nanos()
        .to_be_bytes()
        .into_iter()
        .chain(saved.encode());
    for (to, from) in place.iter_mut().zip(fields) {
        *to = from;
    }
    place
}

fn decode(place: &[u8; PLACE]) -> Option<(Saved, Instant)> {
    let (at, saved) = place.split_first_chunk::<8>()?;
    let saved = Saved::decode(saved.first_chunk()?).ok()?;
    Some((saved, Instant::from_nanos(u64::from_be_bytes(*at))))
}

const fn secs(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000_000
}

/// Says once that something does not work, and once that it works again.
#[derive(Debug, Default)]
struct Trouble {
    is_there: bool,
}

impl Trouble {
    fn note(&mut self, what: &str, result: io::Result<()>) {
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.is_there) {
                    tracing::info!("can {what} again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_there, true) {
                    tracing::warn!(%error, "cannot {what}");
                }
            }
        }
    }
}

fn record(event: &Event, at: Wall) -> Record {
    let (session, ended) = match event {
        Event::Began(session) => (session, None),
        Event::Ended { session, why } => (session, Some(observer::end_reason(*why))),
    };
    Record {
        at,
        // whole seconds are counted
        began: Wall::from_nanos(at.as_nanos().saturating_sub(nanos(session.age))),
        ends: observer::ends(session),
        ended,
        traffic: observer::traffic(session),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Below the state folder.
const LOG_FOLDER: &str = "session-log";

/// A saved session, and when it was saved.
const PLACE: usize = 8 + Saved::LEN;

/// Between two attempts to write what the disk did not take.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Between two attempts to send what the collector did not take.
const SYSLOG_PAUSE: Duration = Duration::from_millis(20);

/// How often old lines are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);
