//! The machine: what each message of a client leads to (RFC 2131 §4.3).

mod reaction;
mod reply;
mod state;
mod transmit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use mapping::{
    DeclineRequest, Grant, Instant, LeaseRequest, Mac, Now, Outcome, ReleaseRequest, Request,
    Snapshot,
};

use crate::counters::{Answer, Counters, DropReason};
use crate::wire::{Malformed, Message, MessageType, Op, Received};
use reply::Reply;
use state::{State, state_of};
use transmit::{configured, unconfigured};

pub use reaction::{Reaction, reaction};
pub(crate) use transmit::CLIENT_PORT;
pub use transmit::{Destination, Transmit};

/// What can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long a lease lasts; a client may ask for a shorter one.
    pub lease_lifetime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_lifetime: LEASE_LIFETIME,
        }
    }
}

/// How a datagram came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its source address.
    pub source: Ipv4Addr,
    /// The source MAC of its frame: the client's, or that of a repeater in between, or a forger's.
    pub mac: Mac,
    /// It was sent to our own address and not broadcast.
    pub unicast: bool,
}

/// Names a request that waits for the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u64);

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// A client may no longer decline its address.
    Decline,
    /// Queued output has not been drained.
    Drain,
    /// An offer ends.
    Offer,
}

/// A DHCP server for one LAN.
///
/// ```
/// use dhcp::{Config, Destination, Meta, Server};
/// use mapping::{BootId, Core, Now, Policy, Site};
///
/// let now = Now::default();
/// let site = Site::new("192.168.64.1".parse()?, 24, "home.example".to_owned())?;
/// let core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
/// let mut server = Server::new(Config::default(), now);
/// server.set_offering(true);
///
/// let mut discover = vec![1, 1, 6, 0, 0, 0, 0, 9, 0, 0, 0x80, 0];
/// discover.resize(28, 0);
/// discover.extend([2, 0, 0, 0, 0, 1]);
/// discover.resize(236, 0);
/// discover.extend([99, 130, 83, 99, 53, 1, 1, 255]);
/// let mac = mapping::Mac([2, 0, 0, 0, 0, 1]);
/// let meta = Meta { source: [0, 0, 0, 0].into(), mac, unicast: false };
/// server.handle_datagram(&discover, meta, core.snapshot(), now);
///
/// let offer = server.poll_transmit().ok_or("an offer")?;
/// assert_eq!(offer.destination, Destination::Broadcast);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```text
///   DISCOVER ──► offer (10 s) ──► OFFER
///   REQUEST  ──► Request::Lease ──► granted: ACK    refused: NAK or silence
///   RELEASE, DECLINE ──► Request::Release, Request::Decline
///   INFORM   ──► ACK without a lease
/// ```
#[derive(Debug)]
pub struct Server {
    config: Config,
    offering: bool,
    offers: BTreeMap<Mac, Offer>,
    /// Until when a client that was just given an address may decline it.
    fresh: BTreeMap<Mac, Instant>,
    pending: BTreeMap<Token, Pending>,
    requests: VecDeque<(Token, Request)>,
    transmits: VecDeque<Transmit>,
    counters: Counters,
    next_token: u64,
    last_seen: Instant,
}

#[derive(Debug)]
struct Offer {
    addr: Ipv4Addr,
    name: Option<String>,
    until: Instant,
}

#[derive(Debug)]
enum Pending {
    /// A lease is asked for.
    Lease {
        message: Received,
        state: State,
        request: LeaseRequest,
    },
    /// Nobody waits for an answer.
    Decline { mac: Mac },
    /// Nobody waits for an answer.
    Release { mac: Mac },
}

/// A request for the writer, and what is remembered until its answer.
struct Ask {
    pending: Pending,
    request: Request,
}

/// What a message leads to.
enum Step {
    Ask(Box<Ask>),
    Send(Answer, Transmit),
}

/// Why a message leads to nothing.
enum Ignored {
    Malformed(Malformed),
    Dropped(DropReason),
}

impl From<Malformed> for Ignored {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<DropReason> for Ignored {
    fn from(reason: DropReason) -> Self {
        Self::Dropped(reason)
    }
}

impl Server {
    /// Makes a server that offers nothing until [`Self::set_offering`] says that it may.
    #[must_use]
    pub const fn new(config: Config, now: Now) -> Self {
        Self {
            config,
            offering: false,
            offers: BTreeMap::new(),
            fresh: BTreeMap::new(),
            pending: BTreeMap::new(),
            requests: VecDeque::new(),
            transmits: VecDeque::new(),
            counters: Counters::zero(),
            next_token: 0,
            last_seen: now.mono,
        }
    }

    /// Says whether new clients are served: not while another server is on the LAN.
    pub const fn set_offering(&mut self, offering: bool) {
        self.offering = offering;
    }

    /// Returns the counters.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes one datagram that came to port 67.
    pub fn handle_datagram(&mut self, bytes: &[u8], meta: Meta, snapshot: &Snapshot, now: Now) {
        self.counters.received = self.counters.received.saturating_add(1);
        self.handle_timeout(now);
        match self.step(bytes, meta, snapshot, now) {
            Ok(Step::Ask(ask)) => self.ask(*ask),
            Ok(Step::Send(answer, transmit)) => self.send(answer, transmit),
            Err(Ignored::Malformed(malformed)) => self.counters.count_malformed(malformed.field),
            Err(Ignored::Dropped(reason)) => self.counters.drop(reason),
        }
    }

    /// Takes the writer's answer to a request of [`Self::poll_request`].
    pub fn handle_outcome(
        &mut self,
        token: Token,
        outcome: &Outcome,
        snapshot: &Snapshot,
        now: Now,
    ) {
        self.handle_timeout(now);
        let Some(pending) = self.pending.remove(&token) else {
            return;
        };
        match (pending, outcome) {
            (
                Pending::Lease {
                    message,
                    state,
                    request,
                },
                outcome,
            ) => {
                self.settle_lease(&message, state, &request, outcome, snapshot, now);
            }
            (Pending::Decline { mac }, Outcome::Granted(_)) => {
                self.offers.remove(&mac);
                self.fresh.remove(&mac);
                self.counters.declined = self.counters.declined.saturating_add(1);
            }
            (Pending::Release { mac }, Outcome::Granted(_)) => {
                self.fresh.remove(&mac);
                self.counters.released = self.counters.released.saturating_add(1);
            }
            (Pending::Decline { .. } | Pending::Release { .. }, Outcome::Refused(refusal)) => {
                self.counters.drop(match reaction(*refusal) {
                    Reaction::Nak => DropReason::Refused,
                    Reaction::Silence(reason) => reason,
                });
            }
        }
    }

    /// Returns the next request for the writer.
    pub fn poll_request(&mut self) -> Option<(Token, Request)> {
        self.requests.pop_front()
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        if !(self.requests.is_empty() && self.transmits.is_empty()) {
            return Some((self.last_seen, Timer::Drain));
        }
        let offers = self
            .offers
            .values()
            .map(|offer| (offer.until, Timer::Offer));
        let fresh = self.fresh.values().map(|until| (*until, Timer::Decline));
        offers.chain(fresh).min_by_key(|(at, _)| *at)
    }

    /// Forgets what is over; early or twice changes nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        self.last_seen = now.mono;
        self.offers.retain(|_, offer| offer.until > now.mono);
        self.fresh.retain(|_, until| *until > now.mono);
    }

    fn step(
        &mut self,
        bytes: &[u8],
        meta: Meta,
        snapshot: &Snapshot,
        now: Now,
    ) -> Result<Step, Ignored> {
        let message = Message::parse(bytes)?;
        if message.op != Op::BootRequest {
            return Err(DropReason::NotRequest.into());
        }
        if !message.giaddr.is_unspecified() {
            return Err(DropReason::Relayed.into());
        }
        let message = Received::new(&message)?;
        let step = match message.kind {
            MessageType::Discover => self.discover(&message, snapshot, now),
            MessageType::Request => self.request(message, meta, snapshot),
            MessageType::Decline => self.decline(&message, meta, snapshot),
            MessageType::Release => release(&message, meta, snapshot),
            MessageType::Inform => inform(&message, meta, snapshot),
            MessageType::Offer | MessageType::Ack | MessageType::Nak | MessageType::Unknown(_) => {
                Err(DropReason::UnknownType)
            }
        };
        Ok(step?)
    }

    /// RFC 2131 §4.3.1.
    fn discover(
        &mut self,
        message: &Received,
        snapshot: &Snapshot,
        now: Now,
    ) -> Result<Step, DropReason> {
        if !self.offering {
            return Err(DropReason::ForeignServer);
        }
        let addr = self
            .candidate(message.mac, snapshot)
            .ok_or(DropReason::NoAddress)?;
        let host = snapshot.host(message.mac);
        let own = host.is_some_and(|host| host.addr == addr);
        // a host's own address needs no reservation, so a flood of others cannot keep it away
        if !own && !self.offers.contains_key(&message.mac) && self.offers.len() >= OFFERS {
            return Err(DropReason::OffersFull);
        }
        if !own || self.offers.len() < OFFERS {
            let offer = Offer {
                addr,
                name: message.name.clone(),
                until: now.mono + OFFER_LIFETIME,
            };
            self.offers.insert(message.mac, offer);
        }
        let reply = Reply {
            answer: Answer::Offer,
            lease: Some((addr, self.lifetime(message))),
            host: host.map(AsRef::as_ref),
            message,
            site: snapshot.site(),
        };
        Ok(Step::Send(
            Answer::Offer,
            reply.transmit(unconfigured(message, addr)),
        ))
    }

    /// RFC 2131 §4.3.2.
    fn request(
        &mut self,
        message: Received,
        meta: Meta,
        snapshot: &Snapshot,
    ) -> Result<Step, DropReason> {
        let (state, addr) = state_of(&message, meta)?;
        let (mac, site) = (message.mac, snapshot.site());
        if state == State::Selecting && message.server_id != Some(site.gateway()) {
            // the client chose another server: the address is free again
            self.offers.remove(&mac);
            return Err(DropReason::OtherServer);
        }
        let host = snapshot.host(mac);
        if !self.offering && host.is_none() {
            return Err(DropReason::ForeignServer);
        }
        let right = match (state, host) {
            // wrong network: the client must not keep its address (RFC 2131 §4.3.2)
            _ if !site.contains(addr) => false,
            (_, Some(host)) if site.is_leasable(host.addr) => host.addr == addr,
            (State::Selecting, _) => {
                let offered = self.offers.get(&mac).map(|offer| offer.addr);
                offered.or_else(|| self.candidate(mac, snapshot)) == Some(addr)
            }
            // it renews with us, so it believes that we gave it the address: let it start anew
            (State::Renewing, _) | (State::InitReboot | State::Rebinding, Some(_)) => false,
            (State::InitReboot | State::Rebinding, None) => return Err(DropReason::NoRecord),
        };
        if !right {
            return Ok(Step::Send(Answer::Nak, Reply::nak(&message, site)));
        }
        let offered = self.offers.get(&mac).and_then(|offer| offer.name.clone());
        let known = host.and_then(|host| host.declared_name.clone());
        // What comes in another host's frame, by a repeater or a forger, neither shortens a lease
        // nor renames a host: its ports and its name would end with that.
        let own = meta.mac == mac || host.is_none();
        let request = LeaseRequest {
            mac,
            addr,
            lifetime: match own {
                true => self.lifetime(&message),
                false => self.config.lease_lifetime,
            },
            // a name that is not repeated is not withdrawn
            declared_name: match own {
                true => message.name.clone().or(offered).or(known),
                false => known,
            },
        };
        self.ask_once(message, state, request)
    }

    /// A client that hears nothing repeats itself; the answer goes to its latest message.
    fn ask_once(
        &mut self,
        message: Received,
        state: State,
        request: LeaseRequest,
    ) -> Result<Step, DropReason> {
        let same = self.pending.values_mut().find_map(|pending| match pending {
            Pending::Lease {
                message,
                state: asked,
                request: known,
            } if *known == request && *asked == state => Some(message),
            Pending::Lease { .. } | Pending::Decline { .. } | Pending::Release { .. } => None,
        });
        if let Some(waiting) = same {
            *waiting = message;
            return Err(DropReason::Duplicate);
        }
        if self.pending.len() >= PENDING {
            return Err(DropReason::Busy);
        }
        let pending = Pending::Lease {
            message,
            state,
            request: request.clone(),
        };
        let request = Request::Lease(request);
        Ok(Step::Ask(Box::new(Ask { pending, request })))
    }

    /// RFC 2131 §4.3.3. Only a client that was given its address a moment ago has a reason to
    /// decline it; from anybody else this would take a device its address.
    fn decline(
        &self,
        message: &Received,
        meta: Meta,
        snapshot: &Snapshot,
    ) -> Result<Step, DropReason> {
        let (mac, site) = (message.mac, snapshot.site());
        if message
            .server_id
            .is_some_and(|server| server != site.gateway())
        {
            return Err(DropReason::OtherServer);
        }
        let addr = message.requested.ok_or(DropReason::Unaddressed)?;
        let owns = snapshot.host(mac).is_some_and(|host| host.addr == addr);
        if !owns || meta.mac != mac || !self.fresh.contains_key(&mac) {
            return Err(DropReason::ForeignDecline);
        }
        let request = Request::Decline(DeclineRequest { mac, addr });
        Ok(Step::Ask(Box::new(Ask {
            pending: Pending::Decline { mac },
            request,
        })))
    }

    fn settle_lease(
        &mut self,
        message: &Received,
        state: State,
        request: &LeaseRequest,
        outcome: &Outcome,
        snapshot: &Snapshot,
        now: Now,
    ) {
        let site = snapshot.site();
        match outcome {
            Outcome::Granted(Grant::Leased(host)) if host.addr == request.addr => {
                self.offers.remove(&message.mac);
                if matches!(state, State::Selecting | State::InitReboot)
                    && (self.fresh.len() < PENDING || self.fresh.contains_key(&message.mac))
                {
                    self.fresh.insert(message.mac, now.mono + DECLINE_WINDOW);
                }
                let reply = Reply {
                    answer: Answer::Ack,
                    lease: Some((host.addr, request.lifetime)),
                    host: Some(host),
                    message,
                    site,
                };
                let destination = match state {
                    State::Selecting | State::InitReboot => unconfigured(message, host.addr),
                    State::Renewing | State::Rebinding => configured(host.addr),
                };
                self.send(Answer::Ack, reply.transmit(destination));
            }
            Outcome::Granted(_) => self.counters.drop(DropReason::Refused),
            Outcome::Refused(refusal) => match reaction(*refusal) {
                Reaction::Nak => self.send(Answer::Nak, Reply::nak(message, site)),
                Reaction::Silence(reason) => self.counters.drop(reason),
            },
        }
    }

    /// H-1: the MAC chooses the address.
    // DEVIATION RFC 2131 §4.3.1: neither the requested address nor the client identifier chooses
    // the address, because a server's address must follow from its MAC alone.
    fn candidate(&self, mac: Mac, snapshot: &Snapshot) -> Option<Ipv4Addr> {
        let others = self.offers.iter().filter(|(other, _)| **other != mac);
        let offered: BTreeSet<_> = others.map(|(_, offer)| offer.addr).collect();
        snapshot.lease_candidate(mac, |addr| offered.contains(&addr))
    }

    fn lifetime(&self, message: &Received) -> Duration {
        let longest = self.config.lease_lifetime;
        message
            .lease_time
            .map_or(longest, |asked| asked.max(SHORTEST_LEASE).min(longest))
    }

    fn ask(&mut self, ask: Ask) {
        if self.pending.len() >= PENDING {
            self.counters.drop(DropReason::Busy);
            return;
        }
        let token = Token(self.next_token);
        self.next_token = self.next_token.wrapping_add(1);
        self.pending.insert(token, ask.pending);
        self.requests.push_back((token, ask.request));
    }

    fn send(&mut self, answer: Answer, transmit: Transmit) {
        self.counters.answer(answer);
        self.transmits.push_back(transmit);
    }
}

/// RFC 2131 §4.3.4. The address goes back to the client's own binding: it is kept.
fn release(message: &Received, meta: Meta, snapshot: &Snapshot) -> Result<Step, DropReason> {
    let (mac, addr, site) = (message.mac, message.ciaddr, snapshot.site());
    if message
        .server_id
        .is_some_and(|server| server != site.gateway())
    {
        return Err(DropReason::OtherServer);
    }
    let owns = snapshot.host(mac).is_some_and(|host| host.addr == addr);
    // a client releases from the address that it releases, in a frame of its own; behind a
    // repeater that replaces MACs the lease ends by itself
    if !owns || meta.source != addr || meta.mac != mac {
        return Err(DropReason::ForeignRelease);
    }
    let request = Request::Release(ReleaseRequest { mac, addr });
    Ok(Step::Ask(Box::new(Ask {
        pending: Pending::Release { mac },
        request,
    })))
}

/// RFC 2131 §4.3.5.
fn inform(message: &Received, meta: Meta, snapshot: &Snapshot) -> Result<Step, DropReason> {
    let site = snapshot.site();
    let addr = message.ciaddr;
    if addr.is_unspecified() {
        return Err(DropReason::Unaddressed);
    }
    if !site.contains(addr) || meta.source != addr {
        return Err(DropReason::NotOnLan);
    }
    let host = snapshot.host(message.mac).filter(|host| host.addr == addr);
    let host = host.map(AsRef::as_ref);
    let reply = Reply {
        answer: Answer::Ack,
        lease: None,
        host,
        message,
        site,
    };
    Ok(Step::Send(Answer::Ack, reply.transmit(configured(addr))))
}

/// A day: long enough that a rebooting gateway is not noticed, short enough that a device which
/// left is gone the day after.
const LEASE_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A client that asks for less would do nothing but renew.
const SHORTEST_LEASE: Duration = Duration::from_secs(120);

/// Who floods us with DISCOVER holds an address for this long.
const OFFER_LIFETIME: Duration = Duration::from_secs(10);

/// A client looks for a duplicate right after the ACK; the slowest take some 10 s.
const DECLINE_WINDOW: Duration = Duration::from_secs(60);

/// Offers to clients that have no address yet; a home that starts up as one has fewer.
const OFFERS: usize = 256;

/// Requests that wait for the writer.
const PENDING: usize = 256;

#[cfg(test)]
mod tests;
