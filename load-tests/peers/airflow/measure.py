"""Airflow: API server, scheduler and DAG processor, tasks as processes of the LocalExecutor."""

import os
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import bench

PORT = bench.free_port()
ADDRESS = f'http://127.0.0.1:{PORT}'
HOME = os.path.join(bench.FOLDER, 'airflow')
SETTINGS = {
    'CORE__DAGS_FOLDER': os.path.join(HOME, 'dags'),
    'CORE__EXECUTOR': 'LocalExecutor',
    'CORE__EXECUTION_API_SERVER_URL': f'{ADDRESS}/execution/',
    'CORE__LOAD_EXAMPLES': 'False',
    'CORE__MAX_ACTIVE_RUNS_PER_DAG': '64',
    'CORE__MAX_ACTIVE_TASKS_PER_DAG': '64',
    'CORE__PARALLELISM': '8',
    'CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS': 'True',
    'DATABASE__SQL_ALCHEMY_CONN': bench.database_url('psycopg2'),
    'API__BASE_URL': ADDRESS,
    'API__HOST': '127.0.0.1',
    'API__PORT': str(PORT),
    'API__SECRET_KEY': 'of a cluster that lives for minutes',
    'API__WORKERS': '1',
    'API_AUTH__JWT_SECRET': 'of a cluster that lives for minutes, on the loopback, alone: 0123456789',
    'DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL': '30',
    'DAG_PROCESSOR__REFRESH_INTERVAL': '10',
    'LOGGING__LOGGING_LEVEL': 'WARNING',
    'SCHEDULER__ENABLE_HEALTH_CHECK': 'False',
    'USAGE_DATA_COLLECTION__ENABLED': 'False',
}
ENVIRONMENT = {'AIRFLOW_HOME': HOME, **{f'AIRFLOW__{key}': value for key, value in SETTINGS.items()}}
ENDED = ('success', 'failed')
token = None


def api(method, path, body=None):
    return bench.http(method, ADDRESS + path, body, {'Authorization': f'Bearer {token}'} if token else None)


def log_in():
    global token
    token = api('GET', '/auth/token')['access_token']
    return token


def trigger(dag, conf=None):
    return api('POST', f'/api/v2/dags/{dag}/dagRuns', {'logical_date': None, 'conf': conf or {}})['dag_run_id']


def state(dag, run):
    return api('GET', f'/api/v2/dags/{dag}/dagRuns/{run}')['state']


def wait(dag, runs):
    for run in runs:
        ended = bench.until(f'{dag} to end', lambda: (s := state(dag, run)) in ENDED and s, 300, 0.1)
        if ended != 'success':
            raise RuntimeError(f'{dag} ended as {ended}')


def known(dags):
    have = {dag['dag_id'] for dag in api('GET', '/api/v2/dags?limit=100')['dags']}
    return set(dags) <= have


def measure():
    os.makedirs(os.path.join(HOME, 'dags'))
    shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'dags.py'), os.path.join(HOME, 'dags'))
    bench.call('migrate', 'airflow', 'db', 'migrate', env=ENVIRONMENT)
    for part in ('api-server', 'scheduler', 'dag-processor'):
        bench.start(part, 'airflow', part, env=ENVIRONMENT)
    bench.until('the API', log_in)
    bench.until('the DAGs', lambda: known(['chain', 'fan_out', 'one']))
    bench.measure_runs(
        run=lambda dag: wait(dag, [trigger(dag)]),
        chain='chain',
        fan_out='fan_out',
        one=lambda tags: wait('one', [trigger('one', {'tag': tag}) for tag in tags]),
    )
    if not bench.wanted('cron'):
        return
    # The processor reads the folder every now and then, and writes DAGs one by one.
    due = bench.due_minute(60 + 2 * bench.WORK['schedules'])
    at = time.gmtime(due)
    with open(os.path.join(bench.FOLDER, 'cron'), 'w') as file:
        file.write(f'{at.tm_min} {at.tm_hour} * * *')
    bench.until('the schedules', lambda: known([f'cron_{n}' for n in range(bench.WORK['schedules'])]), due - time.time())
    bench.measure_cron(due)


bench.main(measure)
