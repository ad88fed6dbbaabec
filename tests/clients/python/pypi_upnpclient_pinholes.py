"""upnpclient of PyPI asks for an IPv6 pinhole."""

import upnpclient
from wish import PORT, REST, say

(client,) = REST

devices = upnpclient.discover(timeout=5)
wanted = "urn:schemas-upnp-org:device:InternetGatewayDevice:2"
device = next(it for it in devices if it.device_type == wanted)
firewall = next(it for it in device.services if ":WANIPv6FirewallControl:" in it.service_type)
status = firewall.GetFirewallStatus()
say("enabled", status["FirewallEnabled"], "allowed", status["InboundPinholeAllowed"])
try:
    firewall.AddPinhole(
        RemoteHost="",
        RemotePort=0,
        InternalClient=client,
        InternalPort=PORT,
        Protocol=6,
        LeaseTime=600,
    )
except upnpclient.soap.SOAPError as error:
    say("refused", *error.args)
say("asked")
