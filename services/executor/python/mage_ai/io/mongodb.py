"""MongoDB: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class MongoDB(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "pymongo"
