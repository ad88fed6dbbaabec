//! From a state folder to a writer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mapping::{BootId, Core, Delta, Now, Policy, RestoreError, Site, Snapshot};
use net::{Alarm, Clock};
use rand::TryRng as _;
use rand::rngs::{SysError, SysRng};
use store::{AuditReader, CommitError, LoadError, OpenStoreError, Store};
use tokio::sync::{mpsc, watch};
use tracing::debug;

use crate::counters::Counters;
use crate::follower::Followers;
use crate::handle::{Handle, Job};
use crate::writer::answers::{Answers, Untold};
use crate::writer::disk::Disk;
use crate::writer::scribe::{Outlets, Scribe, Time};
use crate::writer::{Engine, Writer};

/// What the writer needs to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The LAN that is served.
    pub site: Site,
    /// The state folder; made if there is none.
    pub state: PathBuf,
    /// This boot of the machine: [`net::boot_id`].
    pub boot_id: BootId,
    /// What holds from this start on; what it does not permit any more closes now.
    pub policy: Policy,
    /// The key that chooses addresses, for a store that is empty; without one the operating
    /// system's randomness.
    pub key: Option<[u8; 16]>,
}

/// Opens the store and restores what it holds; the snapshot of the [`Handle`] is that truth.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use gateway::Config;
/// use mapping::{BootId, Policy, Site};
/// use tokio_util::sync::CancellationToken;
///
/// let folder = tempfile::tempdir()?;
/// let config = Config {
///     site: Site::new("192.168.64.1".parse()?, 24, "home.example".to_owned())?,
///     state: folder.path().to_owned(),
///     boot_id: BootId([1; 16]),
///     policy: Policy::default(),
///     key: None,
/// };
/// let (handle, writer) = gateway::start(config, net::Clock::new()).await?;
/// let cancel = CancellationToken::new();
/// let running = tokio::spawn(writer.run(cancel.clone()));
/// assert_eq!(handle.snapshot().mapping_count(), 0);
/// cancel.cancel();
/// running.await??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the store cannot be opened or read, or an empty one not be seeded. A store that can be
/// read and not be written is no error: what is open goes on, nothing new opens.
pub async fn start(config: Config, clock: Clock) -> Result<(Handle, Writer), StartError> {
    let mut store = Store::open(&config.state).await.map_err(StartError::Open)?;
    let now = clock.now();
    let loaded = store.load().await;
    if loaded.is_err() {
        // a damaged store that cannot be read is said to be damaged
        store.checked().await.map_err(StartError::Open)?;
    }
    let truth = match loaded.map_err(StartError::Load)? {
        Some(image) => {
            let core = Core::restore(config.site, image, config.boot_id, now);
            let mut core = core.map_err(StartError::Restore)?;
            core.handle_policy(config.policy, now);
            core.handle_start();
            // it ran while the rows were read
            store.checked().await.map_err(StartError::Open)?;
            core
        }
        None => {
            let (core, first) = seeded(&config, now)?;
            store
                .initialise(core.key(), &config.policy, &first)
                .await
                .map_err(StartError::Initialise)?;
            core
        }
    };
    let audit = store.audit();
    let alarm = Arc::new(Alarm::new().map_err(StartError::Alarm)?);
    let time = Time {
        now: Box::new(move || clock.now()),
        nap: Box::new(move |time| {
            let alarm = Arc::clone(&alarm);
            Box::pin(async move {
                if let Err(error) = alarm.sleep(time).await {
                    debug!(%error, "a nap was cut short");
                }
            })
        }),
    };
    let (handle, engine) = assemble(store, truth, audit, clock, time).await;
    Ok((handle, Writer(engine)))
}

/// Joins the parts, and stores and publishes what the start changed.
pub(crate) async fn assemble<D: Disk>(
    disk: D,
    truth: Core,
    audit: AuditReader,
    clock: Clock,
    time: Time,
) -> (Handle, Engine<D>) {
    let counters = Arc::new(Counters::default());
    let followers = Followers::default();
    let (jobs, queue) = mpsc::channel::<Job>(QUEUE);
    counters.watch_queue(&jobs);
    let (snapshots, newest) = watch::channel(Arc::new(truth.snapshot().clone()));
    // one for each batch; the queue bounds what they hold
    let (published, batches) = mpsc::unbounded_channel();
    let untold = Untold::default();
    let outlets = Outlets {
        counters: Arc::clone(&counters),
        snapshots,
        published,
        untold: untold.clone(),
    };
    let mut scribe = Scribe::new(disk, truth, time, queue, outlets);
    scribe.begin().await;
    let shown: Arc<Snapshot> = Arc::clone(&newest.borrow());
    let answers = Answers::new(Arc::clone(&counters), followers.clone(), shown, untold);
    let handle = Handle::new(audit, clock, counters, followers, jobs, newest);
    let engine = Engine {
        scribe,
        answers,
        published: batches,
    };
    (handle, engine)
}

/// Why the writer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system has no timer left.
    #[error("cannot make a timer")]
    Alarm(#[source] io::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(OpenStoreError),
    /// The store cannot be read.
    #[error("cannot load the store")]
    Load(#[source] LoadError),
    /// What the store holds contradicts itself.
    #[error("cannot use what the store holds")]
    Restore(#[source] RestoreError),
    /// The operating system gives no random key.
    #[error("cannot get a random key")]
    Random(#[source] SysError),
    /// The empty store cannot be written.
    #[error("cannot write the first entries of the store")]
    Initialise(#[source] CommitError),
}

fn seeded(config: &Config, now: Now) -> Result<(Core, Delta), StartError> {
    let key = match config.key {
        Some(key) => key,
        None => random_key().map_err(StartError::Random)?,
    };
    let mut core = Core::new(
        config.site.clone(),
        config.policy.clone(),
        key,
        config.boot_id,
        now,
    );
    core.handle_stop();
    let batch = core.finish(now);
    // a new core has everything to store
    let delta = batch
        .delta
        .ok_or(StartError::Restore(RestoreError::NoAnchor))?;
    Ok((core, delta))
}

fn random_key() -> Result<[u8; 16], SysError> {
    let mut key = [0; 16];
    SysRng.try_fill_bytes(&mut key)?;
    Ok(key)
}

/// More requests than a home has devices; whoever comes later is told to ask again.
const QUEUE: usize = 1024;
