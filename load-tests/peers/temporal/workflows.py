"""A chain, a fan-out, one activity and schedules, as Temporal has them, and the worker that runs them."""

import asyncio
import os
import sys
import time
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

QUEUE = 'peer'
LIMIT = timedelta(minutes=2)


@activity.defn
async def nothing(number: int) -> int:
    return number


@activity.defn
async def stamp(tag: str) -> None:
    with open(os.path.join(os.environ['PEER_FOLDER'], 'stamps'), 'a') as stamps:
        stamps.write(f'{tag} {time.time()}\n')


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, tasks: int) -> None:
        for number in range(tasks):
            await workflow.execute_activity(nothing, number, start_to_close_timeout=LIMIT)


@workflow.defn
class FanOut:
    @workflow.run
    async def run(self, tasks: int) -> None:
        each = [workflow.execute_activity(nothing, number, start_to_close_timeout=LIMIT) for number in range(tasks)]
        await asyncio.gather(*each)


@workflow.defn
class One:
    @workflow.run
    async def run(self, tag: str) -> None:
        await workflow.execute_activity(stamp, tag, start_to_close_timeout=LIMIT)


async def work(address):
    client = await Client.connect(address)
    worker = Worker(
        client,
        task_queue=QUEUE,
        workflows=[Chain, FanOut, One],
        activities=[nothing, stamp],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    await worker.run()


if __name__ == '__main__':
    asyncio.run(work(sys.argv[1]))
