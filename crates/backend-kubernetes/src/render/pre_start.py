"""Runs a runtime's pre-start script in a process apart, and leaves the variables that it sets to the application's shell.

What the script answers is judged as it is beside executors: it may change the environment, and nothing else.
"""

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys

FOLDER = os.environ["ORRERY_FOLDER"]
RULES = json.loads(os.environ["ORRERY_RULES"])
CONFIG = json.loads(os.environ["ORRERY_CONTAINER_CONFIG"])
ANSWER = os.path.join(FOLDER, "answer.json")
FAILED, REFUSED = 2, 3

CHILD = """
import json, sys
given = json.load(sys.stdin)
scope = {'__name__': 'pre_start'}
exec(compile(given['script'], 'pre_start.py', 'exec'), scope)
if not callable(scope.get('get_custom_configs')):
    sys.exit('it has to define get_custom_configs(container_config)')
answer = scope['get_custom_configs'](given['config'])
if not isinstance(answer, dict):
    sys.exit('get_custom_configs has to return a dict')
with open(sys.argv[1], 'w') as f:
    json.dump(answer, f)
"""


def end(code, why):
    print(why, file=sys.stderr, flush=True)
    sys.exit(code)


def limit():
    for kind, most in (
        (resource.RLIMIT_CPU, RULES["cpu_s"]),
        (resource.RLIMIT_DATA, RULES["memory_bytes"]),
        (resource.RLIMIT_FSIZE, RULES["answer_bytes"]),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def run():
    given = json.dumps({"script": os.environ["ORRERY_PRE_START"], "config": CONFIG})
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", CHILD, ANSWER],
        stdin=subprocess.PIPE,
        text=True,
        cwd=FOLDER,
        env={"PATH": os.environ.get("PATH", os.defpath)},
        start_new_session=True,
        preexec_fn=limit,
    )
    try:
        child.communicate(given, timeout=RULES["timeout_s"])
        late = False
    except subprocess.TimeoutExpired:
        late = True
    # Also what it started and left.
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
    if late:
        end(FAILED, f"it took longer than {RULES['timeout_s']} s")
    if child.returncode < 0:
        end(FAILED, f"it was ended by signal {-child.returncode}")
    if child.returncode != 0:
        end(FAILED, f"it ended with code {child.returncode}")


def answer():
    try:
        with open(ANSWER) as file:
            text = file.read(RULES["answer_bytes"] + 1)
        os.remove(ANSWER)
        return json.loads(text)
    except (OSError, ValueError) as error:
        end(FAILED, f"its answer cannot be read: {error}")


def variables(answer):
    other = [name for name, value in answer.items() if name != "env" and (name not in CONFIG or CONFIG[name] != value)]
    if other:
        end(REFUSED, "the pre-start script may change `env`, and changed " + ", ".join(other))
    made, env = {}, answer.get("env", [])
    for variable in env if isinstance(env, list) else [None]:
        pair = [variable.get(field) if isinstance(variable, dict) else None for field in ("name", "value")]
        if not all(isinstance(text, str) for text in pair):
            end(REFUSED, "`env` of a pre-start script's answer is a list of {name, value}, both texts")
        name, value = pair
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            end(REFUSED, f"`{name}` is no variable that a pre-start script may set")
        if name.startswith(tuple(RULES["reserved"])):
            end(REFUSED, f"`{name}` is set by the platform; a pre-start script must not set it")
        made[name] = value
    size = sum(len(name.encode()) + len(value.encode()) for name, value in made.items())
    if len(made) > RULES["env_max"] or size > RULES["env_bytes"]:
        end(REFUSED, "the environment of a pre-start script's answer is too large")
    return made


run()
lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables(answer()).items()]
with open(os.path.join(FOLDER, "environment"), "w") as file:
    file.writelines(lines)
