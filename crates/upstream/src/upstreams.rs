//! All upstream gateways together: one for each family, and who carries which port.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mapping::{Instant, Snapshot};
use rand::{Rng, SeedableRng};

use crate::client::{Client, Dialect, Speaks};
use crate::counters::Counters;
use crate::port::{PortKey, PortState};
use crate::reach::{Reach, reach};
use crate::upnp::{Action, Answer, Upnp};
use crate::wanted::{Wanted, Wish};

/// Which protocols are spoken with upstream gateways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// PCP where it is answered, else NAT-PMP, else UPnP; and nothing on IPv4 that has a public
    /// address.
    #[default]
    Auto,
    /// NAT-PMP alone.
    NatPmp,
    /// None.
    Off,
    /// PCP alone.
    Pcp,
    /// UPnP alone.
    Upnp,
}

impl Mode {
    /// Returns the name used in the configuration and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::NatPmp => "nat-pmp",
            Self::Off => "off",
            Self::Pcp => "pcp",
            Self::Upnp => "upnp",
        }
    }
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whom to ask, and as whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The gateway: by RFC 6887 §8.1 the default router.
    pub server: IpAddr,
    /// Our own address towards it.
    pub local: IpAddr,
}

/// A datagram for port 5351 of a family's gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Which gateway.
    pub family: Family,
    /// What it is told.
    pub bytes: Vec<u8>,
}

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// A gateway is to be asked again, or a port to be renewed.
    Ask,
}

/// What the chain of gateways looks like from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The family.
    pub family: Family,
    /// `nat-pmp`, `pcp` or `upnp`, once a gateway has answered.
    pub kind: Option<&'static str>,
    /// Whom we ask.
    pub link: Link,
    /// The address by which the Internet knows us, as far as anybody told.
    pub external: Option<IpAddr>,
}

impl Chain {
    /// Tells what the outermost address that is known says.
    #[must_use]
    pub fn reach(&self) -> Reach {
        let own = reach(self.link.local);
        match (self.family, self.external, own) {
            (Family::V4, Some(external), Reach::Public | Reach::Private) => reach(external),
            // an address of the provider's own translator is proof, whatever else is told
            (Family::V4, _, own) => own,
            // our own address says nothing: what is opened has addresses in the prefix
            (Family::V6, external, _) => external.map_or(Reach::Public, reach),
        }
    }

    /// Tells whether the provider's own translator stands between this home and the Internet: by
    /// its shared addresses, or because the gateway in front of us has a private address itself.
    #[must_use]
    pub fn is_carrier_nat(&self) -> bool {
        match self.reach() {
            Reach::CarrierNat => true,
            Reach::Private => self.family == Family::V4 && self.external.is_some(),
            Reach::Public => false,
        }
    }
}

/// The machine of the room.
#[derive(Debug)]
pub struct Upstreams<R> {
    mode: Mode,
    wanted: Wanted,
    v4: Client<R>,
    v6: Client<R>,
    upnp: Upnp<R>,
    /// What is wanted on IPv4; it changes hands between `v4` and `upnp`.
    shared: BTreeMap<PortKey, Wish>,
    by_upnp: bool,
    link_v4: Option<Link>,
}

impl<R: Rng + SeedableRng> Upstreams<R> {
    /// Makes the machine; `secret` must be the same after a restart.
    pub fn new(mode: Mode, secret: [u8; 16], mut rng: R) -> Self {
        let pcp = matches!(mode, Mode::Auto | Mode::Pcp);
        let nat_pmp = matches!(mode, Mode::Auto | Mode::NatPmp);
        let over_v4 = Speaks { pcp, nat_pmp };
        let over_v6 = Speaks {
            pcp,
            nat_pmp: false, // it knows IPv4 only
        };
        Self {
            mode,
            wanted: Wanted::default(),
            v4: Client::new(over_v4, secret, R::from_rng(&mut rng)),
            v6: Client::new(over_v6, secret, R::from_rng(&mut rng)),
            upnp: Upnp::new(R::from_rng(&mut rng)),
            shared: BTreeMap::new(),
            by_upnp: false,
            link_v4: None,
        }
    }
}

impl<R: Rng> Upstreams<R> {
    /// Says whom to ask over IPv4 and IPv6.
    pub fn handle_links(&mut self, v4: Option<Link>, v6: Option<Link>, now: Instant) {
        let pcp = matches!(self.mode, Mode::Auto | Mode::Pcp);
        self.v6.handle_link(v6.filter(|_| pcp), now);
        // RFC 7648 §3.2: with a public address of our own nobody stands in front of us
        let behind = |link: &Link| self.mode != Mode::Auto || reach(link.local) != Reach::Public;
        self.link_v4 = v4.filter(behind).filter(|_| self.mode != Mode::Off);
        let asked = self.link_v4.filter(|_| self.mode != Mode::Upnp);
        self.v4.handle_link(asked, now);
        self.settle(now);
    }

    /// Follows the snapshot.
    pub fn handle_snapshot(&mut self, snapshot: &Arc<Snapshot>, now: Instant) {
        if self.mode == Mode::Off {
            return;
        }
        self.v4.handle_snapshot(snapshot);
        self.v6.handle_snapshot(snapshot);
        self.upnp.handle_snapshot(snapshot);
        let wishes = self.wanted.handle_snapshot(snapshot);
        for key in wishes.close {
            self.close(key, now);
        }
        for wish in wishes.open {
            self.open(wish, now);
        }
    }

    /// Wants a port to be open at the gateway of its family.
    pub fn open(&mut self, wish: Wish, now: Instant) {
        if wish.key.addr.is_ipv6() {
            return self.v6.handle_open(&wish, now);
        }
        if self.by_upnp {
            self.upnp.handle_open(wish.key, wish.server);
        } else {
            self.v4.handle_open(&wish, now);
        }
        self.shared.insert(wish.key, wish);
    }

    /// Wants a port to be closed.
    pub fn close(&mut self, key: PortKey, now: Instant) {
        if key.addr.is_ipv6() {
            return self.v6.handle_close(key, now);
        }
        self.shared.remove(&key);
        if self.by_upnp {
            self.upnp.handle_close(key);
        } else {
            self.v4.handle_close(key, now);
        }
    }

    /// Takes a datagram of a family's gateway.
    pub fn handle_datagram(&mut self, bytes: &[u8], source: SocketAddr, now: Instant) {
        if source.ip().to_canonical().is_ipv4() {
            self.v4.handle_datagram(bytes, source, now);
        } else {
            self.v6.handle_datagram(bytes, source, now);
        }
        self.settle(now);
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.v4.handle_timeout(now);
        self.v6.handle_timeout(now);
        self.upnp.handle_timeout(now);
        self.settle(now);
    }

    /// Takes what became of an action; returns what is to be done at once instead.
    pub fn handle_answer(&mut self, answer: Answer, now: Instant) -> Option<Action> {
        let next = self.upnp.handle_answer(answer, now);
        self.settle(now);
        next
    }

    /// Who carries the ports of IPv4: UPnP from when it is found until it is lost, the other two
    /// else. They never hold the same port, because to the gateway it is one.
    fn settle(&mut self, now: Instant) {
        let may = match self.mode {
            Mode::Auto => self.upnp.is_ready() || self.v4.is_silent(),
            Mode::Upnp => true,
            Mode::NatPmp | Mode::Off | Mode::Pcp => false,
        };
        let link = self.link_v4.filter(|_| may);
        let link = link.and_then(|link| match (link.server, link.local) {
            (IpAddr::V4(server), IpAddr::V4(local)) => Some((server, local)),
            _ => None,
        });
        self.upnp.handle_link(link, now);
        let by_upnp = self.upnp.is_ready();
        if self.by_upnp == by_upnp {
            return;
        }
        self.by_upnp = by_upnp;
        for (key, wish) in &self.shared {
            if by_upnp {
                self.v4.handle_close(*key, now);
                self.upnp.handle_open(*key, wish.server);
            } else {
                self.v4.handle_open(wish, now);
            }
        }
    }

    /// Returns the next datagram.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let family = |family| move |bytes| Transmit { family, bytes };
        let over_v6 = self.v6.poll_transmit().map(family(Family::V6));
        over_v6.or_else(|| self.v4.poll_transmit().map(family(Family::V4)))
    }

    /// Returns what UPnP is to do next.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.upnp.poll_action(now)
    }

    /// Returns when to call [`Self::handle_timeout`] and [`Self::poll_action`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let all = [
            self.v4.poll_timeout(),
            self.v6.poll_timeout(),
            self.upnp.poll_timeout(),
        ];
        all.into_iter().flatten().min().map(|at| (at, Timer::Ask))
    }

    /// Returns the mode.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns whom we ask, and what we learned: IPv4 first.
    #[must_use]
    pub fn chain(&self) -> Vec<Chain> {
        let mut chain = Vec::new();
        if let Some(link) = self.link_v4 {
            let by_upnp = self.by_upnp.then_some("upnp");
            let external = if self.by_upnp {
                self.upnp.external()
            } else {
                self.v4.external()
            };
            chain.push(Chain {
                family: Family::V4,
                kind: by_upnp.or_else(|| kind(self.v4.dialect())),
                link,
                external,
            });
        }
        if let Some(link) = self.v6.link() {
            chain.push(Chain {
                family: Family::V6,
                kind: kind(self.v6.dialect()),
                link,
                external: self.v6.external(),
            });
        }
        chain
    }

    /// Iterates over the ports: those of IPv4 first, in order.
    pub fn ports(&self) -> impl Iterator<Item = (PortKey, Ipv4Addr, PortState)> {
        let by_upnp = self.upnp.ports().filter(|_| self.by_upnp);
        self.v4.ports().chain(by_upnp).chain(self.v6.ports())
    }

    /// Returns what all of them count.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::ZERO;
        counters.add(self.v4.counters());
        counters.add(self.v6.counters());
        counters.add(self.upnp.counters());
        counters
    }
}

const fn kind(dialect: Dialect) -> Option<&'static str> {
    match dialect {
        Dialect::NatPmp => Some("nat-pmp"),
        Dialect::Pcp => Some("pcp"),
        Dialect::Absent | Dialect::Other | Dialect::Probing => None,
    }
}

#[cfg(test)]
mod tests;
