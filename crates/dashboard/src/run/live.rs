//! Server-sent events: the facts of the core, as they happen.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use mapping::{Revision, Snapshot};
use tokio::sync::watch;

use super::answer::Parameters;
use super::{Shared, answer};
use crate::events::{self, Cursor, Event};

pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    Parameters(query): Parameters,
    headers: HeaderMap,
) -> Response {
    let snapshots = shared.context.handle.subscribe();
    let newest = snapshots.borrow().revision();
    let asked = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let cursor = asked.and_then(Cursor::parse);
    let types = query
        .get("types")
        .map(|types| types.split(',').map(str::to_owned).collect());
    let reader = Reader {
        cursor: cursor.unwrap_or(Cursor::at(newest)),
        // a reader from the future read another life of this gateway
        resync: asked.is_some() && cursor.is_none_or(|cursor| cursor > Cursor::at(newest)),
        fresh: true,
        queue: Vec::new().into_iter(),
        types,
        snapshots,
        shared: Arc::clone(&shared),
    };
    let stream = stream::unfold(reader, Reader::next);
    let Ok(permit) = shared.streams.try_acquire() else {
        let detail = "too many event streams are open";
        return answer::problem(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", detail)
            .into_response();
    };
    permit.forget();
    let guarded = Guarded {
        stream: Box::pin(stream),
        shared: Arc::clone(&shared),
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Sse::new(guarded).keep_alive(keep_alive).into_response()
}

struct Reader {
    cursor: Cursor,
    resync: bool,
    fresh: bool,
    queue: std::vec::IntoIter<Event>,
    types: Option<Vec<String>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    shared: Arc<Shared>,
}

impl Reader {
    /// Returns the next event, or nothing when the program ends.
    async fn next(mut self) -> Option<(Result<sse::Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.queue.next() {
                if self.wants(event.name) {
                    return Some((Ok(frame(&event)), self));
                }
                continue;
            }
            if !self.fresh {
                tokio::select! {
                    changed = self.snapshots.changed() => changed.ok()?,
                    () = self.shared.cancel.cancelled() => return None,
                }
            }
            self.fresh = false;
            let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            self.fill(&snapshot);
        }
    }

    fn fill(&mut self, snapshot: &Snapshot) {
        let now = self.shared.context.handle.now();
        let revision: Revision = snapshot.revision();
        let events = if std::mem::take(&mut self.resync) {
            vec![Event::resync(revision)]
        } else {
            events::since(self.cursor, snapshot, now)
        };
        self.cursor = Cursor::at(revision);
        self.queue = events.into_iter();
    }

    fn wants(&self, name: &str) -> bool {
        name == "resync"
            || self
                .types
                .as_ref()
                .is_none_or(|types| types.iter().any(|wanted| wanted == name))
    }
}

fn frame(event: &Event) -> sse::Event {
    let data = event
        .data
        .as_ref()
        .and_then(|data| serde_json::to_string(data).ok());
    sse::Event::default()
        .id(&event.id)
        .event(event.name)
        .data(data.unwrap_or_else(|| "{}".to_owned()))
}

/// A stream that gives its place back when its reader has gone.
struct Guarded {
    stream: Pin<Box<dyn Stream<Item = Result<sse::Event, Infallible>> + Send>>,
    shared: Arc<Shared>,
}

impl Stream for Guarded {
    type Item = Result<sse::Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(context)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.shared.streams.add_permits(1);
    }
}
