"""Weaviate: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Weaviate(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "weaviate-client"
