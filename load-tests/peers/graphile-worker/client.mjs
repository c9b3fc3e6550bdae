// Adds jobs, as somebody who uses graphile-worker would. It has no graph: a job adds the next, and a fan-out is counted.

import { Logger, makeWorkerUtils } from 'graphile-worker'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { answer, minuteAndHour, startWorker, TASKS, upTo, word } from './bench.mjs'

const CHUNK = 1000
const LOOK_AGAIN_MS = 2
const LEFT = 'SELECT 1 FROM graphile_worker._private_jobs LIMIT 1'

const connectionString = process.env.PEER_DATABASE_URL
const logger = new Logger(() => () => {})
const utils = await makeWorkerUtils({ connectionString, logger })
await utils.migrate()
const database = new pg.Client({ connectionString })
await database.connect()
const worker = await startWorker()

/** Adds jobs and waits until the worker has told that so many have ended, and until that is written down, which is later. */
async function untilEnded(count, add) {
  worker.send(count)
  await word(worker)
  const ended = word(worker)
  await add()
  await ended
  while ((await database.query(LEFT)).rowCount > 0) await setTimeout(LOOK_AGAIN_MS)
}

async function addMany(count) {
  for (let added = 0; added < count; added += CHUNK) {
    const jobs = upTo(Math.min(CHUNK, count - added))
    await utils.addJobs(jobs.map(() => ({ identifier: 'nothing', payload: {} })))
  }
}

async function addEach(tags) {
  for (const tag of tags) await utils.addJob('say', { tag })
}

await answer({
  chain: () => untilEnded(1, () => utils.addJob('link', { after: TASKS - 1 })),
  fan_out: () => untilEnded(TASKS, () => addMany(TASKS)),
  runs: (tags) => untilEnded(tags.length, () => addEach(tags)),
  bulk: (count) => untilEnded(count, () => addMany(count)),
  schedule: (due) => startWorker(minuteAndHour(due)),
})
