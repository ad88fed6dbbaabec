// nat-api of npm; with the argument `pmp` it tries NAT-PMP first.
import { promisify } from 'node:util'
import NatAPI from 'nat-api'
import { port, protocol, rest, say, untilAskedToClose } from './wish.mjs'

const client = new NatAPI({ enablePMP: rest.includes('pmp'), description: 'nat-api' })
// how long it searches; it takes the first that answers
client._upnpClient.timeout = 60_000
const run = (method, ...args) => promisify(client[method].bind(client))(...args)
const mapping = { publicPort: port, privatePort: port, protocol, ttl: 1200 }

say('external', await run('externalIp'))
await run('map', mapping)
say('mapped', port)
await untilAskedToClose()
await run('unmap', mapping)
say('unmapped')
await run('destroy')
