//! Rows of what people decide, of what waits for them, and of pinholes; filters as text.

use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::sync::Arc;

use mapping::{
    Access, AskedPinhole, Expiry, External, ExternalPort, Filters, HostPolicy, Mac, Permission,
    Pinhole, PinholeId, PortClass, Protocol, RemoteFilter, Requester, Revision, Waiting,
};
use serde::{Deserialize, Serialize};

use crate::image::{Columns, LoadError};
use crate::rows::{expiry, hex, wall, whole};

pub(crate) fn permission(permission: &Permission) -> impl Serialize + use<> {
    let (until_boot, until_at) = expiry(permission.until);
    (
        permission.host.to_string(),
        permission.protocol.as_str(),
        permission.internal_port.get(),
        permission.allow,
        until_boot,
        until_at,
        wall(permission.decided_at),
    )
}

pub(crate) fn waiting(waiting: &Arc<Waiting>) -> impl Serialize + use<> {
    let (expires_boot, expires_at) = expiry(Some(waiting.expires));
    let (kind, port) = external_text(waiting.external);
    (
        (
            whole(waiting.id.0),
            waiting.host.to_string(),
            waiting.server,
            waiting.protocol.as_str(),
            waiting.internal_port.get(),
            kind,
            port,
            waiting.via.as_str(),
        ),
        (
            filters_text(&waiting.filters),
            waiting.requester.as_str(),
            waiting.nonce.map(|nonce| hex(&nonce.0)),
            hex(waiting.description.as_bytes()),
            wall(waiting.first_asked),
            wall(waiting.last_asked),
            expires_boot,
            expires_at,
            waiting.pinhole.as_ref().map(asked_pinhole_text),
        ),
    )
}

pub(crate) fn pinhole(pinhole: &Arc<Pinhole>) -> impl Serialize + use<> {
    let (expires_boot, expires_at) = expiry(Some(pinhole.expires));
    (
        pinhole.id.0,
        pinhole.host.to_string(),
        pinhole.addr,
        pinhole.protocol.as_str(),
        pinhole.port.get(),
        pinhole.remote.map(|remote| filters_text(&[remote])),
        filters_text(&pinhole.filters),
        pinhole.requester.as_str(),
        pinhole.nonce.map(|nonce| hex(&nonce.0)),
        hex(pinhole.description.as_bytes()),
        expires_boot,
        expires_at,
        wall(pinhole.opened_at),
    )
}

/// A host's own policy as the store keeps it, without its end.
#[derive(Debug, Serialize, Deserialize)]
struct HostPolicyText {
    access: String,
    ports: Option<String>,
    quota: Option<u32>,
}

pub(crate) fn host_policy_text(policy: &HostPolicy) -> String {
    let text = HostPolicyText {
        access: policy.access.as_str().to_owned(),
        ports: policy.ports.map(|class| class.as_str().to_owned()),
        quota: policy.quota,
    };
    // a struct of strings and numbers always has a JSON text
    serde_json::to_string(&text).unwrap_or_default()
}

pub(crate) fn host_policy_of(text: &str, until: Option<Expiry>) -> Option<HostPolicy> {
    let text: HostPolicyText = serde_json::from_str(text).ok()?;
    let ports = match text.ports {
        Some(name) => Some(PortClass::from_name(&name)?),
        None => None,
    };
    Some(HostPolicy {
        access: Access::from_name(&text.access)?,
        ports,
        quota: text.quota,
        until,
    })
}

/// Of a request that waits: the address, and the remote if there is one.
fn asked_pinhole_text(asked: &AskedPinhole) -> String {
    let remote = asked.remote.map(|remote| filters_text(&[remote]));
    // an address and a text always have a JSON text
    serde_json::to_string(&(asked.addr, remote)).unwrap_or_default()
}

fn asked_pinhole_of(text: &str) -> Option<AskedPinhole> {
    let (addr, remote): (Ipv6Addr, Option<String>) = serde_json::from_str(text).ok()?;
    let remote = match remote {
        Some(text) => Some(*filters_of(&text)?.first()?),
        None => None,
    };
    Some(AskedPinhole { addr, remote })
}

/// A JSON array of pairs: prefix, and port or 0.
pub(crate) fn filters_text(filters: &[RemoteFilter]) -> String {
    let rows = filters.iter().map(|filter| {
        let port = filter.port.map_or(0, NonZeroU16::get);
        (filter.prefix.to_string(), port)
    });
    // an array of strings and numbers always has a JSON text
    serde_json::to_string(&rows.collect::<Vec<_>>()).unwrap_or_default()
}

pub(crate) fn filters_of(text: &str) -> Option<Filters> {
    filters_of_rows(serde_json::from_str(text).ok()?)
}

/// Prefix, and port or 0.
pub(crate) type FilterRow<'a> = (&'a str, u16);

pub(crate) fn filters_of_rows(rows: Vec<FilterRow<'_>>) -> Option<Filters> {
    let filter = |(prefix, port): FilterRow<'_>| {
        Some(RemoteFilter {
            prefix: prefix.parse().ok()?,
            port: NonZeroU16::new(port),
        })
    };
    if rows.is_empty() {
        return Some(Filters::default());
    }
    rows.into_iter().map(filter).collect()
}

fn external_text(external: External) -> (&'static str, Option<u16>) {
    match external {
        External::Any(port) => ("any", Some(port.get())),
        External::Exact(port) => ("exact", Some(port.get())),
        External::Required(port) => ("required", Some(port.get())),
        External::Suggested(port) => ("suggested", port.map(ExternalPort::get)),
    }
}

fn external_of(kind: &str, port: Option<ExternalPort>) -> Option<External> {
    match (kind, port) {
        ("any", Some(port)) => Some(External::Any(port)),
        ("exact", Some(port)) => Some(External::Exact(port)),
        ("required", Some(port)) => Some(External::Required(port)),
        ("suggested", port) => Some(External::Suggested(port)),
        _ => None,
    }
}

pub(crate) fn read_permission(columns: &Columns<'_>) -> Result<Permission, LoadError> {
    Ok(Permission {
        host: columns.text::<Mac>("host")?,
        protocol: columns.protocol()?,
        internal_port: columns.internal_port("internal_port")?,
        allow: columns.get("allow")?,
        until: columns.expiry("until_boot", "until_at")?,
        decided_at: columns.wall("decided_at")?,
    })
}

pub(crate) fn read_waiting(columns: &Columns<'_>) -> Result<Waiting, LoadError> {
    let port = match columns.get::<Option<i64>>("external_port")? {
        Some(_) => ExternalPort::new(columns.number("external_port")?),
        None => None,
    };
    let external = external_of(&columns.get::<String>("external_kind")?, port);
    let pinhole = match columns.get::<Option<String>>("pinhole")? {
        Some(text) => Some(asked_pinhole_of(&text).ok_or_else(|| columns.invalid("pinhole"))?),
        None => None,
    };
    Ok(Waiting {
        id: mapping::MappingId(columns.number("id")?),
        host: columns.text("host")?,
        server: columns.text("server")?,
        protocol: columns.protocol()?,
        internal_port: columns.internal_port("internal_port")?,
        external: external.ok_or_else(|| columns.invalid("external_kind"))?,
        via: columns.via()?,
        pinhole,
        filters: columns.filters("filters")?,
        requester: columns.requester()?,
        nonce: columns.nonce()?,
        description: columns.get("description")?,
        first_asked: columns.wall("first_asked")?,
        last_asked: columns.wall("last_asked")?,
        expires: columns.some_expiry()?,
    })
}

pub(crate) fn read_pinhole(columns: &Columns<'_>) -> Result<Pinhole, LoadError> {
    let remote = match columns.get::<Option<String>>("remote")? {
        Some(text) => filters_of(&text).and_then(|filters| filters.first().copied()),
        None => None,
    };
    Ok(Pinhole {
        id: PinholeId(columns.number("id")?),
        host: columns.text("host")?,
        addr: columns.text("addr")?,
        protocol: columns.protocol()?,
        port: columns.internal_port("port")?,
        remote,
        filters: columns.filters("filters")?,
        requester: columns.requester()?,
        nonce: columns.nonce()?,
        description: columns.get("description")?,
        expires: columns.some_expiry()?,
        opened_at: columns.wall("opened_at")?,
        changed_in: Revision(0),
    })
}

impl Columns<'_> {
    pub(crate) fn protocol(&self) -> Result<Protocol, LoadError> {
        Protocol::from_name(&self.get::<String>("protocol")?)
            .ok_or_else(|| self.invalid("protocol"))
    }

    pub(crate) fn requester(&self) -> Result<Requester, LoadError> {
        Requester::from_name(&self.get::<String>("requester")?)
            .ok_or_else(|| self.invalid("requester"))
    }

    pub(crate) fn via(&self) -> Result<mapping::Via, LoadError> {
        mapping::Via::from_name(&self.get::<String>("via")?).ok_or_else(|| self.invalid("via"))
    }

    pub(crate) fn filters(&self, column: &'static str) -> Result<Filters, LoadError> {
        filters_of(&self.get::<String>(column)?).ok_or_else(|| self.invalid(column))
    }

    fn some_expiry(&self) -> Result<Expiry, LoadError> {
        self.expiry("expires_boot", "expires_at")?
            .ok_or_else(|| self.invalid("expires_at"))
    }
}
