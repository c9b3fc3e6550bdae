"""Values as JSON without loss: what JSON lacks is tagged, frames and arrays become parts, the rest becomes objects.

It knows trees, not files.
"""
from __future__ import annotations

import datetime
import decimal
import math
import uuid
from typing import Any, Callable, List

from orrery_runner.failures import OutputError

TAG = "__orrery__"
_DEPTH_MAX = 200
# numpy's scalars whose value Python holds exactly, by type character.
_NUMPY = frozenset("?bBhHiIlLqQefd")


def is_plain(value: Any) -> bool:
    """Whether JSON gives exactly this value back."""
    return _is_plain(value, [])


def _is_plain(value: Any, path: List[int]) -> bool:
    kind = type(value)
    if kind is str:
        return value.isascii() or _is_utf8(value)
    if value is None or kind in (bool, int):
        return True
    if kind is float:
        return math.isfinite(value)
    if kind is not list and kind is not dict:
        return False
    if id(value) in path or len(path) > _DEPTH_MAX:
        return False
    path.append(id(value))
    if kind is list:
        plain = all(_is_plain(item, path) for item in value)
    else:
        plain = TAG not in value and all(
            type(key) is str and _is_utf8(key) and _is_plain(item, path) for key, item in value.items())
    path.pop()
    return plain


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class Encoder:
    """Turns one value into a tree; `part` takes a value that has a format of its own and returns its number or None."""

    def __init__(self, where: str, part: Callable[[Any], Any]) -> None:
        self._where = where
        self._part = part
        self._path: List[int] = []
        self.objects: List[Any] = []

    def encode(self, value: Any) -> Any:
        """The tree."""
        kind = type(value)
        if value is None or kind in (bool, int) or (kind is str and _is_utf8(value)):
            return value
        if kind is float:
            return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}
        if kind in (list, dict, tuple, set, frozenset):
            return self._container(value, kind)
        return self._leaf(value, kind)

    def _container(self, value: Any, kind: type) -> Any:
        if id(value) in self._path:
            raise OutputError(f"{self._where} contains itself; return data without circular references")
        if len(self._path) > _DEPTH_MAX:
            raise OutputError(f"{self._where} is nested more than {_DEPTH_MAX} levels deep; return flatter data")
        self._path.append(id(value))
        try:
            if kind is list:
                return [self.encode(item) for item in value]
            if kind is dict:
                if TAG not in value and all(type(key) is str and _is_utf8(key) for key in value):
                    return {key: self.encode(item) for key, item in value.items()}
                return {TAG: "dict", "value": [[self.encode(key), self.encode(item)] for key, item in value.items()]}
            return {TAG: kind.__name__, "value": [self.encode(item) for item in value]}
        finally:
            self._path.pop()

    def _leaf(self, value: Any, kind: type) -> Any:
        if kind is datetime.datetime and (value.tzinfo is None or type(value.tzinfo) is datetime.timezone):
            return {TAG: "datetime", "value": value.isoformat()}
        if kind is datetime.date:
            return {TAG: "date", "value": value.isoformat()}
        if kind is datetime.timedelta:
            return {TAG: "timedelta", "value": [value.days, value.seconds, value.microseconds]}
        if kind is decimal.Decimal:
            return {TAG: "decimal", "value": str(value)}
        if kind is uuid.UUID:
            return {TAG: "uuid", "value": str(value)}
        if kind is bytes:
            return {TAG: "bytes", "value": value.hex()}
        if kind.__module__ == "numpy" and getattr(value, "ndim", 1) == 0 and value.dtype.char in _NUMPY:
            item = self.encode(value.item())
            return {TAG: "numpy", "value": [value.dtype.str, item]}
        number = self._part(value)
        if number is not None:
            return {TAG: "part", "value": number}
        self.objects.append(value)
        return {TAG: "object", "value": len(self.objects) - 1}


class Decoder:
    """The way back; `part` and `objects` answer by number."""

    def __init__(self, part: Callable[[int], Any], objects: Callable[[int], Any]) -> None:
        self._readers = {
            "float": float,
            "dict": lambda pairs: {self.decode(key): self.decode(item) for key, item in pairs},
            "tuple": lambda items: tuple(self.decode(item) for item in items),
            "set": lambda items: {self.decode(item) for item in items},
            "frozenset": lambda items: frozenset(self.decode(item) for item in items),
            "datetime": datetime.datetime.fromisoformat,
            "date": datetime.date.fromisoformat,
            "timedelta": lambda parts: datetime.timedelta(*parts),
            "decimal": decimal.Decimal,
            "uuid": uuid.UUID,
            "bytes": bytes.fromhex,
            "numpy": lambda pair: _numpy(pair[0], self.decode(pair[1])),
            "part": part,
            "object": objects,
        }

    def decode(self, tree: Any) -> Any:
        """The value."""
        if type(tree) is list:
            return [self.decode(item) for item in tree]
        if type(tree) is not dict:
            return tree
        if TAG in tree:
            return self._readers[tree[TAG]](tree["value"])
        return {key: self.decode(item) for key, item in tree.items()}


def _numpy(dtype: str, value: Any) -> Any:
    import numpy

    return numpy.dtype(dtype).type(value)
