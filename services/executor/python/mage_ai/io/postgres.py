"""Frames in PostgreSQL, through psycopg."""
from __future__ import annotations

import decimal
import json
import math
import re
from typing import Any, Dict, List, Optional, Tuple

from mage_ai.io.base import QUERY_ROW_LIMIT
from mage_ai.io.config import BaseConfigLoader, ConfigKey
from mage_ai.io.sql import BaseSQL, is_quoted, quote


class Postgres(BaseSQL):
    """A PostgreSQL connection; statements are one transaction until `commit`."""

    name = "PostgreSQL"

    def __init__(self, dbname: Optional[str] = None, user: Optional[str] = None, password: Optional[str] = None,
                 host: Optional[str] = None, port: Optional[Any] = None, schema: Optional[str] = None,
                 connect_timeout: Any = None, connection_method: str = "direct", verbose: bool = True,
                 **kwargs: Any) -> None:
        super().__init__(verbose, **kwargs)
        if connection_method not in (None, "", "direct"):
            raise ValueError(f"POSTGRES_CONNECTION_METHOD={connection_method} is not supported; open the tunnel outside "
                             "and connect directly")
        given = {"dbname": dbname, "user": user, "password": password, "host": host, "port": port,
                 "connect_timeout": connect_timeout or 10}
        self.settings.update((key, value) for key, value in given.items() if value is not None)
        self.schema = schema

    @classmethod
    def with_config(cls, config: BaseConfigLoader, **kwargs: Any) -> "Postgres":
        """With the POSTGRES_ keys of a profile."""
        if not config.contains(ConfigKey.POSTGRES_HOST):
            raise ValueError("the profile has no POSTGRES_HOST; set it in io_config.yaml")
        return cls(
            dbname=config.get(ConfigKey.POSTGRES_DBNAME), user=config.get(ConfigKey.POSTGRES_USER),
            password=config.get(ConfigKey.POSTGRES_PASSWORD), host=config.get(ConfigKey.POSTGRES_HOST),
            port=config.get(ConfigKey.POSTGRES_PORT), schema=config.get(ConfigKey.POSTGRES_SCHEMA),
            connect_timeout=config.get(ConfigKey.POSTGRES_CONNECT_TIMEOUT),
            connection_method=config.get(ConfigKey.POSTGRES_CONNECTION_METHOD) or "direct", **kwargs)

    def default_schema(self) -> str:
        """The configured schema, or public."""
        return self.schema or "public"

    def open(self) -> None:
        """Connects."""
        import psycopg

        self._conn = psycopg.connect(**self.settings)

    def execute(self, query_string: str, parameters: Any = None, **query_vars: Any) -> Any:
        """Runs one text; as with Mage's driver, `%%` in it is one `%` even where it has no parameters."""
        if parameters is None and not query_vars:
            return self.execute_query_raw(query_string.replace("%%", "%"))
        return self.execute_query_raw(query_string, parameters, **query_vars)

    def located(self, schema: Optional[str], table: str) -> Tuple[Optional[str], str]:
        """What is not quoted is in small letters, as in SQL, unless there is a table of just that name."""
        given = super().located(schema, table)
        folded = _folded(str(schema or self.default_schema())), _folded(str(table))
        return given if folded == given or self.table_exists(*given) else folded

    def frame(self, cursor: Any, limit: int = QUERY_ROW_LIMIT) -> Any:
        """The rows as a frame, typed by the database; numerics become floats."""
        import pandas

        if cursor.description is None:
            return pandas.DataFrame()
        names = [column.name for column in cursor.description]
        rows = cursor.fetchmany(limit)
        types = {column.name: column.type_code for column in cursor.description}
        frame = pandas.DataFrame.from_records(rows, columns=names, coerce_float=True)
        for name in dict.fromkeys(names):
            if names.count(name) == 1:
                frame[name] = _typed(frame[name], types[name])
        return frame

    def table_exists(self, schema_name: Optional[str], table_name: str) -> bool:
        """Whether there is such a table or view."""
        found = self.execute(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
            (schema_name or self.default_schema(), table_name)).fetchone()
        return found is not None

    def get_type(self, column: Any, dtype: Any = None) -> str:
        """The type that holds every value of the column."""
        import pandas

        kinds = pandas.api.types
        if kinds.is_bool_dtype(column.dtype):
            return "boolean"
        if kinds.is_integer_dtype(column.dtype):
            return "numeric" if str(column.dtype).lower() == "uint64" else "bigint"
        if kinds.is_float_dtype(column.dtype):
            return "double precision"
        if isinstance(column.dtype, pandas.DatetimeTZDtype):
            return "timestamptz"
        if kinds.is_datetime64_any_dtype(column.dtype):
            return "timestamp"
        if kinds.is_timedelta64_dtype(column.dtype):
            return "interval"
        return self._object_type(column)

    @staticmethod
    def _object_type(column: Any) -> str:
        import pandas

        if column.dtype != object:
            return "text"
        inferred = pandas.api.types.infer_dtype(column, skipna=True)
        known = {"boolean": "boolean", "integer": "bigint", "floating": "double precision", "mixed-integer-float":
                 "double precision", "decimal": "numeric", "date": "date", "time": "time", "bytes": "bytea"}
        if inferred in known:
            if inferred == "integer" and any(abs(value) >= 2**63 for value in column.dropna()):
                return "numeric"
            return known[inferred]
        if inferred == "datetime":
            aware = any(value.tzinfo is not None for value in column.dropna())
            return "timestamptz" if aware else "timestamp"
        present = column.dropna()
        if len(present) and all(isinstance(value, (dict, list, tuple)) or hasattr(value, "tolist") for value in present):
            return _type_of_lists(present)
        return "text"

    def upload(self, frame: Any, table: str) -> None:
        """Streams the rows by COPY."""
        kinds = {name: self.get_type(frame[name]) for name in frame.columns}
        if any(kind == "jsonb" or kind.endswith("[]") for kind in kinds.values()):
            kinds.update(self._kinds_of_lists(table, kinds))
        columns = [_cells(frame[name], kind) for name, kind in kinds.items()]
        if not columns:
            return
        names = ", ".join(map(quote, frame.columns))
        with self.conn.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in zip(*columns):
                copy.write_row(row)

    def _kinds_of_lists(self, table: str, kinds: Dict[str, str]) -> Dict[str, str]:
        """Lists go into a column as the table has it: as an array, or as JSON."""
        names = [name for name, kind in kinds.items() if kind == "jsonb" or kind.endswith("[]")]
        cursor = self.conn.execute(f"SELECT {', '.join(map(quote, names))} FROM {table} LIMIT 0")
        types = self.conn.adapters.types
        found = [types.get(column.type_code) for column in cursor.description]
        return {name: "array" if info is not None and info.array_oid == column.type_code else "jsonb"
                for name, info, column in zip(names, found, cursor.description)}


def _folded(name: str) -> str:
    if is_quoted(name):
        return name[1:-1].replace('""', '"')
    return name.lower() if re.fullmatch(r"[A-Za-z_][\w$]*", name) else name


def _cells(column: Any, kind: str) -> List[Any]:
    """Python's own values, with None for whatever is missing."""
    missing = column.isna().tolist() if column.dtype != object else [
        value is None or value != value if not isinstance(value, (dict, list, tuple)) and _is_scalar(value) else False
        for value in column]
    values: List[Any] = column.astype(object).tolist()
    if kind == "jsonb":
        values = [json.dumps(_plain(value)) for value in values]
    elif kind == "array":
        values = [_plain(value) if _is_list(value) else value for value in values]
    elif kind == "text":
        values = [value if isinstance(value, str) else
                  json.dumps(_plain(value)) if isinstance(value, (dict, list)) else str(value) for value in values]
    elif kind == "bigint":
        values = [None if gone else int(value) for value, gone in zip(values, missing)]
    elif kind == "interval":
        values = [None if gone else value.to_pytimedelta() for value, gone in zip(values, missing)]
    elif kind in ("timestamp", "timestamptz"):
        values = [value.to_pydatetime() if hasattr(value, "to_pydatetime") and not gone else value
                  for value, gone in zip(values, missing)]
    return [None if gone else value for value, gone in zip(values, missing)]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or hasattr(value, "tolist")


def _type_of_lists(present: Any) -> str:
    """Lists of one kind of scalars are an array, as in Mage; everything else is JSON."""
    if not all(isinstance(value, list) for value in present):
        return "jsonb"
    kinds = {type(item) for value in present for item in value if item is not None}
    for kind, name in ((str, "text[]"), (int, "bigint[]"), (float, "double precision[]")):
        if kinds == {kind}:
            return name
    return "jsonb"


def _plain(value: Any) -> Any:
    """What JSON can say: no value is not a number, times are text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if type(value).__name__ == "NAType":
        return None
    if hasattr(value, "isoformat"):
        return None if value != value else value.isoformat()
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, (float, decimal.Decimal)):
        return float(value) if math.isfinite(value) else None
    return str(value)


def _is_scalar(value: Any) -> bool:
    return not hasattr(value, "__len__") or isinstance(value, (str, bytes))


_INTEGERS = frozenset((20, 21, 23))
_TIMES: Dict[int, Dict[str, Any]] = {1114: {}, 1184: {"utc": True}}


def _typed(column: Any, oid: int) -> Any:
    """What the database says the column is, where pandas could not tell from the values."""
    import pandas

    if oid in _INTEGERS and column.dtype == object and len(column):
        return pandas.to_numeric(column)
    if oid in _TIMES and len(column):
        try:
            return pandas.to_datetime(column, **_TIMES[oid])
        except (ValueError, OverflowError):
            return column
    return column
