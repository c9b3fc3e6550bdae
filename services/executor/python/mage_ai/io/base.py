"""What readers and writers of data share."""
from __future__ import annotations

import contextlib
import enum
import os
import re
from typing import Any, Iterator, Optional, Union

QUERY_ROW_LIMIT = 10_000_000


class _Text(str, enum.Enum):
    def __str__(self) -> str:
        return str(self.value)


DataSource = _Text("DataSource", {**{name.upper(): name for name in (  # type: ignore[call-overload]
    "airtable algolia api bigquery chroma clickhouse druid duckdb file google_cloud_storage google_sheets kafka mysql "
    "opensearch pinot postgres qdrant redshift s3 snowflake spark trino weaviate").split()}, "MSSQL": "sqlserver"})
DataSource.__doc__ = "Where data may come from."

FileFormat = _Text("FileFormat", {name.upper(): name for name in (  # type: ignore[call-overload]
    "csv json parquet hdf5 xml excel xlsx orc feather").split()})
FileFormat.__doc__ = "Formats of files."


class ExportWritePolicy(_Text):
    """What happens to a table that exists already."""

    APPEND = "append"
    FAIL = "fail"
    REPLACE = "replace"


_EXTENSIONS = {"csv": "csv", "tsv": "csv", "txt": "csv", "json": "json", "jsonl": "json", "parquet": "parquet",
               "pq": "parquet", "hdf5": "hdf5", "hdf": "hdf5", "h5": "hdf5", "xlsx": "xlsx", "xls": "xlsx",
               "excel": "xlsx", "xml": "xml", "orc": "orc", "feather": "feather"}
_COMPRESSION = (".gz", ".bz2", ".zip", ".xz", ".zst")


# What pandas calls otherwise than the registry of packages.
_PACKAGES = {"pytables": "tables"}


@contextlib.contextmanager
def _naming_packages(chosen: str) -> Iterator[None]:
    """Most formats take a package beside pandas, which not every environment has."""
    try:
        yield
    except ImportError as error:
        named = error.name or next(iter(re.findall(r"'([A-Za-z][\w.-]*)'", str(error))), None)
        if named is None:
            raise
        package = named.partition(".")[0]
        package = _PACKAGES.get(package, package)
        raise ImportError(f"files of the format {chosen} need the package {package}; add it to the project's "
                          f"requirements.txt ({error})") from None


class BaseIO:
    """Something data is loaded from and exported to."""

    def __init__(self, verbose: bool = False, **_options: Any) -> None:
        self.verbose = verbose

    def load(self, *args: Any, **kwargs: Any) -> Any:
        """Reads a frame."""
        raise NotImplementedError

    def export(self, df: Any, *args: Any, **kwargs: Any) -> None:
        """Writes a frame."""
        raise NotImplementedError


class BaseFile(BaseIO):
    """Files of one of the known formats."""

    @staticmethod
    def _format(filepath: Union[str, "os.PathLike[str]"], given: Optional[Union[FileFormat, str]]) -> str:
        if given is not None:
            known = _EXTENSIONS.get(str(given).lower().lstrip("."), None)
            if known is None:
                raise ValueError(f"{given} is no known file format; choose one of {', '.join(map(str, FileFormat))}")
            return known
        name = str(filepath).split("?")[0].split("#")[0].lower()
        for ending in _COMPRESSION:
            name = name[: -len(ending)] if name.endswith(ending) else name
        extension = name.rpartition(".")[2]
        if extension not in _EXTENSIONS:
            raise ValueError(f"the format of {filepath} cannot be told from its name; pass format=")
        return _EXTENSIONS[extension]

    @staticmethod
    def _read(source: Any, chosen: str, limit: Optional[int] = None, **options: Any) -> Any:
        import pandas

        readers = {"csv": pandas.read_csv, "json": pandas.read_json, "parquet": pandas.read_parquet,
                   "hdf5": pandas.read_hdf, "xlsx": pandas.read_excel, "xml": pandas.read_xml, "orc": pandas.read_orc,
                   "feather": pandas.read_feather}
        with _naming_packages(chosen):
            frame = readers[chosen](source, **options)
        return frame if limit is None or not hasattr(frame, "iloc") else frame.iloc[:limit]

    @staticmethod
    def _write(frame: Any, target: Any, chosen: str, **options: Any) -> None:
        if chosen == "hdf5":
            options.setdefault("key", os.path.splitext(os.path.basename(str(target)))[0])
        if type(frame).__module__.split(".")[0] == "polars":
            frame = frame.to_pandas()
            if chosen in ("csv", "xlsx"):
                options.setdefault("index", False)
            if chosen == "json":
                options.setdefault("orient", "records")
        elif chosen == "parquet" and "coerce_timestamps" not in options and options.get("engine", "pyarrow") != "fastparquet":
            # As in Mage: not everybody who reads such files takes times in nanoseconds.
            options.update(coerce_timestamps="ms", allow_truncated_timestamps=True)
        writers = {"csv": "to_csv", "json": "to_json", "parquet": "to_parquet", "hdf5": "to_hdf", "xlsx": "to_excel",
                   "xml": "to_xml", "orc": "to_orc", "feather": "to_feather"}
        with _naming_packages(chosen):
            getattr(frame, writers[chosen])(target, **options)


class BaseSQLConnection(BaseIO):
    """A database connection as a context manager."""

    def open(self) -> None:
        """Connects."""
        raise NotImplementedError

    def close(self) -> None:
        """Disconnects."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        self.open()
        return self

    def __exit__(self, *_args: Any) -> None:
        self.close()


BaseSQLDatabase = BaseSQLConnection
