"""async-upnp-client of PyPI, Home Assistant's, with its IGD profile; with the argument `events`
it subscribes, and believes only what it is notified of."""

import asyncio
from datetime import timedelta
from ipaddress import IPv4Address

from async_upnp_client.aiohttp import AiohttpNotifyServer, AiohttpRequester
from async_upnp_client.client_factory import UpnpFactory
from async_upnp_client.profiles.igd import IgdDevice
from wish import ADDR, PORT, PROTOCOL, REST, say, until_asked_to_close


async def main():
    found = await IgdDevice.async_search(source=(ADDR, 0), timeout=4)
    roots = sorted({answer["ST"]: answer["LOCATION"] for answer in found}.items())
    say("found", *(target.rsplit(":", 1)[1] for target, _ in roots))
    _, location = roots[-1]
    requester = AiohttpRequester()
    device = await UpnpFactory(requester).async_create_device(location)
    server = AiohttpNotifyServer(requester, source=(ADDR, 0))
    await server.async_start_server()
    igd = IgdDevice(device, server.event_handler)
    heard = Heard(igd)

    status = await igd.async_get_status_info()
    say("status", status.connection_status, "external", await igd.async_get_external_ip_address())
    if "events" in REST:
        await igd.async_subscribe_services()
        await heard.until("ConnectionStatus", "Connected")
        await heard.until("ExternalIPAddress", "0.0.0.0")
        await heard.until("PortMappingNumberOfEntries", 0)

    everybody = IPv4Address("0.0.0.0")
    await igd.async_add_port_mapping(
        everybody, PORT, PROTOCOL, PORT, IPv4Address(ADDR), True, "async", timedelta(seconds=600)
    )
    entry = await igd.async_get_specific_port_mapping_entry(everybody, PORT, PROTOCOL)
    say("entry", entry.internal_client, entry.internal_port, entry.description)
    if "events" in REST:
        await heard.until("PortMappingNumberOfEntries", 1)
    say("mapped", PORT)
    await asyncio.to_thread(until_asked_to_close)
    await igd.async_delete_port_mapping(everybody, PORT, PROTOCOL)
    if "events" in REST:
        await heard.until("PortMappingNumberOfEntries", 0)
        await igd.async_unsubscribe_services()
    await server.async_stop_server()
    say("unmapped")


class Heard:
    """What the gateway notified of."""

    def __init__(self, igd):
        self.values = {}
        self.news = asyncio.Event()
        igd.on_event = self.on_event

    def on_event(self, service, variables):
        say("event", service.service_type, *(f"{it.name}={it.value}" for it in variables))
        self.values.update({it.name: it.value for it in variables})
        self.news.set()

    async def until(self, name, value):
        async with asyncio.timeout(60):
            while self.values.get(name) != value:
                self.news.clear()
                await self.news.wait()


asyncio.run(main())
