"""OracleDB: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class OracleDB(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "oracledb"
