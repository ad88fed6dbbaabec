//! Who is told what changes (UDA 1.1 §4).

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mapping::{Client, Instant, Mac, Snapshot};
use rand::{Rng, RngExt};

use super::limits::{Holder, MAX_STRANGER_SUBSCRIPTIONS, Standing};
use super::state::{self, Situation};
use super::web::Subscribe;
use crate::wire::gena::{self, Callback, Sid};
use crate::wire::http::{Head, Method, Response, Status};
use crate::{Counters, Edition, Event, Identity, ServiceKind};

/// The subscriptions, and the events that are due.
///
/// An event tells what differs from what the subscriber acknowledged, never what happened in
/// between: however much changes, and however slow a subscriber is, there is at most one event
/// of each on its way and none in a queue.
///
/// ```text
///            answered           something differs         acknowledged
///   Accepted ────────► Quiet ──────────────────► OnItsWay ────────────┐
///                       ▲ ▲                          │ failed         │
///                       │ └───────── backs off ◄─────┘                │
///                       └─────────────────────────────────────────────┘
/// ```
#[derive(Debug)]
pub struct Gena<R> {
    rng: R,
    /// What `DefaultConnectionService` is, in each edition.
    default_connections: [String; 2],
    subscriptions: BTreeMap<Sid, Subscription>,
    ready: VecDeque<Sid>,
    in_flight: usize,
    /// When the subscriptions are compared with the situation next.
    due: Option<Instant>,
    compared: Option<Instant>,
    last_seen: Instant,
    counters: Counters,
}

#[derive(Debug)]
struct Subscription {
    edition: Edition,
    service: ServiceKind,
    client: Client,
    standing: Standing,
    /// The host that has the client's address, if one has.
    host: Option<Mac>,
    /// Our address that it knows.
    local: IpAddr,
    callbacks: Arc<[Callback]>,
    expires: Instant,
    seq: u32,
    /// What it acknowledged.
    told: Variables,
    /// What is on its way to it.
    telling: Option<Variables>,
    phase: Phase,
    not_before: Instant,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Accepted,
    Quiet,
    Ready,
    OnItsWay,
}

type Variables = Vec<(&'static str, String)>;

/// An event to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// To which subscription.
    pub sid: Sid,
    /// From which address of ours.
    pub local: IpAddr,
    /// Where to, each tried if those before it fail (UDA 1.1 §4.1.2); every one of them is an
    /// address of the subscriber.
    pub callbacks: Arc<[Callback]>,
    seq: u32,
    variables: Variables,
}

impl Notification {
    /// Emits it for one of its URLs.
    #[must_use]
    pub fn emit(&self, callback: &Callback) -> Vec<u8> {
        gena::notify(callback, self.sid, self.seq, &self.variables)
    }
}

/// What became of a [`Notification`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The subscriber took it.
    Delivered,
    /// Nobody took it.
    Failed,
    /// The subscriber knows no such subscription (412).
    Unknown,
}

impl<R: Rng> Gena<R> {
    /// Makes a machine without subscriptions: they end with the program (UDA 1.1 §4.1.1), which
    /// BOOTID tells.
    pub fn new(identity: &Identity, counters: Counters, rng: R, now: Instant) -> Self {
        Self {
            rng,
            default_connections: Edition::ALL.map(|edition| identity.default_connection(edition)),
            subscriptions: BTreeMap::new(),
            ready: VecDeque::new(),
            in_flight: 0,
            due: None,
            compared: None,
            last_seen: now,
            counters,
        }
    }

    /// Takes SUBSCRIBE or UNSUBSCRIBE; returns the answer and, for a new subscription, its name:
    /// once the answer is sent, tell [`Self::handle_answered`].
    pub fn handle_request(
        &mut self,
        request: &Subscribe,
        snapshot: &Snapshot,
        now: Instant,
    ) -> (Response, Option<Sid>) {
        self.last_seen = now;
        self.forget(snapshot, now);
        let result = match request.method {
            Method::Unsubscribe => self.unsubscribe(request, snapshot),
            _ if request.head.has("sid") => self.renew(request, snapshot, now),
            _ => self.subscribe(request, snapshot, now),
        };
        match result {
            Ok((response, sid, event)) => {
                self.counters.count(event);
                (response, sid)
            }
            Err((status, event, why)) => {
                self.counters.count(event);
                (Response::refusal(status, why), None)
            }
        }
    }

    /// The subscriber has its answer; now it gets its first event (UDA 1.1 §4.1.2).
    pub fn handle_answered(&mut self, sid: Sid, now: Instant) {
        self.last_seen = now;
        if let Some(subscription) = self.subscriptions.get_mut(&sid)
            && subscription.phase == Phase::Accepted
        {
            subscription.phase = Phase::Quiet;
            self.due = Some(now);
        }
    }

    /// Something may have changed; what does within [`MODERATION`] goes into one event.
    pub fn handle_change(&mut self, now: Instant) {
        self.last_seen = now;
        let next = self.compared.map_or(now, |compared| compared + MODERATION);
        let next = next.max(now);
        self.due = Some(self.due.map_or(next, |due| due.min(next)));
    }

    /// Takes what became of a notification.
    pub fn handle_delivery(&mut self, sid: Sid, delivery: Delivery, now: Instant) {
        self.last_seen = now;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.counters.count(match delivery {
            Delivery::Delivered => Event::NotifyDelivered,
            Delivery::Failed => Event::NotifyFailed,
            Delivery::Unknown => Event::NotifyUnknown,
        });
        let Some(subscription) = self.subscriptions.get_mut(&sid) else {
            return;
        };
        subscription.phase = Phase::Quiet;
        let telling = subscription.telling.take().unwrap_or_default();
        match delivery {
            Delivery::Delivered => {
                subscription.failures = 0;
                for (name, value) in telling {
                    subscription.told.retain(|(told, _)| *told != name);
                    subscription.told.push((name, value));
                }
                self.handle_change(now);
            }
            Delivery::Failed => {
                // UDA 1.1 §4.3.2: the event is given up and the subscription stays. What was in
                // it is part of the next one, whose SEQ shows that one is missing.
                let wait = BACK_OFF.saturating_mul(1 << subscription.failures.min(6));
                subscription.failures = subscription.failures.saturating_add(1);
                subscription.not_before = now + wait;
            }
            Delivery::Unknown => {
                self.subscriptions.remove(&sid);
            }
        }
    }

    /// Compares what subscribers know with what is, and queues events; early or twice changes
    /// nothing.
    pub fn handle_timeout(&mut self, situation: Situation<'_>, now: Instant) {
        // a busy table wakes us for every change
        if self.poll_timeout().is_none_or(|due| due > now) {
            self.last_seen = now;
            return;
        }
        self.last_seen = now;
        self.forget(situation.snapshot, now);
        let all = self.due.is_some_and(|due| due <= now);
        if all {
            self.due = None;
            self.compared = Some(now);
        }
        for (sid, subscription) in &mut self.subscriptions {
            let retry = subscription.failures > 0;
            let quiet = subscription.phase == Phase::Quiet && subscription.not_before <= now;
            if !quiet || !(all || retry) {
                continue;
            }
            let [first, second] = &self.default_connections;
            let default_connection = match subscription.edition {
                Edition::V1 => first,
                Edition::V2 => second,
            };
            let news = subscription.news(default_connection, situation);
            if news.is_empty() {
                subscription.failures = 0;
            } else {
                subscription.telling = Some(news);
                subscription.phase = Phase::Ready;
                self.ready.push_back(*sid);
            }
        }
    }

    /// Returns an event to deliver. There are at most [`MAX_IN_FLIGHT`] at a time,
    /// [`MAX_IN_FLIGHT_TO_ONE`] to one host and [`MAX_IN_FLIGHT_TO_STRANGERS`] to those without a
    /// lease, so a subscriber that hangs delays nobody else.
    pub fn poll_notification(&mut self) -> Option<Notification> {
        if self.in_flight >= MAX_IN_FLIGHT {
            return None;
        }
        let index = self.ready.iter().position(|sid| self.has_room(*sid))?;
        let sid = self.ready.remove(index)?;
        let subscription = self.subscriptions.get_mut(&sid)?;
        let variables = subscription.telling.clone()?;
        subscription.phase = Phase::OnItsWay;
        let seq = subscription.seq;
        // UDA 1.1 §4.3.2: 0 is the first event's alone
        subscription.seq = seq.checked_add(1).unwrap_or(1);
        self.in_flight = self.in_flight.saturating_add(1);
        Some(Notification {
            sid,
            local: subscription.local,
            callbacks: Arc::clone(&subscription.callbacks),
            seq,
            variables,
        })
    }

    /// Returns when to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.in_flight < MAX_IN_FLIGHT && self.ready.iter().any(|sid| self.has_room(*sid)) {
            return Some(self.last_seen);
        }
        let of_each = self.subscriptions.values().map(|subscription| {
            match (subscription.phase, subscription.failures) {
                (Phase::Quiet, 1..) => subscription.not_before.min(subscription.expires),
                _ => subscription.expires,
            }
        });
        of_each.chain(self.due).min()
    }

    /// Returns how many subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Tells whether nobody has subscribed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    fn subscribe(
        &mut self,
        request: &Subscribe,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Result<Accepted, Refused> {
        if request.head.one("nt") != Some("upnp:event") {
            return Err(refused("NT must be upnp:event"));
        }
        let callbacks = request.head.one("callback").map(gena::callbacks);
        let Some(Ok(callbacks)) = callbacks else {
            return Err(refused("CALLBACK must be http URLs with your address"));
        };
        // threat 3: nothing is ever sent to anybody but the one who asked
        let source = request.client.addr;
        if callbacks
            .iter()
            .any(|callback| callback.addr.ip() != source)
        {
            let why = "every CALLBACK must be at your own address";
            return Err((Status::PreconditionFailed, Event::SubscriptionForeign, why));
        }
        let standing = Standing::of(request.client, snapshot);
        if !self.has_place(request.client, standing) {
            let why = "there are too many subscriptions";
            return Err((Status::ServiceUnavailable, Event::SubscriptionLimit, why));
        }
        let lasts = lifetime(&request.head);
        let sid = self.fresh_sid();
        let callbacks = callbacks
            .into_iter()
            .map(|callback| request.reachable(callback));
        let subscription = Subscription {
            edition: request.edition,
            service: request.service,
            client: request.client,
            standing,
            host: present(snapshot, request.client),
            local: request.local,
            callbacks: callbacks.collect(),
            expires: now + lasts,
            seq: 0,
            told: Vec::new(),
            telling: None,
            phase: Phase::Accepted,
            not_before: now,
            failures: 0,
        };
        self.subscriptions.insert(sid, subscription);
        let event = Event::SubscriptionAccepted;
        Ok((accepted(sid, lasts), Some(sid), event))
    }

    fn renew(
        &mut self,
        request: &Subscribe,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Result<Accepted, Refused> {
        let sid = self.named(request, snapshot)?;
        let lasts = lifetime(&request.head);
        if let Some(subscription) = self.subscriptions.get_mut(&sid) {
            subscription.expires = now + lasts;
        }
        Ok((accepted(sid, lasts), None, Event::SubscriptionRenewed))
    }

    fn unsubscribe(
        &mut self,
        request: &Subscribe,
        snapshot: &Snapshot,
    ) -> Result<Accepted, Refused> {
        let sid = self.named(request, snapshot)?;
        self.subscriptions.remove(&sid);
        self.ready.retain(|ready| *ready != sid);
        let response = Response::without_body(Status::Ok, Vec::new());
        Ok((response, None, Event::SubscriptionEnded))
    }

    /// The caller's own subscription that a request names (UDA 1.1 §4.1.3, §4.1.4), from
    /// whichever of its addresses it asks now, and to the service that it hears of.
    fn named(&self, request: &Subscribe, snapshot: &Snapshot) -> Result<Sid, Refused> {
        if request.head.has("nt") || request.head.has("callback") {
            let why = "SID goes with neither NT nor CALLBACK";
            return Err((Status::BadRequest, Event::SubscriptionRefused, why));
        }
        let unknown = refused("there is no such subscription");
        let sid = request.head.one("sid").ok_or(unknown)?;
        let sid = Sid::parse(sid).map_err(|_| unknown)?;
        let subscription = self.subscriptions.get(&sid).ok_or(unknown)?;
        let host = present(snapshot, request.client);
        let own = subscription.client.addr == request.client.addr
            || (host.is_some() && subscription.host == host);
        let there =
            subscription.edition == request.edition && subscription.service == request.service;
        (own && there).then_some(sid).ok_or(unknown)
    }

    /// Ends what is over: its time, or its subscriber, whose address may be another host's next.
    fn forget(&mut self, snapshot: &Snapshot, now: Instant) {
        let counters = &self.counters;
        self.subscriptions.retain(|_, subscription| {
            let here = subscription.host.is_none()
                || subscription.host == present(snapshot, subscription.client);
            let stays = subscription.expires > now && here;
            if !stays {
                counters.count(Event::SubscriptionEnded);
            }
            stays
        });
        let subscriptions = &self.subscriptions;
        self.ready.retain(|sid| subscriptions.contains_key(sid));
    }

    /// Tells whether there is a place for a subscription of a client.
    fn has_place(&self, client: Client, standing: Standing) -> bool {
        let key = Holder::of(client);
        let (mut held, mut strangers) = (0_usize, 0_usize);
        for other in self.subscriptions.values() {
            held = held.saturating_add((Holder::of(other.client) == key).into());
            strangers = strangers.saturating_add((other.standing == Standing::Stranger).into());
        }
        let strange = standing == Standing::Stranger;
        self.subscriptions.len() < MAX_SUBSCRIPTIONS
            && held < MAX_PER_HOST
            && !(strange && strangers >= MAX_STRANGER_SUBSCRIPTIONS)
    }

    /// Tells whether an event may be on its way to a subscriber, besides those that are.
    fn has_room(&self, sid: Sid) -> bool {
        let Some(wanted) = self.subscriptions.get(&sid) else {
            return false;
        };
        let key = Holder::of(wanted.client);
        let on_their_way = || {
            let all = self.subscriptions.values();
            all.filter(|subscription| subscription.phase == Phase::OnItsWay)
        };
        let to_it = on_their_way().filter(|other| Holder::of(other.client) == key);
        let strange = |other: &&Subscription| other.standing == Standing::Stranger;
        to_it.count() < MAX_IN_FLIGHT_TO_ONE
            && !(strange(&wanted)
                && on_their_way().filter(strange).count() >= MAX_IN_FLIGHT_TO_STRANGERS)
    }

    fn fresh_sid(&mut self) -> Sid {
        loop {
            // RFC 9562 §5.4
            let bits: u128 = self.rng.random();
            let bits = bits & !(0xf << 76) | (0x4 << 76);
            let sid = Sid(bits & !(0x3 << 62) | (0x2 << 62));
            if !self.subscriptions.contains_key(&sid) {
                return sid;
            }
        }
    }
}

impl Subscription {
    /// What the subscriber does not know yet.
    fn news(&self, default_connection: &str, situation: Situation<'_>) -> Variables {
        let version = self.service.version(self.edition);
        let now = self.service.evented(version).iter().map(|name| {
            let value = state::variable(name, default_connection, self.client, situation);
            (*name, value)
        });
        let now: Variables = now.collect();
        let differs = |pair: &(&'static str, String)| !self.told.contains(pair);
        // U-12: these two always go together
        let together = ["PortMappingNumberOfEntries", "SystemUpdateID"];
        let both = now
            .iter()
            .any(|pair| together.contains(&pair.0) && differs(pair));
        now.into_iter()
            .filter(|pair| differs(pair) || (both && together.contains(&pair.0)))
            .collect()
    }
}

type Accepted = (Response, Option<Sid>, Event);
type Refused = (Status, Event, &'static str);

const fn refused(why: &'static str) -> Refused {
    (Status::PreconditionFailed, Event::SubscriptionRefused, why)
}

impl Subscribe {
    /// On which link a link-local address is, only the request itself tells.
    fn reachable(&self, mut callback: Callback) -> Callback {
        if let SocketAddr::V6(addr) = &mut callback.addr {
            addr.set_scope_id(self.scope);
        }
        callback
    }
}

/// The host that has a client's address now.
fn present(snapshot: &Snapshot, client: Client) -> Option<Mac> {
    let host = snapshot.host_of(client)?;
    host.lease.is_some().then_some(host.mac)
}

fn lifetime(head: &Head) -> Duration {
    let asked = head.one("timeout").and_then(gena::timeout);
    let seconds = asked.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST);
    Duration::from_secs(u64::from(seconds))
}

fn accepted(sid: Sid, lasts: Duration) -> Response {
    let headers = vec![
        ("SID", sid.to_string()),
        ("TIMEOUT", format!("Second-{}", lasts.as_secs())),
    ];
    Response::without_body(Status::Ok, headers)
}

/// UDA 1.1 §4.1.1: at least 1800 seconds, never infinite.
const SHORTEST: u32 = 1800;

/// A subscriber that went away is remembered for no longer than this.
const LONGEST: u32 = 7200;

/// Threat 3: what one host may hold.
pub const MAX_PER_HOST: usize = 32;

/// A home has some dozens of control points with one or two subscriptions each.
pub const MAX_SUBSCRIPTIONS: usize = 512;

/// Each is a connection of ours for some seconds at most.
pub const MAX_IN_FLIGHT: usize = 64;

/// What one host can hold up.
pub const MAX_IN_FLIGHT_TO_ONE: usize = 2;

/// What those can hold up together who have no lease.
pub const MAX_IN_FLIGHT_TO_STRANGERS: usize = 16;

/// However fast ports come and go, nobody is told more often.
pub const MODERATION: Duration = Duration::from_millis(200);

/// After a failure; twice as long after each further one, five minutes at most.
const BACK_OFF: Duration = Duration::from_secs(5);
