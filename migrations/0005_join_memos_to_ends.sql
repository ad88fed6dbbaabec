-- The memo of a mapping goes where its end is: a PCP client renews from another source port each
-- time it starts anew, and updates of the mapping are sent there (RFC 6887, section 14.2), so that
-- such a renewal changes the memo too. Now every mapping has a row here.

CREATE TABLE renewals (
    mapping INTEGER PRIMARY KEY,
    expires_boot INTEGER,
    expires_at INTEGER,
    memo BLOB,
    CHECK ((expires_boot IS NULL) = (expires_at IS NULL))
) STRICT;

INSERT INTO renewals (mapping, expires_boot, expires_at, memo)
    SELECT id, expires_boot, expires_at, memo
    FROM mappings LEFT JOIN mapping_ends ON mapping = id
    ORDER BY id;

DROP VIEW open_ports;
DROP TABLE mapping_ends;
ALTER TABLE mappings DROP COLUMN memo;

-- For people: what is open, and until when. No end is a static mapping's. Whoever gives a table
-- below another shape drops the view before, and makes it anew.
CREATE VIEW open_ports AS
SELECT mappings.id, hosts.name AS host, mappings.server, mappings.protocol,
    mappings.external_port, mappings.internal_port, mappings.via, mappings.requester,
    mappings.description, datetime(mappings.opened_at / 1000000000, 'unixepoch') AS opened,
    datetime((anchors.wall + renewals.expires_at - anchors.mono) / 1000000000, 'unixepoch')
        AS ends
FROM mappings
JOIN hosts ON hosts.mac = mappings.host
JOIN renewals ON renewals.mapping = mappings.id
LEFT JOIN anchors ON anchors.boot = renewals.expires_boot;
