"""GoogleSheets: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class GoogleSheets(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "gspread"
