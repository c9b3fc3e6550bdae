"""A chain, a fan-out, one op and schedules, as Dagster has them, with ops inside the process of their run."""

import json
import os
import time

from dagster import (
    DefaultScheduleStatus,
    Definitions,
    In,
    Nothing,
    Out,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

WORK = json.loads(os.environ['PEER_WORK'])
CRON = os.path.join(os.environ['PEER_FOLDER'], 'cron')


def stamp(tag):
    with open(os.path.join(os.environ['PEER_FOLDER'], 'stamps'), 'a') as stamps:
        stamps.write(f'{tag} {time.time()}\n')


@op(ins={'before': In(Nothing)}, out=Out(Nothing))
def nothing():
    pass


@op
def first(context):
    stamp(context.run.tags['peer/tag'])


@op
def cron_op():
    stamp('cron')


@job(executor_def=in_process_executor)
def chain():
    before = None
    for number in range(WORK['tasks']):
        named = nothing.alias(f'task_{number}')
        before = named() if before is None else named(before)


@job(executor_def=in_process_executor)
def fan_out():
    for number in range(WORK['tasks']):
        nothing.alias(f'task_{number}')()


@job(executor_def=in_process_executor)
def one():
    first()


@job(executor_def=in_process_executor)
def tick():
    cron_op()


schedules = []
if os.path.exists(CRON):
    with open(CRON) as file:
        expression = file.read()
    schedules = [
        ScheduleDefinition(
            name=f'tick_{number}', cron_schedule=expression, job=tick, default_status=DefaultScheduleStatus.RUNNING
        )
        for number in range(WORK['schedules'])
    ]

definitions = Definitions(jobs=[chain, fan_out, one, tick], schedules=schedules)
