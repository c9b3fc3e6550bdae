"""Spark: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Spark(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "pyspark"
