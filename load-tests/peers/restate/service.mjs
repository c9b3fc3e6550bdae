// The handlers: chains and fan-outs of calls, or of steps.

import * as restate from '@restatedev/restate-sdk'
import { createServer } from 'node:http2'
import { stamp, upTo } from './bench.mjs'

const [port] = process.argv.slice(2)

const call = (ctx) => ctx.serviceClient({ name: 'peer' }).nothing()
const step = (ctx, number) => ctx.run(`step ${number}`, () => 0)

const inARow = (task) => async (ctx, tasks) => {
  for (const number of upTo(tasks)) await task(ctx, number)
}
const atOnce = (task) => async (ctx, tasks) => {
  await restate.RestatePromise.all(upTo(tasks).map((number) => task(ctx, number)))
}

const peer = restate.service({
  name: 'peer',
  handlers: {
    chain_dispatched: inARow(call),
    chain_inline: inARow(step),
    fan_out_dispatched: atOnce(call),
    fan_out_inline: atOnce(step),
    nothing: async () => 0,
    one: async (ctx) => step(ctx, 0),
    say: async (ctx, tag) => ctx.run('say', () => stamp(tag)),
    tick: async () => stamp('cron'),
  },
})

createServer(restate.createEndpointHandler({ services: [peer] })).listen(Number(port), '127.0.0.1')
