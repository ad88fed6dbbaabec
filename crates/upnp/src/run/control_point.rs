//! The connection of a control point: its socket, and its place among the open connections.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway::Observe;
use mapping::{Client, Snapshot};
use net::Clock;
use net::netlink::Netlink;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::events::Subscriptions;
use super::{PATIENCE, Writer};
use crate::server::{Connection, Holder, Peer, Request, Slots, Standing, Step, Traffic, Web};
use crate::wire::gena::Sid;
use crate::wire::http::Response;

/// Gives its place back however the connection ends.
pub(super) struct Slot {
    slots: Arc<Mutex<Slots>>,
    holder: Holder,
    standing: Standing,
}

impl Slot {
    /// Takes a place; `None` if there is none for this client.
    pub(super) fn take(
        slots: &Arc<Mutex<Slots>>,
        client: Client,
        snapshot: &Snapshot,
    ) -> Option<Self> {
        let holder = Holder::of(client);
        let standing = Standing::of(client, snapshot);
        let mut all = slots.lock().unwrap_or_else(PoisonError::into_inner);
        all.take(holder, standing).then(|| Self {
            slots: Arc::clone(slots),
            holder,
            standing,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .release(self.holder, self.standing);
    }
}

/// A control point at the other end of a connection.
pub(super) struct ControlPoint<W> {
    pub(super) stream: TcpStream,
    pub(super) connection: Connection,
    pub(super) peer: Peer,
    pub(super) web: Arc<Web>,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) netlink: Netlink,
    pub(super) wan: String,
    pub(super) pinholes: Option<Arc<dyn Observe>>,
    pub(super) writer: W,
    pub(super) cancel: CancellationToken,
}

impl<W: Writer> ControlPoint<W> {
    pub(super) async fn serve(mut self) {
        // an error says that the peer is gone, and then nothing is left to do
        if self.converse().await.is_ok() {
            let _gone = timeout(PATIENCE, self.part()).await;
        }
    }

    async fn converse(&mut self) -> io::Result<()> {
        let clock = Clock::new();
        let mut buf = vec![0; READ_SIZE];
        loop {
            self.transmit().await?;
            if let Some(request) = self.connection.poll_request() {
                let (response, subscribed) = self.answer(&request).await;
                let now = self.writer.now().mono;
                self.connection.handle_response(&response, now);
                if let Some(sid) = subscribed {
                    // UDA 1.1 §4.1.2: the first event follows the answer
                    self.transmit().await?;
                    self.subscriptions.answered(sid, self.writer.now().mono);
                }
                continue;
            }
            if !self.connection.wants_bytes() {
                return Ok(());
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Ok(()),
                received = self.stream.read(&mut buf) => {
                    let bytes = buf.get(..received?).filter(|bytes| !bytes.is_empty());
                    let Some(bytes) = bytes else {
                        return Ok(());
                    };
                    self.connection.handle_bytes(bytes, self.writer.now().mono);
                }
                () = clock.sleep_until_some(self.connection.poll_timeout()) => {
                    self.connection.handle_timeout(self.writer.now().mono);
                }
            }
        }
    }

    async fn transmit(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.connection.poll_transmit() {
            timeout(WRITE_TIMEOUT, self.stream.write_all(&bytes)).await??;
        }
        Ok(())
    }

    async fn answer(&self, request: &Request) -> (Response, Option<Sid>) {
        let (snapshot, now) = (self.writer.snapshot(), self.writer.now());
        let step = self.web.handle_request(request, self.peer, &snapshot, now);
        match step {
            Step::Answer(response) => (response, None),
            Step::Ask(request, pending) => {
                let outcome = self.writer.request(*request).await;
                (self.web.handle_outcome(&pending, &outcome), None)
            }
            Step::Count(id, pending) => {
                let packets = match &self.pinholes {
                    Some(carrier) => carrier.pinhole_packets(id).await,
                    None => None,
                };
                (self.web.handle_packets(&pending, packets), None)
            }
            Step::Measure(pending) => {
                let traffic = self.traffic().await;
                (self.web.handle_traffic(&pending, traffic), None)
            }
            Step::Subscribe(subscribe) => self
                .subscriptions
                .handle_request(&subscribe, &snapshot, now.mono),
        }
    }

    async fn traffic(&self) -> Option<Traffic> {
        let link = self.netlink.link(&self.wan).await.ok()??;
        Some(Traffic {
            up: link.running,
            bytes_received: link.received.bytes,
            bytes_sent: link.sent.bytes,
            packets_received: link.received.packets,
            packets_sent: link.sent.packets,
        })
    }

    /// RFC 9112 §9.6: reads what is still on its way, or the peer's system throws the answer
    /// away.
    async fn part(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let mut buf = vec![0; READ_SIZE];
        for _ in 0..READS_AFTER_END {
            if self.stream.read(&mut buf).await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

const READ_SIZE: usize = 4096;

const READS_AFTER_END: usize = 32;

const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
