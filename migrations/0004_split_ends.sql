-- The ends of mappings in a table of their own, since a renewal changes nothing else: its rows
-- are short, so that renewals among many mappings touch few pages.

CREATE TABLE mapping_ends (
    mapping INTEGER PRIMARY KEY,
    expires_boot INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

INSERT INTO mapping_ends (mapping, expires_boot, expires_at)
    SELECT id, expires_boot, expires_at FROM mappings WHERE expires_at IS NOT NULL ORDER BY id;

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
    opened_at INTEGER NOT NULL,
    via TEXT NOT NULL DEFAULT 'ipv6' CHECK (via IN ('both', 'ipv4', 'ipv6')),
    peer INTEGER NOT NULL DEFAULT 0 CHECK (peer IN (0, 1)),
    filters TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(filters)),
    memo BLOB,
    UNIQUE (host, protocol, external_port, via, peer)
) STRICT;

INSERT INTO mappings_new (id, host, server, protocol, internal_port, external_port, requester,
        nonce, description, opened_at, via, peer, filters, memo)
    SELECT id, host, server, protocol, internal_port, external_port, requester, nonce,
        description, opened_at, via, peer, filters, memo
    FROM mappings;
DROP TABLE mappings;
ALTER TABLE mappings_new RENAME TO mappings;

-- For people: what is open, and until when. No end is a static mapping's. Whoever gives a table
-- below another shape drops the view before, and makes it anew.
CREATE VIEW open_ports AS
SELECT mappings.id, hosts.name AS host, mappings.server, mappings.protocol,
    mappings.external_port, mappings.internal_port, mappings.via, mappings.requester,
    mappings.description, datetime(mappings.opened_at / 1000000000, 'unixepoch') AS opened,
    datetime((anchors.wall + mapping_ends.expires_at - anchors.mono) / 1000000000, 'unixepoch')
        AS ends
FROM mappings
JOIN hosts ON hosts.mac = mappings.host
LEFT JOIN mapping_ends ON mapping_ends.mapping = mappings.id
LEFT JOIN anchors ON anchors.boot = mapping_ends.expires_boot;
