//! Questions from other threads, answered by the packet thread between two bursts.

use gateway::{
    Count, Observe, ObserveFuture, SessionCursor, SessionFilter, SessionPage, SessionState,
};
use mapping::{Instant, Protocol};
use tokio::sync::{mpsc, oneshot};

use crate::counters::Counters;
use crate::tcp_state::TcpState;
use crate::translator::{Session, Translator};
use crate::transport::Transport;

/// Asks the packet thread. While the thread is not running or too many ask at once, the answers
/// are empty.
#[derive(Debug, Clone)]
pub struct Observer {
    asks: mpsc::Sender<Ask>,
}

/// Where the packet thread finds what was asked.
#[derive(Debug)]
pub struct Inbox {
    asks: mpsc::Receiver<Ask>,
}

/// A question and where its answer goes.
#[derive(Debug)]
pub(super) enum Ask {
    Counters(oneshot::Sender<Vec<Count>>),
    Sessions(SessionFilter, SessionCursor, oneshot::Sender<SessionPage>),
}

impl Observer {
    /// Makes both ends.
    #[must_use]
    pub fn new() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { asks: sender }, Inbox { asks: receiver })
    }

    async fn ask<T: Default>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> T {
        let (sender, receiver) = oneshot::channel();
        if self.asks.try_send(ask(sender)).is_err() {
            return T::default();
        }
        receiver.await.unwrap_or_default()
    }
}

impl Inbox {
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
        Box::pin(self.ask(Ask::Counters))
    }

    fn sessions(
        &self,
        filter: SessionFilter,
        cursor: SessionCursor,
    ) -> ObserveFuture<'_, SessionPage> {
        Box::pin(self.ask(move |answer| Ask::Sessions(filter, cursor, answer)))
    }
}

/// Returns the counters as the API and the metrics name them.
pub(super) fn counts(counters: &Counters, write_errors: u64, device_dropped: u64) -> Vec<Count> {
    let count = |name, reason, value| Count {
        name,
        reason,
        value,
    };
    let live = counters.sessions;
    let mut counts = vec![
        count("packets_total", "six_to_four", counters.six_to_four.packets),
        count("packets_total", "four_to_six", counters.four_to_six.packets),
        count("bytes_total", "six_to_four", counters.six_to_four.bytes),
        count("bytes_total", "four_to_six", counters.four_to_six.bytes),
        count("sessions", Transport::IcmpQuery.as_str(), live.icmp.into()),
        count("sessions", Transport::Tcp.as_str(), live.tcp.into()),
        count("sessions", Transport::Udp.as_str(), live.udp.into()),
        count("sessions_opened_total", "", counters.sessions_opened),
        count("sessions_ended_total", "closed", counters.sessions_closed),
        count("sessions_ended_total", "evicted", counters.sessions_evicted),
        count("sessions_ended_total", "expired", counters.sessions_expired),
        count("device_losses_total", "outbox_full", counters.outbox_full),
        count("device_losses_total", "read_queue_full", device_dropped),
        count("device_losses_total", "write_refused", write_errors),
    ];
    let drops = counters.drops.iter();
    counts.extend(drops.map(|(reason, value)| count("drops_total", reason.as_str(), value)));
    counts
}

/// Returns the sessions that fit `filter`, from `cursor` onward; looks at a bounded number of
/// sessions, so that a page may hold few and still have a next one.
pub(super) fn page(
    translator: &Translator,
    filter: SessionFilter,
    cursor: SessionCursor,
    now: Instant,
) -> SessionPage {
    let from = u32::try_from(cursor.0).unwrap_or(u32::MAX);
    let end = from.saturating_add(LOOKED_AT);
    let mut page = SessionPage::default();
    for (id, session) in translator.sessions(from..end, now) {
        if page.sessions.len() >= PAGE {
            page.next = Some(SessionCursor(id.into()));
            return page;
        }
        let fits = filter
            .server
            .is_none_or(|server| server == session.server.0)
            && filter
                .remote
                .is_none_or(|remote| remote == session.remote.0);
        if fits {
            page.sessions.push(observed(&session));
        }
    }
    page.next = translator
        .may_have_sessions_from(end)
        .then(|| SessionCursor(end.into()));
    page
}

fn observed(session: &Session) -> gateway::Session {
    gateway::Session {
        protocol: match session.transport {
            Transport::IcmpQuery => None,
            Transport::Tcp => Some(Protocol::Tcp),
            Transport::Udp => Some(Protocol::Udp),
        },
        remote: session.remote,
        external: session.external,
        pool: session.pool,
        server: session.server,
        state: match session.tcp {
            None | Some(TcpState::Established) => SessionState::Established,
            Some(TcpState::V6Init) => SessionState::V6Init,
            Some(TcpState::V4FinRcv) => SessionState::V4Fin,
            Some(TcpState::V6FinRcv) => SessionState::V6Fin,
            Some(TcpState::V4FinV6FinRcv) => SessionState::V4FinV6Fin,
            Some(TcpState::Trans) => SessionState::Trans,
        },
        age: session.age,
        expires_in: session.expires_in,
        packets_in: session.six_to_four.packets,
        packets_out: session.four_to_six.packets,
        bytes_in: session.six_to_four.bytes,
        bytes_out: session.four_to_six.bytes,
    }
}

/// Questions that may wait.
const QUEUE: usize = 16;

/// Sessions in a page.
const PAGE: usize = 256;

/// Slots looked at for a page: a fraction of a millisecond.
const LOOKED_AT: u32 = 4096;
