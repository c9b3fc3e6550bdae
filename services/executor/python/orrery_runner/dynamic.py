"""Dynamic blocks: what a parent's outputs mean as items, and which item a child gets."""
from __future__ import annotations

import logging
from typing import Any, Dict, List, Optional, Tuple

from orrery_runner.failures import OutputError

_NOT_FOR_KWARGS = ("block_uuid", "upstream_blocks")
_log = logging.getLogger("orrery")


def _is_frame(value: Any, library: str) -> bool:
    kind = type(value)
    return any(base.__module__.split(".")[0] == library and base.__name__ in ("DataFrame", "Series")
               for base in kind.__mro__)


def count(items: Any) -> Optional[int]:
    """How many items; None if this is nothing that can be split."""
    if isinstance(items, (list, tuple, dict)) or _is_frame(items, "pandas") or _is_frame(items, "polars"):
        return len(items)
    if type(items).__name__ == "ndarray" and items.ndim > 0:
        return len(items)
    return None


def select(items: Any, index: int) -> Any:
    """The item at this index, as a child receives it."""
    if isinstance(items, dict):
        return items[list(items)[index]]
    if _is_frame(items, "pandas"):
        return items.iloc[index]
    if _is_frame(items, "polars"):
        return items[index] if type(items).__name__ == "Series" else items.slice(index, 1)
    return items[index]


def pick(values: List[Any], index: int, uuid: str) -> Tuple[Any, Dict[str, Any]]:
    """A child's input and the metadata of that item, from the parent's stored outputs."""
    items = values[0] if values else []
    size = count(items) or 0
    if not 0 <= index < size:
        raise OutputError(f"block {uuid} has {size} items, and this child wants number {index}")
    metadata = values[1] if len(values) > 1 else None
    has_entry = isinstance(metadata, (list, tuple)) and index < len(metadata)
    return select(items, index), metadata_of(metadata[index] if has_entry else None)


def metadata_of(entry: Any) -> Dict[str, Any]:
    """What the metadata of one item adds to the kwargs."""
    if not isinstance(entry, dict):
        return {}
    return {str(key): value for key, value in entry.items() if key not in _NOT_FOR_KWARGS}


def describe(block: Dict[str, Any], values: List[Any]) -> Tuple[int, Optional[List[str]]]:
    """How many children a dynamic block asks for and their names; refuses what cannot be split, with the remedy."""
    if not values:
        return 0, None
    shape = f"block {block['uuid']} is dynamic: it must return [items] or [items, metadata]"
    if len(values) > 2:
        raise OutputError(f"{shape}, but it returned a list of {len(values)}. Wrap the items in one more list")
    size = count(values[0])
    if size is None:
        raise OutputError(
            f"{shape}, where items is a list, tuple, DataFrame or dict; items is of type {type(values[0]).__name__}")
    if len(values) == 1 or values[1] is None:
        return size, None
    metadata = values[1]
    if not isinstance(metadata, (list, tuple)):
        raise OutputError(f"{shape}, where metadata is a list of dicts; it is of type {type(metadata).__name__}")
    if len(metadata) == 0:
        return size, None
    if len(metadata) != size:
        raise OutputError(f"{shape}; it returned {size} items and {len(metadata)} entries of metadata")
    for index, entry in enumerate(metadata):
        if entry is not None and not isinstance(entry, dict):
            raise OutputError(f"{shape}; entry {index} of metadata is of type {type(entry).__name__}, not a dict")
    if any(entry and entry.get("upstream_blocks") for entry in metadata):
        _log.warning("block %s: upstream_blocks in the metadata of its items is ignored: a child waits for every upstream "
                     "block of its own block. Remove the key, and name those blocks in upstream_blocks of the pipeline's "
                     "metadata.yaml", block["uuid"])
    return size, _names(metadata)


def _names(metadata: Any) -> Optional[List[str]]:
    """The children's names, made unique, with the index for those without; None when nobody is named."""
    if not any(entry and entry.get("block_uuid") is not None for entry in metadata):
        return None
    names: List[str] = []
    taken: set = set()
    for index, entry in enumerate(metadata):
        name = str(entry["block_uuid"]) if entry and entry.get("block_uuid") is not None else str(index)
        if name in taken:  # a second child of the same name would be lost
            name = f"{name}:{index}"
        taken.add(name)
        names.append(name)
    return names
