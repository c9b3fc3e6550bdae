"""Small helpers for maps that blocks import from Mage."""
from __future__ import annotations

import re
from typing import Any, Callable, Dict, Iterable, List, Optional, Union


def dig(value: Any, path: Union[str, List[str]]) -> Any:
    """What lies below `a.b[0].c`; nothing below nothing."""
    for part in path.split(".") if isinstance(path, str) else path:
        key, positions = re.fullmatch(r"(.*?)((?:\[\d+\])*)", part.strip()).groups()  # type: ignore[union-attr]
        if key:
            value = value.get(key) if value else value
        for position in re.findall(r"\d+", positions):
            value = value[int(position)]
    return value


def extract(values: Dict[str, Any], keys: Iterable[str], include_blank_values: bool = False) -> Dict[str, Any]:
    """Only these keys; those without a value only where that is asked for."""
    return {key: values.get(key) for key in keys if include_blank_values or values.get(key) is not None}


def ignore_keys(values: Dict[str, Any], keys: Iterable[str]) -> Dict[str, Any]:
    """Without these keys."""
    left_out = set(keys)
    return {key: value for key, value in values.items() if key not in left_out}


def merge_dict(first: Optional[Dict[str, Any]], second: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """Both; where they have a key in common, the second's value."""
    return {**(first or {}), **(second or {})}


def group_by(key_of: Callable[[Any], Any], items: Iterable[Any]) -> Dict[Any, List[Any]]:
    """The items by their key, in their order."""
    groups: Dict[Any, List[Any]] = {}
    for item in items:
        groups.setdefault(key_of(item), []).append(item)
    return groups


def index_by(key_of: Callable[[Any], Any], items: Iterable[Any]) -> Dict[Any, Any]:
    """The last item of each key."""
    return {key_of(item): item for item in items}
