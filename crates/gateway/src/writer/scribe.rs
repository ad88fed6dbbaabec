//! Decides batches on a value and stores them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mapping::{
    Closings, Core, GenerationId, Instant, Now, Outcome, Refusal, Request, Snapshot, Waits,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::WriterError;
use super::answers::{Decided, Published, Untold};
use super::disk::{Disk, DiskError, Hangs, in_time};
use crate::counters::Counters;
use crate::handle::Job;

/// Owns the truth.
///
/// ```text
///              commit fails                       reread fails: later
///   Healthy ───────────────► Trouble: what closes ─────────┐
///      ▲                     closes, the rest is ◄─────────┘
///      └──────────────────── Unavailable
///    reread, close what is pending, commit
/// ```
///
/// A commit or a reading that hangs has failed when [`COMMIT_PATIENCE`] or [`LONGEST_PATIENCE`] is
/// over: whoever asked is refused, and what closes closes.
pub(crate) struct Scribe<D> {
    disk: D,
    jobs: mpsc::Receiver<Job>,
    counters: Arc<Counters>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    published: mpsc::UnboundedSender<Published>,
    untold: Untold,
    time: Time,
    /// What the disk holds, as far as is known, less what closed since.
    truth: Core,
    /// What a failed batch closed, not yet stored.
    pending: Closings,
    trouble: Option<Trouble>,
    /// How many requests the last batch held.
    last: usize,
}

/// What the scribe knows of time; a test decides about both.
pub(crate) struct Time {
    /// Reads the clocks.
    pub(crate) now: TellTime,
    /// Sleeps for less than the runtime can.
    pub(crate) nap: Nap,
}

pub(crate) type TellTime = Box<dyn Fn() -> Now + Send + Sync>;

pub(crate) type Nap =
    Box<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The store must be read again before anything is granted.
#[derive(Debug)]
struct Trouble {
    retry_at: Instant,
    backoff: Duration,
    /// For how long the next reading is waited for: one of a large store may take long.
    patience: Duration,
    last: DiskError,
}

/// A request, and who waits for its answer; nobody for our own.
struct Asked {
    request: Request,
    answer: Option<oneshot::Sender<Outcome>>,
}

/// Where a scribe's work goes.
pub(crate) struct Outlets {
    pub(crate) counters: Arc<Counters>,
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(crate) published: mpsc::UnboundedSender<Published>,
    pub(crate) untold: Untold,
}

impl<D: Disk> Scribe<D> {
    /// Starts from a truth whose first batch may still have to be stored.
    pub(crate) fn new(
        disk: D,
        truth: Core,
        time: Time,
        jobs: mpsc::Receiver<Job>,
        outlets: Outlets,
    ) -> Self {
        let Outlets {
            counters,
            snapshots,
            published,
            untold,
        } = outlets;
        Self {
            disk,
            jobs,
            counters,
            snapshots,
            published,
            untold,
            time,
            truth,
            pending: Closings::default(),
            trouble: None,
            last: 0,
        }
    }

    pub(crate) async fn run(
        mut self,
        mut preferences: mpsc::UnboundedReceiver<GenerationId>,
        cancel: CancellationToken,
    ) -> Result<(), WriterError> {
        let mut jobs = Vec::new();
        let mut handles = true;
        loop {
            let mut asked = Vec::new();
            let pause = self.pause();
            let idle_since = (self.time.now)().mono;
            // those that waited for the last batch to end, and those that it answers now
            let expected = self.jobs.len().saturating_add(self.last);
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(id) = preferences.recv() => {
                    asked.push(Asked { request: Request::Prefer(id), answer: None });
                }
                taken = self.jobs.recv_many(&mut jobs, LARGEST_BATCH), if handles => {
                    handles = taken > 0;
                    self.gather(&mut jobs, expected, idle_since).await;
                }
                () = tokio::time::sleep(pause) => self.tidy_up().await,
            }
            asked.extend(jobs.drain(..).map(Asked::of));
            self.batch(asked).await;
        }
        self.stop(preferences).await
    }

    /// Decides one batch: what is due, then the requests in their order.
    async fn batch(&mut self, asked: Vec<Asked>) {
        if !asked.is_empty() {
            self.last = asked.len();
            self.counters.batched(asked.len());
        }
        let base = match &self.trouble {
            None => Some(self.truth.clone()),
            Some(_) => self.reread().await,
        };
        let (mut core, writable) = match base {
            Some(core) => (core, true),
            None => (self.truth.clone(), false),
        };
        let now = (self.time.now)();
        core.handle_timeout(now);
        let decided = decide(&mut core, asked, now);
        let batch = core.finish(now);
        if !writable {
            return self.refuse(decided, &batch.closings, now);
        }
        let Some(delta) = batch.delta else {
            self.truth = core;
            return self.answer(None, decided);
        };
        match in_time(COMMIT_PATIENCE, self.disk.commit(&delta)).await {
            Ok(()) => {
                self.counters.committed((self.time.now)().mono - now.mono);
                if self.trouble.take().is_some() {
                    info!("the store can be written again");
                }
                self.pending = Closings::default();
                self.truth = core;
                self.publish(decided);
            }
            Err(error) => {
                self.counters.commit_failed();
                self.fall_into_trouble(error, now);
                self.refuse(decided, &batch.closings, now);
            }
        }
    }

    /// In trouble, reads what the disk holds, if it is time to; what is pending closes over it.
    async fn reread(&mut self) -> Option<Core> {
        let due = (self.time.now)().mono;
        let trouble = self.trouble.as_ref();
        let patience = trouble.filter(|it| it.retry_at <= due)?.patience;
        let image = in_time(patience, self.disk.reread()).await;
        let now = (self.time.now)();
        let core = image.and_then(|image| Ok(self.truth.reread(image, now)?));
        self.counters.reread(core.is_ok());
        match core {
            Ok(mut core) => {
                core.close(&self.pending, now);
                Some(core)
            }
            Err(error) => {
                self.fall_into_trouble(error, now);
                None
            }
        }
    }

    fn fall_into_trouble(&mut self, error: DiskError, now: Now) {
        let mut patience = SHORTEST_PATIENCE;
        if error.is::<Hangs>() {
            self.counters.disk_timed_out();
            let last = self.trouble.as_ref().map(|trouble| trouble.patience * 2);
            patience = last.unwrap_or(patience).min(LONGEST_PATIENCE);
        }
        let backoff = match &self.trouble {
            None => {
                warn!(
                    error = error_text(&*error),
                    "cannot write the store; nothing new opens"
                );
                Duration::ZERO // the first time it may be over already
            }
            Some(trouble) => {
                debug!(error = error_text(&*error), "still cannot write the store");
                (trouble.backoff * 2).clamp(SHORTEST_BACKOFF, LONGEST_BACKOFF)
            }
        };
        self.trouble = Some(Trouble {
            retry_at: now.mono + backoff,
            backoff,
            patience,
            last: error,
        });
    }

    /// Nothing of a batch that is not stored is true, except what it closed.
    fn refuse(&mut self, decided: Vec<Decided>, closings: &Closings, now: Now) {
        let mut shown = self.truth.clone();
        shown.handle_timeout(now);
        shown.close(closings, now);
        let batch = shown.finish(now);
        self.pending.extend(closings.clone());
        self.pending.extend(batch.closings);
        self.truth = shown;
        let refused = decided.into_iter().map(Decided::unavailable).collect();
        match batch.delta {
            Some(_) => self.publish(refused),
            None => self.answer(None, refused),
        }
    }

    fn publish(&self, decided: Vec<Decided>) {
        let snapshot = Arc::new(self.truth.snapshot().clone());
        self.snapshots.send_replace(Arc::clone(&snapshot));
        self.answer(Some(snapshot), decided);
    }

    fn answer(&self, snapshot: Option<Arc<Snapshot>>, decided: Vec<Decided>) {
        if snapshot.is_some() || !decided.is_empty() {
            self.untold.add(decided.len());
            // the other half ends first only when the writer ends with an error
            drop(self.published.send(Published { snapshot, decided }));
        }
    }

    /// Where several clients ask at once, a batch that begins with the first of them would make
    /// all others wait for two commits: so wait until those that the last batch decided for are
    /// told, and a little for them to ask again, until most of them are here. One client alone
    /// never waits, nor does the first one after a pause.
    async fn gather(&mut self, jobs: &mut Vec<Job>, expected: usize, idle_since: Instant) {
        if (self.time.now)().mono - idle_since >= LULL {
            return;
        }
        // the last few keep all others waiting
        let expected = expected.saturating_sub(expected / 8).min(LARGEST_BATCH);
        let mut told = false;
        let mut nap = (self.time.nap)(LONGEST_GATHER);
        while jobs.len() < expected {
            tokio::select! {
                biased;
                more = self.jobs.recv_many(jobs, LARGEST_BATCH.saturating_sub(jobs.len())) => {
                    if more == 0 {
                        return;
                    }
                }
                () = self.untold.none(), if !told => {
                    told = true;
                    nap = (self.time.nap)(GATHER);
                }
                () = &mut nap => return,
            }
        }
    }

    /// How long there is nothing to do if nobody asks.
    fn pause(&self) -> Duration {
        let now = (self.time.now)().mono;
        let timeout = self.truth.poll_timeout().map(|(at, _)| at - now);
        let retry = self.trouble.as_ref().map(|trouble| trouble.retry_at - now);
        let tidy = self.disk.wants_pause().then_some(QUIET);
        [timeout, retry, tidy]
            .into_iter()
            .flatten()
            .fold(LOOK_EVERY, Duration::min)
    }

    async fn tidy_up(&mut self) {
        if self.trouble.is_none()
            && self.disk.wants_pause()
            && let Err(error) = in_time(COMMIT_PATIENCE, self.disk.pause()).await
        {
            debug!(error = error_text(&*error), "cannot checkpoint the store");
        }
    }

    async fn stop(
        mut self,
        mut preferences: mpsc::UnboundedReceiver<GenerationId>,
    ) -> Result<(), WriterError> {
        self.jobs.close();
        preferences.close();
        let mut jobs = Vec::new();
        while self.jobs.recv_many(&mut jobs, LARGEST_BATCH).await > 0 {
            self.batch(jobs.drain(..).map(Asked::of).collect()).await;
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.retry_at = (self.time.now)().mono; // the last chance
        }
        self.truth.handle_stop();
        self.batch(Vec::new()).await;
        let closed = in_time(COMMIT_PATIENCE, self.disk.close()).await;
        match self.trouble {
            Some(trouble) if !self.pending.is_empty() => Err(WriterError::Unstored(trouble.last)),
            Some(_) | None => {
                if let Err(error) = closed {
                    warn!(error = error_text(&*error), "cannot close the store");
                }
                Ok(())
            }
        }
    }

    /// Stores and publishes what the start changed.
    pub(crate) async fn begin(&mut self) {
        self.batch(Vec::new()).await;
    }
}

impl Asked {
    fn of(job: Job) -> Self {
        Self {
            request: job.request,
            answer: Some(job.answer),
        }
    }
}

impl<D> std::fmt::Debug for Scribe<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scribe")
            .field("trouble", &self.trouble)
            .finish_non_exhaustive()
    }
}

fn decide(core: &mut Core, asked: Vec<Asked>, now: Now) -> Vec<Decided> {
    let mut decided = Vec::with_capacity(asked.len());
    for Asked { request, answer } in asked {
        let (outcome, waits) = core.handle_request(&request, now);
        if let Outcome::Refused(refusal) = &outcome {
            debug!(%refusal, "refused");
        }
        if let Some(answer) = answer {
            decided.push(Decided {
                answer,
                outcome,
                waits,
            });
        }
    }
    decided
}

fn error_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

impl Decided {
    /// Nothing to wait for: it is told at once.
    fn unavailable(self) -> Self {
        Self {
            outcome: Outcome::Refused(Refusal::Unavailable),
            waits: Waits::default(),
            ..self
        }
    }
}

/// So that one batch does not keep the first of its requests waiting for long.
const LARGEST_BATCH: usize = 256;

/// Costs a client less than a second commit would.
const GATHER: Duration = Duration::from_micros(200);

/// A follower that takes longer keeps nobody else waiting.
const LONGEST_GATHER: Duration = Duration::from_millis(1);

/// Clients that ask one thing after the other do so sooner.
const LULL: Duration = Duration::from_millis(1);

/// Nobody says when the wall clock is set; what is frozen until then goes on this much later.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Nobody asked for so long: time for a checkpoint.
const QUIET: Duration = Duration::from_millis(50);

/// Far longer than a disk takes that is well, as long as most clients wait.
const COMMIT_PATIENCE: Duration = Duration::from_secs(3);

/// Whoever asks while the store is read again waits for as long, but no longer.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(2);

/// More than a store of any size takes.
const LONGEST_PATIENCE: Duration = Duration::from_secs(15);

const SHORTEST_BACKOFF: Duration = Duration::from_millis(100);

const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
