// Runs jobs, and tells who started it when as many as it said have ended. With a minute and an hour it has schedules too.

import { Logger, run } from 'graphile-worker'
import { SCHEDULES, SETTING, stamp, upTo } from './bench.mjs'

const BATCHED = { concurrentJobs: 24, maxPoolSize: 27, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
const PLAIN = { concurrentJobs: 8, maxPoolSize: 11 }

const [due] = process.argv.slice(2)
const logger = new Logger(() => () => {})
const connectionString = process.env.PEER_DATABASE_URL
const worker = { connectionString, logger, ...(SETTING === 'batched' ? BATCHED : PLAIN) }

const runner = await run({
  preset: { worker },
  crontab: due && upTo(SCHEDULES).map((number) => `${due} * * * tick ?id=tick-${number}`).join('\n'),
  taskList: {
    link: async ({ after }, { addJob }) => {
      if (after > 0) await addJob('link', { after: after - 1 })
    },
    nothing: async () => {},
    say: async ({ tag }) => stamp(tag),
    tick: async () => stamp('cron'),
  },
})

let left = 0
process.on('message', (count) => {
  left = count
  process.send('counting')
})
runner.events.on('job:complete', ({ job }) => {
  const isWithin = job.task_identifier === 'link' && job.payload.after > 0
  if (!isWithin && --left === 0) process.send('ended')
})
process.send('ready')
