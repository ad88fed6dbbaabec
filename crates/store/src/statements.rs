//! Every statement, as a constant.
//!
//! A commit is one text of several statements, so that it costs one hand-over to the thread of
//! the connection whatever the batch holds. Each `?` is one JSON array of rows, in the order of
//! [`crate::rows::Rows`].

macro_rules! batch {
    () => {
        "
DELETE FROM mappings WHERE id IN (SELECT value FROM json_each(?));
DELETE FROM hosts WHERE mac IN (SELECT value FROM json_each(?));
DELETE FROM generations WHERE id IN (SELECT value FROM json_each(?));
DELETE FROM permissions WHERE (host, protocol, internal_port) IN
    (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?));
DELETE FROM pinholes WHERE id IN (SELECT value FROM json_each(?));
DELETE FROM waiting WHERE id IN (SELECT value FROM json_each(?));
INSERT INTO hosts (mac, addr, name, name_pinned, lease_boot, lease_end, declared_name,
        first_seen, last_seen, policy, policy_boot, policy_end)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
        CAST(unhex(value ->> 6) AS TEXT), value ->> 7, value ->> 8, value ->> 9, value ->> 10,
        value ->> 11
    FROM json_each(?);
INSERT INTO mappings (id, host, server, protocol, internal_port, external_port, requester,
        nonce, description, expires_boot, expires_at, opened_at, via, peer, filters, memo)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
        value ->> 6, unhex(value ->> 7), CAST(unhex(value ->> 8) AS TEXT), value ->> 9,
        value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14,
        unhex(value ->> 15)
    FROM json_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET requester = excluded.requester, nonce = excluded.nonce,
        description = excluded.description, expires_boot = excluded.expires_boot,
        expires_at = excluded.expires_at, via = excluded.via, filters = excluded.filters,
        memo = excluded.memo;
INSERT INTO generations (id, delegated, nsp, preferred, valid_boot, valid_until)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
    FROM json_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET preferred = excluded.preferred,
        valid_boot = excluded.valid_boot, valid_until = excluded.valid_until;
INSERT INTO permissions (host, protocol, internal_port, allow, until_boot, until_at, decided_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
        value ->> 6
    FROM json_each(?);
INSERT INTO pinholes (id, host, addr, protocol, port, remote, filters, requester, nonce,
        description, expires_boot, expires_at, opened_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
        value ->> 6, value ->> 7, unhex(value ->> 8), CAST(unhex(value ->> 9) AS TEXT),
        value ->> 10, value ->> 11, value ->> 12
    FROM json_each(?);
INSERT INTO waiting (id, host, server, protocol, internal_port, external_kind, external_port,
        via, filters, requester, nonce, description, first_asked, last_asked, expires_boot,
        expires_at, pinhole)
    SELECT value ->> '$[0][0]', value ->> '$[0][1]', value ->> '$[0][2]', value ->> '$[0][3]',
        value ->> '$[0][4]', value ->> '$[0][5]', value ->> '$[0][6]', value ->> '$[0][7]',
        value ->> '$[1][0]', value ->> '$[1][1]', unhex(value ->> '$[1][2]'),
        CAST(unhex(value ->> '$[1][3]') AS TEXT), value ->> '$[1][4]', value ->> '$[1][5]',
        value ->> '$[1][6]', value ->> '$[1][7]', value ->> '$[1][8]'
    FROM json_each(?);
INSERT INTO audit (at, requester, action, target)
    SELECT value ->> 0, value ->> 1, value ->> 2, CAST(unhex(value ->> 3) AS TEXT)
    FROM json_each(?);
DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?;
UPDATE meta SET revision = ?, next_mapping = ?, next_generation = ?,
    pcp_epoch_boot = ?, pcp_epoch_at = ?, pcp_epoch_value = ?,
    natpmp_epoch_boot = ?, natpmp_epoch_at = ?, natpmp_epoch_value = ?,
    upnp_boot_id = ?, system_update_id = ?, serial = ?, shared_ipv4 = ?,
    policy = coalesce(?, policy);
INSERT INTO anchors (boot, boot_id, mono, wall) VALUES (?, ?, ?, ?)
    ON CONFLICT (boot) DO UPDATE SET boot_id = excluded.boot_id, mono = excluded.mono,
        wall = excluded.wall;
DELETE FROM anchors WHERE boot <> ?
    AND NOT EXISTS (SELECT 1 FROM hosts WHERE lease_boot = anchors.boot)
    AND NOT EXISTS (SELECT 1 FROM mappings WHERE expires_boot = anchors.boot)
    AND NOT EXISTS (SELECT 1 FROM generations WHERE valid_boot = anchors.boot)
    AND NOT EXISTS (SELECT 1 FROM hosts WHERE policy_boot = anchors.boot)
    AND NOT EXISTS (SELECT 1 FROM permissions WHERE until_boot = anchors.boot)
    AND NOT EXISTS (SELECT 1 FROM pinholes WHERE expires_boot = anchors.boot)
    AND NOT EXISTS (SELECT 1 FROM waiting WHERE expires_boot = anchors.boot)
    AND NOT EXISTS (SELECT 1 FROM meta
        WHERE pcp_epoch_boot = anchors.boot OR natpmp_epoch_boot = anchors.boot);
"
    };
}

/// Stores one batch.
///
/// Hosts that change are deleted and inserted anew, since two of them may have swapped their
/// names; what of a mapping or generation identifies it never changes, so that a renewal
/// touches no index.
pub(crate) const COMMIT: &str = concat!("BEGIN IMMEDIATE;", batch!(), "COMMIT;");

/// Makes the single row of a fresh store and stores its first batch.
pub(crate) const INITIALISE: &str = concat!(
    "BEGIN IMMEDIATE;
INSERT INTO meta (id, key, policy, revision, next_mapping, next_generation, pcp_epoch_boot,
    pcp_epoch_at, pcp_epoch_value, natpmp_epoch_boot, natpmp_epoch_at, natpmp_epoch_value,
    upnp_boot_id, system_update_id, serial)
VALUES (1, ?, ?, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0);",
    batch!(),
    "COMMIT;"
);

pub(crate) const LOAD_META: &str = "
SELECT key, policy, revision, next_mapping, next_generation, pcp_epoch_boot, pcp_epoch_at,
    pcp_epoch_value, natpmp_epoch_boot, natpmp_epoch_at, natpmp_epoch_value, upnp_boot_id,
    system_update_id, serial, shared_ipv4
FROM meta";

pub(crate) const LOAD_ANCHORS: &str = "
SELECT boot, boot_id, mono, wall FROM anchors ORDER BY boot";

pub(crate) const LOAD_HOSTS: &str = "
SELECT mac, addr, name, name_pinned, lease_boot, lease_end, declared_name, first_seen, last_seen,
    policy, policy_boot, policy_end
FROM hosts ORDER BY mac";

pub(crate) const LOAD_MAPPINGS: &str = "
SELECT id, host, server, protocol, internal_port, external_port, requester, nonce, description,
    expires_boot, expires_at, opened_at, via, peer, filters, memo
FROM mappings ORDER BY id";

pub(crate) const LOAD_GENERATIONS: &str = "
SELECT id, delegated, nsp, preferred, valid_boot, valid_until FROM generations ORDER BY id";

pub(crate) const LOAD_PERMISSIONS: &str = "
SELECT host, protocol, internal_port, allow, until_boot, until_at, decided_at
FROM permissions ORDER BY host, protocol, internal_port";

pub(crate) const LOAD_PINHOLES: &str = "
SELECT id, host, addr, protocol, port, remote, filters, requester, nonce, description,
    expires_boot, expires_at, opened_at
FROM pinholes ORDER BY id";

pub(crate) const LOAD_WAITING: &str = "
SELECT id, host, server, protocol, internal_port, external_kind, external_port, via, filters,
    requester, nonce, description, first_asked, last_asked, expires_boot, expires_at, pinhole
FROM waiting ORDER BY id";

/// Newest first, below an id.
pub(crate) const READ_AUDIT: &str = "
SELECT id, at, requester, action, target FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?";

/// Says `ok`, or what is wrong.
pub(crate) const CHECK: &str = "PRAGMA integrity_check(1)";

/// The quicker check of every start.
pub(crate) const QUICK_CHECK: &str = "PRAGMA quick_check(1)";

/// Moves what it can into the database file, without waiting for readers.
pub(crate) const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Moves everything into the database file and begins the WAL anew.
pub(crate) const CHECKPOINT_ALL: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
