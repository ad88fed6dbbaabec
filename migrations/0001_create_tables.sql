-- The first shape of the store. Times are nanoseconds: of 1970 for a wall clock, else of the
-- clock of one boot of the machine, which stands beside them and has a row in anchors.

CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    key BLOB NOT NULL CHECK (length(key) = 16),
    policy TEXT NOT NULL CHECK (json_valid(policy)),
    revision INTEGER NOT NULL,
    next_mapping INTEGER NOT NULL,
    next_generation INTEGER NOT NULL,
    pcp_epoch_boot INTEGER NOT NULL,
    pcp_epoch_at INTEGER NOT NULL,
    pcp_epoch_value INTEGER NOT NULL,
    natpmp_epoch_boot INTEGER NOT NULL,
    natpmp_epoch_at INTEGER NOT NULL,
    natpmp_epoch_value INTEGER NOT NULL,
    upnp_boot_id INTEGER NOT NULL,
    system_update_id INTEGER NOT NULL,
    serial INTEGER NOT NULL
) STRICT;

CREATE TABLE anchors (
    boot INTEGER PRIMARY KEY,
    boot_id BLOB NOT NULL CHECK (length(boot_id) = 16),
    mono INTEGER NOT NULL,
    wall INTEGER NOT NULL
) STRICT;

CREATE TABLE hosts (
    mac TEXT PRIMARY KEY,
    addr TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    name_pinned INTEGER NOT NULL CHECK (name_pinned IN (0, 1)),
    lease_boot INTEGER,
    lease_end INTEGER,
    declared_name TEXT,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    CHECK ((lease_boot IS NULL) = (lease_end IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE mappings (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL REFERENCES hosts (mac) DEFERRABLE INITIALLY DEFERRED,
    server TEXT NOT NULL,
    protocol TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp')),
    internal_port INTEGER NOT NULL CHECK (internal_port BETWEEN 1 AND 65535),
    external_port INTEGER NOT NULL CHECK (external_port BETWEEN 1 AND 65535),
    requester TEXT NOT NULL,
    nonce BLOB CHECK (length(nonce) = 12),
    description TEXT NOT NULL,
    expires_boot INTEGER,
    expires_at INTEGER,
    opened_at INTEGER NOT NULL,
    UNIQUE (host, protocol, external_port),
    CHECK ((expires_boot IS NULL) = (expires_at IS NULL))
) STRICT;

CREATE TABLE generations (
    id INTEGER PRIMARY KEY,
    delegated TEXT NOT NULL,
    nsp TEXT NOT NULL,
    preferred INTEGER NOT NULL CHECK (preferred IN (0, 1)),
    valid_boot INTEGER,
    valid_until INTEGER,
    CHECK ((valid_boot IS NULL) = (valid_until IS NULL))
) STRICT;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    requester TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL
) STRICT;
