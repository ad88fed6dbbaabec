// nat-upnp of npm.
import { promisify } from 'node:util'
import natUpnp from 'nat-upnp'
import { port, protocol, say, untilAskedToClose } from './wish.mjs'

const client = natUpnp.createClient()
// how long it searches; it takes the first that answers
client.timeout = 60_000
const run = (method, ...args) => promisify(client[method].bind(client))(...args)

say('external', await run('externalIp'))
await run('portMapping', { public: port, private: port, protocol, ttl: 600, description: 'nat-upnp & co' })
const entry = (await run('getMappings', { local: true })).find((it) => it.public.port === port)
say('entry', entry.private.host, entry.private.port, entry.protocol, entry.description)
say('mapped', port)
await untilAskedToClose()
await run('portUnmapping', { public: port, protocol })
say('unmapped')
client.close()
