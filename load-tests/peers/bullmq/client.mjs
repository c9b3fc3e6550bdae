// Adds jobs and flows, as somebody who uses BullMQ would, and waits for their ends by the queue's events.

import { FlowProducer, Queue, QueueEvents } from 'bullmq'
import { setTimeout } from 'node:timers/promises'
import { answer, minuteAndHour, SCHEDULES, startWorker, TASKS, upTo } from './bench.mjs'

const CHUNK = 1000
const LOOK_AGAIN_MS = 5
const NAME = 'peer'
const KEEP = { removeOnComplete: { count: 1000 } }

const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null }
const queue = new Queue(NAME, { connection })
const flows = new FlowProducer({ connection })
const events = new QueueEvents(NAME, { connection })
await events.waitUntilReady()
await startWorker()

const node = (children) => ({ name: 'nothing', queueName: NAME, data: {}, opts: KEEP, children })
const chain = () => upTo(TASKS - 1).reduce((before) => node([before]), node())
const fanOut = () => node(upTo(TASKS).map(() => node()))

async function flow(tree) {
  const { job } = await flows.add(tree)
  await job.waitUntilFinished(events)
}

async function runs(tags) {
  const jobs = []
  for (const tag of tags) jobs.push(await queue.add('say', { tag }, KEEP))
  await Promise.all(jobs.map((job) => job.waitUntilFinished(events)))
}

async function bulk(count) {
  for (let added = 0; added < count; added += CHUNK) {
    await queue.addBulk(upTo(Math.min(CHUNK, count - added)).map(() => ({ name: 'nothing', data: {}, opts: KEEP })))
  }
  for (;;) {
    const { wait, active } = await queue.getJobCounts('wait', 'active')
    if (wait + active === 0) return
    await setTimeout(LOOK_AGAIN_MS)
  }
}

async function schedule(due) {
  const repeat = { pattern: `${minuteAndHour(due)} * * *`, tz: 'UTC' }
  for (const number of upTo(SCHEDULES)) await queue.upsertJobScheduler(`tick-${number}`, repeat, { name: 'tick', data: {} })
}

await answer({ chain: () => flow(chain()), fan_out: () => flow(fanOut()), runs, bulk, schedule })
