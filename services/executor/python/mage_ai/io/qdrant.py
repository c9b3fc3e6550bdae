"""Qdrant: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Qdrant(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "qdrant-client"
