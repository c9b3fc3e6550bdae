"""Redshift: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class Redshift(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "redshift-connector"
