//! The packet thread: reads the TUN device, translates, writes; follows the gateway; answers
//! questions between two bursts.
//!
//! It has an operating system thread of its own, so that no other task can delay a packet, and a
//! runtime for everything else that it waits for; see [`Control`].

mod alone;
mod control;
mod keeper;
mod lan;
mod observer;
mod pump;
mod routes;
mod sweep;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use gateway::{Follower, Handle};
use mapping::{Gate, Instant, Snapshot};
use net::netlink::{Change, Netlink, NetlinkError, Watch};
use net::process::set_thread_niceness;
use net::tun::{OpenTunError, Tun};
use net::{Clock, Parker};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use alone::{AloneSettings, run_alone};
pub use keeper::{Keep, LogLimits, Syslog};
pub use observer::{Inbox, Observer};

use crate::config::Config;
use crate::translator::Translator;
use control::{Control, Notice};
use keeper::Keeper;
use observer::Ask;
use pump::{Burst, Pump};
use routes::Routes;
use sweep::Sweep;

/// What the packet thread is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the TUN device; `%d` in it becomes a free number.
    pub tun: String,
    /// The interface of the LAN, on which the pool is answered for.
    pub lan: String,
    /// The interface of the WAN, whose MTU bounds what leaves.
    pub wan: String,
    /// What the machine is made with.
    pub config: Config,
    /// Random; keys the hash tables.
    pub key: [u8; 16],
    /// Where sessions are kept, and what is kept of them.
    pub keep: Keep,
}

/// Runs the translator in the network namespace of the calling thread until `cancel`.
///
/// It follows the gateway from this call on, not from the first poll.
///
/// # Errors
/// When there is no TUN device or the kernel refuses a route; the returned future says so once.
pub fn run(
    settings: Settings,
    handle: &Handle,
    inbox: Inbox,
    cancel: CancellationToken,
) -> impl Future<Output = Result<(), RunError>> + Send + use<> {
    let follower = handle.follower("translator", Gate::Packets);
    let clock = *handle.clock();
    on_its_own_thread(move || thread(settings, clock, follower, inbox, &cancel))
}

async fn on_its_own_thread(
    work: impl FnOnce() -> Result<(), RunError> + Send + 'static,
) -> Result<(), RunError> {
    let (end, ended) = oneshot::channel();
    let body = move || {
        // Nobody waits any more only when the program has ended anyway.
        drop(end.send(work()));
    };
    let thread = std::thread::Builder::new()
        .name("packets".to_owned())
        .spawn(body)
        .map_err(RunError::Thread)?;
    let result = ended.await;
    match (result, thread.join()) {
        (Ok(result), Ok(())) => result,
        _ => Err(RunError::Panicked),
    }
}

/// Makes a runtime whose drivers run beside the packet thread and never on it.
fn runtime() -> Result<Runtime, RunError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("packets-control")
        .enable_all()
        .build()
        .map_err(RunError::Runtime)
}

/// Why the packet thread ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no thread that owns the files.
    #[error("cannot start the thread that keeps sessions")]
    Keeper(#[source] io::Error),
    /// The TUN device is gone.
    #[error("cannot read TUN device {name}")]
    Device {
        /// The interface's name.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel's routes do not follow.
    #[error("cannot lead packets to the translator")]
    Routes(#[source] NetlinkError),
    /// The thread panicked.
    #[error("the packet thread panicked")]
    Panicked,
    /// There is no runtime for the thread.
    #[error("cannot make the runtime of the packet thread")]
    Runtime(#[source] io::Error),
    /// There is no thread.
    #[error("cannot start the packet thread")]
    Thread(#[source] io::Error),
    /// There is no TUN device.
    #[error(transparent)]
    Tun(OpenTunError),
}

/// Puts the calling thread before everybody who is not in a hurry, as the kernel does with its own
/// forwarding: who sends, receives or computes on the same processor would else interrupt it in
/// the middle of a train of packets.
fn go_first() {
    if let Err(error) = set_thread_niceness(NICENESS) {
        tracing::debug!(%error, "packets wait their turn among all other threads");
    }
}

fn thread(
    settings: Settings,
    clock: Clock,
    follower: Follower,
    inbox: Inbox,
    cancel: &CancellationToken,
) -> Result<(), RunError> {
    let runtime = runtime()?;
    let (mut worker, watch) = runtime.block_on(Worker::open(&settings, clock))?;
    tracing::info!(device = worker.pump.name(), "translator ready");
    if let Some(reader) = worker.keeper.as_ref().and_then(Keeper::reader) {
        inbox.keeps_log(reader);
    }
    worker.work(&runtime, Control::new(Some(follower), inbox, watch, cancel))?;
    runtime.block_on(worker.finish());
    Ok(())
}

/// Everything that the thread owns.
struct Worker {
    clock: Clock,
    pump: Pump,
    translator: Translator,
    routes: Routes,
    wan: String,
    lan: String,
    snapshot: Option<Arc<Snapshot>>,
    keeper: Option<Keeper>,
    sweep: Option<Sweep>,
    restored: Restored,
}

/// What became of the sessions of an earlier process.
#[derive(Debug, Default, Clone, Copy)]
struct Restored {
    /// They were looked at; before that, no packet is.
    is_done: bool,
    restored: u64,
    refused: u64,
}

impl Restored {
    /// There is nothing to be looked at.
    const NOTHING: Self = Self {
        is_done: true,
        restored: 0,
        refused: 0,
    };
}

impl Worker {
    async fn open(settings: &Settings, clock: Clock) -> Result<(Self, Watch), RunError> {
        let tun = Tun::open(&settings.tun).await.map_err(RunError::Tun)?;
        let netlink = Netlink::open().map_err(RunError::Routes)?;
        let watch = Watch::open().map_err(RunError::Routes)?;
        let pool = settings.config.pool.clone();
        let routes = Routes::open(netlink, tun.name(), &settings.lan, pool)
            .await
            .map_err(RunError::Routes)?;
        let translator = Translator::new(settings.config.clone(), settings.key, clock.mono());
        let keep = &settings.keep;
        let keeper = (keep.state.is_some() || keep.syslog.is_some())
            .then(|| Keeper::start(keep, clock))
            .transpose()
            .map_err(RunError::Keeper)?;
        let mut worker = Self {
            clock,
            pump: Pump::new(tun),
            translator,
            routes,
            wan: settings.wan.clone(),
            lan: settings.lan.clone(),
            snapshot: None,
            keeper,
            sweep: None,
            restored: Restored::default(),
        };
        worker.links().await;
        worker.routes.look_for_traps(&worker.wan).await;
        Ok((worker, watch))
    }

    fn work(&mut self, runtime: &Runtime, mut control: Control<'_>) -> Result<(), RunError> {
        let mut parker = Parker::new(&self.pump.tun).map_err(RunError::Runtime)?;
        go_first();
        loop {
            let notice = if self.restored.is_done {
                self.packets_until(&mut parker, pin!(control.next()))
            } else {
                runtime.block_on(control.next())
            };
            match notice? {
                Notice::Cancelled => return Ok(()),
                Notice::Snapshot(new) => {
                    let revision = new.revision();
                    runtime.block_on(self.follow(new))?;
                    control.applied(revision);
                    if !self.restored.is_done {
                        runtime.block_on(self.restore());
                    }
                }
                Notice::Ask(ask) => runtime.block_on(self.answer(ask)),
                Notice::Interface(change) => runtime.block_on(self.interface(change)),
            }
        }
    }

    /// Translates packets and does what is due until there is something else to do.
    fn packets_until(
        &mut self,
        parker: &mut Parker,
        mut next: Pin<&mut impl Future<Output = Result<Notice, RunError>>>,
    ) -> Result<Notice, RunError> {
        let waker = parker.waker();
        let mut context = Context::from_waker(&waker);
        let mut is_new = true;
        // at first whatever there is
        let mut due = Some(self.clock.mono());
        loop {
            let notified = parker.take_notified();
            if (std::mem::take(&mut is_new) || notified)
                && let Poll::Ready(notice) = next.as_mut().poll(&mut context)
            {
                return notice;
            }
            let now = self.clock.mono();
            let is_due = due.is_some_and(|due| due <= now);
            let burst = self.turn(now, is_due).and_then(|burst| {
                due = self.due();
                if burst == Burst::Drained {
                    self.pump.park(parker, due)?;
                }
                Ok(())
            });
            burst.map_err(|source| RunError::Device {
                name: self.pump.name().to_owned(),
                source,
            })?;
        }
    }

    /// Does what is due, and a bounded number of packets.
    fn turn(&mut self, now: Instant, is_due: bool) -> io::Result<Burst> {
        if is_due {
            self.translator.handle_timeout(now);
            self.pump.transmit(&mut self.translator);
        }
        let burst = self.pump.burst(&mut self.translator, now);
        self.hear(now);
        self.hand_over(now);
        burst
    }

    /// Returns when the thread has something to do though no packet comes.
    fn due(&self) -> Option<Instant> {
        let timeout = self.translator.poll_timeout().map(|(due, _)| due);
        let hand_over = self.keeper.as_ref().and_then(Keeper::due);
        let sweep = self.sweep.as_ref().map(Sweep::due);
        timeout.into_iter().chain(hand_over).chain(sweep).min()
    }

    /// Brings machine and routes to a snapshot. What closes is closed before the first route
    /// changes; what opens is open when this returns.
    async fn follow(&mut self, new: Arc<Snapshot>) -> Result<(), RunError> {
        let now = self.clock.mono();
        self.translator
            .handle_snapshot(self.snapshot.as_deref(), &new, now);
        self.pump.transmit(&mut self.translator);
        self.hear(now);
        let nsps: Vec<_> = new.generations().map(|generation| generation.nsp).collect();
        self.snapshot = Some(new);
        self.routes.follow(&nsps).await.map_err(RunError::Routes)
    }

    /// Brings back the sessions of an earlier process, as far as the snapshot lets them in.
    async fn restore(&mut self) {
        self.restored.is_done = true;
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        let left = keeper.left().await;
        let now = self.clock.mono();
        for saved in &left {
            match self.translator.restore(saved, now) {
                Ok(()) => self.restored.restored += 1,
                Err(error) => {
                    self.restored.refused += 1;
                    tracing::debug!(%error, "a session does not go on");
                }
            }
        }
        if !left.is_empty() {
            let Restored {
                restored, refused, ..
            } = self.restored;
            tracing::info!(restored, refused, "sessions of before");
        }
        let live = self.translator.sessions(0..u32::MAX, now);
        keeper.go_on(live.map(|(_, session)| observer::ends(&session)).collect());
        self.sweep = keeper.keeps_sessions().then(|| Sweep::new(now));
    }

    /// Keeps to what the interfaces are now.
    async fn interface(&mut self, change: Change) {
        let lan = self.routes.lan().index;
        match change {
            Change::Address(address) | Change::AddressGone(address)
                if lan == Some(address.ifindex) =>
            {
                self.routes.lan_may_have_changed().await;
            }
            Change::Link(link) | Change::LinkGone(link)
                if link.name == self.lan || lan == Some(link.index) =>
            {
                self.routes.lan_may_have_changed().await;
                self.links().await;
            }
            Change::Link(link) if self.routes.is_device(link.index) => {
                self.routes.device_may_have_changed().await;
            }
            Change::Link(link) if link.name == self.wan => self.links().await,
            // the kernel has told more than we could hear
            Change::Lagged => {
                self.routes.device_may_have_changed().await;
                self.routes.lan_may_have_changed().await;
                self.links().await;
            }
            _ => {}
        }
    }

    /// Tells the machine what the interfaces carry.
    async fn links(&mut self) {
        let mut links = self.translator.config().links;
        if let Some(wan) = self.routes.mtu(&self.wan).await {
            links.wan_mtu = clamp(wan.max(MIN_MTU));
        }
        if let Some(lan) = self.routes.mtu(&self.lan).await {
            links.lan_mtu = clamp(lan);
        }
        self.translator.handle_links(links);
    }

    /// Hears what happened to sessions.
    fn hear(&mut self, now: Instant) {
        while let Some(event) = self.translator.poll_event() {
            tracing::trace!(?event, "session");
            if let Some(keeper) = &mut self.keeper {
                keeper.hear(event, now);
            }
        }
    }

    /// Hands over what is to be kept, a little at a time.
    fn hand_over(&mut self, now: Instant) {
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        keeper.hand_over(&self.clock, now);
        if let Some(sweep) = &mut self.sweep {
            sweep.step(&self.translator, keeper, &self.clock, now);
        }
    }

    /// Ends in order: what was seen is written.
    async fn finish(mut self) {
        self.hear(self.clock.mono());
        let Some(keeper) = self.keeper.take() else {
            return;
        };
        if let Some(mut sweep) = self.sweep.take() {
            sweep.finish(&self.translator, &keeper, &self.clock).await;
        }
        keeper.finish(&self.clock).await;
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Counters(answer) => {
                let device = self.routes.tun_dropped().await;
                let mut counts =
                    observer::counts(&self.translator.counters(), self.pump.refused(), device);
                if let Some(keeper) = &self.keeper {
                    let Restored {
                        restored, refused, ..
                    } = self.restored;
                    observer::count_kept(&mut counts, keeper.losses(), restored, refused);
                }
                // Who asked may have left.
                drop(answer.send(counts));
            }
            Ask::End(filter, cursor, answer) => {
                let now = self.clock.mono();
                let ended = observer::end(&mut self.translator, filter, cursor, now);
                drop(answer.send(ended));
                self.pump.transmit(&mut self.translator);
                self.hear(now);
            }
            Ask::Log(answer) => {
                if let Some(keeper) = &mut self.keeper {
                    keeper.barrier(&self.clock, answer);
                }
            }
            Ask::Sessions(filter, cursor, answer) => {
                let page = observer::page(&self.translator, filter, cursor, self.clock.mono());
                drop(answer.send(page));
            }
        }
    }
}

fn clamp(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

/// Nine times the share of others on a busy processor, which leaves them a tenth of it when more
/// packets come than it can translate.
const NICENESS: i32 = -10;

/// RFC 8200 §5.
const MIN_MTU: u32 = 1280;

#[cfg(test)]
mod tests;
