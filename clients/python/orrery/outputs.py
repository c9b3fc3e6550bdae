"""Whole outputs, fetched as they were stored and made into values.

Needs pandas and pyarrow for tables. Refuses to unpickle anything: what a block stored as an object is saved as files.
"""
from __future__ import annotations

import contextlib
import json
import os
import tempfile
import urllib.parse
from typing import Any, Dict, List, Optional

from orrery import errors
from orrery.transport import Transport

_TABLE = "data.parquet"
_TYPES = "data_column_types.json"
_JSON = "data.json"
_CONFIG = "config.json"
_ARRAY = "data.npy"


def save(transport: Transport, run: str, block: str, name: str, child: Optional[int], folder: str) -> List[str]:
    """Fetches every file of an output into a folder, one after the other; answers their paths."""
    path = (f"/api/v1/runs/{_quoted(run)}/blocks/{_quoted(block)}/outputs/{_quoted(name)}/content")
    query: Dict[str, str] = {} if child is None else {"child": str(child)}
    about = _fetch(transport, path, query, folder)
    if "files" not in about:
        about["files"] = _files(transport, run, block, name, child)
    files = [str(file) for file in about["files"]]
    for file in files:
        if file != about.get("name"):
            _fetch(transport, path, {**query, "file": file}, folder)
    return [_below(folder, file) for file in files]


def value(transport: Transport, run: str, block: str, name: str, child: Optional[int]) -> Any:
    """The value of an output: a pandas object for a table, an array of numpy, or what JSON has."""
    with tempfile.TemporaryDirectory(prefix="orrery-output-") as folder:
        files = save(transport, run, block, name, child, folder)
        folders = sorted({os.path.dirname(file) for file in files}, key=_number)
        # A value that was returned part by part has a folder for each.
        parts = [_read(name, part, {os.path.basename(file) for file in files if os.path.dirname(file) == part})
                 for part in folders]
    return parts[0] if len(parts) == 1 else _joined(parts)


def can_read_tables() -> bool:
    """Whether tables become pandas objects here."""
    try:
        import pandas  # noqa: F401
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    return True


def _fetch(transport: Transport, path: str, query: Dict[str, str], folder: str) -> Dict[str, Any]:
    with transport.download(path, query) as answer:
        about = json.loads(answer.headers.get("orrery-output") or "{}")
        target = _below(folder, str(about.get("name") or ""))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        transport.copy(answer, target)
    return dict(about)


def _files(transport: Transport, run: str, block: str, name: str, child: Optional[int]) -> List[str]:
    """The files of an output that has too many for a header."""
    message: Dict[str, Any] = {"runId": run, "block": block, "name": name}
    if child is not None:
        message["child"] = child
    with contextlib.closing(transport.stream("OutputService/DownloadOutput", message)) as parts:
        return list(next(parts, {}).get("file", {}).get("files", []))


def _quoted(part: str) -> str:
    return urllib.parse.quote(part, safe="")


def _below(folder: str, file: str) -> str:
    """Where a file goes; never outside of the folder, whatever a server says."""
    parts = file.split("/")
    if not file or any(part in ("", ".", "..") or os.sep in part or "\0" in part for part in parts):
        raise errors.Error(f"the server names a file {file!r}, which is no path of an output")
    return os.path.join(folder, *parts)


def _number(folder: str) -> Any:
    last = os.path.basename(folder)
    return (0, int(last), "") if last.isdigit() else (1, 0, folder)


def _read(name: str, folder: str, files: Any) -> Any:
    if _TABLE in files:
        if not can_read_tables():
            raise errors.Incomplete(f"{name} is a table: install pandas and pyarrow to read it, or save its files with "
                                    "Run.save_output", "incomplete")
        return _table(folder, _TYPES in files)
    if _ARRAY in files:
        import numpy

        return numpy.load(os.path.join(folder, _ARRAY), allow_pickle=False)
    if _JSON in files and _CONFIG not in files:
        with open(os.path.join(folder, _JSON), encoding="utf-8") as file:
            return json.load(file)
    raise errors.Incomplete(f"{name} holds Python objects ({', '.join(sorted(files))}), which only a block can load; save "
                            "its files with Run.save_output", "incomplete")


def _table(folder: str, has_types: bool) -> Any:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(os.path.join(folder, _TABLE)) as stored:
        frame = stored.read().to_pandas()
    if not has_types:
        return frame
    with open(os.path.join(folder, _TYPES), encoding="utf-8") as file:
        types = json.load(file)
    for position in types.get("encoded") or []:
        cells = [json.loads(cell) if isinstance(cell, str) else None for cell in frame.iloc[:, position]]
        frame.isetitem(position, frame.iloc[:, position].astype(object))
        frame.isetitem(position, type(frame.iloc[:, position])(cells, index=frame.index, dtype=object))
    if "columns" in types and types.get("columns_kind") != "multi":
        frame.columns = types["columns"]
    if "name" in types:
        series = frame.iloc[:, 0]
        series.name = types["name"]
        return series
    return frame


def _joined(parts: List[Any]) -> Any:
    """Tables one below the other; anything else as a list."""
    kinds = {type(part).__name__ for part in parts}
    if len(kinds) == 1 and kinds <= {"DataFrame", "Series"}:
        import pandas

        return pandas.concat(parts)
    return parts
