//! Ports: those that are open, those that people are asked about, and what people decided.

use std::net::{Ipv4Addr, Ipv6Addr};

use mapping::{
    External, ExternalPort, Host, Mac, Mapping, Now, Permission, Pinhole, Snapshot, Waiting,
};
use serde::{Deserialize, Deserializer, Serialize};

use super::left;

/// An element of `GET /api/v1/mappings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingView {
    /// Its number.
    pub id: u64,
    /// `open`, or `waiting` while a person is asked about it.
    #[serde(default = "open")]
    pub state: String,
    /// The MAC of its host.
    pub host: String,
    /// The label of its host.
    pub name: String,
    /// The server's private address.
    pub server: Ipv4Addr,
    /// The server's own IPv6 address, where the port is, or is asked for as, a pinhole to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinhole: Option<Ipv6Addr>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The port at which remotes reach it.
    pub external_port: u16,
    /// Where the server listens.
    pub internal_port: u16,
    /// `ipv6`, `ipv4` or `both`: the external addresses at which it is reached.
    #[serde(default)]
    pub via: String,
    /// The remotes that it admits; empty for everybody.
    #[serde(default)]
    pub filters: Vec<String>,
    /// Who opened it: `pcp`, `nat-pmp`, `upnp`, `dashboard` or `cli`.
    pub requester: String,
    /// What it is for, as its client says.
    pub description: String,
    /// When it was opened, or first asked for.
    pub opened_at: u64,
    /// What is left of its life; absent if it is static.
    pub expires_in_s: Option<u64>,
}

/// A port of a host that has an IPv6 address of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinholeView {
    /// Its number.
    pub pinhole: u16,
    /// The MAC of its host.
    pub host: String,
    /// The host's address.
    pub addr: Ipv6Addr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where the host listens.
    pub port: u16,
    /// The remotes that it admits; empty for everybody.
    pub filters: Vec<String>,
    /// Who opened it.
    pub requester: String,
    /// What is left of its life.
    pub expires_in_s: u64,
}

/// The body of `POST /api/v1/mappings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMapping {
    /// The MAC or the label of the host.
    pub host: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where the server listens.
    pub internal_port: u16,
    /// The port at which remotes reach it; by default the internal port.
    #[serde(default)]
    pub external_port: Option<u16>,
    /// How long; by default until it is closed.
    #[serde(default)]
    pub for_s: Option<u64>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// The body of `PATCH /api/v1/hosts/{id}`; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPatch {
    /// The new label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it may do from now on; `null` for what the policy says.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub policy: Option<Option<PolicyPatch>>,
}

/// What a device may do from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyPatch {
    /// `ask`, `allow` or `deny`.
    pub access: String,
    /// `none`, `high`, `web-and-high` or `all`, if not the policy's class.
    #[serde(default)]
    pub ports: Option<String>,
    /// How many ports it may hold, if not as many as the policy says.
    #[serde(default)]
    pub quota: Option<u32>,
    /// For how long; by default until it is changed.
    #[serde(default)]
    pub for_s: Option<u64>,
}

/// What a device may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Whether a person decided about this device; else it is what the policy says.
    pub own: bool,
    /// `ask`, `allow` or `deny`.
    pub access: String,
    /// The class of ports that it opens by itself.
    pub ports: String,
    /// How many ports it may hold.
    pub quota: u32,
    /// When the policy holds for it again; absent if never.
    pub expires_in_s: Option<u64>,
}

/// The body of `POST /api/v1/mappings/{id}/approve`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// For how long; by default without an end.
    #[serde(default)]
    pub for_s: Option<u64>,
}

/// An element of `GET /api/v1/permissions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionView {
    /// The MAC of the host.
    pub host: String,
    /// The label of the host.
    pub name: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where the server listens.
    pub internal_port: u16,
    /// Whether the port may open.
    pub allow: bool,
    /// When it was decided.
    pub decided_at: u64,
    /// When it is asked about again; absent if never.
    pub expires_in_s: Option<u64>,
}

impl MappingView {
    /// Shows a mapping.
    #[must_use]
    pub fn new(mapping: &Mapping, snapshot: &Snapshot, now: Now) -> Self {
        Self {
            id: mapping.id.0,
            state: open(),
            host: mapping.host.to_string(),
            name: name_of(mapping.host, snapshot),
            server: mapping.server,
            pinhole: None,
            protocol: mapping.protocol.to_string(),
            external_port: mapping.external_port.get(),
            internal_port: mapping.internal_port.get(),
            via: mapping.via.as_str().to_owned(),
            filters: mapping.filters.iter().map(ToString::to_string).collect(),
            requester: mapping.requester.as_str().to_owned(),
            description: mapping.description.clone(),
            opened_at: mapping.opened_at.as_secs(),
            expires_in_s: mapping.expires.map(|expiry| left(snapshot, expiry, now)),
        }
    }

    /// Shows the pinhole that came of the request with this number.
    #[must_use]
    pub fn opened(id: u64, pinhole: &Pinhole, snapshot: &Snapshot, now: Now) -> Self {
        let host = snapshot.host(pinhole.host);
        let filters = pinhole.remote.iter().chain(pinhole.filters.iter());
        Self {
            id,
            state: open(),
            host: pinhole.host.to_string(),
            name: name_of(pinhole.host, snapshot),
            server: host.map_or(Ipv4Addr::UNSPECIFIED, |host| host.addr),
            pinhole: Some(pinhole.addr),
            protocol: pinhole.protocol.to_string(),
            external_port: pinhole.port.get(),
            internal_port: pinhole.port.get(),
            via: mapping::Via::Ipv6.as_str().to_owned(),
            filters: filters.map(ToString::to_string).collect(),
            requester: pinhole.requester.as_str().to_owned(),
            description: pinhole.description.clone(),
            opened_at: pinhole.opened_at.as_secs(),
            expires_in_s: Some(left(snapshot, pinhole.expires, now)),
        }
    }

    /// Shows a request about which a person decides.
    #[must_use]
    pub fn waiting(waiting: &Waiting, snapshot: &Snapshot, now: Now) -> Self {
        let wanted = match waiting.external {
            External::Any(port) | External::Exact(port) | External::Required(port) => Some(port),
            External::Suggested(port) => port,
        };
        let internal = waiting.internal_port.get();
        Self {
            id: waiting.id.0,
            state: "waiting".to_owned(),
            host: waiting.host.to_string(),
            name: name_of(waiting.host, snapshot),
            server: waiting.server,
            pinhole: waiting.pinhole.map(|asked| asked.addr),
            protocol: waiting.protocol.to_string(),
            external_port: wanted.map_or(internal, ExternalPort::get),
            internal_port: internal,
            via: waiting.via.as_str().to_owned(),
            filters: waiting.filters.iter().map(ToString::to_string).collect(),
            requester: waiting.requester.as_str().to_owned(),
            description: waiting.description.clone(),
            opened_at: waiting.first_asked.as_secs(),
            expires_in_s: Some(left(snapshot, waiting.expires, now)),
        }
    }
}

impl PinholeView {
    /// Shows a pinhole.
    #[must_use]
    pub fn new(pinhole: &Pinhole, snapshot: &Snapshot, now: Now) -> Self {
        let filters = pinhole.remote.iter().chain(pinhole.filters.iter());
        Self {
            pinhole: pinhole.id.0,
            host: pinhole.host.to_string(),
            addr: pinhole.addr,
            protocol: pinhole.protocol.to_string(),
            port: pinhole.port.get(),
            filters: filters.map(ToString::to_string).collect(),
            requester: pinhole.requester.as_str().to_owned(),
            expires_in_s: left(snapshot, pinhole.expires, now),
        }
    }
}

impl PolicyView {
    /// Shows what a host may do.
    #[must_use]
    pub fn new(host: &Host, snapshot: &Snapshot, now: Now) -> Self {
        let policy = snapshot.host_policy(host);
        Self {
            own: host.policy.is_some(),
            access: policy.access.as_str().to_owned(),
            ports: policy
                .ports
                .map_or("none", mapping::PortClass::as_str)
                .to_owned(),
            quota: policy.quota.unwrap_or_default(),
            expires_in_s: policy.until.map(|until| left(snapshot, until, now)),
        }
    }
}

impl PermissionView {
    /// Shows what a person decided about a port.
    #[must_use]
    pub fn new(permission: &Permission, snapshot: &Snapshot, now: Now) -> Self {
        Self {
            host: permission.host.to_string(),
            name: name_of(permission.host, snapshot),
            protocol: permission.protocol.to_string(),
            internal_port: permission.internal_port.get(),
            allow: permission.allow,
            decided_at: permission.decided_at.as_secs(),
            expires_in_s: permission.until.map(|until| left(snapshot, until, now)),
        }
    }
}

/// The label of a host; empty once it is forgotten.
fn name_of(host: Mac, snapshot: &Snapshot) -> String {
    snapshot
        .host(host)
        .map(|host| host.name.to_string())
        .unwrap_or_default()
}

/// Tells what is `null` from what is absent.
fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<PolicyPatch>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn open() -> String {
    "open".to_owned()
}
