// Runs jobs.

import { Worker } from 'bullmq'
import { stamp } from './bench.mjs'

const SLOTS = 8

const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null }

async function run(job) {
  if (job.name === 'say') stamp(job.data.tag)
  if (job.name === 'tick') stamp('cron')
}

await new Worker('peer', run, { connection, concurrency: SLOTS }).waitUntilReady()
process.send('ready')
