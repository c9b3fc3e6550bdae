"""The items of a dynamic block's output, so stored that a child reads its own alone: beside `data.json`, which holds all of
them as ever, an index of where in it each item lies. It knows JSON and offsets, not what an item is for.
"""
from __future__ import annotations

import json
import os
import struct
from typing import Any, List, Optional, Tuple

from orrery_runner import disk, jsontext

DATA = "data.json"
# Of one item: first byte and the byte after its last.
_SPAN = struct.Struct("<QQ")
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def fit(outputs: List[Any]) -> bool:
    """Whether these plain outputs are items, perhaps with their metadata."""
    return (1 <= len(outputs) <= 2 and type(outputs[0]) in (list, dict)
            and (len(outputs) == 1 or type(outputs[1]) is list))


def index_name(number: int) -> str:
    """The index of the items (0) or of their metadata (1)."""
    return f"items_{number}.idx"


def write(outputs: List[Any], folder: str) -> List[str]:
    """Writes one output as itself and two as a list of them, each with its index; answers the files."""
    data = _Data(b"" if len(outputs) == 1 else b"[")
    spans = []
    for number, output in enumerate(outputs):
        if number:
            data.add(b",")
        spans.append(data.add_collection(output))
    if len(outputs) > 1:
        data.add(b"]")
    names = [DATA, *map(index_name, range(len(outputs)))]
    for name, content in zip(names, [data.pieces, *spans]):
        with open(os.path.join(folder, name), "wb") as file:
            file.writelines(content)
    return names


class _Data:
    """The text of `data.json` as it grows."""

    def __init__(self, start: bytes) -> None:
        self.pieces = [start]
        self.length = len(start)

    def add(self, piece: bytes) -> Tuple[int, int]:
        """Appends; answers where the piece lies."""
        start, self.length = self.length, self.length + len(piece)
        self.pieces.append(piece)
        return start, self.length

    def add_collection(self, collection: Any) -> List[bytes]:
        """Appends a list, or a dict whose values are the items; answers its index."""
        is_dict = type(collection) is dict
        spans: List[bytes] = []
        self.add(b"{" if is_dict else b"[")
        for item in collection:
            if spans:
                self.add(b",")
            if is_dict:
                self.add(_encode(item).encode() + b":")
            spans.append(_SPAN.pack(*self.add(_encode(collection[item] if is_dict else item).encode())))
        self.add(b"}" if is_dict else b"]")
        return spans


def read(folder: str, number: int, index: int) -> Optional[Tuple[Any]]:
    """The item, or the metadata of the item, at this index; None if there are not so many."""
    span = _read_span(os.path.join(folder, index_name(number)), index)
    if span is None:
        return None
    # A file cut short gives a text that is no JSON, and so an error.
    text = disk.read_span(os.path.join(folder, DATA), *span)
    return (jsontext.parse(str(text, "utf-8")),)


def _read_span(path: str, index: int) -> Optional[Tuple[int, int]]:
    packed = disk.read_span(path, index * _SPAN.size, (index + 1) * _SPAN.size)
    if len(packed) < _SPAN.size:
        return None
    first, end = _SPAN.unpack(packed)
    return first, end
