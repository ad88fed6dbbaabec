//! Who owns the files: a thread that writes down what the packet thread hands over, so that no
//! packet waits for a disk or for a collector.

mod checkpoint;
mod desk;
mod log;
mod record;
mod segments;
mod syslog;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use gateway::SessionEnds;
use mapping::{Instant, Now};
use net::Clock;
use tokio::sync::oneshot;

pub use log::LogLimits;
pub use syslog::Syslog;

use crate::event::Event;
use crate::saved::Saved;
use desk::Desk;
pub(super) use log::Reader;

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
        let mut desk = Desk::new(keep, clock, Arc::clone(&losses));
        let reader = desk.reader();
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

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

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

/// How long the end of the program waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);
