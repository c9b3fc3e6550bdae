"""Druid: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Druid(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "pydruid"
