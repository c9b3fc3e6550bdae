"""What dbt blocks and the blocks around them hand each other: frames that become a project's sources, and rows of a model.
It knows tables and not what a command is for.
"""
from __future__ import annotations

import csv
import fcntl
import logging
import os
import pickle
import re
import subprocess
import sys
from typing import Any, Dict, List, Optional, Set, Tuple

from orrery_runner import blockfile, data_product, frames
from orrery_runner.failures import BlockError
from orrery_runner.inputs import Inputs

_SOURCE = re.compile(r"""\{\{-?\s*source\(\s*['"](\w+)['"]\s*,\s*['"](\w+)['"]\s*\)\s*-?\}\}""")
_READING_LANGUAGES = frozenset(("python", "r", "sql"))
_NO_DBT = 3
# dbt's own types, which the command's JSON would lose: whole numbers, decimals, dates. Without its log, which would hold
# every row. The current folder is none to import from: it holds the project's `macros` and `tests`.
_SHOW = f"""
import sys
sys.path[:] = [path for path in sys.path if path]
import pickle
try:
    from dbt.cli.main import dbtRunner
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit({_NO_DBT})
place, model, *command = sys.argv[1:]
shown = dbtRunner().invoke(command)
found = getattr(shown.result, "results", None) or []
if not shown.success:
    print(shown.exception or [one.message for one in found], file=sys.stderr)
    sys.exit(1)
found = [one for one in found if one.node.name == model] or found
table = found[0].agate_table if found else None
names = [] if table is None else list(table.column_names)
with open(place, "wb") as file:
    pickle.dump((names, [tuple(row.values()) for row in table.rows] if names else []), file)
"""
_log = logging.getLogger("orrery")


def are_wanted(job: Dict[str, Any]) -> bool:
    """Whether the next blocks read what this one gives; as in Mage, its rows are asked for only then."""
    return any(block.get("kind") != "dbt" and (block.get("language") or "python") in _READING_LANGUAGES
               for block in job.get("downstream") or [])


def rows(uuid: str, model: str, folder: str, own: str, options: List[str]) -> Any:
    """All that `dbt show` answers for the model, as a frame."""
    import pandas

    place = os.path.join(own, "rows")
    command = ["show", "--select", model, "--limit", "-1", "--log-level", "none", "--log-level-file", "none", *options]
    ended = subprocess.run([sys.executable, "-c", _SHOW, place, model, *command], cwd=folder, stdin=subprocess.DEVNULL,
                           check=False)
    if ended.returncode == _NO_DBT:
        raise BlockError(f"block {uuid}: the next blocks take its rows, and the environment's own Python has no dbt that "
                         "gives them; name dbt-core 1.5 or newer in the project's requirements.txt")
    if ended.returncode:
        raise BlockError(f"block {uuid}: dbt show, which reads its rows for the next blocks, ended with code "
                         f"{ended.returncode}; its log says why")
    with open(place, "rb") as file:
        names, found = pickle.load(file)
    return pandas.DataFrame(found, columns=names)


def seed(dbt: str, job: Dict[str, Any], inputs: Inputs, folder: str, own: str, options: List[str]) -> None:
    """As in Mage, an upstream block's frame is a table of the warehouse before a model runs that names it as a source."""
    block = job["block"]
    named: Optional[Set[Tuple[str, str]]] = None
    for uuid, value in zip(inputs.uuids, inputs.values):
        if named is None:
            named = set(_SOURCE.findall(blockfile.read(block, job["repo_path"])))
        name = f"{job.get('pipeline_uuid')}_{uuid}"
        if (f"mage_{os.path.splitext(os.path.basename(folder))[0]}", name) not in named:
            continue
        frame = _frame(block["uuid"], uuid, data_product.as_table(job, uuid, value))
        if frame.empty:
            _log.warning("block %s: block %s gave no rows, so its table is left as it is", block["uuid"], uuid)
            continue
        table = f"mage_{name}"
        place = os.path.join(folder, _seeds(folder), f"mage_{job.get('pipeline_uuid')}", f"{table}.csv")
        os.makedirs(os.path.dirname(place), exist_ok=True)
        written = os.path.join(own, f"{table}.csv")
        frame.to_csv(written, quoting=csv.QUOTE_NONNUMERIC, index=False)
        _run_seed(dbt, block["uuid"], folder, (written, place), ["seed", "--select", table, "--full-refresh", *options])


def _run_seed(dbt: str, uuid: str, folder: str, move: Tuple[str, str], command: List[str]) -> None:
    """One block at a time. The file stays, since dbt of another block may be about to read it."""
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.replace(*move)
        ended = subprocess.run([dbt, *command], cwd=folder, stdin=subprocess.DEVNULL, check=False)
    finally:
        os.close(lock)
    if ended.returncode:
        raise BlockError(f"block {uuid}: dbt seed of {command[2]} ended with code {ended.returncode}; its log says why")


def _frame(uuid: str, parent: str, value: Any) -> Any:
    import pandas

    kind = frames.kind_of(value)
    if kind == "dataframe":
        return value
    if kind == "polars_dataframe":
        return value.to_pandas()
    if not isinstance(value, (dict, list)):
        return pandas.DataFrame()
    try:
        return pandas.DataFrame([value] if isinstance(value, dict) else value)
    except (TypeError, ValueError) as error:
        raise BlockError(f"block {uuid}: what block {parent} gave is no table for dbt: {error}") from None


def _seeds(folder: str) -> str:
    """The project's first folder of seeds, by dbt's name where it says nothing."""
    import yaml

    try:
        with open(os.path.join(folder, "dbt_project.yml"), encoding="utf-8") as file:
            return str((yaml.safe_load(file) or {})["seed-paths"][0])
    except (KeyError, IndexError, TypeError, AttributeError, OSError, yaml.YAMLError):
        return "seeds"
