"""A block of another pipeline whose outputs are wanted."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from mage_ai.data_preparation.variable_manager import get_variable
from orrery_runner import current, outputs


@dataclass
class RemoteBlock:
    """Where the block is."""

    block_uuid: str
    execution_partition: Optional[str] = None
    pipeline_uuid: Optional[str] = None
    repo_path: Optional[str] = None

    @classmethod
    def load(cls, **fields: Any) -> "RemoteBlock":
        """From a map, such as a variable."""
        return cls(**{key: fields.get(key) for key in ("block_uuid", "pipeline_uuid", "repo_path",
                                                       "execution_partition")})  # type: ignore[arg-type]

    def to_dict(self, **_options: Any) -> Dict[str, Any]:
        """As a map."""
        return dict(vars(self))

    def get_outputs(self, **_options: Any) -> List[Any]:
        """All outputs of the block."""
        place = current.call("get_variable", {
            "pipeline_uuid": self.pipeline_uuid, "block_uuid": self.block_uuid, "variable_uuid": "output_0",
            "partition": self.execution_partition})
        return outputs.read(place["dir"]) if place else []

    def get_output(self, variable_uuid: str = "output_0") -> Any:
        """One output of the block."""
        return get_variable(str(self.pipeline_uuid), self.block_uuid, variable_uuid, self.execution_partition)
