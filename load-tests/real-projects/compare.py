"""Runs a project on a cluster and by hand, and compares every output. See README.md.

Exit codes: 0 all equal, 1 something differs or failed, 2 nothing was compared.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any, Dict, Iterator, List, Optional, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
RUNNER = os.path.join(os.path.dirname(os.path.dirname(HERE)), "services", "executor", "python")
sys.path.insert(0, RUNNER)

import numpy  # noqa: E402
import pandas  # noqa: E402
from by_hand import Project, Unsupported  # noqa: E402
from orrery_runner import outputs  # noqa: E402

_RUN_PATIENCE_S = 900


class Cluster:
    """The `orrery` command, and the folder where executors keep outputs."""

    def __init__(self, command: str, server: str, token_file: Optional[str], folder: str) -> None:
        self._command = command
        self._where = ["--server", server] + (["--token-file", token_file] if token_file else [])
        self._folder = folder

    def _ask(self, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run([self._command, *words, *self._where, "--json"], text=True, stdout=subprocess.PIPE,
                              timeout=_RUN_PATIENCE_S, check=False)

    def deploy(self, project: str) -> None:
        answer = self._ask("deploy", project)
        if answer.returncode != 0:
            raise SystemExit(f"orrery deploy ended with {answer.returncode}: {answer.stdout}")

    def run(self, pipeline: str) -> Tuple[str, str, List[Dict[str, Any]]]:
        """The run's id, its status and its block runs."""
        lines = self._ask("run", pipeline, "--wait").stdout.splitlines()
        run = next((frame["run"] for frame in (json.loads(line) for line in reversed(lines)) if "run" in frame), None)
        if run is None:
            raise SystemExit(f"orrery run {pipeline} did not start a run: {lines}")
        blocks = json.loads(self._ask("blocks", run["id"], "--children").stdout)["blockRuns"]
        return run["id"], run["status"].replace("RUN_STATUS_", "").lower(), blocks

    def committed(self, run: str, block: str) -> Dict[str, List[Any]]:
        """The outputs of a block by child (`_` where it has none), read as a downstream block reads them."""
        # Lower case: the executor writes whatever is not a plain character of a name as %xx.
        name = "".join(c if c.isalnum() or c in "-_." else "".join(f"%{b:02x}" for b in c.encode()) for c in block)
        folder = os.path.join(self._folder, run, name)
        found: Dict[str, List[Any]] = {}
        for child in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            attempts = [name for name in os.listdir(os.path.join(folder, child))
                        if os.path.exists(os.path.join(folder, child, name, outputs.MANIFEST))]
            if attempts:
                found[child] = outputs.read(os.path.join(folder, child, max(attempts, key=int)))
        return found


def differences(ours: Any, theirs: Any, at: str = "") -> Iterator[str]:
    """Where two values are not the same; nothing if they are."""
    if type(ours) is not type(theirs):
        yield f"{at or 'value'}: {type(ours).__name__} instead of {type(theirs).__name__}"
    elif isinstance(theirs, pandas.DataFrame):
        if list(ours.columns) != list(theirs.columns) or len(ours) != len(theirs):
            yield f"{at or 'frame'}: shape {ours.shape} instead of {theirs.shape}, or other columns"
            return
        if not ours.index.equals(theirs.index):
            yield f"{at or 'frame'}: another index"
        for number, column in enumerate(theirs.columns):
            yield from _column(ours.iloc[:, number], theirs.iloc[:, number], f"{at}[{column!r}]")
    elif isinstance(theirs, pandas.Series):
        yield from _column(ours, theirs, at)
    elif isinstance(theirs, numpy.ndarray):
        if ours.dtype != theirs.dtype or not numpy.array_equal(ours, theirs):
            yield f"{at}: arrays differ"
    elif isinstance(theirs, dict):
        if list(ours) != list(theirs):
            yield f"{at}: keys {list(ours)} instead of {list(theirs)}"
        for key in theirs:
            yield from differences(ours.get(key), theirs[key], f"{at}[{key!r}]")
    elif isinstance(theirs, (list, tuple)):
        if len(ours) != len(theirs):
            yield f"{at}: {len(ours)} elements instead of {len(theirs)}"
        for number, (a, b) in enumerate(zip(ours, theirs)):
            yield from differences(a, b, f"{at}[{number}]")
    elif ours != theirs and not (ours != ours and theirs != theirs):
        yield f"{at or 'value'}: {ours!r} instead of {theirs!r}"


def _column(ours: pandas.Series, theirs: pandas.Series, at: str) -> Iterator[str]:
    try:
        pandas.testing.assert_series_equal(ours, theirs, check_exact=True, check_index=False)
    except AssertionError as error:
        yield f"{at}: {' '.join(str(error).split())[:300]}"


def returned(value: Any) -> List[Any]:
    """A function's result as the list of outputs that it stands for."""
    if value is None:
        return []
    return list(value) if type(value) in (list, tuple) else [value]


def compare(cluster: Cluster, project: Project, pipeline: str) -> Optional[bool]:
    """Prints a row per block; None if the pipeline cannot be called by hand."""
    try:
        blocks = project.blocks(pipeline)
        once = project.run(pipeline)
        again = project.run(pipeline)
    except Unsupported as reason:
        print(f"{pipeline}: not compared: {reason}")
        return None
    except Exception as error:
        print(f"{pipeline}: not compared: called by hand it fails: {type(error).__name__}: {error}")
        return None
    run, status, block_runs = cluster.run(pipeline)
    done = sum(block["status"].endswith("_COMPLETED") for block in block_runs)
    print(f"{pipeline}: run {run} {status}, {done} of {len(block_runs)} block runs completed")
    equal = status == "completed"
    for block in blocks:
        uuid = block["uuid"]
        if uuid not in once:
            continue
        committed = cluster.committed(run, uuid)
        expected = {"_": returned(once[uuid])}
        repeated = {"_": returned(again[uuid])}
        if "_" not in committed and committed:
            names = sorted(committed, key=int) if all(name.isdigit() for name in committed) else sorted(committed)
            expected = dict(zip(names, map(returned, once[uuid])))
            repeated = dict(zip(names, map(returned, again[uuid])))
            if len(names) != len(once[uuid]):
                print(f"  DIFFERS  {uuid}: {len(names)} children instead of {len(once[uuid])}")
                equal = False
        found = {name: committed.get(name, []) for name in expected}
        # What two calls by hand do not agree on is drawn at random; only its place and shape can be compared.
        random = {text.split(":")[0] for text in differences(repeated, expected)}
        wrong = [text for text in differences(found, expected) if text.split(":")[0] not in random]
        note = f" ({len(random)} columns are drawn at random, also by hand)" if random else ""
        print(f"  {'DIFFERS' if wrong else 'equal  '}  {uuid}: {summary(expected)}{note}")
        for text in wrong[:5]:
            print(f"           {text}")
        equal = equal and not wrong
    return equal


def summary(expected: Dict[str, List[Any]]) -> str:
    """What was compared, in a few words."""
    values = [value for part in expected.values() for value in part]
    shapes = sorted({f"{type(v).__name__}{v.shape if isinstance(v, pandas.DataFrame) else ''}" for v in values})
    children = f"{len(expected)} children, " if "_" not in expected else ""
    return children + (", ".join(shapes) or "no output")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", help="the folder of a checked-out project")
    parser.add_argument("--server", required=True, help="where the web-server is, such as http://127.0.0.1:7070")
    parser.add_argument("--outputs", required=True, help="the executors' outputs folder")
    parser.add_argument("--token-file", help="the server's token, such as .orrery/api.token")
    parser.add_argument("--orrery", default="orrery", help="the command")
    parser.add_argument("--pipeline", action="append", help="only these; all without it")
    options = parser.parse_args()
    cluster = Cluster(options.orrery, options.server, options.token_file, options.outputs)
    cluster.deploy(options.project)
    project = Project(options.project)
    try:
        verdicts = [compare(cluster, project, name) for name in options.pipeline or project.pipelines()]
    finally:
        project.close()
    compared = [verdict for verdict in verdicts if verdict is not None]
    return 2 if not compared else 0 if all(compared) else 1


if __name__ == "__main__":
    sys.exit(main())
