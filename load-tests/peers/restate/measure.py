"""Restate: its server with its own durable log, and one process of handlers. The setting is `dispatched`, where each task
is a call that the server hands out, or `inline`, where it is a step of the handler that was called."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import bench

ADMIN, INGRESS, NODE, SERVICE = (bench.free_port() for _ in range(4))
SETTINGS = {
    'RESTATE_ADMIN__BIND_ADDRESS': f'127.0.0.1:{ADMIN}',
    'RESTATE_ADVERTISED_ADDRESS': f'http://127.0.0.1:{NODE}',
    'RESTATE_BIND_ADDRESS': f'127.0.0.1:{NODE}',
    'RESTATE_DISABLE_TELEMETRY': 'true',
    'RESTATE_INGRESS__BIND_ADDRESS': f'127.0.0.1:{INGRESS}',
    'RESTATE_LISTEN_MODE': 'tcp',
}
SERVER = 'node_modules/@restatedev/restate-server-linux-x64/bin/restate-server'


def register():
    body = {'uri': f'http://127.0.0.1:{SERVICE}', 'force': True}
    return bench.http('POST', f'http://127.0.0.1:{ADMIN}/deployments', body)


def measure():
    program, folder = bench.node(__file__)
    settings = ['--base-dir', os.path.join(bench.FOLDER, 'restate'), '--default-num-partitions', '4']
    quiet = ['--no-logo', '--log-filter', 'warn']
    bench.start('server', os.path.join(folder, SERVER), *settings, *quiet, '--bind-ip', '127.0.0.1', env=SETTINGS)
    bench.start('service', program, 'service.mjs', str(SERVICE), cwd=folder, env={'RESTATE_LOGGING': 'ERROR'})
    bench.until('the server to know the service', register)
    client = bench.Asked('client', program, 'client.mjs', str(INGRESS), cwd=folder)
    bench.until('calls to be taken', lambda: client.ask('runs', ['first']) is None)
    bench.measure_asked(client)


bench.main(measure)
