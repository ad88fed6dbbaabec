"""miniupnpc of PyPI: the control point of many programs."""

import miniupnpc
from wish import ADDR, PORT, PROTOCOL, say, until_asked_to_close

igd = miniupnpc.UPnP()
igd.discoverdelay = 3000
say("devices", igd.discover())
say("selected", igd.selectigd().rsplit("/", 3)[-3:])
say("status", igd.statusinfo()[0], igd.connectiontype(), "external", igd.externalipaddress())
say("received", igd.totalbytereceived(), "sent", igd.totalbytesent())
say("added", igd.addportmapping(PORT, PROTOCOL, ADDR, PORT, "miniupnpc of PyPI", "", 600))
say("entry", *igd.getspecificportmapping(PORT, PROTOCOL)[:4])
say("first", *igd.getgenericportmapping(0)[:4])
say("mapped", PORT)
until_asked_to_close()
say("deleted", igd.deleteportmapping(PORT, PROTOCOL))
try:
    igd.deleteportmapping(PORT, PROTOCOL)
except Exception as error:
    say("again", error)
say("unmapped")
