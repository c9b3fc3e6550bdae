"""Mage: one server with its scheduler, a process for each block. The setting is how often it looks, in seconds."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import bench
import yaml

PORT = bench.free_port()
ADDRESS = f'http://127.0.0.1:{PORT}'
PROJECT = os.path.join(bench.FOLDER, 'project')
ENVIRONMENT = {
    'ENV': 'dev',
    'MAGE_DATABASE_CONNECTION_URL': bench.database_url('psycopg2'),
    'MAGE_DATA_DIR': os.path.join(bench.FOLDER, 'mage'),
    'REQUIRE_USER_AUTHENTICATION': '0',
    'SCHEDULER_TRIGGER_INTERVAL': bench.SETTING,
}
ENDED = ('completed', 'failed', 'cancelled')


def write(path, text):
    path = os.path.join(PROJECT, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as file:
        file.write(text)


def block(pipeline, number, count, in_a_row, code):
    name = f'{pipeline}_{number}'
    write(f'custom/{name}.py', f'@custom\ndef {name}(*args, **kwargs):\n    {code}\n')
    neighbours = lambda at: [f'{pipeline}_{at}'] if in_a_row and 0 <= at < count else []
    return {
        'configuration': {},
        'downstream_blocks': neighbours(number + 1),
        'executor_type': 'local_python',
        'language': 'python',
        'name': name,
        'status': 'updated',
        'type': 'custom',
        'upstream_blocks': neighbours(number - 1),
        'uuid': name,
    }


def pipeline(name, count, trigger, in_a_row=False, code='pass'):
    blocks = [block(name, number, count, in_a_row, code) for number in range(count)]
    metadata = {
        'blocks': blocks,
        'callbacks': [],
        'concurrency_config': {'block_run_limit': 20},
        'name': name,
        'type': 'python',
        'uuid': name,
        'widgets': [],
    }
    write(f'pipelines/{name}/__init__.py', '')
    write(f'pipelines/{name}/metadata.yaml', yaml.safe_dump(metadata))
    trigger = {'name': name, 'pipeline_uuid': name, 'status': 'active', 'variables': {}, 'settings': {}, **trigger}
    write(f'pipelines/{name}/triggers.yaml', yaml.safe_dump({'triggers': [trigger]}))


def of_api(name):
    return {'schedule_type': 'api', 'schedule_interval': None, 'start_time': None, 'token': f'token{name}'}


def api(method, path, body=None):
    return bench.http(method, ADDRESS + path, body)


def schedule(name):
    return api('GET', f'/api/pipelines/{name}/pipeline_schedules')['pipeline_schedules'][0]


def trigger(name, **variables):
    found = schedule(name)
    path = f'/api/pipeline_schedules/{found["id"]}/pipeline_runs/{found["token"]}'
    return api('POST', path, {'pipeline_run': {'variables': variables}})['pipeline_run']['id']


def status(run):
    return api('GET', f'/api/pipeline_runs/{run}')['pipeline_run']['status']


def wait(runs):
    for run in runs:
        ended = bench.until('a pipeline run to end', lambda: (s := status(run)) in ENDED and s, 300, 0.1)
        if ended != 'completed':
            raise RuntimeError(f'a pipeline run ended as {ended}')


def measure():
    tasks = bench.WORK['tasks']
    write('metadata.yaml', f'project_type: standalone\nhelp_improve_mage: false\nvariables_dir: {PROJECT}-variables\n')
    write('io_config.yaml', 'version: 0.1.1\ndefault: {}\n')
    write('requirements.txt', '')
    write('__init__.py', '')
    pipeline('chain', tasks, of_api('chain'), in_a_row=True)
    pipeline('fanout', tasks, of_api('fanout'))
    pipeline('one', 1, of_api('one'), code=bench.stamp_code('kwargs["tag"]'))
    bench.start('mage', 'mage', 'start', PROJECT, '--host', '127.0.0.1', '--port', str(PORT), env=ENVIRONMENT)
    bench.until('the server', lambda: api('GET', '/api/status'))
    bench.until('the triggers', lambda: all(schedule(name) for name in ('chain', 'fanout', 'one')))
    bench.measure_runs(
        run=lambda name: wait([trigger(name)]),
        chain='chain',
        fan_out='fanout',
        one=lambda tags: wait([trigger('one', tag=tag) for tag in tags]),
    )
    if not bench.wanted('cron'):
        return
    due = bench.due_minute(60)
    scheduled = {
        'schedule_type': 'time',
        'schedule_interval': f'{time.gmtime(due).tm_min} * * * *',
        'start_time': '2024-01-01 00:00:00',
    }
    for number in range(bench.WORK['schedules']):
        pipeline(f'tick{number}', 1, scheduled, code=bench.stamp_code('"cron"'))
    bench.measure_cron(due)


bench.main(measure)
