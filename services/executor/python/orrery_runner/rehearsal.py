"""Runs a block that does nothing, so that what the first job would touch, copy and cache is ready before it comes."""
from __future__ import annotations

import json
import os
import socket
import struct
import sys
import tempfile
from typing import Any, Dict

# An interpreter that adapts code to what it meets has done so by then.
_TIMES = 20


def _job(source: str) -> Dict[str, Any]:
    return {
        "repo_path": os.path.dirname(os.path.abspath(__file__)), "project_name": "rehearsal", "output_dir": "",
        "block": {"uuid": "rehearsal", "kind": "data_loader", "language": "python", "file": "rehearsed.py",
                  "configuration": {}, "upstream": ["source"]},
        "inputs": [{"block": "source", "mode": "item" if source else "whole", "item": 0, "dirs": [source]}],
        "execution_date": "2024-01-01T00:00:00Z"}


def run(source: str = "") -> None:
    """The whole way of a child from its packet to its result; leaves no trace but warm memory. `source` is the output of a
    dynamic block, whose first item is read."""
    from orrery_runner import child

    path, environment, job = list(sys.path), dict(os.environ), _job(source)
    variables = {**environment, "ORRERY_RUN_ID": "rehearsal", "MAGE_RUNTIME__REPO_PATH": job["repo_path"]}
    packet = json.dumps({"env": variables, "cwd": os.getcwd()}).encode()
    frame = json.dumps({"type": "job", "job": job, "last": True}).encode()
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(struct.pack(">I", len(frame)) + frame)
        try:
            child.serve(packet, [os.dup(1), os.dup(2), theirs.detach()])
        finally:
            child.forget(environment)
    sys.path[:] = path
    # By name: a look at all modules would count a reference to each, and so copy the pages that they lie in.
    for name in ("default_repo", "rehearsal", "orrery_block_rehearsal"):
        sys.modules.pop(name, None)


def run_often() -> None:
    """In the zygote: what is learned by running lies together, and nothing of it is left to learn."""
    from orrery_runner import failures, outputs

    try:
        with tempfile.TemporaryDirectory(prefix="orrery-") as folder:
            source = os.path.join(folder, "source")
            outputs.Writer(source, "source", has_items=True).write([[0]])
            _run_often(source)
    except (OSError, failures.BlockError):
        _run_often("")  # without anything to read


def _run_often(source: str) -> None:
    from orrery_runner import packing

    run(source)
    packing.fill()
    packing.gather(lambda: run(source))
    for _ in range(_TIMES):
        run(source)
