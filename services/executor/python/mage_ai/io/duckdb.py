"""Frames in DuckDB: a local file, or memory if none is configured."""
from __future__ import annotations

from typing import Any, Optional

from mage_ai.io.base import QUERY_ROW_LIMIT
from mage_ai.io.config import BaseConfigLoader, ConfigKey
from mage_ai.io.sql import BaseSQL, quote


class DuckDB(BaseSQL):
    """A DuckDB connection. Several blocks may want one file, so opening waits for it a while."""

    name = "DuckDB"

    def __init__(self, database: Optional[str] = None, schema: Optional[str] = None, verbose: bool = True,
                 **kwargs: Any) -> None:
        super().__init__(verbose, **kwargs)
        token = self.settings.pop("motherduck_token", None)
        self.database = str(database) if database else ":memory:"
        if token and self.database.startswith("md:"):
            self.settings["config"] = {"motherduck_token": token}
        self.schema = schema

    @classmethod
    def with_config(cls, config: BaseConfigLoader, **kwargs: Any) -> "DuckDB":
        """With the DUCKDB_ keys of a profile."""
        return cls(database=config.get(ConfigKey.DUCKDB_DATABASE), schema=config.get(ConfigKey.DUCKDB_SCHEMA),
                   motherduck_token=config.get(ConfigKey.MOTHERDUCK_TOKEN), **kwargs)

    @property
    def in_memory(self) -> bool:
        """Whether nothing outlives the connection."""
        return self.database == ":memory:"

    def default_schema(self) -> str:
        """The configured schema, or DuckDB's own."""
        return self.schema or "main"

    @property
    def conn(self) -> Any:
        """The connection; as in Mage it needs no `with`."""
        if self._conn is None:
            self.open()
        return self._conn

    def open(self, patience_s: float = 60.0) -> None:
        """Connects; another process may hold the file for the time of its block."""
        if self._conn is not None:
            return
        import time

        import duckdb

        end = time.monotonic() + patience_s
        while True:
            try:
                self._conn = duckdb.connect(self.database, **self.settings)
                break
            except duckdb.IOException as error:
                if "lock" not in str(error).lower() or time.monotonic() > end:
                    raise
                time.sleep(0.05)
        if self.schema and self.schema != "main":
            self._conn.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(self.schema)}")
            self._conn.execute(f"SET schema = '{self.schema}'")

    def execute_query_raw(self, query_string: str, parameters: Any = None, **query_vars: Any) -> Any:
        """Runs one text."""
        given = parameters if parameters is not None else (query_vars or None)
        return self.conn.execute(query_string, given) if given is not None else self.conn.execute(query_string)

    def commit(self) -> None:
        """Commits a transaction that the block opened itself; without one each statement was committed already."""
        import duckdb

        try:
            self.conn.commit()
        except duckdb.TransactionException:
            pass

    def rollback(self) -> None:
        """Rolls back a transaction that the block opened itself."""
        import duckdb

        try:
            self.conn.rollback()
        except duckdb.TransactionException:
            pass

    def frame(self, cursor: Any, limit: int = QUERY_ROW_LIMIT) -> Any:
        """The rows as a frame."""
        import pandas

        if cursor is None or cursor.description is None:
            return pandas.DataFrame()
        frame = cursor.df()
        return frame.iloc[:limit] if len(frame) > limit else frame

    def table_exists(self, schema_name: Optional[str], table_name: str) -> bool:
        """Whether there is such a table or view."""
        found = self.conn.execute(
            "SELECT 1 FROM information_schema.tables WHERE lower(table_schema) = lower(?) AND lower(table_name) = lower(?)",
            [schema_name or self.default_schema(), table_name]).fetchall()
        return bool(found)

    def get_type(self, column: Any, dtype: Any = None) -> str:
        """What DuckDB itself makes of the column."""
        frame = self._uploadable(column.to_frame(name="c"))
        self._register("orrery_column", frame)
        try:
            return str(self.conn.execute("DESCRIBE SELECT * FROM orrery_column").fetchall()[0][1])
        finally:
            self.conn.unregister("orrery_column")

    def _types(self, frame: Any, overwrite: Any) -> Any:
        chosen = overwrite or {}
        self._register("orrery_types", self._uploadable(frame))
        try:
            rows = self.conn.execute("DESCRIBE SELECT * FROM orrery_types").fetchall()
        finally:
            self.conn.unregister("orrery_types")
        return [(row[0], chosen.get(row[0]) or row[1]) for row in rows]

    def _register(self, name: str, frame: Any) -> None:
        """Newer versions refuse to while the rows of the last statement were not read."""
        complete = getattr(self.conn, "complete", None)
        if complete is not None:
            complete()
        self.conn.register(name, frame)

    @staticmethod
    def _uploadable(frame: Any) -> Any:
        """Text that DuckDB's reader of frames does not know yet becomes plain objects; labels become text."""
        frame = frame.copy(deep=False)
        frame.columns = [str(name) for name in frame.columns]
        for name in frame.columns:
            if str(frame[name].dtype) in ("str", "string") or str(frame[name].dtype).startswith("string"):
                frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
        return frame

    def upload(self, frame: Any, table: str) -> None:
        """Inserts the frame's rows."""
        self._register("orrery_upload", self._uploadable(frame))
        try:
            self.conn.execute(f"INSERT INTO {table} BY NAME SELECT * FROM orrery_upload")
        finally:
            self.conn.unregister("orrery_upload")
