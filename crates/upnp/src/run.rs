//! The sockets, the clock and the gateway around [`Ssdp`], [`Web`] and [`crate::server::Gena`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::{Count, Handle, Observe, ObserveFuture};
use mapping::{Client, Now, Outcome, Request, Snapshot};
use net::lan::{Batch, Datagram};
use net::netlink::{Change, Netlink, NetlinkError, Watch};
use net::{BindError, Clock};
use rand::rngs::StdRng;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::server::{Lan, OnLink, Searcher, Slots, Ssdp, SsdpConfig, Web};
use crate::wire::ssdp::Header;
use crate::{Counters, Event, Identity};
use control_point::Slot;
use events::{Events, Subscriptions};
use identify::{Accepted, SynFlood};
use ssdp_socket::{Preferred, SsdpSocket};

mod control_point;
mod events;
mod identify;
mod ssdp_socket;
#[cfg(test)]
mod tests;

/// Where to serve, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The LAN's interface.
    pub lan: String,
    /// The index of the LAN's interface.
    pub ifindex: u32,
    /// The WAN's interface, whose counters are told.
    pub wan: String,
    /// Who carries pinholes, and counts what comes in through them.
    pub pinholes: Option<Arc<dyn Observe>>,
    /// Our address on the LAN.
    pub address: Ipv4Addr,
    /// The port for descriptions and actions; 0 is any free one.
    pub http_port: u16,
    /// What stays the same over restarts.
    pub identity: Identity,
}

/// Opens the sockets on the LAN's interface; must run inside a tokio runtime. `rng` spreads the
/// answers to searches and names subscriptions.
///
/// # Errors
/// Names what could not be opened and, for a port in use, its owner.
pub fn bind(options: &Options, mut rng: StdRng) -> Result<Bound, StartError> {
    let udp = SsdpSocket::bind(IpAddr::V4(options.address), options).map_err(StartError::Udp)?;
    let listen = SocketAddr::from((options.address, options.http_port));
    let listener = net::lan::listen(listen, &options.lan).map_err(StartError::Tcp)?;
    let local = listener.local_addr().map_err(StartError::LocalAddr)?;
    let v6 = bind_v6(options, local.port())?;
    let counters = Counters::new();
    let web = Arc::new(Web::new(&options.identity, counters.clone()));
    let gena_rng = rand::SeedableRng::from_rng(&mut rng);
    Ok(Bound {
        options: options.clone(),
        port: local.port(),
        udp,
        listener,
        v6,
        web,
        rng,
        gena_rng,
        counters,
    })
}

/// The IPv6 half; `None` where the machine or the interface has no IPv6 at all.
fn bind_v6(options: &Options, port: u16) -> Result<Option<V6>, StartError> {
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let udp = match SsdpSocket::bind(any, options) {
        Ok(udp) => udp,
        Err(error) if has_no_ipv6(&error.source) => return Ok(None),
        Err(error) => return Err(StartError::Udp(error)),
    };
    // the same port as on IPv4 if nobody has it
    let listen = |port| net::lan::listen(SocketAddr::new(any, port), &options.lan);
    let listener = listen(port)
        .or_else(|_| listen(0))
        .map_err(StartError::Tcp)?;
    let local = listener.local_addr().map_err(StartError::LocalAddr)?;
    Ok(Some(V6 {
        udp,
        listener,
        port: local.port(),
    }))
}

fn has_no_ipv6(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, NotFound, Unsupported};
    let kinds = [AddrNotAvailable, NotFound, Unsupported];
    // EAFNOSUPPORT has no kind of its own
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Why the sockets could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port that was chosen is not known.
    #[error("cannot tell the port of the HTTP listener")]
    LocalAddr(#[source] io::Error),
    /// The HTTP listener.
    #[error(transparent)]
    Tcp(BindError),
    /// Port 1900.
    #[error(transparent)]
    Udp(BindError),
}

/// A server with its sockets: control points' messages wait in them until [`Self::serve`].
#[derive(Debug)]
pub struct Bound {
    options: Options,
    port: u16,
    udp: SsdpSocket,
    listener: TcpListener,
    v6: Option<V6>,
    web: Arc<Web>,
    rng: StdRng,
    gena_rng: StdRng,
    counters: Counters,
}

#[derive(Debug)]
struct V6 {
    udp: SsdpSocket,
    listener: TcpListener,
    port: u16,
}

/// Why a running server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Port 1900 can never be read again.
    #[error("cannot receive SSDP on {lan}")]
    Receive {
        /// The LAN's interface.
        lan: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The addresses of the LAN's interface are not known.
    #[error("cannot follow the addresses of {lan}")]
    Watch {
        /// The LAN's interface.
        lan: String,
        /// What the kernel said.
        #[source]
        source: NetlinkError,
    },
}

impl Bound {
    /// Returns where descriptions and actions are.
    #[must_use]
    pub const fn endpoint(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.options.address, self.port)
    }

    /// Returns how to read the counters.
    #[must_use]
    pub fn observe(&self) -> Arc<dyn Observe> {
        Arc::new(Observed(self.counters.clone()))
    }

    /// Serves until `cancel`, then announces that we leave (`ssdp:byebye`).
    ///
    /// # Errors
    /// When port 1900 can never be read again, or the kernel does not tell our addresses.
    pub async fn serve(self, handle: Handle, cancel: CancellationToken) -> Result<(), ServeError> {
        self.serve_with(handle, cancel).await
    }

    async fn serve_with<W: Writer>(
        self,
        writer: W,
        cancel: CancellationToken,
    ) -> Result<(), ServeError> {
        let name = self.options.lan.clone();
        let watched = |source| ServeError::Watch {
            lan: name.clone(),
            source,
        };
        let watch = Watch::open().map_err(watched)?;
        let netlink = Netlink::open().map_err(watched)?;
        let mut shell = self.shell(writer, netlink);
        shell.find_addresses().await.map_err(watched)?;
        let result = shell.run(watch, &cancel).await;
        shell.finish().await;
        result
    }

    fn shell<W: Writer>(self, writer: W, netlink: Netlink) -> Shell<W> {
        let now = writer.now();
        let snapshot = writer.snapshot();
        let lan = Lan::new(snapshot.site().clone(), self.port);
        let config = SsdpConfig {
            lan: lan.clone(),
            header: Header {
                boot_id: snapshot.counters().upnp_boot_id,
                config_id: self.web.config_id(),
            },
        };
        let (counters, identity) = (self.counters, &self.options.identity);
        let ssdp = Ssdp::new(config, identity, counters.clone(), self.rng, now.mono);
        let subscriptions = Subscriptions::new(identity, counters.clone(), self.gena_rng, now.mono);
        Shell {
            ssdp,
            lan,
            udp: self.udp,
            listener: self.listener,
            v6: self.v6,
            web: self.web,
            subscriptions: Arc::new(subscriptions),
            slots: Arc::default(),
            syn_flood: SynFlood::default(),
            preferred: Preferred::default(),
            connections: JoinSet::new(),
            writer,
            netlink,
            options: self.options,
            counters,
        }
    }
}

/// What the shell needs of the gateway; a test puts a core in its place.
trait Writer: Clone + Send + Sync + 'static {
    fn now(&self) -> Now;
    fn snapshot(&self) -> Arc<Snapshot>;
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>>;
    fn request(&self, request: Request) -> impl Future<Output = Outcome> + Send;
}

impl Writer for Handle {
    fn now(&self) -> Now {
        Self::now(self)
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Self::snapshot(self)
    }

    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.subscribe()
    }

    fn request(&self, request: Request) -> impl Future<Output = Outcome> + Send {
        Self::request(self, request)
    }
}

struct Shell<W> {
    ssdp: Ssdp<StdRng>,
    lan: Lan,
    udp: SsdpSocket,
    listener: TcpListener,
    v6: Option<V6>,
    web: Arc<Web>,
    subscriptions: Arc<Subscriptions>,
    slots: Arc<Mutex<Slots>>,
    syn_flood: SynFlood,
    preferred: Preferred,
    connections: JoinSet<()>,
    writer: W,
    netlink: Netlink,
    options: Options,
    counters: Counters,
}

impl<W: Writer> Shell<W> {
    async fn run(
        &mut self,
        mut watch: Watch,
        cancel: &CancellationToken,
    ) -> Result<(), ServeError> {
        let clock = Clock::new();
        let lan = self.options.lan.clone();
        let broken = |source| ServeError::Receive {
            lan: lan.clone(),
            source,
        };
        let watched = |source| ServeError::Watch {
            lan: lan.clone(),
            source,
        };
        let events = Events::new(
            &self.options,
            Arc::clone(&self.subscriptions),
            self.writer.clone(),
        );
        self.connections.spawn(events.run(cancel.child_token()));
        let (mut batch, mut batch_v6) = (Batch::new(), Batch::new());
        let mut snapshots = self.writer.snapshots();
        self.prefer_hosts();
        self.ssdp.start(self.writer.now().mono);
        loop {
            self.transmit().await;
            let answers = self.ssdp.poll_timeout().map(|(at, _)| at);
            let deadline = answers
                .into_iter()
                .chain(self.syn_flood.poll_timeout())
                .min();
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                received = self.udp.recv(&mut batch) => {
                    received.map_err(broken)?;
                    self.hear(&batch);
                }
                received = recv_v6(self.v6.as_ref(), &mut batch_v6) => {
                    received.map_err(broken)?;
                    self.hear(&batch_v6);
                }
                () = clock.sleep_until_some(deadline) => {
                    let now = self.writer.now().mono;
                    self.ssdp.handle_timeout(now);
                    let listeners = listeners(&self.listener, self.v6.as_ref());
                    self.syn_flood.handle_timeout(listeners, now);
                }
                accepted = self.listener.accept() => self.accept(accepted, cancel).await,
                accepted = accept_v6(self.v6.as_ref()) => self.accept(accepted, cancel).await,
                // when the gateway is gone we go next
                Ok(()) = snapshots.changed() => self.prefer_hosts(),
                change = watch.next() => {
                    self.note(&change.map_err(watched)?).await.map_err(watched)?;
                }
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    /// Announces that we leave (`ssdp:byebye`); what was asked before is still answered.
    async fn finish(&mut self) {
        self.ssdp.handle_shutdown(self.writer.now().mono);
        self.transmit().await;
        let drained = async { while self.connections.join_next().await.is_some() {} };
        if timeout(PATIENCE, drained).await.is_err() {
            self.connections.shutdown().await;
        }
    }

    /// Looks at our addresses on the LAN, and whether the WAN has somebody at its other end.
    async fn find_addresses(&mut self) -> Result<(), NetlinkError> {
        if let Some(v6) = &self.v6 {
            let addresses = self.netlink.addresses(self.options.ifindex).await?;
            let usable = addresses.into_iter().filter(|address| !address.tentative);
            let on_link = usable.filter_map(|address| match address.addr {
                IpAddr::V6(addr) => Some(OnLink {
                    addr,
                    prefix_len: address.prefix_len,
                }),
                IpAddr::V4(_) => None,
            });
            let lan = Lan::new(self.writer.snapshot().site().clone(), self.port());
            let lan = lan.with_v6(v6.port, on_link.collect());
            if lan != self.lan {
                self.lan = lan.clone();
                self.ssdp.handle_lan(lan, self.writer.now().mono);
            }
        }
        let link = self.netlink.link(&self.options.wan).await?;
        self.subscriptions
            .set_link(link.is_some_and(|link| link.running));
        Ok(())
    }

    async fn note(&mut self, change: &Change) -> Result<(), NetlinkError> {
        let relevant = match change {
            Change::Address(address) | Change::AddressGone(address) => {
                address.ifindex == self.options.ifindex && address.addr.is_ipv6()
            }
            Change::Link(link) | Change::LinkGone(link) => link.name == self.options.wan,
            Change::Lagged => true,
            Change::Routes => false,
        };
        match relevant {
            true => self.find_addresses().await,
            false => Ok(()),
        }
    }

    fn port(&self) -> u16 {
        let local = self.listener.local_addr();
        local.map_or(self.options.http_port, |local| local.port())
    }

    async fn transmit(&mut self) {
        while let Some(transmit) = self.ssdp.poll_transmit() {
            let port = match (transmit.to, &self.v6) {
                (SocketAddr::V4(_), _) => &self.udp,
                (SocketAddr::V6(_), Some(v6)) => &v6.udp,
                (SocketAddr::V6(_), None) => continue,
            };
            let sent = port.send(&transmit, self.options.ifindex).await;
            self.counters.count(match sent {
                Ok(()) => Event::SsdpSent,
                Err(_) => Event::SsdpSendFailed,
            });
        }
    }

    fn prefer_hosts(&mut self) {
        let snapshot = self.writer.snapshot();
        let v6 = self.v6.as_mut().map(|v6| &mut v6.udp);
        let ports = std::iter::once(&mut self.udp).chain(v6);
        self.preferred.update(ports, &snapshot);
    }

    fn hear(&mut self, batch: &Batch) {
        let (snapshot, now) = (self.writer.snapshot(), self.writer.now().mono);
        for datagram in batch.iter() {
            let Datagram {
                payload,
                source,
                destination,
                mac,
                ..
            } = datagram;
            let client = Client {
                addr: source.ip(),
                mac: Some(mac),
            };
            // threat 21: the answers would go to somebody who did not search
            if snapshot.is_forged(client) {
                self.counters.count(Event::SearchForged);
            } else {
                let searcher = Searcher::new(source, client, &snapshot);
                self.ssdp
                    .handle_datagram(payload, searcher, destination, now);
            }
        }
    }

    async fn accept(
        &mut self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        cancel: &CancellationToken,
    ) {
        match accepted {
            Ok((stream, peer)) => self.admit(stream, peer, cancel.child_token()),
            Err(_) => {
                // too many open files, or a peer that went away: neither ends us
                self.counters.count(Event::ConnectionFailed);
                let clock = Clock::new();
                clock.sleep_until(clock.mono() + ACCEPT_PAUSE).await;
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, cancel: CancellationToken) {
        let local = stream.local_addr();
        let local = local.ok().filter(|_| self.lan.is_neighbour(peer.ip()));
        let Some(local) = local else {
            return self.counters.count(Event::ConnectionForeign);
        };
        let syn = net::lan::peer_mac(&stream).ok().flatten();
        if syn.is_none() {
            let now = self.writer.now().mono;
            let listeners = listeners(&self.listener, self.v6.as_ref());
            self.syn_flood.note_flood(listeners, now);
        }
        let client = Client {
            addr: peer.ip(),
            mac: syn,
        };
        let snapshot = self.writer.snapshot();
        if snapshot.is_forged(client) {
            return self.counters.count(Event::ConnectionForged);
        }
        let Some(slot) = Slot::take(&self.slots, client, &snapshot) else {
            return self.counters.count(Event::ConnectionLimit);
        };
        // answers are small and whole; where this fails they come a little later
        let _slow = stream.set_nodelay(true);
        let accepted = Accepted {
            stream,
            peer,
            local,
            syn,
            web: Arc::clone(&self.web),
            subscriptions: Arc::clone(&self.subscriptions),
            netlink: self.netlink.clone(),
            options: self.options.clone(),
            writer: self.writer.clone(),
            counters: self.counters.clone(),
            cancel,
        };
        self.connections.spawn(async move {
            accepted.serve().await;
            drop(slot);
        });
    }
}

fn listeners<'a>(v4: &'a TcpListener, v6: Option<&'a V6>) -> impl Iterator<Item = &'a TcpListener> {
    std::iter::once(v4).chain(v6.map(|v6| &v6.listener))
}

async fn recv_v6(v6: Option<&V6>, batch: &mut Batch) -> io::Result<()> {
    match v6 {
        Some(v6) => v6.udp.recv(batch).await,
        None => std::future::pending().await,
    }
}

async fn accept_v6(v6: Option<&V6>) -> io::Result<(TcpStream, SocketAddr)> {
    match v6 {
        Some(v6) => v6.listener.accept().await,
        None => std::future::pending().await,
    }
}

#[derive(Debug)]
struct Observed(Counters);

impl Observe for Observed {
    fn room(&self) -> &'static str {
        "upnp"
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        Box::pin(std::future::ready(self.0.counts()))
    }
}

/// How long requests that are under way may take once we leave.
const PATIENCE: Duration = Duration::from_millis(500);

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What Linux calls an address family that it does not have.
const EAFNOSUPPORT: i32 = 97;
