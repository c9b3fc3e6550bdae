"""dbt blocks: the dbt command line, where the environment has it."""
from __future__ import annotations

import datetime
import fcntl
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from typing import Any, Dict, List

from orrery_runner import blockfile, dbt_tables, templates
from orrery_runner.failures import BlockError
from orrery_runner.inputs import Inputs
from orrery_runner.sql import placeholders

# What dbt itself does not know in a profiles.yml; Mage fills it in.
_OF_MAGE = re.compile(r"\{\{[^}]*\b(mage_secret_var|variables|json_value)\s*\(")
# The variable of Mage in which a trigger says more of single blocks.
_OF_BLOCKS = "__mage_variables"
_NOT_FOR_DBT = (_OF_BLOCKS, "context", "remote_blocks")
# Linux takes 128 KiB as one argument.
_VARIABLES_MAX = 100 * 1024
_log = logging.getLogger("orrery")


def run(job: Dict[str, Any], inputs: Inputs, kwargs: Dict[str, Any]) -> Any:
    """Runs one model (SQL block) or one command (YAML block). Its tables stay in its warehouse; the rows of a model are the
    block's output where a next block reads them."""
    block = job["block"]
    dbt = shutil.which("dbt")
    if dbt is None:
        raise BlockError(f"block {block['uuid']} is a dbt block, and dbt is not installed in this environment; add "
                         "dbt-core and your adapter to the project's requirements.txt")
    configuration = block.get("configuration") or {}
    is_model = block.get("language") == "sql"
    command = _sql(block, configuration, kwargs) if is_model else _yaml(job, inputs, kwargs)
    folder = _project(job, block, configuration)
    target = configuration.get("dbt_profile_target")
    if target and "--target" not in command:
        command += ["--target", templates.render_block(str(target), block["uuid"], kwargs)]
    if command[0] in ("run", "build", "test", "compile", "seed", "snapshot"):
        _add_variables(command, _for_dbt(block["uuid"], kwargs))
    # In the run's own copy of the project, which goes with it: a process that is killed leaves what was filled in.
    with tempfile.TemporaryDirectory(prefix=".dbt-", dir=job["repo_path"]) as own:
        places = ["--project-dir", folder, *_profiles(folder, own, block["uuid"], kwargs)]
        _install_packages(dbt, folder, [*places, *_given(command, "--vars")])
        shared = [*places, *_given(command, "--target", "--vars")]
        if is_model:
            dbt_tables.seed(dbt, job, inputs, folder, own, shared)
        for option, place in zip(places[::2], places[1::2]):
            if option not in command:
                command += [option, place]
        ended = subprocess.run([dbt, *command], cwd=folder, stdin=subprocess.DEVNULL, check=False)
        if ended.returncode:
            raise BlockError(f"block {block['uuid']}: dbt {command[0]} ended with code {ended.returncode}; its log says why")
        if not is_model or not dbt_tables.are_wanted(job):
            return None
        refresh = ["--full-refresh"] if "--full-refresh" in command else []
        return dbt_tables.rows(block["uuid"], _model(block, configuration), folder, own, [*shared, *refresh])


def _for_dbt(uuid: str, kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """What of the run's variables dbt is told, as in Mage: values, maps, lists and dates, and nothing that is not set."""
    known = {key: value for key, value in kwargs.items() if key not in _NOT_FOR_DBT
             and isinstance(value, (str, int, float, bool, dict, list, datetime.datetime))}
    if len(_json(known)) <= _VARIABLES_MAX:
        return known
    _log.warning("block %s: its variables are longer than a command line may be; dbt is not told of maps and lists", uuid)
    return {key: value for key, value in known.items() if not isinstance(value, (dict, list))}


def _json(known: Dict[str, Any]) -> str:
    return json.dumps(known, skipkeys=True,
                      default=lambda value: value.isoformat() if hasattr(value, "isoformat") else str(value))


def _add_variables(command: List[str], known: Dict[str, Any]) -> None:
    """As in Mage, the variables of the run are there beside those that the block itself names."""
    if "--vars" not in command:
        command += ["--vars", _json(known)]
        return
    position = command.index("--vars") + 1
    try:
        given = json.loads(command[position])
    except (IndexError, ValueError):  # YAML, which dbt takes too
        return
    if isinstance(given, dict):
        command[position] = _json({**known, **given})


def _given(command: List[str], *options: str) -> List[str]:
    """Those of these options that the command has, with their values: what dbt is to know whatever it does."""
    found: List[str] = []
    for option in options:
        if option in command:
            found += command[command.index(option):][:2]
    return found


def _profiles(folder: str, own: str, uuid: str, kwargs: Dict[str, Any]) -> List[str]:
    """Where the project's profiles are: a copy in `own` where something has to be filled in that dbt does not know."""
    path = os.path.join(folder, "profiles.yml")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if not _OF_MAGE.search(text):
        return ["--profiles-dir", folder]
    with open(os.path.join(own, "profiles.yml"), "w", encoding="utf-8") as file:
        try:
            # Most targets of a file are not in use, so what is not defined is empty.
            file.write(templates.render_config(text, kwargs))
        except ValueError as error:
            raise BlockError(f"block {uuid}: {path}: {error}") from None
    return ["--profiles-dir", own]


def _install_packages(dbt: str, folder: str, options: List[str]) -> None:
    """As in Mage, the packages that the project names are there before its models run; one block installs them."""
    installed = os.path.join(folder, "dbt_packages")
    if not any(os.path.exists(os.path.join(folder, name)) for name in ("packages.yml", "dependencies.yml")):
        return
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(installed):
            return
        code = None
        try:
            code = subprocess.run([dbt, "deps", *options], cwd=folder, stdin=subprocess.DEVNULL, check=False).returncode
        finally:
            if code != 0:  # dbt makes the folder first, and half of it would keep the next try from installing
                shutil.rmtree(installed, ignore_errors=True)
        if code:
            _log.warning("dbt deps ended with code %d; its log says why", code)
    finally:
        os.close(lock)


def _of_run(block: Dict[str, Any], kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """What a trigger or a run says for this block alone: flags, and what stands around the model's name in `--select`."""
    found: Any = kwargs.get(_OF_BLOCKS)
    for key in ("blocks", block["uuid"], "configuration"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _flags(settings: Dict[str, Any]) -> List[str]:
    flags = settings.get("flags") or []
    return [str(flag) for flag in (flags if isinstance(flags, list) else [flags])]


def _model(block: Dict[str, Any], configuration: Dict[str, Any]) -> str:
    return os.path.splitext(os.path.basename(_path(block, configuration)))[0]


def _path(block: Dict[str, Any], configuration: Dict[str, Any]) -> str:
    return str(block.get("file") or configuration.get("file_path") or block["uuid"])


def _sql(block: Dict[str, Any], configuration: Dict[str, Any], kwargs: Dict[str, Any]) -> List[str]:
    settings = configuration.get("dbt") or {}
    of_run = _of_run(block, kwargs)
    # As in Mage a model's tests run with it unless its block says otherwise; `run` alone would leave snapshots as they are.
    without_tests = "snapshot" if "snapshots" in _path(block, configuration).split("/") else "run"
    selected = f"{of_run.get('prefix') or ''}{_model(block, configuration)}{of_run.get('suffix') or ''}"
    return [settings.get("command") or (without_tests if settings.get("disable_tests") else "build"), *_flags(of_run),
            "--select", selected]


def _yaml(job: Dict[str, Any], inputs: Inputs, kwargs: Dict[str, Any]) -> List[str]:
    block = job["block"]
    configuration = block.get("configuration") or {}
    text = placeholders.fill(blockfile.read(block, job["repo_path"]), block["uuid"], inputs, kwargs, inputs.uuids.__getitem__)
    return [(configuration.get("dbt") or {}).get("command") or "run", *shlex.split(text, comments=True),
            *_flags(_of_run(block, kwargs))]


def _project(job: Dict[str, Any], block: Dict[str, Any], configuration: Dict[str, Any]) -> str:
    """The folder with dbt_project.yml: the configured one, else the nearest above the block's file."""
    root = job["repo_path"]
    named = configuration.get("dbt_project_name")
    starts = [os.path.join(root, "dbt", str(named)), os.path.join(root, str(named))] if named else []
    if configuration.get("dbt_profiles_file_path"):
        starts.insert(0, os.path.join(root, str(configuration["dbt_profiles_file_path"])))
    starts += [os.path.dirname(os.path.join(root, block.get("file") or "dbt/x")), os.path.join(root, "dbt")]
    for folder in starts:
        folder = os.path.normpath(folder)
        while folder.startswith(root):
            if os.path.exists(os.path.join(folder, "dbt_project.yml")):
                return folder
            folder = os.path.dirname(folder)
    raise BlockError(f"block {block['uuid']}: no dbt_project.yml in {', '.join(starts)}")
