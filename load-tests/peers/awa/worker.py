"""Adds jobs and runs them. awa has no graph: a job adds the next, and a fan-out is counted; the end is that of the last job."""

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass

import awa

DATABASE_URL = os.environ['PEER_DATABASE_URL']
SLOTS = int(os.environ['PEER_SETTING'])
WORK = json.loads(os.environ['PEER_WORK'])
QUEUE = 'peer'
CHUNK = 5000


@dataclass
class Link:
    after: int


@dataclass
class Nothing:
    number: int


@dataclass
class Say:
    tag: str


def stamp(tag):
    with open(os.path.join(os.environ['PEER_FOLDER'], 'stamps'), 'a') as stamps:
        stamps.write(f'{tag} {time.time()}\n')


class Peer:
    def __init__(self):
        self.left = 0
        self.ended = asyncio.Event()

    async def begin(self, schedules=0, due=0):
        """Starts a worker; schedules are told to it before it starts."""
        self.client = awa.AsyncClient(DATABASE_URL)
        await self.client.migrate()
        self.client.task(Link, queue=QUEUE)(self.link)
        self.client.task(Nothing, queue=QUEUE)(self.nothing)
        self.client.task(Say, queue=QUEUE)(self.say)
        at = time.gmtime(due)
        for number in range(schedules):
            self.client.periodic(f'tick-{number}', f'{at.tm_min} {at.tm_hour} * * *', Say, Say('cron'), queue=QUEUE)
        await self.client.start([(QUEUE, SLOTS)])

    async def link(self, job):
        if job.args.after > 0:
            await self.client.insert(Link(job.args.after - 1), queue=QUEUE)
        else:
            self.end_one()

    async def nothing(self, job):
        self.end_one()

    async def say(self, job):
        stamp(job.args.tag)
        self.end_one()

    def end_one(self):
        self.left -= 1
        if self.left == 0:
            self.ended.set()

    async def until_ended(self, count, add):
        self.ended.clear()
        self.left = count
        await add
        await self.ended.wait()

    async def add_many(self, count):
        for first in range(0, count, CHUNK):
            jobs = [Nothing(number) for number in range(first, min(first + CHUNK, count))]
            await self.client.insert_many_copy(jobs, queue=QUEUE)

    async def add_each(self, tags):
        for tag in tags:
            await self.client.insert(Say(tag), queue=QUEUE)

    async def chain(self):
        await self.until_ended(1, self.client.insert(Link(WORK['tasks'] - 1), queue=QUEUE))

    async def fan_out(self):
        await self.until_ended(WORK['tasks'], self.add_many(WORK['tasks']))

    async def runs(self, tags):
        await self.until_ended(len(tags), self.add_each(tags))

    async def bulk(self, count):
        await self.until_ended(count, self.add_many(count))

    async def schedule(self, due):
        await self.client.shutdown()
        await self.begin(WORK['schedules'], due)


async def work():
    peer = Peer()
    await peer.begin()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        action, *values = json.loads(line)
        try:
            await getattr(peer, action)(*values)
            said = {}
        except Exception as error:
            said = {'error': f'{type(error).__name__}: {error}'}
        print(json.dumps(said), flush=True)
    await peer.client.shutdown()


asyncio.run(work())
