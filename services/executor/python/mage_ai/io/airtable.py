"""Airtable: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Airtable(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "pyairtable"
