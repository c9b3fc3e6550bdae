"""B2: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class B2(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "b2sdk"
