"""MySQL: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class MySQL(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "mysql-connector-python"
