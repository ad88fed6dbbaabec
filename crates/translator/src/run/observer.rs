//! Questions from other threads, answered by the packet thread between two bursts.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use gateway::{
    Busy, Count, Ended, LogPage, LogQuery, Observe, ObserveFuture, SessionCursor, SessionEnds,
    SessionFilter, SessionId, SessionPage, SessionProtocol, SessionState, SessionTraffic,
};
use mapping::Instant;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::keeper::{Losses, Reader};
use crate::counters::Counters;
use crate::event::EndReason;
use crate::tcp_state::TcpState;
use crate::translator::Translator;
use crate::transport::Transport;
use crate::view::Session;

/// Asks the packet thread. While the thread is not running or too many ask at once, it is
/// [`Busy`].
#[derive(Debug, Clone)]
pub struct Observer {
    asks: mpsc::Sender<Ask>,
    log: Arc<SessionLog>,
}

/// Where the packet thread finds what was asked.
#[derive(Debug)]
pub struct Inbox {
    asks: mpsc::Receiver<Ask>,
    log: Arc<SessionLog>,
}

/// Where the session log is read, once the thread has said where it is.
#[derive(Debug)]
struct SessionLog {
    reader: OnceLock<Reader>,
    /// One reads at a time: that takes the disk, not the packet thread.
    turn: Semaphore,
}

/// A question and where its answer goes.
#[derive(Debug)]
pub(super) enum Ask {
    Counters(oneshot::Sender<Vec<Count>>),
    End(SessionFilter, SessionCursor, oneshot::Sender<EndedPage>),
    /// Answers when the session log has everything that was seen.
    Log(oneshot::Sender<()>),
    Sessions(SessionFilter, SessionCursor, oneshot::Sender<SessionPage>),
}

/// How many sessions of a part of the table were ended, and where to go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EndedPage {
    pub(super) count: u64,
    pub(super) next: Option<SessionCursor>,
}

impl Observer {
    /// Makes both ends.
    #[must_use]
    pub fn new() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let log = Arc::new(SessionLog {
            reader: OnceLock::new(),
            turn: Semaphore::new(1),
        });
        let inbox = Inbox {
            asks: receiver,
            log: Arc::clone(&log),
        };
        (Self { asks: sender, log }, inbox)
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Busy> {
        let (sender, receiver) = oneshot::channel();
        self.asks.try_send(ask(sender)).map_err(|_| Busy)?;
        receiver.await.map_err(|_| Busy)
    }
}

impl Inbox {
    /// Says where the session log is.
    pub(super) fn keeps_log(&self, reader: Reader) {
        // It is said once.
        let _again = self.log.reader.set(reader);
    }

    /// Waits for the next question, for ever when nobody can ask any more.
    pub(super) async fn next(&mut self) -> Ask {
        match self.asks.recv().await {
            Some(ask) => ask,
            None => std::future::pending().await,
        }
    }
}

impl Observe for Observer {
    fn room(&self) -> &'static str {
        "translator"
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        Box::pin(async { self.ask(Ask::Counters).await.unwrap_or_default() })
    }

    fn sessions(
        &self,
        filter: SessionFilter,
        cursor: SessionCursor,
    ) -> ObserveFuture<'_, Result<SessionPage, Busy>> {
        Box::pin(self.ask(move |answer| Ask::Sessions(filter, cursor, answer)))
    }

    fn end_sessions(&self, filter: SessionFilter) -> ObserveFuture<'_, Result<Ended, Busy>> {
        Box::pin(async move {
            let mut ended = Ended::default();
            let mut cursor = SessionCursor::default();
            // a part at a time, so that packets never wait for the whole table
            loop {
                let part = self.ask(move |answer| Ask::End(filter, cursor, answer));
                let part = part.await?;
                ended.count = ended.count.saturating_add(part.count);
                let Some(next) = part.next else {
                    return Ok(ended);
                };
                cursor = next;
            }
        })
    }

    fn log(&self, query: LogQuery) -> ObserveFuture<'_, Result<LogPage, Busy>> {
        Box::pin(async move {
            let Some(reader) = self.log.reader.get().cloned() else {
                return Ok(LogPage::default());
            };
            let _turn = self.log.turn.acquire().await.map_err(|_| Busy)?;
            self.ask(Ask::Log).await?;
            let read = tokio::task::spawn_blocking(move || reader.read(&query));
            read.await.map_err(|_| Busy)
        })
    }
}

/// Returns the counters as the API and the metrics name them.
pub(super) fn counts(counters: &Counters, write_errors: u64, device_dropped: u64) -> Vec<Count> {
    let count = Count::new;
    let live = counters.sessions;
    let mut counts = vec![
        count("packets_total", "six_to_four", counters.six_to_four.packets),
        count("packets_total", "four_to_six", counters.four_to_six.packets),
        count("bytes_total", "six_to_four", counters.six_to_four.bytes),
        count("bytes_total", "four_to_six", counters.four_to_six.bytes),
        count("sessions", Transport::IcmpQuery.as_str(), live.icmp.into()),
        count("sessions", Transport::Tcp.as_str(), live.tcp.into()),
        count("sessions", Transport::Udp.as_str(), live.udp.into()),
        count("sessions_half_open", "", counters.half_open.into()),
        count("bindings", "", counters.bindings.into()),
        count("remotes", "", counters.remotes.into()),
        count("sessions_opened_total", "", counters.sessions_opened),
        count("device_losses_total", "outbox_full", counters.outbox_full),
        count("device_losses_total", "read_queue_full", device_dropped),
        count("device_losses_total", "write_refused", write_errors),
    ];
    let (from_remotes, from_servers) = counters.icmp_errors;
    let fragments = &counters.fragments;
    counts.extend([
        count("icmp_errors_total", "six_to_four", from_remotes),
        count("icmp_errors_total", "four_to_six", from_servers),
        count("answers_limited_total", "", counters.answers.limited()),
        count("fragments_held", "", fragments.held.into()),
        count("fragments_held_bytes", "", fragments.held_bytes),
        count("fragments_reassembled_total", "", fragments.reassembled),
        count("packets_cut_total", "", fragments.cut),
    ]);
    let answers = counters.answers.iter();
    counts.extend(answers.map(|(kind, value)| count("answers_total", kind.as_str(), value)));
    let ended = EndReason::ALL.map(|why| {
        let reason = why.as_str();
        count("sessions_ended_total", reason, counters.ended(why))
    });
    counts.extend(ended);
    counts.push(count(
        "log_losses_total",
        "events_full",
        counters.events_lost,
    ));
    let drops = counters.drops.iter();
    counts.extend(drops.map(|(reason, value)| count("drops_total", reason.as_str(), value)));
    counts
}

/// Adds what became of what is kept of sessions.
pub(super) fn count_kept(counts: &mut Vec<Count>, losses: &Losses, restored: u64, refused: u64) {
    let lost = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let kept = [
        ("log_losses_total", "busy", lost(&losses.busy)),
        ("log_losses_total", "disk", lost(&losses.disk)),
        ("log_losses_total", "syslog", lost(&losses.syslog)),
        ("sessions_restored_total", "damaged", lost(&losses.damaged)),
        ("sessions_restored_total", "refused", refused),
        ("sessions_restored_total", "restored", restored),
    ];
    counts.extend(kept.map(|(name, reason, value)| Count::new(name, reason, value)));
}

/// Returns the sessions that fit `filter`, from `cursor` onward; looks at a bounded number of
/// sessions, so that a page may hold few and still have a next one.
pub(super) fn page(
    translator: &Translator,
    filter: SessionFilter,
    cursor: SessionCursor,
    now: Instant,
) -> SessionPage {
    let numbers = part(filter, cursor, LOOKED_AT);
    let mut page = SessionPage::default();
    for (number, session) in translator.sessions(numbers.clone(), now) {
        let session = observed(number, &session, now);
        if !filter.fits(&session) {
            continue;
        }
        if page.sessions.len() >= PAGE {
            page.next = Some(SessionCursor(number.into()));
            return page;
        }
        page.sessions.push(session);
    }
    page.next = after(translator, filter, numbers.end);
    page
}

/// Ends the sessions that fit `filter`, from `cursor` onward; looks at a bounded number of
/// sessions.
pub(super) fn end(
    translator: &mut Translator,
    filter: SessionFilter,
    cursor: SessionCursor,
    now: Instant,
) -> EndedPage {
    let numbers = part(filter, cursor, ENDED_AT_ONCE);
    let fit: Vec<_> = translator
        .sessions(numbers.clone(), now)
        .filter(|(number, session)| filter.fits(&observed(*number, session, now)))
        .map(|(number, _)| number)
        .collect();
    let ended = fit
        .into_iter()
        .filter(|it| translator.end_session(*it, now));
    EndedPage {
        count: ended.map(|_| 1).sum(),
        next: after(translator, filter, numbers.end),
    }
}

/// Returns the numbers to look at now.
fn part(filter: SessionFilter, cursor: SessionCursor, len: u32) -> Range<u32> {
    match filter.id {
        Some(id) => id.number..id.number.saturating_add(1),
        None => {
            let from = u32::try_from(cursor.0).unwrap_or(u32::MAX);
            from..from.saturating_add(len)
        }
    }
}

/// Returns where to go on.
fn after(translator: &Translator, filter: SessionFilter, number: u32) -> Option<SessionCursor> {
    let more = filter.id.is_none() && translator.may_have_sessions_from(number);
    more.then(|| SessionCursor(number.into()))
}

fn observed(number: u32, session: &Session, now: Instant) -> gateway::Session {
    let ends = ends(session);
    gateway::Session {
        id: SessionId {
            number,
            tag: tag(&ends, now - session.age),
        },
        ends,
        state: match session.tcp {
            None | Some(TcpState::Established) => SessionState::Established,
            Some(TcpState::V4Init) => SessionState::V4Init,
            Some(TcpState::V6Init) => SessionState::V6Init,
            Some(TcpState::V4FinRcv) => SessionState::V4Fin,
            Some(TcpState::V6FinRcv) => SessionState::V6Fin,
            Some(TcpState::V4FinV6FinRcv) => SessionState::V4FinV6Fin,
            Some(TcpState::Trans) => SessionState::Trans,
        },
        age: session.age,
        expires_in: session.expires_in,
        traffic: traffic(session),
    }
}

/// Returns between whom a session is.
pub(super) const fn ends(session: &Session) -> SessionEnds {
    SessionEnds {
        protocol: match session.transport {
            Transport::IcmpQuery => SessionProtocol::Icmp,
            Transport::Tcp => SessionProtocol::Tcp,
            Transport::Udp => SessionProtocol::Udp,
        },
        remote: session.remote,
        external: session.external,
        pool: session.pool,
        server: session.server,
    }
}

/// Returns what passed in a session.
pub(super) const fn traffic(session: &Session) -> SessionTraffic {
    SessionTraffic {
        packets_in: session.six_to_four.packets,
        packets_out: session.four_to_six.packets,
        bytes_in: session.six_to_four.bytes,
        bytes_out: session.four_to_six.bytes,
    }
}

/// Returns why a session ended, as the log has it.
pub(super) const fn end_reason(why: EndReason) -> gateway::EndReason {
    match why {
        EndReason::Closed => gateway::EndReason::Closed,
        EndReason::Evicted => gateway::EndReason::Evicted,
        EndReason::Expired => gateway::EndReason::Expired,
        EndReason::Requested => gateway::EndReason::Requested,
    }
}

/// Returns what tells a session from the next one in its place: between whom it is and when it
/// began do not change.
fn tag(ends: &SessionEnds, opened: Instant) -> u32 {
    let mut hasher = DefaultHasher::new();
    (ends.protocol, ends.remote, ends.external, ends.pool).hash(&mut hasher);
    (ends.server, opened).hash(&mut hasher);
    let hash = hasher.finish();
    u32::try_from(hash >> 32).unwrap_or_default()
}

/// Questions that may wait.
const QUEUE: usize = 16;

/// Sessions in a page.
const PAGE: usize = 256;

/// Slots looked at for a page: a fraction of a millisecond.
const LOOKED_AT: u32 = 4096;

/// Slots looked at to end those that fit: ending costs more than looking.
const ENDED_AT_ONCE: u32 = 1024;

#[cfg(test)]
mod tests;
