"""SQL blocks on DuckDB and PostgreSQL: uploads, statements, the table that a query fills, and the rows of the result."""
from __future__ import annotations

import logging
import os
import re
from typing import Any, Dict, Optional

from orrery_runner import blockfile, data_product, frames, templates
from orrery_runner.failures import BlockError
from orrery_runner.inputs import Inputs
from orrery_runner.sql import placeholders, statements

ROWS_MAX = 10_000_000
# Of a table that raw statements write, these many rows are the output, as in Mage: the table may be of any size.
WRITTEN_ROWS_MAX = 1000
_TEMPLATE = "orrery_template"
_OTHERS = ("bigquery", "clickhouse", "druid", "mssql", "sqlserver", "mysql", "redshift", "snowflake", "trino")
_log = logging.getLogger("orrery")


def run(job: Dict[str, Any], inputs: Inputs, kwargs: Dict[str, Any]) -> Any:
    """The result's rows as a frame; None where nothing is to be stored."""
    block = job["block"]
    configuration = block.get("configuration") or {}
    text = blockfile.read(block, job["repo_path"])
    with connect(job, configuration, kwargs) as database:
        session = Session(job, configuration, inputs, kwargs, database)
        filled = placeholders.fill(text, block["uuid"], inputs, kwargs, session.table_of)
        if not configuration.get("use_raw_sql"):
            return session.run_query(filled)
        # Mage fills placeholders here too, and knows the switch in raw blocks only.
        return session.run_whole(filled) if configuration.get("disable_query_preprocessing") else session.run_raw(filled)


def connect(job: Dict[str, Any], configuration: Dict[str, Any], kwargs: Dict[str, Any]) -> Any:
    """A connection to what `data_provider` and its profile name."""
    uuid = job["block"]["uuid"]
    provider = str(configuration.get("data_provider") or "").lower()
    if provider not in ("duckdb", "postgres", "postgresql"):
        known = f"the provider {provider} is not supported here" if provider in _OTHERS else \
            f"data_provider is {provider!r}"
        raise BlockError(f"block {uuid}: {known}; SQL blocks run on duckdb and postgres. Use a Python block with the "
                         "client of your database")
    from mage_ai.io.config import ConfigFileLoader

    profile = templates.render_block(str(configuration.get("data_provider_profile") or "default"), uuid, kwargs)
    try:
        config = ConfigFileLoader(os.path.join(job["repo_path"], "io_config.yaml"), profile)
        if provider == "duckdb":
            from mage_ai.io.duckdb import DuckDB

            database = DuckDB.with_config(config, verbose=False)
            chosen = _rendered(configuration, "data_provider_database", uuid, kwargs)
            if chosen and database.in_memory:
                database.database = chosen
            return database
        from mage_ai.io.postgres import Postgres

        return Postgres.with_config(config, verbose=False)
    except ValueError as error:
        raise BlockError(f"block {uuid}: {error}") from None


def _rendered(configuration: Dict[str, Any], key: str, uuid: str, kwargs: Dict[str, Any]) -> Optional[str]:
    value = configuration.get(key)
    return templates.render_block(str(value), uuid, kwargs) if value else None


def table_name(pipeline_uuid: str, block_uuid: str, env: str = "prod") -> str:
    """The table of a block without one of its own."""
    prefix = f"{env}_" if env in ("dev", "test") else ""
    return prefix + re.sub(r"\W", "_", f"{pipeline_uuid}_{block_uuid}_v1")


class Session:
    """One block's work on one connection."""

    def __init__(self, job: Dict[str, Any], configuration: Dict[str, Any], inputs: Inputs, kwargs: Dict[str, Any],
                 database: Any) -> None:
        self._job = job
        self._uuid = job["block"]["uuid"]
        self._configuration = configuration
        self._inputs = inputs
        self._database = database
        self._schema = _rendered(configuration, "data_provider_schema", self._uuid, kwargs)
        self._table = _rendered(configuration, "data_provider_table", self._uuid, kwargs) or table_name(
            job.get("pipeline_uuid") or "", self._uuid, kwargs["env"])
        self._env = kwargs["env"]
        self._limit = _limit(configuration)

    def run_whole(self, text: str) -> None:
        """The text in one, for what is no list of statements to anybody but the database; nothing of it is stored."""
        self._database.execute_query_raw(text)
        self._database.commit()

    def run_raw(self, text: str) -> Any:
        """Every statement in order; the rows of the last one if it is a query, else of the table that they write."""
        found = statements.split(text)
        if not found:
            raise BlockError(f"block {self._uuid}: its file holds no statement")
        result, is_last = None, False
        for statement in found:
            cursor = self._database.execute_query_raw(statement)
            is_last = _gives_rows(statement) and cursor is not None and cursor.description is not None
            if is_last:
                result = self._database.frame(cursor, self._limit)
        self._database.commit()
        table = None if is_last else statements.written_table(found)
        written = None if table is None else self._written(table)
        # One that was made for the work and dropped after it; what was asked for in between is what is wanted.
        return result if written is None else written

    def _written(self, table: str) -> Any:
        """The first rows of a table that raw statements wrote; who may write it need not be allowed to read it."""
        limit = self._limit if self._in_memory() else min(self._limit, WRITTEN_ROWS_MAX)
        try:
            return self._database.load(f"SELECT * FROM {table} LIMIT {limit}", limit)
        except Exception as error:
            self._database.rollback()
            _log.warning("the table %s cannot be read, so the block has no output: %s", table, error)
            return None

    def _in_memory(self) -> bool:
        return bool(getattr(self._database, "in_memory", False))

    def run_query(self, text: str) -> Any:
        """One query, whose rows go into the block's table by the write policy; then the table's rows."""
        found = statements.split(text)
        if len(found) != 1:
            raise BlockError(f"block {self._uuid}: its file holds {len(found)} statements; a block without use_raw_sql "
                             "holds one query")
        policy = str(self._configuration.get("export_write_policy") or "append").lower()
        if policy not in ("append", "replace", "fail"):
            raise BlockError(f"block {self._uuid}: export_write_policy is {policy!r}; use append, replace or fail")
        schema, table = self._database.located(self._schema, self._table)
        if self._schema:
            self._database.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        try:
            self._database.materialise(found[0], schema, table, policy)
        except ValueError as error:
            raise BlockError(f"block {self._uuid}: {error}") from None
        self._database.commit()
        return self._database.load(f"SELECT * FROM {self._database.full_name(schema, table)}", self._limit)

    def table_of(self, position: int) -> str:
        """The name by which the text can read an upstream block's rows."""
        parent = self._inputs.uuids[position]
        own = self._own_table(parent)
        if own is not None:
            return own
        frame = self._frame(position)
        named = ((self._configuration.get("upstream_block_configuration") or {}).get(parent) or {}).get("table_name")
        if named:
            schema, _, table = str(named).rpartition(".")
            self._database.export(frame, schema or self._schema, table, if_exists="replace", verbose=False,
                                  drop_table_on_replace=True)
            return self._database.full_name(*self._database.located(schema or self._schema, table))
        # Only this session sees it, so runs that work at the same time do not disturb each other.
        table = f"orrery_df_{position + 1}"
        prepared = self._database._prepare(frame, False)
        types = self._database._types(prepared, None)
        self._database.execute(self._database._create(f'"{table}"', types, []).replace(
            "CREATE TABLE", "CREATE TEMPORARY TABLE", 1))
        self._database.upload(prepared, f'"{table}"')
        return f'"{table}"'

    def _own_table(self, parent: str) -> Optional[str]:
        """The table that an upstream SQL block filled on the same connection, if it is still there."""
        upstream = (self._job.get("upstream") or {}).get(parent) or {}
        theirs = upstream.get("configuration") or {}
        is_table = upstream.get("language") == "sql" and upstream.get("kind") != "dbt"
        if not is_table or self._entry(parent).get("mode", "whole") != "whole" or self._in_memory():
            return None
        for key in ("data_provider", "data_provider_profile", "data_provider_database"):
            if (theirs.get(key) or None) != (self._configuration.get(key) or None):
                return None
        if theirs.get("use_raw_sql"):
            return self._table_of_statements(upstream)
        schema, table = theirs.get("data_provider_schema"), theirs.get("data_provider_table") or table_name(
            self._job.get("pipeline_uuid") or "", parent, self._env)
        if "{{" in f"{schema}{table}":
            return None
        place = self._database.located(schema, table)
        return str(self._database.full_name(*place)) if self._database.table_exists(*place) else None

    def _table_of_statements(self, upstream: Dict[str, Any]) -> Optional[str]:
        """Of a raw block that writes a table only the first rows are stored, so whoever reads it reads the table."""
        text = blockfile.read(upstream, self._job["repo_path"])
        found = statements.split(re.sub(r"\{\{.*?\}\}", _TEMPLATE, text, flags=re.DOTALL))
        if not found or _gives_rows(found[-1]):
            return None
        table = statements.written_table(found, lasting=True)
        if table is not None and _TEMPLATE in table:
            raise BlockError(f"block {self._uuid}: the table that block {upstream['uuid']} writes has a template in its name; "
                             "use that name in place of df_…")
        # One that was dropped again leaves the rows that were read before.
        return table if table is not None and self._is_there(table) else None

    def _is_there(self, table: str) -> bool:
        schema, _, name = (part.strip('"') for part in table.rpartition("."))
        return bool(self._database.table_exists(*self._database.located(schema or None, name)))

    def _entry(self, parent: str) -> Dict[str, Any]:
        for entry in self._job.get("inputs") or []:
            if entry["block"] == parent:
                return dict(entry)
        return {}

    def _frame(self, position: int) -> Any:
        import pandas

        value = data_product.as_table(self._job, self._inputs.uuids[position], self._inputs.values[position])
        kind = frames.kind_of(value)
        if kind == "dataframe":
            return value
        if kind == "series_pandas":
            # One row of a dynamic parent's frame.
            return value.to_frame().T.infer_objects() if self._entry(self._inputs.uuids[position]).get(
                "mode") == "item" else value.to_frame()
        if kind in ("polars_dataframe", "series_polars"):
            return (value if kind == "polars_dataframe" else value.to_frame()).to_pandas()
        if isinstance(value, list) and value and all(frames.kind_of(item) == "dataframe" for item in value):
            return pandas.concat(value, ignore_index=True)
        rows = value if isinstance(value, list) else [value]
        if rows and all(isinstance(row, dict) for row in rows):
            return pandas.DataFrame(rows)
        if not rows:
            raise BlockError(f"block {self._uuid}: df_{position + 1} is used, but block "
                             f"{self._inputs.uuids[position]} has no output")
        return pandas.DataFrame({"value": rows})


def _is_query(statement: str) -> bool:
    """Whether its rows are a result: also of writing statements that say what they return."""
    bare = re.sub(r"^(\s|--[^\n]*\n|/\*.*?\*/|\()+", "", statement, flags=re.DOTALL).lower()
    return bare.startswith(("select", "with", "values", "table", "show", "describe", "pragma", "explain", "from",
                            "pivot", "unpivot", "call", "execute", "fetch")) or _returns(bare)


def _gives_rows(statement: str) -> bool:
    """Whether it is a query and not `WITH … INSERT`."""
    is_write = statements.written_table([statements.outer(statement)]) is not None
    return _is_query(statement) and (not is_write or _returns(statement))


def _returns(statement: str) -> bool:
    return re.search(r"\sreturning\s", statement, re.IGNORECASE) is not None


def _limit(configuration: Dict[str, Any]) -> int:
    try:
        limit = int(configuration.get("limit_in_pipeline_run") or ROWS_MAX)
    except (TypeError, ValueError):
        return ROWS_MAX
    return max(0, min(limit, ROWS_MAX))
