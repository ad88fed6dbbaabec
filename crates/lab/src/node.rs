//! A simulated machine: an OS thread with a network namespace of its own.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use net::netlink::{Netlink, Route, Target};
use net::{namespace, sysctl};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

/// A simulated machine.
///
/// Cheap to clone. It ends with [`Node::stop`] or when the last clone is dropped, and with it
/// end its tasks, its child processes, its namespace and its links. A task must not hold a
/// clone of its own node, or only [`Node::stop`] ends it.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

impl Node {
    /// Starts a machine with nothing but a loopback interface; errors will call it `name`.
    ///
    /// Duplicate address detection is off, so that IPv6 addresses can be used at once.
    ///
    /// # Errors
    ///
    /// Says what is missing, in one line: mostly it takes root.
    pub fn new(name: &str) -> Result<Self> {
        Self::start(name).with_context(|| format!("cannot start node {name}"))
    }

    fn start(name: &str) -> Result<Self> {
        let (jobs, todo) = mpsc::unbounded_channel();
        let (started, start) = std::sync::mpsc::channel();
        let (fail, failure) = watch::channel(None);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if let Err(error) = live(&started, todo, stopped) {
                    // Nobody listens any more if the node was dropped meanwhile.
                    drop(started.send(Err(error)));
                }
            })?;
        let Start {
            namespace,
            thread_id,
            netlink,
        } = start.recv().context("its thread ended early")??;
        Ok(Self(Arc::new(Inner {
            name: name.into(),
            jobs,
            stop,
            namespace,
            thread_id,
            netlink,
            failure,
            fail,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// What errors call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The kernel's id of its thread; `/proc/self/task/<id>/ns/net` is its namespace.
    #[must_use]
    pub fn thread_id(&self) -> u32 {
        self.0.thread_id
    }

    /// Its network configuration; usable from any thread, but for [`Netlink::wait_ready`].
    #[must_use]
    pub fn netlink(&self) -> &Netlink {
        &self.0.netlink
    }

    /// Runs `job` on the machine and waits for its result; dropping the wait cancels the job.
    ///
    /// # Errors
    ///
    /// The error of the job, or that it panicked or its node stopped; names the node.
    pub async fn run<T, F, Fut>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
    {
        let answer = self.submit(job).await;
        self.explain(answer)
    }

    /// Does what [`Self::run`] does, for callers outside of any runtime.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn run_blocking<T, F, Fut>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
    {
        let answer = self.submit(job).blocking_recv();
        self.explain(answer)
    }

    /// Runs `job` on the machine until it ends, its [`Task`] is stopped or the node ends.
    ///
    /// Its failure is that of the node: see [`Self::failed`].
    pub fn spawn<F, Fut>(&self, label: &str, job: F) -> Task
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + 'static,
    {
        let task = Task {
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        let stop = task.stop.clone();
        let ended = task.ended.clone().drop_guard();
        let (label, fail) = (label.to_owned(), self.0.fail.clone());
        self.send(Box::new(move || {
            Box::pin(async move {
                let _ended = ended;
                let mut task = start(job);
                let result = tokio::select! {
                    () = stop.cancelled() => return task.shutdown().await,
                    result = finish(&mut task) => result,
                };
                if let Err(error) = result {
                    let text = format!("{label}: {error:#}");
                    fail.send_modify(|failure| {
                        failure.get_or_insert(text);
                    });
                }
            })
        }));
        task
    }

    /// Waits until a background task of the node fails, and says which and why.
    pub async fn failed(&self) -> anyhow::Error {
        let mut failure = self.0.failure.clone();
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            if failure.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Whether all background tasks of the node are well.
    ///
    /// # Errors
    ///
    /// The first failure; names the node and the task.
    pub fn check(&self) -> Result<()> {
        match self.0.failure.borrow().as_deref() {
            Some(failure) => Err(anyhow!("node {}: {failure}", self.name())),
            None => Ok(()),
        }
    }

    /// Ends the machine and waits until its thread is gone.
    pub fn stop(&self) {
        self.0.end();
    }

    /// Sets a switch below `/proc/sys/net`, such as `ipv4/ip_forward`.
    ///
    /// # Errors
    ///
    /// Names the node and the switch.
    pub async fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.run(async move || Ok(sysctl::write(&key, &value)?))
            .await
    }

    /// Makes the machine a router for IPv4 and IPv6.
    ///
    /// # Errors
    ///
    /// Names the node and the switch.
    pub async fn forward(&self) -> Result<()> {
        self.sysctl("ipv4/ip_forward", "1").await?;
        self.sysctl("ipv6/conf/all/forwarding", "1").await
    }

    /// Gives an interface that is plugged in an address such as `192.0.2.1/24`, and waits
    /// until packets to it are delivered.
    ///
    /// # Errors
    ///
    /// Names the node, the address and the interface.
    pub async fn add_address(&self, ifname: &str, address: &str) -> Result<()> {
        let change = async {
            let (addr, len) = parse_prefix(address)?;
            let index = self.netlink().index(ifname).await?;
            self.netlink().add_address(index, addr, len).await?;
            self.wait_ready(ifname).await
        };
        change
            .await
            .with_context(|| format!("node {}: {ifname} {address}", self.name()))
    }

    /// Takes an address such as `192.0.2.1/24` from an interface.
    ///
    /// # Errors
    ///
    /// Names the node, the address and the interface.
    pub async fn remove_address(&self, ifname: &str, address: &str) -> Result<()> {
        let change = async {
            let (addr, len) = parse_prefix(address)?;
            let index = self.netlink().index(ifname).await?;
            anyhow::Ok(self.netlink().remove_address(index, addr, len).await?)
        };
        change
            .await
            .with_context(|| format!("node {}: {ifname} {address}", self.name()))
    }

    /// Adds a route to `destination` (such as `2001:db8::/56`) through the router `gateway`; a
    /// link-local router needs its interface.
    ///
    /// # Errors
    ///
    /// Names the node and the route.
    pub async fn add_route(
        &self,
        destination: &str,
        gateway: &str,
        ifname: Option<&str>,
    ) -> Result<()> {
        let change = async {
            let route = self.route(destination, gateway, ifname).await?;
            anyhow::Ok(self.netlink().add_route(route).await?)
        };
        change
            .await
            .with_context(|| format!("node {}: route to {destination}", self.name()))
    }

    /// Removes a route that [`Self::add_route`] added.
    ///
    /// # Errors
    ///
    /// Names the node and the route.
    pub async fn remove_route(
        &self,
        destination: &str,
        gateway: &str,
        ifname: Option<&str>,
    ) -> Result<()> {
        let change = async {
            let route = self.route(destination, gateway, ifname).await?;
            anyhow::Ok(self.netlink().remove_route(route).await?)
        };
        change
            .await
            .with_context(|| format!("node {}: route to {destination}", self.name()))
    }

    /// Waits until an interface carries packets to all of its addresses.
    ///
    /// # Errors
    ///
    /// Names the node and the interface that does not get ready.
    pub async fn wait_ready(&self, ifname: &str) -> Result<()> {
        let (netlink, name) = (self.netlink().clone(), ifname.to_owned());
        let wait = async move || {
            let index = netlink.index(&name).await?;
            Ok(netlink.wait_ready(index, PATIENCE).await?)
        };
        self.run(wait)
            .await
            .with_context(|| format!("{ifname} does not get ready"))
    }

    async fn route(&self, destination: &str, gateway: &str, ifname: Option<&str>) -> Result<Route> {
        let (addr, len) = parse_prefix(destination)?;
        let ifindex = match ifname {
            Some(ifname) => Some(self.netlink().index(ifname).await?),
            None => None,
        };
        let gateway = gateway
            .parse()
            .with_context(|| format!("{gateway:?} is no address of a router"))?;
        Ok(Route::new(
            addr,
            len,
            Target::Gateway {
                addr: gateway,
                ifindex,
            },
        ))
    }

    fn submit<T, F, Fut>(&self, job: F) -> oneshot::Receiver<Result<T>>
    where
        T: Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
    {
        let (mut answer, result) = oneshot::channel();
        self.send(Box::new(move || {
            Box::pin(async move {
                let mut task = start(job);
                let result = tokio::select! {
                    () = answer.closed() => return task.shutdown().await,
                    result = finish(&mut task) => result,
                };
                // The caller may have gone at this very moment.
                drop(answer.send(result));
            })
        }));
        result
    }

    fn send(&self, job: Job) {
        // A node that has stopped drops the job, and its caller learns it from the channel.
        drop(self.0.jobs.send(job));
    }

    fn explain<T>(&self, answer: Result<Result<T>, oneshot::error::RecvError>) -> Result<T> {
        answer
            .unwrap_or_else(|_| Err(anyhow!("the node has stopped")))
            .with_context(|| format!("node {}", self.name()))
    }
}

impl AsFd for Node {
    /// Its network namespace.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.namespace.as_fd()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.0.name).finish()
    }
}

/// A background task of a node; dropping it lets the task run on.
#[derive(Debug)]
pub struct Task {
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Task {
    /// Stops the task and waits until it is gone, its sockets included.
    pub async fn stop(self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }

    /// Waits until the task has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

struct Inner {
    name: Box<str>,
    jobs: mpsc::UnboundedSender<Job>,
    stop: CancellationToken,
    namespace: OwnedFd,
    thread_id: u32,
    netlink: Netlink,
    failure: watch::Receiver<Option<String>>,
    fail: watch::Sender<Option<String>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Inner {
    fn end(&self) {
        self.stop.cancel();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // The last clone may be dropped by a task of the node, which cannot wait for itself.
        if let Some(thread) = thread.filter(|it| it.thread().id() != thread::current().id()) {
            // A panic of the thread was printed when it happened.
            drop(thread.join());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

struct Start {
    namespace: OwnedFd,
    thread_id: u32,
    netlink: Netlink,
}

/// The life of the thread of a node.
fn live(
    started: &std::sync::mpsc::Sender<Result<Start>>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    stop: CancellationToken,
) -> Result<()> {
    namespace::unshare_network()?;
    for set in ["all", "default"] {
        sysctl::write(&format!("ipv6/conf/{set}/accept_dad"), "0")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    let result = tasks.block_on(&runtime, async {
        let netlink = Netlink::open()?;
        netlink.set_up(LOOPBACK).await?;
        let start = Start {
            namespace: namespace::current()?,
            thread_id: namespace::thread_id(),
            netlink,
        };
        if started.send(Ok(start)).is_err() {
            return Ok(());
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                job = jobs.recv() => match job {
                    Some(job) => drop(tokio::task::spawn_local(job())),
                    None => return Ok(()),
                },
            }
        }
    });
    // Tasks first: they may hold sockets and children that need the runtime to be dropped.
    drop(tasks);
    runtime.shutdown_timeout(PATIENCE);
    result
}

/// Starts a job whose panic becomes an error, so that the node lives on and names it.
fn start<T, F, Fut>(job: F) -> JoinSet<Result<T>>
where
    T: 'static,
    F: FnOnce() -> Fut + 'static,
    Fut: Future<Output = Result<T>> + 'static,
{
    let mut task = JoinSet::new();
    task.spawn_local(async move { job().await });
    task
}

async fn finish<T: 'static>(task: &mut JoinSet<Result<T>>) -> Result<T> {
    match task.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(anyhow!("{error}")),
        None => Err(anyhow!("the task has ended before")),
    }
}

fn parse_prefix(text: &str) -> Result<(IpAddr, u8)> {
    let parse = || {
        let (addr, len) = text.split_once('/')?;
        Some((addr.parse().ok()?, len.parse().ok()?))
    };
    parse().with_context(|| format!("{text:?} is no address with the length of its prefix"))
}

/// How long anything in the kernel may take to get ready, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The index of `lo` in every namespace.
const LOOPBACK: u32 = 1;

#[cfg(test)]
mod tests;
