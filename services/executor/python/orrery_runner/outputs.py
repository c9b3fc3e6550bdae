"""The outputs of a block: what it returned as a list, and that list in a directory that appears whole or not at all.

A directory holds `manifest.json` and one folder per output. Many plain values share one folder, as kind `list`.
"""
from __future__ import annotations

import copy
import json
import os
import shutil
import types
from typing import Any, Dict, Iterator, List, Tuple

from orrery_runner import disk, dynamic, formats, frames, items, preview, values
from orrery_runner.failures import BlockError, DiskFull, OutputError, is_disk_full

MANIFEST = "manifest.json"
# A list of more values than this, or on disk one of plain values only, is one entry with one folder.
_FOLDERS_MAX = 64

_memory: Dict[str, List[Any]] = {}


def split(returned: Any) -> List[Any]:
    """None is no output, a list or tuple is one output per element, anything else is one output."""
    if returned is None:
        return []
    if isinstance(returned, (list, tuple)):  # named ones too, as in Mage
        return list(returned)
    return [returned]


def join(outputs: List[Any]) -> Any:
    """What a downstream block gets: the value itself if there is one, else the list."""
    return outputs[0] if len(outputs) == 1 else outputs


class Parts:
    """What a generator yielded, one part on disk at a time, so that it never has to fit in memory whole."""

    def __init__(self, generator: Iterator[Any]) -> None:
        self.generator = generator

    def __iter__(self) -> Iterator[Any]:
        for part in self.generator:
            # A pair of data and a dict is data with its metadata, as dynamic blocks use it.
            yield part[0] if is_with_metadata(part) else part


def is_with_metadata(part: Any) -> bool:
    """Whether a yielded value is a pair of data and metadata."""
    return type(part) is tuple and len(part) == 2 and type(part[1]) is dict


def is_generator(returned: Any) -> bool:
    """Whether a block yields its output in parts."""
    return isinstance(returned, types.GeneratorType)


class Writer:
    """Writes one attempt's outputs beside their final place and renames them when all is on disk."""

    def __init__(self, output_dir: str, block_uuid: str, has_items: bool = False) -> None:
        """`has_items` is true of a dynamic block, whose children each read one item."""
        self._has_items = has_items
        self._final = output_dir
        self._building = f"{output_dir.rstrip(os.sep)}.{os.getpid()}.partial"
        self._block = block_uuid
        self._entries: List[Dict[str, Any]] = []
        self._notes = preview.Notes()

    def write(self, outputs: List[Any]) -> List[Dict[str, Any]]:
        """Stores the outputs; returns the manifest's entries without their files."""
        return self._build(lambda: self._write_outputs(outputs), outputs) if outputs else []

    def write_parts(self, parts: Parts) -> List[Dict[str, Any]]:
        """Stores what a generator yields as one output."""
        return self._build(lambda: self._write_parts(parts), [])

    def _build(self, write: Any, shown: List[Any]) -> List[Dict[str, Any]]:
        try:
            self._guard(lambda: os.makedirs(self._building))
            write()
            if self._entries:
                self._guard(lambda: self._notes.write(self._building, self._entries, shown))
                self._guard(self._commit)
        finally:
            shutil.rmtree(self._building, ignore_errors=True)
        return [{key: entry[key] for key in ("name", "kind", "rows", "size_bytes")} for entry in self._entries]

    def _guard(self, act: Any) -> Any:
        """A full disk while outputs are written is the machine's fault and not the block's."""
        try:
            return act()
        except OSError as error:
            if is_disk_full(error):
                raise DiskFull(f"block {self._block}: no space left for its outputs in "
                               f"{os.path.dirname(self._final)}: {error.strerror}") from None
            raise OutputError(f"block {self._block}: its outputs cannot be written: {error}") from None

    def _write_outputs(self, outputs: List[Any]) -> None:
        is_plain = values.is_plain(outputs)
        if self._has_items and is_plain and items.fit(outputs):
            self._add_items(outputs)
            return
        compact = len(outputs) > 1 and (is_plain or len(outputs) > _FOLDERS_MAX)
        if compact:
            self._add("output_0", outputs, f"the list that block {self._block} returned", kind="list")
            return
        for number, value in enumerate(outputs):
            name = f"output_{number}"
            self._add(name, value, f"{name} of block {self._block}")

    def _write_parts(self, parts: Parts) -> None:
        kinds: List[str] = []
        files: List[str] = []
        rows = size = 0
        for number, value in enumerate(parts):
            folder = f"output_0/{number}"
            where = f"part {number} of the output of block {self._block}"
            stored = self._guard(lambda: formats.write(value, os.path.join(self._building, folder), where))
            self._notes.part(number, value)
            kinds.append(stored.kind)
            files += [f"{folder}/{file}" for file in stored.files]
            rows += stored.rows if stored.rows >= 0 else 1
        if not kinds:
            return
        size = sum(os.path.getsize(os.path.join(self._building, file)) for file in files)
        self._entries.append({"name": "output_0", "kind": "parts", "parts": kinds, "files": files, "rows": rows,
                              "size_bytes": size})

    def _add_items(self, outputs: List[Any]) -> None:
        """As `_add` would store them, and an index for whoever wants one item."""
        folder = os.path.join(self._building, "output_0")
        self._guard(lambda: os.makedirs(folder))
        names = self._guard(lambda: items.write(outputs, folder))
        entry: Dict[str, Any] = {"name": "output_0", "kind": "json", "files": [f"output_0/{name}" for name in names],
                                 "rows": len(outputs[0]) if type(outputs[0]) is list else -1,
                                 "size_bytes": os.path.getsize(os.path.join(folder, items.DATA)),
                                 "indexed": len(outputs)}
        if len(outputs) > 1:
            entry.update(kind="list", stored_as="json", rows=len(outputs))
        self._entries.append(entry)

    def _add(self, name: str, value: Any, where: str, kind: str = "") -> None:
        folder = os.path.join(self._building, name)
        stored = self._guard(lambda: formats.write(value, folder, where))
        files = [f"{name}/{file}" for file in stored.files]
        size = sum(os.path.getsize(os.path.join(self._building, file)) for file in files)
        entry = {"name": name, "kind": kind or stored.kind, "files": files, "rows": stored.rows, "size_bytes": size}
        if kind:
            entry["stored_as"] = stored.kind
        self._entries.append(entry)

    def _commit(self) -> None:
        folders = {self._building}
        for entry in self._entries:
            for file in entry["files"]:
                _sync(os.path.join(self._building, file))
                folder = os.path.dirname(os.path.join(self._building, file))
                while folder != self._building:
                    folders.add(folder)
                    folder = os.path.dirname(folder)
        for folder in folders:
            _sync(folder)
        path = os.path.join(self._building, MANIFEST)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"version": 1, "outputs": self._entries}, file)
            file.flush()
            os.fsync(file.fileno())
        _sync(self._building)
        os.rename(self._building, self._final)
        _sync(os.path.dirname(self._final))


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def keep(output_dir: str, outputs: List[Any]) -> List[Dict[str, Any]]:
    """Keeps outputs in this process instead of on disk. As there, a long list is one entry: entries travel in one message."""
    _memory[os.path.normpath(output_dir)] = outputs
    if len(outputs) > _FOLDERS_MAX:
        return [{"name": "output_0", "kind": "list", "rows": len(outputs), "size_bytes": 0}]
    return [{"name": f"output_{number}", "kind": formats.special_kind(value) or "memory",
             "rows": len(value) if frames.kind_of(value) or type(value) is list else -1, "size_bytes": 0}
            for number, value in enumerate(outputs)]


def read(directory: str) -> List[Any]:
    """All outputs of a committed directory; none if it does not exist."""
    kept = _memory.get(os.path.normpath(directory))
    if kept is not None:
        return [_own_copy(value) for value in kept]
    outputs: List[Any] = []
    for entry in _manifest(directory):
        value = _read_entry(directory, entry)
        if entry["kind"] == "list":
            outputs.extend(value)
        else:
            outputs.append(value)
    return outputs


def read_item(directory: str, index: int, uuid: str) -> Tuple[Any, Dict[str, Any]]:
    """One item of a dynamic block's outputs, and its metadata; without reading the others where they have an index."""
    kept = _memory.get(os.path.normpath(directory))
    if kept is not None:
        item, metadata = dynamic.pick(kept, index, uuid)
        return _own_copy(item), metadata
    entries = _manifest(directory)
    indexed = entries[0].get("indexed", 0) if len(entries) == 1 else 0
    if not indexed:
        return dynamic.pick(read(directory), index, uuid)
    folder = os.path.join(directory, entries[0]["name"])
    item = items.read(folder, 0, index) if index >= 0 else None
    if item is None:
        raise OutputError(f"block {uuid} has no item number {index}")
    metadata = items.read(folder, 1, index) if indexed > 1 else None
    return item[0], dynamic.metadata_of(metadata[0] if metadata else None)


def _own_copy(value: Any) -> Any:
    """One block's changes to its input must not reach its siblings."""
    if formats.special_kind(value) is not None:
        return value.copy() if hasattr(value, "copy") else value
    return copy.deepcopy(value) if values.is_plain(value) else value


def read_one(directory: str, name: str) -> Any:
    """One output by its name, such as `output_0`; None if there is none."""
    kept = _memory.get(os.path.normpath(directory))
    entries = [] if kept is not None else _manifest(directory)
    for entry in entries:
        if entry["name"] == name and entry["kind"] != "list":
            return _read_entry(directory, entry)
    outputs = read(directory)
    _, _, number = name.rpartition("_")
    return outputs[int(number)] if number.isdigit() and int(number) < len(outputs) else None


def _manifest(directory: str) -> List[Dict[str, Any]]:
    path = os.path.join(directory, MANIFEST)
    try:
        manifest = disk.read_json(path)
    except FileNotFoundError:
        return []
    if manifest.get("version") != 1:
        raise BlockError(f"{path} has version {manifest.get('version')}; this runner reads version 1. Update it")
    return list(manifest["outputs"])


def _read_entry(directory: str, entry: Dict[str, Any]) -> Any:
    folder = os.path.join(directory, entry["name"])
    if entry["kind"] == "list":
        return formats.read(entry["stored_as"], folder)
    if entry["kind"] != "parts":
        return formats.read(entry["kind"], folder)
    parts = [formats.read(kind, os.path.join(folder, str(number))) for number, kind in enumerate(entry["parts"])]
    return concatenate(parts)


def concatenate(parts: List[Any]) -> Any:
    """Frames of one kind are one frame again; other parts are a list."""
    kinds = {frames.kind_of(part) for part in parts}
    if kinds <= {"dataframe"} or kinds <= {"series_pandas"}:
        import pandas

        return parts[0] if len(parts) == 1 else pandas.concat(parts)
    if kinds <= {"polars_dataframe"} or kinds <= {"series_polars"}:
        import polars

        return polars.concat(parts)
    return parts
