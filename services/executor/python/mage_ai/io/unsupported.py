"""Data sources that projects may import but that this runner does not reach."""
from __future__ import annotations

from typing import Any


class UnsupportedSource:
    """Importable, so that a project loads; using it says what to do instead."""

    source = ""
    package = ""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise NotImplementedError(self._advice())

    @classmethod
    def with_config(cls, *_args: Any, **_options: Any) -> Any:
        """Refused."""
        raise NotImplementedError(cls._advice())

    @classmethod
    def _advice(cls) -> str:
        return (f"{cls.__module__}.{cls.__name__} is not supported here; add the package {cls.package} to the project's "
                f"requirements.txt and use it directly. Supported: FileIO, Postgres, DuckDB, S3")
