"""dbt blocks: the dbt command line, where the environment has it."""
from __future__ import annotations

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

from orrery_runner import blockfile, templates
from orrery_runner.failures import BlockError
from orrery_runner.inputs import Inputs
from orrery_runner.sql import placeholders

# What dbt itself does not know in a profiles.yml; Mage fills it in.
_OF_MAGE = re.compile(r"\{\{[^}]*\b(mage_secret_var|variables|json_value)\s*\(")
_log = logging.getLogger("orrery")


def run(job: Dict[str, Any], inputs: Inputs, kwargs: Dict[str, Any]) -> None:
    """Runs one model (SQL block) or one command (YAML block). Its tables stay in its warehouse."""
    block = job["block"]
    dbt = shutil.which("dbt")
    if dbt is None:
        raise BlockError(f"block {block['uuid']} is a dbt block, and dbt is not installed in this environment; add "
                         "dbt-core and your adapter to the project's requirements.txt")
    configuration = block.get("configuration") or {}
    command = _sql(block, configuration) if block.get("language") == "sql" else _yaml(job, inputs, kwargs)
    folder = _project(job, block, configuration)
    target = configuration.get("dbt_profile_target")
    if target and "--target" not in command:
        command += ["--target", templates.render_block(str(target), block["uuid"], kwargs)]
    if command[0] in ("run", "build", "test", "compile", "seed", "snapshot"):
        _add_variables(command, {key: value for key, value in kwargs.items()
                                 if isinstance(value, (str, int, float, bool, type(None)))})
    # In the run's own copy of the project, which goes with it: a process that is killed leaves what was filled in.
    with tempfile.TemporaryDirectory(prefix=".dbt-", dir=job["repo_path"]) as own:
        places = ["--project-dir", folder, *_profiles(folder, own, block["uuid"], kwargs)]
        _install_packages(dbt, folder, [*places, *_variables(command)])
        for option, place in zip(places[::2], places[1::2]):
            if option not in command:
                command += [option, place]
        ended = subprocess.run([dbt, *command], cwd=folder, stdin=subprocess.DEVNULL, check=False)
    if ended.returncode:
        raise BlockError(f"block {block['uuid']}: dbt {command[0]} ended with code {ended.returncode}; its log says why")


def _add_variables(command: List[str], known: Dict[str, Any]) -> None:
    """As in Mage, the variables of the run are there beside those that the block itself names."""
    if "--vars" not in command:
        command += ["--vars", json.dumps(known)]
        return
    position = command.index("--vars") + 1
    try:
        given = json.loads(command[position])
    except (IndexError, ValueError):  # YAML, which dbt takes too
        return
    if isinstance(given, dict):
        command[position] = json.dumps({**known, **given})


def _variables(command: List[str]) -> List[str]:
    """The option with them, which dbt_project.yml may ask for, whatever is to be done."""
    position = command.index("--vars") if "--vars" in command else len(command)
    return command[position:position + 2]


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


def _sql(block: Dict[str, Any], configuration: Dict[str, Any]) -> List[str]:
    path = block.get("file") or configuration.get("file_path") or block["uuid"]
    model = os.path.splitext(os.path.basename(path))[0]
    settings = configuration.get("dbt") or {}
    # As in Mage a model's tests run with it unless its block says otherwise; `run` alone would leave snapshots as they are.
    without_tests = "snapshot" if "snapshots" in path.split("/") else "run"
    return [settings.get("command") or (without_tests if settings.get("disable_tests") else "build"), "--select", model]


def _yaml(job: Dict[str, Any], inputs: Inputs, kwargs: Dict[str, Any]) -> List[str]:
    block = job["block"]
    configuration = block.get("configuration") or {}
    text = placeholders.fill(blockfile.read(block, job["repo_path"]), block["uuid"], inputs, kwargs, inputs.uuids.__getitem__)
    return [(configuration.get("dbt") or {}).get("command") or "run", *shlex.split(text, comments=True)]


def _project(job: Dict[str, Any], block: Dict[str, Any], configuration: Dict[str, Any]) -> str:
    """The folder with dbt_project.yml: the configured one, else the nearest above the block's file."""
    root = job["repo_path"]
    named = configuration.get("dbt_project_name")
    starts = [os.path.join(root, "dbt", str(named)), os.path.join(root, str(named))] if named else []
    starts += [os.path.dirname(os.path.join(root, block.get("file") or "dbt/x")), os.path.join(root, "dbt")]
    for folder in starts:
        folder = os.path.normpath(folder)
        while folder.startswith(root):
            if os.path.exists(os.path.join(folder, "dbt_project.yml")):
                return folder
            folder = os.path.dirname(folder)
    raise BlockError(f"block {block['uuid']}: no dbt_project.yml in {', '.join(starts)}")
