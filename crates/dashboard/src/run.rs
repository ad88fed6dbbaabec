//! The listeners and their connections.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway::{Count, Handle, Observe, ObserveFuture};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mapping::{Instant, Now, Snapshot};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::guard::{Denied, Origin};

mod answer;
mod change;
mod client;
mod decide;
mod live;
mod pages;
mod read;
mod routes;
mod sessions;
mod upstream;

pub use client::{Client, ClientError};
pub use net::BindError;

/// What the dashboard shows besides the snapshot.
#[derive(Debug, Clone)]
pub struct Context {
    /// The way to the writer.
    pub handle: Handle,
    /// The rooms whose counters and sessions are shown.
    pub observers: Vec<Arc<dyn Observe>>,
    /// The state of each part of the program.
    pub rooms: Rooms,
    /// The program's version.
    pub version: &'static str,
    /// When the program started.
    pub started: Instant,
    /// The interface of the LAN, absent while observing.
    pub lan_interface: Option<String>,
    /// The interface of the WAN, absent while observing.
    pub wan_interface: Option<String>,
    /// The networks behind whose addresses servers see remotes.
    pub pool: Vec<String>,
}

impl Context {
    /// Returns the newest snapshot and the time.
    pub(crate) fn look(&self) -> (Arc<Snapshot>, Now) {
        (self.handle.snapshot(), self.handle.now())
    }
}

/// The state of a part of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomState {
    /// It could not start, and why.
    Failed(String),
    /// Switched off by the configuration.
    Off,
    /// It serves.
    Serving,
}

/// The parts of the program, shared with whoever starts them.
#[derive(Debug, Clone, Default)]
pub struct Rooms(Arc<Mutex<Vec<(&'static str, RoomState)>>>);

impl Rooms {
    /// Sets the state of a part.
    pub fn set(&self, room: &'static str, state: RoomState) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match rooms.iter_mut().find(|(name, _)| *name == room) {
            Some((_, old)) => *old = state,
            None => rooms.push((room, state)),
        }
    }

    /// Returns every part, in the order in which they were first heard of.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, RoomState)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Where the dashboard listens.
#[derive(Debug)]
pub struct Listeners {
    /// The socket of the command line.
    pub unix: UnixListener,
    /// Read-only listeners on loopback, non-blocking.
    pub tcp: Vec<std::net::TcpListener>,
}

/// Serves the API and the pages.
#[derive(Debug)]
pub struct Dashboard {
    shared: Arc<Shared>,
    unix: tokio::net::UnixListener,
    tcp: Vec<tokio::net::TcpListener>,
}

/// What every connection needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) context: Context,
    pub(crate) counters: Counters,
    pub(crate) streams: Semaphore,
    pub(crate) cancel: CancellationToken,
    connections: Arc<Semaphore>,
}

/// What happened to requests.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) malformed: AtomicU64,
    denied: [AtomicU64; Denied::ALL.len()],
    accept_errors: AtomicU64,
    over_cap: AtomicU64,
}

impl Counters {
    pub(crate) fn denied(&self, reason: Denied) {
        let counters = self.denied.iter().zip(Denied::ALL);
        for (counter, _) in counters.filter(|(_, of)| *of == reason) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Dashboard {
    /// Takes over the listeners; must run inside a tokio runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch a listener.
    pub fn new(
        context: Context,
        listeners: Listeners,
        cancel: CancellationToken,
    ) -> std::io::Result<Self> {
        let tcp = listeners
            .tcp
            .into_iter()
            .map(tokio::net::TcpListener::from_std);
        Ok(Self {
            shared: Arc::new(Shared {
                context,
                counters: Counters::default(),
                streams: Semaphore::new(STREAMS_MAX),
                cancel,
                connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            }),
            unix: tokio::net::UnixListener::from_std(listeners.unix)?,
            tcp: tcp.collect::<Result<_, _>>()?,
        })
    }

    /// Serves until the token given to [`Self::new`] is cancelled and every connection has
    /// ended.
    pub async fn serve(self) {
        let tracker = TaskTracker::new();
        for listener in self.tcp {
            tracker.spawn(accept_tcp(
                Arc::clone(&self.shared),
                listener,
                tracker.clone(),
            ));
        }
        accept_unix(Arc::clone(&self.shared), self.unix, tracker.clone()).await;
        tracker.close();
        tracker.wait().await;
    }
}

impl Observe for Shared {
    fn room(&self) -> &'static str {
        "dashboard"
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        let count = |name, reason, value: &AtomicU64| {
            Count::new(name, reason, value.load(Ordering::Relaxed))
        };
        let mut counts = vec![
            count("requests_total", "", &self.counters.requests),
            count("malformed_total", "", &self.counters.malformed),
            count("accept_errors_total", "", &self.counters.accept_errors),
            count("connections_refused_total", "cap", &self.counters.over_cap),
        ];
        let denied = self.counters.denied.iter().zip(Denied::ALL);
        counts.extend(denied.map(|(value, of)| count("denied_total", of.as_str(), value)));
        Box::pin(std::future::ready(counts))
    }
}

async fn accept_tcp(shared: Arc<Shared>, listener: tokio::net::TcpListener, tracker: TaskTracker) {
    let port = listener
        .local_addr()
        .map_or(0, |addr: SocketAddr| addr.port());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.cancel.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => serve(&shared, stream, Origin::Tcp { port, peer }, &tracker),
            Err(error) => back_off(&shared, &error).await,
        }
    }
}

async fn accept_unix(
    shared: Arc<Shared>,
    listener: tokio::net::UnixListener,
    tracker: TaskTracker,
) {
    let own = net::process::effective_uid();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.cancel.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
                let trusted = uid.is_some_and(|uid| uid == 0 || uid == own);
                serve(&shared, stream, Origin::Unix { trusted }, &tracker);
            }
            Err(error) => back_off(&shared, &error).await,
        }
    }
}

/// Out of descriptors or memory: the listener stays, and the next connection waits a little.
async fn back_off(shared: &Shared, error: &std::io::Error) {
    shared
        .counters
        .accept_errors
        .fetch_add(1, Ordering::Relaxed);
    tracing::debug!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn serve<S>(shared: &Arc<Shared>, stream: S, origin: Origin, tracker: &TaskTracker)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(permit) = Arc::clone(&shared.connections).try_acquire_owned() else {
        shared.counters.over_cap.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let shared = Arc::clone(shared);
    tracker.spawn(async move {
        let service = TowerToHyperService::new(routes::router(Arc::clone(&shared), origin));
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEAD_MAX);
        let mut connection =
            std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shared.cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // whoever does not read must not hold up the end of the program
                match tokio::time::timeout(GOODBYE, connection).await {
                    Ok(ended) => ended,
                    Err(_) => Ok(()),
                }
            }
        };
        if ended.is_err() {
            shared.counters.malformed.fetch_add(1, Ordering::Relaxed);
        }
        drop(permit);
    });
}

/// How long a request's head may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer that is being written gets this long when the program ends.
const GOODBYE: Duration = Duration::from_millis(500);

/// No head of a browser is longer.
const HEAD_MAX: usize = 32 * 1024;

/// More than a household's browsers and tools need at once.
const CONNECTIONS_MAX: usize = 128;

/// Event streams are connections that stay.
const STREAMS_MAX: usize = 32;
