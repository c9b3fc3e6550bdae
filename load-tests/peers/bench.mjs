// What the measurements of peers in Node.js share: stamps, and doing what is asked for line by line; see bench.py.

import { fork } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

export const { tasks: TASKS, schedules: SCHEDULES } = JSON.parse(process.env.PEER_WORK)
export const SETTING = process.env.PEER_SETTING

const STAMPS = `${process.env.PEER_FOLDER}/stamps`

/** Says a tag, as user code does, with the time. */
export function stamp(tag) {
  appendFileSync(STAMPS, `${tag} ${(performance.timeOrigin + performance.now()) / 1000}\n`)
}

/** How many, one after the other. */
export const upTo = (count) => Array.from({ length: count }, (_, number) => number)

/** The minute and hour of an instant in seconds, as cron expressions begin. */
export function minuteAndHour(due) {
  const at = new Date(due * 1000)
  return `${at.getUTCMinutes()} ${at.getUTCHours()}`
}

/** Starts a worker and waits until it says that it is ready. Only we speak on standard output. */
export function startWorker(...values) {
  return new Promise((resolve) => {
    const worker = fork(new URL('worker.mjs', import.meta.url), values, { stdio: ['ignore', 2, 2, 'ipc'] })
    worker.once('message', () => resolve(worker))
  })
}

/** The next word of a worker. */
export const word = (worker) => new Promise((resolve) => worker.once('message', resolve))

/** Does what each line asks for, and answers with a line when that has ended. */
export async function answer(actions) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [action, ...values] = JSON.parse(line)
    const said = await actions[action](...values).then(() => ({}), (error) => ({ error: `${error}` }))
    process.stdout.write(`${JSON.stringify(said)}\n`)
  }
}
