"""dbt blocks: the dbt command line, where the environment has it."""
from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from typing import Any, Dict, List

from orrery_runner import blockfile, templates
from orrery_runner.failures import BlockError
from orrery_runner.inputs import Inputs


def run(job: Dict[str, Any], inputs: Inputs, kwargs: Dict[str, Any]) -> None:
    """Runs one model (SQL block) or one command (YAML block). Its tables stay in its warehouse."""
    del inputs
    block = job["block"]
    dbt = shutil.which("dbt")
    if dbt is None:
        raise BlockError(f"block {block['uuid']} is a dbt block, and dbt is not installed in this environment; add "
                         "dbt-core and your adapter to the project's requirements.txt")
    configuration = block.get("configuration") or {}
    command = _sql(block, configuration) if block.get("language") == "sql" else _yaml(job, block, configuration, kwargs)
    folder = _project(job, block, configuration)
    target = configuration.get("dbt_profile_target")
    if target and "--target" not in command:
        command += ["--target", templates.render_block(str(target), block["uuid"], kwargs)]
    if "--vars" not in command and command[0] in ("run", "build", "test", "compile", "seed", "snapshot"):
        command += ["--vars", json.dumps({key: value for key, value in kwargs.items()
                                          if isinstance(value, (str, int, float, bool, type(None)))})]
    for option in ("--project-dir", "--profiles-dir"):
        if option not in command and (option == "--project-dir" or os.path.exists(os.path.join(folder, "profiles.yml"))):
            command += [option, folder]
    ended = subprocess.run([dbt, *command], cwd=folder, stdin=subprocess.DEVNULL, check=False)
    if ended.returncode:
        raise BlockError(f"block {block['uuid']}: dbt {command[0]} ended with code {ended.returncode}; its log says why")


def _sql(block: Dict[str, Any], configuration: Dict[str, Any]) -> List[str]:
    path = block.get("file") or configuration.get("file_path") or block["uuid"]
    model = os.path.splitext(os.path.basename(path))[0]
    command = (configuration.get("dbt") or {}).get("command") or "run"
    return [command, "--select", model]


def _yaml(job: Dict[str, Any], block: Dict[str, Any], configuration: Dict[str, Any],
          kwargs: Dict[str, Any]) -> List[str]:
    text = templates.render_block(blockfile.read(block, job["repo_path"]), block["uuid"], kwargs)
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
