// @achingbrain/nat-port-mapper of npm, libp2p's, by `upnp` or by `pmp`.
import { pmpNat, upnpNat } from '@achingbrain/nat-port-mapper'
import { addr, port, protocol, rest, say, untilAskedToClose } from './wish.mjs'

const [dialect, router] = rest

async function findGateway () {
  if (dialect === 'pmp') return pmpNat(router)
  for await (const found of upnpNat().findGateways({ signal: AbortSignal.timeout(60_000) })) return found
  throw new Error('no gateway answers')
}

const gateway = await findGateway()
say('external', await gateway.externalIp())
const mapping = await gateway.map(port, addr, { protocol, autoRefresh: false })
say('granted', mapping.externalHost, mapping.externalPort, mapping.protocol)
say('mapped', port)
await untilAskedToClose()
await gateway.unmap(port, { protocol, autoRefresh: false })
say('unmapped')
await gateway.stop()
