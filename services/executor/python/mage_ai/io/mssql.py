"""MSSQL: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class MSSQL(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "pyodbc"
