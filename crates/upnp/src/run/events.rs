//! The connections by which events leave, around [`Gena`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mapping::{Instant, Snapshot};
use net::Clock;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Options, Writer};
use crate::server::{Delivery, Gena, Notification, Situation, Subscribe};
use crate::wire::gena::{self, Callback, Sid};
use crate::wire::http::Response;
use crate::{Counters, Identity};

/// The machine, shared by the connections that subscribe and the task that delivers.
#[derive(Debug)]
pub(super) struct Subscriptions {
    gena: Mutex<Gena<StdRng>>,
    link_up: watch::Sender<bool>,
    asked: tokio::sync::Notify,
}

impl Subscriptions {
    pub(super) fn new(identity: &Identity, counters: Counters, rng: StdRng, now: Instant) -> Self {
        Self {
            gena: Mutex::new(Gena::new(identity, counters, rng, now)),
            link_up: watch::Sender::new(false),
            asked: tokio::sync::Notify::new(),
        }
    }

    pub(super) fn handle_request(
        &self,
        request: &Subscribe,
        snapshot: &Snapshot,
        now: Instant,
    ) -> (Response, Option<Sid>) {
        let answer = self.gena().handle_request(request, snapshot, now);
        self.asked.notify_one();
        answer
    }

    pub(super) fn answered(&self, sid: Sid, now: Instant) {
        self.gena().handle_answered(sid, now);
        self.asked.notify_one();
    }

    pub(super) fn set_link(&self, up: bool) {
        self.link_up
            .send_if_modified(|old| std::mem::replace(old, up) != up);
    }

    fn gena(&self) -> MutexGuard<'_, Gena<StdRng>> {
        self.gena.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Delivers events.
pub(super) struct Events<W> {
    lan: String,
    subscriptions: Arc<Subscriptions>,
    writer: W,
}

impl<W: Writer> Events<W> {
    pub(super) fn new(options: &Options, subscriptions: Arc<Subscriptions>, writer: W) -> Self {
        Self {
            lan: options.lan.clone(),
            subscriptions,
            writer,
        }
    }

    pub(super) async fn run(self, cancel: CancellationToken) {
        let clock = Clock::new();
        let mut snapshots = self.writer.snapshots();
        let mut link = self.subscriptions.link_up.subscribe();
        let mut deliveries = JoinSet::new();
        loop {
            let deadline = self.drain(&mut deliveries, &snapshots, *link.borrow());
            let changed = tokio::select! {
                () = cancel.cancelled() => return,
                changed = snapshots.changed() => match changed {
                    Ok(()) => true,
                    // the gateway is gone, and we go next
                    Err(_) => return,
                },
                changed = link.changed() => changed.is_ok(),
                () = self.subscriptions.asked.notified() => false,
                () = clock.sleep_until_some(deadline) => false,
                Some(done) = deliveries.join_next() => {
                    if let Ok((sid, delivery)) = done {
                        let now = self.writer.now().mono;
                        self.subscriptions.gena().handle_delivery(sid, delivery, now);
                    }
                    false
                }
            };
            if changed {
                self.subscriptions
                    .gena()
                    .handle_change(self.writer.now().mono);
            }
        }
    }

    /// Lets the machine do what is due, and sends what it wants to send; returns when it is to
    /// be called again.
    fn drain(
        &self,
        deliveries: &mut JoinSet<(Sid, Delivery)>,
        snapshots: &watch::Receiver<Arc<Snapshot>>,
        link_up: bool,
    ) -> Option<Instant> {
        let snapshot = Arc::clone(&snapshots.borrow());
        let situation = Situation {
            snapshot: &snapshot,
            link_up,
        };
        let mut gena = self.subscriptions.gena();
        gena.handle_timeout(situation, self.writer.now().mono);
        while let Some(notification) = gena.poll_notification() {
            let lan = self.lan.clone();
            deliveries.spawn(async move {
                let delivery = deliver(&notification, &lan).await;
                (notification.sid, delivery)
            });
        }
        gena.poll_timeout()
    }
}

/// Tries the subscriber's URLs in turn.
async fn deliver(notification: &Notification, lan: &str) -> Delivery {
    for callback in notification.callbacks.iter() {
        let told = timeout(PATIENCE, tell(notification, callback, lan)).await;
        match told {
            Ok(Ok(200..=299)) => return Delivery::Delivered,
            Ok(Ok(412)) => return Delivery::Unknown,
            Ok(Ok(_) | Err(_)) | Err(_) => {}
        }
    }
    Delivery::Failed
}

/// Sends the event and returns the status of the answer, whose rest nobody reads: a redirection
/// leads nowhere (threat 3). The socket is the LAN's own, so nothing leaves by another way.
async fn tell(notification: &Notification, callback: &Callback, lan: &str) -> io::Result<u16> {
    let socket = match callback.addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind_device(Some(lan.as_bytes()))?;
    let mut local = SocketAddr::new(notification.local, 0);
    if let (SocketAddr::V6(local), SocketAddr::V6(to)) = (&mut local, callback.addr) {
        local.set_scope_id(to.scope_id());
    }
    socket.bind(local)?;
    let mut stream = socket.connect(callback.addr).await?;
    stream.write_all(&notification.emit(callback)).await?;
    let mut answer = Vec::new();
    let mut buf = [0; READ_SIZE];
    loop {
        let count = stream.read(&mut buf).await?;
        answer.extend_from_slice(buf.get(..count).unwrap_or_default());
        match gena::status(&answer) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if count > 0 => {}
            Ok(None) | Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// UDA 1.1 §4.3.2 allows 30 seconds for all URLs; a host on the LAN answers at once.
const PATIENCE: Duration = Duration::from_secs(3);

const READ_SIZE: usize = 512;
