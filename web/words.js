// @ts-check
// What the names of the API mean to people. A test holds the names together with the program.

/** Which ports a device opens by itself. @type {Record<string, string>} */
export const PORT_CLASSES = {
  "all": "every port",
  "high": "ports from 1024",
  "none": "no port by itself",
  "web-and-high": "80, 443, 554 and ports from 1024",
};

/** Where a session stands. @type {Record<string, string>} */
export const STATES = {
  "established": "open",
  "trans": "reset, or silent for long; ends soon",
  "v4-fin": "the device has closed its side",
  "v4-fin-v6-fin": "both sides have closed",
  "v4-init": "the remote has not answered yet",
  "v6-fin": "the remote has closed its side",
  "v6-init": "the device has not answered yet",
};

/** Why sessions ended. @type {Record<string, string>} */
export const ENDS = {
  "closed": "its port was closed, or the device or the prefix went",
  "evicted": "its place was needed for another one",
  "expired": "both sides had closed, or nothing came for long enough",
  "requested": "somebody ended it here",
};

/** Why packets did not pass. @type {Record<string, string>} */
export const DROPS = {
  "closed": "a remote knocked where nothing is open",
  "filtered": "a remote knocked at a port that is open for others only",
  "fragment_duplicate": "a part of a larger packet that had come already",
  "fragment_evicted": "a part of a larger packet; too many wait for their other parts",
  "fragment_extension": "a part of a larger packet, with a form that IPv4 cannot have",
  "fragment_inconsistent": "parts of a larger packet that do not fit together",
  "fragment_overlap": "parts of a larger packet that overlap, as in an attack",
  "fragment_timeout": "a part of a larger packet, the rest of which did not come in time",
  "fragment_tiny": "a part of a larger packet that is cut too small, as in an attack",
  "hairpin": "a remote tried to reach another remote through us",
  "hop_limit": "it had travelled too far",
  "icmp_checksum": "damaged: the checksum of its ICMP message",
  "icmp_error": "an error message that belongs to nothing here",
  "icmp_nested": "an error message about an error message",
  "icmp_unsupported": "an ICMP message that has no counterpart",
  "illegal_source": "its sender's address is nobody's",
  "malformed_icmp": "damaged: its ICMP header",
  "malformed_ipv4": "damaged: its IPv4 header",
  "malformed_ipv6": "damaged: its IPv6 header",
  "malformed_offload": "damaged: what the kernel says of it",
  "malformed_tcp": "damaged: its TCP header",
  "malformed_udp": "damaged: its UDP header",
  "no_session": "a device spoke to a remote that had not asked it",
  "not_global": "a private address behind the well-known prefix",
  "not_mapped": "an address that no map and no prefix translates",
  "not_ours": "it was for an address that is not ours",
  "not_syn": "it belongs to a connection that is not there",
  "pool_exhausted": "no address and port is left behind which a remote could appear",
  "remote_full": "this remote has as many sessions as one may have",
  "remote_rate": "this remote begins sessions faster than one may",
  "server_full": "this device has as many sessions as one may have",
  "server_rate": "sessions with this device begin faster than they may",
  "sessions_full": "there are as many sessions as the configuration allows",
  "source_in_pref64": "its sender claims to be one of our devices",
  "source_routed": "it asks for a way of its own",
  "too_big": "it is too big for the way",
  "tuple_in_use": "the device already speaks with this remote by the same ports",
  "udp_without_checksum": "a UDP packet without a checksum",
  "unknown_connection": "a device spoke of a connection that is not there",
  "unsolicited": "somebody in IPv4 spoke first",
  "unsupported_protocol": "neither TCP nor UDP nor ICMP",
};

/** What Portico itself answered. @type {Record<string, string>} */
export const ANSWERS = {
  "address_unreachable": "“there is no way there”",
  "prohibited": "“this is not open”",
  "protocol_unreachable": "“this protocol is not translated”",
  "reset": "“this connection is not there any more”",
  "source_routed": "“ways of your own are not followed”",
  "too_big": "“send smaller packets”",
};

/**
 * A name without words is shown as it is.
 * @param {Record<string, string>} words
 * @param {string} name
 */
export const say = (words, name) => words[name] ?? name.replaceAll("_", " ");
