"""libtorrent, with Debian's Python: a session maps the port that it listens at."""

import time

import libtorrent
from wish import ADDR, PORT, REST, say, until_asked_to_close

category = libtorrent.alert.category_t
settings = {
    "listen_interfaces": f"{ADDR}:{PORT}",
    "enable_upnp": "upnp" in REST,
    "enable_natpmp": "natpmp" in REST,
    "enable_dht": False,
    "enable_lsd": False,
    "alert_mask": category.port_mapping_notification | category.port_mapping_log_notification,
}
session = libtorrent.session(settings)
mapped = set()
deadline = time.monotonic() + 60
while len(mapped) < 2 and time.monotonic() < deadline:
    session.wait_for_alert(100)
    for alert in session.pop_alerts():
        if isinstance(alert, libtorrent.portmap_alert):
            mapped.add(alert.message())
            say(alert.message())
        elif isinstance(alert, libtorrent.portmap_error_alert):
            say("error", alert.message())
        elif "external IP address" in alert.message() or "<== port map" in alert.message():
            say(alert.message().splitlines()[0])
assert len(mapped) == 2, "it maps TCP and UDP"
say("mapped", PORT)
until_asked_to_close()
del session
say("unmapped")
