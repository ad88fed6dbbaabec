//! Netlink, the WAN's sockets, the library that speaks UPnP, and the snapshots around the machine.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gateway::{Handle, Observe};
use mapping::{Instant, Snapshot};
use net::Clock;
use net::netlink::{Change, Netlink, NetlinkError, Watch};
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::upnp::Answer;
use crate::upstreams::{Family, Mode, Upstreams};

mod igd;
mod links;
mod observer;
mod sockets;

use igd::{Done, Igd};
use links::Links;
pub use observer::Observer;
use observer::{Ask, Tally};
use sockets::Sockets;

/// Where upstream gateways may be, and how they are spoken with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The WAN's interface; it may appear later.
    pub wan: String,
    /// Which protocols.
    pub mode: Mode,
    /// From which nonces are made; the same over restarts.
    pub secret: [u8; 16],
}

/// Opens netlink; must run inside a tokio runtime.
///
/// # Errors
/// When the kernel refuses netlink.
pub fn bind(options: Options, rng: StdRng) -> Result<Bound, StartError> {
    let watch = Watch::open().map_err(StartError)?;
    let netlink = Netlink::open().map_err(StartError)?;
    let (observer, asks, tally) = Observer::new();
    Ok(Bound {
        machine: Upstreams::new(options.mode, options.secret, rng),
        wan: options.wan,
        netlink,
        watch,
        observer,
        asks,
        tally,
    })
}

/// Why upstream gateways cannot be looked for.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(NetlinkError);

/// The room, ready to run.
#[derive(Debug)]
pub struct Bound {
    machine: Upstreams<StdRng>,
    wan: String,
    netlink: Netlink,
    watch: Watch,
    observer: Observer,
    asks: mpsc::Receiver<Ask>,
    tally: watch::Sender<Tally>,
}

/// Why the running room ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The kernel tells no more of its changes.
    #[error(transparent)]
    Watch(NetlinkError),
    /// There is nobody left to follow.
    #[error("the gateway's writer has ended")]
    Writer,
}

impl Bound {
    /// Returns what reads the counters and the chain.
    #[must_use]
    pub fn observe(&self) -> Arc<dyn Observe> {
        Arc::new(self.observer.clone())
    }

    /// Follows the snapshot and the kernel until `cancel`. What is open upstream stays open: it
    /// is renewed after a restart, and expires if there is none.
    ///
    /// # Errors
    /// When the kernel or the writer can no longer be followed. No failure of an upstream
    /// gateway ends it.
    pub async fn serve(self, handle: Handle, cancel: CancellationToken) -> Result<(), ServeError> {
        let clock = *handle.clock();
        let mut shell = Shell {
            machine: self.machine,
            wan: self.wan,
            netlink: self.netlink,
            clock,
            links: Links::default(),
            v4: None,
            v6: None,
            look_at: Some(clock.mono()),
            igd: Igd::default(),
            doing: None,
            send_errors: 0,
            tally: self.tally,
        };
        let snapshots = handle.subscribe();
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            result = shell.run(snapshots, self.watch, self.asks) => result,
        }
    }
}

struct Shell {
    machine: Upstreams<StdRng>,
    wan: String,
    netlink: Netlink,
    clock: Clock,
    links: Links,
    v4: Option<Sockets>,
    v6: Option<Sockets>,
    look_at: Option<Instant>,
    igd: Igd,
    doing: Option<Doing>,
    send_errors: u64,
    tally: watch::Sender<Tally>,
}

type Doing = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What woke the loop.
enum Event {
    Asked(Ask),
    Change(Change),
    Done(Done),
    Heard(Family, io::Result<(Vec<u8>, SocketAddr)>),
    Snapshot,
    Time,
}

impl Shell {
    async fn run(
        &mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        mut changes: Watch,
        mut asks: mpsc::Receiver<Ask>,
    ) -> Result<(), ServeError> {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        self.machine.handle_snapshot(&snapshot, self.clock.mono());
        loop {
            self.flush();
            let machine = self.machine.poll_timeout().map(|(at, _)| at);
            let deadline = machine.into_iter().chain(self.look_at).min();
            let event = tokio::select! {
                Some(ask) = asks.recv() => Event::Asked(ask),
                done = next(&mut self.doing) => Event::Done(done),
                changed = snapshots.changed() => {
                    changed.map_err(|_| ServeError::Writer)?;
                    Event::Snapshot
                }
                change = changes.next() => Event::Change(change.map_err(ServeError::Watch)?),
                heard = sockets::hear(self.v4.as_ref()) => Event::Heard(Family::V4, heard),
                heard = sockets::hear(self.v6.as_ref()) => Event::Heard(Family::V6, heard),
                () = self.clock.sleep_until_some(deadline) => Event::Time,
            };
            match event {
                Event::Asked(ask) => observer::answer(&self.machine, ask, self.clock.mono()),
                Event::Change(change) => self.note(&change),
                Event::Done(done) => self.finish(done),
                Event::Heard(family, heard) => self.take(family, heard),
                Event::Snapshot => {
                    let snapshot = Arc::clone(&snapshots.borrow_and_update());
                    self.machine.handle_snapshot(&snapshot, self.clock.mono());
                }
                Event::Time => self.tick().await,
            }
        }
    }

    /// What the kernel said is looked at a little later, since changes come in bursts.
    fn note(&mut self, change: &Change) {
        let ours = match change {
            Change::Address(address) | Change::AddressGone(address) => self
                .links
                .ifindex
                .is_none_or(|index| index == address.ifindex),
            Change::Link(link) | Change::LinkGone(link) => link.name == self.wan,
            Change::Lagged | Change::Routes => true,
        };
        if ours {
            self.look_at.get_or_insert(self.clock.mono() + SETTLE);
        }
    }

    async fn tick(&mut self) {
        let now = self.clock.mono();
        self.machine.handle_timeout(now);
        if self.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.look_at = None;
        match links::look(&self.netlink, &self.wan).await {
            Ok(links) => self.relink(links),
            Err(error) => {
                tracing::debug!(%error, "cannot look for the upstream gateways");
                self.look_at = Some(now + RETRY);
            }
        }
    }

    /// Sockets are bound to our address towards the gateway, so they change with it.
    fn relink(&mut self, links: Links) {
        if links == self.links && self.v4.is_some() == links.v4.is_some() {
            return;
        }
        let now = self.clock.mono();
        let mut open = |family, link| match Sockets::open(&self.wan, family, links.ifindex, link) {
            Ok(sockets) => sockets,
            Err(error) => {
                tracing::debug!(%error, "cannot listen for the upstream gateway");
                self.look_at = Some(now + RETRY);
                None
            }
        };
        self.v4 = open(Family::V4, links.v4);
        self.v6 = open(Family::V6, links.v6);
        self.links = links;
        let v4 = links.v4.filter(|_| self.v4.is_some());
        let v6 = links.v6.filter(|_| self.v6.is_some());
        self.machine.handle_links(v4, v6, now);
    }

    fn take(&mut self, family: Family, heard: io::Result<(Vec<u8>, SocketAddr)>) {
        let now = self.clock.mono();
        match heard {
            Ok((bytes, source)) => self.machine.handle_datagram(&bytes, source, now),
            Err(error) => {
                tracing::debug!(%error, "the socket towards the upstream gateway is broken");
                self.links = Links::default();
                match family {
                    Family::V4 => self.v4 = None,
                    Family::V6 => self.v6 = None,
                }
                self.look_at = Some(now + RETRY);
            }
        }
    }

    fn finish(&mut self, done: Done) {
        let now = self.clock.mono();
        if let Some(igd) = done.igd {
            self.igd = igd;
        }
        if let Answer::Failed(failure) = done.answer {
            tracing::debug!(?failure, "the upstream gateway did not do it by UPnP");
        }
        if let Some(action) = self.machine.handle_answer(done.answer, now) {
            self.doing = Some(Box::pin(self.igd.clone().act(action)));
        }
    }

    fn flush(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            let sockets = match transmit.family {
                Family::V4 => &self.v4,
                Family::V6 => &self.v6,
            };
            let sent = sockets
                .as_ref()
                .map_or(Ok(()), |sockets| sockets.send(&transmit.bytes));
            if let Err(error) = sent {
                self.send_errors = self.send_errors.saturating_add(1);
                tracing::debug!(%error, "cannot ask the upstream gateway");
            }
        }
        if self.doing.is_none()
            && let Some(action) = self.machine.poll_action(self.clock.mono())
        {
            self.doing = Some(Box::pin(self.igd.clone().act(action)));
        }
        self.tally.send_replace(Tally {
            machine: self.machine.counters(),
            send_errors: self.send_errors,
        });
    }
}

async fn next(doing: &mut Option<Doing>) -> Done {
    match doing {
        Some(future) => {
            let done = future.as_mut().await;
            *doing = None;
            done
        }
        None => std::future::pending().await,
    }
}

/// So long after a change the kernel is looked at.
const SETTLE: Duration = Duration::from_millis(200);

/// Between two attempts.
const RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
