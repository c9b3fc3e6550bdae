"""Temporal: its development server with SQLite on disk (no registry has a build for PostgreSQL), and one worker process."""

import asyncio
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import bench
import workflows
from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleCalendarSpec, ScheduleRange, ScheduleSpec

PORT = bench.free_port()
ADDRESS = f'127.0.0.1:{PORT}'
SERVER = ['server', 'start-dev', '--ip', '127.0.0.1', '--port', str(PORT), '--headless', '--log-level', 'error']
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'workflows.py')
loop = asyncio.new_event_loop()
client = None
ids = iter(range(1_000_000))


def connect():
    global client
    client = loop.run_until_complete(Client.connect(ADDRESS))
    return client


def execute(workflow, *arguments):
    async def all_of_them():
        runs = [client.execute_workflow(workflow, each, id=f'w-{next(ids)}', task_queue=workflows.QUEUE) for each in arguments]
        await asyncio.gather(*runs)

    loop.run_until_complete(all_of_them())


async def schedule(minute):
    spec = ScheduleSpec(calendars=[ScheduleCalendarSpec(minute=[ScheduleRange(minute)], hour=[ScheduleRange(0, 23)])])
    for number in range(bench.WORK['schedules']):
        action = ScheduleActionStartWorkflow(
            workflows.One.run, 'cron', id=f'tick-{number}', task_queue=workflows.QUEUE
        )
        await client.create_schedule(f'tick-{number}', Schedule(action=action, spec=spec))


def measure():
    bench.start('server', 'temporal', *SERVER, '--db-filename', os.path.join(bench.FOLDER, 'temporal.db'))
    bench.until('the server', connect)
    bench.start('worker', sys.executable, WORKER, ADDRESS)
    bench.measure_runs(
        run=lambda workflow: execute(workflow, bench.WORK['tasks']),
        chain=workflows.Chain.run,
        fan_out=workflows.FanOut.run,
        one=lambda tags: execute(workflows.One.run, *tags),
    )
    if not bench.wanted('cron'):
        return
    due = bench.due_minute(15)
    loop.run_until_complete(schedule(time.gmtime(due).tm_min))
    bench.measure_cron(due)


bench.main(measure)
