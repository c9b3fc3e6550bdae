"""Variables of pipelines and outputs of blocks, asked by name."""
from __future__ import annotations

import logging
import os
from typing import Any, Dict, Optional

from orrery_runner import current, outputs

_log = logging.getLogger("orrery")


def get_variable(pipeline_uuid: str, block_uuid: str, variable_uuid: str = "output_0",
                 partition: Optional[str] = None, key: Optional[str] = None, **_options: Any) -> Any:
    """An output of a block, from the given partition or the latest run; None if there is none. Mage calls its name `key`."""
    variable_uuid = key or variable_uuid
    place = current.call("get_variable", {"pipeline_uuid": pipeline_uuid, "block_uuid": block_uuid,
                                          "variable_uuid": variable_uuid, "partition": partition})
    if place:
        return outputs.read_one(place["dir"], place.get("name") or variable_uuid)
    where = f"the partition {partition}" if partition else "a completed run, which a call without a partition means,"
    _log.info("get_variable gives None: %s has no %s of block %s in pipeline %s", where, variable_uuid, block_uuid,
              pipeline_uuid)
    return None


def get_global_variables(pipeline_uuid: Optional[str] = None, **_options: Any) -> Dict[str, Any]:
    """The variables that a pipeline defines."""
    pipeline_uuid = pipeline_uuid or current.job().get("pipeline_uuid") or ""
    if current.has_executor():
        return dict(current.call("global_variables", {"pipeline_uuid": pipeline_uuid}) or {})
    import yaml

    path = os.path.join(current.repo_path(), "pipelines", pipeline_uuid, "metadata.yaml")
    with open(path, encoding="utf-8") as file:
        return dict((yaml.safe_load(file) or {}).get("variables") or {})


def get_global_variable(pipeline_uuid: str, key: str, **_options: Any) -> Any:
    """One of them, or None."""
    return get_global_variables(pipeline_uuid).get(key)


def set_global_variable(pipeline_uuid: str, key: str, value: Any, repo_path: Optional[str] = None) -> None:
    """Refused: a run never changes the version of the pipeline that it is a run of, nor what another run is given."""
    del value, repo_path
    raise _refusal(f"set_global_variable('{pipeline_uuid}', '{key}', …)")


def delete_global_variable(pipeline_uuid: str, key: str, repo_path: Optional[str] = None) -> None:
    """Refused, as setting one is."""
    del repo_path
    raise _refusal(f"delete_global_variable('{pipeline_uuid}', '{key}')")


def _refusal(call: str) -> NotImplementedError:
    return NotImplementedError(
        f"{call}: a pipeline's variables are part of its version and cannot be changed by a run; change its metadata.yaml, "
        "return the value as an output and take it with get_variable, or pass it to trigger_pipeline")


class VariableManager:
    """The same questions as methods."""

    def __init__(self, repo_path: Optional[str] = None, variables_dir: Optional[str] = None, **_options: Any) -> None:
        self.repo_path = repo_path or current.repo_path()
        self.variables_dir = variables_dir

    @classmethod
    def get_manager(cls, repo_path: Optional[str] = None, variables_dir: Optional[str] = None,
                    **_options: Any) -> "VariableManager":
        """A manager."""
        return cls(repo_path, variables_dir)

    def get_variable(self, pipeline_uuid: str, block_uuid: str, variable_uuid: str = "output_0",
                     partition: Optional[str] = None, **_options: Any) -> Any:
        """An output of a block."""
        return get_variable(pipeline_uuid, block_uuid, variable_uuid, partition)
