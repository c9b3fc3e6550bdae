"""What the SQL databases share: connections, queries, and frames into and out of tables."""
from __future__ import annotations

import functools
import logging
import re
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from mage_ai.io.base import QUERY_ROW_LIMIT, BaseSQLConnection, ExportWritePolicy
from mage_ai.io.config import BaseConfigLoader
from mage_ai.io.reserved import RESERVED_WORDS
from mage_ai.shared.utils import clean_name

_log = logging.getLogger("orrery.io")


def column_name(name: Any, case_sensitive: bool = False, allow_reserved_words: bool = False) -> str:
    """A column's name as Mage gives it to a table that it makes: one that no query has to quote."""
    text = clean_name(name, case_sensitive=case_sensitive) or "letter_"
    return "_" + text if text.lower() in RESERVED_WORDS and not allow_reserved_words else text


def _bare(name: str) -> str:
    """Letters and digits alone: a table may have been made with `date` and `us_`, where now it would be `_date` and `us`."""
    return re.sub(r"[\W_]", "", name).lower()


def quote(name: str) -> str:
    """An identifier, quoted."""
    return '"' + str(name).replace('"', '""') + '"'


def is_quoted(name: str) -> bool:
    """Whether a project wrote it in quotes, as Mage wants it for names that are not in small letters."""
    return len(name) > 2 and name[0] == name[-1] == '"'


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if is_quoted(name) else name


class BaseSQL(BaseSQLConnection):
    """A database with a DB-API connection. Statements run in one transaction until `commit`."""

    name = "SQL"

    def __init__(self, verbose: bool = True, **settings: Any) -> None:
        super().__init__(verbose)
        self.settings: Dict[str, Any] = settings
        self._conn: Any = None

    @classmethod
    def with_config(cls, config: BaseConfigLoader, **_options: Any) -> Any:
        """With the keys of a profile."""
        raise NotImplementedError

    @property
    def conn(self) -> Any:
        """The open connection."""
        if self._conn is None:
            raise ConnectionError(f"the connection to {self.name} is not open; use `with {type(self).__name__}...`")
        return self._conn

    def default_database(self) -> Optional[str]:
        """The database, where tables are named with it."""
        return None

    def default_schema(self) -> Optional[str]:
        """The schema of tables that are named without one."""
        return None

    def close(self) -> None:
        """Disconnects; what was not committed is gone."""
        if self._conn is not None:
            connection, self._conn = self._conn, None
            connection.close()

    def commit(self) -> None:
        """Makes the statements so far permanent."""
        self.conn.commit()

    def rollback(self) -> None:
        """Forgets the statements since the last commit."""
        self.conn.rollback()

    def execute(self, query_string: str, parameters: Any = None, **query_vars: Any) -> Any:
        """Runs one text; `query_vars` are its named parameters."""
        return self.execute_query_raw(query_string, parameters, **query_vars)

    def execute_query_raw(self, query_string: str, parameters: Any = None, **query_vars: Any) -> Any:
        """Runs one text letter for letter, unless it has parameters."""
        cursor = self.conn.cursor()
        given = parameters if parameters is not None else (query_vars or None)
        if given is None:
            cursor.execute(query_string)
        else:
            cursor.execute(query_string, given)
        return cursor

    def execute_queries(self, queries: List[str], query_variables: Optional[List[Any]] = None, commit: bool = False,
                        fetch_query_at_indexes: Optional[List[Any]] = None, **_options: Any) -> List[Any]:
        """Runs texts in order; the rows of those whose position is listed."""
        results = []
        for position, query in enumerate(queries):
            variables = query_variables[position] if query_variables and position < len(query_variables) else None
            cursor = self.execute_query_raw(query, variables or None)
            wanted = fetch_query_at_indexes and position < len(fetch_query_at_indexes) \
                and fetch_query_at_indexes[position]
            results.append(self.frame(cursor) if wanted else None)
        if commit:
            self.commit()
        return results

    def load(self, query_string: str, limit: int = QUERY_ROW_LIMIT, display_query: Optional[str] = None,
             verbose: bool = True, **query_vars: Any) -> Any:
        """The rows of a query as a frame, at most `limit`."""
        for option in ("coerce_float", "parse_dates"):
            query_vars.pop(option, None)  # pandas' own; here the database types the columns
        parameters = query_vars.pop("params", None)
        cursor = self.execute_query_raw(query_string.strip().rstrip(";"), parameters, **query_vars)
        frame = self.frame(cursor, limit)
        if verbose and self.verbose:
            _log.info("loaded %d rows from %s", len(frame), self.name)
        return frame

    def sample(self, schema: Optional[str], table: str, size: int = QUERY_ROW_LIMIT, **kwargs: Any) -> Any:
        """The first rows of a table."""
        return self.load(f"SELECT * FROM {self.full_name(*self.located(schema, table))} LIMIT {int(size)}", **kwargs)

    def frame(self, cursor: Any, limit: int = QUERY_ROW_LIMIT) -> Any:
        """A cursor's rows as a frame; an empty one if its statement returns none."""
        raise NotImplementedError

    def located(self, schema: Optional[str], table: str) -> Tuple[Optional[str], str]:
        """Under which names the database has, or would make, a table that a project calls so."""
        schema = str(schema or self.default_schema() or "")
        return _unquoted(schema) or None, _unquoted(str(table))

    def full_name(self, schema: Optional[str], table: str, database: Optional[str] = None) -> str:
        """A table's quoted name."""
        return ".".join(quote(part) for part in (database, schema or self.default_schema(), table) if part)

    def table_exists(self, schema_name: Optional[str], table_name: str) -> bool:
        """Whether there is such a table or view."""
        raise NotImplementedError

    def get_type(self, column: Any, dtype: Any = None) -> str:
        """The database's type for a column."""
        raise NotImplementedError

    def upload(self, frame: Any, table: str) -> None:
        """Puts a frame's rows into a table that has these columns, by their names; `table` is quoted."""
        raise NotImplementedError

    def export(self, df: Any, schema_name: Optional[str] = None, table_name: Optional[str] = None,
               if_exists: Union[ExportWritePolicy, str] = ExportWritePolicy.REPLACE, index: bool = False,
               verbose: bool = True, query_string: Optional[str] = None, drop_table_on_replace: bool = False,
               cascade_on_drop: bool = False, allow_reserved_words: bool = False,
               unique_conflict_method: Optional[str] = None, unique_constraints: Optional[List[str]] = None,
               auto_clean_name: bool = True, case_sensitive: bool = False, overwrite_types: Optional[Dict] = None,
               database: Optional[str] = None, **_options: Any) -> None:
        """Writes a frame, or the rows of a query, into a table and commits.

        `replace` empties a table that is there, as in Mage: its views, rights and indexes stay, and it must have the columns.
        With `drop_table_on_replace` it is made anew. Columns of a table that is there are found by their names.
        """
        if table_name is None:
            raise ValueError("export needs table_name")
        schema, table_name = self.located(schema_name, table_name)
        policy = str(if_exists)
        if policy not in ("append", "fail", "replace"):
            raise ValueError(f"if_exists={policy!r} is not one of append, fail, replace")
        target = self.full_name(schema, table_name, database)
        if schema_name and schema and schema != self.default_schema():
            self.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        if query_string is not None:
            self.materialise(query_string, schema, table_name, policy, database, drop_table_on_replace, cascade_on_drop)
            self.commit()
            return
        cleaned = functools.partial(column_name, case_sensitive=case_sensitive, allow_reserved_words=allow_reserved_words)
        frame = self._prepare(df, index, cleaned if auto_clean_name else str)
        exists = self.table_exists(schema, table_name)
        if exists and policy == "fail":
            raise ValueError(f"the table {target} exists already, and the write policy is fail")
        unique = [cleaned(name) if auto_clean_name else name for name in unique_constraints or []]
        drops = policy == "replace" and drop_table_on_replace
        if exists and not drops:
            found = self._found(target, [*frame.columns, *(unique if unique_conflict_method else [])], auto_clean_name)
            frame.columns = [found[name] for name in frame.columns]
            unique = [found.get(name, name) for name in unique]
        if exists and policy == "replace":
            self._clear(target, drops, cascade_on_drop)
            exists = not drops
        if not exists:
            self.execute(self._create(target, self._types(frame, overwrite_types), unique))
        if unique and unique_conflict_method:
            self._merge(frame, target, unique, str(unique_conflict_method))
        else:
            self.upload(frame, target)
        self.commit()
        if verbose and self.verbose:
            _log.info("exported %d rows to %s in %s", len(frame), target, self.name)

    def _columns(self, table: str) -> List[str]:
        return [column[0] for column in self.execute(f"SELECT * FROM {table} LIMIT 0").description]

    def _found(self, target: str, names: List[str], loosely: bool) -> Dict[str, str]:
        """Under which names a table has these columns; asked before anything of it is removed."""
        there = self._columns(target)
        found = {}
        for name in names:
            alike = [known for known in there if known == name] or [
                known for known in there if loosely and _bare(known) == _bare(name)]
            if len(alike) != 1:
                raise ValueError(f"the table {target} has no column {name!r}; it has {', '.join(there)}. Rename it, or "
                                 "let if_exists='replace' with drop_table_on_replace=True make the table anew")
            found[name] = alike[0]
        if len(set(found.values())) < len(found):
            raise ValueError(f"two columns are one in the table {target}, which has {', '.join(there)}; rename one")
        return found

    def _clear(self, target: str, drop: bool, cascade: bool) -> None:
        if drop:
            self.execute(f"DROP TABLE {target}" + (" CASCADE" if cascade else ""))
        else:
            self.execute(f"DELETE FROM {target}")

    @staticmethod
    def _prepare(df: Any, index: bool, name_of: Callable[[Any], str] = column_name) -> Any:
        import pandas

        if type(df).__module__.split(".")[0] == "polars":
            df = df.to_pandas()
        if isinstance(df, pandas.Series):
            df = df.to_frame()
        if isinstance(df, (dict, list)):
            df = pandas.DataFrame([df] if isinstance(df, dict) else df)
        frame = df.reset_index() if index else df.copy(deep=False)
        frame.columns = [name_of(name) for name in frame.columns]
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise ValueError(f"two columns have the name {twice[0]!r} in the database; rename one")
        return frame

    def _types(self, frame: Any, overwrite: Optional[Dict[str, str]]) -> List[Tuple[str, str]]:
        chosen = overwrite or {}
        return [(name, chosen.get(name) or self.get_type(frame[name], frame[name].dtype)) for name in frame.columns]

    @staticmethod
    def _create(target: str, types: List[Tuple[str, str]], unique: List[str]) -> str:
        columns = [f"{quote(name)} {kind}" for name, kind in types]
        if unique:
            columns.append(f"UNIQUE ({', '.join(map(quote, unique))})")
        return f"CREATE TABLE {target} ({', '.join(columns)})"

    def _merge(self, frame: Any, target: str, unique: List[str], method: str) -> None:
        """Through a temporary table with the target's own types, so that the database resolves the conflicts."""
        staging = quote("orrery_merge")
        columns = ", ".join(map(quote, frame.columns))
        self.execute(f"CREATE TEMPORARY TABLE {staging} AS SELECT {columns} FROM {target} LIMIT 0")
        self.upload(frame, staging)
        action = "DO NOTHING"
        rest = [name for name in frame.columns if name not in unique]
        if method.upper() == "UPDATE" and rest:
            action = "DO UPDATE SET " + ", ".join(f"{quote(name)} = EXCLUDED.{quote(name)}" for name in rest)
        self.execute(f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging} "
                     f"ON CONFLICT ({', '.join(map(quote, unique))}) {action}")
        self.execute(f"DROP TABLE {staging}")

    def materialise(self, query: str, schema: Optional[str], table: str, policy: str,
                    database: Optional[str] = None, drop: bool = True, cascade: bool = False) -> None:
        """Puts a query's rows into a table by the write policy; `drop` and `cascade` are of one that is replaced."""
        target = self.full_name(schema, table, database)
        query = query.strip().rstrip(";")
        exists = self.table_exists(schema, table)
        if exists and policy == "fail":
            raise ValueError(f"the table {target} exists already, and the write policy is fail")
        if exists and policy == "replace":
            # The query may read the very table that it replaces.
            staging = self.full_name(schema, f"{table}_orrery_new", database)
            self.execute(f"DROP TABLE IF EXISTS {staging}")
            self.execute_query_raw(f"CREATE TABLE {staging} AS\n{query}\n")
            if drop:
                self._clear(target, drop, cascade)
                self.execute(f"ALTER TABLE {staging} RENAME TO {quote(table)}")
                return
            try:
                columns = ", ".join(map(quote, self._found(target, self._columns(staging), loosely=False)))
            except ValueError:
                self.execute(f"DROP TABLE {staging}")
                raise
            self._clear(target, drop, cascade)
            self.execute(f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging}")
            self.execute(f"DROP TABLE {staging}")
        elif exists:
            self.execute_query_raw(f"INSERT INTO {target}\n{query}\n")
        else:
            self.execute_query_raw(f"CREATE TABLE {target} AS\n{query}\n")
