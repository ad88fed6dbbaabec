//! The JSON of the API: snake case, whole seconds with the unit in the name, times as seconds
//! since 1970.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use gateway::{AuditPage, Count, LogEntry, LogPage, Session};
use mapping::{Expiry, Generation, Host, Now, Snapshot};
use serde::{Deserialize, Serialize};

mod port;
mod upstream;

pub use port::{
    Approval, HostPatch, MappingView, NewMapping, PermissionView, PinholeView, PolicyPatch,
    PolicyView,
};
pub use upstream::{UpstreamGatewayView, UpstreamPortView, UpstreamView};

/// `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// How long the program runs.
    pub uptime_s: u64,
    /// Set while no interface has been given a role: nothing but this API is served.
    pub observing: bool,
    /// Where the servers are.
    pub lan: Lan,
    /// Where the provider is.
    pub wan: Wan,
    /// The zone and its serial.
    pub zone: Zone,
    /// Hosts that are here.
    pub hosts: usize,
    /// Open ports.
    pub mappings: usize,
    /// Requests about which a person is asked.
    #[serde(default)]
    pub waiting: usize,
    /// The newest revision.
    pub revision: u64,
    /// The state of each part of the program.
    pub rooms: Vec<Room>,
}

/// The LAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lan {
    /// Its interface, absent while observing.
    pub interface: Option<String>,
    /// Its network.
    pub subnet: String,
    /// Our address.
    pub gateway: Ipv4Addr,
    /// The translator's networks, separated by commas.
    pub pool: String,
}

/// The WAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wan {
    /// Its interface, absent while observing.
    pub interface: Option<String>,
    /// Our global addresses.
    pub addresses: Vec<Ipv6Addr>,
    /// What the provider delegated, as DNS publishes it.
    pub delegated: Option<String>,
    /// Where the servers appear.
    pub nsp: Option<String>,
}

/// The zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// The zone's name, without a trailing dot.
    pub name: String,
    /// The SOA serial.
    pub serial: u32,
}

/// A part of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The part's name, such as `dns`.
    pub room: String,
    /// `serving`, `off` or `failed`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// What the page shows.
    pub items: Vec<T>,
    /// The `cursor` of the next page, absent on the last one.
    pub next: Option<String>,
}

/// An element of `GET /api/v1/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// What names it in the API.
    pub mac: String,
    /// Its label.
    pub name: String,
    /// Its name in DNS.
    pub fqdn: String,
    /// Its private address.
    pub ipv4: Ipv4Addr,
    /// Its public address, absent while no prefix is delegated.
    pub ipv6: Option<Ipv6Addr>,
    /// Whether it has a lease.
    pub here: bool,
    /// What is left of its lease.
    pub lease_expires_in_s: Option<u64>,
    /// What it calls itself.
    pub declared_name: Option<String>,
    /// When it was first seen.
    pub first_seen: u64,
    /// Its open ports.
    pub mappings: Vec<MappingView>,
    /// The ports about which a person is asked.
    #[serde(default)]
    pub waiting: Vec<MappingView>,
    /// What it may do.
    pub policy: PolicyView,
}

/// An element of `GET /api/v1/prefixes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixView {
    /// The number of the generation.
    pub generation: u32,
    /// What was delegated.
    pub delegated: String,
    /// Where the servers appear.
    pub nsp: String,
    /// Whether DNS publishes it.
    pub preferred: bool,
    /// When it ends; absent while the provider has not said.
    pub valid_for_s: Option<u64>,
}

/// The body of `POST /api/v1/prefixes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPrefix {
    /// What was delegated.
    pub delegated: String,
    /// How long the prefixes before stay valid.
    pub old_valid_s: u64,
}

/// An element of `GET /api/v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// What names it in the API while it lives.
    pub id: String,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// The remote.
    pub remote: Endpoint<Ipv6Addr>,
    /// What the remote calls the server.
    pub external: Endpoint<Ipv6Addr>,
    /// What the server calls the remote.
    pub pool: Endpoint<Ipv4Addr>,
    /// The server.
    pub server: Endpoint<Ipv4Addr>,
    /// Where it stands.
    pub state: String,
    /// How long it has been alive.
    pub age_s: u64,
    /// When it ends if nothing more is heard.
    pub expires_in_s: u64,
    /// Packets from the remote.
    pub packets_in: u64,
    /// Packets to the remote.
    pub packets_out: u64,
    /// Bytes from the remote.
    pub bytes_in: u64,
    /// Bytes to the remote.
    pub bytes_out: u64,
}

/// The parameters of `/api/v1/sessions` that choose sessions: those that fit everything said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionChoice {
    /// A port of servers, as remotes know it.
    pub external_port: Option<u16>,
    /// A pool address, or one with a port such as `192.168.64.193:4000`.
    pub pool: Option<String>,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: Option<String>,
    /// A remote address or prefix.
    pub remote: Option<String>,
    /// A server's name, MAC or address.
    pub server: Option<String>,
    /// A state as [`SessionView::state`] shows it.
    pub state: Option<String>,
}

impl SessionChoice {
    /// Returns the parameters that are said.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let port = self.external_port.map(|port| port.to_string());
        let said = [
            ("external_port", &port),
            ("pool", &self.pool),
            ("protocol", &self.protocol),
            ("remote", &self.remote),
            ("server", &self.server),
            ("state", &self.state),
        ];
        said.into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect()
    }
}

/// The answer to `DELETE /api/v1/sessions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedView {
    /// How many sessions were ended.
    pub ended: u64,
}

/// `GET /api/v1/sessions/log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// The sessions.
    pub items: Vec<LoggedView>,
    /// The `cursor` of the next page, absent on the last one.
    pub next: Option<String>,
    /// From when on the log knows everything; absent if no log is kept.
    pub since: Option<u64>,
}

/// An element of `GET /api/v1/sessions/log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedView {
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// The remote.
    pub remote: Endpoint<Ipv6Addr>,
    /// What the remote called the server.
    pub external: Endpoint<Ipv6Addr>,
    /// What the server called the remote.
    pub pool: Endpoint<Ipv4Addr>,
    /// The server.
    pub server: Endpoint<Ipv4Addr>,
    /// When it began.
    pub began: u64,
    /// When it ended, absent if it goes on.
    pub ended: Option<u64>,
    /// `closed`, `evicted`, `expired`, `lost` or `requested`; absent if it goes on.
    pub why: Option<String>,
    /// Packets from the remote.
    pub packets_in: u64,
    /// Packets to the remote.
    pub packets_out: u64,
    /// Bytes from the remote.
    pub bytes_in: u64,
    /// Bytes to the remote.
    pub bytes_out: u64,
}

/// An address and a port, or an ICMP identifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint<A> {
    /// The address.
    pub address: A,
    /// The port.
    pub port: u16,
}

/// An element of `GET /api/v1/counters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterView {
    /// Whose counter.
    pub room: String,
    /// What is counted.
    pub name: String,
    /// Which of its kinds.
    pub reason: String,
    /// The value: of a `_total` a sum since the start, else what there is now.
    pub value: u64,
}

/// An element of `GET /api/v1/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditView {
    /// Its number, rising.
    pub id: u64,
    /// When it happened, in seconds since 1970.
    pub at: u64,
    /// Who did it: `cli`, `dhcp`, `nat-pmp`, `pcp`, `policy`, `upnp` or `wan`.
    pub actor: String,
    /// What was done, such as `mapping.opened`.
    pub action: String,
    /// To what.
    pub target: String,
}

/// What an event of `GET /api/v1/events` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventData {
    /// `host.appeared`, `host.gone`, `host.named` and `host.policy`.
    Host(HostView),
    /// `mapping.opened`, `mapping.renewed`, `mapping.requested` and `mapping.denied`.
    Mapping(MappingView),
    /// `mapping.closed`.
    Closed {
        /// The mapping as it was.
        mapping: MappingView,
        /// `denied`, `expired`, `host-gone`, `removed` or `superseded`.
        reason: String,
    },
    /// `pinhole.opened`, `pinhole.renewed` and `pinhole.closed`.
    Pinhole(PinholeView),
    /// `prefix.changed` and `prefix.withdrawn`.
    Prefix(PrefixView),
    /// `wan.changed`.
    Wan {
        /// Our global addresses.
        addresses: Vec<Ipv6Addr>,
    },
}

/// A problem document (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is wrong, in general.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here.
    pub detail: String,
}

impl HostView {
    /// Shows a host.
    #[must_use]
    pub fn new(host: &Host, snapshot: &Snapshot, now: Now) -> Self {
        let mappings = snapshot.mappings_of(host.addr);
        Self {
            mac: host.mac.to_string(),
            name: host.name.to_string(),
            fqdn: format!("{}.{}", host.name, snapshot.site().zone()),
            ipv4: host.addr,
            ipv6: snapshot.external_address(host.addr),
            here: host.lease.is_some(),
            lease_expires_in_s: host.lease.map(|lease| left(snapshot, lease.expires, now)),
            declared_name: host.declared_name.clone(),
            first_seen: host.first_seen.as_secs(),
            mappings: mappings
                .map(|mapping| MappingView::new(mapping, snapshot, now))
                .collect(),
            waiting: snapshot
                .waiting_of(host.mac)
                .map(|waiting| MappingView::waiting(waiting, snapshot, now))
                .collect(),
            policy: PolicyView::new(host, snapshot, now),
        }
    }

    /// Tells whether a search text fits the host.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        self.fqdn.contains(&text)
            || self.mac.contains(&text)
            || self.ipv4.to_string().contains(&text)
            || self
                .ipv6
                .is_some_and(|addr| addr.to_string().contains(&text))
    }
}

impl PrefixView {
    /// Shows a generation.
    #[must_use]
    pub fn new(generation: &Generation, snapshot: &Snapshot, now: Now) -> Self {
        Self {
            generation: generation.id.0,
            delegated: generation.delegated.to_string(),
            nsp: generation.nsp.to_string(),
            preferred: generation.preferred,
            valid_for_s: generation
                .valid_until
                .map(|expiry| left(snapshot, expiry, now)),
        }
    }
}

impl SessionView {
    /// Shows a session.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        let (ends, traffic) = (&session.ends, &session.traffic);
        Self {
            id: session.id.to_string(),
            protocol: ends.protocol.as_str().to_owned(),
            remote: ends.remote.into(),
            external: ends.external.into(),
            pool: ends.pool.into(),
            server: ends.server.into(),
            state: session.state.as_str().to_owned(),
            age_s: session.age.as_secs(),
            expires_in_s: session.expires_in.as_secs(),
            packets_in: traffic.packets_in,
            packets_out: traffic.packets_out,
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
        }
    }
}

impl LoggedView {
    /// Shows a session of the log.
    #[must_use]
    pub fn new(entry: &LogEntry) -> Self {
        let (ends, traffic) = (&entry.ends, &entry.traffic);
        Self {
            protocol: ends.protocol.as_str().to_owned(),
            remote: ends.remote.into(),
            external: ends.external.into(),
            pool: ends.pool.into(),
            server: ends.server.into(),
            began: entry.began.as_secs(),
            ended: entry.ended.map(|end| end.at.as_secs()),
            why: entry.ended.map(|end| end.why.as_str().to_owned()),
            packets_in: traffic.packets_in,
            packets_out: traffic.packets_out,
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
        }
    }
}

impl From<LogPage> for LogView {
    fn from(page: LogPage) -> Self {
        Self {
            items: page.entries.iter().map(LoggedView::new).collect(),
            next: page.next.map(|cursor| cursor.0.to_string()),
            since: page.since.map(mapping::Wall::as_secs),
        }
    }
}

impl<A> From<(A, u16)> for Endpoint<A> {
    fn from((address, port): (A, u16)) -> Self {
        Self { address, port }
    }
}

impl From<AuditPage> for Page<AuditView> {
    fn from(page: AuditPage) -> Self {
        let items = page.lines.into_iter().map(|line| AuditView {
            id: line.id,
            at: line.entry.at.as_secs(),
            actor: line.entry.requester.as_str().to_owned(),
            action: line.entry.action.as_str().to_owned(),
            target: line.entry.target,
        });
        Self {
            items: items.collect(),
            next: page.next.map(|cursor| cursor.0.to_string()),
        }
    }
}

impl CounterView {
    /// Shows a counter.
    #[must_use]
    pub fn new(room: &str, count: Count) -> Self {
        Self {
            room: room.to_owned(),
            name: count.name.to_owned(),
            reason: count.reason.to_owned(),
            value: count.value,
        }
    }
}

/// Rounds up, so that what has not ended never shows zero.
fn left(snapshot: &Snapshot, expiry: Expiry, now: Now) -> u64 {
    let left = snapshot.remaining(expiry, now);
    left.saturating_add(Duration::from_nanos(999_999_999))
        .as_secs()
}
