"""A chain, a fan-out, one task, and schedules, as Airflow has them. Read by its processors: how many is in the environment."""

import datetime
import json
import os
import time

from airflow.sdk import DAG, task

WORK = json.loads(os.environ['PEER_WORK'])
CRON = os.path.join(os.environ['PEER_FOLDER'], 'cron')
COMMON = {'start_date': datetime.datetime(2024, 1, 1), 'catchup': False, 'is_paused_upon_creation': False}


def stamp(tag):
    with open(os.path.join(os.environ['PEER_FOLDER'], 'stamps'), 'a') as stamps:
        stamps.write(f'{tag} {time.time()}\n')


@task
def nothing():
    pass


@task
def tick():
    stamp('cron')


with DAG('chain', schedule=None, **COMMON) as chain:
    before = None
    for number in range(WORK['tasks']):
        after = nothing.override(task_id=f'task_{number}')()
        if before is not None:
            before >> after
        before = after

with DAG('fan_out', schedule=None, **COMMON) as fan_out:
    for number in range(WORK['tasks']):
        nothing.override(task_id=f'task_{number}')()

with DAG('one', schedule=None, max_active_runs=64, **COMMON) as one:

    @task
    def first(dag_run=None):
        stamp(dag_run.conf['tag'])

    first()

if os.path.exists(CRON):
    with open(CRON) as file:
        expression = file.read()
    for number in range(WORK['schedules']):
        with DAG(f'cron_{number}', schedule=expression, **COMMON) as scheduled:
            tick()
        globals()[f'cron_{number}'] = scheduled
