"""One value in one folder: which kind it is, how it is written and how it comes back.

Only what no other format can hold is pickled, and only such files are ever unpickled.
"""
from __future__ import annotations

import json
import os
from typing import Any, Dict, List, NamedTuple, Optional

from orrery_runner import disk, frames, values
from orrery_runner.failures import BlockError, OutputError, is_disk_full, is_out_of_memory

_JSON = "data.json"
_OBJECT = "object.joblib"
_MODEL = "model.joblib"
_BOOSTER = "model.ubj"
_ARRAY = "data.npy"
_MATRIX = "matrix.npz"
_CONFIG = "config.json"


class Stored(NamedTuple):
    """What was written of one value."""

    kind: str
    files: List[str]
    rows: int


def type_name(value: Any) -> str:
    """A type as people write it."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def special_kind(value: Any) -> Optional[str]:
    """The kind of a value with a format of its own; None for plain Python data and for strangers."""
    kind = frames.kind_of(value)
    if kind is not None:
        return kind
    for base in type(value).__mro__:
        library, _, rest = base.__module__.partition(".")
        if library == "numpy" and base.__name__ == "ndarray":
            return "ndarray" if type(value) is base and not value.dtype.hasobject else None
        if library == "scipy" and rest.startswith("sparse"):
            return "matrix_sparse"
        if library == "xgboost" and base.__name__ in ("Booster", "XGBModel"):
            return "model_xgboost"
        if library == "sklearn" and base.__name__ == "BaseEstimator":
            return "model_sklearn"
    return None


def write(value: Any, folder: str, where: str) -> Stored:
    """Writes a value into a folder of its own; `where` names it in errors."""
    os.makedirs(folder)
    try:
        return _write(value, folder, where)
    except BlockError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or is_disk_full(error):
            raise
        raise OutputError(f"{where} of type {type_name(value)} cannot be stored: {type(error).__name__}: {error}. "
                          "Return data that can be serialised") from error


def _write(value: Any, folder: str, where: str) -> Stored:
    kind = special_kind(value)
    if kind is None and values.is_plain(value):
        _dump_json(value, os.path.join(folder, _JSON))
        return Stored("json", [_JSON], len(value) if type(value) is list else -1)
    if kind is None:
        return _write_tree(value, folder, where)
    if kind in ("ndarray", "matrix_sparse", "model_sklearn", "model_xgboost"):
        return _write_special(value, kind, folder, where)
    try:
        return Stored(kind, frames.write(value, kind, folder, where), _row_count(value))
    except frames.NotTabular:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        _dump_object(value, os.path.join(folder, _OBJECT), value, where)
        return Stored("custom_object", [_OBJECT], _row_count(value))


def _row_count(frame: Any) -> int:
    return -1 if type(frame).__name__ == "LazyFrame" else len(frame)


def _write_special(value: Any, kind: str, folder: str, where: str) -> Stored:
    if kind == "ndarray":
        import numpy

        numpy.save(os.path.join(folder, _ARRAY), value, allow_pickle=False)
        return Stored(kind, [_ARRAY], len(value) if value.ndim else -1)
    if kind == "matrix_sparse":
        import scipy.sparse

        stored = value if value.format in ("csc", "csr", "bsr", "dia", "coo") else value.tocsr()
        scipy.sparse.save_npz(os.path.join(folder, _MATRIX), stored)
        _dump_json({"format": value.format}, os.path.join(folder, _CONFIG))
        return Stored(kind, [_MATRIX, _CONFIG], value.shape[0] if value.shape else -1)
    if kind == "model_xgboost" and type(value).__module__.split(".")[0] == "xgboost":
        value.save_model(os.path.join(folder, _BOOSTER))
        _dump_json({"class": type(value).__name__}, os.path.join(folder, _CONFIG))
        return Stored(kind, [_BOOSTER, _CONFIG], -1)
    _dump_object(value, os.path.join(folder, _MODEL), value, where)
    return Stored("model_sklearn" if kind == "model_xgboost" else kind, [_MODEL], -1)


def _write_tree(value: Any, folder: str, where: str) -> Stored:
    """Plain Python data with something in it that JSON lacks."""
    parts: List[Dict[str, Any]] = []
    files: List[str] = []

    def part(leaf: Any) -> Optional[int]:
        if special_kind(leaf) is None:
            return None
        name = f"part_{len(parts)}"
        stored = write(leaf, os.path.join(folder, name), where)
        parts.append({"name": name, "kind": stored.kind})
        files.extend(f"{name}/{file}" for file in stored.files)
        return len(parts) - 1

    encoder = values.Encoder(where, part)
    tree = encoder.encode(value)
    if tree == {values.TAG: "object", "value": 0}:
        _dump_object(value, os.path.join(folder, _OBJECT), value, where)
        return Stored("custom_object", [_OBJECT], -1)
    _dump_json(tree, os.path.join(folder, _JSON))
    _dump_json({"parts": parts, "objects": len(encoder.objects)}, os.path.join(folder, _CONFIG))
    files += [_JSON, _CONFIG]
    if encoder.objects:
        _dump_object(encoder.objects, os.path.join(folder, _OBJECT), encoder.objects[0], where)
        files.append(_OBJECT)
    kind = {dict: "dictionary_complex", list: "list_complex"}.get(type(value), "tagged")
    return Stored(kind, files, len(value) if type(value) is list else -1)


def read(kind: str, folder: str) -> Any:
    """The value of a folder."""
    if kind == "json":
        return disk.read_json(os.path.join(folder, _JSON))
    if kind in ("dictionary_complex", "list_complex", "tagged"):
        return _read_tree(folder)
    if kind == "custom_object":
        return _load_object(os.path.join(folder, _OBJECT))
    if kind == "model_sklearn":
        return _load_object(os.path.join(folder, _MODEL))
    if kind == "ndarray":
        import numpy

        return numpy.load(os.path.join(folder, _ARRAY), allow_pickle=False)
    if kind == "matrix_sparse":
        import scipy.sparse

        return scipy.sparse.load_npz(os.path.join(folder, _MATRIX)).asformat(
            disk.read_json(os.path.join(folder, _CONFIG))["format"])
    if kind == "model_xgboost":
        import xgboost

        model = getattr(xgboost, disk.read_json(os.path.join(folder, _CONFIG))["class"])()
        model.load_model(os.path.join(folder, _BOOSTER))
        return model
    return frames.read(kind, folder)


def _read_tree(folder: str) -> Any:
    config = disk.read_json(os.path.join(folder, _CONFIG))
    objects: List[Any] = _load_object(os.path.join(folder, _OBJECT)) if config["objects"] else []
    parts = config["parts"]
    decoder = values.Decoder(
        lambda number: read(parts[number]["kind"], os.path.join(folder, parts[number]["name"])),
        lambda number: objects[number])
    return decoder.decode(disk.read_json(os.path.join(folder, _JSON)))


def _dump_json(value: Any, path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def _cloudpickle() -> Any:
    try:
        from joblib.externals import cloudpickle
    except ImportError:  # newer joblib depends on the package instead of carrying it
        import cloudpickle
    return cloudpickle


def _dump_object(value: Any, path: str, culprit: Any, where: str) -> None:
    """Pickles; classes that the block's own file defines go in by value, since nobody can import that file."""
    import sys

    cloudpickle = _cloudpickle()
    by_value = [module for name, module in list(sys.modules.items()) if name.startswith("orrery_block_")]
    try:
        for module in by_value:
            cloudpickle.register_pickle_by_value(module)
        with open(path, "wb") as file:
            cloudpickle.dump(value, file, protocol=5)
    except Exception as error:
        if is_out_of_memory(error) or is_disk_full(error):
            raise
        raise OutputError(
            f"{where} of type {type_name(culprit)} cannot be serialised: {type(error).__name__}: {error}. Return a "
            "DataFrame, JSON-like data or an object that pickle accepts; open connections, locks, files and "
            "generators cannot be outputs") from None
    finally:
        for module in by_value:
            try:
                cloudpickle.unregister_pickle_by_value(module)
            except ValueError:
                pass


def _load_object(path: str) -> Any:
    import joblib

    return joblib.load(path)
