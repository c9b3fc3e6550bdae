"""Pinot: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Pinot(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "pinotdb"
