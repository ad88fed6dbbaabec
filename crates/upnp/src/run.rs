//! The sockets, the clock and the gateway around [`Ssdp`] and [`Web`].

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway::{Count, Handle, Observe, ObserveFuture};
use mapping::{Client, Now, Outcome, Request, Snapshot};
use net::udp::{Datagram, Socket, Source};
use net::{BindError, Clock};
use rand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::server::{Connection, GROUP, PORT, Slots, Ssdp, SsdpConfig, Step, Web, is_on_lan};
use crate::wire::ssdp::Header;
use crate::{Counters, Event, Identity};

#[cfg(test)]
mod tests;

/// Where to serve, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The LAN's interface.
    pub lan: String,
    /// The index of the LAN's interface.
    pub ifindex: u32,
    /// Our address on the LAN.
    pub address: Ipv4Addr,
    /// The port for descriptions and actions; 0 is any free one.
    pub http_port: u16,
    /// What stays the same over restarts.
    pub identity: Identity,
}

/// Opens the sockets on the LAN's interface; must run inside a tokio runtime. `rng` spreads the
/// answers to searches.
///
/// # Errors
/// Names what could not be opened and, for a port in use, its owner.
pub fn bind<R: Rng>(options: &Options, rng: R) -> Result<Bound<R>, StartError> {
    let Options {
        lan,
        ifindex,
        address,
        http_port,
        identity,
    } = options;
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    // other programs search on the same port, so it is shared (UDA 1.1 §1.1)
    let socket_options = net::udp::Options::new()
        .device(lan)
        .reuse_addr()
        .join(IpAddr::V4(GROUP), *ifindex)
        .multicast_interface(*ifindex)
        .multicast_ttl(MULTICAST_TTL)
        .multicast_loop(false);
    let udp = Socket::bind(any, &socket_options).map_err(StartError::Udp)?;
    let listen = SocketAddr::from((*address, *http_port));
    let listener = net::tcp::listen(listen, Some(lan)).map_err(StartError::Tcp)?;
    let local = listener.local_addr().map_err(StartError::LocalAddr)?;
    let counters = Counters::new();
    let endpoint = SocketAddrV4::new(*address, local.port());
    let web = Arc::new(Web::new(endpoint, identity, counters.clone()));
    Ok(Bound {
        lan: lan.clone(),
        ifindex: *ifindex,
        endpoint,
        identity: identity.clone(),
        udp,
        listener,
        web,
        rng,
        counters,
    })
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
pub struct Bound<R> {
    lan: String,
    ifindex: u32,
    endpoint: SocketAddrV4,
    identity: Identity,
    udp: Socket,
    listener: TcpListener,
    web: Arc<Web>,
    rng: R,
    counters: Counters,
}

/// Why a running server ended.
#[derive(Debug, thiserror::Error)]
#[error("cannot receive SSDP on {lan}")]
pub struct ServeError {
    lan: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl<R: Rng> Bound<R> {
    /// Returns where descriptions and actions are.
    #[must_use]
    pub const fn endpoint(&self) -> SocketAddrV4 {
        self.endpoint
    }

    /// Returns how to read the counters.
    #[must_use]
    pub fn observe(&self) -> Arc<dyn Observe> {
        Arc::new(Observed(self.counters.clone()))
    }

    /// Serves until `cancel`, then says goodbye.
    ///
    /// # Errors
    /// When port 1900 can never be read again.
    pub async fn serve(self, handle: Handle, cancel: CancellationToken) -> Result<(), ServeError> {
        self.serve_with(handle, cancel).await
    }

    async fn serve_with<W: Writer>(
        self,
        writer: W,
        cancel: CancellationToken,
    ) -> Result<(), ServeError> {
        let now = writer.now();
        let snapshot = writer.snapshot();
        let config = SsdpConfig {
            site: snapshot.site().clone(),
            endpoint: self.endpoint,
            header: Header {
                boot_id: snapshot.counters().upnp_boot_id,
                config_id: self.web.config_id(),
            },
        };
        let counters = self.counters.clone();
        let ssdp = Ssdp::new(config, &self.identity, counters.clone(), self.rng, now.mono);
        let mut shell = Shell {
            ssdp,
            udp: self.udp,
            from: Source {
                addr: IpAddr::V4(*self.endpoint.ip()),
                ifindex: self.ifindex,
            },
            listener: self.listener,
            web: self.web,
            slots: Arc::default(),
            connections: JoinSet::new(),
            writer,
            counters,
        };
        let result = shell.run(&cancel).await;
        shell.finish().await;
        result.map_err(|source| ServeError {
            lan: self.lan,
            source,
        })
    }
}

/// What the shell needs of the gateway; a test puts a core in its place.
trait Writer: Clone + Send + Sync + 'static {
    fn now(&self) -> Now;
    fn snapshot(&self) -> Arc<Snapshot>;
    fn request(&self, request: Request) -> impl Future<Output = Outcome> + Send;
}

impl Writer for Handle {
    fn now(&self) -> Now {
        Self::now(self)
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Self::snapshot(self)
    }

    fn request(&self, request: Request) -> impl Future<Output = Outcome> + Send {
        Self::request(self, request)
    }
}

struct Shell<R, W> {
    ssdp: Ssdp<R>,
    udp: Socket,
    from: Source,
    listener: TcpListener,
    web: Arc<Web>,
    slots: Arc<Mutex<Slots>>,
    connections: JoinSet<()>,
    writer: W,
    counters: Counters,
}

impl<R: Rng, W: Writer> Shell<R, W> {
    async fn run(&mut self, cancel: &CancellationToken) -> io::Result<()> {
        let clock = Clock::new();
        let mut buf = vec![0; LARGEST_DATAGRAM];
        self.ssdp.start(self.writer.now().mono);
        loop {
            self.transmit().await;
            let deadline = self.ssdp.poll_timeout().map(|(at, _)| at);
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                datagram = self.udp.recv(&mut buf) => self.hear(datagram?, &buf),
                () = clock.sleep_until_some(deadline) => {
                    self.ssdp.handle_timeout(self.writer.now().mono);
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.welcome(stream, peer, cancel.child_token()),
                    Err(_) => {
                        // too many open files, or a peer that went away: neither ends us
                        self.counters.count(Event::ConnectionFailed);
                        clock.sleep_until(clock.mono() + ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    /// Says goodbye; what was asked before is still answered.
    async fn finish(&mut self) {
        self.ssdp.handle_shutdown(self.writer.now().mono);
        self.transmit().await;
        let drained = async { while self.connections.join_next().await.is_some() {} };
        if timeout(PATIENCE, drained).await.is_err() {
            self.connections.shutdown().await;
        }
    }

    /// Nothing waits for the queue of the socket: answers to hosts that are not there fill it for
    /// as long as the system looks for them, and connections are accepted by the same task.
    async fn transmit(&mut self) {
        while let Some(transmit) = self.ssdp.poll_transmit() {
            let to = SocketAddr::V4(transmit.to);
            let sent = if *transmit.to.ip() == GROUP {
                let send = self.udp.send_to(&transmit.payload, to, Some(self.from));
                let sent = timeout(SEND_PATIENCE, send).await;
                sent.unwrap_or_else(|elapsed| Err(elapsed.into()))
            } else {
                self.udp.try_send_to(&transmit.payload, to, Some(self.from))
            };
            self.counters.count(match sent {
                Ok(()) => Event::SsdpSent,
                Err(_) => Event::SsdpSendFailed,
            });
        }
    }

    fn hear(&mut self, datagram: Datagram, buf: &[u8]) {
        let (SocketAddr::V4(source), IpAddr::V4(destination)) =
            (datagram.source, datagram.destination)
        else {
            return self.counters.count(Event::SearchForeign);
        };
        if datagram.ifindex != self.from.ifindex {
            return self.counters.count(Event::SearchForeign);
        }
        if datagram.truncated {
            return self.counters.count(Event::SsdpMalformed);
        }
        let bytes = buf.get(..datagram.len).unwrap_or_default();
        self.ssdp
            .handle_datagram(bytes, source, destination, self.writer.now().mono);
    }

    fn welcome(&mut self, stream: TcpStream, peer: SocketAddr, cancel: CancellationToken) {
        let source = match peer {
            SocketAddr::V4(peer) if is_on_lan(*peer.ip(), &self.writer.snapshot()) => *peer.ip(),
            SocketAddr::V4(_) | SocketAddr::V6(_) => {
                return self.counters.count(Event::ConnectionForeign);
            }
        };
        if !self
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(source)
        {
            return self.counters.count(Event::ConnectionLimit);
        }
        self.counters.count(Event::ConnectionAccepted);
        let slot = Slot {
            slots: Arc::clone(&self.slots),
            source,
        };
        let guest = Guest {
            stream,
            connection: Connection::new(self.counters.clone(), self.writer.now().mono),
            // the frame's MAC comes with the check of who asked
            client: Client {
                addr: source.into(),
                mac: None,
            },
            web: Arc::clone(&self.web),
            writer: self.writer.clone(),
            cancel,
        };
        self.connections.spawn(async move {
            guest.serve().await;
            drop(slot);
        });
    }
}

/// Gives its place back however the connection ends.
struct Slot {
    slots: Arc<Mutex<Slots>>,
    source: Ipv4Addr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .release(self.source);
    }
}

/// One connection with its socket.
struct Guest<W> {
    stream: TcpStream,
    connection: Connection,
    client: Client,
    web: Arc<Web>,
    writer: W,
    cancel: CancellationToken,
}

impl<W: Writer> Guest<W> {
    async fn serve(mut self) {
        // an error says that the peer is gone, and then nothing is left to do
        if self.converse().await.is_ok() {
            let _gone = timeout(PATIENCE, self.part()).await;
        }
    }

    async fn converse(&mut self) -> io::Result<()> {
        let clock = Clock::new();
        let mut buf = vec![0; READ_SIZE];
        loop {
            while let Some(bytes) = self.connection.poll_transmit() {
                timeout(WRITE_TIMEOUT, self.stream.write_all(&bytes)).await??;
            }
            if let Some(request) = self.connection.poll_request() {
                let snapshot = self.writer.snapshot();
                let now = self.writer.now();
                let response = match self
                    .web
                    .handle_request(&request, self.client, &snapshot, now)
                {
                    Step::Answer(response) => response,
                    Step::Ask(request, pending) => {
                        let outcome = self.writer.request(*request).await;
                        self.web.handle_outcome(&pending, &outcome)
                    }
                };
                self.connection
                    .handle_response(&response, self.writer.now().mono);
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

/// UDA 1.1 §1.1: two hops by default.
const MULTICAST_TTL: u32 = 2;

/// A search takes some hundred bytes.
const LARGEST_DATAGRAM: usize = 2048;

const READ_SIZE: usize = 4096;

const READS_AFTER_END: usize = 32;

/// An announcement is repeated, so it may fail; a set of them has 18.
const SEND_PATIENCE: Duration = Duration::from_millis(20);

const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// For a goodbye.
const PATIENCE: Duration = Duration::from_millis(500);

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
