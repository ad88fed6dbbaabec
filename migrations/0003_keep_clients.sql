-- What a room keeps with a mapping to find its client again, an inbound and an outbound mapping
-- at one port of the shared IPv4 address, and requests for pinholes that wait for a person.

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
    memo BLOB,
    UNIQUE (host, protocol, external_port, via, peer),
    CHECK ((expires_boot IS NULL) = (expires_at IS NULL))
) STRICT;

INSERT INTO mappings_new (id, host, server, protocol, internal_port, external_port, requester,
        nonce, description, expires_boot, expires_at, opened_at, via, peer, filters)
    SELECT id, host, server, protocol, internal_port, external_port, requester, nonce,
        description, expires_boot, expires_at, opened_at, via, peer, filters
    FROM mappings;
DROP TABLE mappings;
ALTER TABLE mappings_new RENAME TO mappings;

-- The address and the remote of a pinhole as JSON; one request for each kind of port.
CREATE TABLE waiting_new (
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
    pinhole TEXT CHECK (pinhole IS NULL OR json_valid(pinhole))
) STRICT;

INSERT INTO waiting_new (id, host, server, protocol, internal_port, external_kind, external_port,
        via, filters, requester, nonce, description, first_asked, last_asked, expires_boot,
        expires_at)
    SELECT id, host, server, protocol, internal_port, external_kind, external_port, via, filters,
        requester, nonce, description, first_asked, last_asked, expires_boot, expires_at
    FROM waiting;
DROP TABLE waiting;
ALTER TABLE waiting_new RENAME TO waiting;
CREATE UNIQUE INDEX waiting_about
    ON waiting (host, protocol, internal_port, (pinhole IS NULL));
