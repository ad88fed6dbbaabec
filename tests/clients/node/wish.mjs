// How the tests speak with a client: what to open is in its arguments, it says what it did on
// its output, and the end of its input asks it to close what it opened.
export const [addr, protocol, portText, ...rest] = process.argv.slice(2)
export const port = Number(portText)

export function say (...words) {
  console.log(...words)
}

export async function untilAskedToClose () {
  for await (const _ of process.stdin);
}
