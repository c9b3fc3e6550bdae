"""Algolia: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Algolia(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "algoliasearch"
