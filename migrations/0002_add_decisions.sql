-- What people decide about devices and their ports, what waits for them, filters of mappings,
-- mappings at a shared IPv4 address, and pinholes. Texts that others chose and that are compared
-- with nothing are kept as they came.

CREATE TABLE mappings_new (
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
    via TEXT NOT NULL DEFAULT 'ipv6' CHECK (via IN ('both', 'ipv4', 'ipv6')),
    peer INTEGER NOT NULL DEFAULT 0 CHECK (peer IN (0, 1)),
    filters TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(filters)),
    UNIQUE (host, protocol, external_port, via),
    CHECK ((expires_boot IS NULL) = (expires_at IS NULL))
) STRICT;

INSERT INTO mappings_new (id, host, server, protocol, internal_port, external_port, requester,
        nonce, description, expires_boot, expires_at, opened_at)
    SELECT id, host, server, protocol, internal_port, external_port, requester, nonce,
        description, expires_boot, expires_at, opened_at
    FROM mappings;
DROP TABLE mappings;
ALTER TABLE mappings_new RENAME TO mappings;

-- A host's own policy as JSON, with its end on the clock of a boot.
ALTER TABLE hosts ADD COLUMN policy TEXT CHECK (policy IS NULL OR json_valid(policy));
ALTER TABLE hosts ADD COLUMN policy_boot INTEGER;
ALTER TABLE hosts ADD COLUMN policy_end INTEGER;

CREATE TABLE waiting (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    server TEXT NOT NULL,
    protocol TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp')),
    internal_port INTEGER NOT NULL CHECK (internal_port BETWEEN 1 AND 65535),
    external_kind TEXT NOT NULL CHECK (external_kind IN ('any', 'exact', 'required', 'suggested')),
    external_port INTEGER CHECK (external_port BETWEEN 1 AND 65535),
    via TEXT NOT NULL CHECK (via IN ('both', 'ipv4', 'ipv6')),
    filters TEXT NOT NULL CHECK (json_valid(filters)),
    requester TEXT NOT NULL,
    nonce BLOB CHECK (length(nonce) = 12),
    description TEXT NOT NULL,
    first_asked INTEGER NOT NULL,
    last_asked INTEGER NOT NULL,
    expires_boot INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    UNIQUE (host, protocol, internal_port)
) STRICT;

CREATE TABLE permissions (
    host TEXT NOT NULL,
    protocol TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp')),
    internal_port INTEGER NOT NULL CHECK (internal_port BETWEEN 1 AND 65535),
    allow INTEGER NOT NULL CHECK (allow IN (0, 1)),
    until_boot INTEGER,
    until_at INTEGER,
    decided_at INTEGER NOT NULL,
    PRIMARY KEY (host, protocol, internal_port),
    CHECK ((until_boot IS NULL) = (until_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE pinholes (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL REFERENCES hosts (mac) DEFERRABLE INITIALLY DEFERRED,
    addr TEXT NOT NULL,
    protocol TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp')),
    port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    remote TEXT CHECK (remote IS NULL OR json_valid(remote)),
    filters TEXT NOT NULL CHECK (json_valid(filters)),
    requester TEXT NOT NULL,
    nonce BLOB CHECK (length(nonce) = 12),
    description TEXT NOT NULL,
    expires_boot INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    opened_at INTEGER NOT NULL
) STRICT;

-- To which shared IPv4 address the epochs belong.
ALTER TABLE meta ADD COLUMN shared_ipv4 TEXT;
