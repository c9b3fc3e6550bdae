"""The positional inputs of a job, read from the committed outputs of its upstream blocks."""
from __future__ import annotations

from typing import Any, Dict, List, NamedTuple

from orrery_runner import outputs


class Inputs(NamedTuple):
    """One value per upstream block, and what the items of dynamic parents add to the kwargs."""

    uuids: List[str]
    values: List[Any]
    metadata: Dict[str, Any]

    def names(self) -> Dict[str, Any]:
        """The values by `df_1`, `df_2`, … and by their block."""
        named: Dict[str, Any] = dict(zip(self.uuids, self.values))
        named.update((f"df_{number}", value) for number, value in enumerate(self.values, start=1))
        return named


def load(job: Dict[str, Any]) -> Inputs:
    """Reads all inputs in order."""
    found = Inputs([], [], {})
    for entry in job.get("inputs") or []:
        found.uuids.append(entry["block"])
        mode = entry.get("mode", "whole")
        if mode == "reduced":
            found.values.append(_reduced(entry["dirs"]))
            continue
        directory = entry["dirs"][0] if entry.get("dirs") else ""
        if mode == "item":
            item, metadata = outputs.read_item(directory, int(entry["item"]), entry["block"])
            found.values.append(item)
            found.metadata.update(metadata)
        else:
            found.values.append(outputs.join(outputs.read(directory) if directory else []))
    return found


def _reduced(directories: List[str]) -> List[Any]:
    """All children's outputs in index order; a child with several contributes each, one without any none."""
    return [value for directory in directories for value in outputs.read(directory)]
