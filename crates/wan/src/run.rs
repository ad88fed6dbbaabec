//! Netlink, the clock and the gateway around the pure parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::{Count, Handle, Observe, ObserveFuture};
use mapping::{
    Generation, Instant, InvalidPrefix, Nsp, Outcome, Prefix6, PrefixRequest, Refusal, Request,
    Snapshot,
};
use net::Clock;
use net::netlink::{Change, Netlink, NetlinkError, Watch};
use tokio_util::sync::CancellationToken;

use crate::forwarding::{SWITCHES, is_on};
use crate::{addresses, null_routes};

/// Which side is the Internet, and what is known of it beforehand.
#[derive(Debug, Clone)]
pub struct Options {
    /// The WAN's interface; it may appear later.
    pub wan: String,
    /// The delegated prefix of the configuration and its NSP: they fill an empty store, and
    /// nothing else.
    pub prefix: Option<(Prefix6, Option<Nsp>)>,
}

/// Opens netlink and looks whether the kernel forwards; must run inside a tokio runtime.
///
/// # Errors
/// When the kernel refuses netlink or the configured prefix cannot be used.
pub fn bind(options: &Options) -> Result<Bound, StartError> {
    if let Some((delegated, nsp)) = options.prefix {
        let usable = first_prefix(delegated, nsp).usable_nsp();
        usable.map_err(|source| StartError::Prefix { delegated, source })?;
    }
    let watch = Watch::open()?;
    let netlink = Netlink::open()?;
    let observed = Arc::new(Observed::default());
    check_forwarding(&observed);
    Ok(Bound {
        options: options.clone(),
        netlink,
        watch,
        observed,
    })
}

/// Why the WAN cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel refuses.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The configuration names a prefix that remote users could not reach.
    #[error("cannot use the delegated prefix {delegated}")]
    Prefix {
        /// The prefix.
        delegated: Prefix6,
        /// Why not.
        #[source]
        source: InvalidPrefix,
    },
}

/// The WAN side, ready to run.
#[derive(Debug)]
pub struct Bound {
    options: Options,
    netlink: Netlink,
    watch: Watch,
    observed: Arc<Observed>,
}

/// Why a running WAN side ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The kernel tells no more of its changes.
    #[error(transparent)]
    Watch(NetlinkError),
    /// There is nobody left to tell.
    #[error("the gateway's writer has ended")]
    Writer,
}

impl Bound {
    /// Returns how to read the counters.
    #[must_use]
    pub fn observe(&self) -> Arc<dyn Observe> {
        Arc::<Observed>::clone(&self.observed)
    }

    /// Follows the kernel and the snapshot until `cancel`. The null routes stay: nothing may
    /// leak to the provider while Portico is away.
    ///
    /// # Errors
    /// When one of them can no longer be followed.
    pub async fn serve(self, handle: Handle, cancel: CancellationToken) -> Result<(), ServeError> {
        let mut shell = Shell {
            wan: self.options.wan,
            seed: self.options.prefix,
            netlink: self.netlink,
            generations: None,
            addresses_due: true,
            routes_due: true,
            retry: None,
            complained: false,
            clock: *handle.clock(),
            observed: self.observed,
        };
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            result = shell.run(&handle, self.watch) => result,
        }
    }
}

struct Shell {
    wan: String,
    seed: Option<(Prefix6, Option<Nsp>)>,
    netlink: Netlink,
    /// Those that the routes and the choice of addresses were made for.
    generations: Option<Vec<Generation>>,
    addresses_due: bool,
    routes_due: bool,
    retry: Option<Instant>,
    complained: bool,
    clock: Clock,
    observed: Arc<Observed>,
}

/// Something was not done yet.
enum Undone {
    Kernel(NetlinkError),
    Refused(Refusal),
}

impl From<NetlinkError> for Undone {
    fn from(error: NetlinkError) -> Self {
        Self::Kernel(error)
    }
}

impl Shell {
    async fn run(&mut self, gateway: &Handle, mut watch: Watch) -> Result<(), ServeError> {
        let mut snapshots = gateway.subscribe();
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            // a burst of route changes is waited out, and so is a failure
            let waits = self.retry.is_some_and(|at| at > self.clock.mono());
            if self.addresses_due || !waits {
                match self.settle(gateway, &snapshot).await {
                    Ok(()) => (self.retry, self.complained) = (None, false),
                    Err(undone) => self.complain(&undone),
                }
            }
            tokio::select! {
                change = watch.next() => self.note(&change.map_err(ServeError::Watch)?),
                changed = snapshots.changed() => changed.map_err(|_| ServeError::Writer)?,
                () = self.clock.sleep_until_some(self.retry) => {}
            }
        }
    }

    /// What the kernel said makes due; a change of routes is looked at a little later, since
    /// routes come in bursts.
    fn note(&mut self, change: &Change) {
        match change {
            Change::Address(_) | Change::AddressGone(_) => self.addresses_due = true,
            Change::Link(link) | Change::LinkGone(link) => {
                self.addresses_due |= link.name == self.wan;
            }
            Change::Lagged => (self.addresses_due, self.routes_due) = (true, true),
            Change::Routes => {
                self.routes_due = true;
                self.retry.get_or_insert(self.clock.mono() + RETRY);
            }
        }
    }

    async fn settle(&mut self, gateway: &Handle, snapshot: &Snapshot) -> Result<(), Undone> {
        self.seed(gateway, snapshot).await?;
        let generations: Vec<Generation> = snapshot.generations().copied().collect();
        if self.generations.as_ref() != Some(&generations) {
            (self.addresses_due, self.routes_due) = (true, true);
            self.generations = Some(generations.clone());
        }
        if self.addresses_due {
            self.tell_addresses(gateway, snapshot, &generations).await?;
            self.addresses_due = false;
        }
        if self.routes_due {
            self.set_routes(&generations).await?;
            self.routes_due = false;
        }
        Ok(())
    }

    /// The configuration's prefix fills an empty store only: later ones come by the API, and a
    /// restart must not bring the first one back.
    async fn seed(&mut self, gateway: &Handle, snapshot: &Snapshot) -> Result<(), Undone> {
        let Some((delegated, nsp)) = self.seed else {
            return Ok(());
        };
        if snapshot.generations().next().is_none() {
            let request = Request::Prefix(first_prefix(delegated, nsp));
            self.ask(gateway, request).await?;
        }
        self.seed = None;
        Ok(())
    }

    async fn tell_addresses(
        &self,
        gateway: &Handle,
        snapshot: &Snapshot,
        generations: &[Generation],
    ) -> Result<(), Undone> {
        let there = match self.netlink.link(&self.wan).await? {
            Some(link) => self.netlink.addresses(link.index).await?,
            None => Vec::new(),
        };
        let chosen = addresses::choose(&there, generations);
        self.observed.keep_addresses(chosen.len());
        if chosen == snapshot.wan_addresses() {
            return Ok(());
        }
        tracing::info!(addresses = chosen.len(), wan = %self.wan, "the WAN addresses changed");
        self.ask(gateway, Request::WanAddresses(chosen)).await?;
        count(&self.observed.address_changes);
        Ok(())
    }

    async fn set_routes(&self, generations: &[Generation]) -> Result<(), Undone> {
        let plan = null_routes::plan(&self.netlink.routes().await?, generations);
        for route in plan.add {
            self.netlink.add_route(route).await?;
            count(&self.observed.routes_added);
        }
        for route in plan.remove {
            self.netlink.remove_route(route).await?;
            count(&self.observed.routes_removed);
        }
        Ok(())
    }

    async fn ask(&self, gateway: &Handle, request: Request) -> Result<(), Undone> {
        match gateway.request(request).await {
            Outcome::Granted(_) => Ok(()),
            Outcome::Refused(refusal) => Err(Undone::Refused(refusal)),
        }
    }

    /// Says it once, and tries again.
    fn complain(&mut self, undone: &Undone) {
        count(match undone {
            Undone::Kernel(_) => &self.observed.kernel_errors,
            Undone::Refused(_) => &self.observed.refusals,
        });
        self.retry = Some(self.clock.mono() + RETRY);
        if std::mem::replace(&mut self.complained, true) {
            return;
        }
        match undone {
            Undone::Kernel(error) => tracing::warn!(
                %error, cause = %error.source, "the WAN side is not as it should be; trying again"
            ),
            // the writer is busy or a follower has not come along yet; that is no news
            Undone::Refused(Refusal::Unavailable) => tracing::debug!("the gateway is busy"),
            Undone::Refused(refusal) => {
                tracing::warn!(%refusal, "the gateway refuses what the WAN side reports");
            }
        }
    }
}

/// Nothing was valid before it.
const fn first_prefix(delegated: Prefix6, nsp: Option<Nsp>) -> PrefixRequest {
    PrefixRequest {
        delegated,
        nsp,
        old_valid: Duration::ZERO,
    }
}

fn check_forwarding(observed: &Observed) {
    for switch in SWITCHES {
        let on = match net::sysctl::read(switch.key) {
            Ok(value) => is_on(&value),
            Err(error) => {
                tracing::warn!(%error, "cannot tell whether the kernel forwards");
                continue;
            }
        };
        if !on {
            count(&observed.switches_off);
            let (purpose, mend) = (switch.purpose, switch.mend);
            tracing::warn!("forwarding is off, so {purpose}; this line mends it: {mend}");
        }
    }
}

#[derive(Debug, Default)]
struct Observed {
    address_changes: AtomicU64,
    addresses: AtomicU64,
    kernel_errors: AtomicU64,
    refusals: AtomicU64,
    routes_added: AtomicU64,
    routes_removed: AtomicU64,
    switches_off: AtomicU64,
}

impl Observed {
    fn keep_addresses(&self, addresses: usize) {
        let addresses = u64::try_from(addresses).unwrap_or(u64::MAX);
        self.addresses.store(addresses, Ordering::Relaxed);
    }

    fn counts(&self) -> Vec<Count> {
        let count = |name, reason, value: &AtomicU64| {
            Count::new(name, reason, value.load(Ordering::Relaxed))
        };
        vec![
            count("addresses", "", &self.addresses),
            count("address_changes_total", "", &self.address_changes),
            count("failures_total", "kernel", &self.kernel_errors),
            count("failures_total", "refused", &self.refusals),
            count("null_routes_total", "added", &self.routes_added),
            count("null_routes_total", "removed", &self.routes_removed),
            count("forwarding_switches_off", "", &self.switches_off),
        ]
    }
}

impl Observe for Observed {
    fn room(&self) -> &'static str {
        "wan"
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        Box::pin(std::future::ready(self.counts()))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Between two attempts, and between two looks at the routes.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
