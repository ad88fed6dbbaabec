//! Every statement, as a constant.

/// What a batch is written to: a row of this view carries all of it, and triggers take it apart.
/// They belong to the connection, not to the file, so every opening makes them anew.
///
/// So a commit is one statement. The thread of the connection reports each statement by itself
/// and wakes us for it, and a text of many of them costs more than all their work. A table of
/// which the batch says nothing has a `NULL` here, and its trigger does not run; what is said of
/// a table stands in one trigger, since the order of triggers is undefined; an anchor to which
/// this batch ends the last reference may therefore stay for one batch more. Rows come as one
/// JSON array for each table, in the order of [`crate::rows::Rows`].
///
/// Hosts that change are deleted and inserted anew, since two of them may have swapped their
/// names; what of a mapping or generation identifies it never changes, so that no index is
/// touched where a row says something else. What a renewal changes has a table of its own: of a
/// client without a memo 230 of its rows fit into a page, of the mappings 30, and each page that a
/// batch touches is written anew.
pub(crate) const BATCH: &str = "
CREATE TEMP VIEW batch AS SELECT NULL AS mappings_gone, NULL AS hosts_gone,
    NULL AS generations_gone, NULL AS permissions_gone, NULL AS pinholes_gone,
    NULL AS waiting_gone, NULL AS hosts, NULL AS mappings, NULL AS renewals, NULL AS generations,
    NULL AS permissions, NULL AS pinholes, NULL AS waiting, NULL AS audit, NULL AS audit_kept,
    NULL AS revision, NULL AS next_mapping, NULL AS next_generation, NULL AS pcp_epoch_boot,
    NULL AS pcp_epoch_at, NULL AS pcp_epoch_value, NULL AS natpmp_epoch_boot,
    NULL AS natpmp_epoch_at, NULL AS natpmp_epoch_value, NULL AS upnp_boot_id,
    NULL AS system_update_id, NULL AS serial, NULL AS shared_ipv4, NULL AS policy,
    NULL AS boot, NULL AS boot_id, NULL AS mono, NULL AS wall;
CREATE TEMP TRIGGER batch_hosts INSTEAD OF INSERT ON batch WHEN NEW.hosts_gone IS NOT NULL
BEGIN
    DELETE FROM hosts WHERE mac IN (SELECT value FROM jsonb_each(NEW.hosts_gone));
    INSERT INTO hosts (mac, addr, name, name_pinned, lease_boot, lease_end, declared_name,
            first_seen, last_seen, policy, policy_boot, policy_end)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
            CAST(unhex(value ->> 6) AS TEXT), value ->> 7, value ->> 8, value ->> 9,
            value ->> 10, value ->> 11
        FROM jsonb_each(NEW.hosts);
END;
CREATE TEMP TRIGGER batch_mappings INSTEAD OF INSERT ON batch
WHEN NEW.mappings_gone IS NOT NULL OR NEW.mappings IS NOT NULL
BEGIN
    DELETE FROM mappings WHERE id IN (SELECT value FROM jsonb_each(NEW.mappings_gone));
    INSERT INTO mappings (id, host, server, protocol, internal_port, external_port, requester,
            nonce, description, opened_at, via, peer, filters)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
            value ->> 6, unhex(value ->> 7), CAST(unhex(value ->> 8) AS TEXT), value ->> 9,
            value ->> 10, value ->> 11, value ->> 12
        FROM jsonb_each(NEW.mappings) WHERE true
        ON CONFLICT (id) DO UPDATE SET requester = excluded.requester, nonce = excluded.nonce,
            description = excluded.description, via = excluded.via, filters = excluded.filters;
END;
CREATE TEMP TRIGGER batch_renewals INSTEAD OF INSERT ON batch
WHEN NEW.mappings_gone IS NOT NULL OR NEW.renewals IS NOT NULL
BEGIN
    DELETE FROM renewals WHERE mapping IN (SELECT value FROM jsonb_each(NEW.mappings_gone));
    INSERT OR REPLACE INTO renewals (mapping, expires_boot, expires_at, memo)
        SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3)
        FROM jsonb_each(NEW.renewals);
END;
CREATE TEMP TRIGGER batch_generations INSTEAD OF INSERT ON batch
WHEN NEW.generations_gone IS NOT NULL OR NEW.generations IS NOT NULL
BEGIN
    DELETE FROM generations WHERE id IN (SELECT value FROM jsonb_each(NEW.generations_gone));
    INSERT INTO generations (id, delegated, nsp, preferred, valid_boot, valid_until)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
        FROM jsonb_each(NEW.generations) WHERE true
        ON CONFLICT (id) DO UPDATE SET preferred = excluded.preferred,
            valid_boot = excluded.valid_boot, valid_until = excluded.valid_until;
END;
CREATE TEMP TRIGGER batch_permissions INSTEAD OF INSERT ON batch
WHEN NEW.permissions_gone IS NOT NULL
BEGIN
    DELETE FROM permissions WHERE (host, protocol, internal_port) IN
        (SELECT value ->> 0, value ->> 1, value ->> 2 FROM jsonb_each(NEW.permissions_gone));
    INSERT INTO permissions (host, protocol, internal_port, allow, until_boot, until_at,
            decided_at)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
            value ->> 6
        FROM jsonb_each(NEW.permissions);
END;
CREATE TEMP TRIGGER batch_pinholes INSTEAD OF INSERT ON batch WHEN NEW.pinholes_gone IS NOT NULL
BEGIN
    DELETE FROM pinholes WHERE id IN (SELECT value FROM jsonb_each(NEW.pinholes_gone));
    INSERT INTO pinholes (id, host, addr, protocol, port, remote, filters, requester, nonce,
            description, expires_boot, expires_at, opened_at)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
            value ->> 6, value ->> 7, unhex(value ->> 8), CAST(unhex(value ->> 9) AS TEXT),
            value ->> 10, value ->> 11, value ->> 12
        FROM jsonb_each(NEW.pinholes);
END;
CREATE TEMP TRIGGER batch_waiting INSTEAD OF INSERT ON batch WHEN NEW.waiting_gone IS NOT NULL
BEGIN
    DELETE FROM waiting WHERE id IN (SELECT value FROM jsonb_each(NEW.waiting_gone));
    INSERT INTO waiting (id, host, server, protocol, internal_port, external_kind,
            external_port, via, filters, requester, nonce, description, first_asked, last_asked,
            expires_boot, expires_at, pinhole)
        SELECT value ->> '$[0][0]', value ->> '$[0][1]', value ->> '$[0][2]',
            value ->> '$[0][3]', value ->> '$[0][4]', value ->> '$[0][5]', value ->> '$[0][6]',
            value ->> '$[0][7]', value ->> '$[1][0]', value ->> '$[1][1]',
            unhex(value ->> '$[1][2]'), CAST(unhex(value ->> '$[1][3]') AS TEXT),
            value ->> '$[1][4]', value ->> '$[1][5]', value ->> '$[1][6]', value ->> '$[1][7]',
            value ->> '$[1][8]'
        FROM jsonb_each(NEW.waiting);
END;
CREATE TEMP TRIGGER batch_audit INSTEAD OF INSERT ON batch WHEN NEW.audit IS NOT NULL
BEGIN
    INSERT INTO audit (at, requester, action, target)
        SELECT value ->> 0, value ->> 1, value ->> 2, CAST(unhex(value ->> 3) AS TEXT)
        FROM jsonb_each(NEW.audit);
    DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - NEW.audit_kept;
END;
CREATE TEMP TRIGGER batch_meta INSTEAD OF INSERT ON batch
BEGIN
    UPDATE meta SET revision = NEW.revision, next_mapping = NEW.next_mapping,
        next_generation = NEW.next_generation, pcp_epoch_boot = NEW.pcp_epoch_boot,
        pcp_epoch_at = NEW.pcp_epoch_at, pcp_epoch_value = NEW.pcp_epoch_value,
        natpmp_epoch_boot = NEW.natpmp_epoch_boot, natpmp_epoch_at = NEW.natpmp_epoch_at,
        natpmp_epoch_value = NEW.natpmp_epoch_value, upnp_boot_id = NEW.upnp_boot_id,
        system_update_id = NEW.system_update_id, serial = NEW.serial,
        shared_ipv4 = NEW.shared_ipv4, policy = coalesce(NEW.policy, policy);
    INSERT INTO anchors (boot, boot_id, mono, wall)
        VALUES (NEW.boot, NEW.boot_id, NEW.mono, NEW.wall)
        ON CONFLICT (boot) DO UPDATE SET boot_id = excluded.boot_id, mono = excluded.mono,
            wall = excluded.wall;
    DELETE FROM anchors WHERE boot <> NEW.boot
        AND NOT EXISTS (SELECT 1 FROM hosts WHERE lease_boot = anchors.boot)
        AND NOT EXISTS (SELECT 1 FROM renewals WHERE expires_boot = anchors.boot)
        AND NOT EXISTS (SELECT 1 FROM generations WHERE valid_boot = anchors.boot)
        AND NOT EXISTS (SELECT 1 FROM hosts WHERE policy_boot = anchors.boot)
        AND NOT EXISTS (SELECT 1 FROM permissions WHERE until_boot = anchors.boot)
        AND NOT EXISTS (SELECT 1 FROM pinholes WHERE expires_boot = anchors.boot)
        AND NOT EXISTS (SELECT 1 FROM waiting WHERE expires_boot = anchors.boot)
        AND NOT EXISTS (SELECT 1 FROM meta
            WHERE pcp_epoch_boot = anchors.boot OR natpmp_epoch_boot = anchors.boot);
END;
";

/// Stores one batch. A single statement that is no part of a transaction is one of its own: it
/// is done as a whole or not at all.
pub(crate) const COMMIT: &str = "INSERT INTO batch
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    ?, ?, ?, ?)";

/// Makes the single row of a fresh store and stores its first batch.
pub(crate) const INITIALISE: &str = "BEGIN IMMEDIATE;
INSERT INTO meta (id, key, policy, revision, next_mapping, next_generation, pcp_epoch_boot,
    pcp_epoch_at, pcp_epoch_value, natpmp_epoch_boot, natpmp_epoch_at, natpmp_epoch_value,
    upnp_boot_id, system_update_id, serial)
VALUES (1, ?, ?, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO batch
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    ?, ?, ?, ?);
COMMIT;";

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

/// Rows of [`crate::mappings::Row`] in JSON arrays, by id. A row of SQLite that is handed over by
/// itself costs many times what it takes to write and to read it as JSON; and while one array is
/// read, the thread of the connection writes the next. A mapping without its row of `renewals`
/// has `null` for an id, which cannot be read: it must not be taken for a static one.
pub(crate) const LOAD_MAPPINGS: &str = "
WITH RECURSIVE chunk (first) AS (
    SELECT min(id) FROM mappings
    UNION ALL
    SELECT (SELECT min(id) FROM mappings WHERE id >= first + 512) FROM chunk
    WHERE first IS NOT NULL)
SELECT (
    SELECT json_group_array(json_array(mapping, host, server, protocol, internal_port, external_port,
        requester, hex(nonce), hex(description), expires_boot, expires_at, opened_at, via, peer,
        json(filters), iif(memo IS NULL, NULL, hex(memo))))
    FROM mappings LEFT JOIN renewals ON mapping = id WHERE id BETWEEN first AND first + 511)
FROM chunk WHERE first IS NOT NULL";

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

/// How often the database was brought to another shape; an error if never.
pub(crate) const COUNT_MIGRATIONS: &str = "SELECT count(*) FROM _sqlx_migrations WHERE success";

/// Moves what it can into the database file, without waiting for readers.
pub(crate) const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Moves everything into the database file and begins the WAL anew.
pub(crate) const CHECKPOINT_ALL: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
