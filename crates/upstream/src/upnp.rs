//! The machine that keeps ports open at an upstream gateway by UPnP; a library speaks it.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use mapping::{Instant, MappingNonce, Protocol, Snapshot};
use rand::Rng;

use crate::backoff::{Backoff, renewal};
use crate::counters::Counters;
use crate::lifetime::Lifetimes;
use crate::port::{Granted, LIFETIME_MAX, Phase, Port, PortKey, PortState, Refused};
use crate::port_table::PortTable;

/// Something to be done; one at a time, each answered by [`Upnp::handle_answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `AddPortMapping`, or with `any` `AddAnyPortMapping`.
    Add {
        /// Where remotes knock.
        external: u16,
        /// Where it leads to.
        internal: SocketAddrV4,
        /// The transport protocol.
        protocol: Protocol,
        /// In seconds; zero for ever.
        lease: u32,
        /// Another external port will do.
        any: bool,
    },
    /// `GetExternalIPAddress`.
    ExternalAddress,
    /// `DeletePortMapping`.
    Remove {
        /// Where remotes knock.
        external: u16,
        /// The transport protocol.
        protocol: Protocol,
    },
    /// M-SEARCH.
    Search {
        /// Who may answer.
        router: Ipv4Addr,
        /// Whence to ask.
        local: Ipv4Addr,
        /// Ask the group, because the router alone did not answer.
        multicast: bool,
    },
}

/// What became of an [`Action`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The port is open.
    Added {
        /// Where remotes knock.
        external: u16,
    },
    /// The external address, if there is one.
    ExternalAddress(Option<IpAddr>),
    /// It failed.
    Failed(Failure),
    /// A gateway is there.
    Found,
    /// The port is closed.
    Removed,
}

/// Why an [`Action`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// 718: somebody else has the port.
    Conflict,
    /// 725: leases must be for ever.
    OnlyPermanent,
    /// The gateway says no, and why.
    Refused(&'static str),
    /// The gateway does not answer.
    Unreachable,
}

/// Keeps ports open at one upstream gateway, by UPnP.
///
/// ```text
///        link             found
///   Off ──────► Searching ─────► Ready ── does not answer ──► Searching
/// ```
#[derive(Debug)]
pub struct Upnp<R> {
    rng: R,
    link: Option<(Ipv4Addr, Ipv4Addr)>,
    state: State,
    table: PortTable,
    doing: Option<Doing>,
    external: Option<IpAddr>,
    /// The gateway takes leases that are for ever, and no other.
    permanent: bool,
    lives: Lifetimes,
    counters: Counters,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Off,
    Ready { look: Instant },
    Searching { backoff: Backoff, due: Instant },
}

/// What is being done; the answer to what was begun before the link changed counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Add { key: PortKey, any: bool, lease: u32 },
    ExternalAddress,
    Remove(PortKey),
    Search,
    Stale,
}

impl<R: Rng> Upnp<R> {
    pub(crate) const fn new(rng: R) -> Self {
        Self {
            rng,
            link: None,
            state: State::Off,
            table: PortTable::new(),
            doing: None,
            external: None,
            permanent: false,
            lives: Lifetimes::NONE,
            counters: Counters::ZERO,
        }
    }

    /// Says which router may be the gateway, and who we are there.
    pub fn handle_link(&mut self, link: Option<(Ipv4Addr, Ipv4Addr)>, now: Instant) {
        if self.link == link {
            return;
        }
        self.link = link;
        self.external = None;
        self.permanent = false;
        self.table.clear();
        self.doing = self.doing.map(|_| Doing::Stale);
        self.state = match link {
            None => State::Off,
            Some(_) => State::Searching {
                backoff: Backoff::UPNP,
                due: now,
            },
        };
    }

    /// Learns how long ports are open here.
    pub fn handle_snapshot(&mut self, snapshot: &Arc<Snapshot>) {
        self.lives = Lifetimes::new(snapshot);
    }

    /// Wants a port to be open, for a server of ours and for everybody: who may come in cannot be
    /// said by igd-next, and is looked at here.
    pub fn handle_open(&mut self, key: PortKey, server: Ipv4Addr) {
        let port = self.table.want(key, || {
            Port::new(server, Arc::default(), MappingNonce([0; 12]))
        });
        port.server = server;
        if matches!(port.phase, Phase::Closing { .. }) {
            port.phase = Phase::FRESH;
        }
        if matches!(port.phase, Phase::Asking { backoff: None, .. }) {
            self.table.line_up(key);
        }
    }

    /// Wants a port to be closed.
    pub fn handle_close(&mut self, key: PortKey) {
        let adding = matches!(self.doing, Some(Doing::Add { key: other, .. }) if other == key);
        let Some(port) = self.table.get_mut(key) else {
            return;
        };
        if adding || port.granted.is_some() {
            port.phase = Phase::CLOSING;
            self.table.line_up(key);
        } else {
            self.table.forget(key);
        }
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(key) = self.table.pop_due(now) {
            let Some(port) = self.table.get_mut(key) else {
                continue;
            };
            if !matches!(port.phase, Phase::Closing { .. }) {
                port.phase = Phase::FRESH;
            }
            self.table.line_up(key);
        }
    }

    /// Returns what is to be done next; nothing while something is being done.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        let (None, Some((router, local))) = (self.doing, self.link) else {
            return None;
        };
        let (doing, action) = match &mut self.state {
            State::Searching { backoff, due } if *due <= now => {
                let multicast = backoff.sent() % 2 == 1;
                *due = now + backoff.wait(&mut self.rng);
                let action = Action::Search {
                    router,
                    local,
                    multicast,
                };
                (Doing::Search, action)
            }
            State::Ready { look } if *look <= now => {
                *look = now + LOOK;
                (Doing::ExternalAddress, Action::ExternalAddress)
            }
            State::Ready { .. } => {
                let key = self.table.next()?;
                self.act(key, local, now)?
            }
            State::Off | State::Searching { .. } => return None,
        };
        self.counters.requests = self.counters.requests.saturating_add(1);
        self.doing = Some(doing);
        Some(action)
    }

    fn act(&mut self, key: PortKey, local: Ipv4Addr, now: Instant) -> Option<(Doing, Action)> {
        let port = self.table.get_mut(key)?;
        let (_, external) = port.suggestion(key);
        if matches!(port.phase, Phase::Closing { .. }) {
            let action = Action::Remove {
                external,
                protocol: key.protocol,
            };
            return Some((Doing::Remove(key), action));
        }
        port.phase = Phase::Asking {
            backoff: Some(Backoff::UPNP),
            first: Instant::default(),
        };
        let lease = self.lease(key, now);
        Some(Self::add(key, external, local, lease, false))
    }

    fn lease(&self, key: PortKey, now: Instant) -> u32 {
        let Some(port) = self.table.get(key).filter(|_| !self.permanent) else {
            return 0;
        };
        let left = self.lives.left(key, port.server, LEASE, now);
        u32::try_from(left.as_secs()).unwrap_or(u32::MAX)
    }

    fn add(key: PortKey, external: u16, local: Ipv4Addr, lease: u32, any: bool) -> (Doing, Action) {
        let action = Action::Add {
            external,
            internal: SocketAddrV4::new(local, key.port.get()),
            protocol: key.protocol,
            lease,
            any,
        };
        (Doing::Add { key, any, lease }, action)
    }

    /// Takes what became of the action; returns what is to be done at once instead.
    pub fn handle_answer(&mut self, answer: Answer, now: Instant) -> Option<Action> {
        let doing = self.doing.take()?;
        match (doing, answer) {
            (Doing::Stale, _) => {}
            (_, Answer::Failed(Failure::Unreachable)) => self.handle_lost(doing, now),
            (Doing::Search, Answer::Found) => {
                self.state = State::Ready { look: now };
                self.table.line_up_asking();
            }
            (Doing::ExternalAddress, Answer::ExternalAddress(addr)) => self.external = addr,
            (Doing::ExternalAddress, Answer::Failed(_)) => self.external = None,
            (Doing::Remove(key), _) => {
                // a port that is wanted again was asked for anew
                let closing = self.table.get(key).map(|port| port.phase);
                if matches!(closing, Some(Phase::Closing { .. })) {
                    self.table.forget(key);
                }
            }
            (Doing::Add { key, lease, .. }, Answer::Added { external }) => {
                self.handle_added(key, external, lease, now);
            }
            (Doing::Add { key, any, .. }, Answer::Failed(failure)) => {
                return self.handle_refused(key, any, failure, now);
            }
            _ => {}
        }
        None
    }

    fn handle_added(&mut self, key: PortKey, external: u16, lease: u32, now: Instant) {
        let addr = self.external;
        let Some(port) = self.table.get_mut(key) else {
            return;
        };
        let lifetime = match lease {
            0 => LIFETIME_MAX,
            lease => Duration::from_secs(lease.into()),
        };
        port.granted = Some(Granted {
            addr,
            port: external,
            at: now,
            lifetime,
        });
        if matches!(port.phase, Phase::Closing { .. }) {
            return;
        }
        port.phase = Phase::Open { renewals: 0 };
        self.counters.granted = self.counters.granted.saturating_add(1);
        let due = renewal(now, lifetime, 0, now, &mut self.rng);
        self.table.set_due(key, Some(due.unwrap_or(now + lifetime)));
    }

    fn handle_refused(
        &mut self,
        key: PortKey,
        any: bool,
        failure: Failure,
        now: Instant,
    ) -> Option<Action> {
        let (_, local) = self.link?;
        let why = match failure {
            Failure::OnlyPermanent if !self.permanent => {
                self.permanent = true;
                return self.begin(key, local, any, now);
            }
            // RFC 6970 §5.6.2: where another port will do, another one is asked for
            Failure::Conflict if !any => return self.begin(key, local, true, now),
            Failure::Conflict => "conflict",
            Failure::OnlyPermanent => "only_permanent_leases",
            Failure::Refused(why) => why,
            Failure::Unreachable => "unreachable",
        };
        let port = self.table.get_mut(key)?;
        if matches!(port.phase, Phase::Closing { .. }) {
            return None;
        }
        let until = now + REFUSED_FOR;
        port.phase = Phase::Refused {
            why: Refused::Upnp(why),
            until,
        };
        self.counters.refused = self.counters.refused.saturating_add(1);
        self.table.set_due(key, Some(until));
        None
    }

    fn begin(&mut self, key: PortKey, local: Ipv4Addr, any: bool, now: Instant) -> Option<Action> {
        let (_, external) = self.table.get(key)?.suggestion(key);
        let lease = self.lease(key, now);
        let (doing, action) = Self::add(key, external, local, lease, any);
        self.counters.requests = self.counters.requests.saturating_add(1);
        self.doing = Some(doing);
        Some(action)
    }

    /// The gateway is gone; whoever is found next is told everything anew.
    fn handle_lost(&mut self, doing: Doing, now: Instant) {
        if doing == Doing::Search {
            return;
        }
        self.external = None;
        self.counters.losses = self.counters.losses.saturating_add(1);
        self.table.clear();
        self.state = State::Searching {
            backoff: Backoff::UPNP,
            due: now,
        };
    }

    /// Returns when to look again, for [`Self::handle_timeout`] and [`Self::poll_action`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.doing.is_some() {
            return self.table.first_due();
        }
        let own = match self.state {
            State::Off => None,
            State::Ready { look } => Some(look),
            State::Searching { due, .. } => Some(due),
        };
        own.into_iter().chain(self.table.first_due()).min()
    }

    /// Tells whether a gateway is there.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Returns the router and our address there.
    #[must_use]
    pub const fn link(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        self.link
    }

    /// Returns the address by which the Internet knows us, as far as the gateway told.
    #[must_use]
    pub const fn external(&self) -> Option<IpAddr> {
        self.external
    }

    /// Iterates over the ports, in order.
    pub fn ports(&self) -> impl Iterator<Item = (PortKey, Ipv4Addr, PortState)> {
        self.table.states()
    }

    /// Returns the counters.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// WANIPConnection:2 §2.3.16 recommends an hour, and it is not long after a restart of the
/// gateway, which UPnP tells nobody.
const LEASE: Duration = Duration::from_hours(1);

/// How often the external address is asked for: thus a gateway that is gone is found out.
const LOOK: Duration = Duration::from_mins(5);

/// What a gateway refuses it refuses for a while.
const REFUSED_FOR: Duration = Duration::from_mins(30);

#[cfg(test)]
mod tests;
