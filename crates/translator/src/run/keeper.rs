//! Who owns the files: a thread that writes down what the packet thread hands over, so that no
//! packet waits for a disk or for a collector.

mod checkpoint;
mod log;
mod record;
mod segments;
mod syslog;

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use gateway::{EndReason, SessionEnds};
use mapping::{BootId, Instant, Now, Wall};
use net::Clock;
use tokio::sync::oneshot;

pub use log::LogLimits;
pub use syslog::Syslog;

use super::observer;
use crate::event::Event;
use crate::saved::Saved;
use checkpoint::{Checkpoint, Line};
use log::Log;
pub(super) use log::Reader;
use record::Record;
use syslog::Sender;

/// Where things are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// The folder where sessions survive and where the session log is; without one, neither.
    pub state: Option<PathBuf>,
    /// How much the session log keeps.
    pub log: LogLimits,
    /// Who else is told of sessions that begin and end.
    pub syslog: Option<Syslog>,
}

/// What was lost on the way to the files.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Records for which the thread had no time.
    pub(super) busy: AtomicU64,
    /// Records for which the disk had no room.
    pub(super) disk: AtomicU64,
    /// Messages for which the collector had no time.
    pub(super) syslog: AtomicU64,
    /// Saved sessions that were damaged, or a file of them that could not be read.
    pub(super) damaged: AtomicU64,
}

/// The packet thread's side.
#[derive(Debug)]
pub(super) struct Keeper {
    to: SyncSender<Message>,
    ended: oneshot::Receiver<()>,
    losses: Arc<Losses>,
    /// What an earlier process left, until it is taken.
    left: Option<oneshot::Receiver<Vec<Saved>>>,
    keeps_sessions: bool,
    reader: Option<Reader>,
    /// The thread had no room for what was handed over.
    not_before: Instant,
    seen: Vec<Seen>,
}

/// An event, and when it was heard.
#[derive(Debug)]
struct Seen {
    event: Event,
    at: Instant,
}

#[derive(Debug)]
enum Message {
    /// Answers when everything before is written.
    Barrier(oneshot::Sender<()>),
    Events(Vec<Seen>, Now),
    /// These sessions of an earlier process go on, and no others.
    GoOn(Vec<SessionEnds>),
    Sessions(Part),
    /// A sweep is over; from this number on there are no sessions.
    Swept(u32, Now),
}

/// All sessions of some numbers that are worth keeping.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) sessions: Vec<(u32, Saved)>,
    pub(super) at: Instant,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start(keep: &Keep, clock: Clock) -> io::Result<Self> {
        let (to, from) = sync_channel(QUEUE);
        let (end, ended) = oneshot::channel();
        let (leave, left) = oneshot::channel();
        let losses = Arc::new(Losses::default());
        let folder = keep.state.as_ref().map(|state| state.join(LOG_FOLDER));
        let reader = folder
            .clone()
            .filter(|_| !keep.log.is_off())
            .map(Reader::new);
        let mut desk = Desk {
            clock,
            log: folder.map(|folder| Log::open(&folder, keep.log)),
            reader: reader.clone(),
            syslog: keep.syslog.clone().map(Sender::new),
            losses: Arc::clone(&losses),
            state: keep.state.clone(),
            // Without it no two boots are the same.
            boot: net::boot_id().unwrap_or_default(),
            before: Wall::default(),
            checkpoint: None,
            checkpoint_trouble: Trouble::default(),
            log_trouble: Trouble::default(),
            syslog_trouble: Trouble::default(),
            forgotten: Instant::default(),
        };
        std::thread::Builder::new()
            .name("sessions".to_owned())
            .spawn(move || {
                // The packet thread waits for it, unless it ends before the first packet.
                let _gone = leave.send(desk.load());
                desk.work(&from);
                // Nobody waits any more only when the program has ended anyway.
                let _gone = end.send(());
            })?;
        Ok(Self {
            to,
            ended,
            losses,
            left: Some(left),
            keeps_sessions: keep.state.is_some(),
            reader,
            not_before: Instant::default(),
            seen: Vec::new(),
        })
    }

    /// Returns who reads the session log, if there is one.
    pub(super) fn reader(&self) -> Option<Reader> {
        self.reader.clone()
    }

    /// Returns the sessions that an earlier process left, the longest idle first.
    pub(super) async fn left(&mut self) -> Vec<Saved> {
        match self.left.take() {
            Some(left) => left.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// Tells whether sessions survive.
    pub(super) const fn keeps_sessions(&self) -> bool {
        self.keeps_sessions
    }

    /// Hands over a part of the sessions, and tells whether there was room.
    pub(super) fn save(&self, part: Part) -> bool {
        self.to.try_send(Message::Sessions(part)).is_ok()
    }

    /// Says that all were handed over, and tells whether there was room.
    pub(super) fn saved(&self, end: u32, now: Now) -> bool {
        self.to.try_send(Message::Swept(end, now)).is_ok()
    }

    pub(super) fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Takes an event; it is handed over with others.
    pub(super) fn hear(&mut self, event: Event, at: Instant) {
        if self.seen.len() < SEEN {
            self.seen.push(Seen { event, at });
        } else {
            count(&self.losses.busy, 1);
        }
    }

    /// Returns when to call [`Self::hand_over`].
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.seen.first()?;
        Some((first.at + GATHER).max(self.not_before))
    }

    /// Hands over what has been gathered for long enough, or is much; never waits.
    pub(super) fn hand_over(&mut self, clock: &Clock, now: Instant) {
        let Some(due) = self.due() else {
            return;
        };
        if self.seen.len() >= BATCH && self.not_before <= now || due <= now {
            self.hand_over_now(clock.now());
        }
    }

    /// Says which sessions of an earlier process go on.
    pub(super) fn go_on(&self, sessions: Vec<SessionEnds>) {
        // The queue is empty when the machine starts.
        let _full = self.to.try_send(Message::GoOn(sessions));
    }

    /// Answers when everything that was heard is written; drops `answer` if that may take long.
    pub(super) fn barrier(&mut self, clock: &Clock, answer: oneshot::Sender<()>) {
        self.hand_over_now(clock.now());
        let _full = self.to.try_send(Message::Barrier(answer));
    }

    /// Waits until everything is written, for a bounded time.
    pub(super) async fn finish(mut self, clock: &Clock) {
        self.hand_over_now(clock.now());
        drop(self.to);
        if tokio::time::timeout(PATIENCE, self.ended).await.is_err() {
            tracing::warn!("the disk is slow: the last changes of sessions may be lost");
        }
    }

    fn hand_over_now(&mut self, now: Now) {
        if self.seen.is_empty() {
            return;
        }
        let seen = std::mem::take(&mut self.seen);
        match self.to.try_send(Message::Events(seen, now)) {
            Ok(()) => {}
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                // they wait for the next time
                if let Message::Events(seen, _) = message {
                    self.seen = seen;
                }
                self.not_before = now.mono + FULL_PAUSE;
            }
        }
    }
}

/// The thread's side.
#[derive(Debug)]
struct Desk {
    clock: Clock,
    log: Option<Log>,
    reader: Option<Reader>,
    syslog: Option<Sender>,
    losses: Arc<Losses>,
    log_trouble: Trouble,
    syslog_trouble: Trouble,
    state: Option<PathBuf>,
    boot: BootId,
    /// When an earlier process was last heard of.
    before: Wall,
    checkpoint: Option<Checkpoint<PLACE>>,
    checkpoint_trouble: Trouble,
    /// When old lines were last deleted.
    forgotten: Instant,
}

impl Desk {
    fn work(&mut self, from: &Receiver<Message>) {
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
                    let result = checkpoint.complete(end, self.boot, now);
                    self.checkpoint_trouble.note("save sessions", result);
                }
            }
        }
    }

    /// Reads what an earlier process left. Whatever is wrong with it, this one starts.
    fn load(&mut self) -> Vec<Saved> {
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
        let ago = if loaded.boot == self.boot {
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
        self.checkpoint_trouble.note("save sessions", result);
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
                self.log_trouble.note("delete old session logs", forgotten);
            }
        }
        if let Some(syslog) = &mut self.syslog {
            let sent = syslog.flush();
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
            bytes: encode(saved, part.at),
            state: NonZeroU32::new(saved.fingerprint()).unwrap_or(NonZeroU32::MIN),
            used: now
                .saturating_sub(saved.idle().as_secs())
                .try_into()
                .unwrap_or(u32::MAX),
        })
        .collect();
    checkpoint.write(part.first, part.count, &lines)
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

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// A saved session, and when it was saved.
const PLACE: usize = 8 + Saved::LEN;

/// Below the state folder.
const LOG_FOLDER: &str = "session-log";

/// Messages that may wait for the thread.
const QUEUE: usize = 64;

/// Events are handed over after so long at the latest.
const GATHER: Duration = Duration::from_millis(100);

/// Until what found no room is handed over again.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Events that are handed over at once.
const BATCH: usize = 256;

/// Events that wait while the thread is busy.
const SEEN: usize = 4096;

/// Between two attempts to write what the disk did not take.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Between two attempts to send what the collector did not take.
const SYSLOG_PAUSE: Duration = Duration::from_millis(20);

/// How often old lines are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);

/// How long the end of the program waits for the disk.
const PATIENCE: Duration = Duration::from_millis(2500);
