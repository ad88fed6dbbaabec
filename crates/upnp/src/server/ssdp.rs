//! Discovery: announcements, and answers to searches (UDA 1.1 §1).

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mapping::{Client, Instant, Snapshot};
use rand::{Rng, RngExt};

use super::budget::{Breadth, Budgets};
use super::lan::{Face, Lan};
use super::limits::{Holder, Standing};
use crate::wire::ssdp::{self, Advert, Header, MAX_AGE, Message, Search};
use crate::{Counters, DeviceKind, Edition, Event, Identity, Resource};

/// Announces both roots and answers searches, on IPv4 and IPv6.
///
/// No SEARCHPORT is told: we answer on the port of the standard (UDA 1.1 §1.2.2).
///
/// DEVIATION UDA 1.1 §1.2.4: no ssdp:update when an address of ours comes or goes, because
/// BOOTID counts our starts; those who listen where the address is of use hear ssdp:alive.
///
/// ```text
///          start: byebye, then alive twice
///   Silent ───────────────────────────────► Present ──┐ alive twice, before half of
///                                              ▲  │   │ max-age has passed
///   Gone ◄─────────────────────────────────────┼──┘   │
///          shutdown: byebye twice              └──────┘
/// ```
#[derive(Debug)]
pub struct Ssdp<R> {
    rng: R,
    config: SsdpConfig,
    adverts: Vec<Advert>,
    /// What is sent later; the number keeps the order of what is due at once.
    due: BTreeMap<(Instant, u64), Due>,
    next: u64,
    answers_waiting: usize,
    /// An announcement out of turn is on its way.
    again: bool,
    budgets: Budgets,
    transmits: VecDeque<Transmit>,
    last_seen: Instant,
    counters: Counters,
}

/// What the machine needs to know.
#[derive(Debug, Clone)]
pub struct SsdpConfig {
    /// The LAN that is served, and where the descriptions are.
    pub lan: Lan,
    /// What every message says.
    pub header: Header,
}

/// Who searches, and whose budget the answers take: whoever can write another's address into a
/// packet takes nothing from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Searcher {
    source: SocketAddr,
    holder: Holder,
    standing: Standing,
}

impl Searcher {
    /// Tells who sent a datagram from `source`, whose address `client` has.
    #[must_use]
    pub fn new(source: SocketAddr, client: Client, snapshot: &Snapshot) -> Self {
        Self {
            source,
            holder: Holder::of(client),
            standing: Standing::of(client, snapshot),
        }
    }
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// From which address of ours.
    pub from: IpAddr,
    /// The destination: a searcher, or a multicast group.
    pub to: SocketAddr,
    /// Whether that is somebody who is known to be there.
    pub standing: Standing,
    /// The SSDP message.
    pub payload: Vec<u8>,
}

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// An announcement is due.
    Announcement,
    /// An answer is due, or output is queued.
    Answer,
}

#[derive(Debug)]
enum Due {
    /// The whole set, out of turn.
    Again,
    /// The whole set.
    Alive { last: bool },
    /// The answer to a search.
    Answer(Transmit),
}

impl<R: Rng> Ssdp<R> {
    /// Makes a machine that is silent until [`Self::start`].
    pub fn new(
        config: SsdpConfig,
        identity: &Identity,
        counters: Counters,
        rng: R,
        now: Instant,
    ) -> Self {
        let adverts = Edition::ALL
            .into_iter()
            .flat_map(|edition| adverts(edition, identity))
            .collect();
        Self {
            rng,
            config,
            adverts,
            due: BTreeMap::new(),
            next: 0,
            answers_waiting: 0,
            again: false,
            budgets: Budgets::new(now),
            transmits: VecDeque::new(),
            last_seen: now,
            counters,
        }
    }

    /// Begins: what control points know of an earlier run is taken back first (U-2).
    pub fn start(&mut self, now: Instant) {
        self.last_seen = now;
        self.announce(ssdp::byebye);
        self.schedule(now + REPEAT_AFTER, Due::Alive { last: false });
    }

    /// Learns of other addresses of ours: who hears of a new one for the first time is told.
    pub fn handle_lan(&mut self, lan: Lan, now: Instant) {
        self.last_seen = now;
        let old = self.config.lan.faces();
        let fresh = lan.faces().iter().any(|face| !old.contains(face));
        self.config.lan = lan;
        if fresh && !self.again {
            self.again = true;
            self.schedule(now + SETTLE, Due::Again);
        }
    }

    /// Ends: nothing more is answered, and control points are told twice.
    pub fn handle_shutdown(&mut self, now: Instant) {
        self.last_seen = now;
        self.due.clear();
        self.answers_waiting = 0;
        self.announce(ssdp::byebye);
        self.announce(ssdp::byebye);
    }

    /// Takes a datagram that came to port 1900 of `destination`.
    pub fn handle_datagram(
        &mut self,
        bytes: &[u8],
        searcher: Searcher,
        destination: IpAddr,
        now: Instant,
    ) {
        self.last_seen = now;
        let search = match ssdp::parse(bytes) {
            Ok(Message::Search(search)) => search,
            Ok(Message::Other) => return self.counters.count(Event::SsdpOther),
            Err(_) => return self.counters.count(Event::SsdpMalformed),
        };
        let counted = match self.search(search, searcher, destination, now) {
            Ok(()) => Event::SearchAnswered,
            Err(event) => event,
        };
        self.counters.count(counted);
    }

    /// Returns what to send next.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        if !self.transmits.is_empty() {
            return Some((self.last_seen, Timer::Answer));
        }
        let ((at, _), due) = self.due.first_key_value()?;
        let timer = match due {
            Due::Again | Due::Alive { .. } => Timer::Announcement,
            Due::Answer(_) => Timer::Answer,
        };
        Some((*at, timer))
    }

    /// Queues what is due; early or twice changes nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.last_seen = now;
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Due::Answer(transmit) => {
                    self.answers_waiting = self.answers_waiting.saturating_sub(1);
                    self.transmits.push_back(transmit);
                }
                Due::Again => {
                    self.again = false;
                    self.announce(ssdp::alive);
                }
                Due::Alive { last } => {
                    self.announce(ssdp::alive);
                    // UDA 1.1 §1.2.2: again at a random time before half of max-age
                    let wait = match last {
                        false => REPEAT_AFTER,
                        true => {
                            let half = u64::from(MAX_AGE).saturating_mul(1000) / 2;
                            Duration::from_millis(self.rng.random_range(half / 2..half * 9 / 10))
                        }
                    };
                    self.schedule(now + wait, Due::Alive { last: !last });
                }
            }
        }
        self.budgets.forget(now);
    }

    fn search(
        &mut self,
        search: Search<'_>,
        searcher: Searcher,
        destination: IpAddr,
        now: Instant,
    ) -> Result<(), Event> {
        let Searcher {
            source,
            holder,
            standing,
        } = searcher;
        let lan = &self.config.lan;
        // U-1; a broadcast is no way to search
        let in_group = is_group(destination);
        let asked = in_group || lan.is_own(destination);
        if !lan.is_neighbour(source.ip()) || source.port() == 0 || !asked {
            return Err(Event::SearchForeign);
        }
        let endpoint = lan.endpoint_for(source.ip()).ok_or(Event::SearchForeign)?;
        let longest = if in_group {
            // UDA 1.1 §1.3.3: no MX, no answer; more than 5 is 5
            let max_wait = search.max_wait.ok_or(Event::SearchWithoutMx)?.min(5);
            u64::from(max_wait)
                .saturating_mul(1000)
                .saturating_sub(ON_THE_WAY)
                .min(PROMPT)
        } else {
            0
        };
        let found: Vec<&Advert> = self
            .adverts
            .iter()
            .filter(|advert| matches(search.target, advert))
            .collect();
        if found.is_empty() {
            return Err(Event::SearchOther);
        }
        if self.answers_waiting.saturating_add(found.len()) > MAX_WAITING {
            return Err(Event::SearchQueue);
        }
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let breadth = match search.target {
            EVERYTHING => Breadth::All,
            _ => Breadth::Target,
        };
        if !self.budgets.spend((holder, standing), breadth, count, now) {
            return Err(Event::SearchRate);
        }
        let answers: Vec<Due> = found
            .into_iter()
            .map(|advert| {
                // the searched version of the type is the advertised one, see `matches`
                Due::Answer(Transmit {
                    from: endpoint.ip(),
                    to: source,
                    standing,
                    payload: ssdp::response(advert, endpoint, self.config.header),
                })
            })
            .collect();
        self.answers_waiting = self.answers_waiting.saturating_add(answers.len());
        for answer in answers {
            let delay = Duration::from_millis(self.rng.random_range(0..=longest));
            self.schedule(now + delay, answer);
        }
        self.handle_timeout(now);
        Ok(())
    }

    fn announce(&mut self, emit: fn(&Advert, SocketAddr, SocketAddr, Header) -> Vec<u8>) {
        let header = self.config.header;
        for Face { group, endpoint } in self.config.lan.faces() {
            let to = SocketAddr::new(group, PORT);
            let messages = self.adverts.iter().map(|advert| Transmit {
                from: endpoint.ip(),
                to,
                standing: Standing::Host,
                payload: emit(advert, to, endpoint, header),
            });
            self.transmits.extend(messages);
        }
    }

    fn schedule(&mut self, at: Instant, due: Due) {
        self.due.insert((at, self.next), due);
        self.next = self.next.wrapping_add(1);
    }
}

fn is_group(destination: IpAddr) -> bool {
    [GROUP.into(), LINK_GROUP.into(), SITE_GROUP.into()].contains(&destination)
}

/// UDA 1.1 §1.3.2. A search for version 1 of a type finds the v1 root and one for version 2 the
/// v2 root, so each control point gets the description that it can read. A search for all or
/// for root devices finds both.
fn matches(target: &str, advert: &Advert) -> bool {
    match target {
        EVERYTHING => true,
        // RFC 9562 §4: a UUID has no case
        _ if target.starts_with("uuid:") => advert.target.eq_ignore_ascii_case(target),
        _ => advert.target == target,
    }
}

/// The messages of a root: three for it, two for each device inside, one for each service
/// (UDA 1.1 §1.2.2). What the v2 root has in the version of the v1 root is found there.
fn adverts(edition: Edition, identity: &Identity) -> Vec<Advert> {
    let path = Resource::Description(edition).path(identity);
    let mut adverts = Vec::new();
    for device in DeviceKind::ALL {
        let uuid = identity.uuid(edition, device);
        let mut targets = vec![device.urn(edition)];
        if device == DeviceKind::InternetGateway {
            targets.insert(0, "upnp:rootdevice".to_owned());
        }
        for service in device.services(edition) {
            targets.push(service.urn(service.version(edition)));
        }
        adverts.push(Advert {
            target: uuid.clone(),
            usn: uuid.clone(),
            path: path.clone(),
        });
        adverts.extend(targets.into_iter().map(|target| Advert {
            usn: format!("{uuid}::{target}"),
            target,
            path: path.clone(),
        }));
    }
    adverts
}

/// UDA 1.1 §1.1.
pub(crate) const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);

/// UDA 1.1 annex A: the link's group.
pub(crate) const LINK_GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xc);

/// UDA 1.1 annex A: the site's group.
pub(crate) const SITE_GROUP: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0xc);

/// UDA 1.1 §1.1.
pub(crate) const PORT: u16 = 1900;

/// UDA 1.1 §1.2.2: repeated within a few hundred milliseconds.
const REPEAT_AFTER: Duration = Duration::from_millis(300);

/// Addresses come in groups.
const SETTLE: Duration = Duration::from_secs(2);

/// The last answer must arrive while the searcher still listens; in milliseconds.
const ON_THE_WAY: u64 = 250;

/// Some searchers listen for less than the MX they name: iroh's portmapper says 3 and waits one
/// second. A random time below this is one below MX, too (UDA 1.1 §1.3.3), and spreads the
/// answers of one home well enough; in milliseconds.
const PROMPT: u64 = 500;

/// At some 400 bytes each.
const MAX_WAITING: usize = 1024;

/// UDA 1.1 §1.3.2.
const EVERYTHING: &str = "ssdp:all";
