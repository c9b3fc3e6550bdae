"""Backblaze B2: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class BackblazeB2(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "b2sdk"
