"""Dagster: code server, web server and daemon, a process for each run, ops inside it."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import bench

CODE_PORT, WEB_PORT = bench.free_port(), bench.free_port()
HOME = os.path.join(bench.FOLDER, 'dagster')
ENVIRONMENT = {'DAGSTER_HOME': HOME}
DEFINITIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'definitions.py')
WORKSPACE = os.path.join(HOME, 'workspace.yaml')
ENDED = ('SUCCESS', 'FAILURE', 'CANCELED')
INSTANCE = """
storage:
  postgres:
    postgres_url:
      env: PEER_DATABASE_URL
telemetry:
  enabled: false
"""
LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
STATUS = 'query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }'
RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "peer") { __typename } }'


def ask(query, **variables):
    answer = bench.http('POST', f'http://127.0.0.1:{WEB_PORT}/graphql', {'query': query, 'variables': variables})
    if answer.get('errors'):
        raise RuntimeError(str(answer['errors'])[:300])
    return answer['data']


def trigger(job, tag=''):
    selector = {'repositoryLocationName': 'peer', 'repositoryName': '__repository__', 'jobName': job}
    tags = [{'key': 'peer/tag', 'value': tag}] if tag else []
    params = {'selector': selector, 'runConfigData': {}, 'executionMetadata': {'tags': tags}}
    answer = ask(LAUNCH, params=params)['launchRun']
    if 'run' not in answer:
        raise RuntimeError(str(answer))
    return answer['run']['runId']


def wait(runs):
    for run in runs:
        status = lambda: (s := ask(STATUS, id=run)['runOrError']['status']) in ENDED and s
        ended = bench.until('a run to end', status, 300, 0.1)
        if ended != 'SUCCESS':
            raise RuntimeError(f'a run ended as {ended}')


def start_code_server():
    server = bench.start(
        'code', 'dagster', 'code-server', 'start', '-f', DEFINITIONS, '-a', 'definitions',
        '-h', '127.0.0.1', '-p', str(CODE_PORT), env=ENVIRONMENT, cwd=HOME,
    )  # fmt: skip
    # The others ask it once when they start, and not again soon.
    check = ['dagster', 'api', 'grpc-health-check', '-h', '127.0.0.1', '-p', str(CODE_PORT)]
    bench.until('the code server', lambda: is_healthy(check), 120, 1)
    return server


def is_healthy(check):
    process = bench.start('health', *check, env=ENVIRONMENT, cwd=HOME)
    bench.started.remove(process)
    return process.wait() == 0


def measure():
    os.makedirs(HOME)
    with open(os.path.join(HOME, 'dagster.yaml'), 'w') as file:
        file.write(INSTANCE)
    with open(WORKSPACE, 'w') as file:
        file.write(f'load_from:\n- grpc_server: {{host: 127.0.0.1, port: {CODE_PORT}, location_name: peer}}\n')
    code_server = start_code_server()
    web = ['-h', '127.0.0.1', '-p', str(WEB_PORT), '-w', WORKSPACE]
    bench.start('web', 'dagster-webserver', *web, env=ENVIRONMENT, cwd=HOME)
    bench.start('daemon', 'dagster-daemon', 'run', '-w', WORKSPACE, env=ENVIRONMENT, cwd=HOME)
    bench.until('the web server', lambda: ask('{ version }'))
    bench.measure_runs(
        run=lambda job: wait([trigger(job)]),
        chain='chain',
        fan_out='fan_out',
        one=lambda tags: wait([trigger('one', tag) for tag in tags]),
    )
    if not bench.wanted('cron'):
        return
    # The daemon looks at code every minute.
    due = bench.due_minute(90)
    with open(os.path.join(bench.FOLDER, 'cron'), 'w') as file:
        file.write(f'{time.gmtime(due).tm_min} * * * *')
    bench.started.remove(code_server)
    code_server.terminate()
    code_server.wait()
    start_code_server()
    ask(RELOAD)
    bench.measure_cron(due)


bench.main(measure)
