"""A chain, a fan-out, one task and schedules, as Prefect has them, served by a runner that starts a process for each run."""

import os
import sys
import time

from prefect import flow, serve, task


def stamp(tag):
    with open(os.path.join(os.environ['PEER_FOLDER'], 'stamps'), 'a') as stamps:
        stamps.write(f'{tag} {time.time()}\n')


@task
def nothing(number):
    return number


@flow
def chain(tasks: int):
    for number in range(tasks):
        nothing(number)


@flow
def fan_out(tasks: int):
    for future in [nothing.submit(number) for number in range(tasks)]:
        future.result()


@flow
def one(tag: str):
    stamp(tag)
    nothing(0)


@flow
def tick():
    stamp('cron')


if __name__ == '__main__':
    if sys.argv[1] == 'runs':
        deployments = [each.to_deployment('peer') for each in (chain, fan_out, one)]
    else:
        deployments = [tick.to_deployment(f'tick-{n}', cron=sys.argv[3]) for n in range(int(sys.argv[2]))]
    # As eager as it can be told to be; more at once than the work has.
    serve(*deployments, query_seconds=1, limit=64)
