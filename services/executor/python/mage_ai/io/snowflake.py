"""Snowflake: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Snowflake(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "snowflake-connector-python"
