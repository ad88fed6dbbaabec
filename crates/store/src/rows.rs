//! From a [`Delta`] to the row that [`crate::statements::COMMIT`] inserts.

use std::sync::Arc;

use mapping::{AuditEntry, Delta, Expiry, Generation, Host, Instant, Mapping, Meta, Policy, Wall};
use serde::{Deserialize, Serialize};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

use crate::decisions;
use crate::store::CommitError;

/// The columns of a batch, in their order.
pub(crate) struct Rows {
    /// Arrays: mappings, hosts, generations, permissions, pinholes and waiting requests to delete;
    /// hosts, mappings, what renewals change of them, generations, permissions, pinholes, waiting
    /// requests and audit lines to insert. `None` is an empty one.
    arrays: [Option<String>; 14],
    meta: Meta,
    policy: Option<String>,
}

impl Rows {
    pub(crate) fn of(delta: &Delta) -> Result<Self, CommitError> {
        let Delta {
            hosts,
            mappings,
            renewals,
            generations,
            permissions,
            pinholes,
            waiting,
            audit,
            meta,
            policy,
        } = delta;
        let gone_mappings = mappings.iter().filter(|(_, row)| row.is_none());
        let whole_rows = || mappings.values().flatten();
        let gone_generations = generations.iter().filter(|(_, row)| row.is_none());
        Ok(Self {
            arrays: [
                array(gone_mappings.map(|(id, _)| whole(id.0)))?,
                array(hosts.keys().map(ToString::to_string))?,
                array(gone_generations.map(|(id, _)| id.0))?,
                array(permissions.keys().map(|(host, protocol, port)| {
                    (host.to_string(), protocol.as_str(), port.get())
                }))?,
                array(pinholes.keys().map(|id| id.0))?,
                array(waiting.keys().map(|id| whole(id.0)))?,
                array(hosts.values().flatten().map(host))?,
                array(whole_rows().map(mapping))?,
                array(whole_rows().chain(renewals.values()).map(renewal))?,
                array(generations.values().flatten().map(generation))?,
                array(permissions.values().flatten().map(decisions::permission))?,
                array(pinholes.values().flatten().map(decisions::pinhole))?,
                array(waiting.values().flatten().map(decisions::waiting))?,
                array(audit.iter().map(line))?,
            ],
            meta: *meta,
            policy: policy.as_deref().map(policy_text),
        })
    }

    pub(crate) fn bind<'q>(
        self,
        query: Query<'q, Sqlite, SqliteArguments>,
    ) -> Query<'q, Sqlite, SqliteArguments> {
        let Meta {
            revision,
            next_mapping,
            next_generation,
            counters,
            anchor,
        } = self.meta;
        let query = self
            .arrays
            .into_iter()
            .fold(query, Query::bind)
            .bind(AUDIT_KEPT);
        let query = query
            .bind(whole(revision.0))
            .bind(whole(next_mapping.0))
            .bind(next_generation.0);
        let query = [counters.pcp_epoch, counters.natpmp_epoch]
            .into_iter()
            .fold(query, |query, epoch| {
                let value = u64::try_from(epoch.value.as_nanos()).unwrap_or(u64::MAX);
                query
                    .bind(epoch.at.boot.0)
                    .bind(instant(epoch.at.at))
                    .bind(whole(value))
            });
        query
            .bind(counters.upnp_boot_id)
            .bind(counters.system_update_id)
            .bind(counters.serial)
            .bind(counters.shared_ipv4.map(|addr| addr.to_string()))
            .bind(self.policy)
            .bind(anchor.boot.0)
            .bind(anchor.boot_id.0.to_vec())
            .bind(instant(anchor.mono))
            .bind(wall(anchor.wall))
    }
}

fn array<T: Serialize>(rows: impl Iterator<Item = T>) -> Result<Option<String>, CommitError> {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&rows)
        .map(Some)
        .map_err(CommitError::Encode)
}

fn host(host: &Arc<Host>) -> impl Serialize {
    let (lease_boot, lease_end) = expiry(host.lease.map(|lease| lease.expires));
    let (policy_boot, policy_end) = expiry(host.policy.and_then(|policy| policy.until));
    (
        host.mac.to_string(),
        host.addr,
        host.name.as_str().to_owned(),
        host.name_pinned,
        lease_boot,
        lease_end,
        host.declared_name
            .as_deref()
            .map(|name| hex(name.as_bytes())),
        wall(host.first_seen),
        wall(host.last_seen),
        host.policy.as_ref().map(decisions::host_policy_text),
        policy_boot,
        policy_end,
    )
}

fn mapping(mapping: &Arc<Mapping>) -> impl Serialize {
    (
        whole(mapping.id.0),
        mapping.host.to_string(),
        mapping.server,
        mapping.protocol.as_str(),
        mapping.internal_port.get(),
        mapping.external_port.get(),
        mapping.requester.as_str(),
        mapping.nonce.map(|nonce| hex(&nonce.0)),
        hex(mapping.description.as_bytes()),
        wall(mapping.opened_at),
        mapping.via.as_str(),
        mapping.peer,
        decisions::filters_text(&mapping.filters),
    )
}

fn renewal(mapping: &Arc<Mapping>) -> impl Serialize + use<> {
    let (expires_boot, expires_at) = expiry(mapping.expires);
    (
        whole(mapping.id.0),
        expires_boot,
        expires_at,
        mapping.memo.as_deref().map(hex),
    )
}

fn generation(generation: &Generation) -> impl Serialize + use<> {
    let (valid_boot, valid_until) = expiry(generation.valid_until);
    (
        generation.id.0,
        generation.delegated.to_string(),
        generation.nsp.prefix().addr(),
        generation.preferred,
        valid_boot,
        valid_until,
    )
}

fn line(entry: &AuditEntry) -> impl Serialize + use<> {
    let AuditEntry {
        at,
        requester,
        action,
        target,
    } = entry;
    (
        wall(*at),
        requester.as_str(),
        action.as_str(),
        hex(target.as_bytes()),
    )
}

pub(crate) fn expiry(expiry: Option<Expiry>) -> (Option<u32>, Option<i64>) {
    (
        expiry.map(|expiry| expiry.boot.0),
        expiry.map(|expiry| instant(expiry.at)),
    )
}

fn instant(instant: Instant) -> i64 {
    whole(instant.as_nanos())
}

pub(crate) fn wall(wall: Wall) -> i64 {
    whole(wall.as_nanos())
}

/// SQLite's integers end at 2^63: as nanoseconds 292 years, which serve for "never".
pub(crate) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Text that others chose goes as hexadecimal digits: SQLite's JSON ends it at a NUL.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16);
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .filter_map(digit)
        .collect()
}

/// The policy as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct PolicyText {
    /// Stores of the first shape knew only this.
    #[serde(default = "allow")]
    new_device: String,
    auto_allow: String,
    always_reject: Vec<String>,
    /// Stores made before the key was known have none.
    #[serde(default = "min_lease_s")]
    min_lease_s: u64,
    max_lease_s: u64,
    max_per_device: u32,
}

fn allow() -> String {
    mapping::Access::Allow.as_str().to_owned()
}

fn min_lease_s() -> u64 {
    Policy::default().min_lease.as_secs()
}

pub(crate) fn policy_text(policy: &Policy) -> String {
    let text = PolicyText {
        new_device: policy.new_device.as_str().to_owned(),
        auto_allow: policy.auto_allow.as_str().to_owned(),
        always_reject: policy
            .always_reject
            .iter()
            .map(ToString::to_string)
            .collect(),
        min_lease_s: policy.min_lease.as_secs(),
        max_lease_s: policy.max_lease.as_secs(),
        max_per_device: policy.max_per_device,
    };
    // a struct of strings and numbers always has a JSON text
    serde_json::to_string(&text).unwrap_or_default()
}

pub(crate) fn policy_of(text: &str) -> Option<Policy> {
    let text: PolicyText = serde_json::from_str(text).ok()?;
    Some(Policy {
        new_device: mapping::Access::from_name(&text.new_device)?,
        auto_allow: mapping::PortClass::from_name(&text.auto_allow)?,
        always_reject: text
            .always_reject
            .iter()
            .map(|range| range.parse().ok())
            .collect::<Option<_>>()?,
        min_lease: std::time::Duration::from_secs(text.min_lease_s),
        max_lease: std::time::Duration::from_secs(text.max_lease_s),
        max_per_device: text.max_per_device,
    })
}

/// About 1 MiB of lines: months of a home.
pub(crate) const AUDIT_KEPT: u32 = 10_000;
