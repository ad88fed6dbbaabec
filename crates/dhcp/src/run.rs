//! The sockets, the clock and the gateway around [`Server`] and [`Probe`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gateway::{Count, Handle, Observe, ObserveFuture};
use mapping::{Instant, Mac, Now, Outcome, Snapshot};
use net::BindError;
use net::lan::{Batch, Datagram, Socket};
use net::packet::{Hears, OpenPacketError, PacketSocket, UdpFrame};
use net::udp::Source;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::counters::{Answer, Counters, DropReason};
use crate::probe::Probe;
use crate::server::{CLIENT_PORT, Config, Destination, Meta, Server, Token, Transmit};
use crate::wire::Field;

/// Where to serve, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The LAN's interface.
    pub lan: String,
    /// Our address on the LAN.
    pub address: Ipv4Addr,
    /// What the machine is told.
    pub config: Config,
}

/// Opens the sockets on the LAN's interface; must run inside a tokio runtime. `rng` chooses the
/// transaction ids of the search for another server.
///
/// # Errors
/// Names what could not be opened and, for a port in use, its owner.
pub fn bind<R: Rng>(options: &Options, rng: R) -> Result<Bound<R>, StartError> {
    let local = SocketAddr::from((options.address, SERVER_PORT));
    let socket_options = net::udp::Options::new().device(&options.lan).broadcast();
    let packet = PacketSocket::open(&options.lan, Hears::Nothing)?;
    let udp = Socket::bind(local, &socket_options)?;
    Ok(Bound {
        lan: options.lan.clone(),
        config: options.config,
        packet,
        udp,
        rng,
        observed: Arc::default(),
    })
}

/// Why the sockets could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket that sends to clients without an address.
    #[error(transparent)]
    Packet(#[from] OpenPacketError),
    /// Port 67.
    #[error(transparent)]
    Udp(#[from] BindError),
}

/// A server with its sockets: clients' messages wait in them until [`Self::serve`].
#[derive(Debug)]
pub struct Bound<R> {
    lan: String,
    config: Config,
    packet: PacketSocket,
    udp: Socket,
    rng: R,
    observed: Arc<Observed>,
}

/// Why a running server ended.
#[derive(Debug, thiserror::Error)]
#[error("cannot receive DHCP on {lan}")]
pub struct ServeError {
    lan: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl<R: Rng> Bound<R> {
    /// Returns how to read the counters.
    #[must_use]
    pub fn observe(&self) -> Arc<dyn Observe> {
        Arc::<Observed>::clone(&self.observed)
    }

    /// Serves until `cancel`.
    ///
    /// # Errors
    /// When port 67 can never be read again.
    pub async fn serve(self, handle: Handle, cancel: CancellationToken) -> Result<(), ServeError> {
        let now = handle.now();
        let mut shell = Shell {
            server: Server::new(self.config, now),
            probe: Probe::new(self.packet.mac(), self.rng, now),
            lan: self.lan,
            packet: self.packet,
            udp: self.udp,
            ears: None,
            foreign: None,
            looked: false,
            observed: self.observed,
        };
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            result = shell.run(&handle) => result,
        }
    }
}

struct Shell<R> {
    server: Server,
    probe: Probe<R>,
    lan: String,
    packet: PacketSocket,
    udp: Socket,
    /// Hears the answers to the probe, whatever address they are for.
    ears: Option<PacketSocket>,
    foreign: Option<Ipv4Addr>,
    /// The first search is over; until then clients' messages wait in the socket.
    looked: bool,
    observed: Arc<Observed>,
}

enum Wake {
    Datagrams(io::Result<()>),
    Frame(io::Result<usize>),
    Outcome(Token, Outcome),
    Timeout,
}

impl<R: Rng> Shell<R> {
    async fn run(&mut self, gateway: &Handle) -> Result<(), ServeError> {
        let mut asked = FuturesUnordered::new();
        let (mut batch, mut frame) = (Batch::new(), vec![0; LONGEST_DATAGRAM]);
        loop {
            self.listen();
            while let Some((token, request)) = self.server.poll_request() {
                asked.push(async move { (token, gateway.request(request).await) });
            }
            self.transmit(&gateway.snapshot()).await;
            self.observed.publish(&self.server, self.foreign.is_some());
            let deadline = self.deadline();
            let wake = tokio::select! {
                Some((token, outcome)) = asked.next() => Wake::Outcome(token, outcome),
                received = self.udp.recv(&mut batch), if self.looked => Wake::Datagrams(received),
                heard = hear(self.ears.as_ref(), &mut frame) => Wake::Frame(heard),
                () = gateway.clock().sleep_until_some(deadline) => Wake::Timeout,
            };
            let (now, snapshot) = (gateway.now(), gateway.snapshot());
            match wake {
                Wake::Outcome(token, outcome) => {
                    self.server.handle_outcome(token, &outcome, &snapshot, now);
                }
                Wake::Datagrams(Ok(())) => {
                    for datagram in batch.iter() {
                        if let Some(meta) = meta(&datagram) {
                            let bytes = datagram.payload;
                            self.server.handle_datagram(bytes, meta, &snapshot, now);
                        }
                    }
                }
                Wake::Datagrams(Err(source)) => {
                    return Err(ServeError {
                        lan: self.lan.clone(),
                        source,
                    });
                }
                Wake::Frame(Ok(len)) => self.hear(frame.get(..len).unwrap_or_default(), now),
                Wake::Frame(Err(error)) => {
                    tracing::warn!(%error, "cannot listen for another DHCP server");
                    self.ears = None;
                }
                Wake::Timeout => {
                    self.server.handle_timeout(now);
                    self.probe.handle_timeout(now);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let server = self.server.poll_timeout().map(|(at, _)| at);
        let probe = self.probe.poll_timeout().map(|(at, _)| at);
        [server, probe].into_iter().flatten().min()
    }

    /// Opens ears while the probe listens, and lets the server know what it found.
    fn listen(&mut self) {
        if !self.probe.is_listening() {
            self.ears = None;
            self.looked = true;
        } else if self.ears.is_none() {
            match PacketSocket::open(&self.lan, Hears::Ipv4) {
                Ok(ears) => self.ears = Some(ears),
                Err(error) => {
                    tracing::warn!(%error, "cannot listen for another DHCP server");
                }
            }
        }
        self.server.set_offering(self.probe.is_clear());
        let foreign = self.probe.foreign();
        if foreign != self.foreign {
            match foreign {
                Some(server) => tracing::warn!(
                    lan = %self.lan, %server,
                    "another DHCP server answers on the LAN: new devices get no address from \
                     this one until it is switched off"
                ),
                None => tracing::info!(lan = %self.lan, "the other DHCP server is gone"),
            }
            self.foreign = foreign;
        }
    }

    fn hear(&mut self, frame: &[u8], now: Now) {
        if let Ok(udp) = UdpFrame::parse(frame)
            && udp.source.port() == SERVER_PORT
            && udp.destination.port() == CLIENT_PORT
        {
            self.probe
                .handle_datagram(udp.payload, *udp.source.ip(), now);
        }
    }

    async fn transmit(&mut self, snapshot: &Snapshot) {
        while let Some(bytes) = self.probe.poll_transmit() {
            let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
            let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
            let sent = self.packet.send_udp(EVERYBODY, from, to, &bytes).await;
            self.observed.note(sent);
        }
        while let Some(transmit) = self.server.poll_transmit() {
            let sent = self.send(&transmit, snapshot).await;
            self.observed.note(sent);
        }
    }

    async fn send(&self, transmit: &Transmit, snapshot: &Snapshot) -> io::Result<()> {
        let source = SocketAddrV4::new(snapshot.site().gateway(), SERVER_PORT);
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
        let bytes = &transmit.bytes;
        let (mac, to) = match transmit.destination {
            Destination::Broadcast => (Some(EVERYBODY), everybody),
            Destination::Udp(to) => {
                let host = snapshot.host_by_addr(*to.ip());
                (host.map(|host| host.mac), to)
            }
            Destination::UnicastMac(mac, to) => {
                if let Ok(()) = self.packet.send_udp(mac, source, to, bytes).await {
                    return Ok(());
                }
                // RFC 2131 §4.1: if unicasting is not possible
                (Some(EVERYBODY), everybody)
            }
        };
        let from = Source {
            addr: IpAddr::V4(*source.ip()),
            ifindex: self.packet.ifindex(),
        };
        match self.udp.try_send_to(bytes, to.into(), Some(from)) {
            // a neighbour who asks as hosts that are not there fills the buffer with answers
            // that wait for ARP; who is known is reached without it
            Err(full) if full.kind() == io::ErrorKind::WouldBlock => {
                let mac = mac.ok_or(full)?;
                self.packet.send_udp(mac, source, to, bytes).await
            }
            sent => sent,
        }
    }
}

/// Waits for a frame; for ever without ears.
async fn hear(ears: Option<&PacketSocket>, buf: &mut [u8]) -> io::Result<usize> {
    let Some(ears) = ears else {
        return std::future::pending().await;
    };
    loop {
        let received = ears.recv(buf).await?;
        if !received.outgoing {
            return Ok(received.len);
        }
    }
}

/// The socket is an IPv4 one, so the first pattern always fits.
fn meta(datagram: &Datagram<'_>) -> Option<Meta> {
    let IpAddr::V4(source) = datagram.source.ip() else {
        return None;
    };
    Some(Meta {
        source,
        mac: datagram.mac,
        unicast: datagram.destination == datagram.local,
    })
}

/// What the shell last knew, for whoever reads the counters.
#[derive(Debug)]
struct Observed(Mutex<State>);

#[derive(Debug)]
struct State {
    counters: Counters,
    foreign: bool,
    send_errors: u64,
}

impl Default for Observed {
    fn default() -> Self {
        let counters = Counters::zero();
        Self(Mutex::new(State {
            counters,
            foreign: false,
            send_errors: 0,
        }))
    }
}

impl Observed {
    fn publish(&self, server: &Server, foreign: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tell_owner(&state.counters, server.counters());
        state.counters = *server.counters();
        state.foreign = foreign;
    }

    fn note(&self, sent: io::Result<()>) {
        if let Err(error) = sent {
            tracing::debug!(%error, "a DHCP message could not be sent");
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.send_errors = state.send_errors.saturating_add(1);
        }
    }

    fn counts(&self) -> Vec<Count> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = &state.counters;
        let one = |name, value| Count::new(name, "", value);
        let answers = Answer::ALL
            .map(|answer| Count::new("answers_total", answer.as_str(), counters.answers(answer)));
        let drops = DropReason::ALL
            .map(|reason| Count::new("drops_total", reason.as_str(), counters.drops(reason)));
        let malformed = Field::ALL
            .map(|field| Count::new("malformed_total", field.as_str(), counters.malformed(field)));
        let single = [
            one("datagrams_total", counters.received),
            one("declined_total", counters.declined),
            one("released_total", counters.released),
            one("send_errors_total", state.send_errors),
            one("foreign_server", u64::from(state.foreign)),
        ];
        single
            .into_iter()
            .chain(answers)
            .chain(drops)
            .chain(malformed)
            .collect()
    }
}

/// What the owner should know of: RFC 2131 §4.3.3, and a LAN that is full.
fn tell_owner(old: &Counters, new: &Counters) {
    if new.declined > old.declined {
        tracing::warn!("a device found its address in use by another one and got a new one");
    }
    let full = |counters: &Counters| counters.drops(DropReason::NoAddress) > 0;
    if full(new) && !full(old) {
        tracing::warn!("a device asks for an address and none is free");
    }
}

impl Observe for Observed {
    fn room(&self) -> &'static str {
        "dhcp"
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        Box::pin(std::future::ready(self.counts()))
    }
}

/// RFC 2131 §4.1.
const SERVER_PORT: u16 = 67;

/// More than an Ethernet frame carries.
const LONGEST_DATAGRAM: usize = 2048;

const EVERYBODY: Mac = Mac([0xff; 6]);

#[cfg(test)]
mod tests;
