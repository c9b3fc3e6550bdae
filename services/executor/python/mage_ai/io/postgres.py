"""Frames in PostgreSQL, through psycopg."""
from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

from mage_ai.io.base import QUERY_ROW_LIMIT
from mage_ai.io.config import BaseConfigLoader, ConfigKey
from mage_ai.io.sql import BaseSQL, quote


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
        if len(present) and all(isinstance(value, (dict, list, tuple)) for value in present):
            return "jsonb"
        return "text"

    def upload(self, frame: Any, table: str) -> None:
        """Streams the rows by COPY."""
        columns = [_cells(frame[name], self.get_type(frame[name])) for name in frame.columns]
        if not columns:
            return
        names = ", ".join(map(quote, frame.columns))
        with self.conn.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in zip(*columns):
                copy.write_row(row)


def _cells(column: Any, kind: str) -> List[Any]:
    """Python's own values, with None for whatever is missing."""
    missing = column.isna().tolist() if column.dtype != object else [
        value is None or value != value if not isinstance(value, (dict, list, tuple)) and _is_scalar(value) else False
        for value in column]
    values: List[Any] = column.astype(object).tolist()
    if kind == "jsonb":
        values = [json.dumps(value, default=str) for value in values]
    elif kind == "text":
        values = [value if isinstance(value, str) else
                  json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value) for value in values]
    elif kind == "bigint":
        values = [None if gone else int(value) for value, gone in zip(values, missing)]
    elif kind == "interval":
        values = [None if gone else value.to_pytimedelta() for value, gone in zip(values, missing)]
    elif kind in ("timestamp", "timestamptz"):
        values = [value.to_pydatetime() if hasattr(value, "to_pydatetime") and not gone else value
                  for value, gone in zip(values, missing)]
    return [None if gone else value for value, gone in zip(values, missing)]


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
