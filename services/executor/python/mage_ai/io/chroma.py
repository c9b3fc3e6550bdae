"""Chroma: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Chroma(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "chromadb"
