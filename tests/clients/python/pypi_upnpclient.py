"""upnpclient of PyPI: knows no IGD; it makes its calls of the service descriptions."""

import upnpclient
from wish import ADDR, PORT, PROTOCOL, REST, say, until_asked_to_close

version = REST[0]
devices = upnpclient.discover(timeout=5)
wanted = f"urn:schemas-upnp-org:device:InternetGatewayDevice:{version}"
device = next(it for it in devices if it.device_type == wanted)
say("found", device.friendly_name, "with", *sorted(it.name for it in device.services))
connection = next(it for it in device.services if ":WANIPConnection:" in it.service_type)
say("status", connection.GetStatusInfo()["NewConnectionStatus"])
say("external", connection.GetExternalIPAddress()["NewExternalIPAddress"])
which = {"NewRemoteHost": "", "NewExternalPort": PORT, "NewProtocol": PROTOCOL}
connection.AddPortMapping(
    **which,
    NewInternalPort=PORT,
    NewInternalClient=ADDR,
    NewEnabled="1",
    NewPortMappingDescription="<upnpclient>",
    NewLeaseDuration=600,
)
entry = connection.GetSpecificPortMappingEntry(**which)
say("entry", entry["NewInternalClient"], entry["NewInternalPort"], entry["NewPortMappingDescription"])
say("mapped", PORT)
until_asked_to_close()
if version == "1":
    connection.DeletePortMapping(**which)
else:
    ports = {"NewStartPort": PORT - 1, "NewEndPort": PORT + 1, "NewProtocol": PROTOCOL}
    listing = connection.GetListOfPortMappings(**ports, NewManage="0", NewNumberOfPorts=0)
    say("list", " ".join(listing["NewPortListing"].split()))
    connection.DeletePortMappingRange(**ports, NewManage="0")
try:
    connection.GetSpecificPortMappingEntry(**which)
except upnpclient.soap.SOAPError as error:
    say("then", *error.args)
say("unmapped")
