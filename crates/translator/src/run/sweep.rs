//! Hands all sessions over to be saved, a few at a time, as long as there is something new.

use std::time::Duration;

use mapping::Instant;
use net::Clock;

use super::keeper::{Keeper, Part};
use crate::counters::{Counters, Gauge};
use crate::translator::Translator;

/// Where the hand-over stands.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The number of the next session, while a sweep is under way.
    next: Option<u32>,
    /// When to go on.
    due: Instant,
    started: Instant,
    seen: Activity,
}

/// What changes when a session does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Activity {
    packets: (u64, u64),
    opened: u64,
    live: Gauge,
}

impl Sweep {
    /// Begins; the first sweep comes in any case.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            next: Some(0),
            due: now,
            started: now,
            seen: Activity {
                packets: (0, 0),
                opened: 0,
                live: Gauge {
                    icmp: 0,
                    tcp: 0,
                    udp: 0,
                },
            },
        }
    }

    /// Returns when to call [`Self::step`] next.
    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// Hands over the next few sessions if it is time.
    pub(super) fn step(
        &mut self,
        translator: &Translator,
        keeper: &Keeper,
        clock: &Clock,
        now: Instant,
    ) {
        if now < self.due {
            return;
        }
        let Some(first) = self.next else {
            self.begin(translator, now);
            return;
        };
        let sessions = translator.saved(first..first.saturating_add(AT_ONCE), now);
        let part = Part {
            first,
            count: AT_ONCE,
            sessions: sessions.collect(),
            at: now,
        };
        let end = first.saturating_add(AT_ONCE);
        let is_last = !translator.may_have_sessions_from(end);
        if !keeper.save(part) || is_last && !keeper.saved(end, clock.now()) {
            // the same again, when there is room
            self.due = now + FULL_PAUSE;
        } else if is_last {
            self.next = None;
            self.due = self.started + EVERY;
        } else {
            self.next = Some(end);
        }
    }

    /// Hands over everything, within bounded time.
    pub(super) async fn finish(&mut self, translator: &Translator, keeper: &Keeper, clock: &Clock) {
        let patience = clock.mono() + PATIENCE;
        self.next = Some(0);
        self.due = Instant::default();
        while self.next.is_some() {
            if clock.mono() > patience {
                tracing::warn!("the disk is slow: some sessions may not go on");
                return;
            }
            clock.sleep_until(self.due).await;
            self.step(translator, keeper, clock, clock.mono());
        }
    }

    fn begin(&mut self, translator: &Translator, now: Instant) {
        let activity = Activity::of(&translator.counters());
        self.started = now;
        if activity == self.seen {
            self.due = now + EVERY;
        } else {
            self.seen = activity;
            self.next = Some(0);
        }
    }
}

impl Activity {
    const fn of(counters: &Counters) -> Self {
        Self {
            packets: (counters.six_to_four.packets, counters.four_to_six.packets),
            opened: counters.sessions_opened,
            live: counters.sessions,
        }
    }
}

/// Sessions that packets wait for.
const AT_ONCE: u32 = 256;

/// What is saved is not much older.
const EVERY: Duration = Duration::from_secs(2);

/// Until what found no room is handed over again.
const FULL_PAUSE: Duration = Duration::from_millis(2);

/// How long the end of the program waits for room.
const PATIENCE: Duration = Duration::from_millis(2500);
