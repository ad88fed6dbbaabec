// nat-upnp-rejetto of npm, which HFS uses.
import natUpnp from 'nat-upnp-rejetto'
import { port, protocol, say, untilAskedToClose } from './wish.mjs'

const client = new natUpnp.Client()

say('external', await client.getPublicIp())
await client.createMapping({ public: port, private: port, protocol, ttl: 600, description: 'rejetto & co' })
const entry = (await client.getMappings()).find((it) => it.public.port === port)
say('entry', entry.private.host, entry.private.port, entry.protocol, entry.description)
say('mapped', port)
await untilAskedToClose()
await client.removeMapping({ public: port, protocol })
say('unmapped')
client.close()
