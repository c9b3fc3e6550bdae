"""A look at outputs, noted while they are written, so that nobody has to read a large file to show its first rows.

One small file beside the outputs. It is for people: values are cut, and what JSON lacks is text.
"""
from __future__ import annotations

import json
import math
import os
from typing import Any, Dict, List, Optional, Tuple

from orrery_runner import formats, frames

FILE = "preview.json"
_ROWS_MAX = 100
_COLUMNS_MAX = 50
_OUTPUTS_MAX = 20
_TEXT_MAX = 200
_DEPTH_MAX = 6
# Characters of one output's note as JSON; of a table or a list, rows go until it fits.
_NOTE_MAX = 32 * 1024
# Integers beyond it are not exact in the JSON of most readers.
_INTEGER_MAX = 2 ** 53 - 1


class _Cut:
    """Turns values into short JSON, and remembers whether anything was lost by it."""

    def __init__(self) -> None:
        self.lost = False

    def value(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -_INTEGER_MAX <= value <= _INTEGER_MAX else str(value)
        if kind is float:
            return value if math.isfinite(value) else None if math.isnan(value) else repr(value)
        if kind is str:
            return self._text(value)
        if kind in (list, tuple) and depth < _DEPTH_MAX:
            self.lost = self.lost or len(value) > _ROWS_MAX
            return [self.value(item, depth + 1) for item in value[:_ROWS_MAX]]
        if kind is dict and depth < _DEPTH_MAX:
            self.lost = self.lost or len(value) > _ROWS_MAX
            return {self._text(str(key)): self.value(value[key], depth + 1) for key in list(value)[:_ROWS_MAX]}
        return self._stranger(value)

    def _text(self, text: str) -> str:
        if len(text) > _TEXT_MAX:
            self.lost = True
            text = text[:_TEXT_MAX] + "…"
        return text.encode("utf-8", "replace").decode("utf-8")

    def _stranger(self, value: Any) -> Any:
        """Numbers and times of libraries by their own words; of anything else only its type, lest its code runs."""
        module = type(value).__module__.partition(".")[0]
        if module in ("datetime", "decimal", "uuid", "numpy", "pandas"):
            if hasattr(value, "item") and not getattr(value, "shape", ()):
                plain = value.item()
                if type(plain) in (bool, int, float, str):
                    return self.value(plain)
            text = str(value)
            return None if text in ("NaT", "<NA>", "nan") else self._text(text)
        self.lost = True
        return f"<{formats.type_name(value)}>"


def note(name: str, value: Any) -> Dict[str, Any]:
    """What is shown of one value."""
    cut = _Cut()
    kind = frames.kind_of(value)
    if kind is not None:
        return _table(name, value, kind, cut)
    if type(value) in (list, tuple):
        sample = cut.value(list(value))
        found = {"name": name, "sample": sample, "complete": not cut.lost}
        # What is whole is also there as text, in which 1 and 1.0 are two things.
        return _fitted({**found, "text": json.dumps(sample, ensure_ascii=False)} if found["complete"] else found)
    return _fitted({"name": name, "text": _text_of(value, cut), "complete": not cut.lost})


def _text_of(value: Any, cut: _Cut) -> str:
    special = formats.special_kind(value)
    if special in ("ndarray", "matrix_sparse"):
        cut.lost = True
        return f"{special} of shape {tuple(value.shape)}, {value.dtype}"
    return json.dumps(cut.value(value), ensure_ascii=False)


def _table(name: str, frame: Any, kind: str, cut: _Cut) -> Dict[str, Any]:
    if type(frame).__name__ == "LazyFrame":
        return {"name": name, "text": "a lazy frame; its rows were counted by nobody", "complete": False}
    columns, cells = _columns(frame.head(_ROWS_MAX), kind)
    cut.lost = len(frame) > _ROWS_MAX or len(columns) > _COLUMNS_MAX
    shown = [[cut.value(cell) for cell in column] for column in cells[:_COLUMNS_MAX]]
    named = [[cut.value(str(column)), kind_of_column] for column, kind_of_column in columns[:_COLUMNS_MAX]]
    return _fitted({"name": name, "columns": named, "sample": [list(row) for row in zip(*shown)],
                    "complete": not cut.lost})


def _columns(head: Any, kind: str) -> Tuple[List[Tuple[Any, str]], List[List[Any]]]:
    """Names, types and values, column by column; names of pandas need not be unique."""
    if kind == "series_pandas":
        return [(head.name if head.name is not None else "", str(head.dtype))], [head.tolist()]
    if kind == "series_polars":
        return [(head.name, str(head.dtype))], [head.to_list()]
    if kind == "polars_dataframe":
        return list(zip(head.columns, map(str, head.dtypes))), [column.to_list() for column in head.get_columns()]
    series = [head.iloc[:, at] for at in range(min(head.shape[1], _COLUMNS_MAX + 1))]
    return [(name, str(one.dtype)) for name, one in zip(head.columns, series)], [one.tolist() for one in series]


def _fitted(found: Dict[str, Any]) -> Dict[str, Any]:
    """The note with so few rows, or so little text, that it is small."""
    while len(json.dumps(found, ensure_ascii=False)) > _NOTE_MAX:
        found["complete"] = False
        sample = found.get("sample")
        if sample and found.pop("text", None):
            continue
        if sample:
            found["sample"] = sample[:len(sample) // 2]
        elif found.get("text"):
            found["text"] = found["text"][:_NOTE_MAX // 2] + "…"
        else:
            return {"name": found["name"], "text": "too wide to be shown", "complete": False}
    return found


class Notes:
    """The notes of one attempt."""

    def __init__(self) -> None:
        self._first_part: Optional[Dict[str, Any]] = None

    def part(self, number: int, value: Any) -> None:
        """A part that a generator yielded; the first stands for all."""
        if number == 0:
            self._first_part = _safely("output_0", value)
            self._first_part["complete"] = False

    def write(self, folder: str, entries: List[Dict[str, Any]], values: List[Any]) -> None:
        """Writes the file beside the outputs. Whoever lists the entries knows what each of them is."""
        if self._first_part is not None:
            noted = [self._first_part]
        elif len(entries) == 1 and len(values) > 1:
            noted = [_safely(entries[0]["name"], values)]
        else:
            noted = [_safely(entry["name"], value) for entry, value in list(zip(entries, values))[:_OUTPUTS_MAX]]
        with open(os.path.join(folder, FILE), "w", encoding="utf-8") as file:
            json.dump({"version": 1, "outputs": noted}, file, ensure_ascii=False)


def _safely(name: str, value: Any) -> Dict[str, Any]:
    """A value that cannot be shown must not fail the block that made it."""
    try:
        return note(name, value)
    except Exception as error:
        return {"name": name, "text": f"cannot be shown: {type(error).__name__}", "complete": False}
