"""Callback blocks: functions that react to how another block ended; and what they and guards are given of that block."""
from __future__ import annotations

import types
from typing import Any, Dict, List

from orrery_runner import arguments, blockfile, inputs
from orrery_runner.failures import BlockError

_STATUSES = ("success", "failure", "cancelled")
_LEGACY = {"success": "on_success", "failure": "on_failure"}


class UpstreamError(Exception):
    """What `__error` holds: the failure of the watched block, which happened in another process."""

    def __init__(self, message: str, code: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.traceback = traceback


def run(job: Dict[str, Any], found: inputs.Inputs, kwargs: Dict[str, Any]) -> None:
    """Calls every function for this status, in file order; a file without any for it is fine."""
    told = job.get("callback") or {}
    status = told.get("status") or "success"
    if status == "failure" and not found.values:  # as in Mage, what any block without outputs gives
        found = inputs.Inputs([str(told.get("block"))], [[]], found.metadata)
    file = blockfile.load(job["block"], job["repo_path"], found.names())
    own = _kwargs(job, told, found, kwargs)
    # A wrong name is refused before anything is called, as in Mage.
    wanted = [entry for entry in file.of("callback", "on_success", "on_failure") if _is_for(entry, status, job["block"]["uuid"])]
    for entry in wanted:
        _call(entry.function, found.values if status != "cancelled" else [], own)


def _is_for(entry: Any, status: str, uuid: str) -> bool:
    if entry.decorator != "callback":
        return entry.decorator == _LEGACY.get(status)
    wanted = entry.arguments[0] if entry.arguments else "success"
    wanted = str(getattr(wanted, "value", wanted))
    if wanted not in _STATUSES:
        raise BlockError(f"block {uuid}: @callback('{wanted}') is never called; use one of {', '.join(_STATUSES)}")
    return wanted == status


def _kwargs(job: Dict[str, Any], told: Dict[str, Any], found: inputs.Inputs,
            kwargs: Dict[str, Any]) -> Dict[str, Any]:
    uuid = told.get("block")
    watched = (job.get("upstream") or {}).get(uuid) or {}
    own = {**addon_kwargs(job, job["block"], {**watched, "uuid": uuid}, kwargs), "__input": found.names()}
    error = told.get("error")
    if error is not None and told.get("status") == "failure":
        own["__error"] = _error(error)
    return own


def addon_kwargs(job: Dict[str, Any], own: Dict[str, Any], parent: Dict[str, Any],
                 kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """The kwargs of a guard or a reaction. As in Mage it sees the configuration of the block that it belongs to; keys of its
    own, which Mage does not hand over, come on top."""
    return {
        **kwargs,
        "block_uuid": own["uuid"],
        "parent_block_uuid": parent["uuid"],
        "configuration": {**(parent.get("configuration") or {}), **(own.get("configuration") or {})},
        "pipeline_run": types.SimpleNamespace(
            id=kwargs.get("pipeline_run_id"), pipeline_uuid=job.get("pipeline_uuid"), status="running",
            execution_date=kwargs["execution_date"], variables=dict(job.get("variables") or {}),
            event_variables=dict(job.get("event") or {}), execution_partition=job.get("execution_partition")),
    }


def _error(error: Any) -> UpstreamError:
    if not isinstance(error, dict):
        return UpstreamError(str(error))
    return UpstreamError(str(error.get("message", "")), str(error.get("code", "")), str(error.get("traceback", "")))


def _call(function: Any, values: List[Any], kwargs: Dict[str, Any]) -> None:
    """Hands over as many inputs as there are places; a place without an input gets None, as after a cancellation."""
    shape = arguments.Shape(function)
    given = shape.accepted(values)
    given += [None] * (shape.required - len(given))
    if given and shape.var_kwargs:
        kwargs = {key: value for key, value in kwargs.items() if key != "__input"}
    arguments.call(function, given, kwargs)


