"""gupnp-igd, the control point of GNOME and of libnice, by its introspection data."""

import gi

gi.require_version("GUPnPIgd", "1.0")
from gi.repository import GLib, GUPnPIgd  # noqa: E402
from wish import ADDR, PORT, PROTOCOL, say, until_asked_to_close  # noqa: E402

loop = GLib.MainLoop()
igd = GUPnPIgd.SimpleIgd()


def on_mapped(_, protocol, external_ip, replaces, port, local_ip, local_port, description):
    say("granted", protocol, external_ip, port, "for", local_ip, local_port, description)
    loop.quit()


def on_error(_, error, protocol, port, *rest):
    say("error", error.message, protocol, port)
    loop.quit()


igd.connect("mapped-external-port", on_mapped)
igd.connect("error-mapping-port", on_error)
igd.add_port(PROTOCOL, PORT, ADDR, PORT, 600, "gupnp-igd")
GLib.timeout_add_seconds(60, loop.quit)
loop.run()
say("mapped", PORT)
until_asked_to_close()
igd.remove_port(PROTOCOL, PORT)
# It tells nobody when the gateway has answered.
GLib.timeout_add(3000, loop.quit)
loop.run()
say("unmapped")
