//! Answers a question from a snapshot: the zone of the home and its reverse zones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use mapping::{Generation, Host, Now, ServerName, Site, Snapshot};

mod reverse;

/// Who asks: only the LAN sees private addresses (RFC 9526 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A host of the LAN, on the LAN's listener.
    Lan,
    /// Anybody else.
    Public,
}

impl View {
    /// Returns what a source sees at a listener of this view: whoever is not of the LAN sees
    /// what everybody sees, wherever it asks.
    #[must_use]
    pub fn of(self, source: IpAddr, site: &Site) -> Self {
        let near = match source {
            IpAddr::V4(v4) => v4.is_loopback() || site.contains(v4),
            IpAddr::V6(v6) => v6.is_loopback(),
        };
        if near { self } else { Self::Public }
    }
}

/// The zones of which a snapshot is the only source: that of the home, `ip6.arpa` of the
/// preferred NSP, and for the LAN `in-addr.arpa` of its subnet.
///
/// ```
/// use dns::zone::{Answer, View, Zone};
/// use hickory_proto::rr::{Name, RecordType};
/// use mapping::{BootId, Core, Instant, Now, Policy, Site, Wall};
///
/// let now = Now { mono: Instant::from_nanos(0), wall: Wall::from_secs(1_800_000_000) };
/// let site = Site::new("192.168.64.1".parse()?, 24, "home.example".to_owned())?;
/// let core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
/// let zone = Zone::new(std::time::Duration::from_secs(60));
///
/// let name = Name::from_ascii("camera.home.example.")?;
/// let answer = zone.answer(core.snapshot(), View::Public, &name, RecordType::AAAA, now);
/// assert!(matches!(answer, Answer::NoName(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Zone {
    ttl: u32,
}

/// What the zones say to a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The name lies in none of our zones.
    Elsewhere,
    /// The records asked for.
    Found {
        /// Of the type asked for, all with the name asked for.
        records: Vec<Record>,
        /// Addresses of name servers.
        glue: Vec<Record>,
    },
    /// The name exists, but has no such record; the SOA says for how long (RFC 2308 §2.2).
    NoData(Record),
    /// The name does not exist (RFC 2308 §2.1).
    NoName(Record),
}

impl Zone {
    /// Makes the zones with the time to live of their records, at least a second.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self { ttl: seconds(ttl) }
    }

    /// Answers a question of class IN from a snapshot.
    #[must_use]
    pub fn answer(
        &self,
        snapshot: &Snapshot,
        view: View,
        name: &Name,
        kind: RecordType,
        now: Now,
    ) -> Answer {
        let Some(home) = home(snapshot) else {
            return Answer::Elsewhere;
        };
        let Some(place) = locate(snapshot, view, &home, name) else {
            return Answer::Elsewhere;
        };
        let facts = Facts {
            zone: self,
            snapshot,
            view,
            home: &home,
            now,
        };
        if matches!(place.node, Node::Absent) {
            return Answer::NoName(facts.soa(place.apex));
        }
        let datas = match kind {
            // RFC 8482 §4.1: one set is enough
            RecordType::ANY => MINIMAL_ANY
                .into_iter()
                .map(|kind| facts.rrset(&place.node, kind))
                .find(|datas| !datas.is_empty())
                .unwrap_or_default(),
            kind => facts.rrset(&place.node, kind),
        };
        if datas.is_empty() {
            return Answer::NoData(facts.soa(place.apex));
        }
        let ttl = facts.ttl_of(&place.node);
        let records = datas.into_iter().map(|(data, dated)| {
            let ttl = if dated { ttl } else { self.ttl };
            Record::from_rdata(name.clone(), ttl, data)
        });
        let glue = if kind == RecordType::NS {
            facts.glue()
        } else {
            Vec::new()
        };
        Answer::Found {
            records: records.collect(),
            glue,
        }
    }
}

/// Returns the apex of the home's zone, `None` if the site's zone is no name.
#[must_use]
pub fn home(snapshot: &Snapshot) -> Option<Name> {
    let mut name = Name::from_ascii(snapshot.site().zone()).ok()?;
    name.set_fqdn(true);
    (!name.is_root()).then_some(name)
}

/// Returns the name of our name server in the zone `home`.
#[must_use]
pub fn name_server(home: &Name) -> Name {
    home.prepend_label(NAME_SERVER)
        .unwrap_or_else(|_| home.clone())
}

/// Where a name lies.
struct Place {
    apex: Name,
    node: Node,
}

/// What is there.
enum Node {
    /// Nothing, and nothing below it.
    Absent,
    /// The top of a zone.
    Apex,
    /// Nothing, but there is something below it.
    Empty,
    /// A host that has a lease.
    Host(Arc<Host>),
    /// Our own name server.
    NameServer,
    /// An address of a host, in its reverse zone.
    Pointer {
        target: Name,
        /// Whether the address is one of the NSP's, which ends with its generation.
        embedded: bool,
    },
}

fn locate(snapshot: &Snapshot, view: View, home: &Name, name: &Name) -> Option<Place> {
    if home.zone_of(name) {
        let node = node_of_home(snapshot, home, name);
        return Some(Place {
            apex: home.clone(),
            node,
        });
    }
    reverse::locate_v6(snapshot, home, name).or_else(|| match view {
        View::Lan => reverse::locate_v4(snapshot, home, name),
        View::Public => None,
    })
}

fn node_of_home(snapshot: &Snapshot, home: &Name, name: &Name) -> Node {
    let depth = name.iter().count().saturating_sub(home.iter().count());
    let mut labels = name.iter();
    match (depth, labels.next()) {
        (0, _) => Node::Apex,
        (1, Some(label)) if label.eq_ignore_ascii_case(NAME_SERVER.as_bytes()) => Node::NameServer,
        (1, Some(label)) => leased(snapshot, label).map_or(Node::Absent, Node::Host),
        _ => Node::Absent,
    }
}

fn leased(snapshot: &Snapshot, label: &[u8]) -> Option<Arc<Host>> {
    let label: ServerName = std::str::from_utf8(label).ok()?.parse().ok()?;
    let host = snapshot.host_by_name(&label)?;
    host.lease.is_some().then(|| Arc::clone(host))
}

/// Everything that an answer is made of.
struct Facts<'a> {
    zone: &'a Zone,
    snapshot: &'a Snapshot,
    view: View,
    home: &'a Name,
    now: Now,
}

impl Facts<'_> {
    /// Returns the records of a type, each with whether it ends with the preferred generation.
    fn rrset(&self, node: &Node, kind: RecordType) -> Vec<(RData, bool)> {
        let lan = self.view == View::Lan;
        match (node, kind) {
            (Node::Apex, RecordType::SOA) => vec![(RData::SOA(self.soa_data()), false)],
            (Node::Apex, RecordType::NS) => vec![(RData::NS(NS(name_server(self.home))), false)],
            (Node::Host(host), RecordType::AAAA) => self.embedded(host.addr),
            (Node::Host(host), RecordType::A) if lan => vec![(RData::A(A(host.addr)), false)],
            (Node::NameServer, RecordType::AAAA) => self
                .own_addresses()
                .map(|addr| (RData::AAAA(AAAA(addr)), false))
                .collect(),
            (Node::NameServer, RecordType::A) if lan => {
                vec![(RData::A(A(self.snapshot.site().gateway())), false)]
            }
            (Node::Pointer { target, embedded }, RecordType::PTR) => {
                vec![(RData::PTR(PTR(target.clone())), *embedded)]
            }
            _ => Vec::new(),
        }
    }

    fn embedded(&self, addr: Ipv4Addr) -> Vec<(RData, bool)> {
        let embed = |generation: &Generation| RData::AAAA(AAAA(generation.nsp.embed(addr)));
        self.snapshot
            .preferred()
            .map(|preferred| (embed(preferred), true))
            .into_iter()
            .collect()
    }

    fn own_addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.snapshot.wan_addresses().iter().copied()
    }

    /// D-A1: at most half of what is left of the generation, so that no cache keeps an address
    /// past its end (RFC 9526 §12).
    fn ttl_of(&self, node: &Node) -> u32 {
        let dated = match node {
            Node::Host(_) => true,
            Node::Pointer { embedded, .. } => *embedded,
            Node::Absent | Node::Apex | Node::Empty | Node::NameServer => false,
        };
        let end = self
            .snapshot
            .preferred()
            .and_then(|preferred| preferred.valid_until);
        match end.filter(|_| dated) {
            Some(end) => seconds(self.snapshot.remaining(end, self.now) / 2).min(self.zone.ttl),
            None => self.zone.ttl,
        }
    }

    fn glue(&self) -> Vec<Record> {
        let name = name_server(self.home);
        let record = |data| Record::from_rdata(name.clone(), self.zone.ttl, data);
        let mut glue: Vec<_> = self
            .own_addresses()
            .take(MOST_GLUE)
            .map(|addr| record(RData::AAAA(AAAA(addr))))
            .collect();
        if self.view == View::Lan {
            glue.push(record(RData::A(A(self.snapshot.site().gateway()))));
        }
        glue
    }

    /// Returns the SOA that goes with a negative answer; its own TTL is not above its minimum
    /// (RFC 2308 §3).
    fn soa(&self, apex: Name) -> Record {
        Record::from_rdata(apex, self.zone.ttl, RData::SOA(self.soa_data()))
    }

    fn soa_data(&self) -> SOA {
        let mailbox = self
            .home
            .prepend_label(MAILBOX)
            .unwrap_or_else(|_| self.home.clone());
        let serial = self.snapshot.counters().serial;
        let primary = name_server(self.home);
        SOA::new(
            primary,
            mailbox,
            serial,
            REFRESH,
            RETRY,
            EXPIRE,
            self.zone.ttl,
        )
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs())
        .unwrap_or(LONGEST_TTL)
        .clamp(1, LONGEST_TTL)
}

/// Reserved by [`ServerName::is_reserved`].
const NAME_SERVER: &str = "ns1";

/// RFC 2142 §7.
const MAILBOX: &str = "hostmaster";

/// RFC 1912 §2.2: how often a secondary asks.
const REFRESH: i32 = 3600;

/// RFC 1912 §2.2: how soon it asks again.
const RETRY: i32 = 600;

/// RFC 1912 §2.2: when it gives up, two weeks.
const EXPIRE: i32 = 1_209_600;

/// RFC 2181 §8.
const LONGEST_TTL: u32 = 0x7fff_ffff;

/// More would make an answer that is many times longer than its question.
const MOST_GLUE: usize = 2;

/// Which type stands for all of a name.
const MINIMAL_ANY: [RecordType; 5] = [
    RecordType::AAAA,
    RecordType::A,
    RecordType::PTR,
    RecordType::SOA,
    RecordType::NS,
];

#[cfg(test)]
pub(crate) mod tests;
