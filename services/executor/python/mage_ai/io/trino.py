"""Trino: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Trino(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "trino"
