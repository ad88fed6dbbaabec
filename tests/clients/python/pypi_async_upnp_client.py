"""async-upnp-client of PyPI, Home Assistant's, with its IGD profile."""

import asyncio
from datetime import timedelta
from ipaddress import IPv4Address

from async_upnp_client.aiohttp import AiohttpRequester
from async_upnp_client.client_factory import UpnpFactory
from async_upnp_client.profiles.igd import IgdDevice
from wish import ADDR, PORT, PROTOCOL, say, until_asked_to_close


async def main():
    found = await IgdDevice.async_search(source=(ADDR, 0), timeout=2)
    roots = sorted({answer["ST"]: answer["LOCATION"] for answer in found}.items())
    say("found", *(target.rsplit(":", 1)[1] for target, _ in roots))
    _, location = roots[-1]
    device = await UpnpFactory(AiohttpRequester()).async_create_device(location)
    igd = IgdDevice(device, None)
    status = await igd.async_get_status_info()
    say("status", status.connection_status, "external", await igd.async_get_external_ip_address())

    everybody = IPv4Address("0.0.0.0")
    await igd.async_add_port_mapping(
        everybody, PORT, PROTOCOL, PORT, IPv4Address(ADDR), True, "async", timedelta(seconds=600)
    )
    entry = await igd.async_get_specific_port_mapping_entry(everybody, PORT, PROTOCOL)
    say("entry", entry.internal_client, entry.internal_port, entry.description)
    say("mapped", PORT)
    until_asked_to_close()
    await igd.async_delete_port_mapping(everybody, PORT, PROTOCOL)
    say("unmapped")


asyncio.run(main())
