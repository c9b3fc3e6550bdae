// Calls handlers through the server. It has no schedules: what is late here are calls that were asked for ahead of time.

import { answer, SCHEDULES, SETTING, TASKS, upTo } from './bench.mjs'

const IN_FLIGHT = 64

const [port] = process.argv.slice(2)

async function call(handler, value) {
  const body = value === undefined ? {} : { body: JSON.stringify(value), headers: { 'content-type': 'application/json' } }
  const answered = await fetch(`http://127.0.0.1:${port}/peer/${handler}`, { method: 'POST', ...body })
  const text = await answered.text()
  if (!answered.ok) throw new Error(`${handler}: ${answered.status} ${text}`)
}

async function runs(tags) {
  await Promise.all(tags.map((tag) => call('say', tag)))
}

async function bulk(count) {
  let left = count
  const one = async () => {
    while (left-- > 0) await call('one')
  }
  await Promise.all(upTo(IN_FLIGHT).map(one))
}

async function schedule(due) {
  await Promise.all(upTo(SCHEDULES).map(() => call(`tick/send?delay=${Math.round(due * 1000 - Date.now())}ms`)))
}

await answer({
  chain: () => call(`chain_${SETTING}`, TASKS),
  fan_out: () => call(`fan_out_${SETTING}`, TASKS),
  runs,
  bulk,
  schedule,
})
