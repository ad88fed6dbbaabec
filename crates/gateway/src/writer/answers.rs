//! Waits for the followers and answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mapping::{Gate, GenerationId, Grant, Outcome, Refusal, Revision, Snapshot, Waits};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::WriterError;
use crate::counters::Counters;
use crate::follower::{Followers, Standing};

/// The requests that are decided and stored, and not answered yet.
#[derive(Debug)]
pub(crate) struct Answers {
    counters: Arc<Counters>,
    followers: Followers,
    shown: Arc<Snapshot>,
    waiting: Vec<Waiting>,
    untold: Untold,
    /// The revisions that not every follower of a gate has applied, oldest first.
    late: [(Gate, VecDeque<(Revision, Instant)>); 2],
    /// A generation, and the revision in which packets must pass before names follow.
    to_prefer: Option<(GenerationId, Revision)>,
}

/// Counts the decisions that nobody was told yet; both halves of the writer hold it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Untold(Arc<(AtomicUsize, Notify)>);

impl Untold {
    /// More of them are on their way.
    pub(crate) fn add(&self, decisions: usize) {
        self.0.0.fetch_add(decisions, Ordering::Relaxed);
    }

    /// So many were told.
    fn told(&self, decisions: usize) {
        if decisions > 0 && self.0.0.fetch_sub(decisions, Ordering::Relaxed) == decisions {
            self.0.1.notify_waiters();
        }
    }

    /// Waits until there are none. Cancel-safe.
    pub(crate) async fn none(&self) {
        let (count, changed) = &*self.0;
        loop {
            let changed = changed.notified();
            if count.load(Ordering::Relaxed) == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// A batch that is stored, or one that changed nothing.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    pub(crate) decided: Vec<Decided>,
}

/// A decision, and when it may be told.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) answer: oneshot::Sender<Outcome>,
    pub(crate) outcome: Outcome,
    pub(crate) waits: Waits,
}

#[derive(Debug)]
struct Waiting {
    decided: Decided,
    /// The generation that must be preferred, too.
    prefers: Option<GenerationId>,
    until: Instant,
}

impl Answers {
    pub(crate) fn new(
        counters: Arc<Counters>,
        followers: Followers,
        shown: Arc<Snapshot>,
        untold: Untold,
    ) -> Self {
        let mut answers = Self {
            counters,
            followers,
            shown: Arc::clone(&shown),
            waiting: Vec::new(),
            untold,
            late: [Gate::Names, Gate::Packets].map(|gate| (gate, VecDeque::new())),
            to_prefer: None,
        };
        answers.show(shown, Instant::now());
        answers
    }

    /// Answers until the other half has ended and nothing waits any more.
    pub(crate) async fn run(
        mut self,
        mut published: mpsc::UnboundedReceiver<Published>,
        prefer: mpsc::UnboundedSender<GenerationId>,
        cancel: CancellationToken,
    ) -> Result<(), WriterError> {
        let mut more = true;
        loop {
            self.sweep(Instant::now());
            self.ask_to_prefer(&prefer);
            if !cancel.is_cancelled() {
                self.check_followers(Instant::now())?;
            }
            if !more && self.waiting.is_empty() {
                return Ok(());
            }
            let wake = self.wake();
            tokio::select! {
                biased;
                batch = published.recv(), if more => match batch {
                    Some(batch) => self.take(batch),
                    None => more = false,
                },
                () = self.followers.moved() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn take(&mut self, batch: Published) {
        let now = Instant::now();
        if let Some(snapshot) = batch.snapshot {
            self.show(snapshot, now);
        }
        self.waiting
            .extend(batch.decided.into_iter().map(|decided| {
                let prefers = match &decided.outcome {
                    Outcome::Granted(Grant::Prefixed(generation)) => Some(generation.id),
                    Outcome::Granted(_) | Outcome::Refused(_) => None,
                };
                Waiting {
                    decided,
                    prefers,
                    until: now + LONGEST_WAIT,
                }
            }));
    }

    fn show(&mut self, snapshot: Arc<Snapshot>, now: Instant) {
        let revision = snapshot.revision();
        let [names, packets] = &mut self.late;
        if snapshot.names_revision() == revision {
            names.1.push_back((revision, now));
        }
        if snapshot.packets_revision() == revision {
            packets.1.push_back((revision, now));
        }
        let id = snapshot.to_prefer().map(|generation| generation.id);
        if id != self.to_prefer.map(|(id, _)| id) {
            self.to_prefer = id.map(|id| (id, snapshot.packets_revision()));
        }
        self.shown = snapshot;
    }

    /// Answers what can be told, and what has waited for too long.
    fn sweep(&mut self, now: Instant) {
        let applied = [Gate::Names, Gate::Packets].map(|gate| self.followers.applied(gate));
        let mut waiting = std::mem::take(&mut self.waiting);
        let before = waiting.len();
        waiting.retain_mut(|waiting| !self.settle(waiting, applied, now));
        self.untold.told(before.saturating_sub(waiting.len()));
        self.waiting = waiting;
        for ((_, late), applied) in self.late.iter_mut().zip(applied) {
            while late
                .front()
                .is_some_and(|(revision, _)| *revision <= applied)
            {
                late.pop_front();
            }
        }
    }

    fn settle(&self, waiting: &mut Waiting, applied: [Revision; 2], now: Instant) -> bool {
        let [names, packets] = applied;
        let through = |waits: Waits| {
            waits.names.is_none_or(|wanted| wanted <= names)
                && waits.packets.is_none_or(|wanted| wanted <= packets)
        };
        let mut told = through(waiting.decided.waits);
        if told && let Some(id) = waiting.prefers {
            if self
                .shown
                .preferred()
                .is_some_and(|preferred| preferred.id == id)
            {
                waiting.prefer(&self.shown, now);
                told = through(waiting.decided.waits);
            } else if self.shown.to_prefer().is_some_and(|newest| newest.id == id) {
                told = false;
            }
        }
        if !told && now < waiting.until {
            return false;
        }
        if !told {
            self.counters.follower_timed_out();
            waiting.decided.outcome = Outcome::Refused(Refusal::Unavailable);
        }
        self.counters.answered(&waiting.decided.outcome);
        let (closed, _) = oneshot::channel();
        let answer = std::mem::replace(&mut waiting.decided.answer, closed);
        let outcome =
            std::mem::replace(&mut waiting.decided.outcome, Outcome::Granted(Grant::Done));
        if answer.send(outcome).is_err() {
            debug!("nobody waits for the answer");
        }
        true
    }

    /// RFC 9526 §12: names follow only when packets pass.
    fn ask_to_prefer(&mut self, prefer: &mpsc::UnboundedSender<GenerationId>) {
        let applied = self.followers.applied(Gate::Packets);
        if let Some((id, _)) = self.to_prefer.filter(|(_, revision)| *revision <= applied) {
            self.to_prefer = None;
            if prefer.send(id).is_err() {
                debug!("the program ends; the prefix is preferred at the next start");
            }
        }
    }

    fn check_followers(&self, now: Instant) -> Result<(), WriterError> {
        if let Some(name) = self.followers.find(Standing::is_gone) {
            return Err(WriterError::FollowerGone { name });
        }
        for (gate, late) in &self.late {
            let overdue = late.front().filter(|(_, at)| now >= *at + STUCK_AFTER);
            let Some((overdue, _)) = overdue else {
                continue;
            };
            let stuck = |follower: &Standing| {
                let starting = follower.applied() == Revision(0);
                follower.gate == *gate
                    && follower.applied() < *overdue
                    && !(starting && now < follower.since + STARTING)
            };
            if let Some(name) = self.followers.find(stuck) {
                return Err(WriterError::FollowerStuck { name });
            }
        }
        Ok(())
    }

    /// When something can become late.
    fn wake(&self) -> Instant {
        let now = Instant::now();
        let late = self.late.iter().filter_map(|(_, late)| late.front());
        // while a follower starts it is looked at again and again
        let stuck = late.map(|(_, at)| (*at + STUCK_AFTER).max(now + LOOK_AGAIN));
        let waiting = self.waiting.iter().map(|waiting| waiting.until);
        waiting.chain(stuck).min().unwrap_or(now + STARTING)
    }
}

impl Waiting {
    /// Its generation is the preferred one now: the answer waits for the names.
    fn prefer(&mut self, shown: &Snapshot, now: Instant) {
        self.prefers = None;
        self.decided.waits = Waits::for_names(shown.names_revision());
        self.until = now + LONGEST_WAIT;
        if let Some(preferred) = shown.preferred() {
            self.decided.outcome = Outcome::Granted(Grant::Prefixed(*preferred));
        }
    }
}

/// Far longer than a follower takes on a busy machine, where a refusal sends a client of PCP away
/// for half a minute. It asks again after three seconds (RFC 6887 §8.1.1); a client of NAT-PMP does
/// after a quarter of one (RFC 6886 §3.1), and what it repeats is answered with the first.
const LONGEST_WAIT: Duration = Duration::from_millis(1500);

/// A follower that needs longer will not come along by itself.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What a follower's start may take.
const STARTING: Duration = Duration::from_secs(30);

const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn none_is_untold_once_everybody_is_told() {
        let untold = Untold::default();
        untold.add(2);
        let waiter = untold.clone();
        let none = tokio::spawn(async move { waiter.none().await });
        yield_now().await;

        untold.told(1);
        untold.add(3);
        untold.told(3);
        yield_now().await;
        assert!(!none.is_finished());
        untold.told(1);

        none.await.unwrap();
        untold.none().await;
    }
}
