"""NAT-PMP of PyPI."""

import natpmp
from wish import PORT, PROTOCOL, say, until_asked_to_close

number = natpmp.NATPMP_PROTOCOL_TCP if PROTOCOL == "TCP" else natpmp.NATPMP_PROTOCOL_UDP
say("gateway", natpmp.get_gateway_addr(), "external", natpmp.get_public_address())
answer = natpmp.map_port(number, PORT, PORT, lifetime=600)
say("granted", answer.public_port, "for", answer.lifetime)
say("mapped", PORT)
until_asked_to_close()
answer = natpmp.map_port(number, 0, PORT, lifetime=0)
say("closed with", answer.result)
say("unmapped")
