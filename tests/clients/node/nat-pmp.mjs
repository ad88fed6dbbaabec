// nat-pmp of npm.
import { promisify } from 'node:util'
import natPmp from 'nat-pmp'
import { port, protocol, rest, say, untilAskedToClose } from './wish.mjs'

const [gateway] = rest
const client = natPmp.connect(gateway)
const run = (method, ...args) => promisify(client[method].bind(client))(...args)

say('external', (await run('externalIp')).ip.join('.'))
const { external } = await run('portMapping', { private: port, public: port, type: protocol, ttl: 600 })
say('mapped', external)
await untilAskedToClose()
await run('portUnmapping', { private: port, public: port, type: protocol })
say('unmapped')
client.close()
