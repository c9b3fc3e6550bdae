"""Starts other pipelines from a block."""
from __future__ import annotations

import datetime
import math
import os
from typing import Any, Dict, List, Optional

from mage_ai.data_preparation.models.block.remote.models import RemoteBlock
from orrery_runner import current

_BAD = ("failed", "cancelled")
_ENDED = ("completed", *_BAD)


class TriggeredRun:
    """A run that a block started."""

    def __init__(self, run_id: str, status: str, pipeline_uuid: str, variables: Dict[str, Any]) -> None:
        self.id = run_id
        self.status = status
        self.pipeline_uuid = pipeline_uuid
        self.variables = variables
        self.reason: Optional[str] = None

    def refresh(self) -> "TriggeredRun":
        """Asks for the status."""
        self._take(current.call("run_status", {"run_id": self.id}))
        return self

    def _take(self, answer: Dict[str, Any]) -> None:
        self.status = answer["status"]
        self.reason = answer.get("reason")

    def to_dict(self, **_options: Any) -> Dict[str, Any]:
        """What can be stored as a block's output."""
        return {"id": self.id, "status": self.status, "pipeline_uuid": self.pipeline_uuid, "variables": self.variables}

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.pipeline_uuid}: {self.status}>"


def trigger_pipeline(
    pipeline_uuid: str,
    repo_path: Optional[str] = None,
    variables: Optional[Dict[str, Any]] = None,
    check_status: bool = False,
    error_on_failure: bool = False,
    poll_interval: float = 60,
    poll_timeout: Optional[float] = None,
    schedule_name: Optional[str] = None,
    verbose: bool = True,
    remote_blocks: Optional[List[Any]] = None,
    return_remote_blocks: bool = False,
    **_options: Any,
) -> Any:
    """Starts a run; with `check_status` waits for its end, at most `poll_timeout` seconds, without holding a slot. With
    `return_remote_blocks` too, and then answers its blocks, as metadata of an item that a block can be given.

    A retry of the block finds the run that it started before, unless that failed or was cancelled: then it starts another.
    Ends are told, not polled for: `poll_interval` is not used.
    """
    del repo_path, schedule_name, poll_interval
    given = dict(variables or {})
    if remote_blocks:
        given["remote_blocks"] = [block.to_dict() if hasattr(block, "to_dict") else block for block in remote_blocks]
    answer = current.call("trigger_pipeline", {
        "pipeline_uuid": pipeline_uuid, "variables": _plain(given), "key": current.next_trigger_key()})
    run = TriggeredRun(answer["run_id"], answer["status"], pipeline_uuid, given)
    if verbose:
        print(f"Started run {run.id} of pipeline {pipeline_uuid}")
    if check_status or return_remote_blocks:
        _wait(run, poll_timeout)
        if verbose:
            print(f"Run {run.id} of pipeline {pipeline_uuid} ended as {run.status}")
        if error_on_failure and run.status in _BAD:
            reason = f": {run.reason}" if run.reason else ""
            raise RuntimeError(f"run {run.id} of pipeline {pipeline_uuid} ended as {run.status}{reason}")
    return [{"remote_blocks": _blocks_of(run)}] if return_remote_blocks else run


def _blocks_of(run: TriggeredRun) -> List[RemoteBlock]:
    """The blocks of the run's pipeline, with the run as the place where their outputs are."""
    import yaml

    path = os.path.join(current.repo_path(), "pipelines", run.pipeline_uuid, "metadata.yaml")
    with open(path, encoding="utf-8") as file:
        blocks = (yaml.safe_load(file) or {}).get("blocks") or []
    return [RemoteBlock(str(block["uuid"]), run.id, run.pipeline_uuid) for block in blocks]


def _wait(run: TriggeredRun, poll_timeout: Optional[float]) -> None:
    asked: Dict[str, Any] = {"run_id": run.id}
    # As in Mage, 0 is no limit.
    if poll_timeout and math.isfinite(poll_timeout):
        asked["timeout_s"] = float(poll_timeout)
    run._take(current.call("wait_run", asked))
    if run.status not in _ENDED:
        raise TimeoutError(f"run {run.id} of pipeline {run.pipeline_uuid} did not end within {poll_timeout} s; its last "
                           f"status was {run.status}")


def _plain(value: Any) -> Any:
    """Variables travel as JSON; what JSON lacks travels as text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if hasattr(value, "item") and type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


