//! What hosts of the LAN say to us, with the MAC of the frame that brought it.
//!
//! The source address of a packet proves nothing: any neighbour can write another one's there,
//! and a request that opens a port does its harm although the answer goes elsewhere. The source
//! MAC of the frame is as good a witness as a LAN without 802.1X has. It can be forged as well,
//! but switches and access points notice that, and it takes more than a raw socket.
//!
//! **UDP** ([`Socket`]): `recvmsg` tells no MAC, so datagrams are served from a packet socket,
//! where the kernel hands out each packet *together with* the hardware address of its sender.
//! The UDP socket beside it only holds the port and sends the answers; a filter keeps its own
//! queue empty. To hear on both and join the two by their contents would be a race that a
//! forger can win. The price: what a firewall on this machine drops in its input chain is heard
//! all the same, as with any DHCP server, and the kernel counts in `UdpInErrors` what the filter
//! throws away.
//!
//! **TCP** ([`listen`], [`peer_mac`]): the kernel keeps the headers of the SYN with each
//! connection, the Ethernet header among them (`TCP_SAVE_SYN` 2, since Linux 5.10), so the MAC
//! belongs to the connection and no table has to be kept in step. From [`peer_mac`] on a filter
//! on the connection throws away every segment in a frame of another host. Between the SYN and
//! that call who does not see the traffic would have to guess both sequence numbers. While a
//! flood of SYNs is answered by cookies the kernel keeps no SYN: then the neighbour table tells
//! where the answer to it went ([`hear_only`], [`hold`]).
//!
//! What has been looked at and left: an observer of TCP on a packet socket (a second queue that
//! a flood can overrun), permanent neighbour entries (they change the operator's system), BPF
//! programs with maps and nftables (privileges and kernel options that small gateways lack).

mod own;
mod packet;
mod rate_limit;
mod receive;
mod stream;
mod talkers;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mapping::{Instant, Mac};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use crate::Clock;
use crate::bind::{BindError, Transport};
use crate::udp::{self, Source};
use own::OwnAddresses;
use rate_limit::RateLimit;
use talkers::Talkers;

pub use stream::{hear_only, hold, listen, peer_mac};

/// A UDP port of the LAN's interface.
///
/// It hears what is sent to its address, to the groups of its options and, if they say so, to
/// everybody. Datagrams in fragments and those behind IPv6 extension headers are passed over:
/// nothing that is said on these ports is that long.
#[derive(Debug)]
pub struct Socket {
    /// Hears everybody but those who are known.
    strangers: AsyncFd<OwnedFd>,
    known: Option<Known>,
    answers: udp::Socket,
    local: SocketAddr,
    ifindex: u32,
    groups: Vec<IpAddr>,
    broadcast: bool,
    /// Ours on the interface; asked when an IPv6 socket is bound to none of them.
    own: Option<OwnAddresses>,
    talkers: Mutex<Talkers>,
    rate_limit: Mutex<RateLimit>,
    lost: AtomicU64,
    ignored: AtomicU64,
    transient_errors: AtomicU64,
}

/// Those who are preferred have a queue of their own.
#[derive(Debug)]
struct Known {
    packets: AsyncFd<OwnedFd>,
    macs: BTreeSet<Mac>,
}

impl Socket {
    /// Binds `local` on the device of `options`; must run inside a tokio runtime. The address
    /// may be unspecified for IPv6 only: then every address of the interface is ours, those
    /// that it gets later as well.
    ///
    /// # Errors
    ///
    /// Names the address, the device and, for a port in use, its owner.
    pub fn bind(local: SocketAddr, options: &udp::Options) -> Result<Self, BindError> {
        let device = options.device_name();
        let answers = udp::Socket::bind(local, &options.clone().deaf())?;
        let local = answers.local_addr();
        let open = || {
            let device = device.ok_or(io::ErrorKind::InvalidInput)?;
            let own = match local.ip() {
                IpAddr::V4(addr) if addr.is_unspecified() => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                IpAddr::V6(addr) if addr.is_unspecified() => true,
                IpAddr::V4(_) | IpAddr::V6(_) => false,
            };
            let [everybody, _] = receive::programs(local, &BTreeSet::new(), &[]);
            let (ifindex, fd) = receive::open(device, local, &everybody)?;
            let own = own.then(|| OwnAddresses::open(ifindex)).transpose()?;
            Ok((ifindex, crate::async_fd::register(fd)?, own))
        };
        let (ifindex, strangers, own) =
            open().map_err(|source| BindError::new(Transport::Udp, local, device, source))?;
        Ok(Self {
            strangers,
            known: None,
            answers,
            local,
            ifindex,
            groups: options.groups().collect(),
            broadcast: options.is_broadcast(),
            own,
            talkers: Mutex::default(),
            rate_limit: Mutex::default(),
            lost: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            transient_errors: AtomicU64::new(0),
        })
    }

    /// Opens a queue for those whom [`Self::prefer`] names; nobody is preferred yet.
    ///
    /// # Errors
    ///
    /// As for [`Self::bind`].
    pub fn preferring(mut self, device: &str) -> Result<Self, BindError> {
        let [_, nobody] = receive::programs(self.local, &BTreeSet::new(), &[]);
        let open = || {
            let (_, fd) = receive::open(device, self.local, &nobody)?;
            crate::async_fd::register(fd)
        };
        let failed = |source| BindError::new(Transport::Udp, self.local, Some(device), source);
        let packets = open().map_err(failed)?;
        self.known = Some(Known {
            packets,
            macs: BTreeSet::new(),
        });
        Ok(self)
    }

    /// Hears frames of `macs`, and of nobody else, in the queue of those who are known. It is
    /// emptied first, and from then on strangers are heard at a pace that leaves time for it:
    /// however much they send, and whatever MACs they make up. Beyond 256 those that
    /// come later stay strangers, which are heard as well.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory for a filter; then some are heard in both queues.
    pub fn prefer(&mut self, macs: impl IntoIterator<Item = Mac>) -> io::Result<()> {
        let silent: Vec<_> = self.talkers().silent().collect();
        let Some(known) = &mut self.known else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let macs: BTreeSet<_> = macs.into_iter().take(MOST_KNOWN).collect();
        let [of_strangers, of_known] = receive::programs(self.local, &macs, &silent);
        // meanwhile a frame may come by both queues, but none by neither
        let kept: BTreeSet<_> = macs.intersection(&known.macs).copied().collect();
        let [meanwhile, _] = receive::programs(self.local, &kept, &silent);
        receive::hear(self.strangers.get_ref(), &meanwhile)?;
        receive::hear(known.packets.get_ref(), &of_known)?;
        known.macs = macs;
        receive::hear(self.strangers.get_ref(), &of_strangers)
    }

    /// The address and port that the socket is bound to.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The index of the interface.
    #[must_use]
    pub const fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Tells whether an IPv6 address lies in a subnet of the interface, as far as the socket
    /// knows them: one that is bound to a single address knows none.
    #[must_use]
    pub fn is_on_link(&self, addr: IpAddr) -> bool {
        self.own.as_ref().is_some_and(|own| own.is_on_link(addr))
    }

    /// How many packets to the port were no datagrams for us: damaged, or for another address.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }

    /// How many datagrams found no room. While a neighbour causes that, it is not heard, and
    /// what it sends then counts no more.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// How many passing errors were swallowed by [`Self::recv`].
    #[must_use]
    pub fn transient_errors(&self) -> u64 {
        self.transient_errors.load(Ordering::Relaxed)
    }

    /// Waits for datagrams and puts all that wait into `batch`, as many as it takes and at
    /// least one; cancel-safe.
    ///
    /// # Errors
    ///
    /// Only when the socket can never receive again.
    pub async fn recv(&self, batch: &mut Batch) -> io::Result<()> {
        loop {
            batch.clear();
            let clock = Clock::new();
            let pause = self
                .known
                .as_ref()
                .and(self.rate_limit().pause(clock.mono()));
            let wake = self.talkers().wake().into_iter().chain(pause).min();
            let ready = tokio::select! {
                biased;
                ready = readable(self.known.as_ref().map(|known| &known.packets)) => Some(ready),
                ready = readable(Some(&self.strangers)), if pause.is_none() => Some(ready),
                () = clock.sleep_until_some(wake) => None,
            };
            let received = match ready {
                Some(Ok(mut queue)) => self.take(&mut queue, batch, clock.mono()),
                Some(Err(error)) => Err(error),
                None => Ok(()),
            };
            match received {
                Ok(()) => {
                    self.look_around(batch, clock.mono());
                    self.judge(batch);
                    if !batch.is_empty() {
                        return Ok(());
                    }
                }
                Err(error) if udp::is_transient(&error) => {
                    self.transient_errors.fetch_add(1, Ordering::Relaxed);
                    // an error that came back at once every time would hold the thread
                    tokio::task::yield_now().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends without waiting, like [`udp::Socket::try_send_to`].
    ///
    /// # Errors
    ///
    /// What the system said; the datagram is lost, the socket stays usable.
    pub fn try_send_to(
        &self,
        payload: &[u8],
        to: SocketAddr,
        from: Option<Source>,
    ) -> io::Result<()> {
        self.answers.try_send_to(payload, to, from)
    }

    /// Sends like [`udp::Socket::send_to`].
    ///
    /// # Errors
    ///
    /// What the system said; the datagram is lost, the socket stays usable.
    pub async fn send_to(
        &self,
        payload: &[u8],
        to: SocketAddr,
        from: Option<Source>,
    ) -> io::Result<()> {
        self.answers.send_to(payload, to, from).await
    }

    /// Takes what waits in a queue, perhaps nothing.
    fn take(
        &self,
        queue: &mut AsyncFdReadyGuard<'_, OwnedFd>,
        batch: &mut Batch,
        now: Instant,
    ) -> io::Result<()> {
        let of_strangers = queue.get_inner().as_raw_fd() == self.strangers.as_raw_fd();
        if of_strangers
            && let Some(known) = &self.known
            // what came since may not have been announced yet
            && receive::receive(known.packets.as_raw_fd(), batch).is_ok()
        {
            return Ok(());
        }
        let received = queue.try_io(|fd| receive::receive(fd.as_raw_fd(), batch));
        if of_strangers {
            self.rate_limit().take(batch.arrivals.len(), now);
        }
        // an error of the outer kind says that nothing waits after all
        received.unwrap_or(Ok(()))
    }

    /// Leaves out of the socket who fills it so that others find no room.
    fn look_around(&self, batch: &Batch, now: Instant) {
        let mut talkers = self.talkers();
        talkers.count(batch.arrivals.iter().map(|arrival| arrival.mac), now);
        if !talkers.is_due(now) {
            return;
        }
        let changed = self.count_lost().and_then(|lost| {
            if talkers.judge(lost, now) {
                let silent: Vec<_> = talkers.silent().collect();
                self.hear_all_but(&silent)?;
            }
            Ok(())
        });
        if changed.is_err() {
            // too little memory for a filter: then everybody is heard, as before
            self.transient_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count_lost(&self) -> io::Result<u32> {
        let mut lost = receive::lost(self.strangers.as_raw_fd())?;
        if let Some(known) = &self.known {
            lost = lost.saturating_add(receive::lost(known.packets.as_raw_fd())?);
        }
        self.lost.fetch_add(lost.into(), Ordering::Relaxed);
        Ok(lost)
    }

    fn hear_all_but(&self, silent: &[Mac]) -> io::Result<()> {
        let nobody = BTreeSet::new();
        let macs = self.known.as_ref().map_or(&nobody, |known| &known.macs);
        let [of_strangers, of_known] = receive::programs(self.local, macs, silent);
        receive::hear(self.strangers.get_ref(), &of_strangers)?;
        match &self.known {
            Some(known) => receive::hear(known.packets.get_ref(), &of_known),
            None => Ok(()),
        }
    }

    fn talkers(&self) -> MutexGuard<'_, Talkers> {
        self.talkers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rate_limit(&self) -> MutexGuard<'_, RateLimit> {
        self.rate_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps of the packets in `batch` those that are datagrams for us.
    fn judge(&self, batch: &mut Batch) {
        let mut ignored = 0_u64;
        for (at, arrival) in batch.arrivals.iter().enumerate() {
            match self.accept(&batch.frames, at, arrival) {
                Some(kept) => batch.kept.push(kept),
                None => ignored = ignored.saturating_add(1),
            }
        }
        batch.ifindex = self.ifindex;
        batch.local = self.local.ip();
        self.ignored.fetch_add(ignored, Ordering::Relaxed);
    }

    fn accept(&self, frames: &[u8], at: usize, arrival: &Arrival) -> Option<Kept> {
        if !arrival.for_us {
            return None;
        }
        let start = at.checked_mul(FRAME)?;
        let packet = frames.get(start..start.checked_add(arrival.len)?)?;
        let udp = packet::parse(packet, arrival.checksum, self.ifindex).ok()?;
        let ours = |addr| match &self.own {
            Some(own) => own.contains(addr),
            None => addr == self.local.ip(),
        };
        let to = udp.destination.ip();
        let everybody = to == IpAddr::V4(Ipv4Addr::BROADCAST);
        let hears = (self.broadcast && everybody) || self.groups.contains(&to) || ours(to);
        if udp.destination.port() != self.local.port() || !hears || ours(udp.source.ip()) {
            return None;
        }
        Some(Kept {
            source: udp.source,
            destination: to,
            mac: arrival.mac,
            payload: start.checked_add(udp.payload.start)?..start.checked_add(udp.payload.end)?,
        })
    }
}

/// Waits until something comes to a queue that may not be there.
async fn readable(queue: Option<&AsyncFd<OwnedFd>>) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
    match queue {
        Some(queue) => queue.readable().await,
        None => std::future::pending().await,
    }
}

/// A datagram of a host of the LAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// What it says.
    pub payload: &'a [u8],
    /// The address that it claims to come from.
    pub source: SocketAddr,
    /// The destination in the IP header; perhaps a group or everybody.
    pub destination: IpAddr,
    /// Our address that answers leave from: the destination, or the one that the socket is bound
    /// to (which may be unspecified) for a group and for everybody.
    pub local: IpAddr,
    /// The index of the interface that it came in by.
    pub ifindex: u32,
    /// The source MAC of its frame.
    pub mac: Mac,
}

impl Datagram<'_> {
    /// From where to answer: the asked address, through the interface that it came in by.
    #[must_use]
    pub const fn reply_from(&self) -> Source {
        Source {
            addr: self.local,
            ifindex: self.ifindex,
        }
    }
}

/// Room for what one [`Socket::recv`] receives; used again and again.
#[derive(Debug)]
pub struct Batch {
    /// As many frames of [`FRAME`] bytes as there are places.
    frames: Vec<u8>,
    arrivals: Vec<Arrival>,
    kept: Vec<Kept>,
    ifindex: u32,
    local: IpAddr,
}

impl Batch {
    /// Makes room for so many datagrams that more would not be cheaper.
    #[must_use]
    pub fn new() -> Self {
        Self {
            frames: vec![0; PLACES * FRAME],
            arrivals: Vec::with_capacity(PLACES),
            kept: Vec::with_capacity(PLACES),
            ifindex: 0,
            local: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }

    /// Iterates over the datagrams, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.kept.iter().map(|kept| {
            let to_one = !kept.destination.is_multicast()
                && kept.destination != IpAddr::V4(Ipv4Addr::BROADCAST);
            Datagram {
                payload: self.frames.get(kept.payload.clone()).unwrap_or_default(),
                source: kept.source,
                destination: kept.destination,
                local: if to_one { kept.destination } else { self.local },
                ifindex: self.ifindex,
                mac: kept.mac,
            }
        })
    }

    /// Tells whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn clear(&mut self) {
        self.arrivals.clear();
        self.kept.clear();
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// A packet as the kernel handed it out.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    len: usize,
    mac: Mac,
    /// Its frame was for this machine, and all of it is there.
    for_us: bool,
    checksum: packet::Checksum,
}

/// A datagram for us in the frames of a batch.
#[derive(Debug)]
struct Kept {
    source: SocketAddr,
    destination: IpAddr,
    mac: Mac,
    payload: Range<usize>,
}

/// More than an Ethernet frame carries.
const FRAME: usize = 2048;

const PLACES: usize = 64;

/// More than most homes have devices, and with seven steps for each of them less than half of
/// what the kernel takes for a filter.
const MOST_KNOWN: usize = 256;

#[cfg(test)]
mod tests;
