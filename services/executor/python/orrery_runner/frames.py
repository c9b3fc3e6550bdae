"""Data frames as Parquet and back, with their exact types. Knows pandas and Arrow; polars and geopandas by name only."""
from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Optional

from orrery_runner import values
from orrery_runner.failures import OutputError

DATA = "data.parquet"
TYPES = "data_column_types.json"
# What Arrow gives back as it was; every other object column is encoded cell by cell.
_NATIVE = frozenset(("string", "bytes", "date", "time", "decimal", "boolean", "empty"))


class NotTabular(Exception):
    """Arrow cannot hold this frame; the caller stores it as an object instead."""


def kind_of(value: Any) -> Optional[str]:
    """The kind of a frame; None for anything else. Imports nothing that the value's class has not imported."""
    for base in type(value).__mro__:
        library, name = base.__module__.split(".")[0], base.__name__
        if library == "geopandas" and name == "GeoDataFrame":
            return "geo_dataframe"
        if library == "pandas" and name in ("DataFrame", "Series"):
            return "dataframe" if name == "DataFrame" else "series_pandas"
        if library == "polars" and name in ("DataFrame", "LazyFrame", "Series"):
            return "series_polars" if name == "Series" else "polars_dataframe"
    return None


def write(value: Any, kind: str, folder: str, where: str) -> List[str]:
    """Writes the frame; returns the files' names."""
    path = os.path.join(folder, DATA)
    if kind == "geo_dataframe":
        value.to_parquet(path)
        return [DATA]
    if kind in ("polars_dataframe", "series_polars"):
        _write_polars(value, kind, path)
        return [DATA]
    types = _write_pandas(value, kind, path, where)
    with open(os.path.join(folder, TYPES), "w", encoding="utf-8") as file:
        json.dump(types, file)
    return [DATA, TYPES]


def read(kind: str, folder: str) -> Any:
    """The frame as it was."""
    path = os.path.join(folder, DATA)
    if kind == "geo_dataframe":
        import geopandas

        return geopandas.read_parquet(path)
    if kind in ("polars_dataframe", "series_polars"):
        import polars

        frame = polars.read_parquet(path)
        return frame.to_series(0) if kind == "series_polars" else frame
    return _read_pandas(kind, folder)


def _write_polars(value: Any, kind: str, path: str) -> None:
    if kind == "series_polars":
        value = value.to_frame()
    if type(value).__name__ == "LazyFrame":
        value = value.collect()
    try:
        value.write_parquet(path)
    except MemoryError:
        raise
    except OSError:
        raise
    except Exception as error:
        raise NotTabular(str(error)) from error


def _write_pandas(value: Any, kind: str, path: str, where: str) -> Dict[str, Any]:
    import pandas
    import pyarrow
    import pyarrow.parquet

    frame = value.to_frame(name="value") if kind == "series_pandas" else value
    frame = pandas.DataFrame(frame, copy=False)
    names = list(frame.columns)
    types: Dict[str, Any] = {"dtypes": [str(dtype) for dtype in frame.dtypes], "encoded": []}
    plain_names = all(type(name) is str for name in names) and len(set(names)) == len(names) \
        and type(frame.columns).__name__ == "Index" and frame.columns.name is None
    if kind == "series_pandas":
        _keep_name(types, "name", value.name)
    _keep_attrs(types, value.attrs, where)
    if not plain_names:
        if type(frame.columns).__name__ == "CategoricalIndex" or any(not _is_label(name) for name in names):
            raise NotTabular("its column labels are not plain values")
        encoder = _encoder(where)
        types["columns"] = [encoder.encode(_plain_label(name)) for name in names]
        types["column_names"] = [encoder.encode(_plain_label(name)) for name in frame.columns.names]
        types["columns_kind"] = "multi" if frame.columns.nlevels > 1 else str(frame.columns.dtype)
        if types["columns_kind"].startswith(("datetime", "period", "interval", "timedelta")):
            raise NotTabular("its column labels are not plain values")
    frame = frame.copy(deep=False)
    # They are among the types; Arrow would keep them too, some versions of it and as JSON has them.
    frame.attrs = {}
    if not plain_names:
        frame.columns = [f"column_{position}" for position in range(len(names))]
    if _encode_columns(frame, types, where):
        raise NotTabular("a column holds objects")
    if not len(frame):
        _keep_categories(frame, types, where)
    try:
        table = pyarrow.Table.from_pandas(frame)
        pyarrow.parquet.write_table(table, path)
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise NotTabular(str(error)) from error
    return types


def _encode_columns(frame: Any, types: Dict[str, Any], where: str) -> bool:
    """Replaces object columns that Arrow would change by JSON text; True if one holds what JSON cannot."""
    import pandas

    for position, name in enumerate(frame.columns):
        column = frame[name]
        if column.dtype != object:
            continue
        if pandas.api.types.infer_dtype(column, skipna=True) in _NATIVE:
            continue
        encoder = _encoder(where)
        cells = [None if cell is None else json.dumps(encoder.encode(_plain_cell(cell))) for cell in column]
        if encoder.objects:
            return True
        frame[name] = pandas.Series(cells, index=frame.index, dtype=object)
        types["encoded"].append(position)
    return False


def _keep_categories(frame: Any, types: Dict[str, Any], where: str) -> None:
    """Parquet keeps categories in its pages, and a frame without rows has none."""
    for position, dtype in enumerate(frame.dtypes):
        if str(dtype) == "category":
            categories = dtype.categories
            encoded = [_encoder(where).encode(_plain_label(label)) for label in categories]
            types.setdefault("categories", {})[str(position)] = [encoded, str(categories.dtype), bool(dtype.ordered)]


def _encoder(where: str) -> values.Encoder:
    return values.Encoder(where, lambda _value: None)


def _plain_cell(cell: Any) -> Any:
    """Scalars and arrays of numpy inside a cell as Python's own; a list is what downstream code expects to read."""
    kind = type(cell)
    if kind.__module__ == "numpy":
        if kind.__name__ == "ndarray" or hasattr(cell, "item") and kind.__name__ not in ("datetime64", "timedelta64"):
            return cell.tolist()
        return cell
    if kind is dict:
        return {_plain_cell(key): _plain_cell(item) for key, item in cell.items()} if len(cell) else cell
    if kind is list:
        return [_plain_cell(item) for item in cell]
    return cell


def _plain_label(label: Any) -> Any:
    if isinstance(label, tuple):
        return tuple(_plain_label(part) for part in label)
    return label.item() if type(label).__module__ == "numpy" and hasattr(label, "item") else label


def _is_label(label: Any) -> bool:
    label = _plain_label(label)
    if isinstance(label, tuple):
        return all(_is_label(part) for part in label)
    return label is None or type(label) in (str, int, float, bool)


def _keep_name(types: Dict[str, Any], key: str, name: Any) -> None:
    if not _is_label(name):
        raise NotTabular("its name is not a plain value")
    types[key] = _encoder("a name").encode(_plain_label(name))


def _keep_attrs(types: Dict[str, Any], attrs: Dict[Any, Any], where: str) -> None:
    """What user code has noted on the frame, but what has no plain form."""
    kept = []
    for key, item in attrs.items():
        encoder = _encoder(where)
        try:
            pair = [encoder.encode(key), encoder.encode(item)]
        except OutputError:
            continue
        if not encoder.objects:
            kept.append(pair)
    if kept:
        types["attrs"] = kept


def _decoder() -> values.Decoder:
    def refuse(_number: int) -> Any:
        raise OutputError("a stored frame refers to an object that it cannot have")

    return values.Decoder(refuse, refuse)


def _read_pandas(kind: str, folder: str) -> Any:
    import pandas
    import pyarrow.parquet

    with open(os.path.join(folder, TYPES), encoding="utf-8") as file:
        types = json.load(file)
    # Not `read_table`: that opens a data set, which costs threads and half a second the first time.
    with pyarrow.parquet.ParquetFile(os.path.join(folder, DATA)) as file:
        frame = file.read().to_pandas()
    decoder = _decoder()
    for position in types["encoded"]:
        name = frame.columns[position]
        cells = [None if cell is None else decoder.decode(json.loads(cell)) for cell in frame[name].astype(object)
                 .where(frame[name].notna(), None)]
        frame[name] = pandas.Series(cells, index=frame.index, dtype=object)
    for position, wanted in enumerate(types["dtypes"]):
        name = frame.columns[position]
        if position not in types["encoded"] and str(frame[name].dtype) != wanted:
            frame[name] = _cast(frame[name], wanted)
    for position, (labels, dtype, ordered) in types.get("categories", {}).items():
        name = frame.columns[int(position)]
        categories = pandas.Index([decoder.decode(label) for label in labels], dtype=dtype)
        frame[name] = frame[name].astype(pandas.CategoricalDtype(categories, ordered))
    if "columns" in types:
        frame.columns = _columns(types, decoder)
    # What an earlier version wrote has them where Arrow keeps them.
    if "attrs" in types:
        frame.attrs = {decoder.decode(key): decoder.decode(item) for key, item in types["attrs"]}
    if kind == "series_pandas":
        series = frame.iloc[:, 0]
        series.name, series.attrs = decoder.decode(types["name"]), dict(frame.attrs)
        return series
    return frame


def _columns(types: Dict[str, Any], decoder: values.Decoder) -> Any:
    import pandas

    labels = [decoder.decode(label) for label in types["columns"]]
    names = [decoder.decode(name) for name in types["column_names"]]
    if types["columns_kind"] == "multi":
        return pandas.MultiIndex.from_tuples(labels, names=names)
    if labels and types["columns_kind"] == "int64" and labels == list(range(len(labels))):
        return pandas.RangeIndex(len(labels), name=names[0])
    return pandas.Index(labels, dtype=types["columns_kind"], name=names[0])


def _cast(column: Any, wanted: str) -> Any:
    """The recorded type, where Arrow chose a relative of it."""
    if wanted == "object":
        cast = column.astype(object)
        return cast.where(column.notna(), None)
    try:
        return column.astype(wanted)
    except (TypeError, ValueError):
        return column
