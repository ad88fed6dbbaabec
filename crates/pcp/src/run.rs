//! The shell of UDP 5351: one socket for each family, many requests to the writer at once.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use gateway::{Count, Handle, Observe, ObserveFuture};
use mapping::{Mac, Now, Outcome, Request, Revision, Snapshot};
use natpmp::{Caller, Claim, Counters, Transmit};
use net::lan::{Batch, Datagram, Socket};
use net::netlink::{Netlink, NetlinkError};
use net::packet::{Hears, OpenPacketError, PacketSocket};
use net::udp::{Options, Source};
use net::{BindError, Clock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::server::{RequestToken, Server, Settings};
use crate::wire::ResultCode;

/// How the port is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The LAN's interface; nothing is heard from another one.
    pub interface: String,
    /// What is served.
    pub settings: Settings,
}

/// The bound port; it answers once [`Self::serve`] runs.
#[derive(Debug)]
pub struct Listener {
    shell: Shell,
    handle: Handle,
}

impl Listener {
    /// Binds UDP 5351 of our addresses on the LAN; must run inside a tokio runtime.
    ///
    /// # Errors
    /// Names the address, the device and, for a port in use, its owner.
    pub fn bind(config: &Config, handle: Handle) -> Result<Self, StartError> {
        let shell = Shell::bind(config, *handle.clock(), handle.subscribe())?;
        Ok(Self { shell, handle })
    }

    /// Returns what reads the counters of PCP and of NAT-PMP while the port is served.
    #[must_use]
    pub fn observers(&self) -> [Observer; 2] {
        [Room::Pcp, Room::NatPmp].map(|room| Observer {
            room,
            tally: self.shell.tally.subscribe(),
        })
    }

    /// Serves until `cancel`.
    ///
    /// # Errors
    /// When the socket can never receive again, or when the writer has ended.
    pub async fn serve(self, cancel: CancellationToken) -> Result<(), ServeError> {
        let Self { shell, handle } = self;
        let ask = |request| {
            let handle = handle.clone();
            async move { handle.request(request).await }
        };
        shell.serve(ask, cancel).await
    }
}

/// Why the port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What tells whose IPv6 addresses are.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The socket that reaches clients without ARP.
    #[error(transparent)]
    Packet(#[from] OpenPacketError),
    /// Port 5351.
    #[error(transparent)]
    Udp(#[from] BindError),
}

/// Why the port is served no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket is broken.
    #[error("cannot receive on UDP {local}")]
    Receive {
        /// Where it is bound.
        local: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody decides any more.
    #[error("the writer has ended")]
    WriterEnded,
}

/// Reads the counters of one of the two protocols.
#[derive(Debug, Clone)]
pub struct Observer {
    room: Room,
    tally: watch::Receiver<Tally>,
}

impl Observe for Observer {
    fn room(&self) -> &'static str {
        match self.room {
            Room::NatPmp => "natpmp",
            Room::Pcp => "pcp",
        }
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        let tally = *self.tally.borrow();
        let count = |(name, reason, value)| Count::new(name, reason, value);
        let counts = match self.room {
            Room::NatPmp => tally.natpmp.iter().map(count).collect(),
            Room::Pcp => {
                let socket = [
                    ("updates_total", "", tally.updates),
                    ("send_errors_total", "", tally.send_errors),
                    ("receive_errors_total", "", tally.receive_errors),
                    ("drops_total", "damaged", tally.damaged),
                    ("drops_total", "queue-full", tally.lost),
                ];
                tally.pcp.iter().chain(socket).map(count).collect()
            }
        };
        Box::pin(std::future::ready(counts))
    }
}

#[derive(Debug, Clone, Copy)]
enum Room {
    NatPmp,
    Pcp,
}

/// The counters at the end of a wake-up; the sockets are PCP's.
#[derive(Debug, Clone, Copy)]
struct Tally {
    natpmp: Counters<natpmp::wire::ResultCode>,
    pcp: Counters<ResultCode>,
    updates: u64,
    /// Packets to the port that were no datagrams for us.
    damaged: u64,
    /// Datagrams for which the kernel had no room.
    lost: u64,
    receive_errors: u64,
    send_errors: u64,
}

#[derive(Debug)]
struct Shell {
    addr: Ipv4Addr,
    clock: Clock,
    packet: PacketSocket,
    send_errors: u64,
    server: Server,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    ipv4: Socket,
    ipv6: Option<Socket>,
    netlink: Netlink,
    /// In which revision the hosts were read whose frames are preferred.
    preferred_in: Option<Revision>,
    tally: watch::Sender<Tally>,
}

impl Shell {
    fn bind(
        config: &Config,
        clock: Clock,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Result<Self, StartError> {
        let addr = snapshots.borrow().site().gateway();
        // the device is where announcements go
        let options = Options::new()
            .device(&config.interface)
            .multicast_ttl(1)
            .multicast_loop(false);
        let ipv4 = Socket::bind(SocketAddrV4::new(addr, PORT).into(), &options)?
            .preferring(&config.interface)?;
        let mut settings = config.settings;
        let ipv6 = if settings.ipv6 && settings.dialects.pcp() {
            bind_ipv6(&options, &config.interface)
        } else {
            None
        };
        settings.ipv6 = ipv6.is_some();
        let packet = PacketSocket::open(&config.interface, Hears::Nothing)?;
        let server = Server::new(settings);
        let (tally, _) = watch::channel(Tally {
            natpmp: *server.natpmp_counters(),
            pcp: *server.counters(),
            updates: 0,
            damaged: 0,
            lost: 0,
            receive_errors: 0,
            send_errors: 0,
        });
        Ok(Self {
            addr,
            clock,
            packet,
            send_errors: 0,
            server,
            snapshots,
            ipv4,
            ipv6,
            netlink: Netlink::open()?,
            preferred_in: None,
            tally,
        })
    }

    async fn serve<Ask, Answer>(
        mut self,
        ask: Ask,
        cancel: CancellationToken,
    ) -> Result<(), ServeError>
    where
        Ask: Fn(Request) -> Answer,
        Answer: Future<Output = Outcome>,
    {
        info!(local = %self.ipv4.local_addr(), ipv6 = self.ipv6.is_some(), "port control is ready");
        // what is pushed is polled in the same order, so requests reach the writer in theirs
        let mut asked = FuturesUnordered::new();
        let mut claims = FuturesUnordered::new();
        let (mut batch, mut batch_ipv6) = (Batch::new(), Batch::new());
        self.look();
        loop {
            while let Some((token, request)) = self.server.poll_request() {
                let answer = ask(request);
                asked.push(async move { (token, answer.await) });
            }
            while let Some((token, claim)) = self.server.poll_claim() {
                let verdict = self.look_into(claim);
                claims.push(async move { (token, verdict.await) });
            }
            self.flush();
            let deadline = self.server.poll_timeout().map(|(at, _)| at);
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some((token, outcome)) = asked.next() => {
                    self.answer(token, &outcome);
                    while let Some(Some((token, outcome))) = asked.next().now_or_never() {
                        self.answer(token, &outcome);
                    }
                }
                Some((token, is_true)) = claims.next() => {
                    let snapshot = self.snapshot();
                    self.server.handle_claim(token, is_true, &snapshot, self.clock.now());
                }
                changed = self.snapshots.changed() => {
                    changed.map_err(|_| ServeError::WriterEnded)?;
                    self.look();
                }
                () = self.clock.sleep_until_some(deadline) => {
                    let snapshot = self.snapshot();
                    self.server.handle_timeout(&snapshot, self.clock.now());
                }
                received = self.ipv4.recv(&mut batch) => {
                    self.hear(&batch);
                    let local = self.ipv4.local_addr();
                    received.map_err(|source| ServeError::Receive { local, source })?;
                }
                received = receive(self.ipv6.as_ref(), &mut batch_ipv6) => {
                    self.hear(&batch_ipv6);
                    received?;
                }
            }
        }
        // what the writer has taken is answered before the end
        let rest = async {
            while let Some((token, outcome)) = asked.next().await {
                self.answer(token, &outcome);
                self.flush();
            }
        };
        if tokio::time::timeout(PATIENCE, rest).await.is_err() {
            debug!("the writer did not answer before the end");
        }
        Ok(())
    }

    /// Takes the datagrams that were waiting.
    fn hear(&mut self, batch: &Batch) {
        let snapshot = self.snapshot();
        let now = self.clock.now();
        for datagram in batch.iter() {
            self.take(datagram, &snapshot, now);
        }
    }

    fn take(&mut self, datagram: Datagram<'_>, snapshot: &Snapshot, now: Now) {
        let source = datagram.source;
        let on_link = |socket: &Socket| socket.is_on_link(source.ip());
        let caller = Caller {
            source,
            local: datagram.local,
            mac: Some(datagram.mac),
            on_link: source.is_ipv6() && self.ipv6.as_ref().is_some_and(on_link),
        };
        self.server
            .handle_datagram(datagram.payload, caller, snapshot, now);
    }

    /// Finds out whether the link leads to a host at an address. Nothing is remembered: the
    /// kernel's table is, and it is kept up to date.
    fn look_into(&self, claim: Claim) -> impl Future<Output = bool> + use<> {
        let netlink = self.netlink.clone();
        let ifindex = self.ipv6.as_ref().map_or(0, Socket::ifindex);
        async move {
            let led = netlink
                .leads_to(ifindex, claim.addr.into(), claim.mac)
                .await;
            led.unwrap_or_else(|error| {
                debug!(%error, "cannot tell whose an IPv6 address is");
                false
            })
        }
    }

    fn answer(&mut self, token: RequestToken, outcome: &Outcome) {
        if let Outcome::Refused(refusal) = outcome {
            debug!(%refusal, "refused");
        }
        let snapshot = self.snapshot();
        let now = self.clock.now();
        self.server.handle_outcome(token, outcome, &snapshot, now);
    }

    fn look(&mut self) {
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        self.server.handle_snapshot(&snapshot, self.clock.now());
        self.prefer_hosts(&snapshot);
    }

    /// A flood of strangers keeps out no host that has a lease. Leases begin and end with names.
    fn prefer_hosts(&mut self, snapshot: &Snapshot) {
        let names_in = Some(snapshot.names_revision());
        if self.preferred_in == names_in {
            return;
        }
        self.preferred_in = names_in;
        for socket in std::iter::once(&mut self.ipv4).chain(&mut self.ipv6) {
            let hosts = snapshot.hosts().filter(|host| host.lease.is_some());
            if let Err(error) = socket.prefer(hosts.map(|host| host.mac)) {
                warn!(%error, "cannot prefer hosts to strangers");
            }
        }
    }

    fn flush(&mut self) {
        while let Some(transmit) = self.server.poll_transmit() {
            if let Err(error) = self.send(&transmit) {
                self.send_errors = self.send_errors.saturating_add(1);
                debug!(%error, to = %transmit.to.ip(), "cannot send");
            }
        }
        let sockets = || std::iter::once(&self.ipv4).chain(&self.ipv6);
        self.tally.send_replace(Tally {
            natpmp: *self.server.natpmp_counters(),
            pcp: *self.server.counters(),
            updates: self.server.updates(),
            damaged: sockets().map(Socket::ignored).sum(),
            lost: sockets().map(Socket::lost).sum(),
            receive_errors: sockets().map(Socket::transient_errors).sum(),
            send_errors: self.send_errors,
        });
    }

    /// Never waits: a neighbour who asks as hosts that are not there fills the socket's buffer
    /// with answers that wait for ARP. Who has a lease is reached without ARP, which a neighbour
    /// can lie to, and which remembers for some seconds who had an address before.
    fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let Transmit { from, to, bytes } = transmit;
        let to = match (to, &self.ipv6) {
            (SocketAddr::V4(to), _) => *to,
            (SocketAddr::V6(_), None) => return Err(io::ErrorKind::Unsupported.into()),
            (SocketAddr::V6(_), Some(socket)) => {
                let from = Source {
                    addr: from.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
                    ifindex: socket.ifindex(),
                };
                return socket.try_send_to(bytes, *to, Some(from));
            }
        };
        let by_socket = || self.ipv4.try_send_to(bytes, to.into(), None);
        let in_frame = |mac| {
            let source = SocketAddrV4::new(self.addr, PORT);
            let sent = self.packet.send_udp(mac, source, to, bytes);
            sent.now_or_never().ok_or(io::ErrorKind::WouldBlock)?
        };
        match self.holder_of(*to.ip()) {
            // before the first wait nobody knows yet that frames can be sent
            Some(mac) => in_frame(mac).or_else(|_not_yet| by_socket()),
            None if to.ip().is_multicast() => by_socket().or_else(|_full| in_frame(ALL_HOSTS)),
            None => by_socket(),
        }
    }

    fn holder_of(&self, addr: Ipv4Addr) -> Option<Mac> {
        let snapshot = self.snapshots.borrow();
        let host = snapshot.host_by_addr(addr)?;
        host.lease.map(|_| host.mac)
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }
}

/// Serves every address that the LAN's interface has or gets; a machine without IPv6 serves IPv4.
fn bind_ipv6(options: &Options, interface: &str) -> Option<Socket> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    Socket::bind(any, options)
        .and_then(|socket| socket.preferring(interface))
        .inspect_err(|error| warn!(%error, "clients with IPv6 addresses are not served"))
        .ok()
}

/// Receives what comes to a socket that may not be there.
async fn receive(socket: Option<&Socket>, batch: &mut Batch) -> Result<(), ServeError> {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    let local = socket.local_addr();
    let received = socket.recv(batch).await;
    received.map_err(|source| ServeError::Receive { local, source })
}

/// RFC 6887 §19.1.
const PORT: u16 = 5351;

/// Of 224.0.0.1 (RFC 1112 §6.4).
const ALL_HOSTS: Mac = Mac([1, 0, 0x5e, 0, 0, 1]);

/// Longer than the writer waits for its followers.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
