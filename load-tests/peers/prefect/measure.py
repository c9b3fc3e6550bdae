"""Prefect: its server, and a runner that serves flows. Tasks run inside the process of their flow run and report to the server."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import bench

PORT = bench.free_port()
API = f'http://127.0.0.1:{PORT}/api'
ENVIRONMENT = {
    'DO_NOT_TRACK': '1',
    'PREFECT_API_DATABASE_CONNECTION_URL': bench.database_url('asyncpg'),
    'PREFECT_API_URL': API,
    'PREFECT_CLI_COLORS': 'false',
    'PREFECT_HOME': os.path.join(bench.FOLDER, 'prefect'),
    'PREFECT_LOGGING_LEVEL': 'ERROR',
    'PREFECT_LOGGING_TO_API_ENABLED': 'false',
    'PREFECT_SERVER_ANALYTICS_ENABLED': 'false',
    'PREFECT_SERVER_LOGGING_LEVEL': 'ERROR',
    'PREFECT_SERVER_UI_ENABLED': 'false',
}
FLOWS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'flows.py')
ENDED = ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')


def api(method, path, body=None):
    return bench.http(method, API + path, body)


def deployment(flow, name='peer'):
    return api('GET', f'/deployments/name/{flow}/{name}')['id']


def trigger(flow, **parameters):
    return api('POST', f'/deployments/{deployment(flow)}/create_flow_run', {'parameters': parameters})['id']


def wait(runs):
    for run in runs:
        state = lambda: (s := api('GET', f'/flow_runs/{run}')['state_type']) in ENDED and s
        ended = bench.until('a flow run to end', state, 300, 0.1)
        if ended != 'COMPLETED':
            raise RuntimeError(f'a flow run ended as {ended}')


def measure():
    bench.start('server', 'prefect', 'server', 'start', '--host', '127.0.0.1', '--port', str(PORT), env=ENVIRONMENT)
    bench.until('the server', lambda: api('GET', '/health'))
    bench.start('runner', sys.executable, FLOWS, 'runs', env=ENVIRONMENT)
    bench.until('the deployments', lambda: all(deployment(flow) for flow in ('chain', 'fan-out', 'one')))
    bench.measure_runs(
        run=lambda flow: wait([trigger(flow, tasks=bench.WORK['tasks'])]),
        chain='chain',
        fan_out='fan-out',
        one=lambda tags: wait([trigger('one', tag=tag) for tag in tags]),
    )
    if not bench.wanted('cron'):
        return
    due = bench.due_minute(30 + bench.WORK['schedules'])
    expression = f'{time.gmtime(due).tm_min} * * * *'
    bench.start('ticks', sys.executable, FLOWS, 'schedules', str(bench.WORK['schedules']), expression, env=ENVIRONMENT)
    last = f'tick-{bench.WORK["schedules"] - 1}'
    bench.until('the schedules', lambda: deployment('tick', last), due - time.time())
    bench.measure_cron(due)


bench.main(measure)
