//! The room's shell: sockets, timers, the newest snapshot. Decides nothing.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use gateway::{Count, Follower, Handle, Observe, ObserveFuture};
use hickory_proto::rr::Name;
use mapping::{Gate, Snapshot};
use net::udp::{Options, Socket};
use net::{BindError, Clock};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::forward::Forwarder;
use crate::parent::{Delegation, Updater};
use crate::server::Server;
use crate::tsig::{Key, ParseKeyError};
use crate::zone::{self, View, Zone};

mod forward;
mod parent;
mod tcp;
mod udp;

/// What the room is told at start.
#[derive(Debug)]
pub struct Config {
    /// Where the LAN asks: the gateway's own address, port 53. Only hosts of the LAN see its
    /// private addresses there and have other names forwarded.
    pub lan: Vec<Endpoint>,
    /// Where everybody asks: `[::]:53` on the WAN's device. It survives a change of address:
    /// answers leave from the address that was asked.
    pub wan: Vec<Endpoint>,
    /// How long resolvers keep a record, at least a second.
    pub ttl: Duration,
    /// Where the LAN's queries for other names go; a new value is used at once.
    pub resolvers: watch::Receiver<Vec<SocketAddr>>,
    /// The zone above, if our delegation in it is to be kept up to date.
    pub parent: Option<ParentConfig>,
    /// Seeds the ids of what is sent; from the system's random source.
    pub seed: [u8; 32],
}

/// An address to listen on with UDP and TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address and port.
    pub addr: SocketAddr,
    /// The only device that is listened on.
    pub device: Option<String>,
}

/// The zone above.
#[derive(Debug, Clone)]
pub struct ParentConfig {
    /// Its primary server.
    pub server: SocketAddr,
    /// Its name.
    pub zone: Name,
    /// What it calls our name server, by default `ns1` in our zone.
    pub name_server: Option<Name>,
    /// The key that it knows us by, see [`load_key`].
    pub key: Key,
}

/// Binds every socket; must run inside a tokio runtime, in the gateway's network namespace.
///
/// # Errors
/// Names the address, the device and, for a port in use, its owner.
pub fn bind(config: Config) -> Result<Dns, BindError> {
    let lan = config
        .lan
        .iter()
        .map(|endpoint| listen(endpoint, View::Lan));
    let wan = config
        .wan
        .iter()
        .map(|endpoint| listen(endpoint, View::Public));
    let listeners = lan.chain(wan).collect::<Result<_, _>>()?;
    let mut rng = StdRng::from_seed(config.seed);
    let room = Room {
        server: Server::new(Zone::new(config.ttl)),
        counters: Counters::default(),
        clock: Clock::new(),
        snapshot: RwLock::default(),
        forwarder: Mutex::new(Forwarder::new(StdRng::from_rng(&mut rng))),
        resolvers: config.resolvers,
    };
    Ok(Dns {
        room: Arc::new(room),
        listeners,
        parent: config.parent,
        ttl: config.ttl,
        rng,
    })
}

/// The bound room.
#[derive(Debug)]
pub struct Dns {
    room: Arc<Room>,
    listeners: Vec<Listener>,
    parent: Option<ParentConfig>,
    ttl: Duration,
    rng: StdRng,
}

impl Dns {
    /// Returns the room's counters.
    #[must_use]
    pub fn observe(&self) -> Arc<dyn Observe> {
        Arc::new(Observation(Arc::clone(&self.room)))
    }

    /// Returns the bound addresses, UDP and TCP of each endpoint, those of the LAN first.
    #[must_use]
    pub fn addresses(&self) -> Vec<(SocketAddr, Option<SocketAddr>)> {
        let tcp = |listener: &Listener| listener.tcp.local_addr().ok();
        self.listeners
            .iter()
            .map(|here| (here.udp.local_addr(), tcp(here)))
            .collect()
    }

    /// Answers until `cancel`; follows the gateway from this call on, not from the first poll. A
    /// revision counts as applied once every answer follows from it.
    ///
    /// # Errors
    /// When a socket can no longer be used, or the zone's name is none.
    pub fn serve(
        self,
        handle: &Handle,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<(), ServeError>> + Send + use<> {
        let follower = handle.follower("dns", Gate::Names);
        self.answer(follower, handle.subscribe(), cancel)
    }

    async fn answer(
        self,
        mut follower: Follower,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        cancel: CancellationToken,
    ) -> Result<(), ServeError> {
        let first = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            first = follower.changed() => first.ok_or(ServeError::Writer)?,
        };
        self.room.apply(&first);
        follower.applied(first.revision());
        let room = Arc::clone(&self.room);
        let mut tasks = self.start(&first, snapshots)?;
        tasks.spawn(follow(room, follower));
        let ended = tokio::select! {
            () = cancel.cancelled() => Ok(()),
            ended = tasks.join_next() => match ended {
                Some(Ok(ended)) => ended,
                Some(Err(_)) => Err(ServeError::Task),
                None => Ok(()),
            },
        };
        tasks.shutdown().await;
        ended
    }

    /// Starts every task but the one that follows the writer.
    fn start(
        mut self,
        first: &Snapshot,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Result<JoinSet<Result<(), ServeError>>, ServeError> {
        let home = zone::home(first).ok_or(ServeError::Zone)?;
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            let Listener { view, udp, tcp } = listener;
            tasks.spawn(udp::serve(Arc::clone(&self.room), udp, view));
            tasks.spawn(tcp::serve(Arc::clone(&self.room), tcp, view));
        }
        if let Some(parent) = self.parent {
            let default = || zone::name_server(&home);
            let mut name_server = parent.name_server.unwrap_or_else(default);
            let mut above = parent.zone;
            name_server.set_fqdn(true);
            above.set_fqdn(true);
            let delegation = Delegation {
                parent: above,
                child: home,
                name_server,
                ttl: self.ttl,
                key: parent.key,
            };
            let rng = StdRng::from_rng(&mut self.rng);
            let updater = Updater::new(delegation, rng, self.room.clock.now());
            tasks.spawn(parent::serve(self.room, updater, parent.server, snapshots));
        }
        Ok(tasks)
    }
}

/// Why the room ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A task panicked.
    #[error("a task of the DNS server ended unexpectedly")]
    Task,
    /// A UDP socket is broken.
    #[error("cannot receive DNS queries at {local}")]
    Udp {
        /// The address that the socket is bound to.
        local: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No newer snapshot will come.
    #[error("the writer has ended")]
    Writer,
    /// The site's zone is no domain name.
    #[error("the zone is no domain name")]
    Zone,
}

/// Reads the key by which the zone above knows us.
///
/// # Errors
/// When the file cannot be read, others than its owner and group can read it too, or it holds
/// no key.
pub fn load_key(path: &Path) -> Result<Key, LoadKeyError> {
    let read = |source| LoadKeyError::Read {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(read)?.mode();
    if mode & OTHERS != 0 {
        return Err(LoadKeyError::Exposed {
            path: path.to_owned(),
        });
    }
    let text = fs::read_to_string(path).map_err(read)?;
    Key::parse(&text).map_err(|source| LoadKeyError::Parse {
        path: path.to_owned(),
        source,
    })
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum LoadKeyError {
    /// Everybody can read it.
    #[error("the key {} can be read by everybody: chmod 640", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("cannot use the key {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ParseKeyError,
    },
    /// It cannot be read.
    #[error("cannot read the key {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What the tasks share.
#[derive(Debug)]
struct Room {
    server: Server,
    counters: Counters,
    clock: Clock,
    snapshot: RwLock<Option<Arc<Snapshot>>>,
    forwarder: Mutex<Forwarder<StdRng>>,
    resolvers: watch::Receiver<Vec<SocketAddr>>,
}

impl Room {
    fn apply(&self, snapshot: &Arc<Snapshot>) {
        let mut held = self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Some(Arc::clone(snapshot));
    }

    /// Returns the snapshot that answers follow from; there is one before any task starts.
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[derive(Debug)]
struct Listener {
    view: View,
    udp: Socket,
    tcp: TcpListener,
}

fn listen(endpoint: &Endpoint, view: View) -> Result<Listener, BindError> {
    let device = endpoint.device.as_deref();
    let options = device.map_or_else(Options::new, |device| Options::new().device(device));
    let udp = Socket::bind(endpoint.addr, &options)?;
    let tcp = net::tcp::listen(endpoint.addr, device)?;
    Ok(Listener { view, udp, tcp })
}

async fn follow(room: Arc<Room>, mut follower: Follower) -> Result<(), ServeError> {
    while let Some(snapshot) = follower.changed().await {
        room.apply(&snapshot);
        follower.applied(snapshot.revision());
    }
    // the writer ends first; what was true last is answered until the room is told to end
    std::future::pending().await
}

#[derive(Debug)]
struct Observation(Arc<Room>);

impl Observe for Observation {
    fn room(&self) -> &'static str {
        "dns"
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        let counts = self.0.counters.iter();
        let counts = counts
            .map(|(name, reason, value)| Count::new(name, reason, value))
            .collect();
        Box::pin(std::future::ready(counts))
    }
}

/// The mode bits of everybody else.
const OTHERS: u32 = 0o007;

#[cfg(test)]
mod tests;
